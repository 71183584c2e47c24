"""Log-mel planes of a voice that is still speaking: no column hears what comes after it."""

import pytest
import torch

from avser.features.causal_spectral import CausalLogMel, past_delta
from avser.features.running import Memory
from avser.features.spectral import LogMel, regression_delta


def voice(seconds: float, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(1, round(16000 * seconds), generator=torch.Generator().manual_seed(seed))


def real(waveform: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(waveform, dtype=torch.bool)


@pytest.mark.parametrize("options", [{}, {"normalize": "band"}, {"normalize": "none"}, {"deltas": False}], ids=str)
def test_pieces_of_any_size_give_what_the_whole_gives(options: dict) -> None:
    front, waveform = CausalLogMel(running_s=0.5, **options), voice(1.7)
    whole, frame_mask = front(waveform, real(waveform))
    assert whole.shape[3] == 170
    assert frame_mask.all()
    memory = Memory()
    sizes = [1, 159, 160, 161, 3000, 12345]
    parts = [front(part, real(part), memory)[0] for part in waveform.split([*sizes, 27200 - sum(sizes)], dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=3), whole, atol=1e-4, rtol=1e-4)


def test_a_frame_ends_at_its_time() -> None:
    front, waveform = CausalLogMel(), voice(1.0)
    changed = waveform.clone()
    changed[:, 8000:] += 1.0
    one, other = (front(x, real(x))[0] for x in (waveform, changed))
    torch.testing.assert_close(one[..., :50], other[..., :50])  # frame 49 ends at 0.5 s
    assert not torch.allclose(one[..., 50], other[..., 50])


def test_frames_are_those_of_any_log_mel_shifted_to_their_end() -> None:
    waveform = voice(0.5)
    late = CausalLogMel(normalize="none")(waveform, real(waveform))[0][:, 0]
    plain = LogMel(normalize="none", centered=False)
    begun = plain.log_mel(torch.nn.functional.pad(waveform, (240, 0)), real(torch.zeros(1, 8240)))
    torch.testing.assert_close(late, begun)


def test_differences_are_the_usual_ones_two_frames_late() -> None:
    x = torch.randn(1, 4, 30)
    torch.testing.assert_close(past_delta(x, Memory(), "x")[..., 4:], regression_delta(x)[..., 2:-2])


def test_padding_is_zero_and_changes_nothing() -> None:
    front, waveform = CausalLogMel(), voice(0.8)
    alone, _ = front(waveform, real(waveform))
    longer = torch.nn.functional.pad(waveform, (0, 5000))
    padded, mask = front(longer, torch.nn.functional.pad(real(waveform), (0, 5000)))
    assert mask.sum() == 80
    torch.testing.assert_close(padded[..., :80], alone)
    assert not padded[..., 80:].any()


def test_frames_that_would_leave_samples_out_are_refused() -> None:
    with pytest.raises(ValueError, match="window_s >= hop_s"):
        CausalLogMel(window_s=0.005, hop_s=0.010)
