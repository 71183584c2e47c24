"""Ristea, Dutu & Radoi 2019 (arXiv 2003.00351): a CNN for the face, led by action units, and one for the voice, fused.

From the abstract: a convolutional network on the face that has learnt of facial action units, one on speech, and their
fusion, in real time. The paper's numbers are not available to us. Remembered, not verified: CREMA-D, six emotions, the
voice as a short-time Fourier picture, small grey face crops. Our choice: all sizes, both CNNs alike (3 x 3 convolutions
of 32, 64, 128, 128 channels with batch normalisation, ReLU and 2 x 2 maximum, then 256), the head 512 -> 128 -> C, the
weight 0.5 of the action units' loss, and the treatment of what is missing.

The clip is cut into windows of 0.64 s every 0.32 s. Each has a picture of the voice, and the face nearest to its
middle. Its verdict is read off both; the clip's is the mean over windows. A window without voice or face has zeros in
place of that half, and the verdict of a single modality is that of the head with the other half at zero.

Birhala et al. 2020 (arXiv 2007.04364) let windows differ in time between the modalities: `av_offset_s`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from avser.features.spectral import LogSpectrogram
from avser.models.segments import Segments, cut_segments
from avser.models.system import Criterion, System
from avser.models.systems.roi_att_lstm import conv_blocks, grey_faces
from avser.structures import Attended, Batch, Output

NUM_AUS = 17  # intensities that OpenFace gives


@dataclass
class Windows:
    """The windows of a batch, those of clip 0 first.

    Attributes:
        voice: (S, F, L) spectrograms; zero where there is no voice.
        owner: (S,) the clip of each.
        place: (S,) its number within the clip.
        centre_s: (S,) middle of its real part.
        has_voice: (S,) bool.
    """

    voice: Tensor
    owner: Tensor
    place: Tensor
    centre_s: Tensor
    has_voice: Tensor

    def __len__(self) -> int:
        return len(self.owner)


class AvCnnAu(System):
    """`av_cnn_au`: windows of voice and face, judged together and averaged.

    Args:
        window_s, window_hop_s: of the windows.
        stft_window_s, stft_hop_s: of the spectrogram; 512 and 128 samples at 16 kHz.
        face_px: height and width of the grey face.
        num_faces: how many faces of a window are stacked as planes, spread evenly over it.
        channels: of the four blocks of both CNNs.
        width: what each CNN ends in.
        hidden: of the head.
        av_offset_s: how much later than the voice the face of a window is taken, negative for earlier; clips without a
            voice have nothing to be shifted against.
        au_weight: weight of the action units' loss, for batches with a table of at least 17 columns, whose first 17
            are taken for the intensities.
    """

    reads = ("audio", "video")
    face_inputs = ("crops", "crops_and_features")

    def __init__(
        self,
        *,
        num_classes: int,
        sample_rate_hz: int = 16000,
        modalities: Sequence[str] = ("audio", "video"),
        window_s: float = 0.64,
        window_hop_s: float = 0.32,
        stft_window_s: float = 0.032,
        stft_hop_s: float = 0.008,
        face_px: tuple[int, int] = (96, 80),
        num_faces: int = 1,
        channels: Sequence[int] = (32, 64, 128, 128),
        width: int = 256,
        hidden: int = 128,
        av_offset_s: float = 0.0,
        au_weight: float = 0.5,
    ) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        self.spectrogram = LogSpectrogram(
            sample_rate_hz=sample_rate_hz,
            window_s=stft_window_s,
            hop_s=stft_hop_s,
            bin_hz=1 / stft_window_s,
            num_bins=round(stft_window_s * sample_rate_hz) // 2,  # without the highest, so that it halves evenly
        )
        self.length, self.hop = round(window_s / stft_hop_s), round(window_hop_s / stft_hop_s)
        self.window_s, self.av_offset_s, self.au_weight = window_s, av_offset_s, au_weight
        self.face_px, self.num_faces, self.width = (face_px[0], face_px[1]), num_faces, width
        planes = {"audio": (1, self.spectrogram.num_features, self.length), "video": (num_faces, *self.face_px)}
        self.cnns = nn.ModuleDict({name: _cnn(planes[name], channels, width) for name in self.modalities})
        self.au_head = nn.Linear(width, NUM_AUS) if "video" in self.modalities else None
        self.head = nn.Sequential(
            nn.Linear(width * len(self.modalities), hidden), nn.ReLU(), nn.Linear(hidden, num_classes)
        )

    def forward(self, batch: Batch) -> Output:
        """
        Raises:
            ValueError: the batch has none of the model's modalities.
        """
        can_read = {"audio": batch.waveform is not None, "video": batch.frames is not None}
        present = [name for name in self.modalities if can_read[name]]
        if not present:
            raise ValueError(f"this model needs {' or '.join(self.modalities)}; the batch has neither")
        windows = self.cut(batch, present)
        encoded: dict[str, tuple[Tensor, Tensor]] = {}  # features (S, width) and which windows have them (S,)
        times, extra = {}, {}
        if "audio" in present:
            encoded["audio"] = self._encode("audio", windows.voice[:, None], windows.has_voice), windows.has_voice
            times["audio"] = windows.centre_s
        if "video" in present:
            times["video"] = windows.centre_s + self.av_offset_s * windows.has_voice
            faces, has_face, frame_s = self.faces_of(batch, windows, times["video"])
            encoded["video"] = self._encode("video", faces, has_face), has_face
            extra = self._action_units(batch, windows, encoded["video"][0], has_face, frame_s)
        attended = {name: self._attend(name, *encoded[name], times[name], windows, len(batch)) for name in present}
        is_seen = torch.stack([is_there for _, is_there in encoded.values()]).any(dim=0)
        logits = self._judge({name: features for name, (features, _) in encoded.items()})
        return Output(_mean_of_windows(logits, is_seen, windows.owner, len(batch)), attended, extra)

    def training_loss(self, output: Output, batch: Batch, criterion: Criterion) -> Tensor:
        """The usual loss, and where action units are known the mean square error of their intensities (0 to 5)."""
        loss = criterion(output, batch)
        if "au" in output.extra and len(output.extra["au"]):
            error = nn.functional.mse_loss(output.extra["au"].float(), output.extra["au_target"])
            loss = loss + self.au_weight * error
        return loss

    # --- windows ---

    def cut(self, batch: Batch, present: Sequence[str]) -> Windows:
        """Windows along the voice, and along the face for clips without one; each clip has at least one."""
        num_bins, hop_s = self.spectrogram.num_features, self.spectrogram.hop_s
        device = next(self.parameters()).device
        planes, voice = torch.zeros(len(batch), num_bins, 0, device=device), torch.zeros(len(batch), 0, device=device)
        num_columns = torch.zeros(len(batch), dtype=torch.long, device=device)
        if "audio" in present:
            assert batch.waveform is not None
            assert batch.waveform_mask is not None
            spectrogram, voice = self.spectrogram(batch.waveform, batch.waveform_mask)
            floor_db = self.spectrogram.floor_db
            planes = (spectrogram[:, 0] - floor_db) / -floor_db * voice[:, None]  # loudest bin 1, floor and padding 0
            num_columns = voice.sum(dim=1)
        has_voice = num_columns > 0
        if "video" in present:
            assert batch.frame_times is not None
            assert batch.frame_mask is not None
            last_s = (batch.frame_times * batch.frame_mask).amax(dim=1)
            num_columns = torch.where(has_voice, num_columns, (last_s / hop_s).long() + 1)
        longest = max(int(num_columns.max()), 1)
        planes = nn.functional.pad(planes, (0, max(0, longest - planes.shape[-1])))[..., :longest]
        mask = torch.arange(longest, device=device) < num_columns[:, None]
        cut: Segments = cut_segments(planes, mask, self.length, self.hop)
        centre_s = (cut.start + (cut.mask.sum(dim=1) - 1).clamp(min=0) / 2) * hop_s
        before = torch.cat([cut.owner.new_zeros(1), torch.bincount(cut.owner, minlength=len(batch)).cumsum(0)[:-1]])
        place = torch.arange(len(cut), device=device) - before[cut.owner]
        return Windows(cut.values, cut.owner, place, centre_s, has_voice[cut.owner])

    def faces_of(self, batch: Batch, windows: Windows, around_s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The faces around the given times (S,).

        Returns:
            faces (S, num_faces, H, W) grey, zero where there is none; which windows have one (S,): those with a face
            no further from the time than half a window; and the time (S,) of the one in the middle.
        """
        assert batch.frames is not None
        assert batch.frame_times is not None
        assert batch.frame_mask is not None
        spread = (torch.arange(self.num_faces, device=around_s.device) - (self.num_faces - 1) / 2) / self.num_faces
        wanted_s = around_s[:, None] + self.window_s * spread  # (S, n)
        chosen, gap_s = _nearest(batch.frame_times, batch.frame_mask, windows.owner, wanted_s)
        has_face = gap_s.amin(dim=1) <= self.window_s / 2
        faces = torch.zeros(len(windows), self.num_faces, *self.face_px, device=around_s.device)
        if has_face.any():
            pictures = batch.frames[windows.owner[:, None], chosen][has_face]  # (S', n, 3, H, W)
            grey = grey_faces(pictures.flatten(0, 1), *self.face_px)
            faces[has_face] = grey.view(-1, self.num_faces, *self.face_px)
        return faces, has_face, batch.frame_times[windows.owner, chosen[:, self.num_faces // 2]]

    def _encode(self, name: str, planes: Tensor, is_there: Tensor) -> Tensor:
        """(S, K, H, W) -> (S, width), zero where there is nothing."""
        features = planes.new_zeros(len(planes), self.width)
        if is_there.any():
            real = self.cnns[name](planes[is_there])
            features = features.to(real.dtype)
            features[is_there] = real
        return features

    # --- verdicts ---

    def _judge(self, features: dict[str, Tensor]) -> Tensor:
        """(S, C) for windows of which the given halves are known."""
        some = next(iter(features.values()))
        return self.head(torch.cat([features.get(name, torch.zeros_like(some)) for name in self.modalities], dim=1))

    def _attend(
        self, name: str, features: Tensor, is_there: Tensor, times: Tensor, windows: Windows, num_clips: int
    ) -> Attended:
        """One modality alone: its windows as steps of equal weight."""
        shape = num_clips, int(windows.place.max()) + 1
        at = windows.owner, windows.place

        def laid_out(values: Tensor) -> Tensor:
            return values.new_zeros(*shape, *values.shape[1:]).index_put(at, values)

        mask = laid_out(is_there)
        weights = mask / mask.sum(dim=1, keepdim=True).clamp(min=1)
        step_logits = laid_out(self._judge({name: features}) * is_there[:, None])
        sequence = laid_out(features)
        return Attended(
            sequence=sequence,
            weights=weights,
            step_logits=step_logits,
            times=laid_out(times),
            mask=mask,
            pooled=torch.einsum("bt,btd->bd", weights.to(sequence.dtype), sequence),
            logits=(weights[..., None] * step_logits).sum(dim=1),
        )

    def _action_units(
        self, batch: Batch, windows: Windows, features: Tensor, has_face: Tensor, frame_s: Tensor
    ) -> dict[str, Tensor]:
        """What the face's CNN says of the action units (M, 17), and the table's row nearest in time to that face."""
        table, table_times, table_mask = batch.face_features, batch.feature_times, batch.feature_mask
        if self.au_head is None or table is None or table_times is None or table_mask is None:
            return {}
        if table.shape[-1] < NUM_AUS:
            return {}
        known = has_face & table_mask.any(dim=1)[windows.owner]
        owner = windows.owner[known]
        row, _ = _nearest(table_times, table_mask, owner, frame_s[known][:, None])
        return {"au": self.au_head(features[known]), "au_target": table[owner, row[:, 0], :NUM_AUS].float()}


def _cnn(planes: tuple[int, int, int], channels: Sequence[int], num_outputs: int) -> nn.Module:
    """Four blocks, each of which halves height and width, and a dense layer over what is left."""
    num_planes, height, width = planes
    shrink = 2 ** len(channels)
    num_left = channels[-1] * (height // shrink) * (width // shrink)
    return nn.Sequential(*conv_blocks(num_planes, channels), nn.Flatten(), nn.Linear(num_left, num_outputs), nn.ReLU())


def _nearest(times: Tensor, mask: Tensor, owner: Tensor, wanted_s: Tensor) -> tuple[Tensor, Tensor]:
    """For each wanted time (S, n) the real step of the owner's clip nearest to it, and its distance in seconds."""
    gap = (times[owner][:, None, :] - wanted_s[..., None]).abs()  # (S, n, T)
    gap_s, chosen = gap.masked_fill(~mask[owner][:, None, :], torch.inf).min(dim=2)
    return chosen, gap_s


def _mean_of_windows(logits: Tensor, is_seen: Tensor, owner: Tensor, num_clips: int) -> Tensor:
    """(S, C) -> (B, C) over the windows that show anything; zero for a clip that shows nothing."""
    total = logits.new_zeros(num_clips, logits.shape[1]).index_add(0, owner, logits * is_seen[:, None])
    count = torch.zeros(num_clips, device=logits.device).index_add(0, owner, is_seen.float())
    return total / count.clamp(min=1)[:, None]
