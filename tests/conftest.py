"""Shared by all tests: the folder of real data, and a small corpus rendered and cached once a session."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from avser.config import Config, load_config

PROJECT = Path(__file__).resolve().parent.parent

TINY = [
    "media.fps=10",
    "media.crop_px=32",
    "media.faces.tracker=center",
    "data.emotions=[anger, disgust, fear, happiness, sadness, surprise]",
    "data.test_share=0.34",
    "model.audio.backbone={name: 'timm:test_byobnet', weights: none, max_stride: 4}",
    "model.video.backbone={name: 'timm:test_byobnet', weights: none, max_stride: 8}",
    "model.audio.dim=16",
    "model.video.dim=16",
    "model.video.temporal=tcn",
    "model.attention.hidden=8",
    "model.fusion.hidden=16",
    "training.epochs=2",
    "training.batch_size=8",
]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder named by AVSER_REAL_DATA; the test is skipped where it is unset.

    The face model lies in it too, and is found there unless AVSER_MODELS names another place.
    """
    folder = os.environ.get("AVSER_REAL_DATA")
    if not folder:
        pytest.skip("AVSER_REAL_DATA is not set: no real recordings to test on")
    path = Path(folder).resolve()
    if not path.is_dir():
        pytest.fail(f"AVSER_REAL_DATA={folder} is no folder")
    os.environ.setdefault("AVSER_MODELS", str(path / "models"))
    return path


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory) -> Path:
    """Folder of a rendered corpus (6 speakers, 6 emotions, a clip each), cached under `cache/`."""
    from avser.data.cache import build_cache
    from avser.data.manifest import read_manifest
    from preprocessing.synthetic.corpus import Settings, write_corpus

    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder, Settings(speakers=6, clips_per_emotion=1, seed=5))
    report = build_cache(
        read_manifest(folder / "manifest.csv"), folder / "cache", load_config(TINY).media, progress=False
    )
    assert not report.failures
    return folder


@pytest.fixture
def tiny_config(tiny_corpus, tmp_path):
    """Builds a configuration of a two-epoch run on the tiny corpus; overrides as for `load_config`."""

    def build(*overrides: str) -> Config:
        return load_config([*tiny_sources(tiny_corpus), f"runs={tmp_path / 'runs'}", *overrides])

    return build


@pytest.fixture(scope="session")
def tiny_ablation(tiny_corpus) -> Path:
    """Folder of the runs audio, video and fused on the tiny corpus; every curve of theirs has regions."""
    from avser.experiments.ablation.modalities import ablate_modalities

    sources = [*tiny_sources(tiny_corpus), f"runs={tiny_corpus / 'runs'}", "name=ablation", "roi.rule=coverage"]
    ablate_modalities(load_config([*sources, "model.video.baseline=clip", "training.learning_rate=1e-2"]))
    return tiny_corpus / "runs" / "ablation"


def tiny_sources(corpus: Path) -> list[str]:
    return [*TINY, f"data.manifest={corpus / 'manifest.csv'}", f"data.cache={corpus / 'cache'}"]


@pytest.fixture(scope="session")
def run_module() -> Callable[..., str]:
    """Runs `python -m MODULE ARGUMENTS` in a folder and returns its stdout; fails where the command does."""

    def run(module: str, *arguments: object, cwd: Path, environment: Mapping[str, str] = MappingProxyType({})) -> str:
        code = (
            f"import runpy, sys; sys.path.insert(0, {str(PROJECT)!r}); runpy.run_module({module!r}, None, '__main__')"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
            cwd=cwd,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
