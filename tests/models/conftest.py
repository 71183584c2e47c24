"""Small batches for the models' tests."""

from collections.abc import Callable

import pytest
import torch

from avser.structures import Batch


@pytest.fixture
def make_batch() -> Callable[..., Batch]:
    """A batch of noise with the given lengths; a length of 0 means that the clip lacks the modality."""

    def make(num_samples=(16000, 9000), num_frames=(12, 7), *, extra_samples=0, extra_frames=0, seed=0, size_px=32):
        generator = torch.Generator().manual_seed(seed)
        count = len(num_samples)
        n, t = max(num_samples) + extra_samples, max(num_frames) + extra_frames
        waveform, frames = torch.zeros(count, n), torch.zeros(count, t, 3, size_px, size_px, dtype=torch.uint8)
        for i in range(count):
            waveform[i, : num_samples[i]] = 0.1 * torch.randn(num_samples[i], generator=generator)
            frames[i, : num_frames[i]] = torch.randint(
                0, 256, (num_frames[i], 3, size_px, size_px), generator=generator, dtype=torch.uint8
            )
        return Batch(
            clip_ids=[f"clip{i}" for i in range(count)],
            waveform=waveform,
            waveform_mask=torch.arange(n) < torch.tensor(num_samples)[:, None],
            frames=frames,
            frame_times=(torch.arange(t) / 12.5).expand(count, t).contiguous(),
            frame_mask=torch.arange(t) < torch.tensor(num_frames)[:, None],
            labels=torch.arange(count) % 3,
        )

    return make
