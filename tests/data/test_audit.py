from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from avser.config import MediaConfig
from avser.data.audit import audit_duplicates, audit_split
from avser.data.cache import ClipCache, build_cache
from avser.data.cache_settings import cache_settings, write_settings
from avser.data.clip_file import write_clip
from avser.data.manifest import ClipRow, read_manifest, write_manifest
from avser.data.splits import Split
from avser.errors import CacheError, SplitError
from avser.media.audio import read_audio
from avser.structures import Clip
from avser.training.run import train
from avser.training.run_data import load_data
from tools.measure_duplicates import write_audio

ROWS = [ClipRow(c, "toy", c, "anger", f"{c}.wav", f"{c}.mp4") for c in "abc"]
SPLIT = Split("manifest", ["a"], ["b"], ["c"])


def changed(clip_id: str, **values: object) -> list[ClipRow]:
    return [replace(row, **values) if row.clip_id == clip_id else row for row in ROWS]  # type: ignore[arg-type]


def test_a_clean_split_has_nothing_to_say():
    assert audit_split(ROWS, SPLIT) == []


def test_shared_speakers_are_refused_unless_asked_for():
    rows = changed("c", speaker="a")
    with pytest.raises(SplitError, match=r"1 of 2 speakers.*toy/a in train and test.*allow_shared_speakers"):
        audit_split(rows, SPLIT)
    assert audit_split(rows, SPLIT, allow_shared_speakers=True) == ["speaker-dependent: 1 speakers shared"]


def test_the_same_name_in_another_corpus_is_another_speaker():
    assert audit_split(changed("c", speaker="a", corpus="other"), SPLIT) == []


@pytest.mark.parametrize(
    ("split", "words"),
    [
        (Split("x", ["a"], ["b"], ["c", "a"]), "clip a is in train and again in test"),
        (Split("x", ["a", "a"], ["b"], ["c"]), "clip a is in train and again in train"),
        (Split("x", ["a"], ["b"], ["z"]), "clip z of test is not in the manifest"),
        (Split("x", ["a"], [], ["c"]), "no clips in val"),
    ],
)
def test_faulty_lists_are_refused(split, words):
    with pytest.raises(SplitError, match=words):
        audit_split(ROWS, split)


@pytest.mark.parametrize(
    "path",
    ["a.wav", "./a.wav", "x/../a.wav", "a.mp4"],
)
def test_one_recording_in_two_parts_is_refused(path):
    with pytest.raises(SplitError, match=r"clips a \(train\) and c \(test\) overlap"):
        audit_split(changed("c", audio=path), SPLIT)


def test_stretches_of_one_recording_may_touch_but_not_overlap():
    def rows(start_s: float | None, end_s: float | None) -> list[ClipRow]:
        return [
            replace(ROWS[0], audio="x.wav", start_s=1.0, end_s=2.0),
            ROWS[1],
            replace(ROWS[2], audio="x.wav", start_s=start_s, end_s=end_s),
        ]

    assert audit_split(rows(2.0, 3.0), SPLIT) == []
    assert audit_split(rows(None, 1.0), SPLIT) == []
    for overlap in [(1.5, 1.6), (1.9, None), (None, 1.1), (None, None)]:
        with pytest.raises(SplitError, match="overlap"):
            audit_split(rows(*overlap), SPLIT)


def test_an_overlap_behind_a_stretch_of_the_same_part_is_found():
    # a1 [0, 10] and a2 [1, 2] train, c [3, 4] test: the neighbour in time ends before c, the one before it does not.
    rows = [
        ClipRow("a1", "toy", "a", "anger", "x.wav", start_s=0.0, end_s=10.0),
        ClipRow("a2", "toy", "a", "anger", "x.wav", start_s=1.0, end_s=2.0),
        ClipRow("b", "toy", "b", "anger", "b.wav"),
        ClipRow("c", "toy", "c", "anger", "x.wav", start_s=3.0, end_s=4.0),
    ]
    with pytest.raises(SplitError, match=r"clips a1 \(train\) and c \(test\)"):
        audit_split(rows, Split("x", ["a1", "a2"], ["b"], ["c"]))


def test_one_performance_in_two_parts_is_refused():
    rows = [replace(row, performance="take 1" if row.clip_id in "bc" else "take 2") for row in ROWS]
    with pytest.raises(SplitError, match=r"clips b \(val\) and c \(test\) record one performance, take 1"):
        audit_split(rows, SPLIT)
    assert audit_split([replace(row, performance=row.clip_id) for row in ROWS], SPLIT) == []
    elsewhere = [replace(row, corpus=row.clip_id, performance="take 1") for row in ROWS]
    assert audit_split(elsewhere, SPLIT) == []
    together = Split("x", ["b", "c"], ["a"], ["d"])
    assert audit_split([*rows, ClipRow("d", "toy", "d", "anger", "d.wav")], together) == []


