"""Many kinds of acoustic features, chosen by statistics, through a recurrent network (2021).

S.-W. Byun & S.-P. Lee, "A study on a speech emotion recognition system with effective acoustic features using deep
learning algorithms", Applied Sciences 11(4):1890, 2021. From the abstract: F0, MFCC, spectral and harmonic features
and others, a combination chosen by statistical analysis, a recurrent classifier, a Korean corpus of their own. Its
numbers were not at hand: which features, the tests, the thresholds and every size below are our choice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from avser.features.cepstral import Mfcc
from avser.features.descriptors import frame_means, zero_crossings
from avser.features.normalization import build_statistics
from avser.features.spectral import LogMel, hold_last, regression_delta
from avser.features.timbre import Timbre
from avser.models.system import System
from avser.structures import AUDIO, Attended, Batch, Output

QUIETEST = 1e-5  # RMS, -100 dB of full scale
TESTS = {"kruskal": stats.kruskal, "anova": stats.f_oneway}
SELECTIONS = (*TESTS, "greedy", "none")


class CombinedFeatures(nn.Module):
    """80 features of 25 ms frames every 10 ms: `Timbre`, MFCC 1-13 with two differences, level and zero crossings.

    `names` has one name for each column. Values are raw; frame t is centred on t * hop_s.
    """

    def __init__(self, *, sample_rate_hz: int = 16000, num_mfcc: int = 13) -> None:
        super().__init__()
        self.timbre = Timbre(sample_rate_hz=sample_rate_hz)
        bands = LogMel(sample_rate_hz=sample_rate_hz, num_mels=40, min_hz=20.0, max_hz=min(8000.0, sample_rate_hz / 2))
        self.mfcc = Mfcc(bands, num_coefficients=num_mfcc + 1)
        self.hop_s, self.offset_s = self.timbre.hop_s, self.timbre.offset_s
        orders = [f"mfcc_{i + 1}" for i in range(num_mfcc)]
        differences = [f"{prefix}_{name}" for prefix in ("delta", "delta2") for name in orders]
        self.names = (*self.timbre.names, *orders, *differences, "rms_db", "zcr")
        self.num_features = len(self.names)

    def forward(self, waveform: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Samples (B, N) with mask (B, N) -> x (B, T, F), zero where padded, and frame_mask (B, T)."""
        timbre, frame_mask = self.timbre(waveform, mask)
        num_frames = frame_mask.sum(dim=1)
        mfcc = self.mfcc(waveform, mask)[0][..., 1:].transpose(1, 2)  # c0 is the level, which has its own column
        delta = regression_delta(hold_last(mfcc, num_frames))
        delta2 = regression_delta(hold_last(delta, num_frames))
        cepstra = torch.cat([mfcc, delta, delta2], dim=1).transpose(1, 2)
        samples, frames = waveform.float() * mask, self.timbre.frames
        values = torch.stack([samples.square(), zero_crossings(samples)], dim=1)
        means = frame_means(values, mask, window_length=frames.window_length, hop_length=frames.hop_length)
        rms_db, zcr = 10 * torch.log10(means[:, 0] + QUIETEST**2), means[:, 1]
        x = torch.cat([timbre, cepstra, rms_db[..., None], zcr[..., None]], dim=2)
        return x * frame_mask[..., None], frame_mask


