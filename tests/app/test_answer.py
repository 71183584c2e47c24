"""An upload goes in, an answer of every model comes out; those that cannot answer say why."""

from __future__ import annotations

from pathlib import Path

import pytest

from avser.app import answer as answering
from avser.app.admission import Limits
from avser.app.answer import answer_upload, load_served
from avser.app.uploads import Upload
from avser.errors import CheckpointError, ConfigError

LIMITS = Limits(max_s=3)


def silent(progress) -> None:
    pass


@pytest.fixture(scope="module")
def models(tiny_ablation):
    return load_served([tiny_ablation, tiny_ablation / "audio", tiny_ablation / "video"])


def test_models_answer_side_by_side_from_one_decoding(models, recording, monkeypatch) -> None:
    decoded = []
    monkeypatch.setattr(answering, "read_clip", lambda *a, **k: decoded.append(a) or read(*a, **k))
    steps = []
    answers = answer_upload(Upload(recording, "my clip.mp4"), models, LIMITS, lambda p: steps.append(p.step))
    assert [a.fault for a in answers] == ["", "", ""]
    assert [a.model for a in answers] == ["ablation", "ablation/audio", "ablation/video"]
    assert [set(a.view.regions) for a in answers] == [{"audio", "video"}, {"audio"}, {"video"}]
    assert len(decoded) == 1
    assert [s for s in steps if s != "faces"] == ["read", *["ask", "report"] * 3]
    for a in answers:
        assert a.view.video is not None
        assert "my clip.mp4" in a.report
        assert str(recording.parent) not in a.report
        assert all(str(m.folder) not in a.report for m in models[0].parts.values())


read = answering.read_clip


def test_it_is_the_answer_that_the_library_gives(models, recording) -> None:
    from avser.inference import predict

    (answer,) = answer_upload(Upload(recording, "a.mp4"), models[:1], LIMITS, silent)
    expected = predict(models[0].main, recording)
    assert answer.view.prediction.probabilities == pytest.approx(expected.probabilities, abs=1e-5)


def test_a_long_recording_is_looked_at_once(models, recording, monkeypatch) -> None:
    (whole,) = answer_upload(Upload(recording, "a.mp4"), models[:1], LIMITS, silent)
    monkeypatch.setattr(answering, "WHOLE_S", 0.5)
    monkeypatch.setattr(answering, "explain", None)
    (once,) = answer_upload(Upload(recording, "a.mp4"), models[:1], LIMITS, silent)
    assert once.view.regions == whole.view.regions
    assert once.view.prediction.probabilities == pytest.approx(whole.view.prediction.probabilities, abs=1e-5)
    assert any("longer than" in warning for warning in once.view.warnings)
    assert once.view.video is not None
    assert "a.mp4" in once.report


def test_a_model_that_cannot_answer_says_why_and_the_others_go_on(models, write_media) -> None:
    path = write_media("a.wav", 1.0, voice="pcm_s16le")
    answers = answer_upload(Upload(path, "mine.wav"), models, LIMITS, silent)
    assert [bool(a.fault) for a in answers] == [False, False, True]
    assert "needs video" in answers[2].fault
    (alone,) = answer_upload(Upload(path, "mine.wav"), models[2:], LIMITS, silent)
    assert alone.fault.startswith("mine.wav has nothing for the model, which needs a picture")


def test_a_recording_that_is_longer_than_its_header_says_is_not_read_to_its_end(models, write_media) -> None:
    path = write_media("a.webm", 6.0, voice="libopus", live="1")
    (answer,) = answer_upload(Upload(path, "mine.webm"), models[1:2], LIMITS, silent)
    assert "mine.webm lasts" in answer.fault
    assert "at most 3 s" in answer.fault


def test_a_recording_without_a_length_in_its_header_is_answered(models, write_media) -> None:
    path = write_media("a.webm", 2.5, voice="libopus", live="1")
    (answer,) = answer_upload(Upload(path, "mine.webm"), models[1:2], LIMITS, silent)
    assert answer.fault == ""
    assert answer.view.duration_s == pytest.approx(2.5, abs=0.1)


def test_faults_do_not_tell_where_files_lie_on_the_server(models, tmp_path: Path) -> None:
    path = tmp_path / "recording.mp4"
    path.write_bytes(b"\0\0\0\x18ftypisom" + b"\xff" * 600)
    (answer,) = answer_upload(Upload(path, "<b>mine.mp4"), models[:1], LIMITS, silent)
    assert answer.fault.startswith("<b>mine.mp4: not readable")
    assert str(tmp_path) not in answer.fault


def test_models_of_one_name_are_told_apart_by_their_paths(tiny_ablation, tmp_path: Path) -> None:
    other = tmp_path / "other" / "ablation"
    other.parent.mkdir()
    other.symlink_to(tiny_ablation / "audio")
    copied = tmp_path / "copied"
    copied.mkdir()
    for name in ("config.yaml", "model.safetensors"):
        (copied / name).write_bytes((tiny_ablation / "audio" / name).read_bytes())
    assert [m.name for m in load_served([tiny_ablation / "audio", copied])] == ["audio", "copied"]
    with pytest.raises(ConfigError, match="named twice"):
        load_served([tiny_ablation / "audio", other])


def test_what_is_no_run_is_refused_before_anybody_asks(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        load_served([tmp_path])
    with pytest.raises(ConfigError, match="at least one run"):
        load_served([])
