"""Statistics of training clips: what NumPy says of the real frames, and nothing of padding."""

import numpy as np
import pytest
import torch

from avser.features.normalization import ClipStatistics, TrainStatistics, build_statistics, standardize_clip


def clips(*shape, num_frames, seed=0, mean=0.0):
    """(x (B, T, *shape), mask (B, T)) with garbage in the padding."""
    generator = torch.Generator().manual_seed(seed)
    x = mean + torch.randn(len(num_frames), max(num_frames), *shape, generator=generator)
    mask = torch.arange(max(num_frames)) < torch.tensor(num_frames)[:, None]
    x[~mask] = 1e6
    return x, mask


def test_before_it_is_fitted_it_only_zeroes_padding():
    x, mask = clips(5, num_frames=[7, 3])
    for mode in ("zscore", "minmax"):
        y = TrainStatistics(5, mode=mode)(x, mask)
        assert torch.equal(y[mask], x[mask])
        assert (y[~mask] == 0).all()


def test_the_statistics_are_those_of_all_real_frames():
    batches = [clips(4, num_frames=[9, 5, 2], mean=100.0), clips(4, num_frames=[30], seed=1, mean=-3.0)]
    rows = np.concatenate([x[mask].double().numpy() for x, mask in batches])
    statistics = TrainStatistics(4).fit(iter(batches))
    np.testing.assert_allclose(statistics.mean, rows.mean(0), rtol=1e-6)
    np.testing.assert_allclose(statistics.std, rows.std(0), rtol=1e-6)
    np.testing.assert_allclose(statistics.min, rows.min(0), rtol=1e-6)
    np.testing.assert_allclose(statistics.max, rows.max(0), rtol=1e-6)
    scaled = torch.cat([statistics(x, mask)[mask] for x, mask in batches])
    torch.testing.assert_close(scaled.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(scaled.std(0, correction=0), torch.ones(4), atol=1e-5, rtol=0)
    assert all((statistics(x, mask)[~mask] == 0).all() for x, mask in batches)


def test_a_large_mean_costs_no_digits():
    x, mask = clips(1, num_frames=[500])
    far = TrainStatistics(1).fit([(x + 30000, mask), (x[:, :200] + 30000, mask[:, :200])])
    rows = torch.cat([x[0], x[0, :200]]).add(30000).double()
    torch.testing.assert_close(far.std.double(), rows.std(0, correction=0), rtol=1e-6, atol=0)


def test_minmax_goes_from_0_to_1_and_beyond_for_other_clips():
    x, mask = clips(3, num_frames=[20, 10])
    statistics = TrainStatistics(3, mode="minmax").fit([(x, mask)])
    scaled = statistics(x, mask)[mask]
    torch.testing.assert_close(scaled.amin(0), torch.zeros(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(scaled.amax(0), torch.ones(3), atol=1e-6, rtol=0)
    assert statistics(x + 10, mask).max() > 1


@pytest.mark.parametrize("mode", ["zscore", "minmax"])
def test_a_constant_feature_becomes_zero(mode):
    x, mask = clips(2, num_frames=[20])
    x[..., 1] = 0.1
    scaled = TrainStatistics(2, mode=mode).fit([(x, mask), (x, mask)])(x, mask)
    assert torch.isfinite(scaled).all()
    assert scaled[..., 1].abs().max() < 1e-6


def test_planes_by_channel_and_by_bin():
    x, mask = clips(3, 8, num_frames=[12, 6])  # (B, T, K, F)
    planes = x.permute(0, 2, 3, 1)  # (B, K, F, T)
    rows = x[mask].double().numpy()  # (frames, K, F)
    channel = TrainStatistics(3, per="channel").fit([(planes, mask)])
    np.testing.assert_allclose(channel.mean, rows.mean((0, 2)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(channel.std, rows.std((0, 2)), rtol=1e-5)
    by_bin = TrainStatistics(8, per="bin").fit([(planes, mask)])
    np.testing.assert_allclose(by_bin.mean, rows.mean((0, 1)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(by_bin.max, rows.max((0, 1)), rtol=1e-6)
    real = mask[:, None, None, :].expand_as(planes)
    expected = (planes - by_bin.mean[:, None]) / by_bin.std[:, None]
    torch.testing.assert_close(by_bin(planes, mask)[real], expected[real])
    expected = (planes - channel.mean[:, None, None]) / channel.std[:, None, None]
    torch.testing.assert_close(channel(planes, mask)[real], expected[real])
    assert (channel(planes, mask)[~real] == 0).all()


def test_statistics_travel_with_the_weights():
    x, mask = clips(4, num_frames=[9], mean=7.0)
    fitted, fresh = TrainStatistics(4).fit([(x, mask)]), TrainStatistics(4)
    fresh.load_state_dict(fitted.state_dict())
    assert torch.equal(fresh(x, mask), fitted(x, mask))


def test_what_cannot_be_fitted_is_refused():
    x, mask = clips(4, num_frames=[9])
    with pytest.raises(ValueError, match="no real frame"):
        TrainStatistics(4).fit([(x, torch.zeros_like(mask))])
    with pytest.raises(ValueError, match="entries in axis 2"):
        TrainStatistics(5).fit([(x, mask)])
    with pytest.raises(ValueError, match="4 axes"):
        TrainStatistics(4, per="bin").fit([(x, mask)])
    x[0, 3, 2] = torch.nan
    with pytest.raises(ValueError, match=r"\[2\]"):
        TrainStatistics(4).fit([(x, mask)])
    for options in ({"mode": "robust"}, {"per": "clip"}):
        with pytest.raises(ValueError, match="take"):
            TrainStatistics(4, **options)


def test_a_clip_is_standardised_by_its_real_frames_alone():
    x, mask = clips(4, num_frames=[30, 11, 1, 0], mean=5.0)
    x[0, :, 3] = 0.1
    y = standardize_clip(x, mask)
    assert torch.isfinite(y).all()
    assert (y[~mask] == 0).all()
    for clip, num in ((0, 30), (1, 11)):
        rows = x[clip, :num].double()
        expected = ((rows - rows.mean(0)) / rows.std(0, correction=0)).float()
        expected[:, 3] = 0.0 if clip == 0 else expected[:, 3]
        torch.testing.assert_close(y[clip, :num], expected, atol=1e-4, rtol=0)
    assert (y[0, :, 3] == 0).all()
    assert (y[2, 0] == 0).all()
    torch.testing.assert_close(standardize_clip(x[1:2, :11], mask[1:2, :11]), y[1:2, :11])


def test_a_scale_is_chosen_by_its_name():
    x, mask = clips(3, num_frames=[9, 4, 1], mean=5.0)
    train, minmax, own = (build_statistics(name, 3) for name in ("train", "minmax_train", "utterance"))
    assert list(train.state_dict()) == ["mean", "std", "min", "max"]
    assert torch.equal(train.fit([(x, mask)])(x, mask), TrainStatistics(3).fit([(x, mask)])(x, mask))
    scaled = minmax.fit([(x, mask)])(x, mask)[mask]
    torch.testing.assert_close(scaled.aminmax(dim=0).max, torch.ones(3))
    assert torch.equal(own(x, mask), standardize_clip(x, mask))
    with pytest.raises(ValueError, match="normalize='speaker'; take one of train, minmax_train, utterance"):
        build_statistics("speaker", 3)


def test_clip_statistics_read_what_they_are_given_to_the_end():
    counted = []
    ClipStatistics().fit(counted.append(i) or clips(3, num_frames=[4]) for i in range(3))
    assert counted == [0, 1, 2]
