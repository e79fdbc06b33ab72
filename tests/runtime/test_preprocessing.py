"""The one resize, pinned bit by bit: a model is tied to it."""

from __future__ import annotations

import numpy as np
import pytest

from stfpm_runtime.errors import ImageError
from stfpm_runtime.imaging.preprocessing import RESIZE, preprocess, shrink, to_bgr8

# Of pattern(height, width) brought to 4x6: the first channel, and the sum of each channel.
GOLDEN = {
    "shrinks by 4": (
        (16, 24), (2920, 2992, 3112),
        [[121, 135, 133, 131, 129, 95], [127, 125, 139, 137, 135, 117],
         [101, 131, 129, 127, 125, 139], [139, 121, 103, 117, 83, 81]],
    ),
    "shrinks by 2": (
        (8, 12), (3120, 3048, 3104),
        [[67, 132, 133, 134, 135, 136], [152, 133, 114, 159, 140, 121],
         [109, 134, 95, 120, 145, 170], [130, 135, 140, 145, 150, 91]],
    ),
    "shrinks from odd sides": (
        (13, 19), (3055, 3023, 3103),
        [[106, 130, 139, 133, 131, 137], [127, 115, 135, 146, 134, 129],
         [121, 133, 137, 126, 139, 111], [99, 132, 122, 126, 128, 119]],
    ),
    "shrinks by less than 2": (
        (7, 6), (2939, 3187, 3139),
        [[27, 111, 174, 78, 128, 134], [93, 166, 113, 144, 86, 129],
         [137, 107, 141, 113, 122, 117], [194, 117, 110, 134, 81, 183]],
    ),
    "shrinks and grows": (
        (5, 5), (2804, 3292, 3129),
        [[14, 78, 156, 127, 56, 120], [57, 131, 163, 145, 116, 123],
         [105, 187, 137, 131, 167, 73], [136, 89, 117, 121, 101, 154]],
    ),
    "grows": (
        (3, 5), (2457, 3355, 2995),
        [[0, 68, 144, 113, 40, 108], [23, 96, 178, 153, 85, 159],
         [51, 130, 163, 145, 116, 123], [74, 159, 103, 91, 121, 14]],
    ),
    "grows by 2": (
        (2, 3), (2756, 3004, 3252),
        [[0, 23, 68, 114, 159, 182], [9, 33, 79, 126, 173, 197],
         [28, 52, 102, 152, 201, 226], [37, 62, 113, 164, 215, 241]],
    ),
    "very wide": (
        (4, 40), (3214, 2998, 3287),
        [[130, 194, 125, 154, 124, 92], [131, 139, 113, 131, 131, 97],
         [128, 126, 122, 132, 178, 99], [177, 135, 94, 109, 185, 168]],
    ),
    "very tall": (
        (100, 2), (3390, 3033, 2958),
        [[188, 187, 177, 166, 156, 155], [89, 90, 95, 101, 106, 107],
         [150, 149, 141, 132, 124, 123], [147, 148, 155, 163, 170, 171]],
    ),
}  # fmt: skip


def pattern(height: int, width: int) -> np.ndarray:
    y, x, channel = np.mgrid[:height, :width, :3]
    return ((37 * y + 91 * x + 53 * channel + 11 * x * y) % 256).astype(np.uint8)


@pytest.mark.parametrize(("size", "sums", "first_channel"), GOLDEN.values(), ids=GOLDEN.keys())
def test_golden_vectors(size, sums, first_channel):
    resized = shrink(pattern(*size), 4, 6)
    assert resized[..., 0].tolist() == first_channel
    assert tuple(resized.sum(axis=(0, 1), dtype=int)) == sums


def test_resize_is_named_as_in_the_artifacts_that_have_these_vectors():
    assert RESIZE == "halve-linear-halve"


def test_right_size_is_left_as_it_is():
    np.testing.assert_array_equal(shrink(pattern(4, 6), 4, 6), pattern(4, 6))


def test_halving_is_the_rounded_mean_of_four():
    picture = pattern(8, 12).astype(int)
    mean = (picture[::2, ::2] + picture[::2, 1::2] + picture[1::2, ::2] + picture[1::2, 1::2] + 2) // 4
    np.testing.assert_array_equal(shrink(pattern(8, 12), 4, 6), mean)


