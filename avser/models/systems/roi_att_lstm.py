"""Desai, Cao & Shah 2019 (arXiv 2203.03428): an LSTM with attention that finds a clip's emotional regions.

The paper's claims, from its abstract: a clip's one label is too coarse, for most of the clip shows little; attention
over a deep recurrent network finds the regions that carry the emotion, in the voice and in the face, for six basic
emotions, better than an LSTM alone (`roi_lstm`). The features, sizes and training of the paper are not available to
us: every number below is our choice, of the order of Mirsamadi et al. 2017, which the paper's time would have taken.

Voice and face each go through Linear, ReLU, dropout and a bidirectional LSTM; attention pools its states; a linear head
judges the sum, so that the clip's logits are the weighted sum of what its steps say. The verdicts meet late, or the
summaries before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import torch
from torch import Tensor, nn

from avser.errors import ConfigError
from avser.features.descriptors import InterspeechDescriptors
from avser.features.egemaps import EgemapsDescriptors
from avser.features.landmarks import AlignedLandmarks, select_points
from avser.features.normalization import TrainStatistics, build_statistics
from avser.features.spectral import LogMel, log_mel_3d
from avser.models.attention import AttentionPooling
from avser.models.fusion import FUSIONS
from avser.models.real_steps import encode_real
from avser.models.system import System
from avser.models.temporal import run_recurrent
from avser.structures import Attended, Batch, Output

NUM_BLENDSHAPES = 52
ATTENTIONS = ("additive", "linear", "gated", "per_class")
LATE_OR_CONCAT = ("late_product", "late_average", "concat")
Sequenced = tuple[Tensor, Tensor, Tensor]  # values (B, T, F), mask (B, T), times (B, T) in seconds


# --- what is read ------------------------------------------------------------------------------------------------


class VoiceReader(nn.Module):
    """Acoustic frames every 10 ms, on the scale that `normalize` says (`build_statistics`).

    `lld32`: the 32 descriptors of INTERSPEECH 2009; `logmel3`: 40 log-mel bands with first and second differences, 120
    values a frame; `egemaps_opensmile`: the 25 of eGeMAPS, which need openSMILE and take far longer.
    """

    def __init__(self, audio_features: str, sample_rate_hz: int, normalize: str) -> None:
        super().__init__()
        _check("audio_features", audio_features, ("lld32", "logmel3", "egemaps_opensmile"))
        self.is_planes = audio_features == "logmel3"
        self.front_end: LogMel | InterspeechDescriptors | EgemapsDescriptors
        if audio_features == "logmel3":
            self.front_end = log_mel_3d(sample_rate_hz)
        elif audio_features == "lld32":
            self.front_end = InterspeechDescriptors(sample_rate_hz=sample_rate_hz)
        else:
            self.front_end = EgemapsDescriptors(sample_rate_hz=sample_rate_hz)
        self.num_features = self.front_end.num_features * (3 if self.is_planes else 1)
        self.statistics = build_statistics(normalize, self.num_features)

    def can_read(self, batch: Batch) -> bool:
        return batch.waveform is not None

    def forward(self, batch: Batch) -> Sequenced:
        x, mask = self.frames(batch)
        steps = torch.arange(mask.shape[1], device=mask.device, dtype=torch.float32)
        times = self.front_end.offset_s + self.front_end.hop_s * steps
        return self.statistics(x, mask), mask, times.expand(mask.shape)

    def frames(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(B, T, F) unscaled, with mask (B, T)."""
        x, mask = self.front_end(batch.waveform, batch.waveform_mask)
        if self.is_planes:
            x = x.permute(0, 3, 1, 2).flatten(2)  # (B, 3, 40, T) -> (B, T, 120)
        return x, mask


