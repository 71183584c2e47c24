"""One line for any recording: `avser.predict(model, "talk.mp4")`, whatever it comes as and however long it is."""

from __future__ import annotations

from avser.inference import TrainedModel
from avser.inference import predict as predict_clip
from avser.recordings.answer import answer_recording, windowing_for
from avser.recordings.source import Given
from avser.roi.salience.sources import AUTO
from avser.structures import Clip, Prediction


def predict(
    model: TrainedModel,
    clip: Given | Clip,
    *,
    salience: str = AUTO,
    window_s: float | None = None,
    hop_s: float | None = None,
    sample_rate_hz: int | None = None,
    fps: float | None = None,
) -> Prediction:
    """The emotion of one recording, with salience curves, evidence and regions of interest for each modality.

    A recording longer than the training clips may be (data.max_duration_s) is cut into windows that overlap: the answer
    is then their mean over time, and curves and regions run over all of it. `answer_recording` tells more: every window
    and every face.

    Args:
        clip: a path; a file object opened for reading bytes; a voice (N,) or (C, N) of floats; pictures (T, H, W, 3)
            uint8 RGB; both as a pair; or a decoded clip, which is answered whole.
        salience: how to ask which moments carried the answer, a key of `avser.roi.salience.sources.SOURCES`.
        window_s, hop_s: length of a window, and from one to the next; by default 4 s every 2 s.
        sample_rate_hz, fps: of arrays, which do not say it.

    Raises:
        MediaError: the recording cannot be used; the message says why.
        ConfigError: impossible windows.
        AvserError: the model cannot be asked for its salience in that way.
    """
    if isinstance(clip, Clip):
        return predict_clip(model, clip, salience=salience)
    how = windowing_for(model.config, window_s, hop_s)
    given = answer_recording(model, clip, how=how, salience=salience, sample_rate_hz=sample_rate_hz, fps=fps)
    return given.summary
