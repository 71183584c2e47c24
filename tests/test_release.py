"""What is given away is whole: the source distribution, the citation, the workflows, and the wheel in a new place."""

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

from avser.version import __version__

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
# Of use only where the repository itself is.
STAYS_BEHIND = (".gitignore", ".ci/")


@pytest.fixture(scope="module")
def listed() -> list[str]:
    """Every file of the checkout that git keeps, or would keep."""
    if not (ROOT / ".git").exists():
        pytest.skip("no git repository here: this is a source distribution already")
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def built(listed, tmp_path_factory) -> Path:
    """Folder with sdist and wheel of the checkout, built in a copy."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in listed:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    build = f"from setuptools import build_meta as b; b.build_sdist({str(out)!r}); b.build_wheel({str(out)!r})"
    done = subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out


def test_the_source_distribution_is_complete(built, listed):
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {name for name in listed if not name.startswith(STAYS_BEHIND)}
    assert sorted(wanted - held) == []
    made = {name for name in held if re.match(r"(PKG-INFO|setup\.cfg|avser\.egg-info)(/|$)", name)}
    folders = {parent.as_posix() for name in held for parent in Path(name).parents} | {""}
    assert sorted(held - wanted - made - folders) == []


def test_the_wheel_holds_avser_alone(built, listed):
    with zipfile.ZipFile(next(built.glob("*.whl"))) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert {name.split("/")[0] for name in held} == {"avser"}
    wanted = {name for name in listed if name.startswith("avser/")}
    wanted |= {f"avser/{name}" for name in listed if name.startswith("configs/")}
    assert sorted(wanted - held) == []
    assert sorted(held - wanted) == []


@pytest.mark.slow
def test_the_wheel_works_outside_the_checkout(built, tmp_path):
    from tools.check_wheel import check_wheel

    sentences = check_wheel(next(built.glob("*.whl")), tmp_path)
    assert str(tmp_path / "venv") in sentences[0]
    assert "predict run clip.mp4" in sentences[-1]


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__
    assert citation["license"] == "Apache-2.0"
    assert {"cff-version", "message", "title", "authors", "type"} <= citation.keys()


def test_workflows_call_the_targets_that_a_person_calls():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert {path.stem for path in WORKFLOWS} >= {"check", "slow", "release"}
    called = set()
    for path in WORKFLOWS:
        for job in yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values():
            for line in [step["run"] for step in job["steps"] if "run" in step]:
                program, *words = line.split()
                called |= {words[0]} if program == "make" else set()
                assert program in ("make", "sudo", "gh", ".venv/bin/playwright"), f"{path.name}: {line}"
    assert called <= targets
    assert {"setup", "check", "docs", "test", "test-slow", "wheel"} <= called