def test_a_speaker_of_train_in_val_is_refused_too_and_not_called_speaker_dependent():
    rows = changed("b", speaker="a")
    with pytest.raises(
        SplitError, match=r"toy/a in train and val.*allow_shared_speakers=true to report a model chosen"
    ):
        audit_split(rows, SPLIT)
    notes = audit_split(rows, SPLIT, allow_shared_speakers=True)
    assert notes == ["train and val share 1 speakers, and nobody of them tests"]


def test_the_halves_of_a_split_screen_are_two_pictures():
    def rows(*sides: str) -> list[ClipRow]:
        return [replace(row, video="x.avi", side=side) for row, side in zip(ROWS, sides, strict=True)]

    assert audit_split([*rows("left", "left", "right")[::2], ROWS[1]], SPLIT) == []
    for sides in [("left", "right", "left"), ("left", "right", ""), ("", "right", "left"), ("", "", "")]:
        with pytest.raises(SplitError, match=r"x\.avi: clips .* overlap"):
            audit_split(rows(*sides), SPLIT)
    one_sound = [replace(row, audio="x.avi") for row in rows("left", "left", "right")]
    with pytest.raises(SplitError, match="overlap"):
        audit_split(one_sound, SPLIT)


def test_notes_on_emotions_sentences_and_clips_left_out():
    rows = [
        ClipRow("a", "toy", "a", "anger", "a.wav", sentence="one"),
        ClipRow("b", "toy", "b", "anger", "b.wav", sentence="two"),
        ClipRow("c", "toy", "c", "fear", "c.wav", sentence="one"),
        ClipRow("d", "toy", "d", "fear", "d.wav", sentence="three"),
        ClipRow("e", "toy", "e", "fear", "e.wav"),
    ]
    assert audit_split(rows, Split("x", ["a"], ["b"], ["c", "d"])) == [
        "train has no clip of fear: never learnt",
        "val has no clip of fear: the best epoch is chosen without it",
        "test has no clip of anger: not measured",
        "1 of 2 test sentences are also said in train",
        "1 of 5 clips are in no part of the split",
    ]


# --- copies, by their sound ------------------------------------------------------------------------------------------

WAYS = {"pcm_s16le": ("wav", 48000), "libmp3lame": ("mp3", 22050), "pcm_mulaw": ("wav", 8000)}  # codec: suffix, rate


def cache_of(folder: Path, voices: dict[str, np.ndarray | None]) -> ClipCache:
    (folder / "clips").mkdir()
    write_settings(folder, cache_settings(MediaConfig()))
    for clip_id, voice in voices.items():
        write_clip(folder / "clips" / f"{clip_id}.safetensors", Clip(clip_id, 2.0, voice))
    return ClipCache(folder)


def babble(seed: int, num_samples: int = 32000) -> np.ndarray:
    """Noise whose spectrum changes all the time, as speech does."""
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal(num_samples)).astype(np.float32)


def test_a_recording_on_two_sides_is_refused_by_its_sound(tmp_path):
    cache = cache_of(tmp_path, {"a": babble(1), "b": babble(2), "c": 0.2 * babble(1)[4000:]})
    words = r"1 pair of clips.*a \(train\) and c \(test\) share 1\.\d s.*remove one.*`speaker`"
    with pytest.raises(SplitError, match=words):
        audit_duplicates(ROWS, SPLIT, cache)


def test_recordings_on_one_side_are_noted_and_others_are_not(tmp_path):
    rows = [*ROWS, ClipRow("d", "toy", "d", "fear", "d.wav"), ClipRow("e", "toy", "e", "fear", "e.wav")]
    voices = {"a": babble(1), "b": babble(2), "c": babble(3), "d": babble(1), "e": babble(2)}
    split = Split("manifest", ["a", "d"], ["b"], ["c"])  # e is in no part, so its being b does no harm
    (note,) = audit_duplicates(rows, split, cache_of(tmp_path, voices))
    assert note.startswith("train holds 1 recording twice, going by the sound: a (train) and d (train) share 1.")


def test_long_lists_are_cut(tmp_path):
    cache = cache_of(tmp_path, {clip_id: babble(1) for clip_id in "abc"} | {f"a{i}": babble(1) for i in range(4)})
    rows = [*ROWS, *(ClipRow(f"a{i}", "toy", "a", "anger", f"a{i}.wav") for i in range(4))]
    with pytest.raises(SplitError, match=r"^11 pairs of clips([^;]*;){5} \.\.\.\. A model"):
        audit_duplicates(rows, replace(SPLIT, train=["a", *(f"a{i}" for i in range(4))]), cache)


def test_clips_without_a_voice_are_no_copies(tmp_path):
    assert audit_duplicates(ROWS, SPLIT, cache_of(tmp_path, dict.fromkeys("abc"))) == []


