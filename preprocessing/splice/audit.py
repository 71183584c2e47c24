"""Tries to find the joins: `python -m preprocessing.splice.audit MANIFEST` trains classifiers on join against no join.

Neutral takes are spliced into neutral ones, so that no emotion helps. A window around each join stands against windows
of the two unspliced takes around the very places where they were cut: chosen by the same rule, they differ in nothing
but the join. As a control of the test itself, the same classifiers look for naive joins of the same takes: cut
anywhere in the speech, put together without a cross-fade, at the levels of the recordings.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import joblib
import numpy as np
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from avser.data.manifest import Manifest, read_manifest
from avser.errors import AvserError, ManifestError
from avser.evaluation.statistics import Interval, clustered_interval
from preprocessing.encoding import to_16_bits
from preprocessing.report import LeftOut
from preprocessing.splice.pairing import (
    NEUTRAL,
    Settings,
    Slot,
    Splice,
    Take,
    cast_takes,
    deal_slots,
    make_splices,
)
from preprocessing.splice.voice import HOP_S, Voice

NUM_FOLDS = 6
HALF_S = 0.125  # of a window
MARGIN_S = 0.2  # naive cuts keep away from the ends of the speech
KINDS = ("spliced", "naive")

Window = tuple[bool, np.ndarray]  # whether there is a join, and the features


def collect_windows(
    manifest: Manifest, *, rounds: int, seed: int = 0, workers: int = 1
) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Kind of join ("spliced", "naive") -> features (N, D), joined (N,) bool, speakers (N,), from clips never written.

    Args:
        rounds: clips of each speaker.
        workers: processes.

    Raises:
        ManifestError: fewer than NUM_FOLDS speakers have two neutral takes.
    """
    cast = cast_takes(manifest)
    num_speakers = len(deal_slots(cast, Settings(), [NEUTRAL]))
    if num_speakers < NUM_FOLDS:
        raise ManifestError(f"{num_speakers} speakers have two neutral takes; the audit needs {NUM_FOLDS} of them")
    settings = Settings(count=rounds * num_speakers, seed=seed)
    slots = deal_slots(cast, settings, [NEUTRAL])
    jobs = [
        joblib.delayed(_windows_of)(
            manifest, cast.takes[speaker][NEUTRAL], slots[speaker], settings, cast.sample_rate_hz
        )
        for speaker in slots
    ]
    found = joblib.Parallel(n_jobs=workers)(jobs)
    return {
        kind: (
            np.array([features for part in found for _, features in part[kind]]),
            np.array([joined for part in found for joined, _ in part[kind]]),
            np.array([speaker[1] for speaker, part in zip(slots, found, strict=True) for _ in part[kind]]),
        )
        for kind in KINDS
    }


def measure(features: np.ndarray, joined: np.ndarray, speakers: np.ndarray) -> dict[str, Interval]:
    """Classifier -> area under the ROC curve on speakers it was not trained on; 0.5 where joins cannot be found.

    The intervals resample whole speakers.
    """
    classifiers = {
        "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500)),
        "extra trees": ExtraTreesClassifier(200, min_samples_leaf=3, random_state=0),
        "gradient boosting": HistGradientBoostingClassifier(max_iter=60, max_depth=4, random_state=0),
    }
    results = {}
    for name, classifier in classifiers.items():
        folds = GroupKFold(NUM_FOLDS)
        scores = cross_val_predict(classifier, features, joined, groups=speakers, cv=folds, method="predict_proba")[
            :, 1
        ]
        pairs = np.column_stack([joined, scores])
        results[name] = clustered_interval(pairs, list(speakers), _area, num_resamples=500)
    return results


def _area(pairs: np.ndarray) -> float:
    return float(roc_auc_score(pairs[:, 0], pairs[:, 1]))


# --- windows -----------------------------------------------------------------------------------------------------


def _windows_of(
    manifest: Manifest, takes: Sequence[Take], slots: Sequence[Slot], settings: Settings, rate: int
) -> dict[str, list[Window]]:
    found: dict[str, list[Window]] = {kind: [] for kind in KINDS}
    rng = np.random.default_rng([settings.seed, slots[0].number])
    for splice in make_splices(manifest, {NEUTRAL: takes}, slots, settings, rate):
        if not isinstance(splice, LeftOut):
            found["spliced"] += _around_joins(splice)
            found["naive"] += _around_naive_join(splice, rng)
    return found


def _around_joins(splice: Splice) -> Iterator[Window]:
    rounded = Voice(to_16_bits(splice.waveform) / 32768, splice.voices[0].sample_rate_hz)
    for at, (before, after) in zip(splice.joins, pairwise(splice.plan.pieces), strict=True):
        yield True, describe(rounded, at)
        yield False, describe(splice.voices[before.source], before.stop)
        yield False, describe(splice.voices[after.source], after.start)


def _around_naive_join(splice: Splice, rng: np.random.Generator) -> Iterator[Window]:
    rate = splice.voices[0].sample_rate_hz
    spans = [(begin + MARGIN_S, end - MARGIN_S) for begin, end in (voice.speech_s for voice in splice.voices)]
    leave, arrive = (round(rng.uniform(*span) * rate) for span in spans)
    first, second = (voice.waveform for voice in splice.voices)
    yield True, describe(Voice(np.concatenate([first[:leave], second[arrive:]]), rate), leave)
    yield False, describe(splice.voices[0], leave)
    yield False, describe(splice.voices[1], arrive)


