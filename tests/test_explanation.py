"""A clip explained: whose curves they are, and that the model of both can be asked instead of one model each."""

import pytest

from avser.data.cache import ClipCache
from avser.errors import ConfigError
from avser.experiments.regions.study import choose_models
from avser.explanation import explain
from avser.inference import load_models
from avser.structures import AUDIO, FUSED, VIDEO


@pytest.fixture(scope="module")
def models(tiny_ablation):
    return load_models(tiny_ablation, "cpu")


@pytest.fixture(scope="module")
def clip(tiny_corpus):
    return ClipCache(tiny_corpus / "cache").load("s02_fear_01")


def test_a_view_says_whose_curves_it_shows(models, clip):
    view = explain(models, clip)
    assert view.salience_model == "voice model ablation/audio, seed 0; face model ablation/video, seed 0"
    assert list(view.by_model) == ["model of both ablation/fused, seed 0"]
    assert explain(models[VIDEO], clip).salience_model == "face model ablation/video, seed 0"


def test_curves_of_the_model_of_both_when_asked(models, clip):
    chosen = choose_models(models, "fused")
    assert chosen == {FUSED: models[FUSED]}
    view, usual = explain(chosen, clip), explain(models, clip)
    assert view.salience_model == "model of both ablation/fused, seed 0"
    assert view.by_model == {}
    for modality in (AUDIO, VIDEO):
        (of_both,) = usual.by_model.values()
        assert view.salience[modality].values == pytest.approx(of_both[modality].values)
        assert view.salience[modality].values != pytest.approx(usual.salience[modality].values)
    assert choose_models(models, "separate") == models
    with pytest.raises(ConfigError, match="no model of both, only of audio"):
        choose_models({AUDIO: models[AUDIO]}, "fused")
    with pytest.raises(ConfigError, match="take separate or fused"):
        choose_models(models, "both")


def test_disagreement_comes_whole(models, clip):
    found = explain(models, clip).disagreement
    assert found is not None
    assert len(found.divergence) > 10
    assert found.episodes == explain(models, clip).episodes
