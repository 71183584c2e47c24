"""Area attention against brute force over all rectangles, and segments that find back to their clips."""

import itertools

import numpy as np
import pytest
import torch

from avser.models.area_attention import area_shares, box_averages, drop_some, keyed_scores
from avser.models.systems.macnn_area import VALUES, MacnnArea
from avser.training.losses import TrainingLoss


def brute_force(cells, max_height, max_width, key="mean", value="sum", hidden=()):
    """(H, W, D) -> (H * W, H, W, D): how much of each cell a query gets, by a list of areas without a hidden column."""
    height, width, dim = cells.shape
    keys, parts = [], []
    for h, w in itertools.product(range(1, max_height + 1), range(1, max_width + 1)):
        for top, left in itertools.product(range(height - h + 1), range(width - w + 1)):
            if set(range(left, left + w)) & set(hidden):
                continue
            place = slice(top, top + h), slice(left, left + w)
            area = cells[place].reshape(-1, dim)
            keys.append(area.amax(dim=0) if key == "max" else area.mean(dim=0))
            part = torch.zeros_like(cells)
            part[place] = 1.0 if value == "sum" else 1 / (h * w)
            if value == "max":
                largest = (cells[place] == area.amax(dim=0)).float()
                part[place] = largest / largest.sum(dim=(0, 1))
            parts.append(part)
    weights = torch.softmax(cells.flatten(0, 1) @ torch.stack(keys).T, dim=1)
    return torch.einsum("qa,ahwd->qhwd", weights, torch.stack(parts))


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def small(**options):
    torch.manual_seed(0)
    settings = {"num_mels": 16, "channels": (4, 4, 4, 6), "branch_channels": 2, "attention_dropout": 0.0, **options}
    return MacnnArea(3, **settings).eval()


def test_a_map_of_64_x_20_holds_10773_areas():
    assert sum(areas.scores[..., 0].numel() for areas in box_averages(torch.zeros(64, 20, 1), 3, 3)) == 10_773
    cells, mask = torch.zeros(1, 1, 64, 20, 1), torch.ones(1, 20, dtype=torch.bool)
    of_all_sizes = keyed_scores(cells, cells.flatten(2, 3)[:, :, :1], mask, 3, 3, key="max")
    assert sum(areas.scores.numel() for areas in of_all_sizes) == 10_773


