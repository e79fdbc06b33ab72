"""Folders with one thing wrong in each: training refuses them and names the reason, unless --accept-data is given."""

from __future__ import annotations

import shutil

import cv2
import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

from drawn_parts import draw_striped, write_good
from stfpm_edge.checkpoint import load_checkpoint
from stfpm_edge.cli import main


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    from tiny_model import make_checkpoint

    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    save_file(make_checkpoint(blocks=(2,)).teacher.state_dict(), path)
    return str(path)


@pytest.fixture
def run(teacher, tmp_path, capsys):
    def _run(folder, *more):
        command = [str(folder), "-o", str(tmp_path / "m.safetensors"), "--teacher", teacher, "--blocks", "2", "--size",
                   "32", "--epochs", "1", "--batch-size", "4", "--device", "cpu", *more]  # fmt: skip
        code = main(command)
        return code, capsys.readouterr().err

    return _run


def repeated(folder):
    for path in folder.glob("*.png"):
        path.write_bytes((folder / "000.png").read_bytes())


def black(folder):
    rng = np.random.default_rng(0)
    cv2.imwrite(str(folder / "003.png"), rng.integers(0, 8, (64, 64, 3), np.uint8))


def constant(folder):
    cv2.imwrite(str(folder / "003.png"), np.full((64, 64, 3), 120, np.uint8))


def another_aspect(folder):
    cv2.imwrite(str(folder / "003.png"), draw_striped(np.random.default_rng(9))[:, :40])


def another_size(folder):
    cv2.imwrite(str(folder / "003.png"), cv2.resize(draw_striped(np.random.default_rng(9)), (128, 128)))


def another_depth(folder):
    cv2.imwrite(str(folder / "003.png"), draw_striped(np.random.default_rng(9)).astype(np.uint16) * 257)


def grey_among_colour(folder):
    cv2.imwrite(str(folder / "003.png"), draw_striped(np.random.default_rng(9))[:, :, 0])


def broken_link(folder):
    (folder / "100.png").symlink_to(folder.parent / "gone.png")


def other_suffix(folder):
    shutil.copyfile(folder / "000.png", folder / "100.heic")


def mask_next_to_pictures(folder):
    mask = np.zeros((64, 64), np.uint8)
    mask[20:30, 20:30] = 255
    cv2.imwrite(str(folder / "000_mask.png"), mask)


def mask_with_any_name(folder):
    mask = np.zeros((64, 64, 3), np.uint8)
    mask[20:60, 20:60] = 255
    cv2.imwrite(str(folder / "100.png"), mask)


def turned(folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(draw_striped(np.random.default_rng(9))).save(folder / "100.jpg", quality=95, exif=exif)


def defects_below(folder):
    write_good(folder / "NG" / "scratch", 2, seed=5)


def folder_next_to_good(folder):
    write_good(folder / "good", 2, seed=5)
    write_good(folder / "scratches", 2, seed=6)


def too_few(folder):
    for path in sorted(folder.glob("*.png"))[8:]:
        path.unlink()


CASES = [
    (repeated, "11 of 12 pictures repeat another one exactly"),
    (black, "near-black pictures: 1: 003.png"),
    (constant, "constant pictures: 1: 003.png"),
    (another_aspect, "pictures of different aspect ratios: 64x64 (11), 40x64 (1)"),
    (another_size, "pictures of different sizes: 64x64 (11), 128x128 (1)"),
    (another_depth, "different bit depths or colours: 8-bit colour (11), 16-bit colour (1)"),
    (grey_among_colour, "different bit depths or colours: 8-bit colour (11), 8-bit grey (1)"),
    (broken_link, "files or folders that cannot be opened: 1: 100.png (the link leads nowhere)"),
    (other_suffix, "files with suffixes that are not read: .heic (1)"),
    (mask_next_to_pictures, "file names like defects or masks: 1: 000_mask.png"),
    (mask_with_any_name, "two grey levels only, like masks: 1: 100.png"),
    (turned, "different EXIF orientations"),
    (defects_below, "folders named like defects or masks, or next to a folder of good pictures: NG/scratch (2)"),
    (folder_next_to_good, "next to a folder of good pictures: scratches (2)"),
    (too_few, "8 pictures are few; take 10 or more"),
]


@pytest.mark.parametrize(("spoil", "message"), CASES, ids=[spoil.__name__ for spoil, _ in CASES])
def test_doubtful_pictures_are_refused_before_the_training_unless_accepted(run, tmp_path, spoil, message):
    write_good(tmp_path / "parts", 12)
    spoil(tmp_path / "parts")
    code, error = run(tmp_path / "parts")
    assert code == 1
    assert message in error
    assert "epoch" not in error
    assert not (tmp_path / "m.safetensors").exists()
    last = error.splitlines()[-1]
    assert last.startswith("stfpm-train: error: ")
    assert last.endswith("; if all of it is meant, add --accept-data")
    code, error = run(tmp_path / "parts", "--accept-data")
    assert code == 0
    assert any(line.startswith("accepted: ") and message in line for line in error.splitlines())


def test_sound_pictures_are_trained_on_with_a_table_of_what_was_found(run, tmp_path):
    write_good(tmp_path / "parts", 12)
    write_good(tmp_path / "elsewhere", 4, seed=1)
    (tmp_path / "parts" / "monday").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "parts" / "notes.txt").touch()
    code, error = run(tmp_path / "parts")
    assert code == 0
    lines = [" ".join(line.split()) for line in error.splitlines()]
    assert lines[0].endswith("parts: 16 pictures")
    assert lines[1:10] == [
        "folders . (12), monday (4)", "sizes, in pixels 64x64 (16)", "bit depth, colour 8-bit colour (16)",
        "exact duplicates none", "near-black none", "constant none",
        "unreadable, left out none", "cannot be opened, left out none", "other suffixes, left out .txt (1)",
    ]  # fmt: skip
    assert "doubtful" not in error
    assert "warning" not in error.partition("epoch 1/")[0]  # one about the model may follow its training
    data = load_checkpoint(tmp_path / "m.safetensors").spec.training["data"]
    assert (data["pictures"], data["folders"]) == (16, {".": 12, "monday": 4})
    assert data["sizes"] == {"64x64": 16}
    assert data["other_suffixes"] == {".txt": 1}


