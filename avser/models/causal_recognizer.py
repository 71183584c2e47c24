"""The reference model in its causal form: an answer at any moment from the past alone, with a state that is bounded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from avser.features.running import Memory
from avser.models.recognizer import Recognizer
from avser.structures import Batch, Output

Steps = tuple[Tensor, Tensor, Tensor]  # sequence (B, T, D), mask (B, T), times (B, T)


class CausalRecognizer(Recognizer):
    """A `Recognizer` that can be fed in chunks, and answers for a recording as for its chunks.

    Its branches see the past alone. Attention and fusion see the last `window_s` seconds: in `Output.attended`, steps
    before them are not real. To the fusion, time begins with that window.

    Args:
        window_s: seconds up to the newest step of either modality.
    """

    def __init__(self, *args: Any, window_s: float, **options: Any) -> None:
        super().__init__(*args, **options)
        self.window_s = window_s

    def forward(self, batch: Batch) -> Output:
        """
        Raises:
            ValueError: the batch has none of the model's modalities.
        """
        steps = {name: branch(batch) for name, branch in self._readers(batch)}
        if not steps:
            raise ValueError(f"this model needs {' or '.join(self.branches)}; the batch has neither")
        return self._answer(steps, self._window_start(steps))

    def extend(self, batch: Batch, memory: Memory) -> Output | None:
        """The answer now that a chunk has come in; None where no step of the last `window_s` seconds is real.

        Args:
            batch: of one clip: the samples and frames that follow those that `memory` knows. Either may be missing.
            memory: goes from call to call; empty at the beginning. It does not grow with the recording.

        Returns:
            what `forward` gives for all that came in so far, without the steps before the window.
        """
        windows = memory.of("windows")
        for name, branch in self._readers(batch):
            steps: Steps = branch(batch, memory.of(name))
            windows[name] = _join(windows[name], steps) if name in windows else steps
        begun = {name: steps for name, steps in windows.items() if steps[2].shape[1]}
        if not begun:
            return None
        start = self._window_start(begun)
        for name, (sequence, mask, times) in begun.items():
            kept = (times > start[:, None]).any(dim=0)
            windows[name] = (sequence[:, kept], mask[:, kept], times[:, kept])
        there = {name: steps for name, steps in windows.items() if steps[2].shape[1]}
        if not any(mask.any() for _, mask, _ in there.values()):
            return None
        return self._answer(there, start)

    def _readers(self, batch: Batch) -> list[tuple[str, nn.Module]]:
        return [(name, branch) for name, branch in self.branches.items() if branch.can_read(batch)]  # type: ignore

    def _window_start(self, steps: Mapping[str, Steps]) -> Tensor:
        """(B,) seconds at which the window of each clip begins."""
        return torch.stack([times.amax(dim=1) for _, _, times in steps.values()]).amax(dim=0) - self.window_s

    def _answer(self, steps: Mapping[str, Steps], start: Tensor) -> Output:
        attended = {
            name: self.attentions[name](sequence, mask & (times > start[:, None]), times)
            for name, (sequence, mask, times) in steps.items()
        }
        if self.fusion is None:
            return self.conclude(attended)
        # The fusion knows no times beyond those that it was trained on.
        zero = start.clamp(min=0)[:, None]
        shifted = {name: replace(part, times=part.times - zero) for name, part in attended.items()}
        return replace(self.conclude(shifted), attended=attended)


def _join(before: Steps, after: Steps) -> Steps:
    (a, b, c), (x, y, z) = before, after
    return torch.cat([a, x], dim=1), torch.cat([b, y], dim=1), torch.cat([c, z], dim=1)