@pytest.mark.parametrize("value", ["sum", "mean"])
@pytest.mark.parametrize(("max_height", "max_width"), [(1, 1), (3, 3), (2, 4), (1, 3)])
def test_shares_agree_with_attention_over_all_rectangles(max_height, max_width, value):
    cells = noise(4, 5, 3)
    scores = torch.einsum("hwd,qd->hwq", cells, cells.flatten(0, 1))
    shares = area_shares(box_averages(scores, max_height, max_width), cells, value=value)
    expected = brute_force(cells, max_height, max_width, value=value)[..., 0]
    torch.testing.assert_close(shares, expected.permute(1, 2, 0))


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("key", ["mean", "max"])
@pytest.mark.parametrize("mode", ["2d", "released"])
def test_the_segments_logits_are_a_dense_layer_on_the_attended_map(mode, key, value):
    """Cell by cell: what it sends to every query, times the layer's weights for that query."""
    model = small(mode=mode, key=key, value=value)
    cells = noise(2, 8, 20, 6, seed=1)
    cells[0].clamp_(min=0)  # a rectifier's map has cells that are equal, and many of them
    mask = torch.ones(2, 20, dtype=torch.bool)
    mask[1, 17:] = False  # the second clip has ended: nothing attends there, and it is not asked either
    with torch.no_grad():
        gathered, evidence = model.attend(cells, mask)
    dense = model.head.weight.view(3, 8, 20, 6)
    for i, hidden in enumerate([(), (17, 18, 19)]):
        if mode == "2d":
            shares = brute_force(cells[i], 3, 3, key, value, hidden).view(8, 20, 8, 20, 6)
        else:
            shares = torch.zeros(8, 20, 8, 20, 6)
            for row in range(8):
                shares[row, :, row] = brute_force(cells[i, [row]], 1, 3, key, value, hidden)[:, 0]
        shares = shares * mask[i][None, :, None, None, None]
        expected = torch.einsum("yxhwd,hwd,cyxd->wc", shares, cells[i], dense)
        torch.testing.assert_close(evidence[i], expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(gathered[i], shares.sum(dim=(0, 1)).mean(dim=-1), atol=1e-4, rtol=1e-4)
    assert not gathered[1, :, 17:].any()
    assert not evidence[1, 17:].any()


def test_a_sampled_key_spreads_around_the_mean_as_the_areas_cells_do():
    map_, query = noise(2, 3, 4, seed=3), noise(4, seed=4)
    cells = map_.expand(20_000, 1, -1, -1, -1)
    mask = torch.ones(len(cells), 3, dtype=torch.bool)
    torch.manual_seed(0)
    first, *_, largest = keyed_scores(cells, query.expand(len(cells), 1, 1, -1), mask, 2, 3, key="sample")
    assert (largest.height, largest.width) == (2, 3)
    # The first cell alone hardly spreads: what is left is the score of the whole map against that cell's.
    difference = (largest.scores[:, 0, 0, 0, 0] - first.scores[:, 0, 0, 0, 0]).double()
    area = map_.flatten(0, 1)
    assert difference.mean().item() == pytest.approx((query @ (area.mean(dim=0) - map_[0, 0])).item(), abs=0.03)
    spread = (query.square() * area.var(dim=0, correction=0)).sum().sqrt().item()
    assert difference.std().item() == pytest.approx(spread, rel=0.03)


def test_keys_are_sampled_in_training_alone(make_batch):
    batch = make_batch(num_samples=(20_000, 9000))
    sampled, plain = small(key="sample"), small()
    with torch.no_grad():
        assert torch.equal(sampled(batch).logits, plain(batch).logits)
        sampled.train()
        assert not torch.equal(sampled(batch).extra["segment_logits"], sampled(batch).extra["segment_logits"])


def test_an_area_that_is_dropped_leaves_the_expected_sum():
    values = torch.ones(100_003)
    dropped = drop_some(values, 0.5)
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    assert dropped.mean().item() == pytest.approx(1, abs=0.02)
    assert drop_some(values, 0.25).mean().item() == pytest.approx(1, abs=0.02)


def test_dropout_is_for_training_alone(make_batch):
    model, batch = small(attention_dropout=0.5), make_batch(num_samples=(20_000, 9000))
    with torch.no_grad():
        torch.testing.assert_close(model(batch).logits, model(batch).logits, rtol=0, atol=0)
        model.train()
        assert not torch.allclose(model(batch).extra["segment_logits"], model(batch).extra["segment_logits"])


@pytest.mark.parametrize("options", [{}, {"key": "max", "value": "max"}])
def test_chunks_and_recomputation_change_nothing(make_batch, options):
    batch, results = make_batch(num_samples=(60_000, 40_000)), []
    for chunk in (1, 100):
        model = small(chunk=chunk, **options).train()
        loss = model.training_loss(model(batch), batch, TrainingLoss())
        loss.backward()
        results.append((loss, model.cnn.wide[1].weight.grad))
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-6)


def test_segments_overlap_by_half_in_training_and_by_four_fifths_otherwise(make_batch):
    model, batch = small(), make_batch(num_samples=(64_000, 5000))
    cut = model.cut(batch.waveform, batch.waveform_mask)
    assert (cut.start * model.step_s).tolist() == pytest.approx([0, 0.4, 0.8, 1.2, 1.6, 2.0, 0])
    # Segments hold the samples of their time, as whole steps.
    torch.testing.assert_close(cut.values[1].T.flatten(), batch.waveform[0, 6400:38_400])
    cut = model.train().cut(batch.waveform, batch.waveform_mask)
    assert (cut.start * model.step_s).tolist() == pytest.approx([0, 1, 2, 0])


