"""Face crops as JPEG: one to bytes and back, and a whole track that is decoded when it is looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from avser.errors import MediaError
from avser.media.native import import_native


def encode_jpeg(rgb: np.ndarray, quality: int = 95) -> bytes:
    """(H, W, 3) uint8 RGB -> JPEG bytes; `quality` from 1 to 100.

    Raises:
        MediaError: not an image of that shape and type.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.size == 0:
        raise MediaError(f"cannot write as JPEG: expected (H, W, 3) uint8, got {rgb.shape} {rgb.dtype}")
    cv2 = import_native("cv2")
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return data.tobytes()


def decode_jpeg(data: bytes | np.ndarray) -> np.ndarray:
    """JPEG bytes (or a (num_bytes,) uint8 array) -> (H, W, 3) uint8 RGB.

    Raises:
        MediaError: the bytes are no complete image.
    """
    cv2 = import_native("cv2")
    buffer = np.frombuffer(data, np.uint8)
    try:
        rgb = cv2.imdecode(buffer, cv2.IMREAD_COLOR_RGB) if buffer.size else None
    except cv2.error as error:
        raise MediaError(f"not a JPEG image: {error}") from error
    if rgb is None:
        raise MediaError(f"not a JPEG image ({buffer.size} bytes)")
    return np.asarray(rgb)


class JpegCrops:
    """The crops of one face, kept as JPEG: an hour of them fits in memory, and a few are read without the others.

    Indexed like an array (T, H, W, 3) along its first axis.

    Args:
        data: (num_bytes,) uint8, the images one after the other.
        offsets: (T+1,) int64, where each begins and ends; no bytes stand for a black crop.
        crop_px: side of the crops.

    Raises:
        MediaError: an index meets an image that is damaged, or of another size.
    """

    def __init__(self, data: np.ndarray, offsets: np.ndarray, crop_px: int) -> None:
        if offsets[0] != 0 or offsets[-1] != data.size or (np.diff(offsets) < 0).any():
            raise MediaError("the bounds of the face crops do not fit their bytes")
        self.data = data
        self.offsets = offsets
        self.crop_px = crop_px

    @classmethod
    def from_images(cls, images: Sequence[bytes], crop_px: int) -> JpegCrops:
        """Of T JPEG images, empty bytes for a black crop."""
        offsets = np.cumsum([0, *map(len, images)], dtype=np.int64)
        return cls(np.frombuffer(b"".join(images), np.uint8), offsets, crop_px)

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self), self.crop_px, self.crop_px, 3

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: Any) -> np.ndarray:
        wanted = np.arange(len(self))[index]
        crops = np.zeros((*wanted.shape, *self.shape[1:]), np.uint8)
        for place, i in np.ndenumerate(wanted):
            if self.offsets[i] < self.offsets[i + 1]:
                crop = decode_jpeg(self.data[self.offsets[i] : self.offsets[i + 1]])
                if crop.shape != self.shape[1:]:
                    raise MediaError(f"a face crop of {crop.shape[:2]} px among those of {self.crop_px} px")
                crops[place] = crop
        return crops

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:] if dtype is None else self[:].astype(dtype)


class JpegRun:
    """Collects the crops of one face as JPEG, in one piece of memory.

    As many small pieces they would lie between the pictures that they were cut from, and keep that memory from being
    used again: five times their own size, measured.
    """

    def __init__(self) -> None:
        self._data = bytearray()
        self._lengths: dict[int, int] = {}

    def add(self, index: int, image: bytes) -> None:
        """The image of a frame; the frames have to come in order, and may be left out."""
        self._lengths[index] = len(image)
        self._data += image

    def crops(self, num_frames: int, crop_px: int) -> JpegCrops:
        """Of all frames; black where none was added. Shares the memory: nothing can be added afterwards."""
        lengths = np.zeros(num_frames, np.int64)
        lengths[list(self._lengths)] = list(self._lengths.values())
        return JpegCrops(np.frombuffer(self._data, np.uint8), np.concatenate([[0], np.cumsum(lengths)]), crop_px)
