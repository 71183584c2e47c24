"""One live run from a source to its answers: what `avser live` calls."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from avser.errors import ConfigError
from avser.inference import TrainedModel
from avser.live.follow import LiveAnswer, follow
from avser.live.stream import Stream
from avser.media.live_sources import Chunk, Devices, file_chunks
from avser.structures import AUDIO, MODALITIES, VIDEO


@dataclass(frozen=True)
class LiveSource:
    """Where the voice and the face come from.

    Attributes:
        file: read as if it came in live; None for the devices.
        camera: number, or address of a network camera.
        microphone: number or name; "" for the system's usual one.
        without: modalities that are left out.
        chunk_s: seconds between two answers.
    """

    file: Path | None = None
    camera: int | str = 0
    microphone: int | str = ""
    without: tuple[str, ...] = ()
    chunk_s: float = 0.1

    def chunks(self, model: TrainedModel) -> Iterable[Chunk]:
        """What the model reads of it.

        Raises:
            ConfigError: nothing is left of what the model reads, or a chunk has no length.
        """
        if unknown := set(self.without) - set(MODALITIES):
            raise ConfigError(f"--without {', '.join(sorted(unknown))}: take audio or video")
        if not 0.01 <= self.chunk_s <= 10:
            raise ConfigError(f"--chunk {self.chunk_s:g}: seconds between two answers, from 0.01 to 10")
        wanted = [modality for modality in model.modalities if modality not in self.without]
        if not wanted:
            raise ConfigError(
                f"--without {' and '.join(self.without)}: {model.folder} reads {' and '.join(model.modalities)} alone; "
                "leave one of them in"
            )
        media = model.config.media
        if self.file is not None:
            return file_chunks(
                self.file,
                self.chunk_s,
                sample_rate_hz=media.sample_rate_hz,
                fps=media.fps,
                voice=AUDIO in wanted,
                face=VIDEO in wanted,
            )
        return Devices(
            camera=self.camera if VIDEO in wanted else None,
            microphone=self.microphone if AUDIO in wanted else None,
            sample_rate_hz=media.sample_rate_hz,
            fps=media.fps,
            chunk_s=self.chunk_s,
        )


def run_live(
    model: TrainedModel, source: LiveSource, *, window_s: float | None = None, pace: float = 1.0
) -> Iterator[LiveAnswer]:
    """An answer after every chunk, until the source ends or the iteration is given up.

    Args:
        window_s: see `Stream`.
        pace: of a file, see `follow`.

    Raises:
        AvserError: model and source do not fit, or one of them fails.
    """
    if not 0 <= pace <= 100:
        raise ConfigError(f"--pace {pace:g}: 1 is real time, 2 twice as fast, 0 as fast as it can; at most 100")
    with Stream(model, window_s=window_s) as stream:
        yield from follow(stream, source.chunks(model), pace=pace)