def test_a_clip_that_is_missing_or_damaged_is_named(tmp_path):
    cache = cache_of(tmp_path, {"a": babble(1), "b": babble(2)})
    with pytest.raises(CacheError, match=r"clip c is not in"):
        audit_duplicates(ROWS, SPLIT, cache)
    (tmp_path / "clips" / "c.safetensors").write_bytes(b"no such thing")
    with pytest.raises(CacheError, match=r"c\.safetensors: damaged.*delete it and run `avser cache`"):
        audit_duplicates(ROWS, SPLIT, cache)


@pytest.fixture
def plant(tiny_corpus, tiny_config, tmp_path):
    """Puts a copy of a training clip's voice into a part of the tiny corpus; returns (configuration, the clip)."""

    def planted(part: str, codec: str):
        folder = tmp_path / f"{part}_{codec}"
        shutil.copytree(tiny_corpus, folder, ignore=shutil.ignore_patterns("runs"))
        split = load_data(tiny_config()).split
        parts = {clip_id: part for part, ids in split.parts().items() for clip_id in ids}
        manifest = read_manifest(folder / "manifest.csv")
        original = next(row for row in manifest.rows if row.clip_id == split.train[0])
        suffix, rate_hz = WAYS[codec]
        voice = read_audio(manifest.audio_path(original))
        write_audio(str(folder / f"other.{suffix}"), 0.5 * voice[3000:], codec, suffix, rate_hz, 64000)
        copy = ClipRow("stranger_01", "synthetic", "stranger", original.emotion, f"other.{suffix}")
        rows = [replace(row, split=parts[row.clip_id]) for row in manifest.rows] + [replace(copy, split=part)]
        write_manifest(rows, folder / "manifest.csv")
        paths = [f"data.manifest={folder / 'manifest.csv'}", f"data.cache={folder / 'cache'}"]
        config = tiny_config(*paths, "data.protocol=manifest")
        build_cache(read_manifest(folder / "manifest.csv"), folder / "cache", config.media, progress=False)
        return config, original.clip_id

    return planted


@pytest.mark.parametrize("codec", WAYS)
def test_training_refuses_a_planted_copy(plant, codec):
    config, original = plant("test", codec)
    with pytest.raises(SplitError, match=rf"{original} \(train\) and stranger_01 \(test\).*remove one of each pair"):
        train(config)
    assert not (Path(config.runs) / config.name).exists()


def test_a_planted_copy_beside_its_original_is_noted(plant):
    config, original = plant("train", "libmp3lame")
    assert any(f"{original} (train) and stranger_01 (train)" in note for note in load_data(config).notes)


def test_a_corpus_without_copies_passes(tiny_config):
    assert not any("going by the sound" in note for note in load_data(tiny_config()).notes)


@pytest.mark.real_data
def test_a_planted_copy_of_a_real_recording_is_refused_and_its_second_take_is_not(real_data, tiny_config, tmp_path):
    """The two takes of every performance lie on two sides; then a copy of one recording comes under another name."""
    (tmp_path / "raw").symlink_to(real_data / "ravdess_speech")
    files = [f for actor in range(13, 19) for f in sorted((tmp_path / "raw" / f"Actor_{actor}").glob("03-01-0[56]-*"))]
    emotions = {"05": "anger", "06": "fear"}
    rows = []
    for file in files:
        part = {"01": "train", "02": "test"}[file.stem[15:17]]  # by take, so that every take has its twin opposite
        part = "val" if file.stem.endswith("18") else part
        path = str(file.relative_to(tmp_path))
        rows.append(ClipRow(file.stem, "ravdess", file.stem[-2:], emotions[file.stem[6:8]], path, split=part))
    sources = [f"data.manifest={tmp_path / 'manifest.csv'}", f"data.cache={tmp_path / 'cache'}"]
    sources += ["data.protocol=manifest", "data.allow_shared_speakers=true", "data.emotions=[anger, fear]"]
    config = tiny_config(*sources, "model.modalities=[audio]")

    def load() -> list[str]:
        write_manifest(rows, tmp_path / "manifest.csv")
        build_cache(read_manifest(tmp_path / "manifest.csv"), tmp_path / "cache", config.media, progress=False)
        return load_data(config).notes

    assert len(rows) == 96
    assert not any("going by the sound" in note for note in load())
    write_audio(str(tmp_path / "x.mp3"), read_audio(files[0])[8000:-4000], "libmp3lame", "mp3", 22050, 64000)
    rows.append(ClipRow("x", "mine", "nobody", "anger", "x.mp3", split="test"))
    with pytest.raises(SplitError, match=rf"1 pair of clips.*{files[0].stem} \(train\) and x \(test\)"):
        load()
