from __future__ import annotations

import cv2
import numpy as np
import pytest

from stfpm_edge.pictures.data import batches, find_good_images, read_images, split_images
from stfpm_runtime.errors import DataError, OptionError

GREY = np.full((40, 40, 3), 128, np.uint8)


def test_a_category_is_its_train_good(tmp_path):
    for folder in ("train/good", "test/broken"):
        (tmp_path / folder).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / folder / "a.png"), GREY)
    assert find_good_images(tmp_path) == [tmp_path / "train/good/a.png"]


def test_a_plain_folder_is_all_its_pictures_in_order(tmp_path):
    for name in ("b.png", "a.jpg", "monday/c.bmp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), GREY)
    (tmp_path / "notes.txt").touch()
    assert [path.name for path in find_good_images(tmp_path)] == ["a.jpg", "b.png", "c.bmp"]


@pytest.mark.parametrize(
    ("folders", "message"),
    [((), "no pictures in it"), (("test/broken",), "has test/ but no train/good/"), (("train",), "has train/ but no")],
)
def test_unusable_folders_are_refused(tmp_path, folders, message):
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(DataError, match=message):
        find_good_images(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        find_good_images(tmp_path / "nowhere")


def test_unreadable_pictures_are_named_and_refused_unless_skipped(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), GREY)
    (tmp_path / "b.png").touch()
    (tmp_path / "c.png").write_bytes(b"no picture")
    paths, said = sorted(tmp_path.iterdir()), []
    with pytest.raises(DataError, match="2 of 3 pictures cannot be read"):
        read_images(paths, 32, 32, skip_unreadable=False, report=said.append)
    assert [("b.png" in line, "c.png" in line) for line in said] == [(True, False), (False, True)]
    images, read = read_images(paths, 32, 48, skip_unreadable=True, report=said.append)
    assert images.shape == (1, 32, 48, 3)
    assert read == paths[:1]


def test_a_split_is_seeded_disjoint_and_complete():
    split = split_images(100, 0.2, 1.0, seed=0)
    assert (len(split.validation), len(split.calibration)) == (10, 10)
    assert sorted(split.train + split.validation + split.calibration) == list(range(100))
    assert split == split_images(100, 0.2, 1.0, seed=0)
    assert split != split_images(100, 0.2, 1.0, seed=1)


def test_a_split_for_a_further_training_holds_out_what_no_student_has_learnt():
    first = split_images(100, 0.2, 1.0, seed=0)
    assert split_images(100, 0.2, 1.0, 0, first.train, first.validation) == first
    more = split_images(140, 0.2, 1.0, 5, first.train, first.validation)  # 40 new pictures
    assert len(more.validation) == len(more.calibration) == 14
    assert not set(more.calibration) & {*first.train, *first.validation}
    assert not set(more.validation) & set(first.train)
    assert set(more.train) - set(range(100))  # new ones are learnt from, too
    few = split_images(100, 0.2, 1.0, 1, range(95), [])
    assert {*few.validation, *few.calibration} >= set(range(95, 100))


def test_few_shot_uses_no_other_image():
    split = split_images(200, 0.2, 0.05, seed=0)
    assert (len(split.train), len(split.validation), len(split.calibration)) == (8, 1, 1)


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_images_for_a_split(count):
    with pytest.raises(DataError, match=f"{count} images are too few"):
        split_images(count, 0.2, 1.0, seed=0)


@pytest.mark.parametrize(("val", "train"), [(0, 1), (1, 1), (0.2, 0), (0.2, 1.1), (float("nan"), 1)])
def test_fractions_out_of_range(val, train):
    with pytest.raises(OptionError, match="fraction"):
        split_images(100, val, train, seed=0)


def test_every_image_is_in_one_batch_of_an_epoch():
    epoch = batches(range(10), 4, seed=0, epoch=1)
    assert [len(batch) for batch in epoch] == [4, 4, 2]
    assert sorted(index for batch in epoch for index in batch) == list(range(10))
    assert epoch == batches(range(10), 4, seed=0, epoch=1)
    assert epoch != batches(range(10), 4, seed=0, epoch=2)


def test_a_last_batch_of_one_joins_the_one_before():
    assert [len(batch) for batch in batches(range(9), 4, seed=0, epoch=1)] == [4, 5]
