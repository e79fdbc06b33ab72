"""Real files, whole and damaged: what cannot be read in full is an ImageError, never a guess."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest

from stfpm_runtime.errors import ImageError
from stfpm_runtime.imaging.images import find_images, is_image, read_image


def noise(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "tiff", "webp", "ppm", "PNG"])
def test_colour_comes_back_as_it_was(tmp_path, write, suffix):
    picture = noise(9, 13, 3)
    path = write(tmp_path / f"a.{suffix}", picture, *([cv2.IMWRITE_WEBP_QUALITY, 101] if suffix == "webp" else []))
    np.testing.assert_array_equal(read_image(path), picture)


def test_jpeg_comes_back_blue_where_it_was_blue(tmp_path, write):
    path = write(tmp_path / "a.jpg", np.full((16, 16, 3), (250, 20, 10), np.uint8))
    assert np.abs(read_image(path).astype(int) - (250, 20, 10)).max() <= 3


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_is_repeated_and_16_bits_are_full_scale(tmp_path, write, suffix, dtype):
    grey = noise(9, 13, dtype=dtype)
    expected = grey if dtype == np.uint8 else grey >> 8
    read = read_image(write(tmp_path / f"a.{suffix}", grey))
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, np.stack([expected] * 3, axis=2))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_alpha_is_dropped(tmp_path, write, dtype):
    picture = noise(9, 13, 4, dtype=dtype)
    expected = picture[..., :3] if dtype == np.uint8 else picture[..., :3] >> 8
    np.testing.assert_array_equal(read_image(write(tmp_path / "a.png", picture)), expected)


def test_one_pixel_is_a_picture(tmp_path, write):
    assert read_image(write(tmp_path / "a.png", noise(1, 1, 3))).shape == (1, 1, 3)


def test_bytes_behind_the_picture_do_no_harm(tmp_path, write):
    for suffix in ("png", "jpg"):
        path = write(tmp_path / f"a.{suffix}", noise(9, 13, 3))
        before = read_image(path)
        path.write_bytes(path.read_bytes() + b"\0" * 100)
        np.testing.assert_array_equal(read_image(path), before)


def test_orientation_flag_is_left_alone(tmp_path, write):
    path = write(tmp_path / "a.jpg", noise(16, 32, 3))
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)  # orientation: turn by 90 degrees
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4)
    data = path.read_bytes()
    path.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:])
    assert cv2.imread(str(path)).shape == (32, 16, 3)  # the flag is one that OpenCV heeds
    assert read_image(path).shape == (16, 32, 3)


@pytest.mark.parametrize("suffix", ["png", "jpg", "progressive.jpg", "bmp", "tif", "webp", "ppm"])
def test_file_cut_off_anywhere_is_refused(tmp_path, write, suffix):
    flags = (cv2.IMWRITE_JPEG_PROGRESSIVE, 1) if suffix == "progressive.jpg" else ()
    path = write(tmp_path / f"a.{suffix}", cv2.resize(noise(6, 8, 3), (48, 36)), *flags)
    data = path.read_bytes()
    cuts = sorted({1, 2, 3, 4, 8, 16, *range(32, len(data), max(1, len(data) // 40)), *range(len(data) - 8, len(data))})
    assert len(cuts) > 30
    for cut in cuts:
        path.write_bytes(data[:cut])
        with pytest.raises(ImageError, match=rf"a\.{suffix}: (the file ends before|cannot be decoded)"):
            read_image(path)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_file_whose_end_was_never_written_is_refused(tmp_path, write, suffix):
    """A power cut leaves the right length, and zeros."""
    path = write(tmp_path / f"a.{suffix}", noise(36, 48, 3))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    with pytest.raises(ImageError, match=r"(ends before the picture does|PNG chunk IDAT is wrong); copy it again"):
        read_image(path)


def test_png_with_a_flipped_bit_is_refused(tmp_path, write):
    path = write(tmp_path / "a.png", noise(36, 48, 3))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ImageError, match="the checksum of the PNG chunk IDAT is wrong"):
        read_image(path)


@pytest.mark.parametrize("side", [30_000, 50_000, 1_000_000])
def test_decompression_bomb_is_refused(tmp_path, side):
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + data)
    with pytest.raises(ImageError, match=r"cannot be decoded: it has [\d.]+ megapixels .*; expected at most 64"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a.png: the file is empty; expected a picture, copy it again"),
        (b"not a picture at all\n" * 20, "a.png: cannot be decoded; expected a PNG, JPEG"),
        (b"\x89PNG", "a.png: the file ends before"),
        (b"\xff\xd8\xff\xd9", "a.png: the file ends before"),
        (bytes(1000), "a.png: cannot be decoded"),
    ],
)
def test_file_that_is_no_picture_is_refused(tmp_path, content, message):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ImageError, match=message):
        read_image(tmp_path / "a.png")


def test_float_picture_is_refused(tmp_path, write):
    path = write(tmp_path / "a.tif", np.ones((4, 4), np.float32))
    with pytest.raises(ImageError, match=r"a.tif: (got pixels of type float32|cannot be decoded)"):
        read_image(path)


def test_missing_file_and_folder_are_refused(tmp_path):
    with pytest.raises(ImageError, match=r"a\.png: cannot be read \(No such file"):
        read_image(tmp_path / "a.png")
    with pytest.raises(ImageError, match=r"cannot be read \(Is a directory"):
        read_image(tmp_path)


def test_find_images_is_recursive_and_skips_what_is_hidden_or_none(tmp_path):
    names = ["b/2.png", "b/10.JPG", "a.png", "b/c/0.tiff", "._a.png", "b/._2.png", "notes.txt", "clip.mp4"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    found = [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)]
    assert found == ["a.png", "b/10.JPG", "b/2.png", "b/c/0.tiff"]
    assert not is_image(tmp_path / "._a.png")


def test_find_images_sorts(tmp_path):
    names = [f"{number * 37 % 50:02}.png" for number in range(50)]  # neither rising nor falling, as a disk has them
    for name in names:
        (tmp_path / name).touch()
    assert [path.name for path in find_images(tmp_path)] == sorted(names)
