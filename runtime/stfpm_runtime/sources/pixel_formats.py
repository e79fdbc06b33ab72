"""Converts pixels as industrial cameras send them (EMVA's Pixel Format Naming Convention) into pictures."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from stfpm_runtime.errors import ImageError

from .base import Pixels

_BAYER = {
    "GR": cv2.COLOR_BayerGRBG2BGR,
    "RG": cv2.COLOR_BayerRGGB2BGR,
    "GB": cv2.COLOR_BayerGBRG2BGR,
    "BG": cv2.COLOR_BayerBGGR2BGR,
}
_TO_BGR = {
    "RGB8": (3, cv2.COLOR_RGB2BGR),
    "BGR8": (3, None),
    "RGBa8": (4, cv2.COLOR_RGBA2BGR),
    "BGRa8": (4, cv2.COLOR_BGRA2BGR),
    "YUV422_8": (2, cv2.COLOR_YUV2BGR_YUY2),
    "YUV422_8_UYVY": (2, cv2.COLOR_YUV2BGR_UYVY),
}
NAMES = {
    0x01080001: "Mono8", 0x01100003: "Mono10", 0x01100005: "Mono12", 0x01100025: "Mono14", 0x01100007: "Mono16",
    0x010A0046: "Mono10p", 0x010C0047: "Mono12p", 0x010C0006: "Mono12Packed",
    0x01080008: "BayerGR8", 0x01080009: "BayerRG8", 0x0108000A: "BayerGB8", 0x0108000B: "BayerBG8",
    0x0110000C: "BayerGR10", 0x0110000D: "BayerRG10", 0x0110000E: "BayerGB10", 0x0110000F: "BayerBG10",
    0x01100010: "BayerGR12", 0x01100011: "BayerRG12", 0x01100012: "BayerGB12", 0x01100013: "BayerBG12",
    0x0110002E: "BayerGR16", 0x0110002F: "BayerRG16", 0x01100030: "BayerGB16", 0x01100031: "BayerBG16",
    0x02180014: "RGB8", 0x02180015: "BGR8", 0x02200016: "RGBa8", 0x02200017: "BGRa8",
    0x02100032: "YUV422_8", 0x0210001F: "YUV422_8_UYVY",
}  # fmt: skip
"""The formats that are understood, by their 32 bit code; bits 16 to 23 of it are the bits of one pixel."""


def to_picture(data: npt.NDArray[np.uint8], code: int, height: int, width: int, row_padding: int = 0) -> Pixels:
    """Return a camera's buffer, uint8 [bytes], as a picture that `to_bgr8` takes.

    Grey comes as uint8 or uint16 [H, W], colour as [H, W, 3] in BGR; formats of 10, 12 or 14 bits are brought to the
    full scale of 16. `row_padding` is the number of bytes that end each row and belong to no pixel.
    Raises ImageError for an unknown format, and where the buffer holds less than the picture.
    """
    name = NAMES.get(code)
    if name is None:
        known = ", ".join(sorted(NAMES.values()))
        raise ImageError(f"got pixel format 0x{code:08X}; expected one of {known}; set PixelFormat")
    rows = _rows(data, (width * (code >> 16 & 0xFF) + 7) // 8 + row_padding, height, name)
    rows = rows[:, : rows.shape[1] - row_padding]
    if name in _TO_BGR:
        channels, conversion = _TO_BGR[name]
        colour = np.ascontiguousarray(rows).reshape(height, width, channels)
        return colour if conversion is None else cv2.cvtColor(colour, conversion)
    grey = _PACKED[name](rows, width) if name in _PACKED else _plain(rows, name)
    return cv2.cvtColor(grey, _BAYER[name[5:7]]) if name.startswith("Bayer") else grey


def _rows(data: npt.NDArray[np.uint8], stride: int, height: int, name: str) -> npt.NDArray[np.uint8]:
    if data.size < stride * height or not height or not stride:
        raise ImageError(f"got {data.size} bytes for a {name} picture of {stride * height}; check packet size, network")
    return data[: stride * height].reshape(height, stride)


def _plain(rows: npt.NDArray[np.uint8], name: str) -> Pixels:
    """Return 8 bits a pixel as they are; more, in two little-endian bytes, are shifted to the full scale."""
    bits = int("".join(filter(str.isdecimal, name)))
    rows = np.ascontiguousarray(rows)
    return rows if bits == 8 else rows.view("<u2").astype(np.uint16) << np.uint16(16 - bits)


def _mono10p(rows: npt.NDArray[np.uint8], width: int) -> Pixels:
    """Unpack four pixels in five bytes, least significant bit first."""
    groups = _groups(rows, 5).astype(np.uint16)
    low, high = groups[:, :, :4], groups[:, :, 1:]
    down, up = np.array([0, 2, 4, 6], np.uint16), np.array([8, 6, 4, 2], np.uint16)
    return _flat((low >> down | high << up) & np.uint16(0x3FF), width) << np.uint16(6)


def _mono12p(rows: npt.NDArray[np.uint8], width: int) -> Pixels:
    """Unpack two pixels in three bytes, least significant bit first."""
    a, b, c = np.moveaxis(_groups(rows, 3).astype(np.uint16), 2, 0)
    return _flat(np.stack([a | (b & 15) << 8, b >> 4 | c << 4], axis=2), width) << np.uint16(4)


def _mono12packed(rows: npt.NDArray[np.uint8], width: int) -> Pixels:
    """Unpack GigE Vision's older format: two pixels in three bytes, the low halves of both in the middle one."""
    a, b, c = np.moveaxis(_groups(rows, 3).astype(np.uint16), 2, 0)
    return _flat(np.stack([a << 4 | b & 15, c << 4 | b >> 4], axis=2), width) << np.uint16(4)


def _groups(rows: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    padded = np.pad(rows, ((0, 0), (0, -rows.shape[1] % size)))
    return padded.reshape(len(rows), -1, size)


def _flat(groups: Pixels, width: int) -> Pixels:
    return np.ascontiguousarray(groups.reshape(len(groups), -1)[:, :width])


_PACKED: dict[str, Callable[[npt.NDArray[np.uint8], int], Pixels]] = {
    "Mono10p": _mono10p,
    "Mono12p": _mono12p,
    "Mono12Packed": _mono12packed,
}
