"""The notebooks run from top to bottom on a machine without a GPU or a network, and are stored small."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.docs.pages import ROOT

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
MAX_BYTES = 700_000
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def test_there_are_three() -> None:
    assert {path.stem for path in NOTEBOOKS} >= {"first_steps", "regions", "own_data"}


@each_notebook
def test_a_notebook_is_stored_small_in_order_and_without_paths_of_a_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text) < MAX_BYTES
    assert str(ROOT) not in text
    book = nbformat.reads(text, as_version=4)
    nbformat.validate(book)
    counts = [cell.execution_count for cell in book.cells if cell.cell_type == "code"]
    assert counts in ([None] * len(counts), list(range(1, len(counts) + 1)))  # without answers, or run once in order
    assert not [o for cell in book.cells for o in cell.get("outputs", []) if o.output_type == "error"]


@each_notebook
@pytest.mark.slow
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))
    book = nbformat.read(path, as_version=4)
    NotebookClient(book, timeout=1200, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert [o for cell in book.cells for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
