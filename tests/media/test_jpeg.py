from __future__ import annotations

import numpy as np
import pytest

from avser.errors import MediaError
from avser.media.jpeg import decode_jpeg, encode_jpeg

RAMP = np.stack(np.broadcast_arrays(np.arange(64) * 4, np.arange(64)[:, None] * 4, 128), -1).astype(np.uint8)


def test_round_trip_keeps_colours_in_their_channels():
    data = encode_jpeg(RAMP)
    assert data[:2] == b"\xff\xd8"
    assert np.abs(decode_jpeg(data).astype(int) - RAMP).mean() < 2
    np.testing.assert_array_equal(decode_jpeg(np.frombuffer(data, np.uint8)), decode_jpeg(data))
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 255
    assert decode_jpeg(encode_jpeg(red))[8, 8] == pytest.approx([255, 0, 0], abs=3)


def test_lower_quality_is_smaller():
    assert len(encode_jpeg(RAMP, quality=30)) < len(encode_jpeg(RAMP, quality=95))


@pytest.mark.parametrize("data", [b"", b"abc", encode_jpeg(RAMP)[:100]])
def test_no_image_is_an_error(data):
    with pytest.raises(MediaError, match="not a JPEG image"):
        decode_jpeg(data)


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 4), (0, 8, 3)])
def test_wrong_shapes_are_refused(shape):
    with pytest.raises(MediaError, match=r"expected \(H, W, 3\) uint8"):
        encode_jpeg(np.zeros(shape, np.uint8))
    with pytest.raises(MediaError, match="float32"):
        encode_jpeg(np.zeros((8, 8, 3), np.float32))
