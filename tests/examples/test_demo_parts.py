"""The demo's pictures: seeded, laid out as MVTec AD is, and with masks that are exact."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from examples.gears.parts import DEFECTS, SIZE, Counts, draw_part, main, write_parts
from stfpm_runtime.errors import OutputError
from stfpm_runtime.imaging.images import find_images, read_image

COUNTS = Counts(train=3, test=2)


def test_the_same_seed_gives_the_same_picture_and_another_seed_another():
    assert np.array_equal(draw_part([0, 7], "spot")[0], draw_part([0, 7], "spot")[0])
    assert not np.array_equal(draw_part([0, 7])[0], draw_part([1, 7])[0])


def test_a_good_part_has_an_empty_mask():
    image, mask = draw_part([0])
    assert (image.shape, image.dtype, mask.shape, mask.dtype) == ((SIZE, SIZE, 3), np.uint8, (SIZE, SIZE), np.bool_)
    assert not mask.any()


@pytest.mark.parametrize("kind", DEFECTS)
@pytest.mark.parametrize("number", range(3))
def test_a_defective_part_is_its_good_twin_outside_the_mask(kind: str, number: int):
    good, _ = draw_part([3, number])
    bad, mask = draw_part([3, number], kind)
    changed = (good != bad).any(axis=2)
    assert not (changed & ~mask).any()
    assert changed[mask].mean() > 0.8  # and inside it, almost everything is different


@pytest.mark.parametrize("kind", DEFECTS)
def test_defects_are_neither_invisible_nor_absurdly_large(kind: str):
    for number in range(4):
        share = draw_part([4, number], kind)[1].mean()
        assert 0.0003 < share < 0.03, number


def test_good_parts_vary_in_place_and_light():
    images = np.stack([draw_part([5, number])[0] for number in range(6)]).astype(np.float32)
    assert images.mean(axis=(1, 2, 3)).std() > 1  # grey levels
    bright = images.max(axis=3) > 120
    centres = np.array([np.argwhere(metal).mean(axis=0) for metal in bright])
    assert (np.ptp(centres, axis=0) > 3).all()  # pixels


def test_the_layout_is_that_of_mvtec(tmp_path: Path):
    write_parts(tmp_path, seed=1, counts=COUNTS)
    found = {path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)}
    expected = {f"train/good/{number:03}.png" for number in range(3)}
    expected |= {f"test/good/{number:03}.png" for number in range(2)}
    expected |= {f"test/{kind}/000.png" for kind in DEFECTS}
    expected |= {f"ground_truth/{kind}/000_mask.png" for kind in DEFECTS}
    assert found == expected


def test_masks_are_black_and_white_and_belong_to_their_pictures(tmp_path: Path):
    write_parts(tmp_path, seed=1, counts=COUNTS)
    for kind in DEFECTS:
        mask = cv2.imread(str(tmp_path / f"ground_truth/{kind}/000_mask.png"), cv2.IMREAD_UNCHANGED)
        assert mask.shape == read_image(tmp_path / f"test/{kind}/000.png").shape[:2]
        assert set(np.unique(mask)) == {0, 255}


def test_no_picture_appears_twice(tmp_path: Path):
    write_parts(tmp_path, seed=1, counts=COUNTS)
    pictures = [path.read_bytes() for path in find_images(tmp_path) if "ground_truth" not in path.parts]
    assert len(set(pictures)) == len(pictures)


def test_writing_again_replaces_what_was_there_and_nothing_else(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    write_parts(tmp_path, seed=1, counts=Counts(train=3, test=2))
    before = (tmp_path / "train/good/000.png").read_bytes()
    write_parts(tmp_path, seed=1, counts=Counts(train=1, test=2))
    assert [path.name for path in (tmp_path / "train/good").iterdir()] == ["000.png"]
    assert (tmp_path / "train/good/000.png").read_bytes() == before
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_place_that_cannot_be_written_is_an_error_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(OutputError, match=r"cannot be written .*; choose another folder"):
        write_parts(blocked, counts=COUNTS)
    assert main([str(blocked), "--train", "1", "--test", "1"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
