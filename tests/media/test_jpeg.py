from __future__ import annotations

import numpy as np
import pytest

from avser.errors import MediaError
from avser.media.jpeg import JpegCrops, JpegRun, decode_jpeg, encode_jpeg

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


PLAIN = [np.full((8, 8, 3), grey, np.uint8) for grey in (50, 100, 150)]


def test_crops_are_indexed_like_an_array():
    crops = JpegCrops.from_images([encode_jpeg(PLAIN[0]), b"", encode_jpeg(PLAIN[1]), encode_jpeg(PLAIN[2])], 8)
    assert (len(crops), crops.shape) == (4, (4, 8, 8, 3))
    assert crops[:].mean(axis=(1, 2, 3)).tolist() == pytest.approx([50, 0, 100, 150], abs=1)
    for index in (slice(1, 3), slice(None, None, -2), np.array([2, 0, 0]), crops[:].any(axis=(1, 2, 3)), -1, []):
        np.testing.assert_array_equal(crops[index], crops[:][index])
    np.testing.assert_array_equal(np.asarray(crops, float), crops[:].astype(float))


def test_only_what_is_looked_at_is_decoded():
    crops = JpegCrops.from_images([encode_jpeg(PLAIN[0]), b"no image", encode_jpeg(np.zeros((9, 9, 3), np.uint8))], 8)
    assert crops[0].mean() == pytest.approx(50, abs=1)
    with pytest.raises(MediaError, match="not a JPEG image"):
        crops[1]
    with pytest.raises(MediaError, match=r"\(9, 9\) px among those of 8 px"):
        crops[2]


@pytest.mark.parametrize("offsets", [[1, 4], [0, 3], [0, 5], [0, 3, 2, 4]])
def test_bounds_that_do_not_fit_are_refused(offsets):
    with pytest.raises(MediaError, match="do not fit"):
        JpegCrops(np.zeros(4, np.uint8), np.array(offsets), 8)


def test_a_run_is_the_images_that_were_added_and_black_between_them():
    run = JpegRun()
    for index, image in ((1, PLAIN[0]), (2, PLAIN[1]), (5, PLAIN[2])):
        run.add(index, encode_jpeg(image))
    crops = run.crops(7, 8)
    black = b""
    same = [black, encode_jpeg(PLAIN[0]), encode_jpeg(PLAIN[1]), black, black, encode_jpeg(PLAIN[2]), black]
    np.testing.assert_array_equal(crops[:], JpegCrops.from_images(same, 8)[:])
    np.testing.assert_array_equal(crops.offsets, JpegCrops.from_images(same, 8).offsets)


def test_an_empty_run_is_black():
    crops = JpegRun().crops(3, 8)
    assert crops.shape == (3, 8, 8, 3)
    assert not crops[:].any()
