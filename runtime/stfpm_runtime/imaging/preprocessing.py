"""The one way from a frame to the graph's input. Training, calibration, evaluation and inspection all call it.

An exported model that disagrees with its PyTorch is, more often than not, a resize that differs between the two. Here
there is a single one, named in every artifact (`RESIZE`) and pinned by golden vectors in the tests.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from stfpm_runtime.errors import ImageError, OptionError
from stfpm_runtime.options import MIN_SIDE

RESIZE = "halve-linear-halve"
"""Name of the resize, kept in every artifact: another resize would be another model."""

Image = npt.NDArray[np.uint8]


def to_bgr8(frame: npt.NDArray[Any], bits: int | None = None) -> Image:
    """Return any picture that a camera or a file gives as uint8 [H, W, 3] in its own channel order.

    Grey [H, W] or [H, W, 1] is repeated three times, a fourth (alpha) channel is dropped. The upper 8 of the `bits`
    that the values of a uint16 picture use (9 to 16) are kept. None takes uint16 for full scale, 16 bits.

    Raises TypeError for what is no array, and ImageError for an array of another type or shape, for values that need
    more than `bits`, and for a uint16 picture of unknown bits whose values stay below 4096: they are most likely from
    a camera of 10 or 12 bits, and hardly anything of the part would be left.
    """
    if not isinstance(frame, np.ndarray):
        raise TypeError(f"got a picture of type {type(frame).__name__}; expected a NumPy array")
    if frame.ndim not in (2, 3) or 0 in frame.shape:
        raise ImageError(f"got an array of shape {frame.shape}; expected [H, W], [H, W, 3] or [H, W, 4]")
    if frame.dtype == np.uint16:
        _check_bits(frame, bits)
        frame = (frame >> np.uint16((bits or 16) - 8)).astype(np.uint8)
    if frame.dtype != np.uint8:
        raise ImageError(f"got pixels of type {frame.dtype}; expected uint8 (0 to 255) or uint16 (0 to 65535)")
    if frame.ndim == 2 or frame.shape[2] == 1:
        return np.repeat(frame.reshape(*frame.shape[:2], 1), 3, axis=2)
    if frame.shape[2] not in (3, 4):
        raise ImageError(f"got {frame.shape[2]} channels; expected 1 (grey), 3 (colour) or 4 (colour and alpha)")
    return np.ascontiguousarray(frame[:, :, :3])


def check_bits(bits: int | None) -> None:
    """Raise OptionError unless it is a number of bits that `to_bgr8` takes."""
    if bits is not None and not 9 <= bits <= 16:
        raise OptionError(f"got bits {bits}; expected 9 to 16, the bits that the values of 16-bit pictures use")


def _check_bits(frame: npt.NDArray[Any], bits: int | None) -> None:
    most = int(frame.max())
    if bits is None and most < 4096:
        raise ImageError(
            f"the values of the 16-bit picture reach only {most}, so {16 - most.bit_length()} of 16 bits are unused; "
            "set bits for its source (10 or 12, as its camera has), or bits = 16 if it is really so dark"
        )
    if bits is not None and most >> bits:
        raise ImageError(
            f"got a value of {most}; expected at most {2**bits - 1} for pictures of {bits} bits, correct bits"
        )


def shrink(image: Image, height: int, width: int) -> Image:
    """Resize uint8 [H, W, C] to [height, width, C], without the aliasing that plain INTER_LINEAR has when it shrinks.

    Halve (2x2 means) while both sides stay at least as long as wanted; then resample bilinearly to twice the wanted
    size and halve once more. Where neither side has to shrink it is plain INTER_LINEAR. Next to INTER_AREA it differs
    by about one grey level and costs a fifth (0.6 instead of 2.9 ms for 1280x720): exact halving is the only area
    mean that OpenCV has vector code for. An odd last row or column is dropped by a halving.
    """
    while image.shape[0] >= 2 * height and image.shape[1] >= 2 * width:
        image = _halve(image)
    rows, columns = image.shape[:2]
    if (rows, columns) == (height, width):
        return image
    if rows <= height and columns <= width:
        return _linear(image, height, width)
    return _halve(_linear(image, 2 * height, 2 * width))


def preprocess(frame: npt.NDArray[Any], height: int, width: int, bits: int | None = None) -> Image:
    """Return a frame of any size and kind (see `to_bgr8`) as the graph's input: uint8 [height, width, 3], contiguous.

    Raises ImageError for what is no picture of a part: another type or shape, or a side below `MIN_SIDE`.
    """
    image = to_bgr8(frame, bits)
    rows, columns = image.shape[:2]
    if min(rows, columns) < MIN_SIDE:
        raise ImageError(f"got a picture of {columns}x{rows} pixels; expected sides of {MIN_SIDE} or more")
    return np.ascontiguousarray(shrink(image, height, width))


def grey_level(image: Image) -> float:
    """Return the mean of a picture uint8 [H, W, 3], 0 to 255, from a grid of at least 64 pixels a side: it is fast."""
    step = max(1, min(image.shape[:2]) // 64)
    return float(image[::step, ::step].mean())


def _halve(image: Image) -> Image:
    rows, columns = image.shape[0] // 2, image.shape[1] // 2
    even = image[: 2 * rows, : 2 * columns]
    return cv2.resize(even, (columns, rows), interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def _linear(image: Image, height: int, width: int) -> Image:
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)  # type: ignore[return-value]
