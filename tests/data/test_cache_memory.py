"""How much memory a recording of an hour takes on its way into the cache."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from avser.data.cache import ClipCache

PROJECT = Path(__file__).resolve().parents[2]
FPS = 5
MAX_MB_PER_HOUR = 600  # 230 of them are the voice as 32-bit floats, 160 what is written
CODE = """
import resource, sys
from pathlib import Path
from avser.config import load_config
from avser.data.cache import build_cache
from avser.data.manifest import ClipRow, Manifest

path, out = map(Path, sys.argv[1:])
media = load_config(["media.faces.tracker=center", "media.fps=5"]).media
report = build_cache(Manifest([ClipRow("x", "toy", "1", "fear", path.name, path.name)], path.parent), out, media)
assert report.num_cached == 1 and not report.warnings, report
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def write_recording(path: Path, minutes: int) -> None:
    """A picture that changes all the time, and noise."""
    rng = np.random.default_rng(0)
    noise = np.round(3000 * rng.standard_normal((1, 16000))).astype(np.int16)
    texture = rng.integers(0, 256, (9, 12, 3), np.uint8).repeat(10, 0).repeat(10, 1)
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=FPS)
        video.width, video.height, video.pix_fmt = 120, 90, "yuv420p"
        audio = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        for second in range(60 * minutes):
            for index in range(second * FPS, (second + 1) * FPS):
                picture = av.VideoFrame.from_ndarray(np.roll(texture, index, 1), format="rgb24")
                picture.pts, picture.time_base = index, Fraction(1, FPS)
                container.mux(video.encode(picture))
            sound = av.AudioFrame.from_ndarray(np.roll(noise, second), format="s16", layout="mono")
            sound.sample_rate, sound.pts, sound.time_base = 16000, second * 16000, Fraction(1, 16000)
            container.mux(audio.encode(sound))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))


def cache_and_measure(path: Path, out: Path) -> float:
    """The most memory (MB) that a process had which cached one recording."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(path), str(out)], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="reads the peak of memory as Unix counts it")
def test_an_hour_takes_little_more_memory_than_its_data(tmp_path):
    peaks = {}
    for minutes in (6, 60):
        path, out = tmp_path / f"{minutes}.mkv", tmp_path / f"cache{minutes}"
        write_recording(path, minutes)
        peaks[minutes] = cache_and_measure(path, out)
        assert ClipCache(out).duration_s("x") == pytest.approx(60 * minutes, abs=0.3)
        path.unlink()
    growth = (peaks[60] - peaks[6]) * 60 / 54
    print(f"{growth:.0f} MB an hour, {peaks}")
    assert growth < MAX_MB_PER_HOUR
