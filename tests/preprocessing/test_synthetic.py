"""The synthetic corpus keeps its promises: planted regions where it says, and no way around them to the emotion."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from scipy.signal import correlate
from scipy.stats import binom
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from avser.data.manifest import Manifest, read_manifest
from avser.errors import ManifestError
from avser.structures import AUDIO, VIDEO, Region
from preprocessing.synthetic import corpus, face, voice
from preprocessing.synthetic.__main__ import main
from preprocessing.synthetic.corpus import EMOTIONS, LAGS_S, Settings, intensity, plan_clip, render_clip

SETTINGS = Settings(speakers=12, clips_per_emotion=2, seed=1)
Tables = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    folder = tmp_path_factory.mktemp("synthetic")
    corpus.write_corpus(folder, SETTINGS)
    return read_manifest(folder / "manifest.csv")


@pytest.fixture(scope="module")
def nuisances(rendered: Manifest) -> Tables:
    """Name of a group -> (clips, features): what a clip is like apart from what happens in it."""
    rows = [measure(rendered, index) for index in range(len(rendered))]
    return {name: np.array([row[name] for row in rows], dtype=float) for name in rows[0]}


def decode(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Waveform (N,) and grey frames (T, H, W)."""
    with av.open(str(path)) as container:
        sound = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    with av.open(str(path)) as container:
        images = np.stack([frame.to_ndarray(format="gray") for frame in container.decode(video=0)])
    return sound, images


def measure(manifest: Manifest, index: int) -> dict[str, list[float]]:
    row = manifest.rows[index]
    path = manifest.root / row.video
    sound, images = decode(path)
    with av.open(str(path)) as container:
        packets = [(packet.stream.type, packet.size) for packet in container.demux() if packet.size]
    duration_s = len(images) / face.FPS
    return {
        "duration": [duration_s],
        "level": [np.log(sound.std()), np.log(np.abs(sound).max())],
        "file": [path.stat().st_size, *(sum(n for kind, n in packets if kind == k) for k in (AUDIO, VIDEO))],
        "packets": [len(packets)],
        "picture": [images.mean(), images.std(axis=(1, 2)).mean()],
        **{
            f"{m} position": [r.start_s, r.centre_s, r.duration_s, r.centre_s / duration_s]
            for m in (AUDIO, VIDEO)
            for r in manifest.regions[row.clip_id][m]
        },
    }


def find_leaks(tables: Tables, emotions: list[str], speakers: list[str]) -> dict[str, float]:
    """Groups of features from which a linear model tells the emotions of unseen speakers better than by chance.

    Each group is tried alone, and all together with the region's place in the voice, and with that in the face. The
    two places are never given at once: their difference is the lag, which is planted to depend on the emotion. For the
    same reason each place alone is not quite free of it (the lag moves each by at most 0.1 s of a spread of 0.4 s).

    Returns:
        name -> accuracy, for the groups above the upper end of the binomial 99 % band of chance.
    """
    general = [name for name in tables if "position" not in name]
    tried = dict(tables)
    for position in (f"{AUDIO} position", f"{VIDEO} position"):
        tried[f"all and {position}"] = np.hstack([tables[name] for name in (*general, position)])
    limit = binom.interval(0.99, len(emotions), 1 / len(EMOTIONS))[1] / len(emotions)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    leaks = {}
    for name, features in tried.items():
        guessed = cross_val_predict(model, features, emotions, groups=speakers, cv=GroupKFold(6))
        accuracy = float(np.mean(guessed == np.array(emotions)))
        if accuracy > limit:
            leaks[name] = accuracy
    return leaks


def labels_of(manifest: Manifest) -> tuple[list[str], list[str]]:
    return [row.emotion for row in manifest.rows], [row.speaker for row in manifest.rows]


# --- no shortcut -------------------------------------------------------------------------------------------------


def test_nothing_but_the_regions_tells_the_emotion(rendered: Manifest, nuisances: Tables) -> None:
    assert find_leaks(nuisances, *labels_of(rendered)) == {}


@pytest.mark.parametrize(
    ("group", "step"), [("duration", 0.15), ("level", 0.2), ("picture", 12.0), ("audio position", 0.15)]
)
def test_a_planted_shortcut_is_found(rendered: Manifest, nuisances: Tables, group: str, step: float) -> None:
    emotions, speakers = labels_of(rendered)
    leaky = {**nuisances, group: nuisances[group].copy()}
    leaky[group][:, 0] += step * np.array([EMOTIONS.index(emotion) for emotion in emotions])
    assert group in find_leaks(leaky, emotions, speakers)


def test_level_and_peak_are_as_drawn_however_loud_the_emotion() -> None:
    plan, _ = plan_clip(SETTINGS, 0)
    for loudness_db in (-8.0, 10.0):
        loud = replace(plan, voice_shift={"loudness_db": loudness_db})
        waveform, _, facts = render_clip(loud, plan_clip(SETTINGS, 0)[1])
        rms = np.sqrt(np.mean(waveform.astype(float) ** 2))
        assert 20 * np.log10(rms) == pytest.approx(facts["rms_db"], abs=0.01)
        assert 20 * np.log10(np.abs(waveform).max() / rms) == pytest.approx(facts["crest_db"], abs=0.1)


