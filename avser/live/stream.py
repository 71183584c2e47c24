"""`avser.Stream`: a model that is fed in chunks, and answers after each of them."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

import numpy as np
import torch
from numpy.typing import ArrayLike

from avser.data.cache_jobs import tracker_for
from avser.data.clip_file import BLENDSHAPES, LANDMARKS
from avser.data.dataset import Example, collate, parts_of
from avser.errors import AvserError, ConfigError
from avser.features.running import Memory
from avser.inference import TrainedModel, predict_clips, read_prediction
from avser.live.rereading import Rereading
from avser.media.live_faces import LiveFace
from avser.media.video import Frame
from avser.models.causal_recognizer import CausalRecognizer
from avser.roi.salience.curves import salience_curve
from avser.structures import AUDIO, VIDEO, Clip, FaceTrack, Prediction

NAME = "live"  # clip_id of the answers
WARM_UP_S = 0.5
VIDEO_PARTS = {VIDEO, LANDMARKS, BLENDSHAPES}


class Stream:
    """One recording that is still going on: its state goes from chunk to chunk and does not grow.

    A causal model (`model.causal=true`) answers what it would answer about all that came in so far, whatever the sizes
    of the chunks. Any other model can only be asked again about the last seconds, whole: for that, `window_s` has to be
    given, and each answer costs as much as a clip of that length.

    Args:
        model: as `avser.load_model` gives it.
        window_s: of a model that is not causal: seconds that are read anew at each push.

    Raises:
        ConfigError: the model is not causal and no `window_s` is given; or it is, and one is. Or the face is wanted,
            and what finds it is not there.

    Example:
        stream = avser.Stream(avser.load_model("runs/live"))
        while ...:
            prediction = stream.push(audio=samples)
    """

    def __init__(self, model: TrainedModel, *, window_s: float | None = None) -> None:
        self.model = model
        self.is_causal = isinstance(model.network, CausalRecognizer)
        if self.is_causal and window_s is not None:
            raise ConfigError(
                f"a window of {window_s:g} s: {model.folder} is causal and reads every chunk once; its attention sees "
                f"the last {model.config.model.attention.window_s:g} s (model.attention.window_s, fixed in training)"
            )
        if not self.is_causal and window_s is None:
            raise ConfigError(
                f"{model.folder} is not causal: it has to see whole clips. Train one that is (avser train av_roi "
                "CORPUS live), or let it read the last seconds anew for each answer: give a window, about as long as "
                "the clips that it was trained on (window_s=4, or --window 4; at most "
                f"{model.config.data.max_duration_s:g})"
            )
        if window_s is not None and not 0 < window_s <= model.config.data.max_duration_s:
            raise ConfigError(
                f"a window of {window_s:g} s: it must be above 0 and at most data.max_duration_s="
                f"{model.config.data.max_duration_s:g}, the longest clip that the model was trained on"
            )
        if model.modalities == (VIDEO,) and VIDEO_PARTS.isdisjoint(parts_of(model.config.model)):
            raise ConfigError(f"{model.folder} reads tables that another program makes of a face; none come in live")
        self.sample_rate_hz = model.config.media.sample_rate_hz
        self._rereading = None if window_s is None else Rereading(model, window_s, NAME)
        tracker = tracker_for(model.config.media) if VIDEO in model.modalities else None
        self._face = None if tracker is None else LiveFace(tracker)
        self.reset()
        self._warm_up()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the face detector."""
        if self._face is not None:
            self._face.close()

    def reset(self) -> None:
        """Forget all that came in; the next chunk begins at 0 seconds."""
        self._memory, self._num_samples, self._last_frame_s = Memory(), 0, -np.inf
        if self._face is not None:
            self._face.reset()
        if self._rereading is not None:
            self._rereading.reset()

    @property
    def now_s(self) -> float:
        """Seconds that have come in, of the modality that is ahead."""
        return max(self._num_samples / self.sample_rate_hz, self._last_frame_s, 0.0)

    def push(
        self, *, audio: ArrayLike | None = None, frames: Sequence[Frame] | FaceTrack | None = None
    ) -> Prediction | None:
        """Take in what is new, and answer.

        Args:
            audio: (n,) samples in [-1, 1] at the model's `sample_rate_hz`, going on where those before ended, the first
                at 0 seconds; n is any number. int16 is scaled.
            frames: pictures with their times on the same axis, about `media.fps` a second; the face is looked for in
                them. Or a FaceTrack, where it has been found already.

        Returns:
            What the last seconds say, with times in seconds of the stream; None while there is nothing to go by. What
            the model does not read is passed over, as in `avser.predict`.

        Raises:
            AvserError: samples that are not numbers, or not in one row; frames that do not go on in time.
        """
        samples = self._samples(audio) if AUDIO in self.model.modalities else None
        face = self._faces(frames) if VIDEO in self.model.modalities else None
        if self._rereading is not None:
            return self._rereading.push(samples, face, self.now_s)
        return self._extend(Clip(NAME, self.now_s, samples, self.sample_rate_hz, face), self._memory)

    def _extend(self, clip: Clip, memory: Memory) -> Prediction | None:
        model, network = self.model, self.model.network
        assert isinstance(network, CausalRecognizer)
        batch = collate([Example(NAME, clip, None)], parts=parts_of(model.config.model)).to(model.device)
        with torch.no_grad():
            output = network.extend(batch, memory)
        if output is None:
            return None
        shares = output.logits[0].softmax(dim=0).double().cpu().numpy()
        curves = {
            modality: salience_curve(part, 0, int(shares.argmax()))
            for modality, part in output.attended.items()
            if part.mask.any()
        }
        return read_prediction(model, output, 0, clip, shares, curves)

    def _warm_up(self) -> None:
        """The first pass through a network takes many times as long as the next; nobody should wait for it live."""
        crop_px, num = self.model.config.media.crop_px, round(WARM_UP_S * self.sample_rate_hz)
        face = FaceTrack(
            times=np.zeros(1),
            crops=np.zeros((1, crop_px, crop_px, 3), np.uint8),
            found=np.ones(1, bool),
            boxes=np.zeros((1, 4), np.float32),
            landmarks=np.zeros((1, 478, 2), np.float32),
            blendshapes=np.zeros((1, 52), np.float32),
        )
        clip = Clip(NAME, WARM_UP_S, np.zeros(num, np.float32), self.sample_rate_hz, face)
        if self._rereading is not None:
            predict_clips(self.model, [clip])
            return
        self._extend(clip, Memory())

    def _samples(self, audio: ArrayLike | None) -> np.ndarray | None:
        samples = np.zeros(0, np.float32) if audio is None else np.asarray(audio)
        if samples.ndim != 1 or samples.dtype.kind not in "fi" or (samples.dtype.kind == "i" and samples.itemsize != 2):
            raise AvserError(
                f"audio of shape {samples.shape} and type {samples.dtype}: push one row of samples, float in [-1, 1] "
                "or int16; mix channels to one first"
            )
        if samples.dtype.kind == "i":
            samples = samples / 32768
        if not np.isfinite(samples).all():
            raise AvserError("audio holds values that are not numbers (NaN or infinite); they would stay in the state")
        self._num_samples += len(samples)
        return np.clip(samples, -1, 1).astype(np.float32) if len(samples) else None

    def _faces(self, frames: Sequence[Frame] | FaceTrack | None) -> FaceTrack | None:
        if frames is None or not len(frames):
            return None
        times = frames.times if isinstance(frames, FaceTrack) else np.array([frame.time_s for frame in frames])
        if not (np.diff(times, prepend=self._last_frame_s) > 0).all():
            told = ", ".join(f"{time_s:.3f}" for time_s in times[:4])
            raise AvserError(
                f"frames at {told} s after one at {self._last_frame_s:.3f} s: times have to grow from frame to frame, "
                "over all pushes"
            )
        self._last_frame_s = float(times[-1])
        if isinstance(frames, FaceTrack):
            return frames
        if self._face is None:
            raise ConfigError(
                f"{self.model.folder} looks for no faces (media.faces.tracker=none); push a FaceTrack instead of frames"
            )
        return self._face.follow(frames)
