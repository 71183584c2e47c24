"""Reads the picture of a clip: upright RGB frames, each with its true time in seconds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from avser.errors import MediaError
from avser.media.container import MAX_DURATION_S, OpenMedia, check_interval, check_size, open_media, time_zero_s

Picture = TypeVar("Picture")

HASTY_S = 0.0009  # no camera takes a thousand pictures a second
ROUNDING_S = 0.0005  # containers round to a millisecond, manifests to six digits: a cut on a frame includes it


@dataclass(frozen=True)
class Frame:
    """One picture.

    Attributes:
        time_s: presentation time, from time 0 of the clip.
        image: (H, W, 3) uint8 RGB, upright.
    """

    time_s: float
    image: np.ndarray


@dataclass(frozen=True)
class MediaInfo:
    """What the header of a file says, without decoding.

    Attributes:
        duration_s: None where the file does not say.
        has_audio, has_video: whether there is such a track and it can be decoded; a cover picture is no video.
        fps: average rate of the video, None without one.
        width_px, height_px: of the stored picture, before it is turned upright; None without a video.
        sample_rate_hz, num_channels: of the audio, None without it.
    """

    duration_s: float | None
    has_audio: bool
    has_video: bool
    fps: float | None = None
    width_px: int | None = None
    height_px: int | None = None
    sample_rate_hz: int | None = None
    num_channels: int | None = None


def probe(path: str | Path) -> MediaInfo:
    """Look into a file.

    Raises:
        MediaError: missing, empty, unreadable, a Git LFS pointer, or pictures beyond 8192 px a side.
    """
    with open_media(Path(path)) as media:
        audio, video, duration = media.audio, media.video, media.container.duration
        rate = video and (video.average_rate or video.guessed_rate)
        return MediaInfo(
            duration_s=duration / av.time_base if duration is not None else None,
            has_audio=audio is not None,
            has_video=video is not None,
            fps=float(rate) if rate else None,
            width_px=video.codec_context.width if video else None,
            height_px=video.codec_context.height if video else None,
            sample_rate_hz=audio.codec_context.sample_rate if audio else None,
            num_channels=audio.codec_context.layout.nb_channels if audio else None,
        )


def iterate_frames(
    path: str | Path,
    *,
    fps: float | None = None,
    start_s: float | None = None,
    end_s: float | None = None,
    zero_s: float | None = None,
    warnings: list[str] | None = None,
) -> Iterator[Frame]:
    """The frames of a file in order of time, in one pass that holds two of them at once.

    Args:
        path: any file that FFmpeg decodes.
        fps: None for every frame; else, for each time k / fps, the nearest frame, none twice: of a source that is
            slower than `fps`, every frame. Times stay those of the frames.
        start_s, end_s: the part that is the clip; time 0 is then `start_s`.
        zero_s: `time_zero_s` of the file, where it has been measured already.
        warnings: sentences on what could not be decoded are appended here, the last of them at the end.

    Yields:
        Frames; time 0 is where the earliest of the file's audio and video tracks starts. The rotation that the file
        asks for is applied, its pixel aspect is not.

    Raises:
        MediaError: missing, empty, unreadable, a Git LFS pointer, no video track, nothing decodable, nothing between
            `start_s` and `end_s`, or pictures beyond 8192 px a side.
    """
    path = Path(path)
    start, end = check_interval(path, start_s, end_s)
    with open_media(path) as media:
        if media.video is None:
            raise MediaError(f"{path}: has no video track that can be decoded")
        zero_s = time_zero_s(path) if zero_s is None else zero_s
        timed = _in_time(media, zero_s + start, end - start)
        to_rgb = VideoReformatter()  # one for all frames: to set it up takes longer than to convert a frame
        num_frames = 0
        for time_s, frame in timed if fps is None else _nearest_to_grid(timed, fps):
            num_frames += 1
            yield Frame(time_s, _upright(path, frame, to_rgb))
        damage = media.damage()
        if not num_frames:
            where = "" if start_s is None and end_s is None else f" between {start:g} s and {end:g} s"
            raise MediaError(f"{path}: no picture{where}; " + "; ".join([*damage, "check the file and the times"]))
    if warnings is not None:
        warnings.extend(damage)


def frames_of(images: np.ndarray, images_fps: float, *, fps: float | None = None) -> Iterator[Frame]:
    """Pictures (T, H, W, 3) uint8 RGB, the first at time 0, thinned out as `iterate_frames` thins out a file."""
    timed = ((index / images_fps, image) for index, image in enumerate(images))
    for time_s, image in timed if fps is None else _nearest_to_grid(timed, fps):
        yield Frame(time_s, np.ascontiguousarray(image))


def _in_time(media: OpenMedia, zero_s: float, length_s: float) -> Iterator[tuple[float, VideoFrame]]:
    """(seconds from time 0, frame), strictly increasing."""
    assert media.video is not None
    step_s = float(1 / (media.video.average_rate or 25))  # only for frames without a timestamp
    last_s, num_backwards, num_hasty = -float("inf"), 0, 0
    for frame in media.frames(media.video, zero_s):
        time_s = last_s + step_s if frame.time is None else frame.time - zero_s
        if time_s >= length_s - ROUNDING_S:
            break
        if time_s > MAX_DURATION_S:
            raise MediaError(
                f"{media.path}: a frame {time_s:.0f} s from the start; at most {MAX_DURATION_S:.0f} s are read at "
                "once, cut the file into clips with start_s and end_s"
            )
        if time_s <= last_s:
            num_backwards += 1
        elif time_s >= -ROUNDING_S:
            num_hasty += time_s - last_s < HASTY_S
            last_s = time_s
            yield max(time_s, 0.0), frame
    if num_backwards:
        media.notes.append(f"{media.path.name}: {num_backwards} frames left out whose timestamps run backwards")
    if num_hasty:
        media.notes.append(
            f"{media.path.name}: {num_hasty} frames that last no millisecond; the timestamps are damaged"
        )


def _nearest_to_grid(timed: Iterator[tuple[float, Picture]], fps: float) -> Iterator[tuple[float, Picture]]:
    """For each time k / fps the nearest frame, none twice."""
    if not fps > 0:
        raise MediaError(f"fps={fps}: must be above 0, or None for every frame")
    held: tuple[float, Picture] | None = None
    tick = 0  # the first grid time that no frame has been chosen for
    interval_s = 1 / fps
    for time_s, frame in timed:
        if held is not None:
            interval_s = time_s - held[0]
            middle_s = held[0] + interval_s / 2
            if tick / fps <= middle_s:
                yield held
                tick = int(middle_s * fps) + 1
        held = (time_s, frame)
    # How long the last frame is shown no timestamp says: as long as the one before it.
    if held is not None and tick / fps <= held[0] + interval_s / 2:
        yield held


def _upright(path: Path, frame: VideoFrame, to_rgb: VideoReformatter) -> np.ndarray:
    """(H, W, 3) uint8 RGB, turned by the multiple of 90 degrees that the file asks for."""
    check_size(path, frame.width, frame.height)
    image = to_rgb.reformat(frame, format="rgb24", threads=1).to_ndarray()
    quarter_turns = round(frame.rotation / 90) % 4  # counterclockwise, as np.rot90 turns
    return np.ascontiguousarray(np.rot90(image, quarter_turns))
