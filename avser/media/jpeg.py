"""One face crop to JPEG bytes and back."""

from __future__ import annotations

import cv2
import numpy as np

from avser.errors import MediaError


def encode_jpeg(rgb: np.ndarray, quality: int = 95) -> bytes:
    """(H, W, 3) uint8 RGB -> JPEG bytes; `quality` from 1 to 100.

    Raises:
        MediaError: not an image of that shape and type.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.size == 0:
        raise MediaError(f"cannot write as JPEG: expected (H, W, 3) uint8, got {rgb.shape} {rgb.dtype}")
    _, data = cv2.imencode(".jpg", rgb[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return data.tobytes()


def decode_jpeg(data: bytes | np.ndarray) -> np.ndarray:
    """JPEG bytes (or a (num_bytes,) uint8 array) -> (H, W, 3) uint8 RGB.

    Raises:
        MediaError: the bytes are no complete image.
    """
    buffer = np.frombuffer(data, np.uint8)
    try:
        rgb = cv2.imdecode(buffer, cv2.IMREAD_COLOR_RGB) if buffer.size else None
    except cv2.error as error:
        raise MediaError(f"not a JPEG image: {error}") from error
    if rgb is None:
        raise MediaError(f"not a JPEG image ({buffer.size} bytes)")
    return np.asarray(rgb)
