"""How surely copies are found, and nothing else: `python -m tools.measure_duplicates MANIFEST [--speakers 13 14 ...]`.

Every clip is changed in every way a copy may have been, put among the untouched clips of all speakers chosen, and
looked for by the leak audit's own search. Thresholds were set on speakers 01 to 12 of RAVDESS; measure on the others.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import av
import numpy as np
from scipy.signal import resample_poly

from avser.cli.printing import print_table
from avser.data.fingerprint import MAX_BIT_ERRORS, Duplicate, find_duplicates, fingerprint_audio
from avser.data.manifest import Manifest, read_manifest
from avser.media.audio import read_audio
from avser.roi.report.tables import ReportTable

RATE_HZ = 16000  # as clips lie in a cache
LOUD = 0.05  # of a clip's peak: where its speech begins and ends

Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--speakers", nargs="+", help="default: all")
    parser.add_argument("--clips", type=int, default=1000, help="at most so many are changed in every way")
    options = parser.parse_args(arguments)
    manifest = read_manifest(options.manifest)
    manifest.rows = [row for row in manifest.rows if not options.speakers or row.speaker in options.speakers]
    if not manifest.rows:
        parser.error(f"--speakers {' '.join(options.speakers)}: none of them is in {options.manifest}")
    print_table(measure(manifest, options.clips))
    return 0


def measure(manifest: Manifest, num_clips: int, *, seed: int = 0) -> ReportTable:
    """One row for each change: clips found again, and pairs that are no copies but were taken for some."""
    rng = np.random.default_rng(seed)
    paths = {row.clip_id: manifest.audio_path(row) or manifest.video_path(row) for row in manifest.rows}
    voices = {clip_id: read_audio(path, sample_rate_hz=RATE_HZ) for clip_id, path in paths.items() if path}
    start = time.process_time()
    prints = {clip_id: fingerprint_audio(voice, RATE_HZ) for clip_id, voice in voices.items()}
    printed = time.process_time()
    there = find_duplicates(prints)
    searched = time.process_time()
    known = {frozenset((pair.first, pair.second)) for pair in there}
    chosen = sorted(rng.permutation(sorted(voices))[:num_clips].tolist())
    rows = []
    for name, change in CHANGES.items():
        copies = {f"copy of {c}": fingerprint_audio(change(voices[c], rng), RATE_HZ) for c in chosen}
        rows.append([name, *_score(find_duplicates(prints | copies), known, len(prints), len(copies))])
    others = [p for p in find_duplicates(prints, max_bit_errors=0.5) if frozenset((p.first, p.second)) not in known]
    nearest = min((pair.bit_error_rate for pair in others), default=None)
    return ReportTable(
        f"{len(chosen)} copies among {len(prints)} clips, {len({row.speaker for row in manifest.rows})} speakers",
        ["change", "found", "bits that differ, median", "false alarms", "of pairs"],
        rows,
        f"A pair counts as copies up to {MAX_BIT_ERRORS} of bits that differ; of all others with a code in common the "
        f"nearest have {nearest if nearest is None else round(nearest, 3)}. "
        f"In the corpus itself: {'; '.join(f'{p.first} = {p.second}' for p in there) or 'no copies'}.",
        f"{1000 * (printed - start) / len(prints):.2f} ms a clip for the fingerprint, "
        f"{searched - printed:.2f} s to search {len(prints)} clips (one core).",
    )


def _score(found: list[Duplicate], known: set[frozenset[str]], num_clips: int, num_copies: int) -> list[int | float]:
    right, wrong, errors = 0, 0, []
    for pair in found:
        sources = frozenset(name.removeprefix("copy of ") for name in (pair.first, pair.second))
        if len(sources) == 1:
            right += 1
            errors.append(pair.bit_error_rate)
        elif sources not in known:
            wrong += 1
    num = num_clips + num_copies
    median = float(np.median(errors)) if errors else float("nan")
    return [right / num_copies, median, wrong, num * (num - 1) // 2 - num_copies]


# --- what may have happened to a copy ------------------------------------------------------------------------------


def resample(voice: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    common = np.gcd(from_hz, to_hz)
    return resample_poly(voice, to_hz // common, from_hz // common).astype(np.float32)


def encode(voice: np.ndarray, codec: str, container: str, rate_hz: int, bit_rate: int) -> np.ndarray:
    """Through a codec and back, at `RATE_HZ`."""
    file = io.BytesIO()
    write_audio(file, voice, codec, container, rate_hz, bit_rate)
    file.seek(0)
    with av.open(file, "r") as source:
        to_float = av.AudioResampler(format="flt", layout="mono", rate=rate_hz)
        decoded = [f.to_ndarray()[0] for frame in source.decode(audio=0) for f in to_float.resample(frame)]
    return resample(np.concatenate(decoded), rate_hz, RATE_HZ)


def write_audio(
    file: str | io.BytesIO, voice: np.ndarray, codec: str, container: str, rate_hz: int, bit_rate: int
) -> None:
    samples = np.clip(np.round(resample(voice, RATE_HZ, rate_hz) * 32768), -32768, 32767).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
    frame.sample_rate = rate_hz
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate_hz, layout="mono")
        assert isinstance(stream, av.AudioStream)
        stream.bit_rate = bit_rate
        output.mux([*stream.encode(frame), *stream.encode(None)])


def add_noise(voice: np.ndarray, snr_db: float, rng: np.random.Generator) -> np.ndarray:
    """White noise, beside the mean power of the whole clip."""
    noise = rng.standard_normal(len(voice)) * np.sqrt(np.mean(voice**2) * 10 ** (-snr_db / 10))
    return (voice + noise).astype(np.float32)


def trim(voice: np.ndarray) -> np.ndarray:
    loud = np.flatnonzero(np.abs(voice) > LOUD * np.abs(voice).max())
    return voice[loud[0] : loud[-1] + 1]


def pad(voice: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Up to two seconds of digital silence on either side."""
    return np.pad(voice, tuple(rng.integers(0, 2 * RATE_HZ, 2)))


def cut(voice: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """A piece from anywhere."""
    length = round(share * len(voice))
    start = rng.integers(0, len(voice) - length + 1)
    return voice[start : start + length]


def _telephone(voice: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    noisy = add_noise(0.3 * cut(trim(voice), 0.8, rng), 20, rng)
    return encode(noisy, "libmp3lame", "mp3", 8000, 32000)


CHANGES: dict[str, Change] = {
    "none": lambda voice, _: voice,
    "48 kHz, then 8 kHz": lambda voice, _: resample(resample(resample(voice, 16000, 48000), 48000, 8000), 8000, 16000),
    "26 dB quieter, 16 bits": lambda voice, _: np.round(0.05 * voice * 32768) / 32768,
    "MP3, 64 kbit/s": lambda voice, _: encode(voice, "libmp3lame", "mp3", 44100, 64000),
    "AAC, 64 kbit/s": lambda voice, _: encode(voice, "aac", "adts", 48000, 64000),
    "noise at 20 dB": lambda voice, rng: add_noise(voice, 20, rng),
    "noise at 10 dB": lambda voice, rng: add_noise(voice, 10, rng),
    "pauses around it cut off": lambda voice, _: trim(voice),
    "silence added around it": pad,
    "60 % of the clip": lambda voice, rng: cut(voice, 0.6, rng),
    "60 % of its speech": lambda voice, rng: cut(trim(voice), 0.6, rng),
    "80 % of its speech, 8 kHz, MP3 at 32 kbit/s, noise at 20 dB": _telephone,
}


if __name__ == "__main__":
    raise SystemExit(main())