# --- features ----------------------------------------------------------------------------------------------------


def describe(voice: Voice, at: int) -> np.ndarray:
    """(D,) what a window around a sample sounds like, and what changes in its middle."""
    return np.concatenate(list(features_by_group(voice, at).values()))


def features_by_group(voice: Voice, at: int) -> dict[str, np.ndarray]:
    """spectrum, change, flux, level, waveform, noise, pitch -> numbers of the 2 * HALF_S around a sample."""
    rate = voice.sample_rate_hz
    half = round(HALF_S * rate)
    cut = Voice(np.pad(voice.waveform, half)[at : at + 2 * half], rate)
    bands, level = cut.bands_db, cut.level_db  # (T, F), (T,)
    middle = len(bands) // 2
    blocks = np.array([block.mean(axis=0) for block in np.array_split(bands.reshape(len(bands), 12, -1).mean(2), 8)])
    sides = blocks[4:].mean(axis=0) - blocks[:4].mean(axis=0)
    floors = np.array([np.percentile(side, 10, axis=0) for side in (bands[:middle], bands[middle:])])
    return {
        "spectrum": blocks.ravel(),
        "change": np.concatenate([blocks[4] - blocks[3], np.abs(blocks[4] - blocks[3]), sides, np.abs(sides)]),
        "flux": _flux(bands, middle),
        "level": _fine_level(cut.waveform, rate),
        "waveform": _roughness(cut.waveform, rate),
        "noise": np.concatenate(
            [floors.mean(axis=1), (floors[1] - floors[0])[::2], np.abs(floors[1] - floors[0])[::2]]
        ),
        "pitch": _pitch_change(cut, level, middle),
    }


def _flux(bands: np.ndarray, middle: int) -> np.ndarray:
    """Root mean square change of the spectrum from frame to frame; its extremes in the middle, against the rest."""
    flux = np.sqrt(np.mean(np.diff(bands, axis=0) ** 2, axis=1))
    near = flux[middle - 5 : middle + 5]
    return np.concatenate([flux[middle - 12 : middle + 12], [near.max(), near.min(), near.mean() - np.median(flux)]])


def _fine_level(waveform: np.ndarray, rate: int) -> np.ndarray:
    """dB of each 2 ms within 24 ms of the middle."""
    size, middle = round(0.002 * rate), len(waveform) // 2
    near = waveform[middle - 12 * size : middle + 12 * size].reshape(24, size)
    return 10 * np.log10(np.mean(near**2, axis=1) + 1e-11)


def _roughness(waveform: np.ndarray, rate: int) -> np.ndarray:
    """Largest first to third difference within 1 ms and 15 ms of the middle, alone and against the rest."""
    found = []
    for order in (1, 2, 3):
        steps, middle = np.abs(np.diff(waveform, order)), len(waveform) // 2
        for reach in (round(0.001 * rate), round(0.015 * rate)):
            near = steps[middle - reach : middle + reach]
            rest = np.concatenate([steps[: middle - 2 * reach], steps[middle + 2 * reach :]])
            peak, usual = np.log(near.max() + 1e-6), np.log(np.sqrt(np.mean(near**2)) + 1e-6)
            found += [peak, peak - usual, peak - np.log(np.percentile(rest, 95) + 1e-6)]
    return np.array(found)


def _pitch_change(cut: Voice, level: np.ndarray, middle: int) -> np.ndarray:
    """Pitch before and after in octaves, its jump, and the jump of the level."""
    reach = round(0.06 / HOP_S)
    before, after = (np.median(part) for part in np.split(cut.pitch_octaves, [middle]))
    near = np.median(cut.pitch_octaves[middle : middle + reach]) - np.median(cut.pitch_octaves[middle - reach : middle])
    jump = level[middle:].max() - level[:middle].max()
    return np.array([before, after, after - before, abs(after - before), near, abs(near), jump, abs(jump)])


# --- the door ----------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table of areas; 1 with a sentence on stderr where it cannot be made."""
    parser = argparse.ArgumentParser(prog="python -m preprocessing.splice.audit", description=__doc__)
    parser.add_argument("manifest", type=Path, help="of a corpus with two or more neutral takes of each speaker")
    parser.add_argument("--rounds", type=int, default=24, help="clips of each speaker; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--workers", type=int, default=2, help="processes; default: %(default)s")
    args = parser.parse_args(arguments)
    try:
        windows = collect_windows(
            read_manifest(args.manifest), rounds=args.rounds, seed=args.seed, workers=args.workers
        )
    except (AvserError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print("area under the ROC curve, join against no join, on unseen speakers (95 % interval over speakers)")
    for kind, (features, joined, speakers) in windows.items():
        print(f"{kind}: {np.count_nonzero(joined)} joins, {np.count_nonzero(~joined)} windows without")
        for name, area in measure(features, joined, speakers).items():
            print(f"  {name:20} {area:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
