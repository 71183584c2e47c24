"""What a study of faithfulness found, and the sentences that say it to a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from avser.evaluation.statistics import Interval
from avser.roi.salience.sources import SOURCES
from avser.roi.trust.controls import CONTROLS

LEVEL = 0.05
MAIN = "comprehensiveness"  # the measure that the verdict rests on
# Measure -> on which side of a control a faithful salience lies.
BETTER = {MAIN: "greater", "sufficiency": "less", "deletion_auc": "less", "insertion_auc": "greater"}
LEAST_TAU = 0.3  # agreement between seeds below which a salience is not to be interpreted
MOST_RHO = 0.5  # agreement with randomised weights above which a salience is said to ignore them (our choice)


@dataclass
class Course:
    """The answer's probability while the top moments go and come: L shares of the clip, 0 to 1.

    Attributes:
        without, alone: probability without that share of the moments, and with nothing else.
    """

    shares: list[float]
    without: list[float]
    alone: list[float]


@dataclass
class Score:
    """One salience or control under one operator: means over speakers of the means of their clips.

    Attributes:
        name: of the salience or control.
        measures: a key of `BETTER` -> interval over speakers.
        by_fraction: share of the clip -> comprehensiveness and sufficiency.
        course: the probability while moments go and come, means over speakers.
    """

    name: str
    is_control: bool
    operator: str
    measures: dict[str, Interval]
    by_fraction: dict[float, tuple[float, float]]
    course: Course


@dataclass
class Contrast:
    """A salience against a control by one measure under one operator.

    Attributes:
        measure: a key of `BETTER`.
        difference: salience minus control, paired by clip, mean over the means of speakers.
        p_value: that the salience is no better: one-sided sign-flip test over speakers.
        holm_p: the same after Holm over the controls.
    """

    source: str
    control: str
    operator: str
    measure: str
    difference: Interval
    p_value: float
    holm_p: float = float("nan")


@dataclass
class Verdict:
    """Whether a salience may be read as naming causes.

    Attributes:
        is_degenerate: its curve says nothing about when in any clip, so there is nothing to be believed.
        beats_controls: it is more comprehensive than every control under every operator, each p <= 0.05 after Holm.
        not_beaten: controls for which that does not hold.
        can_tell: there are speakers enough for any difference, however large, to be significant.
    """

    source: str
    is_degenerate: bool
    beats_controls: bool
    not_beaten: list[str]
    can_tell: bool


@dataclass
class WeightCheck:
    """A salience beside itself once that share of the layers is randomised: medians over clips of rank correlations.

    Attributes:
        num_clips: those whose curve has a shape.
    """

    source: str
    share: float
    kendall: float
    spearman: float
    num_clips: int


@dataclass
class SeedCheck:
    """Kendall's tau between models that differ in the seed of their training, mean over pairs, clips and speakers.

    Attributes:
        num_models: of one fold, the fold with most.
        num_clips: those of which several models were asked, and whose curves have a shape.
    """

    source: str
    tau: Interval
    num_models: int
    num_clips: int


@dataclass
class FaithfulnessStudy:
    """What was found in a set of clips.

    Attributes:
        runs: whose salience it is: one or several, e.g. folds and seeds of one system.
        verdicts: salience -> verdict.
        degenerate: salience -> clips whose curve says nothing about when, and why; they count as all others do.
        left_out: clip -> why.
    """

    runs: list[str]
    modality: str
    num_clips: int
    num_speakers: int
    cell_s: float
    fractions: list[float]
    scores: list[Score] = field(default_factory=list)
    contrasts: list[Contrast] = field(default_factory=list)
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    weight_checks: list[WeightCheck] = field(default_factory=list)
    seed_checks: list[SeedCheck] = field(default_factory=list)
    degenerate: dict[str, dict[str, str]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def whose(self) -> str:
        return "this model" if len(self.runs) < 2 else f"these {len(self.runs)} models"

    @property
    def operators(self) -> list[str]:
        return list(dict.fromkeys(score.operator for score in self.scores))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, and the sentences."""
        return {"sentences": self.sentences(), **asdict(self)}

    def sentences(self) -> list[str]:
        """What was found, for a person who reads nothing else: verdicts first."""
        found = [_verdict_sentence(self, verdict) for verdict in self.verdicts.values()]
        for source, clips in self.degenerate.items():
            if clips and not self.verdicts[source].is_degenerate:
                found.append(
                    f"The {source_words(source)} is degenerate in {len(clips)} of {self.num_clips} clips, e.g. "
                    f"{next(iter(clips))}: {next(iter(clips.values()))}."
                )
        found += [_weight_sentence(check) for check in self.weight_checks if check.share == 1]
        found += [_seed_sentence(check) for check in self.seed_checks]
        if self.left_out:
            found.append(f"{len(self.left_out)} clips were left out, e.g. {next(iter(self.left_out.items()))}.")
        return found


def source_words(source: str) -> str:
    return SOURCES[source].words if source in SOURCES else source


def control_words(control: str, modality: str) -> str:
    return CONTROLS[control].words[modality] if control in CONTROLS else "the same of a model of permuted labels"


# --- sentences ----------------------------------------------------------------------------------------------------


def _verdict_sentence(study: FaithfulnessStudy, verdict: Verdict) -> str:
    words, who = source_words(verdict.source), f"{study.num_clips} clips of {study.num_speakers} speakers"
    if verdict.is_degenerate:
        reason = next(iter(study.degenerate[verdict.source].values()))
        return (
            f"The {words} of {study.whose} says nothing about when, in any of {who}, e.g. because {reason}: there are "
            "no moments to tell apart, and nothing below is to be read as if there were."
        )
    if not verdict.can_tell:
        return (
            f"{who}: too few speakers to tell whether the {words} of {study.whose} is more faithful than its controls; "
            "until that is known do not read its regions as causes."
        )
    if not verdict.beats_controls:
        against = _list([control_words(name, study.modality) for name in verdict.not_beaten], "or")
        return (
            f"The {words} of {study.whose} is not more faithful than {against}: do not read its regions as causes "
            f"({who})."
        )
    controls = dict.fromkeys(c.control for c in study.contrasts if c.source == verdict.source)
    beaten = _list([control_words(name, study.modality) for name in controls])
    return (
        f"The {words} of {study.whose} is more faithful than {beaten}: "
        f"without its top moments the answer loses more, whether these are replaced by {_list(study.operators, 'or')} "
        f"({who})."
    )


def _weight_sentence(check: WeightCheck) -> str:
    words, told = source_words(check.source), f"median Spearman {check.spearman:.2f} over {check.num_clips} clips"
    if not np.isfinite(check.spearman):
        return f"Whether the {words} depends on the weights cannot be told: no curve has a shape."
    if check.spearman > MOST_RHO:
        return (
            f"The {words} hardly changes when all weights are drawn anew ({told}): it shows the input rather than what "
            "the model learned."
        )
    return f"The {words} changes when all weights are drawn anew ({told}), as it should."


def _seed_sentence(check: SeedCheck) -> str:
    words = source_words(check.source)
    told = f"Kendall's tau {check.tau:.2f} between {check.num_models} models of one fold, {check.num_clips} clips"
    if not check.tau.value >= LEAST_TAU:
        return f"Models that differ in their seed alone do not agree on the {words} ({told}): do not interpret it."
    return f"Models that differ in their seed alone agree on the {words} ({told})."


def _list(words: Sequence[str], last: str = "and") -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"
