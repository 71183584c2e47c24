"""An ablation over a grid on tiny runs: its numbers are those of the runs, and it is written in every format."""

import csv
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from avser.config import load_config
from avser.errors import ConfigError
from avser.evaluation.multiple_tests import holm
from avser.evaluation.pooled import compare_pools, mean_uar
from avser.evaluation.statistics import Interval
from avser.experiments.ablation.grid import ablate_grid
from avser.experiments.ablation.modalities import compare_modalities
from avser.experiments.ablation.scores import APART, TAKEN_AWAY
from avser.experiments.ablation.tables import describe_grid, grid_tables, write_grid
from avser.experiments.runs.result import pool_answers, read_run
from avser.structures import MODALITIES
from tests.conftest import tiny_sources

OVER = ["modality=audio,video,fused", "fusion=late_average,concat"]
FUSED = "modality=fused,fusion=concat"


@pytest.fixture(scope="module")
def config(tiny_corpus, tmp_path_factory):
    runs = tmp_path_factory.mktemp("grid")
    extra = [f"runs={runs}", "name=grid", "training.epochs=1", "training.learning_rate=1e-2"]
    return load_config([*tiny_sources(tiny_corpus), *extra])


@pytest.fixture(scope="module")
def grid(config):
    return ablate_grid(config, OVER, seeds="0,1")


@pytest.fixture(scope="module")
def written(grid, tmp_path_factory):
    out = tmp_path_factory.mktemp("written")
    write_grid(grid, out, command="avser ablate <b> & co")
    return out


def uar_of(grid, name: str) -> float:
    """From the runs' own predictions: the mean of the seeds."""
    folder = grid.folder / name.replace(",", "+")
    runs = [read_run(folder / f"fold0-seed{seed}") for seed in (0, 1)]
    return float(np.mean([run.metrics["test"]["uar"]["value"] for run in runs]))


def test_every_cell_is_trained_once_with_every_seed(grid):
    assert [result.name for result in grid.cells] == [
        "modality=audio",
        "modality=video",
        "modality=fused,fusion=late_average",
        FUSED,
    ]
    assert sorted(p.parent.relative_to(grid.folder).as_posix() for p in grid.folder.rglob("metrics.json")) == sorted(
        f"{result.cell.folder}/fold0-seed{seed}" for result in grid.cells for seed in (0, 1)
    )
    assert not grid.failures
    assert [note for note in grid.notes if "combinations" in note] == [
        f"{modality}: 2 combinations, trained once (fusion makes no difference)" for modality in MODALITIES
    ]


def test_scores_are_those_of_the_runs(grid):
    for result in grid.cells:
        assert result.scores.uar.value == pytest.approx(uar_of(grid, result.name))
        assert (result.scores.num_clips, result.scores.num_speakers) == (12, 2)


def test_differences_are_to_the_reference_and_adjusted_over_all_cells(grid):
    assert grid.reference.name == FUSED  # the configuration's own fusion
    assert grid.reference.difference is None
    others = [result for result in grid.cells if result is not grid.reference]
    for result in others:
        expected = compare_pools(pool_answers(result.answers), pool_answers(grid.reference.answers))
        assert result.difference == expected
        assert result.difference.uar.value == pytest.approx(result.scores.uar.value - grid.reference.scores.uar.value)
    adjusted = holm([result.difference.uar_p for result in others])
    assert [result.adjusted_p for result in others] == adjusted.tolist()


def test_a_fused_run_is_asked_with_each_modality_alone(grid, config):
    """The same answers as the modality ablation gives for the same run."""
    cells = {m: f"modality={m}" for m in MODALITIES} | {"fused": FUSED.replace(",", "+")}
    runs = {name: grid.folder / cell / "fold0-seed1" for name, cell in cells.items()}
    ablation = compare_modalities(load_config(["seed=1"], base=config), runs)
    for only in MODALITIES:
        pool = pool_answers({(0, 1): grid.reference.parts[only][0, 1]})
        assert 100 * mean_uar(pool.count()[1]) == pytest.approx(ablation[f"fused_{only}"].scores.uar.value)


def test_what_each_modality_adds_sums_to_what_both_are_worth(grid):
    assert [(s.cell, s.kind) for s in grid.shares] == [
        (cell, kind) for cell in ("modality=fused,fusion=late_average", FUSED) for kind in (APART, TAKEN_AWAY)
    ]
    chance = 100 / 6
    for shares in grid.shares:
        audio, video, both = (shares.uar[name].value for name in ("audio", "video", "both"))
        assert shares.shares["audio"].value == pytest.approx((audio - chance + both - video) / 2)
        assert shares.shares["video"].value == pytest.approx((video - chance + both - audio) / 2)
        assert both == pytest.approx(uar_of(grid, shares.cell))
        assert all(found.low <= found.value <= found.high for found in shares.shares.values())
    assert grid.shares[0].uar["audio"].value == pytest.approx(uar_of(grid, "modality=audio"))