# --- what is planted ---------------------------------------------------------------------------------------------


def test_intensity_crosses_a_half_at_the_borders() -> None:
    region = Region(AUDIO, 1.0, 1.6)
    ramp = corpus.RAMP_S
    times = np.array([0.0, 1.0 - ramp / 2, 1.0, 1.0 + ramp / 2, 1.3, 1.6, 1.6 + ramp / 2, 3.0])
    np.testing.assert_allclose(intensity(times, region), [0, 0, 0.5, 1, 1, 0.5, 0, 0], atol=1e-12)


def test_regions_lie_inside_and_keep_the_lag() -> None:
    settings = Settings()
    plans = [plan_clip(settings, index)[0] for index in range(settings.num_clips)]
    for plan in plans:
        for region in (plan.voice_region, plan.face_region):
            assert region.start_s > corpus.RAMP_S / 2
            assert region.end_s < plan.duration_s - corpus.RAMP_S / 2
            assert corpus.REGION_S[0] - 1e-9 <= region.duration_s <= corpus.REGION_S[1] + 1e-9
        assert plan.voice_region.centre_s - plan.face_region.centre_s == pytest.approx(plan.lag_s)
    for emotion, mean_s in LAGS_S.items():
        lags = [plan.lag_s for plan in plans if plan.emotion == emotion]
        assert np.mean(lags) == pytest.approx(mean_s, abs=4 * corpus.LAG_JITTER_S / np.sqrt(len(lags)))


def test_one_modality_is_weak_in_some_clips_never_both() -> None:
    settings = Settings()
    plans = [plan_clip(settings, index)[0] for index in range(settings.num_clips)]
    weak = np.array([[p.voice_strength < 0.5, p.face_strength < 0.5] for p in plans])
    assert not weak.all(axis=1).any()
    np.testing.assert_allclose(weak.mean(axis=0), corpus.WEAK_SHARE, atol=0.07)


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_voice_is_neutral_outside_its_region(emotion: str) -> None:
    rng = np.random.default_rng(3)
    traits = voice.draw_voice(rng, "female")
    said = voice.articulate(rng, traits, 500)
    inside = intensity(np.arange(500) / voice.CONTROL_HZ, Region(AUDIO, 0.9, 1.5))
    shift = voice.VOICE_SHIFTS[emotion]
    felt, neutral = (
        voice.voice_tracks(np.random.default_rng(4), traits, said, s, inside) for s in (shift, dict[str, float]())
    )
    for name, track in felt.items():
        np.testing.assert_array_equal(track[inside == 0], neutral[name][inside == 0], err_msg=name)
    pitch_st = 12 * np.log2(felt["f0_hz"] / neutral["f0_hz"])
    assert np.abs(pitch_st[inside > 0.9]).max() > 2
    waves = [voice.synthesize(np.random.default_rng(4), traits, said, s, inside) for s in (shift, {})]
    before = int(0.84 * voice.SAMPLE_RATE_HZ)
    np.testing.assert_allclose(waves[0][:before], waves[1][:before], atol=1e-9)
    assert not np.allclose(waves[0][before:], waves[1][before:], atol=1e-3)


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_face_is_neutral_outside_its_region(emotion: str) -> None:
    traits = face.draw_face(np.random.default_rng(3), "male")
    inside = intensity(np.arange(60) / face.FPS, Region(VIDEO, 0.9, 1.5))
    felt, neutral = (
        face.render(np.random.default_rng(4), traits, shift, inside, np.full(60, 0.2)).astype(int)
        for shift in (face.FACE_SHIFTS[emotion], dict[str, float]())
    )
    change = np.abs(felt - neutral).mean(axis=(1, 2, 3))
    assert (change[inside == 0] == 0).all()
    assert change[inside > 0.9].min() > 0.3


def test_each_modality_knows_nothing_of_the_others_region() -> None:
    plan, streams = plan_clip(SETTINGS, 5)
    waveform, frames, _ = render_clip(plan, streams)
    shouted = replace(plan, voice_shift={"loudness_db": 12.0, "level_st": 6.0}, voice_region=Region(AUDIO, 0.3, 1.2))
    other_waveform, other_frames, _ = render_clip(shouted, plan_clip(SETTINGS, 5)[1])
    np.testing.assert_array_equal(frames, other_frames)
    assert not np.array_equal(waveform, other_waveform)
    smiled = replace(plan, face_shift=face.FACE_SHIFTS["happiness"], face_region=Region(VIDEO, 0.3, 1.2))
    other_waveform, other_frames, _ = render_clip(smiled, plan_clip(SETTINGS, 5)[1])
    np.testing.assert_array_equal(waveform, other_waveform)
    assert not np.array_equal(frames, other_frames)


