"""Do the moments of voice and face coincide over many clips, more than chance would have it, and who leads?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from avser.data.groups import speaker_key
from avser.data.manifest import ClipRow
from avser.errors import AvserError
from avser.evaluation.multiple_tests import benjamini_hochberg, holm, sign_flip
from avser.evaluation.statistics import Interval, clustered_interval
from avser.roi.alignment.compare import Alignment, CurvePair, align_curves, measure_pair
from avser.roi.alignment.curve_stack import TAILS, CurveStack, stack_pairs
from avser.roi.alignment.nulls import NULLS, NullTest, compare_with_null
from avser.structures import Curve

MAIN_NULL = "re-pairing"
WEAK_R = 0.3  # below this best correlation the lag of a clip means nothing
# Field of `Alignment` -> what a lead by it means.
LEADS = {
    "lag_s": "shift of the best correlation",
    "onset_difference_s": "onsets",
    "peak_difference_s": "peaks",
    "centroid_difference_s": "centres of mass",
}
ALL = "all clips"


@dataclass
class Stratum:
    """One measure of the clips that share something, against the main null model.

    Attributes:
        kind, value: e.g. "emotion" and "fear"; kinds are emotion, intensity, sentence and answer.
        tail: "greater" or "less": on which side the aligned pairs lie.
        observed, chance: mean over clips.
        difference: observed minus chance, with an interval clustered by speaker.
        p_value: one-sided sign-flip test over speakers.
        q_value: p-value after Benjamini & Hochberg over all values and measures of this kind.
    """

    kind: str
    value: str
    measure: str
    tail: str
    observed: float
    chance: float
    difference: Interval
    p_value: float
    q_value: float
    num_clips: int
    num_speakers: int


@dataclass
class Lead:
    """Who comes first, by one way to tell, over some clips.

    Attributes:
        measure: field of `Alignment`, one of `LEADS`.
        emotion: or "all clips".
        seconds: mean, voice minus face, so above 0 the face leads; with an interval clustered by speaker.
        face_first: share of the clips in which the face leads, of those where either does.
        p_value: two-sided sign-flip test over speakers.
        q_value: p-value after Benjamini & Hochberg over emotions and ways to tell; None for all clips.
    """

    measure: str
    emotion: str
    seconds: Interval
    face_first: float
    p_value: float
    q_value: float | None
    num_clips: int
    num_speakers: int


@dataclass
class AlignmentStudy:
    """What was found in a set of clips.

    Attributes:
        clips: clip -> measures between its curves, in seconds of the clip.
        left_out: clip -> why its curves could not be compared.
        nulls: null model -> what all clips together say against it.
        strata: emotions, intensities, sentences, right and wrong answers against re-pairing.
        leads: who comes first, over all clips and by emotion.
        holm_p: measure -> p-value over speakers against re-pairing, after Holm over the measures.
        notes: null models that could not be applied, and why.
    """

    clips: dict[str, Alignment]
    left_out: dict[str, str] = field(default_factory=dict)
    nulls: dict[str, NullTest] = field(default_factory=dict)
    strata: list[Stratum] = field(default_factory=list)
    leads: list[Lead] = field(default_factory=list)
    holm_p: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, without the measures of single clips."""
        return {
            "num_clips": len(self.clips),
            "left_out": self.left_out,
            "nulls": {name: test.to_dict() for name, test in self.nulls.items()},
            "strata": [asdict(stratum) for stratum in self.strata],
            "leads": [asdict(lead) for lead in self.leads],
            "holm_p": self.holm_p,
            "notes": self.notes,
        }


def study_alignment(
    curves: Mapping[str, tuple[Curve, Curve]],
    rows: Mapping[str, ClipRow],
    *,
    correct: Mapping[str, bool] | None = None,
    controls: Mapping[str, Sequence[Curve]] | None = None,
    nulls: Sequence[str] = tuple(NULLS),
    num_permutations: int = 9999,
    num_resamples: int = 2000,
    seed: int = 0,
) -> AlignmentStudy:
    """Measure every clip, and compare the clips with null models: clip, then mean of the speaker, then sign flips.

    Args:
        curves: clip -> salience of the voice and of the face. They should come from models that read one modality each:
            streams that exchanged information are no independent evidence.
        rows: clip -> speaker, emotion, sentence and intensity (those that the corpus has not may be empty).
        correct: clip -> whether the answer was right, where known.
        controls: clip -> levels to take out of both curves (`avser.roi.alignment.compare.measure_alignment`).

    Raises:
        AvserError: no clip has two curves that can be compared.
    """
    pairs: dict[str, CurvePair] = {}
    study = AlignmentStudy({})
    for clip_id, (voice, face) in curves.items():
        try:
            pairs[clip_id] = align_curves(voice, face, controls=(controls or {}).get(clip_id, ()))
            study.clips[clip_id] = measure_pair(pairs[clip_id])
        except AvserError as error:
            study.left_out[clip_id] = str(error)
    if not pairs:
        raise AvserError(f"none of {len(curves)} clips has curves of voice and face that can be compared")
    used = [rows[clip_id] for clip_id in pairs]
    stack = stack_pairs(
        list(pairs.values()), [speaker_key(r) for r in used], [r.emotion for r in used], [r.sentence for r in used]
    )
    for null in nulls:
        _add_null(study, stack, null, num_permutations, num_resamples, seed)
    if main := study.nulls.get(MAIN_NULL):
        adjusted = holm([result.p_speakers for result in main.results.values()])
        study.holm_p = dict(zip(main.results, adjusted.tolist(), strict=True))
        study.strata = compare_strata(main, list(pairs), rows, correct, num_resamples=num_resamples, seed=seed)
    study.leads = find_leads(study.clips, rows, num_resamples=num_resamples, seed=seed)
    return study


