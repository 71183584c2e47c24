"""The video is as long as the recording, sounds like it, and shows the face, the emotions and both curves."""

import numpy as np
import pytest

from avser.errors import MediaError
from avser.media.audio import decode_audio
from avser.media.canvas import colour_of
from avser.media.video import iterate_frames, probe
from avser.recordings.answer import answer_recording
from avser.recordings.drawing import PANEL_PX, PICTURE_PX, STRIP_PX, draw_frames, write_video
from avser.roi.report.plots import EMOTION_COLOURS, MODALITY_COLOURS
from avser.structures import AUDIO, FUSED, VIDEO


def holds(image, code, tolerance=12):
    """How many pixels have a colour."""
    return int((np.abs(image.astype(int) - colour_of(code)).max(axis=2) <= tolerance).sum())


def test_a_video_with_the_answer_drawn_in(models, tiny_corpus, tmp_path):
    path = sorted((tiny_corpus / "media").glob("*.mp4"))[0]
    recording = answer_recording(models[FUSED], path)
    drawn = list(draw_frames(recording))
    originals = list(iterate_frames(path))
    assert [frame.time_s for frame in drawn] == [frame.time_s for frame in originals]
    image, source = drawn[len(drawn) // 2].image, originals[0].image
    width = 2 * round(source.shape[1] * PICTURE_PX / source.shape[0] / 2)
    assert image.shape == (PICTURE_PX + STRIP_PX, width + PANEL_PX, 3)
    emotion = recording.summary.emotion
    share = recording.summary.probabilities[emotion]
    bars = image[120:PICTURE_PX, width:]
    assert holds(bars, EMOTION_COLOURS[emotion]) >= 0.8 * share * (PANEL_PX - 40) * 8
    strip = image[PICTURE_PX:]
    for modality in (AUDIO, VIDEO):
        assert holds(strip, MODALITY_COLOURS[modality]) > 300
    one, other = (drawn[i].image[PICTURE_PX + 40 :, 70:] for i in (0, -1))
    dark = [np.argmax((part.max(axis=2) < 60).sum(axis=0)) for part in (one, other)]
    assert dark[0] < 20 < 300 < dark[1]  # the cursor runs from one end to the other
    write_video(recording, tmp_path / "out.mp4")
    info = probe(tmp_path / "out.mp4")
    assert info.duration_s == pytest.approx(recording.duration_s, abs=0.1)
    heard, sounded = (decode_audio(p, sample_rate_hz=16000)[0] for p in (tmp_path / "out.mp4", path))
    num = min(len(heard), len(sounded))
    assert np.corrcoef(heard[:num], sounded[:num])[0, 1] > 0.95
    assert list(tmp_path.iterdir()) == [tmp_path / "out.mp4"]


def test_what_has_no_picture_cannot_be_drawn(models, tiny_corpus, tmp_path):
    voice = decode_audio(sorted((tiny_corpus / "media").glob("*.mp4"))[0])[0]
    recording = answer_recording(models[AUDIO], voice, sample_rate_hz=16000)
    with pytest.raises(MediaError, match="no picture"):
        write_video(recording, tmp_path / "out.mp4")
    assert not list(tmp_path.iterdir())
