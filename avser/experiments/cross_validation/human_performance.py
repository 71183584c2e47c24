"""How well people recognise the emotions of a corpus: as published, and by the votes on the very clips of a test."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from avser.data.groups import speaker_key
from avser.data.manifest import ClipRow
from avser.evaluation.statistics import Interval, clustered_interval
from avser.experiments.votes.study import count_votes
from avser.structures import AUDIO, FUSED, VIDEO


@dataclass(frozen=True)
class HumanScore:
    """How often people chose the emotion that was meant, in percent.

    Attributes:
        modality: what they were given: "audio", "video" or "fused" for both.
        wa: over all clips.
        uar: mean of the emotions; None where it is not known.
        num_emotions: that the clips show.
        source: the publication, or which votes.
        remark: what is known of it.
    """

    modality: str
    wa: Interval
    uar: Interval | None
    num_emotions: int
    source: str
    remark: str = ""


def _published(modality: str, percent: float, num_emotions: int, source: str, remark: str) -> HumanScore:
    wa = Interval(percent, float("nan"), float("nan"))
    return HumanScore(modality, wa, None, num_emotions, source, remark)


_CAO = "Cao et al. 2014", "CREMA-D, abstract; against the intended emotion, over all clips of the corpus"
_LUNA = (
    "Luna-Jiménez et al. 2021",
    "github.com/cristinalunaj/MMEmotionRecognition, which quotes it for RAVDESS; not checked against the publication "
    "of the corpus",
)
# Corpus, as manifests name it -> published scores. One that nobody could look up has no place here.
PUBLISHED: dict[str, tuple[HumanScore, ...]] = {
    "cremad": (_published(AUDIO, 40.9, 6, *_CAO), _published(VIDEO, 58.2, 6, *_CAO), _published(FUSED, 63.6, 6, *_CAO)),
    "ravdess": (_published(AUDIO, 67.0, 8, *_LUNA), _published(VIDEO, 75.0, 8, *_LUNA)),
}


def published_scores(corpora: Iterable[str]) -> list[HumanScore]:
    """What is published for these corpora, if it is one; of several nobody has published a score together."""
    names = set(corpora)
    return list(PUBLISHED.get(names.pop(), ())) if len(names) == 1 else []


def voted_scores(rows: Sequence[ClipRow], emotions: Sequence[str], merge: Mapping[str, str]) -> list[HumanScore]:
    """How often a single vote on these clips is the clip's own emotion, for each modality that has votes.

    A vote for an emotion outside the label set is a wrong one. Intervals are 95 %, clustered by speaker.

    Args:
        rows: clips with the emotions that they count as.
        merge: emotions that votes count as others.
    """
    found = []
    for modality in (AUDIO, VIDEO, FUSED):
        kept, pairs = [], []
        for row in rows:
            votes, num_outside = count_votes(row, modality, emotions, merge)
            if row.emotion in emotions and votes.sum() + num_outside > 0:
                label = list(emotions).index(row.emotion)
                kept.append(row)
                pairs.append((label, votes[label] / (votes.sum() + num_outside)))
        if not kept:
            continue
        table, speakers = np.array(pairs), [speaker_key(row) for row in kept]
        wa, uar = (_percent(clustered_interval(table, speakers, score)) for score in (_mean_share, _mean_of_emotions))
        num_emotions = len(np.unique(table[:, 0]))
        found.append(HumanScore(modality, wa, uar, num_emotions, f"votes on {len(kept)} test clips"))
    return found


def _mean_share(table: np.ndarray) -> float:
    return float(table[:, 1].mean())


def _mean_of_emotions(table: np.ndarray) -> float:
    return float(np.mean([table[table[:, 0] == k, 1].mean() for k in np.unique(table[:, 0])]))


def _percent(found: Interval) -> Interval:
    return Interval(100 * found.value, 100 * found.low, 100 * found.high)
