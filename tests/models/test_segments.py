"""Cutting into segments loses nothing, and what the segments say finds its place again."""

import pytest
import torch

from avser.models.segments import cut_segments, first_steps, max_of_clips, mean_of_clips, mean_over_overlaps


def batch(lengths, total):
    mask = torch.arange(total) < torch.tensor(lengths)[:, None]
    return torch.arange(1.0, total + 1).repeat(len(lengths), 3, 1) * mask[:, None], mask


def test_the_last_segment_ends_with_the_clip():
    values, mask = batch([10, 3], 12)
    cut = cut_segments(values, mask, 4, 4)
    assert cut.owner.tolist() == [0, 0, 0, 1]
    assert cut.start.tolist() == [0, 4, 6, 0]
    assert cut.values[2, 0].tolist() == [7, 8, 9, 10]
    assert cut.values[3, 0].tolist() == [1, 2, 3, 0]
    assert cut.mask[3].tolist() == [True, True, True, False]


def test_without_sliding_the_rest_is_filled_with_zeros():
    values, mask = batch([10], 10)
    cut = cut_segments(values, mask, 4, 4, slide_back=False)
    assert cut.start.tolist() == [0, 4, 8]
    assert cut.values[2, 0].tolist() == [9, 10, 0, 0]


@pytest.mark.parametrize("hop", [1, 2, 4])
def test_overlaps_average_back_to_the_clip(hop):
    values, mask = batch([11, 4, 1], 16)
    cut = cut_segments(values, mask, 4, hop)
    again, real = mean_over_overlaps(cut.values.transpose(1, 2), cut.mask, cut.owner, cut.start, 3)
    torch.testing.assert_close(again, values[..., :11].transpose(1, 2))
    assert torch.equal(real, mask[:, :11])


def test_padding_adds_no_segment():
    values, mask = batch([9, 5], 9)
    further = torch.nn.functional.pad(values, (0, 20)), torch.nn.functional.pad(mask, (0, 20))
    one, other = cut_segments(values, mask, 4, 2), cut_segments(*further, 4, 2)
    assert torch.equal(one.values, other.values)
    assert torch.equal(one.start, other.start)


def test_verdicts_of_segments_become_the_clips():
    owner = torch.tensor([0, 0, 1])
    values = torch.tensor([[1.0, 5.0], [3.0, 1.0], [-2.0, -4.0]])
    assert mean_of_clips(values, owner, 2).tolist() == [[2, 3], [-2, -4]]
    assert max_of_clips(values, owner, 2).tolist() == [[3, 5], [-2, -4]]


def test_a_hop_that_leaves_gaps_is_refused():
    with pytest.raises(ValueError, match="hop"):
        cut_segments(*batch([8], 8), 3, 4)


def test_the_first_steps_of_longer_clips_than_a_graph_was_traced_with_are_cut_too():
    class First(torch.nn.Module):
        def forward(self, values):
            return first_steps(values, 7)

    any_length = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    program = torch.export.export(First(), (torch.randn(2, 5),), dynamic_shapes=(any_length,), strict=False)
    for num_steps in (3, 7, 12):
        values = torch.randn(3, num_steps)
        assert torch.equal(program.module()(values), values[:, :7])
    assert torch.equal(first_steps(values, None), values)
