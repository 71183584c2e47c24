"""A clip explained: whose curves they are, and that the model of both can be asked instead of one model each."""

import numpy as np
import pytest

from avser.data.cache import ClipCache
from avser.errors import ConfigError
from avser.experiments.regions.caveats import describe_source
from avser.experiments.regions.study import choose_models
from avser.explanation import add_preview, explain
from avser.inference import load_models
from avser.roi.report.view import ClipView
from avser.structures import AUDIO, FUSED, VIDEO, Clip, Prediction


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
    assert view.asked == {modality: own.emotion for modality, own in view.unimodal.items()}
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


def test_a_clip_is_explained_after_its_models_were_described(models, clip):
    """To describe them their timing is measured, in the very networks that are asked next."""
    described = describe_source(models)
    assert len(described) == 3
    assert explain(models, clip).decision.keys() == {AUDIO, VIDEO, FUSED}


def test_a_long_clip_is_asked_for_a_bounded_number_of_prefixes(models):
    """In batches that hold no more seconds than those of a clip of ten."""
    network, seen = models[AUDIO].network, []
    hook = network.register_forward_pre_hook(lambda _, given: seen.append(tuple(given[0].waveform.shape)))
    clip = Clip("long", 40.0, np.random.default_rng(0).normal(0, 0.1, 40 * 16000).astype(np.float32))
    try:
        view = explain({AUDIO: models[AUDIO]}, clip)
    finally:
        hook.remove()
    assert 0 < view.decision[AUDIO] <= 40
    assert len([rows for rows, samples in seen if samples < 39.5 * 16000]) < 40
    assert max(rows * samples / 16000 for rows, samples in seen) <= 320


def test_a_preview_falls_back_on_what_the_clip_holds(clip, tmp_path):
    broken = tmp_path / "a.mp4"
    broken.write_bytes(b"no recording")
    view = ClipView(clip.clip_id, clip.duration_s, Prediction(clip.clip_id, "fear", {"fear": 1.0}))
    add_preview(view, clip, broken)
    assert view.video is not None
    assert view.video_type == "video/mp4"
    assert any("cannot be played here" in warning for warning in view.warnings)