class ByunFeatRnn(System):
    """Chosen features -> 2 x LSTM 128 -> mean and maximum over time -> dense 64 -> emotions.

    `prepare` standardises the features and chooses among them by the training clips, see `choose_features` and
    `choose_greedily`; columns that were not chosen are zero, which a network without them would answer alike to. The
    chosen ones stand in `notes`.

    Attended: a step's weight is half its share of the mean and half the share of the maxima that it holds; step logits
    are what the head says of that step alone, and do not add up to the verdict, for the head is not linear.

    Args:
        selection: "kruskal" or "anova" by a test of each feature, "greedy" by what features tell together, or "none" to
            keep all of them.
        false_discoveries: of the tests, level q of the procedure of Benjamini & Hochberg.
        max_correlation: of the tests; of two features that correlate more than this, the weaker is dropped.
        max_features: how many "greedy" chooses at most; each takes some 400 small discriminants.
        hidden, layers, dropout: of the LSTM. dense: width of the layer before the verdict.
        normalize: "train", "minmax_train" or "utterance", see `build_statistics`; features are chosen before it.

    Attributes:
        selected: (F,) bool, a buffer.

    Raises:
        ValueError: an unknown selection.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        sample_rate_hz: int = 16000,
        selection: str = "kruskal",
        false_discoveries: float = 0.01,
        max_correlation: float = 0.9,
        max_features: int = 40,
        hidden: int = 128,
        layers: int = 2,
        dropout: float = 0.3,
        dense: int = 64,
        normalize: str = "train",
    ) -> None:
        super().__init__()
        if selection not in SELECTIONS:
            raise ValueError(f"selection={selection!r}; take one of {', '.join(SELECTIONS)}")
        self.selection, self.false_discoveries, self.max_correlation = selection, false_discoveries, max_correlation
        self.max_features = max_features
        self.front_end = CombinedFeatures(sample_rate_hz=sample_rate_hz)
        self.statistics = build_statistics(normalize, self.front_end.num_features)
        self.selected: Tensor
        self.register_buffer("selected", torch.ones(self.front_end.num_features, dtype=torch.bool))
        self.lstm = nn.LSTM(
            self.front_end.num_features, hidden, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0
        )
        self.head = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(2 * hidden, dense), nn.ReLU(), nn.Linear(dense, num_classes)
        )

    def prepare(self, batches: Iterable[Batch]) -> None:
        means, deviations, labels = [], [], []

        def frames() -> Iterator[tuple[Tensor, Tensor]]:
            for batch in batches:
                x, mask = self._describe(batch)
                present = mask.any(dim=1)
                mean, deviation = clip_statistics(x, mask)
                means.append(mean[present].cpu())
                deviations.append(deviation[present].cpu())
                labels.append(_labels(batch).cpu()[present.cpu()])
                yield x, mask

        self.statistics.fit(frames())
        if self.selection == "none":
            return
        label = torch.cat(labels).numpy()
        known = label >= 0
        mean, deviation = (torch.cat(values).double().numpy()[known] for values in (means, deviations))
        chosen, how = self._choose(mean, deviation, label[known])
        self.selected.fill_(not chosen)
        self.selected[chosen] = True
        names = ", ".join(self.front_end.names[column] for column in chosen)
        count = len(self.selected)
        self.notes.append(
            f"{len(chosen)} of {count} features chosen {how}: {names}"
            if chosen
            else f"no feature of {count} chosen {how}: all are kept"
        )

    def forward(self, batch: Batch) -> Output:
        x, mask = self._describe(batch)
        x = self.statistics(x, mask) * self.selected
        lengths = mask.sum(dim=1).clamp(min=1)
        hidden = self.lstm(x)[0] * mask[..., None]  # (B, T, D); it runs forward only, so padding reaches no real step
        share = mask.to(hidden.dtype) / lengths[:, None]
        mean = torch.einsum("bt,btd->bd", share, hidden)
        highest, where = hidden.masked_fill(~mask[..., None], float("-inf")).max(dim=1)
        highest = highest.masked_fill(~mask.any(dim=1, keepdim=True), 0.0)
        logits = self.head(torch.cat([mean, highest], dim=1))
        maxima = torch.zeros_like(share).scatter_add(1, where, torch.full_like(highest, 1 / hidden.shape[2]))
        weights = (0.5 * share + 0.5 * maxima) * mask
        steps = torch.arange(mask.shape[1], device=mask.device, dtype=torch.float32).expand(mask.shape)
        attended = Attended(
            sequence=hidden,
            weights=weights,
            step_logits=self.head(torch.cat([hidden, hidden], dim=2)) * mask[..., None],
            times=self.front_end.offset_s + self.front_end.hop_s * steps,
            mask=mask,
            pooled=0.5 * (mean + highest),
            logits=logits,
        )
        return Output(logits, {AUDIO: attended})

    def _describe(self, batch: Batch) -> tuple[Tensor, Tensor]:
        if batch.waveform is None or batch.waveform_mask is None:
            raise ValueError("ByunFeatRnn reads the voice; this batch has no waveform")
        # Measured as precisely as for `statistics`, whatever the precision of training.
        with torch.autocast(batch.waveform.device.type, enabled=False):
            return self.front_end(batch.waveform, batch.waveform_mask)

    def _choose(self, means: np.ndarray, deviations: np.ndarray, labels: np.ndarray) -> tuple[list[int], str]:
        """The columns to keep, and how they were chosen, in words."""
        if self.selection == "greedy":
            order, uar = choose_greedily(means, deviations, labels, max_features=self.max_features)
            return order, f"greedily by what they add to a linear discriminant (UAR {100 * uar:.1f} within train)"
        chosen = choose_features(
            means,
            deviations,
            labels,
            test=self.selection,
            false_discoveries=self.false_discoveries,
            max_correlation=self.max_correlation,
        )
        return np.flatnonzero(chosen).tolist(), f"by the {self.selection} test"


def _labels(batch: Batch) -> Tensor:
    """(B,) the label of each clip, the largest share of soft ones, -1 where unknown."""
    if batch.labels is not None:
        return batch.labels
    if batch.targets is not None:
        return batch.targets.argmax(dim=1)
    return torch.full((len(batch),), -1)


def clip_statistics(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """(B, T, F) with mask (B, T) -> mean and deviation (B, F) of each feature over the real frames of each clip."""
    real = mask[..., None]
    count = real.sum(dim=1).clamp(min=1)
    mean = (x * real).sum(dim=1) / count
    deviation = (((x - mean[:, None]) * real).square().sum(dim=1) / count).sqrt()
    return mean, deviation


def choose_features(
    means: np.ndarray,
    deviations: np.ndarray,
    labels: np.ndarray,
    *,
    test: str = "kruskal",
    false_discoveries: float = 0.01,
    max_correlation: float = 0.9,
) -> np.ndarray:
    """Which features differ between emotions, and do not say the same.

    A feature is kept if its mean or its deviation over a clip differs between emotions, by the test and the procedure
    of Benjamini & Hochberg over all means and deviations. From the one that differs most, a feature is then dropped
    whose clip means correlate with those of one kept before.

    Args:
        means, deviations: (N, F) of each training clip. labels: (N,) its emotion.
        test: "kruskal" (Kruskal & Wallis, by ranks) or "anova" (one-way).

    Returns:
        (F,) bool; all False for fewer than two emotions with two clips each.
    """
    values = np.concatenate([means, deviations], axis=1)
    groups = [values[labels == label] for label in np.unique(labels) if (labels == label).sum() > 1]
    num_features = means.shape[1]
    if len(groups) < 2:
        return np.zeros(num_features, dtype=bool)
    varies = np.ptp(np.concatenate(groups), axis=0) > 0  # a constant says nothing and makes the tests divide by zero
    strength, p_value = np.zeros(len(varies)), np.ones(len(varies))
    if varies.any():
        strength[varies], p_value[varies] = TESTS[test](*(group[:, varies] for group in groups), axis=0)
        strength, p_value = np.nan_to_num(strength), np.nan_to_num(p_value, nan=1.0)
    differs = stats.false_discovery_control(p_value).reshape(2, -1).min(axis=0) < false_discoveries
    strength = strength.reshape(2, -1).max(axis=0)
    chosen = np.zeros(num_features, dtype=bool)
    centred = means - means.mean(axis=0)
    scaled = centred / np.maximum(np.linalg.norm(centred, axis=0), np.finfo(float).tiny)
    for feature in np.argsort(-strength, kind="stable"):
        similar = np.abs(scaled[:, chosen].T @ scaled[:, feature])
        chosen[feature] = differs[feature] and not (similar > max_correlation).any()
    return chosen


def choose_greedily(
    means: np.ndarray, deviations: np.ndarray, labels: np.ndarray, *, max_features: int = 40, num_folds: int = 5
) -> tuple[list[int], float]:
    """Sequential forward selection: the feature that helps most beside those chosen before, until none helps.

    What helps is what raises the UAR of a linear discriminant of the clips' means and deviations, cross-validated
    within the training clips, so that validation clips do not choose both features and epoch; ties go to the column
    that comes first. Classifier, folds and bounds are our choice, for the paper's are not known to us. Nothing is drawn
    by chance. A batch does not name its speakers, so folds cannot keep them apart: each is a stretch of every emotion's
    clips in their order, which keeps together what the manifest has together.

    Args:
        means, deviations: (N, F) of each training clip. labels: (N,) its emotion.

    Returns:
        the columns in the order of their choice, and the UAR in 0..1 that they were chosen by, which is therefore too
        high for other clips; [] and 0 for fewer than two emotions with a clip for every fold.
    """
    kinds, owner, count = np.unique(labels, return_inverse=True, return_counts=True)
    enough = count >= num_folds
    if enough.sum() < 2:
        return [], 0.0
    kept = enough[owner]
    values = np.concatenate([means, deviations], axis=1)[kept]
    owner = np.searchsorted(kinds[enough], labels[kept])
    fold = np.zeros_like(owner)
    for kind in range(owner.max() + 1):
        for stretch, clips in enumerate(np.array_split(np.flatnonzero(owner == kind), num_folds)):
            fold[clips] = stretch
    folds = [Discriminant.of(values, owner, fold == i) for i in range(num_folds)]
    num_features = means.shape[1]
    chosen: list[int] = []
    best = 1 / enough.sum()  # chance
    while len(chosen) < min(max_features, num_features):
        uars = np.zeros(num_features)
        for feature in set(range(num_features)) - set(chosen):
            columns = np.array([*chosen, feature])
            uars[feature] = _uar(folds, np.concatenate([columns, columns + num_features]))
        if uars.max() <= best:
            break
        chosen.append(int(uars.argmax()))
        best = uars.max()
    return chosen, float(best)


class Discriminant(NamedTuple):
    """What a linear discriminant needs to know of the training part of a fold, and the clips that it is tried on.

    covariance: (D, D) within emotions. centres: (C, D). values: (M, D) of the clips held out. owner: (M,) their
    emotions, 0 to C - 1. All columns are scaled by the training part.
    """

    covariance: np.ndarray
    centres: np.ndarray
    values: np.ndarray
    owner: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, owner: np.ndarray, held_out: np.ndarray) -> Discriminant:
        """values (N, D), owner (N,), held_out (N,) bool."""
        train, own = values[~held_out], owner[~held_out]
        spread = train.std(axis=0)
        mean, spread = train.mean(axis=0), np.where(spread > 0, spread, 1.0)
        train = (train - mean) / spread
        centres = np.stack([train[own == kind].mean(axis=0) for kind in range(owner.max() + 1)])
        within = train - centres[own]
        held = (values[held_out] - mean) / spread
        return cls(within.T @ within / len(within), centres, held, owner[held_out])

    def answers(self, columns: np.ndarray, *, shrinkage: float = 0.1) -> np.ndarray:
        """(M,) the emotion with the nearest centre under the covariance, every emotion being as likely."""
        covariance = (1 - shrinkage) * self.covariance[np.ix_(columns, columns)] + shrinkage * np.eye(len(columns))
        centres = self.centres[:, columns]
        direction = np.linalg.solve(covariance, centres.T)  # (D, C)
        return (self.values[:, columns] @ direction - 0.5 * (centres.T * direction).sum(axis=0)).argmax(axis=1)


def _uar(folds: Sequence[Discriminant], columns: np.ndarray) -> float:
    """Mean recall of the emotions over the clips of all folds, 0..1."""
    owner = np.concatenate([fold.owner for fold in folds])
    right = np.concatenate([fold.answers(columns) == fold.owner for fold in folds])
    return float(np.mean(np.bincount(owner, weights=right) / np.bincount(owner)))
