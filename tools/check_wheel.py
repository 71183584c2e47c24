"""Install the built wheel outside the checkout, and ask it for help, configurations, its health and a prediction.

`make wheel` builds and then runs `python -m tools.check_wheel`. As a rule the libraries are those of this environment,
seen through a path file: seconds, and avser itself is the wheel's alone. `--full` installs every requirement anew, as
somebody who has nothing would: minutes, and several GiB.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = [
    *("media.fps=10", "media.crop_px=32", "media.faces.tracker=center"),
    "model.audio.backbone={name: 'timm:test_byobnet', weights: none, max_stride: 4}",
    "model.video.backbone={name: 'timm:test_byobnet', weights: none, max_stride: 8}",
]
EMOTIONS = ["anger", "fear", "sadness"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dist", type=Path, default=ROOT / "dist", metavar="DIR", help="where wheel and sdist lie")
    parser.add_argument("--full", action="store_true", help="install the requirements too")
    parser.add_argument("--tag", metavar="vX.Y.Z", help="refuse a wheel of another version")
    options = parser.parse_args()
    wheel, sdist = newest(options.dist, "avser-*.whl"), newest(options.dist, "avser-*.tar.gz")
    if options.tag and f"avser-{options.tag.removeprefix('v')}-" not in wheel.name:
        sys.exit(f"{wheel.name} is not of the version {options.tag}: correct avser/version.py or the tag")
    with tempfile.TemporaryDirectory(prefix="avser-wheel-") as folder:
        for sentence in check_wheel(wheel, Path(folder), full=options.full):
            print(sentence)
    with tarfile.open(sdist) as archive:
        print(f"{sdist.name}: {len(archive.getnames())} entries")
    return 0


def check_wheel(wheel: Path, folder: Path, *, full: bool = False) -> list[str]:
    """Install into a new environment in `folder`, and use it there.

    Returns:
        what was seen to work, a sentence each.

    Raises:
        SystemExit: something did not work; with what it printed.
    """
    python = make_environment(folder / "venv", wheel, full=full)
    work = folder / "work"
    work.mkdir()
    write_model(work / "run")
    write_clip(work / "clip.mp4")
    place = ask(work, python, "-c", "import avser; print(avser.__file__)").strip()
    if not Path(place).resolve().is_relative_to((folder / "venv").resolve()):
        sys.exit(f"avser was imported from {place}, not from the wheel")
    command = python.with_name("avser")
    usage = ask(work, command, "--help")
    configs = ask(work, command, "config", "list")
    answer = json.loads(ask(work, command, "predict", "run", "clip.mp4", "--json"))
    if answer["emotion"] not in EMOTIONS or "av_roi" not in configs or "predict" not in usage:
        sys.exit(f"{wheel.name}: answers, but not as it should: {answer}")
    health = json.loads(ask(work, command, "doctor", "--json"))
    size_kib = wheel.stat().st_size / 1024
    return [
        f"{wheel.name}: {size_kib:.0f} KiB, imported from {place}",
        f"avser --help: {len(usage.splitlines())} lines; avser config list: {len(configs.splitlines())} lines",
        f"avser doctor: {len(health)} findings, nothing broken",
        f"avser predict run clip.mp4: {answer['emotion']} (a model that has learnt nothing)",
    ]


def make_environment(folder: Path, wheel: Path, *, full: bool) -> Path:
    """A new environment with the wheel; returns its Python."""
    venv.create(folder, with_pip=full)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    if full:
        ask(folder, python, "-m", "pip", "install", "--quiet", wheel)
        return python
    ask(folder, sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel)
    packages = Path(ask(folder, python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    # A path file adds a folder without reading the path files in it: the editable avser of this environment stays out.
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return python


def write_model(run: Path) -> None:
    """A run folder with a small model that was never trained."""
    from avser.config import load_config
    from avser.models.build import build_model
    from avser.training.checkpoint import MODEL_FILE, save_model

    config = load_config(["av_roi", *SETTINGS])
    model = build_model(config.model, EMOTIONS, sample_rate_hz=config.media.sample_rate_hz, pretrained=False)
    save_model(run / MODEL_FILE, model, config, EMOTIONS)


def write_clip(path: Path) -> None:
    """Two seconds of noise and moving squares."""
    import numpy as np

    from preprocessing.synthetic.corpus import write_mp4

    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (20, 96, 96, 3), dtype=np.uint8)
    write_mp4(path, (0.1 * rng.standard_normal(2 * 16000)).astype(np.float32), frames)


def ask(folder: Path, program: str | Path, *arguments: str | Path) -> str:
    """What a program prints on stdout, run in `folder` without a trace of this checkout in its environment."""
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "AVSER_MODELS")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    command = [str(program), *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def newest(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern), key=lambda path: path.stat().st_mtime)
    if not found:
        sys.exit(f"{folder}: holds no {pattern}; build it first: make wheel")
    return found[-1]


if __name__ == "__main__":
    sys.exit(main())
