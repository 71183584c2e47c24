"""A six-layer CNN with efficient channel attention, and log-mels of eight resolutions (Kim & Kwon 2024).

B. Kim, Y. Kwon: "Searching for effective preprocessing method and CNN-based architecture with efficient channel
attention on speech emotion recognition", arXiv 2409.04007; Scientific Reports 15 (2025).

From the abstracts: eight settings of the log-mels' STFT, of which those finer in frequency, with longer windows, do
better; six convolutions; only two channel attentions, after deep layers; and an augmentation by which each training
clip is seen in all eight settings. From a summary by others: the windows are 15 to 50 ms. Remembered, not verified: how
ECA-Net (Wang et al. 2020) sizes a channel attention. Everything else is our choice: spacing of the windows, hop, size
of the picture, channels, poolings and the head.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from avser.features.spectral import LogMel, standardize
from avser.models.attention import AttentionPooling
from avser.models.system import Criterion, System
from avser.structures import Batch, Output

MULTI_STFT = ("none", "random", "all")


class EcaCnn6(System):
    """Log-mel picture of the whole clip -> six convolutions -> mean over frequency and time -> verdict.

    Every clip becomes a picture of one size, stretched or squeezed along time, so a step is `num_steps`-th of its clip
    and channel attention, which averages over the picture, never meets padding.

    Args:
        windows_s: of the eight settings; frames overlap by half.
        multi_stft: while training, "all": each clip in every setting at each step, as the authors do, at eight times
            the work; "random": in one drawn at each step, so that it is seen in all over the epochs; "none": in
            `test_window_s` alone, like clips that are not trained on.
        test_window_s: one of `windows_s`; the longest if None.
        num_mels, num_columns: of the picture.
        fft_length: samples; windows are filled up with zeros to here, so that every band has bins in every setting.
        channels: of the six convolutions, 3 x 3; each second one is followed by a pooling by two.
        attended_layers: those that a channel attention follows, counted from 1.

    Raises:
        ValueError: an augmentation that is not one of these, or a test window that is no setting.
    """

    has_own_loss = True

    def __init__(
        self,
        num_classes: int,
        sample_rate_hz: int = 16000,
        *,
        windows_s: Sequence[float] = (0.015, 0.020, 0.025, 0.030, 0.035, 0.040, 0.045, 0.050),
        multi_stft: str = "random",
        test_window_s: float | None = None,
        num_mels: int = 128,
        num_columns: int = 256,
        min_hz: float = 20.0,
        fft_length: int = 1024,
        channels: Sequence[int] = (32, 32, 64, 64, 128, 128),
        attended_layers: Sequence[int] = (5, 6),
    ) -> None:
        super().__init__()
        test_window_s = max(windows_s) if test_window_s is None else test_window_s
        if multi_stft not in MULTI_STFT or test_window_s not in windows_s:
            raise ValueError(
                f"multi_stft={multi_stft!r} must be one of {', '.join(MULTI_STFT)}, and "
                f"test_window_s={test_window_s} one of {', '.join(map(str, windows_s))}"
            )
        self.settings = nn.ModuleList(
            LogMel(
                sample_rate_hz=sample_rate_hz,
                num_mels=num_mels,
                window_s=window_s,
                hop_s=window_s / 2,
                min_hz=min_hz,
                max_hz=sample_rate_hz / 2,
                normalize="none",
                fft_length=fft_length,
                num_channels=1,
            )
            for window_s in windows_s
        )
        self.multi_stft, self.test_setting = multi_stft, list(windows_s).index(test_window_s)
        self.num_mels, self.num_columns = num_mels, num_columns
        self.network = six_convolutions(channels, attended_layers)
        self.columns_per_step = 2 ** (len(channels) // 2)
        self.readout = AttentionPooling(channels[-1], num_classes, kind="mean")

    def forward(self, batch: Batch) -> Output:
        """With `multi_stft="all"` a training step answers in the test setting, and keeps the others for the loss.

        Raises:
            ValueError: the batch has no voice.
        """
        if batch.waveform is None or batch.waveform_mask is None:
            raise ValueError("eca_cnn6 needs the voice; this batch has no waveform")
        waveform, mask = batch.waveform, batch.waveform_mask
        setting = torch.full((len(batch),), self.test_setting, device=waveform.device)
        extra = {}
        if self.training and self.multi_stft == "random":
            setting = torch.randint(len(self.settings), (len(batch),), device=waveform.device)
        elif self.training and self.multi_stft == "all":
            others = [i for i in range(len(self.settings)) if i != self.test_setting]
            owner = torch.arange(len(batch), device=waveform.device).repeat(1 + len(others))
            setting = torch.cat([setting, *[torch.full_like(setting, i) for i in others]])
            waveform, mask, extra = waveform[owner], mask[owner], {"owner": owner}
        pictures, times = self.pictures(waveform, mask, setting)
        features = self.network(pictures)  # (B', D, F', T')
        sequence = features.mean(dim=2).transpose(1, 2)
        step_times = nn.functional.avg_pool1d(times[:, None], self.columns_per_step)[:, 0]
        present = mask.any(dim=1, keepdim=True).expand(step_times.shape)
        num_clips = len(batch)
        if extra:
            extra["all_logits"] = self.readout(sequence, present, step_times).logits
        attended = self.readout(sequence[:num_clips], present[:num_clips], step_times[:num_clips])
        return Output(attended.logits, {"audio": attended}, extra)

    def training_loss(self, output: Output, batch: Batch, criterion: Criterion) -> Tensor:
        """The loss of every picture of a clip, if it was seen in more than one setting."""
        if "all_logits" not in output.extra:
            return criterion(output, batch)
        return criterion.cross_entropy(output.extra["all_logits"], batch, output.extra["owner"])

    def pictures(self, waveform: Tensor, mask: Tensor, setting: Tensor) -> tuple[Tensor, Tensor]:
        """
        Args:
            waveform, mask: (B, N).
            setting: (B,) which window each clip is seen with.

        Returns:
            (B, 1, num_mels, num_columns) log-mels with mean 0 and variance 1, and the columns' times (B, num_columns).
        """
        pictures = waveform.new_zeros(len(waveform), 1, self.num_mels, self.num_columns)
        times = waveform.new_zeros(len(waveform), self.num_columns)
        for i in setting.unique().tolist():
            clips = (setting == i).nonzero().squeeze(1)
            log_mel = self.settings[i]
            planes, frame_mask = log_mel(waveform[clips], mask[clips])
            resized, place = resize_time(planes, frame_mask, self.num_columns)
            everything = torch.ones_like(place, dtype=torch.bool)
            pictures[clips] = standardize(resized, everything)
            times[clips] = place * log_mel.hop_s
        return pictures, times


class ChannelAttention(nn.Module):
    """Efficient channel attention: a gate for each channel, from the means of it and its neighbours (Wang et al. 2020).

    The convolution over channels has |log2(C) / gamma + b / gamma| weights, cut to an integer and up to an odd one.
    """

    def __init__(self, num_channels: int, *, gamma: float = 2.0, b: float = 1.0) -> None:
        super().__init__()
        size = int(abs((math.log2(num_channels) + b) / gamma))
        self.size = size if size % 2 else size + 1
        self.over_channels = nn.Conv1d(1, 1, self.size, padding=self.size // 2, bias=False)

    def forward(self, planes: Tensor) -> Tensor:
        """(B, C, F, T) -> the same shape, each channel times its gate."""
        means = planes.mean(dim=(2, 3))  # (B, C)
        gate = torch.sigmoid(self.over_channels(means[:, None])[:, 0])
        return planes * gate[:, :, None, None]


def six_convolutions(channels: Sequence[int], attended_layers: Sequence[int]) -> nn.Sequential:
    """Convolution, BatchNorm and ReLU a layer, channel attention after some, pooling after every second."""
    layers: list[nn.Module] = []
    num_in = 1
    for number, num_out in enumerate(channels, start=1):
        layers += [nn.Conv2d(num_in, num_out, 3, padding=1, bias=False), nn.BatchNorm2d(num_out), nn.ReLU()]
        if number in attended_layers:
            layers.append(ChannelAttention(num_out))
        if number % 2 == 0:
            layers.append(nn.MaxPool2d(2))
        num_in = num_out
    return nn.Sequential(*layers)


def resize_time(planes: Tensor, frame_mask: Tensor, num_columns: int) -> tuple[Tensor, Tensor]:
    """Each clip's real frames to `num_columns` columns from its first to its last, linearly between them.

    Args:
        planes: (B, K, F, T), frame_mask: (B, T), real frames first.

    Returns:
        (B, K, F, num_columns), and (B, num_columns) where in frames each column was read.
    """
    last = (frame_mask.sum(dim=1) - 1).clamp(min=0)[:, None]
    place = torch.linspace(0, 1, num_columns, device=planes.device) * last  # (B, num_columns)
    below = place.long().minimum(last)
    shape = (-1, planes.shape[1], planes.shape[2], -1)
    left = planes.gather(3, below[:, None, None].expand(shape))
    right = planes.gather(3, (below + 1).minimum(last)[:, None, None].expand(shape))
    return torch.lerp(left, right, (place - below)[:, None, None]), place
