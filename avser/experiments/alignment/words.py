"""What a study of alignment found, in sentences with numbers for a person who reads nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from avser.evaluation.statistics import Interval
from avser.experiments.alignment.study import ALL, LEADS, MAIN_NULL, AlignmentStudy, Lead, Stratum
from avser.roi.alignment.compare import Alignment
from avser.roi.alignment.nulls import NULLS, MeasureResult

LEVEL = 0.05
# Measure -> how a sentence calls it, and with which unit.
WORDS = {
    "r0": ("correlation", ""),
    "rho0": ("rank correlation", ""),
    "r_max": ("best correlation within half a second", ""),
    "js": ("Jensen-Shannon divergence", ""),
    "w1_s": ("Wasserstein distance", " s"),
    "dtw_cost": ("distance after warping", ""),
    "iou": ("overlap of the top 20 % of the time", ""),
    "partial_r0": ("correlation without what the controls explain", ""),
}


def describe_alignment(study: AlignmentStudy) -> list[str]:
    """Whether voice and face are aligned more than by chance, in which strata, who leads, what could not be told."""
    return [*_alignment_sentences(study), *_stratum_sentences(study), *_lead_sentences(study), *study.notes]


def _alignment_sentences(study: AlignmentStudy) -> list[str]:
    """Whether voice and face are more alike than in re-paired clips, measure by measure where they are."""
    test = study.nulls.get(MAIN_NULL)
    if test is None:
        return []
    who = f"{len(test.clips)} clips of {test.num_speakers} speakers"
    if len(test.results) * 0.5**test.num_speakers > LEVEL:
        return [f"{who}: too few speakers to tell whether voice and face are aligned; more clips do not help."]
    against = NULLS[MAIN_NULL].words
    aligned = [m for m in test.results if study.holm_p[m] <= LEVEL]
    if not aligned:
        best = min(test.results, key=lambda m: study.holm_p[m])
        return [
            f"Voice and face are no more aligned than {against} ({who}); closest comes the "
            f"{_against_chance(best, test.results[best])}, {_p(study.holm_p[best])} after Holm."
        ]
    start = f"Voice and face are more aligned than {against} by {len(aligned)} of {len(test.results)} measures ({who})."
    return [start] + [
        f"{_against_chance(m, test.results[m]).capitalize()}, {_p(study.holm_p[m])} after Holm." for m in aligned
    ]


def _p(value: float, name: str = "p") -> str:
    return f"{name} = {value:.3f}" if value >= 0.0005 else f"{name} < 0.001"


def _against_chance(measure: str, result: MeasureResult) -> str:
    name, unit = WORDS[measure]
    return (
        f"{name}: {result.observed:.3f}{unit} against {result.chance:.3f}{unit}, difference "
        f"{result.difference:+.3f}{unit}"
    )


def _stratum_sentences(study: AlignmentStudy) -> list[str]:
    """In which strata voice and face are aligned, one sentence a kind."""
    found = []
    for kind in dict.fromkeys(stratum.kind for stratum in study.strata):
        of_kind = [stratum for stratum in study.strata if stratum.kind == kind]
        by_value: dict[str, list[Stratum]] = {}
        for stratum in of_kind:
            if stratum.q_value <= LEVEL:
                by_value.setdefault(stratum.value, []).append(stratum)
        num_values = len({stratum.value for stratum in of_kind})
        if by_value:
            which = "; ".join(f"{value} ({_by_measures(aligned)})" for value, aligned in by_value.items())
            found.append(
                f"By {kind}, more aligned than {NULLS[MAIN_NULL].words} in {len(by_value)} of {num_values}: {which}."
            )
        else:
            found.append(
                f"By {kind}, none of {num_values} is more aligned than {NULLS[MAIN_NULL].words} (all q > {LEVEL})."
            )
    return found


def _by_measures(aligned: Sequence[Stratum]) -> str:
    """One or two by their names; more are counted, and the tables have them one by one."""
    if len(aligned) <= 2:
        return ", ".join(f"{WORDS[stratum.measure][0]} {_p(stratum.q_value, 'q')}" for stratum in aligned)
    return f"{len(aligned)} measures, the weakest {_p(max(stratum.q_value for stratum in aligned), 'q')}"


def _lead_sentences(study: AlignmentStudy) -> list[str]:
    found = [_lead_sentence(lead, study.clips) for lead in study.leads if lead.emotion == ALL]
    for measure, way in LEADS.items():
        told = [(x, x.q_value) for x in study.leads if x.measure == measure and x.q_value is not None]
        which = "; ".join(f"{x.emotion} {x.seconds:+.3f} s, {_p(q, 'q')}" for x, q in told if q <= LEVEL)
        if which:
            found.append(f"By emotion, {way} (above 0: the face leads): {which}.")
    return found


def _lead_sentence(lead: Lead, clips: Mapping[str, Alignment]) -> str:
    way = f"by {LEADS[lead.measure]}"
    count = f"{lead.num_clips} of {len(clips)} clips, {lead.num_speakers} speakers"
    seconds, sign = lead.seconds, 1
    if lead.seconds.value < 0:
        seconds, sign = Interval(-lead.seconds.value, -lead.seconds.high, -lead.seconds.low), -1
    numbers = f"{seconds:.3f} s, {_p(lead.p_value)} ({way}; {count})"
    if lead.p_value > LEVEL:
        return f"Neither leads: voice minus face is {lead.seconds:+.3f} s, {_p(lead.p_value)} ({way}; {count})."
    leader, share = ("face", lead.face_first) if sign > 0 else ("voice", 1 - lead.face_first)
    return f"The {leader} leads by {numbers}, in {100 * share:.0f} % of the clips in which either does."
