"""An ablation over any keys of the configuration: every combination trained over folds and seeds, and compared.

plan.py says what the cells are, scores.py what they are worth, tables.py
writes it down.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from avser.config import Config
from avser.errors import AvserError, CheckpointError
from avser.experiments.ablation.plan import (
    Axis,
    GridCell,
    default_reference,
    find_cell,
    partners,
    plan_cells,
    read_axes,
    read_numbers,
)
from avser.experiments.ablation.scores import (
    APART,
    TAKEN_AWAY,
    CellResult,
    ModalityShares,
    modality_shares,
    score_cells,
)
from avser.experiments.ablation.taken_away import finish_with_parts, read_parts
from avser.experiments.leaderboard.plan import count_folds
from avser.experiments.runs.grid import run_folder, run_grid
from avser.experiments.runs.result import Cell, read_run
from avser.structures import MODALITIES
from avser.training.fit import CONSOLE


@dataclass
class AblationGrid:
    """Everything that was found.

    Attributes:
        folder: the cells' runs lie below it.
        folds, seeds: that were asked for.
        failures: run -> reason.
        notes: what a reader must know: cells trained once, runs that are missing, remarks on the data.
    """

    folder: Path
    axes: list[Axis]
    cells: list[CellResult]
    reference: CellResult
    folds: list[int]
    seeds: list[int]
    shares: list[ModalityShares] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def scored(self) -> list[CellResult]:
        return [result for result in self.cells if result.scores]

    @property
    def protocols(self) -> list[str]:
        runs = [run for result in self.cells for run in result.runs.values()]
        return sorted({run.metrics["protocol"] for run in runs})


def ablate_grid(
    config: Config,
    over: Sequence[str],
    *,
    folds: str = "",
    seeds: str = "",
    reference: str = "",
    jobs: int | None = None,
    cluster: str = "local",
    retries: int = 1,
    threads: int | None = 1,
    overwrite: bool = False,
) -> AblationGrid:
    """Train what is not trained yet, below `<runs>/<name>`, and score it.

    May be interrupted at any moment: the same call goes on where it stopped, and trains nothing that is finished.

    Args:
        over: axes, each KEY=V1,V2; see `avser.experiments.ablation.plan`.
        folds: "0,1", or "all" of the protocol; empty: the configuration's.
        seeds: "0,1,2"; empty: the configuration's.
        reference: the cell that the others are compared with, "fusion=concat"; empty: that of the configuration as it
            stands, where it is in the grid, else the first.
        jobs, cluster, retries, threads: see `avser.experiments.runs.grid.run_grid`.
        overwrite: remove the grid's earlier runs first.

    Raises:
        ConfigError: before anything is trained: an axis, a value, folds, seeds or a reference that cannot be.
        AvserError: the manifest cannot be read, where it is needed to count the folds.
    """
    axes = read_axes(over)
    cells = plan_cells(config, axes)
    base = find_cell(cells, axes, reference) if reference else default_reference(cells, config)
    its_seeds = read_numbers(seeds, "--seeds") if seeds else [config.seed]
    its_folds = (
        list(range(count_folds(config))) if folds == "all" else read_numbers(folds or str(config.data.fold), "--folds")
    )
    places = [(fold, seed) for fold in its_folds for seed in its_seeds]
    results = {cell.name: CellResult(cell, len(places)) for cell in cells}
    grid = AblationGrid(
        Path(config.runs) / config.name, axes, list(results.values()), results[base.name], its_folds, its_seeds
    )
    plan = [(result, place, _run_config(config, result.cell, place)) for place in places for result in grid.cells]
    if overwrite:
        for _, _, run in plan:
            shutil.rmtree(run_folder(run), ignore_errors=True)
    CONSOLE.print(f"{len(plan)} runs: {len(cells)} cells, {len(its_folds)} folds, {len(its_seeds)} seeds", markup=False)
    outcomes = run_grid(
        [run for _, _, run in plan],
        jobs=jobs,
        cluster=cluster,
        retries=retries,
        threads=threads,
        finish=finish_with_parts,
    )
    for (result, place, run), outcome in zip(plan, outcomes, strict=True):
        try:
            if outcome.reason:
                raise CheckpointError(outcome.reason)
            _read_cell(result, place, run_folder(run))
        except AvserError as error:
            grid.failures[run.name] = str(error)
    not_compared = score_cells(grid.cells, grid.reference)
    grid.shares = list(_shares(grid))
    grid.notes = [*not_compared, *_notes(grid)]
    return grid


def _run_config(config: Config, cell: GridCell, place: Cell) -> Config:
    run = copy.deepcopy(cell.config)
    run.data.fold, run.seed = place
    run.name = f"{config.name}/{cell.folder}/fold{place[0]}-seed{place[1]}"
    return run


def _read_cell(result: CellResult, place: Cell, folder: Path) -> None:
    run, parts = read_run(folder), read_parts(folder)
    result.runs[place] = run
    for only, answers in parts.items():
        result.parts.setdefault(only, {})[place] = answers


def _shares(grid: AblationGrid) -> Iterator[ModalityShares]:
    """For every fused cell: against models of one modality, where the grid has them, and with one taken away."""
    of_cell = {result.name: result for result in grid.cells}
    for result in grid.cells:
        if set(result.cell.modalities) != set(MODALITIES):
            continue
        found = []
        if alone := partners([other.cell for other in grid.cells], grid.axes, result.cell):
            apart = {name: of_cell[cell.name].answers for name, cell in alone.items()}
            found.append(modality_shares(result.cell, APART, apart, result.answers))
        if set(result.parts) == set(MODALITIES):
            found.append(modality_shares(result.cell, TAKEN_AWAY, result.parts, result.answers))
        yield from filter(None, found)


def _notes(grid: AblationGrid) -> Iterator[str]:
    for result in grid.cells:
        if len(result.cell.members) > 1:
            free = " and ".join(axis for axis, value in result.cell.settings.items() if value is None)
            what = f"{free} makes no difference" if free else "all make the same model"
            yield f"{result.cell.label}: {len(result.cell.members)} combinations, trained once ({what})"
        if len(result.runs) < result.num_asked:
            yield f"{result.cell.label}: {len(result.runs)} of {result.num_asked} runs are finished"
    for place in sorted({place for result in grid.cells for place in result.runs}):
        splits = {r.runs[place].metrics["split_fingerprint"] for r in grid.cells if place in r.runs}
        if len(splits) > 1:
            yield (
                f"fold {place[0]}, seed {place[1]}: cells differ in their clips; differences are over those they share"
            )
    runs = [run for result in grid.cells for run in result.runs.values()]
    if not all(run.is_strict for run in runs):
        yield "not strict: speakers of test are in training too, or the test chose the epoch"
    yield from dict.fromkeys(note for run in runs for note in run.metrics["notes"])
