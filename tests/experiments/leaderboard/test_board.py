"""The leaderboard on tiny runs: nothing is trained twice or mixed up, failures stay alone, scores are as by hand."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from sklearn.metrics import accuracy_score, recall_score

from avser.config import load_config
from avser.errors import ConfigError
from avser.evaluation.pooled import mean_uar, mean_wa
from avser.evaluation.statistics import Interval
from avser.experiments.leaderboard.board import (
    BoardRow,
    Comparison,
    Leaderboard,
    Published,
    build_leaderboard,
    compare_rows,
    score_row,
)
from avser.experiments.leaderboard.plan import Entry, count_folds, read_entries, read_joins
from avser.experiments.leaderboard.tables import leaderboard_markdown, leaderboard_tables, write_leaderboard
from avser.experiments.runs.result import Answers, RunResult, pool_answers

SMALL = [
    "model.modalities=[audio]",
    "model.audio.backbone={name: 'timm:test_byobnet', weights: none, max_stride: 4}",
    "model.audio.dim=16",
    "model.attention.hidden=8",
    "training.batch_size=8",
    "training.epochs=1",
    "data.num_folds=3",
]
VARIANTS = {
    "av_roi": {"mean": ["model.attention.kind=mean"], "broken": ["model.audio.backbone.weights=no.safetensors"]}
}
NUMBER = Published("Somebody 2020", "Elsewhere", "theirs", "UAR", 77.7, "a remark")
RUNS = [f"{row}/fold{fold}-seed0" for row in ("av_roi", "av_roi-mean") for fold in (0, 1)]


@pytest.fixture(scope="module")
def sources(tiny_corpus, tmp_path_factory) -> tuple[str, list[str], Path]:
    """Corpus, overrides and file of variants."""
    folder = tmp_path_factory.mktemp("configs")
    ids = [row["clip_id"] for row in csv.DictReader((tiny_corpus / "manifest.csv").open())]
    parts = [("train", "val", "test", "train")[i % 4] for i in range(len(ids))]
    lines = [f"{clip_id},{part}" for clip_id, part in zip(ids, parts, strict=True)]
    (folder / "list.csv").write_text("\n".join(["clip_id,split", *lines]))
    data = {"manifest": str(tiny_corpus / "manifest.csv"), "cache": str(tiny_corpus / "cache")}
    data |= {"protocols": {"pairs": {"source": "here", "test": ["s01, s02", "s03, s04"]}}}
    media = json.loads((tiny_corpus / "cache" / "cache.json").read_text())["settings"]
    (folder / "tiny.yaml").write_text(yaml.safe_dump({"data": data, "media": media}))
    (folder / "variants.yaml").write_text(yaml.safe_dump(VARIANTS))
    return str(folder / "tiny.yaml"), SMALL, folder / "variants.yaml"


@pytest.fixture(scope="module")
def build(sources) -> Callable[..., Leaderboard]:
    corpus, overrides, variants = sources

    def build_in(out: Path, *systems: str, more: tuple[str, ...] = (), **options: object) -> Leaderboard:
        options = {"protocol": "speaker_kfold", "folds": [0, 1], "published": {"av_roi": [NUMBER]}, **options}
        return build_leaderboard(
            systems, corpus=corpus, out=out, overrides=[*overrides, *more], variants=variants, **options
        )

    return build_in


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("board")


@pytest.fixture(scope="module")
def board(build, out) -> Leaderboard:
    pairs = [["av_roi", "av_roi:mean"], ["av_roi", "av_roi-broken"]]
    return build(out, "av_roi", "av_roi:broken", "av_roi:mean", comparisons=pairs)


def row_of(board: Leaderboard, name: str) -> BoardRow:
    return next(row for row in board.rows if row.name == name)


def test_a_row_that_fails_is_told_and_stops_nobody(board):
    assert set(board.failures) == {"av_roi-broken/fold0-seed0", "av_roi-broken/fold1-seed0"}
    assert all("no weight file no.safetensors" in reason for reason in board.failures.values())
    assert [len(row_of(board, name).runs) for name in ("av_roi", "av_roi-mean", "av_roi-broken")] == [2, 2, 0]
    assert board.rows[-1].name == "av_roi-broken"
    assert any("without a finished run" in note and "av_roi-broken" in note for note in board.notes)
    assert any("av_roi against av_roi-broken: not compared" in note for note in board.notes)


def test_pooled_scores_are_those_of_all_test_clips_together(board, out):
    for name in ("av_roi", "av_roi-mean"):
        labels, answers, runs = [], [], []
        for fold in (0, 1):
            with (out / "runs" / name / f"fold{fold}-seed0" / "predictions.csv").open() as file:
                rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
            labels += [row["emotion"] for row in rows]
            answers += [row["predicted"] for row in rows]
            metrics = json.loads((out / "runs" / name / f"fold{fold}-seed0" / "metrics.json").read_text())
            runs.append(metrics["test"]["uar"]["value"])
        row = row_of(board, name)
        assert row.num_clips == len(labels) == 24
        assert row.num_speakers == 4
        kinds = sorted(set(labels))
        recall = recall_score(labels, answers, labels=kinds, average="macro", zero_division=0)
        assert row.uar.value == pytest.approx(100 * recall)
        assert row.wa.value == pytest.approx(100 * accuracy_score(labels, answers))
        assert row.each("test", "uar") == runs


def test_the_second_call_trains_nothing(board, build, out):
    files = [out / "runs" / run / name for run in RUNS for name in ("model.safetensors", "timing.json", "metrics.json")]
    before = [file.stat().st_mtime_ns for file in files]
    again = build(out, "av_roi:mean", "av_roi")
    assert not again.failures
    assert [file.stat().st_mtime_ns for file in files] == before
    assert row_of(again, "av_roi").uar == row_of(board, "av_roi").uar


def test_an_unfinished_run_goes_on(board, build, out, tmp_path):
    shutil.copytree(out / "runs" / "av_roi", tmp_path / "runs" / "av_roi")
    run = tmp_path / "runs" / "av_roi" / "fold0-seed0"
    for name in ("metrics.json", "predictions.csv", "timing.json"):
        (run / name).unlink()
    before = (run / "model.safetensors").stat().st_mtime_ns
    again = build(tmp_path, "av_roi")
    assert not again.failures
    assert (run / "model.safetensors").stat().st_mtime_ns == before  # it went on after its one epoch, to the test
    assert row_of(again, "av_roi").uar == row_of(board, "av_roi").uar
    timing, record = (json.loads((run / name).read_text()) for name in ("timing.json", "record.json"))
    assert (timing["num_epochs"], record["num_epochs"], record["num_starts"]) == (1, 1, 2)
    assert timing["training_clips_per_s"] == pytest.approx(18 / record["seconds"])


def test_a_run_of_other_settings_is_refused_with_the_difference(board, build, out):
    model = out / "runs" / "av_roi" / "fold0-seed0" / "model.safetensors"
    before = model.stat().st_mtime_ns
    changed = build(out, "av_roi", more=("training.epochs=2", "roi.kappa=2"), folds=[0])
    assert "training.epochs is 1 there, 2 asked for." in changed.failures["av_roi/fold0-seed0"]
    assert model.stat().st_mtime_ns == before
    assert not row_of(changed, "av_roi").runs


def test_a_damaged_run_is_told(board, build, out, tmp_path):
    shutil.copytree(out / "runs" / "av_roi", tmp_path / "runs" / "av_roi")
    path = tmp_path / "runs" / "av_roi" / "fold1-seed0" / "predictions.csv"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]))
    again = build(tmp_path, "av_roi")
    assert "11 test clips in predictions.csv, 12 were scored" in again.failures["av_roi/fold1-seed0"]
    assert list(row_of(again, "av_roi").runs) == [(0, 0)]


def test_every_run_tells_what_it_cost(board, out):
    for run in RUNS:
        folder = out / "runs" / run
        timing, record = (json.loads((folder / name).read_text()) for name in ("timing.json", "record.json"))
        assert timing["training_clips_per_s"] == pytest.approx(18 * timing["num_epochs"] / record["seconds"])
        assert timing["inference_clips_per_s"] > 0
        assert record["machine"]
        assert set(timing) & set(record) == {"num_epochs"}
    with_scores, without = (row_of(board, name).timings("num_parameters")[0] for name in ("av_roi", "av_roi-mean"))
    assert with_scores > without > 0


def test_a_leaky_split_makes_paper_rows(board, build, sources, tmp_path):
    more = ("data.allow_shared_speakers=true", f"data.split_file={Path(sources[0]).with_name('list.csv')}")
    leaky = build(tmp_path, "av_roi", protocol="split_file", folds=[0], more=more)
    assert not leaky.failures
    assert [row.kind for row in leaky.rows] == ["paper"]
    assert row_of(board, "av_roi").kind == "strict"
    both = Leaderboard("tiny", "x", [0], [0], [row_of(board, "av_roi"), row_of(leaky, "av_roi")])
    strict, paper = leaderboard_tables(both)[:2]
    assert strict.title.startswith("strict")
    assert paper.title.startswith("paper")
    assert len(strict.rows) == len(paper.rows) == 1


def test_a_row_against_itself_differs_by_nothing(board):
    same = Leaderboard("tiny", "x", [0, 1], [0], [])
    compare_rows(same, row_of(board, "av_roi"), row_of(board, "av_roi"))
    (found,) = same.comparisons
    assert (found.uar, found.wa) == (Interval(0, 0, 0), Interval(0, 0, 0))
    assert (found.uar_p, found.wa_p) == (1, 1)
    assert (found.cells, found.num_clips, found.num_speakers) == ([(0, 0), (1, 0)], 24, 4)


def test_the_files_name_protocol_seeds_and_command(board, tmp_path):
    write_leaderboard(board, tmp_path, command="python -m x y")
    stored = json.loads((tmp_path / "leaderboard.json").read_text())
    assert (stored["protocol"], stored["seeds"], stored["command"]) == ("speaker_kfold", [0], "python -m x y")
    assert stored["rows"][0]["runs"][0]["protocol"].startswith("speaker_kfold(")
    assert stored["rows"][0]["runs"][0]["verdict"]["speakers_disjoint"] is True
    rows = list(csv.DictReader((tmp_path / "leaderboard.csv").open()))
    assert {row["system"]: row["kind"] for row in rows} == {
        "av_roi": "strict",
        "av_roi-mean": "strict",
        "av_roi-broken": "",
    }
    assert float(rows[0]["uar"]) == pytest.approx(board.rows[0].uar.value)
    page = (tmp_path / "leaderboard.md").read_text()
    for words in ("python -m x y", "folds 0, 1, seeds 0", "av_roi minus av_roi-mean", "77.7", "no weight file"):
        assert words in page
    for table in leaderboard_tables(board):
        assert all(len(row) == len(table.columns) for row in table.rows)


def test_a_cell_with_a_bar_does_not_break_the_page():
    row = made_row("one|two", {(0, 0): ([0, 1], [0, 1])})
    page = leaderboard_markdown(Leaderboard("c", "p", [0], [0], [row]))
    (line,) = [line for line in page.splitlines() if "one\\|two" in line and "1/1" in line]
    assert line.replace("\\|", "").count("|") == 8


def test_a_p_value_is_never_written_as_zero():
    even = Interval(0.0, 0.0, 0.0)
    comparison = Comparison("one", "other", [(0, 0)], 2, 2, uar=even, uar_p=0.0002, wa=even, wa_p=0.04)
    board = Leaderboard("c", "p", [0], [0], [made_row("one", {(0, 0): ([0, 1], [0, 1])})], [comparison])
    (line,) = [line for line in leaderboard_markdown(board).splitlines() if "one minus other" in line]
    assert line.split(" | ")[-3:] == ["< 0.001", "0.000 [0.000, 0.000]", "0.040 |"]


@pytest.mark.slow
def test_processes_side_by_side_give_the_same_board(board, build, tmp_path):
    beside = build(tmp_path, "av_roi", "av_roi:broken", jobs=2)
    assert set(beside.failures) == {"av_roi-broken/fold0-seed0", "av_roi-broken/fold1-seed0"}
    assert row_of(beside, "av_roi").uar == row_of(board, "av_roi").uar


# --- scores of made-up runs --------------------------------------------------------------------------------------


def made_row(name: str, runs: dict[tuple[int, int], tuple[list[int], list[int]]], fingerprint: str = "a") -> BoardRow:
    """(fold, seed) -> labels and answers; clip i of a fold is said by speaker i % 2 of that fold."""
    verdict = {"speakers_disjoint": True, "sentences_disjoint": None, "val_apart_from_test": True}
    metrics = {"emotions": ["a", "b", "c"], "verdict": verdict, "split_fingerprint": fingerprint}
    metrics |= {part: {key: {"value": 50.0} for key in ("uar", "wa")} for part in ("val", "test")}
    timing = {"num_parameters": 1, "device": "cpu", "machine": "", "num_threads": 1, "num_jobs": 1}
    results = {
        (fold, seed): RunResult(
            metrics,
            timing,
            {
                "test": Answers(
                    [f"{fold}-{i}" for i in range(len(labels))],
                    [f"{fold}-{i % 2}" for i in range(len(labels))],
                    np.array(labels),
                    np.array(answers),
                    np.eye(3)[answers],
                )
            },
        )
        for (fold, seed), (labels, answers) in runs.items()
    }
    row = BoardRow(Entry(name), results, len(results))
    score_row(row)
    return row


def test_seeds_are_averaged_over_their_pooled_folds():
    row = made_row(
        "x",
        {
            (0, 0): ([0, 0, 1], [0, 1, 1]),
            (1, 0): ([0, 0], [1, 1]),  # with fold 0: recall 1/4 and 1/1, WA 2/5
            (0, 1): ([0, 0, 1], [0, 0, 0]),
            (1, 1): ([0, 0], [0, 0]),  # with fold 0: recall 4/4 and 0/1, WA 4/5
        },
    )
    assert row.uar.value == pytest.approx(100 * ((1 / 4 + 1) / 2 + 1 / 2) / 2)
    assert row.wa.value == pytest.approx(100 * (2 / 5 + 4 / 5) / 2)
    assert (row.num_clips, row.num_speakers) == (5, 4)
    speakers, counts = pool_answers({cell: run.test for cell, run in row.runs.items()}).count()
    assert speakers == ["0-0", "0-1", "1-0", "1-1"]
    assert counts.sum() == 10
    assert counts[0, 0, 1, 1] == 1  # clip 2 of fold 0, first seed


def test_a_seed_without_clips_has_no_score():
    counts = np.zeros((1, 2, 3, 3))
    counts[0, 0, 1, 1] = 4
    assert np.isnan(mean_uar(counts))
    assert np.isnan(mean_wa(counts))
    assert mean_uar(counts[:, :1]) == mean_wa(counts[:, :1]) == 1


def test_differences_are_paired_by_clip_and_others_left_out():
    first = made_row("x", {(0, 0): ([0, 1, 0, 1], [0, 1, 0, 1]), (1, 0): ([0], [0])})
    second = made_row("y", {(0, 0): ([0, 1], [0, 0]), (0, 5): ([0], [0])}, fingerprint="b")
    board = Leaderboard("c", "p", [0, 1], [0, 5], [first, second])
    compare_rows(board, first, second)
    (found,) = board.comparisons
    assert (found.cells, found.num_clips) == ([(0, 0)], 2)
    assert found.uar.value == pytest.approx(50)
    assert found.wa.value == pytest.approx(50)
    assert "2 test clips that only one of them answered" in board.notes[0]


def test_rows_whose_labels_differ_are_not_compared():
    first, second = (made_row(name, {(0, 0): (labels, [0, 1])}) for name, labels in (("x", [0, 1]), ("y", [1, 0])))
    board = Leaderboard("c", "p", [0], [0], [first, second])
    compare_rows(board, first, second)
    assert board.comparisons == []
    assert "x against y: not compared, labels or speakers" in board.notes[0]


def test_a_joined_row_multiplies_posteriors(board, build, out):
    joined = build(
        out, "av_roi", "av_roi:mean", joins=[["both", "av_roi:mean+av_roi"]], comparisons=[["both", "av_roi"]]
    )
    row, one, other = (row_of(joined, name) for name in ("both", "av_roi", "av_roi-mean"))
    for cell, run in row.runs.items():
        shares = [
            dict(zip(r.runs[cell].test.clip_ids, r.runs[cell].test.probabilities, strict=True)) for r in (one, other)
        ]
        for clip_id, share in zip(run.test.clip_ids, run.test.probabilities, strict=True):
            product = shares[0][clip_id] * shares[1][clip_id]
            assert share == pytest.approx(product / product.sum(), abs=1e-4)
        recall = recall_score(run.test.labels, run.test.probabilities.argmax(axis=1), average="macro", zero_division=0)
        assert run.metrics["test"]["uar"]["value"] == pytest.approx(100 * recall)
        assert run.timing["num_parameters"] == sum(r.runs[cell].timing["num_parameters"] for r in (one, other))
    assert (row.kind, row.num_clips) == ("strict", one.num_clips)
    assert joined.comparisons[0].first == "both"
    assert "product of the posteriors of av_roi-mean and av_roi" in joined.notes[0]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [("both", "a", "two rows or more"), ("both", "a+a", "two rows or more"), ("a", "a+b", "of that name already")],
)
def test_a_join_needs_two_rows_and_a_name_of_its_own(name, text, words):
    with pytest.raises(ConfigError, match=words):
        read_joins([(name, text)], [Entry("a"), Entry("b")])


# --- what is asked for -------------------------------------------------------------------------------------------


def test_wrong_requests_are_refused_before_training(build, tmp_path):
    for systems, options, words in (
        (["av_roi:gone"], {}, "no variant 'gone'; .* has for it: broken, mean"),
        (["av_roi", "av_roi"], {}, "asked for twice"),
        (["av_roy"], {}, "did you mean av_roi"),
        (["av_roi"], {"protocol": "emobux"}, "is not known"),
        (["av_roi"], {"comparisons": [["av_roi", "x"]]}, "no row 'x'; rows are av_roi"),
        (["av_roi"], {"joins": [["both", "av_roi+x"]]}, "no row 'x'; rows are av_roi"),
        (["av_roi"], {"more": ("training.epoch=1",)}, "training.epochs"),
    ):
        with pytest.raises(ConfigError, match=words):
            build(tmp_path, *systems, **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["- av_roi", "av_roi: [a=1]", "av_roi: {mean: a=1}", "av_roi: {mean: [1]}", "{"])
def test_a_faulty_file_of_variants_is_refused(text, tmp_path):
    (tmp_path / "v.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"v\.yaml"):
        read_entries(["av_roi:mean"], tmp_path / "v.yaml")


def test_folds_are_those_of_the_protocol(sources):
    corpus, overrides, _ = sources
    expected = {"pairs": 2, "speaker_kfold": 3, "loso": 6, "speaker_holdout": 1}
    for protocol, num_folds in expected.items():
        assert count_folds(load_config([corpus, *overrides, f"data.protocol={protocol}"])) == num_folds
