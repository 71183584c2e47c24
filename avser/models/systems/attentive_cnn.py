"""ACNN: one convolution over the full width of the features, attention over time, several views (Neumann & Vu 2017).

M. Neumann, N. T. Vu: Attentive convolutional neural network based speech emotion recognition: a study on the impact of
input features, signal length, and acted speech, Interspeech 2017, arXiv 1706.00612.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from avser.features.cepstral import Mfcc
from avser.features.descriptors import InterspeechDescriptors
from avser.features.egemaps import EgemapsDescriptors
from avser.features.normalization import build_statistics
from avser.features.spectral import LogMel
from avser.models.attention import AttentionPooling
from avser.models.segments import first_steps
from avser.models.system import Criterion, System
from avser.structures import Batch, Output

# Emotion -> level of activation and of valence, 0 low or negative, 1 between, 2 high or positive. After the circumplex
# of Russell 1980, by quadrant; the levels are our choice, and acted happiness counts as joy, acted anger as rage.
CIRCUMPLEX = {
    "neutral": (1, 1),
    "calm": (0, 2),
    "happiness": (2, 2),
    "excitement": (2, 2),
    "surprise": (2, 1),
    "fear": (2, 0),
    "anger": (2, 0),
    "frustration": (1, 0),
    "disgust": (1, 0),
    "contempt": (1, 0),
    "sadness": (0, 0),
    "boredom": (0, 0),
}
VIEWS = ("activation", "valence")
PROSODY = ("rms", "f0_hz", "hnr_db", "delta_rms", "delta_f0_hz", "delta_hnr_db", "zcr")
STAND_INS = {
    "egemaps": "inputs=egemaps: the 32 descriptors of INTERSPEECH 2009 stand in for the descriptors of eGeMAPS",
    "prosody": "inputs=prosody: RMS, F0, harmonicity, their deltas and zero crossings stand in for openSMILE's prosody",
}


class AttentiveCnn(System):
    """Attentive convolutional network, with multi-view learning.

    From the paper: four inputs to compare, clips cut after 7.5 s, 25 ms frames every 10 ms, multi-view learning. As
    remembered, not verified: 200 kernels over all features and 10 frames with stride 3, ReLU, max-pooling over 30 with
    stride 3, attention e_i = w . x_i, dropout of 0.5 before the softmax, a softmax each for activation and valence in
    three levels, whose losses are added. Our choices: features standardised with the training clips; zeros around the
    clip, so that step i is centred on frame 9 i and a clip is no longer than it is, where the paper fills up to 7.5 s;
    levels of activation and valence by the emotion's name (`CIRCUMPLEX`); what stands in for two of the inputs, which
    a run is told.

    Args:
        emotions: the label set; without it, or with an emotion that `CIRCUMPLEX` does not know, there are no views.
        inputs: "log_mel26", "mfcc13", "prosody", "egemaps", for which other descriptors stand in, or
            "egemaps_opensmile", the 25 themselves, which need openSMILE and take far longer (`EgemapsDescriptors`).
        views: whether activation and valence are learned too.
        max_s: seconds from the clip's start that are read.
        normalize: "train", "minmax_train" or "utterance", see `build_statistics`.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        emotions: Sequence[str] = (),
        sample_rate_hz: int = 16000,
        inputs: str = "log_mel26",
        views: bool = True,
        max_s: float = 7.5,
        num_kernels: int = 200,
        kernel: int = 10,
        stride: int = 3,
        pool: int = 30,
        pool_stride: int = 3,
        dropout: float = 0.5,
        normalize: str = "train",
    ) -> None:
        super().__init__()
        if inputs not in INPUTS:
            raise ValueError(f"inputs={inputs!r}; take one of {', '.join(INPUTS)}")
        if inputs in STAND_INS:
            self.notes.append(STAND_INS[inputs])
        self.max_samples = round(max_s * sample_rate_hz)
        self.front_end: Any = INPUTS[inputs](sample_rate_hz)
        names = getattr(self.front_end, "names", ())
        self.columns = [names.index(name) for name in PROSODY] if inputs == "prosody" else None
        num_features = len(PROSODY) if self.columns else self.front_end.num_features
        self.statistics = build_statistics(normalize, num_features)
        self.convolution = nn.Sequential(
            nn.Conv1d(num_features, num_kernels, kernel, stride), nn.ReLU(), nn.MaxPool1d(pool, pool_stride)
        )
        self.reach = kernel - 1 + stride * (pool - 1)  # frames that a step sees, less one
        self.step_frames = stride * pool_stride
        self.pooling = AttentionPooling(num_kernels, num_classes, kind="linear")
        self.dropout = nn.Dropout(dropout)
        unknown = [name for name in emotions if name not in CIRCUMPLEX]
        if views and unknown:
            self.notes.append(f"no views: activation and valence of {', '.join(unknown)} are not known")
        levels = [CIRCUMPLEX[name] for name in emotions] if views and not unknown else []
        self.views = nn.ModuleDict({name: nn.Linear(num_kernels, 3) for name in VIEWS} if levels else {})
        self.levels: Tensor
        self.register_buffer("levels", torch.tensor(levels).view(-1, len(VIEWS)), persistent=False)

    def forward(self, batch: Batch) -> Output:
        """Raises ValueError where the batch has no waveform."""
        x, frame_mask = self._features(batch)
        x = self.statistics(x, frame_mask).transpose(1, 2)  # (B, F, T)
        before = self.reach // 2
        sequence = self.convolution(nn.functional.pad(x, (before, self.reach - before))).transpose(1, 2)  # (B, T', D)
        mask = frame_mask[:, :: self.step_frames]
        step = torch.arange(mask.shape[1], device=mask.device, dtype=torch.float32)
        frame = self.step_frames * step + self.reach / 2 - before
        times = (frame * self.front_end.hop_s + self.front_end.offset_s).expand(mask.shape)
        attended = self.pooling(sequence * mask[..., None], mask, times)
        pooled = self.dropout(attended.pooled)
        logits = self.pooling.evidence(pooled) * attended.present[:, None]
        extra = {name: head(pooled) for name, head in self.views.items()}
        return Output(logits, {"audio": replace(attended, logits=logits)}, extra)

    def prepare(self, batches: Iterable[Batch]) -> None:
        self.statistics.fit(self._features(batch) for batch in batches)

    def training_loss(self, output: Output, batch: Batch, criterion: Criterion) -> Tensor:
        """The sum of the cross-entropies of emotion, activation and valence."""
        loss = criterion(output, batch)
        for i, name in enumerate(self.views):
            loss = loss + nn.functional.cross_entropy(output.extra[name].float(), self._level_shares(batch, i))
        return loss

    def _level_shares(self, batch: Batch, view: int) -> Tensor:
        """(B, 3) which level the clips' emotions have, shared where their labels are soft."""
        by_emotion = nn.functional.one_hot(self.levels[:, view], 3).float()  # (C, 3)
        if batch.targets is not None:
            return batch.targets @ by_emotion
        if batch.labels is None:
            raise ValueError("training needs labels; this batch has none")
        return by_emotion[batch.labels]

    def _features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(B, T, F) and the mask of frames, of the clip's first seconds."""
        if batch.waveform is None or batch.waveform_mask is None:
            raise ValueError("attentive_cnn reads the voice; this batch has no waveform")
        x, mask = self.front_end(
            first_steps(batch.waveform, self.max_samples), first_steps(batch.waveform_mask, self.max_samples)
        )
        if x.ndim == 4:  # one plane
            x = x[:, 0].transpose(1, 2)
        return (x if self.columns is None else x[..., self.columns]), mask


def _log_mel26(sample_rate_hz: int) -> LogMel:
    return LogMel(
        sample_rate_hz=sample_rate_hz,
        num_mels=26,
        min_hz=20.0,
        max_hz=min(8000.0, sample_rate_hz / 2),
        normalize="none",
        window="hamming",
        num_channels=1,
    )


INPUTS: dict[str, Callable[[int], LogMel | Mfcc | InterspeechDescriptors | EgemapsDescriptors]] = {
    "log_mel26": _log_mel26,
    "mfcc13": lambda sample_rate_hz: Mfcc(_log_mel26(sample_rate_hz), num_coefficients=13),
    "egemaps": lambda sample_rate_hz: InterspeechDescriptors(sample_rate_hz=sample_rate_hz),
    "egemaps_opensmile": lambda sample_rate_hz: EgemapsDescriptors(sample_rate_hz=sample_rate_hz),
    "prosody": lambda sample_rate_hz: InterspeechDescriptors(sample_rate_hz=sample_rate_hz),
}
