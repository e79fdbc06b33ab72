"""Pictures whose insides are damaged, in each format: what their decoder finds or a checksum shows is refused."""

from __future__ import annotations

import io
import struct

import cv2
import numpy as np
import pytest
from PIL import Image

from stfpm_runtime.errors import ImageError
from stfpm_runtime.imaging.images import decode_image, read_image
from stfpm_runtime.imaging.picture_header import read_header

JPEG = {
    "baseline": (),
    "optimised": (cv2.IMWRITE_JPEG_OPTIMIZE, 1),
    "progressive": (cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "restart markers": (cv2.IMWRITE_JPEG_RST_INTERVAL, 4),
}


def part(seed: int) -> np.ndarray:
    """A disc with some texture and noise, uint8 [240, 320, 3]: what a camera sees."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:240, :320]
    grey = 90 + 40 * np.sin(columns / 9) * np.cos(rows / 13) + random.normal(0, 2, (240, 320))
    grey[(rows - 120) ** 2 + (columns - 160) ** 2 < 90**2] += 50
    return np.clip(np.stack([grey, grey * 0.9, grey * 0.8], axis=2), 0, 255).astype(np.uint8)


def encode(suffix: str, picture: np.ndarray, *flags: int) -> bytes:
    return cv2.imencode(suffix, picture, list(flags))[1].tobytes()


def save(picture: np.ndarray, kind: str, mode: str = "RGB", **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture[:, :, ::-1])).convert(mode).save(file, kind, **options)
    return file.getvalue()


def zeroed(data: bytes, share: float, count: int) -> bytes:
    start = int(len(data) * share)
    return data[:start] + bytes(count) + data[start + count :]


def refused(data: bytes) -> bool:
    try:
        decode_image(data, "a")
    except ImageError:
        return True
    return False


def test_tiff_without_one_of_its_tags_is_refused():
    whole = encode(".tiff", part(0))
    (first,) = struct.unpack_from("<I", whole, 4)
    (count,) = struct.unpack_from("<H", whole, first)
    for number in range(count):
        damaged = bytearray(whole)
        struct.pack_into("<H", damaged, first + 2 + 12 * number, 60000)
        try:
            decode_image(bytes(damaged), "a")
        except ImageError:
            continue  # another exception would end the thread that reads


@pytest.mark.parametrize("box", [b"pitm", b"iloc", b"iinf", b"iprp", b"ispe", b"av1C"])
def test_avif_without_one_of_its_boxes_is_refused(box):
    whole = encode(".avif", part(0))
    assert box in whole
    assert refused(whole.replace(box, b"free"))


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("kind", ["baseline", "restart markers"])
def test_jpeg_with_300_zeroed_bytes_is_always_refused(kind, share):
    for seed in range(20):
        whole = encode(".jpg", part(seed), cv2.IMWRITE_JPEG_QUALITY, 95, *JPEG[kind])
        decode_image(whole, "a")
        with pytest.raises(ImageError, match=r"a: (cannot be decoded cleanly|a part of the coded picture was overwr)"):
            decode_image(zeroed(whole, share, 300), "a")


@pytest.mark.parametrize("kind", JPEG)
def test_most_kinds_of_damage_to_a_jpeg_are_found(kind):
    """JPEG has no checksums: a few bytes may change without a trace, and the lowest bits of a progressive picture."""
    random = np.random.default_rng(0)
    found = tried = 0
    for seed in range(20):
        data = encode(".jpg", part(seed), cv2.IMWRITE_JPEG_QUALITY, 95, *JPEG[kind])
        start = len(data) // 2
        other = bytes(random.integers(0, 256, 2000, dtype=np.uint8))
        for damaged in (
            zeroed(data, 0.5, 2000),
            data[:start] + other + data[start + 2000 :],
            data[:start] + data[start + 700 :],
        ):
            found += refused(damaged)
            tried += 1
    assert found >= 0.9 * tried


@pytest.mark.parametrize("level", [0, 16, 128, 255])
@pytest.mark.parametrize("kind", JPEG)
def test_flat_pictures_are_not_taken_for_damaged(kind, level):
    """Their coded data may well be a long run of zeros."""
    picture = np.full((720, 1280, 3), level, np.uint8)
    for flags in ((), (cv2.IMWRITE_JPEG_QUALITY, 100), (cv2.IMWRITE_JPEG_QUALITY, 30)):
        assert not refused(encode(".jpg", picture, *JPEG[kind], *flags))
        picture[300:400, 200:300] = 255 - level
        assert not refused(encode(".jpg", picture, *JPEG[kind], *flags))
        assert not refused(encode(".jpg", picture[:, :, 0], *JPEG[kind], *flags))


def test_zeros_outside_the_coded_picture_do_no_harm():
    """Colour profiles and makers' notes are full of them."""
    data = encode(".jpg", part(0))
    note = b"\xff\xe1" + struct.pack(">H", 1002) + bytes(1000)
    np.testing.assert_array_equal(decode_image(data[:2] + note + data[2:], "a"), decode_image(data, "a"))


def test_jpeg_pixels_are_those_of_opencv():
    for mode in ("RGB", "L", "CMYK"):
        for options in ({"quality": 95}, {"quality": 60, "progressive": True}, {"quality": 90, "subsampling": 0}):
            data = save(part(1), "JPEG", mode, **(options if mode == "RGB" else {"quality": 90}))
            expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
            np.testing.assert_array_equal(decode_image(data, "a"), expected)


@pytest.mark.parametrize("count", [1, 300])
def test_png_is_checked_to_the_last_bit(count):
    data = encode(".png", part(0))
    for share in (0.01, 0.3, 0.6, 0.95):
        start = int(len(data) * share)
        damaged = data[:start] + bytes(value ^ 1 for value in data[start : start + count]) + data[start + count :]
        with pytest.raises(ImageError, match=r"a: the (checksum of the PNG chunk .* is wrong|file ends before)"):
            decode_image(damaged, "a")


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "jpeg"])
def test_compressed_tiff_with_zeroed_bytes_is_refused(compression):
    data = save(part(0), "TIFF", compression=compression)
    decode_image(data, "a")
    with pytest.raises(ImageError, match=r"a: (cannot be decoded|the file ends|the compressed data of the TIFF)"):
        decode_image(zeroed(data, 0.4, len(data) // 3), "a")


def test_lossless_webp_with_300_zeroed_bytes_is_refused():
    for seed in range(5):
        data = save(part(seed), "WEBP", lossless=True)
        with pytest.raises(ImageError, match="overwritten with zeros"):
            decode_image(zeroed(data, 0.5, 300), "a")
    for level in (0, 128, 255):
        flat = np.full((720, 1280, 3), level, np.uint8)
        assert not refused(save(flat, "WEBP", lossless=True))
        flat[100:200, 300:400] = part(0)[:100, :100]
        assert not refused(save(flat, "WEBP", lossless=True))


CUTS = {
    "jpg": lambda: encode(".jpg", part(0)),
    "png": lambda: encode(".png", part(0)),
    "bmp": lambda: encode(".bmp", part(0)),
    "tif": lambda: encode(".tif", part(0), cv2.IMWRITE_TIFF_COMPRESSION, 1),
    "lzw.tif": lambda: save(part(0), "TIFF", compression="tiff_lzw"),
    "first.tif": lambda: save(part(0), "TIFF"),
    "webp": lambda: encode(".webp", part(0)),
    "lossy.webp": lambda: save(part(0), "WEBP"),
    "ppm": lambda: encode(".ppm", part(0)),
    "16.pgm": lambda: encode(".pgm", part(0)[:, :, 0].astype(np.uint16) * 257),
    "pam": lambda: encode(".pam", part(0)),
    "gif": lambda: save(part(0), "GIF"),
    "jp2": lambda: save(part(0), "JPEG2000"),
    "avif": lambda: save(part(0), "AVIF"),
}


@pytest.mark.parametrize("kind", CUTS)
def test_file_cut_off_is_refused_and_the_whole_one_is_read(kind):
    data = CUTS[kind]()
    assert decode_image(data, "a").shape == (240, 320, 3)
    header = read_header(data)
    assert header is not None
    assert (header.width, header.height, header.pages) == (320, 240, 1)
    for share in (0.02, 0.2, 0.5, 0.9, 0.99):
        with pytest.raises(ImageError, match=r"a: (the file ends before the picture does|cannot be decoded)"):
            decode_image(data[: int(len(data) * share)], "a")


@pytest.mark.parametrize("missing", [1, 2, 8])
@pytest.mark.parametrize("kind", ["png", "bmp", "gif", "jp2", "avif", "ppm"])
def test_file_without_its_last_bytes_is_refused(kind, missing):
    with pytest.raises(ImageError, match=r"a: (the file ends before the picture does|cannot be decoded)"):
        decode_image(CUTS[kind]()[:-missing], "a")


def blocks_of_gif(data: bytes) -> list[int]:
    """Return where the blocks of coded pixels begin."""
    position = data.index(b"\x2c\0\0\0\0\x40\x01\xf0\0")
    position += 11 + (3 << (data[position + 9] & 7) + 1 if data[position + 9] & 0x80 else 0)
    starts = []
    while data[position]:
        starts.append(position)
        position += 1 + data[position]
    return starts


def test_gif_whose_blocks_were_overwritten_with_zeros_is_refused():
    """Pillow passes over empty blocks, and takes what follows them for the next block."""
    data = CUTS["gif"]()
    for start in blocks_of_gif(data)[1:-1]:
        with pytest.raises(ImageError, match=r"a: (a block of the GIF file is damaged|the file ends before the pict)"):
            decode_image(data[:start] + bytes(64) + data[start + 64 :], "a")


def test_gif_cut_off_behind_a_byte_that_looks_like_its_trailer_is_refused():
    data = CUTS["gif"]()
    for start in blocks_of_gif(data)[-3:]:
        with pytest.raises(ImageError, match="a: the file ends before the picture does"):
            decode_image(data[: start + 9] + b";", "a")


def test_what_follows_the_trailer_of_a_gif_does_no_harm():
    data = CUTS["gif"]()
    np.testing.assert_array_equal(decode_image(data + b"a comment", "a"), decode_image(data, "a"))


@pytest.mark.parametrize("kind", ["gif", "lossy.webp", "jp2", "avif"])
def test_size_is_read_before_any_decoder_sees_the_bytes(kind, monkeypatch):
    """Pillow refuses pictures beyond a limit of its own, whatever max_megapixels is."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ImageError, match=r"has 0.1 megapixels \(320x240\); expected at most 0.05, raise max_megapix"):
        decode_image(CUTS[kind](), "a", max_megapixels=0.05)


@pytest.mark.parametrize(
    ("kind", "options"),
    [("TIFF", {}), ("PNG", {}), ("MPO", {}), ("GIF", {}), ("WEBP", {"lossless": True}), ("AVIF", {})],
)
def test_tiff_with_many_pages_is_refused_with_their_number(kind, options):
    others = [Image.fromarray(part(seed)) for seed in (1, 2)]
    data = save(part(0), kind, save_all=True, append_images=others, **options)
    number = r"\d" if kind == "AVIF" else "3"
    with pytest.raises(ImageError, match=f"a: the .* file holds {number} pictures; expected one, save each"):
        decode_image(data, "a")


@pytest.mark.parametrize("kind", CUTS)
def test_too_many_pixels_are_refused_before_decoding(kind):
    with pytest.raises(ImageError, match=r"has 0.1 megapixels \(320x240\); expected at most 0.05, raise max_megapix"):
        decode_image(CUTS[kind](), "a", max_megapixels=0.05)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_twelve_bits_in_sixteen_are_read_by_their_number(tmp_path, write, suffix):
    levels = np.linspace(0, 4095, 64 * 64).reshape(64, 64).astype(np.uint16)
    path = write(tmp_path / f"a{suffix}", levels)
    np.testing.assert_array_equal(read_image(path, bits=12)[:, :, 1], levels >> 4)
    with pytest.raises(ImageError, match=r"a\.\w+: the values of the 16-bit picture reach only 4095, so 4 of 16 bits"):
        read_image(path)


def test_inverted_tiff_is_refused():
    with pytest.raises(ImageError, match="grey levels are stored inverted"):
        decode_image(save(part(0), "TIFF", "L", tiffinfo={262: 0}), "a")


def test_what_opencv_does_not_read_is_read_by_pillow():
    np.testing.assert_array_equal(decode_image(save(part(0), "TGA"), "a"), part(0))


def with_index(second: bytes, kind: int) -> bytes:
    """A JPEG whose index (CIPA DC-007) lists itself and a second one of this kind, which lies behind it."""
    first = encode(".jpg", part(0))
    entries = struct.pack("<IIIHH", 0x20030000, 0, 0, 0, 0) + struct.pack("<IIIHH", kind, len(second), 0, 0, 0)
    fields = struct.pack("<HHI4s", 0xB000, 7, 4, b"0100") + struct.pack("<HHII", 0xB001, 4, 1, 2)
    fields += struct.pack("<HHII", 0xB002, 7, len(entries), 8 + 2 + 3 * 12 + 4)
    index = b"II*\0" + struct.pack("<IH", 8, 3) + fields + bytes(4) + entries
    begin = len(first) + 4 + 4 + len(index) - 10  # counted from the index, which begins 10 bytes into the file
    index = index[:-8] + struct.pack("<IHH", begin, 0, 0)
    return first[:2] + b"\xff\xe2" + struct.pack(">H", 6 + len(index)) + b"MPF\0" + index + first[2:] + second


SECOND = encode(".jpg", part(1))
GAIN_MAP = SECOND[:2] + b"\xff\xe1\0\x2a" + b"http://ns.adobe.com/hdr-gain-map/1.0/".ljust(40, b"\0") + SECOND[2:]


@pytest.mark.parametrize(("second", "kind"), [(SECOND, 0x010001), (SECOND, 0x010002), (GAIN_MAP, 0)])
def test_preview_or_gain_map_behind_a_jpeg_is_no_second_picture(second, kind):
    assert (decode_image(with_index(second, kind), "a") == decode_image(encode(".jpg", part(0)), "a")).all()


@pytest.mark.parametrize("kind", [0, 0x020001, 0x020002])
def test_other_picture_behind_a_jpeg_is_refused(kind):
    with pytest.raises(ImageError, match="holds 2 pictures; expected one"):
        decode_image(with_index(SECOND, kind), "a")
