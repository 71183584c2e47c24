"""The examples of docs/extend.md run from top to bottom, as the page says."""

import os
import subprocess
import sys

import pytest

from tests.docs.pages import ROOT, blocks

pytestmark = pytest.mark.slow


def test_the_examples_of_adding_a_part_run(tmp_path) -> None:
    code = [text for language, text in blocks(ROOT / "docs" / "extend.md") if language == "python"]
    assert len(code) >= 4
    # Rendering starts processes, which import the script anew: they must not run it.
    script = tmp_path / "examples.py"
    script.write_text("if True:\n    if __name__ == '__main__':\n        exec(" + repr("\n\n".join(code)) + ")\n")
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "found 3 clips" in done.stdout
