"""What goes from chunk to chunk: columns before, and statistics of the last so many."""

import pytest
import torch

from avser.features.running import MIN_VARIANCE, Memory, running_standardize, with_past


def test_the_columns_before_come_first_and_are_kept() -> None:
    x, memory = torch.arange(10.0)[None], Memory()
    pieces = [with_past(part, 3, memory, "x", first=-1.0) for part in (x[:, :1], x[:, 1:1], x[:, 1:6], x[:, 6:])]
    assert pieces[0].tolist() == [[-1, -1, -1, 0]]
    assert pieces[2].tolist() == [[-1, -1, 0, 1, 2, 3, 4, 5]]
    assert pieces[3].tolist() == [[3, 4, 5, 6, 7, 8, 9]]
    assert memory["x"].shape == (1, 3)


@pytest.mark.parametrize("each_band", [False, True])
def test_statistics_are_those_of_the_last_columns(each_band: bool) -> None:
    planes = torch.randn(2, 3, 5, 40, generator=torch.Generator().manual_seed(0)) * 3 + 2
    out = running_standardize(planes, 12, Memory(), each_band=each_band)
    for t in (0, 3, 11, 12, 39):
        past = planes[..., max(t - 11, 0) : t + 1]
        over = (3,) if each_band else (2, 3)
        mean, variance = past.mean(dim=over, keepdim=True), past.var(dim=over, keepdim=True, unbiased=False)
        expected = (planes[..., t : t + 1] - mean) / (variance + MIN_VARIANCE).sqrt()
        torch.testing.assert_close(out[..., t : t + 1], expected, atol=1e-4, rtol=1e-4)


def test_statistics_go_on_from_chunk_to_chunk_without_growing() -> None:
    planes, memory = torch.randn(1, 3, 4, 400), Memory()
    whole = running_standardize(planes, 50, Memory())
    pieces = [running_standardize(part, 50, memory) for part in planes.split(7, dim=3)]
    torch.testing.assert_close(torch.cat(pieces, dim=3), whole, atol=1e-5, rtol=1e-5)
    assert memory["sums"].shape[-1] == 50


def test_hours_of_the_same_level_stay_exact() -> None:
    """The statistics are differences of sums; the sums must not run away with the length of the stream."""
    memory, planes = Memory(), 13.8 + torch.randn(1, 1, 4, 100)
    for _ in range(2000):
        out = running_standardize(planes, 100, memory)
    torch.testing.assert_close(out.std(unbiased=False), torch.tensor(1.0), atol=0.06, rtol=0)


def test_rounding_errors_of_silence_stay_small() -> None:
    silence = torch.full((1, 1, 8, 50), -13.8)
    out = running_standardize(silence + 1e-6 * torch.randn(1, 1, 8, 50), 1000, Memory())
    assert out.abs().max() < 1e-2