def test_a_folder_that_is_named_like_defects_is_refused(run, tmp_path):
    write_good(tmp_path / "NG", 12)
    code, error = run(tmp_path / "NG")
    assert code == 1
    assert "the folder is named NG, like defects or masks" in error


def write_deep(folder, highest):
    """12 pictures of 16 bits whose values go up to `highest`."""
    for path in write_good(folder, 12):
        deep = cv2.imread(str(path)).astype(np.uint32) * highest // 255
        deep[0, 0] = highest
        cv2.imwrite(str(path), deep.astype(np.uint16))


@pytest.mark.parametrize("bits", [12, 14])
def test_16_bit_pictures_of_a_camera_with_fewer_bits_need_their_number(run, tmp_path, bits):
    write_deep(tmp_path / "parts", (1 << bits) - 1)
    code, error = run(tmp_path / "parts")
    assert code == 1
    assert f"so {16 - bits} of 16 bits are unused" in error or f"need {bits} bits only" in error
    code, error = run(tmp_path / "parts", "--bits", str(bits))
    assert code == 0
    checkpoint = load_checkpoint(tmp_path / "m.safetensors")
    assert checkpoint.spec.bits == bits
    assert checkpoint.train_images[0].max() > 160  # of 255: nothing of the full scale is lost


def test_unreadable_pictures_are_named_and_refused_or_left_out_and_recorded(run, tmp_path):
    """One with zeros in the middle of its JPEG data, one of several pages, one cut off."""
    folder = tmp_path / "parts"
    write_good(folder, 12)
    jpeg = bytearray(cv2.imencode(".jpg", draw_striped(np.random.default_rng(9)), [cv2.IMWRITE_JPEG_QUALITY, 95])[1])
    middle = len(jpeg) // 2
    jpeg[middle : middle + 300] = bytes(300)
    (folder / "zeros.jpg").write_bytes(jpeg)
    frames = [Image.fromarray(draw_striped(np.random.default_rng(seed))) for seed in (20, 21)]
    frames[0].save(folder / "pages.tif", save_all=True, append_images=frames[1:])
    (folder / "cut.png").write_bytes((folder / "000.png").read_bytes()[:-200])
    code, error = run(folder)
    assert code == 1
    named = ("cut.png", "pages.tif", "zeros.jpg")
    assert all(f"unreadable: {folder / name}" in error for name in named)
    assert "3 of 15 pictures cannot be read, they are named above" in error
    code, error = run(folder, "--skip-unreadable")
    assert code == 0
    assert all(f"skipped: {folder / name}" in error for name in named)
    data = load_checkpoint(tmp_path / "m.safetensors").spec.training["data"]
    assert (data["pictures"], data["unreadable"]) == (12, list(named))


def test_an_input_of_another_aspect_ratio_gets_a_warning_with_a_size_that_fits(run, tmp_path):
    folder = tmp_path / "strips"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(10):
        cv2.imwrite(str(folder / f"{number}.png"), rng.integers(90, 180, (600, 60, 3), np.uint8))
    code, error = run(folder, "--size", "256x32")
    assert code == 0
    assert "warning: pictures of 60x600 pixels are distorted 80.0 times by an input of 256x32; --size 32x288" in error
    code, error = run(folder, "--size", "32x288")
    assert code == 0
    assert "warning" not in error.partition("epoch 1/")[0]  # one about the model may follow its training


def test_crops_of_many_sizes_are_trained_with_a_warning(run, tmp_path):
    for number, path in enumerate(write_good(tmp_path / "parts", 12)):
        cv2.imwrite(str(path), cv2.imread(str(path))[: 64 - 2 * number])
    code, err = run(tmp_path / "parts")
    assert (code, "doubtful" in err) == (0, False)
    assert "warning: pictures of 12 sizes, taken for crops: an input of 32x32 distorts each in another way" in err