def test_going_on_trains_nothing_and_finds_the_same(grid, config):
    def times():
        return {path: path.stat().st_mtime_ns for path in grid.folder.rglob("*") if path.is_file()}

    before = times()
    again = ablate_grid(config, OVER, seeds="0,1")
    assert times() == before
    assert json.dumps(describe_grid(again), sort_keys=True) == json.dumps(describe_grid(grid), sort_keys=True)


def test_a_failed_run_is_told_and_the_rest_is_written(grid, config, tmp_path):
    (folder,) = (grid.folder / result.cell.folder / "fold0-seed1" for result in grid.cells if result.name == FUSED)
    kept = (folder / "predictions.csv").read_text()
    (folder / "predictions.csv").write_text(kept[: len(kept) // 2])
    try:
        broken = ablate_grid(config, OVER, seeds="0,1", reference="modality=audio")
    finally:
        (folder / "predictions.csv").write_text(kept)
    (name,) = broken.failures
    assert name == "grid/modality=fused+fusion=concat/fold0-seed1"
    assert "fused, concat: 1 of 2 runs are finished" in broken.notes
    cell = next(result for result in broken.cells if result.name == FUSED)
    assert list(cell.runs) == [(0, 0)]
    shared = {place: run.test for place, run in broken.reference.runs.items() if place in cell.runs}
    assert cell.difference == compare_pools(pool_answers(cell.answers), pool_answers(shared))
    write_grid(broken, tmp_path)
    assert f"- {name}: " in (tmp_path / "ablation.md").read_text()
    assert name in (tmp_path / "ablation.html").read_text()


def test_nothing_finished_is_told_too(config, tmp_path):
    broken = ablate_grid(load_config(["name=none", "data.cache=/nowhere"], base=config), ["modality=audio,video"])
    assert len(broken.failures) == 2
    assert grid_tables(broken) == []
    write_grid(broken, tmp_path)
    assert "No run is finished" in (tmp_path / "ablation.md").read_text()


def test_folds_beyond_the_protocol_are_refused(config):
    with pytest.raises(ConfigError, match="--folds 0,0"):
        ablate_grid(config, OVER, folds="0,0")


# --- what is written ---------------------------------------------------------------------------------------------


def test_the_csv_holds_plain_numbers(grid, written):
    with (written / "ablation.csv").open() as file:
        rows = {row["cell"]: row for row in csv.DictReader(file)}
    for result in grid.cells:
        row = rows[result.name]
        assert float(row["uar"]) == result.scores.uar.value
        assert (row["num_runs"], row["num_clips"], row["num_speakers"]) == ("2", "12", "2")
    assert rows["modality=audio"]["fusion"] == "any"
    assert rows[FUSED]["uar_difference"] == ""
    assert rows[FUSED]["is_reference"] == "True"
    assert float(rows[FUSED]["shapley_apart_audio"]) == grid.shares[2].shares["audio"].value


def test_markdown_and_latex_hold_every_cell(grid, written):
    markdown, latex = ((written / f"ablation.{kind}").read_text() for kind in ("md", "tex"))
    for result in grid.cells:
        text = f"{result.scores.uar}"
        assert text in markdown
        assert text in latex
    assert "cross_attention" not in latex
    assert r"late\_average" in latex
    assert not re.search(r"(?<!\\)[_%#]", latex.split("\n", 1)[1])
    assert latex.count(r"\toprule") == latex.count(r"\bottomrule") == latex.count(r"\begin{table}") == 2
    assert "avser ablate <b> & co" in markdown


class Page(HTMLParser):
    """What a browser would load from elsewhere, the tags, and the text of cells."""

    def __init__(self) -> None:
        super().__init__()
        self.tags, self.sources, self.cells = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        if tag == "td":
            self.cells.append("")

    def handle_data(self, data):
        if self.cells:
            self.cells[-1] += data


def test_the_page_needs_no_other_file_and_escapes_texts(grid, written):
    page = Page()
    page.feed((written / "ablation.html").read_text())
    assert all(source.startswith("data:image/svg+xml;base64,") for source in page.sources)
    assert len(page.sources) == 1
    assert "b" not in page.tags
    assert f"{grid.reference.scores.uar}" in [cell.strip() for cell in page.cells]


def test_the_figure_is_there_as_pixels_and_as_vectors(written):
    assert (written / "ablation.png").read_bytes().startswith(b"\x89PNG")
    svg = (written / "ablation.svg").read_text()
    assert "<image" not in svg
    assert "<text" not in svg  # letters are outlines, the same on every machine


def test_a_single_speaker_has_no_interval(grid, tmp_path):
    """The figure and the tables are made all the same."""
    import copy

    alone = copy.deepcopy(grid)
    nan = float("nan")
    for result in alone.cells:
        result.scores.uar = Interval(result.scores.uar.value, nan, nan)
    write_grid(alone, tmp_path)
    assert "[no interval]" in (tmp_path / "ablation.md").read_text()
    assert "NaN" not in (tmp_path / "ablation.json").read_text()