def compare_strata(
    test: NullTest,
    clip_ids: Sequence[str],
    rows: Mapping[str, ClipRow],
    correct: Mapping[str, bool] | None = None,
    *,
    num_resamples: int = 2000,
    seed: int = 0,
) -> list[Stratum]:
    """The clips of a test apart by emotion, intensity, sentence and answer; kinds of which there is one value are left
    out, but for the emotion.

    Args:
        clip_ids: of the rows of the stack that was tested.
    """
    tested = [clip_ids[i] for i in test.clips]
    answers = {} if correct is None else {c: "right" if is_right else "wrong" for c, is_right in correct.items()}
    values = {
        "emotion": [rows[c].emotion for c in tested],
        "intensity": [rows[c].intensity for c in tested],
        "sentence": [rows[c].sentence for c in tested],
        "answer": [answers.get(c, "") for c in tested],
    }
    speakers = np.array([speaker_key(rows[c]) for c in tested])
    found = []
    for kind, names in values.items():
        known = sorted(set(names) - {""})
        if len(known) < (1 if kind == "emotion" else 2):
            continue
        of_kind = []
        for value in known:
            here = np.array(names) == value
            of_kind += [_stratum(test, m, kind, value, here, speakers, num_resamples, seed) for m in test.results]
        adjusted = benjamini_hochberg([stratum.p_value for stratum in of_kind])
        for stratum, q in zip(of_kind, adjusted.tolist(), strict=True):
            stratum.q_value = q
        found += of_kind
    return found


def find_leads(
    clips: Mapping[str, Alignment], rows: Mapping[str, ClipRow], *, num_resamples: int = 2000, seed: int = 0
) -> list[Lead]:
    """Who comes first and by how much, over all clips and by emotion.

    The shift of the best correlation counts in clips whose best correlation is at least 0.3. Differences of onsets,
    peaks and centres of mass count in all; they say when each modality tends to speak, which need not mean that its
    moments answer each other: strangers' faces and voices would have the same mean difference.
    """
    by_emotion: dict[str, list[str]] = {ALL: list(clips)}
    for clip_id in clips:
        by_emotion.setdefault(rows[clip_id].emotion, []).append(clip_id)
    found = []
    for measure in LEADS:
        for emotion, members in by_emotion.items():
            told = [c for c in members if measure != "lag_s" or clips[c].r_max >= WEAK_R]
            told = [c for c in told if np.isfinite(getattr(clips[c], measure))]
            if told and emotion:
                found.append(_lead(measure, emotion, told, clips, rows, num_resamples, seed))
    in_emotions = [lead for lead in found if lead.emotion != ALL]
    for lead, q in zip(in_emotions, benjamini_hochberg([x.p_value for x in in_emotions]).tolist(), strict=True):
        lead.q_value = q
    return found


def _add_null(
    study: AlignmentStudy, stack: CurveStack, null: str, num_permutations: int, num_resamples: int, seed: int
) -> None:
    try:
        test = compare_with_null(stack, null, num_permutations=num_permutations, num_resamples=num_resamples, seed=seed)
    except AvserError as error:
        study.notes.append(f"Voice and face could not be compared with {NULLS[null].words}: {error}.")
        return
    study.nulls[null] = test
    study.notes += [f"Compared with {NULLS[null].words}: {note}." for note in test.notes]


def _stratum(
    test: NullTest,
    measure: str,
    kind: str,
    value: str,
    here: np.ndarray,
    speakers: np.ndarray,
    num_resamples: int,
    seed: int,
) -> Stratum:
    observed, chance, tail = test.observed[measure][here], test.chance[measure][here], TAILS[measure]
    names = speakers[here].tolist()
    return Stratum(
        kind=kind,
        value=value,
        measure=measure,
        tail=tail,
        observed=float(observed.mean()),
        chance=float(chance.mean()),
        difference=clustered_interval(observed - chance, names, num_resamples=num_resamples, seed=seed),
        p_value=sign_flip(observed - chance, names, tail=tail, seed=seed),
        q_value=float("nan"),
        num_clips=len(names),
        num_speakers=len(set(names)),
    )


def _lead(
    measure: str,
    emotion: str,
    members: Sequence[str],
    clips: Mapping[str, Alignment],
    rows: Mapping[str, ClipRow],
    num_resamples: int,
    seed: int,
) -> Lead:
    seconds = np.array([getattr(clips[c], measure) for c in members])
    speakers = [speaker_key(rows[c]) for c in members]
    first = seconds[np.abs(seconds) > 1e-9]
    return Lead(
        measure=measure,
        emotion=emotion,
        seconds=clustered_interval(seconds, speakers, num_resamples=num_resamples, seed=seed),
        face_first=float((first > 0).mean()) if len(first) else 0.5,
        p_value=sign_flip(seconds, speakers, seed=seed),
        q_value=None,
        num_clips=len(members),
        num_speakers=len(set(speakers)),
    )
