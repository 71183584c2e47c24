"""One door to every salience: what is read off, what is computed, and what is refused."""

import numpy as np
import pytest

from avser.errors import ConfigError
from avser.roi.salience.curves import attention_curve, contribution_curve
from avser.roi.salience.sources import AUTO, SOURCES, find_salience


@pytest.fixture(scope="module")
def asked(tiny_ablation, tiny_corpus):
    from avser.data.cache import ClipCache
    from avser.inference import collate_clips, load_model

    model = load_model(tiny_ablation / "fused", "cpu")
    cache = ClipCache(tiny_corpus / "cache")
    return model.network, collate_clips(model, [cache.load("s01_fear_01"), cache.load("s02_anger_01")])


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("modality", ["audio", "video"])
def test_every_source_gives_a_curve_for_each_clip(asked, source, modality):
    model, batch = asked
    options = {"rise": {"num_masks": 8}, "integrated_gradients": {"num_steps": 4}}.get(source, {})
    curves = find_salience(model, batch, modality, [0, 1], source, **options)
    assert len(curves) == 2
    for curve in curves:
        assert len(curve) > 2
        assert np.isfinite(curve.values).all()
        assert (np.diff(curve.times) > 0).all()
        if not SOURCES[source].is_signed:
            assert (curve.values >= 0).all()
    assert not np.allclose(curves[0].values[:3], curves[1].values[:3])


def test_read_off_sources_are_those_of_the_output(asked):
    model, batch = asked
    part = model(batch).attended["audio"]
    for source, read in (("attention", attention_curve), ("att_value", contribution_curve)):
        (_, found) = find_salience(model, batch, "audio", [0, 2], source)
        np.testing.assert_allclose(found.values, read(part, 1, 2).values, rtol=1e-5)
    auto = find_salience(model, batch, "audio", [0, 2], AUTO)
    np.testing.assert_allclose(auto[0].values, attention_curve(part, 0).values, rtol=1e-5)


def test_wrong_requests_are_refused(asked):
    model, batch = asked
    with pytest.raises(ConfigError, match="take one of attention, att_value, auto"):
        find_salience(model, batch, "audio", [0, 1], "guess")
    with pytest.raises(ValueError, match="1 emotions for 2 clips"):
        find_salience(model, batch, "audio", [0])