def test_lips_follow_the_syllables() -> None:
    traits = face.draw_face(np.random.default_rng(0), "female")
    lips = np.r_[np.zeros(20), np.ones(20)]
    still = np.zeros(40)
    open_, shut = (face.render(np.random.default_rng(1), traits, {}, still, level) for level in (lips, 0 * lips))
    change = np.abs(open_.astype(int) - shut).mean(axis=(1, 2, 3))
    assert (change[:20] == 0).all()
    assert (change[20:] > 0.3).all()


# --- the files ---------------------------------------------------------------------------------------------------


def test_manifest_names_every_clip(rendered: Manifest) -> None:
    emotions, speakers = labels_of(rendered)
    assert len(rendered) == SETTINGS.num_clips == 144
    assert {emotion: emotions.count(emotion) for emotion in EMOTIONS} == dict.fromkeys(EMOTIONS, 24)
    assert len(set(speakers)) == 12
    assert {row.sex for row in rendered.rows} == {"female", "male"}
    facts = json.loads((rendered.root / "corpus.json").read_text())
    assert facts["lags_s"] == LAGS_S
    for row in rendered.rows:
        regions = rendered.regions[row.clip_id]
        lag_s = regions[AUDIO][0].centre_s - regions[VIDEO][0].centre_s
        assert lag_s == pytest.approx(facts["clips"][row.clip_id]["lag_s"], abs=3e-4)


def test_files_hold_what_was_rendered_at_its_time(rendered: Manifest) -> None:
    for index in (0, 77):
        plan, streams = plan_clip(SETTINGS, index)
        waveform, frames, _ = render_clip(plan, streams)
        sound, images = decode(rendered.root / f"media/{plan.clip_id}.mp4")
        assert len(images) == len(frames)
        assert len(sound) / voice.SAMPLE_RATE_HZ == pytest.approx(len(images) / face.FPS, abs=0.1)
        shared = min(len(sound), len(waveform))
        lags = correlate(sound[:shared], waveform[:shared], mode="full", method="fft")
        assert lags.argmax() == shared - 1
        grey = frames @ np.array([0.299, 0.587, 0.114])
        assert np.abs(images - grey).mean() < 6


def test_streams_are_what_players_expect(rendered: Manifest) -> None:
    with av.open(str(rendered.root / rendered.rows[0].video)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, video.pix_fmt, video.width, video.height) == ("h264", "yuv420p", 128, 128)
        assert video.average_rate == face.FPS
        assert (audio.codec_context.name, audio.rate, audio.channels) == ("aac", voice.SAMPLE_RATE_HZ, 1)


def test_same_seed_same_bytes_whatever_the_workers(tmp_path: Path) -> None:
    small = Settings(speakers=1, clips_per_emotion=1, seed=5)
    corpus.write_corpus(tmp_path / "one", small, workers=1)
    corpus.write_corpus(tmp_path / "two", small, workers=2)
    names = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*"))
    assert len(names) == 6 + 3
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_another_seed_gives_another_clip() -> None:
    (one, frames_one, _), (two, frames_two, _) = (render_clip(*plan_clip(Settings(seed=seed), 0)) for seed in (0, 1))
    shared, num_frames = min(len(one), len(two)), min(len(frames_one), len(frames_two))
    assert not np.allclose(one[:shared], two[:shared])
    assert not np.array_equal(frames_one[:num_frames], frames_two[:num_frames])


def test_half_finished_corpus_is_made_again(tmp_path: Path) -> None:
    small = Settings(speakers=1, clips_per_emotion=1)
    corpus.write_corpus(tmp_path, small)
    clip = next((tmp_path / "media").glob("*.mp4"))
    whole = clip.read_bytes()
    clip.write_bytes(whole[:1000])
    (tmp_path / "manifest.csv").unlink()
    corpus.write_corpus(tmp_path, small)
    assert clip.read_bytes() == whole
    assert len(read_manifest(tmp_path / "manifest.csv")) == 6
    assert not list(tmp_path.rglob("*.part"))


# --- the door ----------------------------------------------------------------------------------------------------


def test_door_says_what_it_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--out", str(tmp_path), "--speakers", "1", "--clips-per-emotion", "1", "--workers", "1"]
    assert main(arguments) == 0
    assert "6 clips of 1 speakers and 6 emotions" in capsys.readouterr().out
    assert len(read_manifest(tmp_path / "manifest.csv")) == 6


def test_door_leaves_another_corpus_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "manifest.csv").write_text("precious")
    assert main(["--out", str(tmp_path), "--speakers", "1"]) == 1
    assert "another corpus" in capsys.readouterr().err
    assert (tmp_path / "manifest.csv").read_text() == "precious"


@pytest.mark.parametrize("settings", [Settings(speakers=0), Settings(clips_per_emotion=0), Settings(seed=-1)])
def test_settings_out_of_range_are_refused(tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(ManifestError, match="1 or more"):
        corpus.write_corpus(tmp_path, settings)
