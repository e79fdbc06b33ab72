"""Buffers of industrial cameras, packed here by the standard's words, come out as the picture that went in."""

from __future__ import annotations

import numpy as np
import pytest

from stfpm_runtime.errors import ImageError
from stfpm_runtime.imaging.images import read_image
from stfpm_runtime.imaging.preprocessing import to_bgr8
from stfpm_runtime.sources.pixel_formats import NAMES, to_picture

CODES = {name: code for code, name in NAMES.items()}
GREY = np.random.default_rng(0).integers(0, 1 << 16, (4, 6), np.uint16)


def pack_lsb(values, bits):
    """Values one after the other, least significant bit first, each row on its own."""
    rows = []
    for row in values:
        stream = np.array([value >> bit & 1 for value in row for bit in range(bits)], np.uint8)
        rows.append(np.packbits(stream, bitorder="little"))
    return np.concatenate(rows)


@pytest.mark.parametrize(("name", "bits"), [("Mono10", 10), ("Mono12", 12), ("Mono14", 14), ("Mono16", 16)])
def test_deep_grey_fills_16_bits(name, bits):
    values = GREY >> (16 - bits)
    picture = to_picture(values.astype("<u2").view(np.uint8).ravel(), CODES[name], 4, 6)
    assert picture.dtype == np.uint16
    np.testing.assert_array_equal(picture, values << (16 - bits))


@pytest.mark.parametrize("width", [6, 4, 5])
@pytest.mark.parametrize(("name", "bits"), [("Mono10p", 10), ("Mono12p", 12)])
def test_packed_grey_fills_16_bits(name, bits, width):
    values = GREY[:, :width] >> (16 - bits)
    np.testing.assert_array_equal(to_picture(pack_lsb(values, bits), CODES[name], 4, width), values << (16 - bits))


def test_gige_visions_own_packing():
    data = np.array([0xAB, 0x21, 0xCD], np.uint8)  # 0xAB1 and 0xCD2
    np.testing.assert_array_equal(to_picture(data, CODES["Mono12Packed"], 1, 2), [[0xAB10, 0xCD20]])


def test_8_bit_grey_and_the_padding_of_rows():
    padded = np.arange(4 * 8, dtype=np.uint8).reshape(4, 8)
    np.testing.assert_array_equal(to_picture(padded.ravel(), CODES["Mono8"], 4, 6, row_padding=2), padded[:, :6])


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("tile", ["RG", "GR", "GB", "BG"])
def test_bayer_gives_the_colour_under_each_filter(tile, bits):
    levels = {"B": 30, "G": 100, "R": 220}
    pattern = {"RG": "RGGB", "GR": "GRBG", "GB": "GBRG", "BG": "BGGR"}[tile]
    mosaic = np.tile(np.array([levels[filter] for filter in pattern]).reshape(2, 2), (6, 6))
    data = mosaic.astype(np.uint8) if bits == 8 else (mosaic << (bits - 8)).astype("<u2")
    picture = to_bgr8(to_picture(data.view(np.uint8).ravel(), CODES[f"Bayer{tile}{bits}"], 12, 12))
    np.testing.assert_array_equal(picture[4:8, 4:8], np.broadcast_to([30, 100, 220], (4, 4, 3)))


@pytest.mark.parametrize(("name", "order"), [("RGB8", [2, 1, 0]), ("BGR8", [0, 1, 2]), ("RGBa8", [2, 1, 0, 3])])
def test_colour_comes_as_bgr(name, order):
    bgra = np.random.default_rng(1).integers(0, 255, (4, 6, 4), np.uint8)
    picture = to_picture(bgra[:, :, order].ravel(), CODES[name], 4, 6)
    np.testing.assert_array_equal(picture, bgra[:, :, :3])


def test_unknown_format_and_short_buffer_are_named():
    with pytest.raises(ImageError, match="got pixel format 0x01234567; expected one of BGR8"):
        to_picture(np.zeros(100, np.uint8), 0x01234567, 4, 6)
    with pytest.raises(ImageError, match="got 23 bytes for a Mono8 picture of 24"):
        to_picture(np.zeros(23, np.uint8), CODES["Mono8"], 4, 6)


def test_a_mono12_buffer_and_its_png_give_the_same_picture(tmp_path, write):
    values = GREY >> 4
    live = to_bgr8(to_picture(values.astype("<u2").view(np.uint8).ravel(), CODES["Mono12"], 4, 6), 16)
    np.testing.assert_array_equal(live, read_image(write(tmp_path / "a.png", values), bits=12))
