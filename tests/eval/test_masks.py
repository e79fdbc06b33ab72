"""Reading masks: every kind of picture that people keep them in gives the same pixels, and what is no mask is named."""

from __future__ import annotations

import re
import struct
import zlib

import cv2
import numpy as np
import pytest

from known_answers import SIDE, SQUARE, write
from stfpm_eval.data import read_category, sample_mask
from stfpm_eval.masks import read_mask, resize_mask
from stfpm_runtime.errors import DataError

EDGE = 64
DEFECT = np.zeros((EDGE, EDGE), bool)
DEFECT[20:37, 11:42] = True


def grey(good, defective, dtype=np.uint8):
    return np.where(DEFECT, defective, good).astype(dtype)


def colours(good, defective):
    return np.where(DEFECT[..., None], defective, good).astype(np.uint8)


def labels():
    """Two defects of one part, with a label each, one of them small."""
    pixels = grey(0, 255)
    pixels[DEFECT & (np.arange(EDGE) > 30)] = 85
    return pixels


def palette_png(*palette):
    """An indexed PNG: index 0 is good, index 1 defective."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b"".join(b"\0" + bytes(row) for row in DEFECT.astype(np.uint8))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", EDGE, EDGE, 8, 3, 0, 0, 0))
    colours = chunk(b"PLTE", bytes(value for colour in palette for value in colour))
    return b"\x89PNG\r\n\x1a\n" + header + colours + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


KINDS = {
    "0 and 255": ("png", grey(0, 255)),
    "0 and 1": ("png", grey(0, 1)),
    "0 and 1, 16 bits": ("png", grey(0, 1, np.uint16)),
    "16 bits": ("png", grey(0, 65535, np.uint16)),
    "12 bits": ("tiff", grey(0, 4095, np.uint16)),
    "float": ("tiff", grey(0, 1, np.float32)),
    "two labels": ("png", labels()),
    "three labels": ("png", np.where(labels() == 85, 2, labels() // 255).astype(np.uint8)),
    "15 and 235": ("png", grey(15, 235)),
    "blue on black": ("png", colours((0, 0, 0), (255, 0, 0))),
    "red on white": ("png", colours((255, 255, 255), (0, 0, 255))),
    "dark colours": ("bmp", colours((84, 1, 68), (84, 90, 68))),
    "alpha, white": ("png", np.dstack([colours((255,) * 3, (255,) * 3), grey(0, 255)])),
    "alpha, black": ("png", np.dstack([colours((0,) * 3, (0,) * 3), grey(0, 255)])),
    "alpha and colour": ("png", np.dstack([colours((255,) * 3, (0, 0, 255)), grey(0, 255)])),
    "opaque alpha": ("png", np.dstack([colours((0,) * 3, (255,) * 3), np.full((EDGE, EDGE), 255, np.uint8)])),
    "palette, black and red": ("png", palette_png((0, 0, 0), (255, 0, 0))),
    "palette, black and faint": ("png", palette_png((0, 0, 0), (0, 0, 1))),
    "palette, violet and yellow": ("png", palette_png((68, 1, 84), (253, 231, 37))),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_mask_gives_the_same_pixels(tmp_path, kind):
    suffix, pixels = KINDS[kind]
    path = tmp_path / f"mask.{suffix}"
    path.write_bytes(pixels if isinstance(pixels, bytes) else cv2.imencode(path.suffix, pixels)[1].tobytes())
    assert np.array_equal(read_mask(path, EDGE, EDGE), DEFECT)


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
@pytest.mark.parametrize("quality", [30, 75, 95, 100])
@pytest.mark.parametrize("pixels", [grey(0, 255), colours((0, 0, 0), (0, 0, 255)), colours((255,) * 3, (255, 0, 0))],
                         ids=["grey", "red on black", "blue on white"])  # fmt: skip
def test_lossy_masks_ring_at_most_at_the_edge(tmp_path, suffix, quality, pixels):
    flag = cv2.IMWRITE_JPEG_QUALITY if suffix == ".jpg" else cv2.IMWRITE_WEBP_QUALITY
    path = tmp_path / f"mask{suffix}"
    path.write_bytes(cv2.imencode(suffix, pixels, [flag, quality])[1].tobytes())
    wrong = read_mask(path, EDGE, EDGE) ^ DEFECT
    square = np.ones((5, 5), np.uint8)
    edge = cv2.dilate(DEFECT.astype(np.uint8), square) != cv2.erode(DEFECT.astype(np.uint8), square)
    assert not (wrong & ~edge).any()
    # Where all three channels of the file are the same, the edge is sharp; colour is stored at half the resolution.
    assert wrong.sum() <= (0 if pixels.ndim == 2 else 2 * (17 + 31))


def test_soft_edges_are_cut_at_half(tmp_path):
    write(tmp_path / "mask.png", np.array([[0, 127, 128, 255]], np.uint8))
    assert read_mask(tmp_path / "mask.png", 1, 4).tolist() == [[False, False, True, True]]
    soft = cv2.GaussianBlur(grey(0, 255), (0, 0), 1.5)
    write(tmp_path / "soft.png", soft)
    assert np.array_equal(read_mask(tmp_path / "soft.png", EDGE, EDGE), soft > 127)


def photograph():
    small = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
    return cv2.resize(small, (EDGE, EDGE), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((EDGE, EDGE), np.uint8), "all pixels have the same value, 0, so that it marks nothing or everything"),
        (np.full((EDGE, EDGE), 255, np.uint8), "all pixels have the same value, 255, so that it marks nothing"),
        (grey(255, 0), r"marks 87% of the picture and all of its border, as an inverted mask does; save it with 0"),
        (photograph(), "has areas that are neither good nor defective, as a photograph or a heat map has"),
        (np.where(labels() == 85, 1, labels()), r"the levels 1 and 255 are side by side; 1 may be a label or noise"),
    ],
)
@pytest.mark.parametrize("name", ["mask.png", "mask.tif"])
def test_what_is_no_mask_is_named(tmp_path, name, pixels, message):
    write(tmp_path / name, pixels.astype(np.uint8))
    with pytest.raises(DataError, match=re.escape(str(tmp_path / name)) + ": " + message):
        read_mask(tmp_path / name, EDGE, EDGE)


def test_mask_of_another_size_is_refused(tmp_path):
    write(tmp_path / "mask.png", grey(0, 255))
    with pytest.raises(DataError, match=r"mask\.png: the mask has 64x64 pixels, its image 64x65; expected the same"):
        read_mask(tmp_path / "mask.png", EDGE + 1, EDGE)


@pytest.mark.parametrize("data", [b"", b"no picture", cv2.imencode(".png", grey(0, 255))[1].tobytes()[:-20]])
def test_mask_that_cannot_be_read_is_named(tmp_path, data):
    (tmp_path / "mask.png").write_bytes(data)
    with pytest.raises(DataError, match=re.escape(str(tmp_path / "mask.png")) + ": .*; it is the mask of a test image"):
        read_mask(tmp_path / "mask.png", SIDE, SIDE)


def test_resized_mask_takes_the_middle_of_each_block():
    mask = np.zeros((9, 12), bool)
    mask[1, 4] = True  # the middle of block (0, 1); a nearest neighbour that rounds down would look at [0, 3]
    resized = resize_mask(mask, 3, 4)
    assert resized.dtype == np.bool_
    assert np.argwhere(resized).tolist() == [[0, 1]]


def test_mask_has_the_images_name_or_is_a_folder_of_masks(make_category):
    folder = make_category()
    truth = folder / "ground_truth"
    (truth / "dent" / "000_mask.png").rename(truth / "dent" / "000.bmp")
    (truth / "scratch" / "000_mask.png").unlink()
    for number in range(2):
        one = np.zeros((SIDE, SIDE), np.uint8)
        one[number, number] = 3
        write(truth / "scratch" / "000" / f"{number:03}.png", one)
    samples = {(sample.kind, sample.image.stem): sample for sample in read_category(folder).samples}
    assert np.array_equal(np.argwhere(sample_mask(samples["scratch", "000"], SIDE, SIDE)), [[0, 0], [1, 1]])
    for kind, name in (("scratch", "001"), ("dent", "000")):
        assert sample_mask(samples[kind, name], SIDE, SIDE)[SQUARE].all()