def test_odd_last_row_and_column_are_dropped():
    np.testing.assert_array_equal(shrink(pattern(9, 13), 4, 6), shrink(pattern(9, 13)[:8, :12], 4, 6))


@pytest.mark.parametrize("size", [(64, 64), (60, 90), (37, 41), (33, 200)])
def test_fine_checks_become_grey_and_no_pattern_of_their_own(size):
    y, x = np.mgrid[: size[0], : size[1]]
    checks = ((x + y) % 2 * 255).astype(np.uint8)
    assert np.ptp(preprocess(checks, 16, 16).astype(int)) <= 64  # plain INTER_LINEAR: 255
    assert preprocess(checks, 16, 16).mean() == pytest.approx(127.5, abs=2)


@pytest.mark.parametrize("size", [(8, 8), (8, 70000), (70000, 8), (31, 17), (200, 300)])
def test_one_colour_stays_that_colour_at_any_size(size):
    resized = preprocess(np.full((*size, 3), (10, 128, 255), np.uint8), 32, 48)
    assert resized.shape == (32, 48, 3)
    assert resized.dtype == np.uint8
    assert resized.flags.c_contiguous
    assert (resized == (10, 128, 255)).all()


@pytest.mark.parametrize("size", [(1, 1), (7, 400), (400, 7)])
def test_a_frame_too_small_to_be_a_part_is_refused(size):
    with pytest.raises(ImageError, match=rf"got a picture of {size[1]}x{size[0]} pixels; expected sides of 8 or more"):
        preprocess(np.zeros((*size, 3), np.uint8), 32, 48)


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 1)])
def test_grey_is_repeated(shape):
    grey = pattern(4, 6)[..., 0].reshape(shape)
    np.testing.assert_array_equal(to_bgr8(grey), np.stack([pattern(4, 6)[..., 0]] * 3, axis=2))


def test_alpha_is_dropped():
    picture = pattern(4, 6)
    with_alpha = np.dstack([picture, np.full((4, 6), 7, np.uint8)])
    np.testing.assert_array_equal(to_bgr8(with_alpha), picture)


def test_sixteen_bits_are_full_scale():
    levels = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    assert to_bgr8(levels)[0, :, 0].tolist() == [0, 0, 1, 128, 255]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (np.zeros(6, np.uint8), r"got an array of shape \(6,\); expected \[H, W\]"),
        (np.zeros((1, 4, 6, 3), np.uint8), r"of shape \(1, 4, 6, 3\); expected"),
        (np.zeros((0, 6, 3), np.uint8), r"of shape \(0, 6, 3\); expected"),
        (np.zeros((4, 6, 2), np.uint8), r"got 2 channels; expected 1 \(grey\), 3 \(colour\) or 4"),
        (np.zeros((4, 6, 5), np.uint8), "got 5 channels; expected"),
        (np.zeros((4, 6, 3), np.float32), "got pixels of type float32; expected uint8"),
        (np.zeros((4, 6, 3), np.int16), "got pixels of type int16; expected uint8"),
        (np.zeros((4, 6, 3), bool), "got pixels of type bool; expected uint8"),
    ],
)
def test_what_is_no_picture_is_refused_by_name(frame, message):
    with pytest.raises(ImageError, match=message):
        preprocess(frame, 4, 6)


@pytest.mark.parametrize("frame", [None, [[1, 2]], "part.png"])
def test_what_is_no_array_is_a_programming_error(frame):
    with pytest.raises(TypeError, match="expected a NumPy array"):
        preprocess(frame, 4, 6)


def test_bits_say_which_eight_bits_are_kept():
    ramp = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    np.testing.assert_array_equal(to_bgr8(ramp, 12)[:, :, 0], ramp >> 4)
    np.testing.assert_array_equal(to_bgr8(ramp * 16)[:, :, 0], ramp >> 4)
    with pytest.raises(ImageError, match=r"got a value of 4095; expected at most 1023 for pictures of 10 bits"):
        to_bgr8(ramp, 10)


def test_unused_high_bits_of_undeclared_pictures_are_refused():
    ramp = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    with pytest.raises(ImageError, match=r"reach only 4095, so 4 of 16 bits are unused; set bits for its source"):
        to_bgr8(ramp)
    assert to_bgr8(ramp, 16).max() == 15