class CropReader(nn.Module):
    """Grey face crops, each through a CNN of four blocks that is trained along; 128 values a frame."""

    def __init__(self, face_px: int, channels: Sequence[int] = (32, 64, 128, 128)) -> None:
        super().__init__()
        self.face_px = face_px
        self.cnn = nn.Sequential(*conv_blocks(1, channels), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.num_features = channels[-1]

    def can_read(self, batch: Batch) -> bool:
        return batch.frames is not None

    def forward(self, batch: Batch) -> Sequenced:
        assert batch.frames is not None
        assert batch.frame_mask is not None
        assert batch.frame_times is not None
        mask = batch.frame_mask
        return encode_real(self._encode, batch.frames, mask, self.num_features), mask, batch.frame_times

    def _encode(self, frames: Tensor) -> Tensor:
        """(M, 3, H, W) uint8 RGB -> (M, 128)"""
        return self.cnn(grey_faces(frames, self.face_px, self.face_px))


class TrackReader(nn.Module):
    """Numbers that describe the face of a frame, z-scored by the training clips.

    `landmarks`: 68 points aligned to the mean training face and their first differences, 272 values; `blendshapes`: the
    52 of FaceLandmarker; `features`: a table that another program made, by default OpenFace's 17 intensities and 18
    presences of action units.
    """

    def __init__(self, face_input: str, num_features: int) -> None:
        super().__init__()
        self.face_input = face_input
        self.shape = AlignedLandmarks() if face_input == "landmarks" else None
        sizes = {"landmarks": AlignedLandmarks().num_features, "blendshapes": NUM_BLENDSHAPES, "features": num_features}
        self.num_features = sizes[face_input]
        self.statistics = TrainStatistics(self.num_features)

    def can_read(self, batch: Batch) -> bool:
        return self._values(batch) is not None

    def forward(self, batch: Batch) -> Sequenced:
        x, mask = self.frames(batch)
        times = batch.feature_times if self.face_input == "features" else batch.frame_times
        assert times is not None
        if self.shape is not None:
            x = self.shape(x, mask)
        return self.statistics(x, mask), mask, times

    def frames(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Points (B, T, 68, 2) in pixels, or values (B, T, F), unscaled, with mask (B, T)."""
        values = self._values(batch)
        mask = batch.feature_mask if self.face_input == "features" else batch.frame_mask
        assert values is not None
        assert mask is not None
        if self.shape is not None:
            return select_points(values), mask
        if values.shape[-1] != self.num_features:
            raise ConfigError(
                f"the clips have {values.shape[-1]} {self.face_input} a step, the model reads {self.num_features}; set "
                f"model.options.num_features={values.shape[-1]}, or choose columns by media.face_features"
            )
        return values, mask

    def fit(self, observed: Sequence[tuple[Tensor, Tensor]]) -> None:
        """The mean face and the scale, of what `frames` gave for the training clips."""
        observed = [(x, mask) for x, mask in observed if mask.any()]
        if not observed:
            return
        if self.shape is not None:
            self.shape.fit(observed)
            observed = [(self.shape(x, mask), mask) for x, mask in observed]
        self.statistics.fit(observed)

    def _values(self, batch: Batch) -> Tensor | None:
        values = {"landmarks": batch.landmarks, "blendshapes": batch.blendshapes, "features": batch.face_features}
        return values[self.face_input]


def grey_faces(frames: Tensor, height_px: int, width_px: int) -> Tensor:
    """(M, 3, H, W) uint8 RGB -> (M, 1, height, width) grey in [0, 1], with the luma weights of ITU-R BT.601."""
    weights = torch.tensor([0.299, 0.587, 0.114], device=frames.device)
    grey = torch.einsum("mchw,c->mhw", frames.float(), weights)[:, None] / 255
    if grey.shape[-2:] == (height_px, width_px):
        return grey
    return nn.functional.interpolate(grey, (height_px, width_px), mode="bilinear", antialias=True)


def conv_blocks(num_planes: int, channels: Sequence[int]) -> list[nn.Module]:
    """A block for each number of channels: convolution 3 x 3, batch normalisation, ReLU, maximum over 2 x 2."""
    layers: list[nn.Module] = []
    for before, after in zip([num_planes, *channels[:-1]], channels, strict=True):
        conv = nn.Conv2d(before, after, 3, padding=1, bias=False)
        layers += [conv, nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
    return layers


# --- the network -------------------------------------------------------------------------------------------------


class LstmBranch(nn.Module):
    """Reader -> Linear + ReLU + dropout -> LSTM; `dim` is the width of its states, of both directions together."""

    def __init__(self, reader: nn.Module, *, width: int, layers: int, bidirectional: bool, dropout: float) -> None:
        super().__init__()
        self.reader = reader
        num_features: int = reader.num_features  # type: ignore[assignment]
        self.embed = nn.Sequential(nn.Linear(num_features, width), nn.ReLU(), nn.Dropout(dropout))
        between = dropout if layers > 1 else 0.0
        self.lstm = nn.LSTM(width, width, layers, batch_first=True, bidirectional=bidirectional, dropout=between)
        self.dim = width * (2 if bidirectional else 1)

    def forward(self, batch: Batch) -> Sequenced:
        """States (B, T, D), mask and times; steps without a face inside a clip enter as zeros."""
        x, mask, times = self.reader(batch)
        x = self.embed(x) * mask[..., None]
        return run_recurrent(self.lstm, x, mask) * mask[..., None], mask, times


class LstmSystem(System):
    """An LSTM a modality, pooled by attention or otherwise, and their fusion: what both systems of the paper share."""

    reads = ("audio", "video")
    face_inputs = ("crops", "landmarks", "blendshapes", "features")

    def __init__(
        self,
        *,
        num_classes: int,
        sample_rate_hz: int,
        modalities: Sequence[str],
        face_input: str,
        audio_features: str,
        num_features: int,
        face_px: int,
        width: int,
        layers: int,
        bidirectional: bool,
        dropout: float,
        pooling: str,
        attention_hidden: int,
        fusion: str,
        fusion_hidden: int,
        normalize: str,
    ) -> None:
        super().__init__()
        _check("fusion", fusion, LATE_OR_CONCAT)
        readers: dict[str, nn.Module] = {}
        if "audio" in modalities:
            readers["audio"] = VoiceReader(audio_features, sample_rate_hz, normalize)
        if "video" in modalities:
            readers["video"] = CropReader(face_px) if face_input == "crops" else TrackReader(face_input, num_features)
        self.branches = nn.ModuleDict(
            {
                name: LstmBranch(reader, width=width, layers=layers, bidirectional=bidirectional, dropout=dropout)
                for name, reader in readers.items()
            }
        )
        dim = width * (2 if bidirectional else 1)
        self.attentions = nn.ModuleDict(
            {name: AttentionPooling(dim, num_classes, kind=pooling, hidden=attention_hidden) for name in readers}
        )
        self.fusion = None
        if len(readers) > 1:
            self.fusion = FUSIONS[fusion](list(readers), dim, num_classes, hidden=fusion_hidden, dropout=0.0)

    def forward(self, batch: Batch) -> Output:
        """
        Raises:
            ValueError: the batch has none of the model's modalities.
        """
        attended: dict[str, Attended] = {
            name: self.attentions[name](*branch(batch))
            for name, branch in self.branches.items()
            if branch.reader.can_read(batch)  # type: ignore[operator, union-attr]
        }
        if not attended:
            raise ValueError(f"this model needs {' or '.join(self.branches)}; the batch has neither")
        if self.fusion is None:
            return Output(next(iter(attended.values())).logits, attended)
        return Output(self.fusion(attended), attended)

    def prepare(self, batches: Iterable[Batch]) -> None:
        """Fit the scales of voice and face in one pass; only the face's numbers are kept meanwhile."""
        voice, face = (self.branches[name].reader if name in self.branches else None for name in ("audio", "video"))
        if voice is None and not isinstance(face, TrackReader):
            return  # pictures have no scale to fit
        faces: list[tuple[Tensor, Tensor]] = []

        def voices() -> Iterator[tuple[Tensor, Tensor]]:
            for batch in batches:
                if isinstance(face, TrackReader) and face.can_read(batch):
                    faces.append(face.frames(batch))
                if isinstance(voice, VoiceReader) and voice.can_read(batch):
                    yield voice.frames(batch)

        stream = voices()
        first = next(stream, None)  # reads to the first batch with a voice, or all of them for the faces alone
        if first is not None and isinstance(voice, VoiceReader):
            voice.statistics.fit(chain([first], stream))
        if isinstance(face, TrackReader):
            face.fit(faces)


class RoiAttLstm(LstmSystem):
    """`roi_att_lstm`: see the module's first lines. `attention` is additive, linear, gated or per_class (a query each).

    Args:
        audio_features: "lld32", "logmel3" or "egemaps_opensmile", see `VoiceReader`.
        num_features: columns of the table that `face_input="features"` reads.
        face_px: side to which face crops are brought.
        width: of the embedding, and of the LSTM in each direction.
        fusion: "late_product" or "late_average" of the modalities' posteriors, or "concat" of their summaries.
        normalize: of the voice, "train", "minmax_train" or "utterance", see `build_statistics`. The face's numbers keep
            the scale of the training clips, for a table may have one row a clip, which is constant over it.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        sample_rate_hz: int = 16000,
        modalities: Sequence[str] = ("audio", "video"),
        face_input: str = "crops",
        audio_features: str = "lld32",
        num_features: int = 35,
        face_px: int = 112,
        width: int = 128,
        layers: int = 2,
        bidirectional: bool = True,
        dropout: float = 0.5,
        attention: str = "additive",
        attention_hidden: int = 128,
        fusion: str = "late_product",
        fusion_hidden: int = 128,
        normalize: str = "train",
    ) -> None:
        _check("attention", attention, ATTENTIONS)
        super().__init__(
            num_classes=num_classes,
            sample_rate_hz=sample_rate_hz,
            modalities=modalities,
            face_input=face_input,
            audio_features=audio_features,
            num_features=num_features,
            face_px=face_px,
            width=width,
            layers=layers,
            bidirectional=bidirectional,
            dropout=dropout,
            pooling=attention,
            attention_hidden=attention_hidden,
            fusion=fusion,
            fusion_hidden=fusion_hidden,
            normalize=normalize,
        )


def _check(name: str, got: str, allowed: Sequence[str]) -> None:
    if got not in allowed:
        raise ValueError(f"{name}={got!r}; take one of {', '.join(allowed)}")
