"""Log-mel planes of a voice that is still speaking: every column rests on samples up to its own time alone."""

from __future__ import annotations

import torch
from torch import Tensor

from avser.features.running import Memory, running_standardize, with_past
from avser.features.spectral import LogMel


class CausalLogMel(LogMel):
    """`LogMel` whose frames end at their time: frame t holds the last `window_s` before (t + 1) * hop_s seconds.

    Before the beginning there is silence; samples that do not fill a hop wait for more. The differences are those of
    the HTK book two frames late (their middle is at t - 2), so that they need no future; both the delay and the
    statistics below are our choice.

    Args:
        normalize: "clip" or "band" here mean the last `running_s` seconds instead of the clip; "none" as it is.
        running_s: seconds, see `running_standardize`.
        options: of `LogMel`.

    Raises:
        ValueError: frames that leave samples out (window_s < hop_s), or a name that `LogMel` does not know.
    """

    def __init__(self, *, normalize: str = "clip", running_s: float = 10.0, **options: object) -> None:
        super().__init__(normalize=normalize, centered=False, **options)  # type: ignore[arg-type]
        if self.window_length < self.hop_length:
            raise ValueError(
                f"window_s={self.window_length} samples is shorter than hop_s={self.hop_length}; causal frames would "
                "leave samples out: take window_s >= hop_s"
            )
        self.num_running = max(round(running_s / self.hop_s), 1)

    def forward(self, waveform: Tensor, mask: Tensor, memory: Memory | None = None) -> tuple[Tensor, Tensor]:
        """
        Args:
            waveform: (B, N) samples that follow those that `memory` knows.
            mask: (B, N) True where real; each clip's real samples come first.

        Returns:
            planes: (B, K, F, T) float32, the frames that are complete now; zero where padded.
            frame_mask: (B, T) bool.
        """
        memory = Memory() if memory is None else memory
        waveform = (waveform * mask).float()
        if (rest := memory.get("rest")) is not None:
            waveform = torch.cat([rest, waveform], dim=1)
        num_rest = 0 if rest is None else rest.shape[1]
        num_frames = waveform.shape[1] // self.hop_length
        memory["rest"] = waveform[:, num_frames * self.hop_length :]
        counted = (num_rest + mask.sum(dim=1)) // self.hop_length
        frame_mask = torch.arange(num_frames, device=mask.device) < counted[:, None]
        if not num_frames:
            return waveform.new_zeros(len(waveform), self.num_channels, self.num_mels, 0), frame_mask
        samples = waveform[:, : num_frames * self.hop_length]
        samples = with_past(samples, self.window_length - self.hop_length, memory, "samples")
        planes = self._planes(self.log_mel(samples, torch.ones_like(samples, dtype=torch.bool)), memory)
        if self.normalize != "none":
            planes = running_standardize(planes, self.num_running, memory, each_band=self.normalize == "band")
        return planes * frame_mask[:, None, None, :], frame_mask

    def _planes(self, log_mel: Tensor, memory: Memory) -> Tensor:
        """(B, F, T) -> (B, K, F, T)"""
        if self.num_channels == 1:
            return log_mel[:, None]
        if not self.deltas:
            return log_mel[:, None].repeat(1, 3, 1, 1)
        delta = past_delta(log_mel, memory, "static")
        return torch.stack([log_mel, delta, past_delta(delta, memory, "delta")], dim=1)


def past_delta(x: Tensor, memory: Memory, name: str) -> Tensor:
    """`regression_delta` two columns late: (B, F, T) -> (B, F, T); the first column is held before the beginning."""
    size = x.shape[-1]
    whole = with_past(x, 4, memory, name, first=x[..., :1])
    return 0.2 * (whole[..., 4:] - whole[..., :size]) + 0.1 * (whole[..., 3 : size + 3] - whole[..., 1 : size + 1])