def test_pictures_are_the_authors(make_batch):
    librosa = pytest.importorskip("librosa")
    model, batch = MacnnArea(4).eval(), make_batch(num_samples=(32_000,), num_frames=(1,))
    ours = model.pictures(model.cut(batch.waveform, batch.waveform_mask), 1)[0, 0].numpy()
    theirs = librosa.feature.melspectrogram(
        y=batch.waveform[0].numpy(), sr=16000, n_fft=800, hop_length=400, pad_mode="constant"
    )
    assert ours.shape == theirs.shape == (128, 81)
    np.testing.assert_allclose(ours, np.log10(theirs + 1e-10), atol=1e-3)


def test_the_convolutions_halves_are_stacked_along_frequency_to_a_map_of_64_x_20():
    model = MacnnArea(4)
    with torch.no_grad():
        assert model.cnn(torch.zeros(1, 1, 128, 81)).shape == (1, 80, 64, 20)
    assert model.cnn.tall[1].weight.shape == (16, 1, 10, 2)
    assert model.cnn.wide[1].weight.shape == (16, 1, 2, 8)
    assert model.head.in_features == 102_400


def test_the_verdict_is_the_mean_of_the_segments_probabilities_and_each_has_the_clips_label(make_batch):
    model, batch = small(), make_batch(num_samples=(64_000, 5000))
    with torch.no_grad():
        output = model(batch)
    logits = output.extra["segment_logits"]
    torch.testing.assert_close(output.logits.exp(), torch.stack([logits[:6].softmax(1).mean(0), logits[6].softmax(0)]))
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor([0] * 6 + [1]))
    torch.testing.assert_close(model.training_loss(output, batch, TrainingLoss()), expected)


@pytest.mark.parametrize("options", [{}, {"mode": "released"}, {"key": "max", "value": "max"}])
def test_what_the_steps_say_adds_up_over_overlapping_segments(make_batch, options):
    model, batch = small(**options), make_batch(num_samples=(61_234, 5000, 0), num_frames=(1, 1, 1))
    with torch.no_grad():
        output = model(batch)
    part, logits = output.attended["audio"], output.extra["segment_logits"]
    assert part.mask.sum(dim=1).tolist() == [38, 3, 0]
    torch.testing.assert_close(part.weights.sum(dim=1), torch.tensor([1.0, 1.0, 0.0]))
    torch.testing.assert_close(part.map.sum(dim=1), part.weights)
    told = (part.weights[..., None] * part.step_logits).sum(dim=1)
    torch.testing.assert_close(told[0], logits[:-2].mean(dim=0))
    torch.testing.assert_close(told[1], logits[-2])


def test_attention_lies_where_the_map_is_loud():
    """A map that is loud in one stretch: its cells have the highest products with themselves."""
    model = small()
    cells = 0.1 * noise(1, 8, 20, 6).abs()
    cells[0, :, 8:11] += 2.0
    with torch.no_grad():
        gathered, _ = model.attend(cells, torch.ones(1, 20, dtype=torch.bool))
    by_column = gathered[0].sum(dim=0)
    assert by_column.argmax() == 9
    others = torch.cat([by_column[:8], by_column[11:]])
    assert by_column[8:11].min() > 2 * others.max()


def test_other_vocal_tracts_are_heard_in_training_alone(make_batch):
    model, batch = small(vtlp_replicas=7), make_batch(num_samples=(32_000, 32_000))
    assert model.stage_clips([0, 1, 1], 0, 0) == [0, 1, 2] * 8
    assert small().stage_clips([0, 1, 1], 0, 0) is None
    segments = model.cut(batch.waveform, batch.waveform_mask)
    plain = model.pictures(segments, 2)
    model.train()
    torch.manual_seed(0)
    pictures = [model.pictures(segments, 2) for _ in range(20)]
    changed = torch.stack([(p - plain).abs().amax(dim=(1, 2, 3)) > 1e-3 for p in pictures]).float().mean()
    assert 0.6 < changed < 1  # 7 of 8 are warped


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mode": "1d"}, "mode='1d'; take one of 2d, released"),
        ({"key": "sum"}, "key='sum'; take one of mean, max, sample"),
        ({"value": "sample"}, "value='sample'; take one of sum, mean, max"),
        ({"max_width": 40}, "areas of 3 x 40"),
        ({"num_mels": 42}, "multiple of 4"),
    ],
)
def test_what_it_cannot_do_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        small(**options)
