"""Co-attention between three views of a voice: spectrogram, MFCC and wav2vec 2.0 (Zou et al. 2022).

Heqing Zou, Yuke Si, Chen Chen, Deepu Rajan, Eng Siong Chng: Speech emotion recognition with co-attention based
multi-level acoustic information, ICASSP 2022, arXiv 2203.15326. IEMOCAP, 4 emotions, 5531 clips: leaving out a session
WA 69.80, UA 71.05; a speaker 71.64, 72.70 (in the released code that speaker also stops the training). Sizes and front
ends are from the authors' code (Vincent-ZHQ/CA-MSER) unless marked otherwise.

Without weights a small convolutional encoder with the same 149 steps of 768 stands in for wav2vec 2.0. It has learnt
nothing beforehand, and its results are not those of the paper: a note of the run says so.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from avser.errors import ConfigError
from avser.features.cepstral import mfcc40_htk
from avser.features.normalization import TrainStatistics
from avser.features.spectral import LogSpectrogram
from avser.models.attention import LinearScore, masked_softmax
from avser.models.backbones import IMAGENET_MEAN, IMAGENET_STD, build_backbone
from avser.models.segments import Segments, cut_segments, mean_of_clips, mean_over_overlaps
from avser.models.system import Criterion, System
from avser.models.wav2vec2 import KERNELS, REACH_SAMPLES, SAMPLE_RATE_HZ, STEP_SAMPLES, STRIDES, Wav2Vec2
from avser.structures import AUDIO, Attended, Batch, Output

POOLS = ("flatten", "attention")
STAND_IN = (
    "coatt_mla: a local convolutional encoder stands in for wav2vec 2.0; its results are not those of Zou et al. 2022 "
    "(set model.options.encoder to a folder of weights)"
)


class CoAttention(System):
    """Segments of 3 s, judged apart; the clip's verdict is the mean of their log-probabilities.

    With the defaults and 4 emotions there are 26.3 M weights: 2.5 M in AlexNet's convolutions, 1.2 M behind them, 2.2 M
    in the BiLSTM, 19.7 M in the layer over all its flattened states (0.07 M with `pool="attention"`), 0.6 M in the
    stand-in (94.4 M in wav2vec 2.0 base) and 0.2 M in co-attention and head. AlexNet takes 1.3 billion multiplications
    a segment at 256 pixels, and a quarter of it at 128.

    Args:
        encoder: "local", or the source of a `Wav2Vec2`: a Hugging Face folder, or .safetensors with torchaudio's names.
        encoder_dim: width of its steps; 768 for wav2vec 2.0 base.
        normalize_waveform: mean 0 and deviation 1 of a segment before the encoder, as Hugging Face's preprocessing does
            (our choice: the released code leaves it out).
        backbone, weights: image CNN and weights of the spectrogram branch, as in `build_backbone`; the paper's are
            AlexNet's of ImageNet.
        image_px: height of the spectrogram's picture; its width is one and a half times that.
        eight_bit: True brings the picture to 0..255 as the released code does: cut off to whole levels before it is
            resized, and rounded to them in it. No gradient passes such a picture to the waveform. Off is our choice.
        pool: "flatten" gives the 300 states of the BiLSTM a weight each; "attention" is our choice, and small.
        mfcc_hidden, mfcc_layers, mfcc_dropout: of the BiLSTM, a direction.
        dim: of each branch's summary.
        dropout: before each linear layer but the last.
        preemphasis: of the waveform, before all three views.

    Raises:
        ConfigError: an unknown name, another sampling rate than 16 kHz, or an encoder of another width.
        CheckpointError: weights that are missing or do not fit.
    """

    segment_s = 3.0
    num_frames, frames_a_step = 300, STEP_SAMPLES // 160
    num_steps = (48000 - REACH_SAMPLES) // STEP_SAMPLES + 1  # 149

    has_own_loss = True

    def __init__(
        self,
        num_classes: int,
        sample_rate_hz: int = SAMPLE_RATE_HZ,
        pretrained: bool = True,
        *,
        encoder: str = "local",
        encoder_dim: int = 768,
        normalize_waveform: bool = True,
        backbone: str = "torchvision:alexnet",
        weights: str = "none",
        image_px: int = 256,
        eight_bit: bool = False,
        pool: str = "flatten",
        mfcc_hidden: int = 256,
        mfcc_layers: int = 2,
        mfcc_dropout: float = 0.5,
        dim: int = 128,
        dropout: float = 0.1,
        preemphasis: float = 0.97,
    ) -> None:
        super().__init__()
        if pool not in POOLS:
            raise ConfigError(f"pool={pool!r}: take {' or '.join(POOLS)}")
        if sample_rate_hz != SAMPLE_RATE_HZ:
            raise ConfigError(f"coatt_mla needs media.sample_rate_hz=16000, not {sample_rate_hz}")
        self.preemphasis, self.normalize_waveform = preemphasis, normalize_waveform
        self.image_px, self.eight_bit = image_px, eight_bit
        self.spectrogram = LogSpectrogram(sample_rate_hz=sample_rate_hz)
        self.mfcc = mfcc40_htk(sample_rate_hz)
        self.levels = TrainStatistics(self.spectrogram.num_features, mode="minmax", per="bin")
        self.levels.min.fill_(self.spectrogram.floor_db)  # the spectrogram's own range, until `prepare`
        self.levels.max.zero_()

        self.backbone = build_backbone(backbone, weights=weights if pretrained else "none", max_stride=32)
        self.grid = nn.AdaptiveAvgPool2d(6)
        self.blstm = nn.LSTM(
            self.mfcc.num_features,
            mfcc_hidden,
            mfcc_layers,
            batch_first=True,
            bidirectional=True,
            dropout=mfcc_dropout if mfcc_layers > 1 else 0.0,
        )
        self.pool = LinearScore(2 * mfcc_hidden, 0, num_classes) if pool == "attention" else None
        mfcc_width = 2 * mfcc_hidden * (1 if self.pool is not None else self.num_frames)
        self.encoder = build_encoder(encoder, encoder_dim, pretrained)
        self.notes += [STAND_IN] if encoder == "local" else []

        self.spectrogram_summary = _summary(self.backbone.num_channels * 36, dim, dropout)
        self.mfcc_summary = _summary(mfcc_width, dim, dropout)
        self.co_attention = _summary(2 * dim, self.num_steps, dropout)
        self.encoder_summary = _summary(encoder_dim, dim, dropout)
        self.head = nn.Sequential(
            _summary(3 * dim, dim, dropout), _summary(dim, dim, dropout), nn.Linear(dim, num_classes)
        )

    def prepare(self, batches: Iterable[Batch]) -> None:
        """The range of each frequency bin's decibels on the training clips."""
        self.levels.fit(self._decibels(*_voice(batch, self.preemphasis)) for batch in batches)

    def forward(self, batch: Batch) -> Output:
        """The segments' logits are under "segment_logits" and "owner" for the loss."""
        waveform, waveform_mask = _voice(batch, self.preemphasis)
        samples, pictures, coefficients = self.segments(waveform, waveform_mask)
        features, _ = self.backbone(pictures)
        spectrogram = self.spectrogram_summary(self.grid(features).flatten(1))
        mfcc = self.mfcc_summary(self._mfcc_states(coefficients))

        steps = self.encoder(self._scaled(samples))  # (S, 149, D)
        real = self._real_steps(samples)
        # Not normalised, as released (their softmax is commented out); silence after a clip's end gets none.
        alpha = self.co_attention(torch.cat([spectrogram, mfcc], dim=1)) * real  # (S, 149)
        heard = self.encoder_summary(torch.einsum("st,std->sd", alpha, steps))
        logits = self.head(torch.cat([spectrogram, mfcc, heard], dim=1))  # (S, C)

        present = waveform_mask.any(dim=1)
        clip_logits = mean_of_clips(logits.log_softmax(dim=1), samples.owner, len(batch)) * present[:, None]
        attended = self._attended(alpha, steps, real, samples, clip_logits)
        told = present[samples.owner]
        parts = {"segment_logits": logits[told], "owner": samples.owner[told]}
        return Output(clip_logits, {AUDIO: attended}, parts)

    def training_loss(self, output: Output, batch: Batch, criterion: Criterion) -> Tensor:
        """Every segment has its clip's emotion to tell."""
        return criterion.cross_entropy(output.extra["segment_logits"], batch, output.extra["owner"])

    def segments(self, waveform: Tensor, waveform_mask: Tensor) -> tuple[Segments, Tensor, Segments]:
        """Three views of the same 3 s, the last segment slid back to the clip's end; what is short is filled behind.

        The views are cut on the encoder's grid of 20 ms, so that they agree on where a segment is. (In the released
        code a short clip has silence before it in one view and behind it in the others.)

        Returns:
            samples (S, 48000), pictures (S, 3, image_px, 1.5 * image_px), coefficients Segments (S, 40, 300).
        """
        decibels, frame_mask = self._decibels(waveform, waveform_mask)
        with torch.autocast(waveform.device.type, enabled=False):  # its powers are beyond the range of float16
            coefficients, _ = self.mfcc(waveform, waveform_mask)  # (B, T, 40)
        # In steps of 20 ms: a clip reaches to the end of the last step that it touches.
        reach = -(-waveform_mask.sum(dim=1) // STEP_SAMPLES)
        num_steps = max(int(reach.max()), 1)

        def cut(values: Tensor, a_step: int, length: int) -> Segments:
            size = num_steps * a_step
            values = nn.functional.pad(values[..., :size], (0, max(0, size - values.shape[-1])))
            mask = torch.arange(size, device=values.device) < (reach * a_step)[:, None]
            return cut_segments(values, mask, length, length)

        samples = cut(waveform, STEP_SAMPLES, round(self.segment_s * SAMPLE_RATE_HZ))
        level = self.levels(decibels, frame_mask).clamp(0, 1)
        pictures = self._pictures(cut(level, self.frames_a_step, self.num_frames).values)
        return samples, pictures, cut(coefficients.transpose(1, 2), self.frames_a_step, self.num_frames)

    def _pictures(self, level: Tensor) -> Tensor:
        """(S, 1, 200, 300) levels from 0 to 1 -> (S, 3, image_px, 1.5 * image_px) as the image CNN takes them."""
        level = level.flip(2)  # high frequencies on top, as released
        height, width = self.image_px, self.image_px * 3 // 2
        if self.eight_bit:  # Pillow resizes rows, then columns, in whole levels
            rows = _resized((255 * level).floor(), level.shape[2], width).round()
            level = _resized(rows, height, width).round() / 255
        else:
            level = _resized(level, height, width)
        mean, std = (level.new_tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
        return (level - mean) / std

    def _decibels(self, waveform: Tensor, waveform_mask: Tensor) -> tuple[Tensor, Tensor]:
        return self.spectrogram(waveform, waveform_mask)

    def _mfcc_states(self, coefficients: Segments) -> Tensor:
        """(S, 40, 300) -> all states in a row (S, 300 * D), or their sum under attention (S, D)."""
        frames = nn.functional.normalize(coefficients.values.transpose(1, 2), dim=2)
        states, _ = self.blstm(frames)  # (S, 300, D)
        if self.pool is None:
            return states.flatten(1)
        return torch.einsum("stk,std->sd", masked_softmax(self.pool(states), coefficients.mask), states)

    def _scaled(self, samples: Segments) -> Tensor:
        """(S, 48000) as the encoder takes it."""
        if not self.normalize_waveform:
            return samples.values
        count = samples.mask.sum(dim=1, keepdim=True).clamp(min=1)
        centred = (samples.values - samples.values.sum(dim=1, keepdim=True) / count) * samples.mask
        return centred / (centred.square().sum(dim=1, keepdim=True) / count + 1e-7).sqrt()

    def _real_steps(self, samples: Segments) -> Tensor:
        """(S, 149) bool: the steps that begin before the clip ends."""
        return samples.mask[:, : self.num_steps * STEP_SAMPLES : STEP_SAMPLES]

    def _attended(self, alpha: Tensor, steps: Tensor, real: Tensor, samples: Segments, clip_logits: Tensor) -> Attended:
        """The co-attention of all segments on the clip's axis; no head tells what a single step says.

        Where two segments overlap their weights are averaged. Where the co-attention's ReLU is zero throughout a clip,
        so are its weights: nothing of the encoder was heard. Steps of 25 ms every 20 ms leave out one in 150 where two
        segments meet; there the mask is False.
        """
        both = torch.cat([alpha[..., None], steps], dim=2)
        start = samples.start // STEP_SAMPLES
        joined, mask = mean_over_overlaps(both, real, samples.owner, start, len(clip_logits))
        weights, sequence = joined[..., 0], joined[..., 1:]
        weights = weights / weights.sum(dim=1, keepdim=True).clamp(min=1e-12)
        centre = (torch.arange(mask.shape[1], device=mask.device) * STEP_SAMPLES + REACH_SAMPLES / 2) / SAMPLE_RATE_HZ
        pooled = torch.einsum("bt,btd->bd", weights, sequence)
        return Attended(sequence, weights, None, centre.expand(mask.shape), mask, pooled, clip_logits)


class LocalEncoder(nn.Module):
    """Convolutions with the kernels and strides of wav2vec 2.0, narrow ones: (S, N) samples -> (S, T, D).

    Our choice: group norm over all of a segment keeps how loud a step is beside the others.
    """

    def __init__(self, dim: int = 768, widths: tuple[int, ...] = (32, 64, 96, 128, 192, 256)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 1
        for width, kernel, stride in zip((*widths, dim), KERNELS, STRIDES, strict=True):
            layers += [nn.Conv1d(before, width, kernel, stride, bias=False), nn.GroupNorm(1, width), nn.GELU()]
            before = width
        self.layers = nn.Sequential(*layers)

    def forward(self, waveform: Tensor) -> Tensor:
        return self.layers(waveform[:, None]).transpose(1, 2)


def build_encoder(source: str, dim: int, pretrained: bool) -> nn.Module:
    """The stand-in by "local", else wav2vec 2.0; without `pretrained` it waits for the state of a trained model.

    Raises:
        ConfigError: steps of another width than `dim`.
    """
    if source == "local":
        return LocalEncoder(dim)
    encoder = Wav2Vec2(source if pretrained else None)
    if pretrained and encoder.dim != dim:
        raise ConfigError(f"encoder={source!r}: its steps are {encoder.dim} wide; set encoder_dim={encoder.dim}")
    return encoder


def _voice(batch: Batch, preemphasis: float) -> tuple[Tensor, Tensor]:
    """x[n] - a x[n-1] of the batch's waveform, and its mask.

    Raises:
        ValueError: no waveform.
    """
    if batch.waveform is None or batch.waveform_mask is None:
        raise ValueError("coatt_mla reads the voice: this batch has no waveform")
    waveform = batch.waveform * batch.waveform_mask
    before = nn.functional.pad(waveform, (1, 0))[:, :-1]
    return (waveform - preemphasis * before) * batch.waveform_mask, batch.waveform_mask


def _resized(picture: Tensor, height: int, width: int) -> Tensor:
    return nn.functional.interpolate(picture, (height, width), mode="bilinear", align_corners=False, antialias=True)


def _summary(width: int, dim: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Dropout(dropout), nn.Linear(width, dim), nn.ReLU())
