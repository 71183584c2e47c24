"""Say in plain words what was found in a clip: who leads, what disagrees, what the face map and the controls say."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from avser.roi.alignment.compare import COVERAGE, Alignment, chance_coverage_iou, region_lag_s
from avser.roi.intervals import describe_degenerate
from avser.roi.localization import interval_iou
from avser.roi.report.plots import MODALITY_WORDS
from avser.roi.report.view import ClipView, FaithfulnessRow, span_words, within
from avser.roi.salience.sources import SOURCES
from avser.structures import AUDIO, FUSED, MODALITIES, VIDEO

TOGETHER_S = 0.02  # lags below this are within the resolution of the curves
WEAK_R = 0.3  # below this best correlation, a lag means nothing
LEVEL = 0.05  # of a p-value

# field of Alignment -> name in the table, unit, the question it answers, on which side the more alike lie
MEASURES = {
    "r0": ("correlation", "", "the same shape at the same time?", "greater"),
    "rho0": ("rank correlation", "", "the same order of moments?", "greater"),
    "r_max": ("best correlation, shifted", "", "the same shape, earlier or later?", "greater"),
    "lag_s": ("lag of the best correlation", "s", "who leads? above 0: the face", ""),
    "js": ("Jensen-Shannon divergence", "", "how far apart? 0 the same, 1 nothing shared", "less"),
    "w1_s": ("Wasserstein distance", "s", "how far must salience move?", "less"),
    "iou": (f"overlap of the top {100 * COVERAGE:.0f} % of the time", "", "the same moments?", "greater"),
    "onset_difference_s": ("onset, voice minus face", "s", "who starts first? above 0: the face", ""),
    "peak_difference_s": ("peak, voice minus face", "s", "who peaks first? above 0: the face", ""),
    "centroid_difference_s": (
        "centre of mass, voice minus face",
        "s",
        "who is earlier on the whole? above 0: the face",
        "",
    ),
    "audio_effective": ("effective share of the time, voice", "", "how focal? 1 = spread evenly", ""),
    "video_effective": ("effective share of the time, face", "", "how focal? 1 = spread evenly", ""),
    "js_distance": ("Jensen-Shannon distance", "", "the root of the divergence, a metric", "less"),
    "w1_share": ("Wasserstein distance, share of the time", "", "the same for clips of any length", "less"),
    "dtw_cost": ("distance after warping", "sd", "the same shape, if time may stretch a little?", "less"),
    "dtw_warp_s": ("mean displacement of that warping", "s", "how much must it stretch?", ""),
    "partial_r0": ("correlation without the controls", "", "alike beyond loudness and the like?", "greater"),
    "partial_rho0": ("rank correlation without the controls", "", "the same for the order of moments", "greater"),
}
FIRST_MEASURES = ("r0", "r_max", "lag_s", "js", "w1_s", "iou")


def describe_clip(view: ClipView) -> list[str]:
    """Plain sentences about one clip: how voice and face lie to each other, and what each is a mixture of."""
    sentences = []
    if view.alignment is not None:
        sentences.append(_lag_sentence(view.alignment, view.p_values.get("r_max", math.nan)))
    sentences += _region_sentences(view)
    sentences += _episode_sentences(view)
    sentences += _decision_sentences(view)
    sentences += _place_sentences(view)
    sentences += [_mixture_sentence(view, m) for m in MODALITIES if m in view.mixture and view.mixture[m].any()]
    return sentences


def describe_measure(key: str, value: float, p_value: float | None) -> str:
    """What one measure of alignment says; the question that it answers where it was not tested."""
    _, _, question, tail = MEASURES[key]
    if not math.isfinite(value):
        return "cannot be told: a curve is flat"
    if p_value is None or not math.isfinite(p_value) or not tail:
        return question
    return "more alike than chance would have it" if p_value < LEVEL else "no more alike than by chance"


def alignment_rows(view: ClipView) -> list[dict]:
    """The table of alignment: one dict a measure that was taken, the plainest ones first."""
    if view.alignment is None:
        return []
    chance = {"iou": chance_coverage_iou(), **view.chance}
    rows = []
    for key, (name, unit, _, _) in MEASURES.items():
        value = getattr(view.alignment, key)
        if value is not None:
            p_value = view.p_values.get(key)
            says = describe_measure(key, value, p_value)
            row = {"name": name, "unit": unit, "value": value, "chance": chance.get(key), "p_value": p_value}
            rows.append({**row, "says": says, "first": key in FIRST_MEASURES})
    return sorted(rows, key=lambda row: not row["first"])


def source_words(source: str) -> str:
    """The name of a salience in words; one that is not ours stays as it is."""
    return SOURCES[source].words if source in SOURCES else source


def faithfulness_warnings(rows: Sequence[FaithfulnessRow], source: str = "") -> list[str]:
    """A sentence for each salience that does not beat its controls, or that could not (a row's own verdict).

    Args:
        source: look at this one alone; all by default.
    """
    return [_faithfulness_warning(row) for row in rows if not row.is_faithful and source in ("", row.source)]


def _faithfulness_warning(row: FaithfulnessRow) -> str:
    whose = f"The {MODALITY_WORDS.get(row.modality, row.modality)} salience ({source_words(row.source)})"
    if row.verdict:
        return f"{whose} {row.verdict}."
    strongest = f" (the strongest: {row.control_name})" if row.control_name else ""
    return (
        f"{whose} does not beat its controls{strongest}: what it marks carried the answer no more than other moments "
        "did."
    )


def degenerate_warnings(view: ClipView) -> list[str]:
    """A curve without shape must not be read, whoever made the view."""
    reasons = {m: describe_degenerate(curve) for m, curve in view.salience.items()}
    return [
        f"The {MODALITY_WORDS.get(m, m)} salience says nothing about when: {reason}."
        for m, reason in reasons.items()
        if reason
    ]


def _lag_sentence(alignment: Alignment, p_value: float) -> str:
    if not alignment.r_max >= WEAK_R:
        return "No shift of up to half a second brings the two curves together."
    if abs(alignment.lag_s) < TOGETHER_S:
        said = "Voice and face move together"
    else:
        first, second = ("face", "voice") if alignment.lag_s > 0 else ("voice", "face")
        said = f"The {first} leads the {second} by {abs(alignment.lag_s):.2f} s"
    if not math.isfinite(p_value):
        return f"{said}."
    doubt = "" if p_value < LEVEL else ", but curves that have nothing to do with each other would fit as well"
    return f"{said}{doubt} (p = {p_value:.2g})."


def _region_sentences(view: ClipView) -> list[str]:
    sentences = []
    audio, video = (view.regions.get(m, []) for m in MODALITIES)
    if audio and video:
        p_value = view.p_values.get("iou", math.nan)
        than = "more than chance would" if p_value < LEVEL else "no more than chance would"
        said = f"; their strongest moments coincide {than} (p = {p_value:.2g})" if math.isfinite(p_value) else ""
        sentences.append(f"Their regions overlap by {100 * interval_iou(audio, video):.0f} % of their union{said}.")
    planted = region_lag_s(view.truth.get(AUDIO, []), view.truth.get(VIDEO, []))
    if not math.isnan(planted):
        found = region_lag_s(audio, video)
        got = "none found" if math.isnan(found) else f"found {found:+.2f} s between the strongest regions"
        sentences.append(f"True lag {planted:+.2f} s, {got} (above 0: the face leads).")
    return sentences


def _episode_sentences(view: ClipView) -> list[str]:
    if not view.episodes:
        return []
    longest = max(view.episodes, key=lambda e: e.duration_s)
    total = within(sum(e.duration_s for e in view.episodes), view.duration_s)
    where = f"from {span_words(longest.start_s, longest.end_s, view.duration_s)}"
    says = f"voice {view.emotions[longest.voice_emotion]}, face {view.emotions[longest.face_emotion]}"
    if len(view.episodes) == 1:
        return [f"Voice and face disagree {where}: {says}."]
    return [f"Voice and face disagree for {total:.2f} s in all, longest {where}: {says}."]


def _decision_sentences(view: ClipView) -> list[str]:
    words = {AUDIO: "by the voice", VIDEO: "by the face", FUSED: "by both"}
    parts = [
        f"{words[m]} {'from the start' if settled_s <= 0 else f'after {within(settled_s, view.duration_s):.2f} s'}"
        for m in words
        if math.isfinite(settled_s := view.decision.get(m, math.nan))
    ]
    return [f"The answer is settled {', '.join(parts)}."] if parts else []


def _place_sentences(view: ClipView) -> list[str]:
    means = {place: _mean(share) for place, (_, share) in view.places.items()}
    known = {place: mean for place, mean in means.items() if math.isfinite(mean)}
    if not known:
        return []
    place = max(known, key=lambda p: known[p])
    return [f"In the face, the largest share of what counted lies in the {place} ({100 * known[place]:.0f} %)."]


def _mean(share: np.ndarray) -> float:
    some = np.asarray(share, dtype=float)
    some = some[np.isfinite(some)]
    return float(some.mean()) if len(some) else math.nan


def _mixture_sentence(view: ClipView, modality: str) -> str:
    shares = view.mixture[modality]
    first, *others = (-shares).argsort(kind="stable")[:3]
    strongest = [first, *(i for i in others if shares[i] >= 0.1)]
    parts = ", ".join(f"{100 * shares[i]:.0f} % {view.emotions[i]}" for i in strongest)
    return f"As a mixture, the {MODALITY_WORDS[modality]} is {parts}."
