"""Cells of an ablation: compared over what they share, and only where the same was asked."""

from __future__ import annotations

import numpy as np
import pytest

from avser.config import Config
from avser.evaluation.multiple_tests import holm
from avser.evaluation.pooled import compare_pools, mean_uar
from avser.experiments.ablation.plan import GridCell
from avser.experiments.ablation.scores import APART, CellResult, modality_shares, score_cells
from avser.experiments.runs.result import Answers, RunResult, Runs, pool_answers

EMOTIONS = ["anger", "fear", "joy"]
SOME = slice(3, 20)


def answers(number: int, right: float, *, clips: slice = slice(None), fold: int = 0) -> Answers:
    """To 24 clips of 6 speakers, right with that chance."""
    rng = np.random.default_rng(number)
    labels = np.arange(24) % 3
    given = np.where(rng.random(24) < right, labels, rng.integers(3, size=24))
    names = [f"f{fold}-c{i:02}" for i in range(24)], [f"f{fold}-s{i // 4}" for i in range(24)]
    return Answers(*names, labels, given, np.eye(3)[given]).only(range(24)[clips])


def cell(name: str, runs: Runs, emotions: list[str] = EMOTIONS) -> CellResult:
    found = CellResult(GridCell({"modality": name}, ((name,),), Config()), len(runs))
    found.runs = {place: RunResult({"emotions": emotions}, {}, {"test": own}) for place, own in runs.items()}
    return found


def test_cells_are_compared_over_the_clips_folds_and_seeds_that_both_have() -> None:
    reference = cell("a", {(0, 0): answers(0, 0.9), (0, 1): answers(1, 0.8), (1, 1): answers(2, 0.8, fold=1)})
    runs = {(1, 1): answers(3, 0.4, fold=1), (0, 1): answers(4, 0.3, clips=SOME), (2, 1): answers(5, 0)}
    part, apart, other = cell("b", runs), cell("c", {(0, 7): answers(0, 0.9)}), cell("d", {(0, 0): answers(6, 0.5)})
    assert score_cells([reference, part, apart, other], reference) == []
    assert apart.scores is not None
    assert apart.difference is None
    theirs = {(1, 1): answers(2, 0.8, fold=1), (0, 1): answers(1, 0.8, clips=SOME)}
    mine = {place: runs[place] for place in theirs}
    assert part.difference == compare_pools(pool_answers(mine), pool_answers(theirs))
    assert part.difference.num_clips == 24 + 17
    raw = [part.difference.uar_p, other.difference.uar_p]  # c was not tested, so it does not count
    assert [part.adjusted_p, other.adjusted_p] == holm(raw).tolist() != raw
    assert apart.adjusted_p is None


def test_cells_that_were_asked_something_else_are_not_compared_and_the_rest_is() -> None:
    reference, other = cell("a", {(0, 0): answers(0, 0.9)}), cell("e", {(0, 0): answers(6, 0.5)})
    named = cell("b", {(0, 0): answers(1, 0.5)}, ["anger", "fear", "calm"])
    labelled, spoken = answers(2, 0.5), answers(3, 0.5)
    labelled.labels = (labelled.labels + 1) % 3
    spoken.speakers = spoken.speakers[::-1]
    cells = [reference, named, cell("c", {(0, 0): labelled}), cell("d", {(0, 0): spoken}), other]
    notes = score_cells(cells, reference)
    assert [note.split(": ")[0] for note in notes] == ["b against a", "c against a", "d against a"]
    assert "emotions differ" in notes[0]
    assert all("labels or speakers" in note for note in notes[1:])
    assert [result.difference is None for result in cells] == [True] * 4 + [False]
    assert all(result.scores for result in cells)


def test_the_values_of_voice_and_face_sum_to_what_both_add_to_guessing() -> None:
    """Over the seeds that all three have."""
    voice, face = {(0, 0): answers(0, 0.4), (0, 1): answers(1, 0.5)}, {(0, 0): answers(2, 0.6), (0, 2): answers(3, 0)}
    both = {(0, 0): answers(4, 0.8), (0, 1): answers(5, 0), (0, 2): answers(6, 0)}
    shares = modality_shares(cell("a", both).cell, APART, {"audio": voice, "video": face}, both)
    assert shares is not None
    assert (shares.num_runs, shares.num_clips, shares.num_speakers) == (1, 24, 6)
    uar = 100 * mean_uar(pool_answers({(0, 0): both[0, 0]}).count()[1])
    assert shares.uar["both"].value == pytest.approx(uar)
    assert sum(share.value for share in shares.shares.values()) == pytest.approx(uar - 100 / 3)
    assert modality_shares(cell("a", both).cell, APART, {"audio": {(5, 5): voice[0, 0]}, "video": face}, both) is None
