"""Listing labelled images: what is found, and what is refused by name."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from known_answers import write
from stfpm_eval.data import Category, find_categories, read_category
from stfpm_runtime.errors import DataError

DATA = Path(os.environ.get("STFPM_DATA", Path(__file__).parents[3] / "shared" / "data"))


def test_category_lists_good_images_first_and_gives_defects_their_masks(make_category):
    category = read_category(make_category())
    assert category.name == "bottle"
    assert category.defects == ("dent", "scratch")
    assert category.has_masks
    found = [(sample.kind, sample.image.name, sample.mask and sample.mask.name) for sample in category.samples]
    assert found == [
        ("good", "000.png", None),
        ("good", "001.png", None),
        ("dent", "000.png", "000_mask.png"),
        ("scratch", "000.png", "000_mask.png"),
        ("scratch", "001.png", "001_mask.png"),
    ]
    assert all(sample.mask is None or sample.mask.parent.name == sample.kind for sample in category.samples)


def test_categories_are_sorted_and_other_folders_are_ignored(make_category):
    data = make_category("screw").parent
    make_category("bottle")
    (data / "licences").mkdir()
    assert [category.name for category in find_categories(data)] == ["bottle", "screw"]
    assert [category.name for category in find_categories(data / "screw")] == ["screw"]


def test_suffixes_and_folders_within_a_defect_may_differ(make_category):
    folder = make_category()
    write(folder / "test" / "dent" / "camera1" / "007.bmp", np.zeros((4, 4), np.uint8))
    write(folder / "ground_truth" / "dent" / "camera1" / "007_mask.tif", np.zeros((4, 4), np.uint8))
    sample = read_category(folder).samples[2 + 1]
    assert (sample.image.name, sample.mask.name) == ("007.bmp", "007_mask.tif")


def test_without_ground_truth_there_are_no_masks(make_category):
    category = read_category(make_category(masks=False))
    assert not category.has_masks
    assert {sample.mask for sample in category.samples} == {None}


def remove(*parts):
    def change(folder):
        path = folder.joinpath(*parts)
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def copy(source, target):
    def change(folder):
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / source, folder / target)

    return change


def remove_defects(folder):
    shutil.rmtree(folder / "test" / "scratch")
    shutil.rmtree(folder / "test" / "dent")


MASK = "ground_truth/dent/000_mask.png"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (remove("test"), r"bottle: no test folder; expected .*test/good and .*test/<defect>"),
        (remove("test", "good"), r"test/good: no pictures of good parts; .* add some"),
        (remove_defects, r"test: no pictures of defective parts; expected them in .*test/<defect>"),
        (remove(*MASK.split("/")), r"test/dent/000\.png: has no mask, .*expected .*ground_truth/dent/000_mask\.png"),
        (remove("ground_truth", "dent"), r"test/dent/000\.png: has no mask"),
        (copy(MASK, "ground_truth/dent/001_mask.png"), r"ground_truth/dent/001_mask\.png: a mask of no image"),
        (copy(MASK, "ground_truth/dent/000.png"), r"ground_truth/dent/000\.png: a mask of no image; expected <image>_"),
        (copy(MASK, "ground_truth/crack/000_mask.png"), r"crack/000_mask\.png: a mask of no image; .* in .*test/crack"),
        (copy("test/good/000.png", "test/000.png"), r"test/000\.png: lies in test/ itself; expected it in a folder"),
        (copy("test/dent/000.png", "test/dent/000.jpg"), r"000\.png: has the name of .*000\.jpg but for the suffix"),
    ],
)
def test_category_that_is_not_whole_is_refused(make_category, change, message):
    folder = make_category()
    change(folder)
    with pytest.raises(DataError, match=message):
        find_categories(folder)


def test_folder_without_categories_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"no test folder in it nor one level below; expected test/good"):
        find_categories(tmp_path)
    with pytest.raises(DataError, match=r"nowhere: no such folder; expected an MVTec-style category"):
        find_categories(tmp_path / "nowhere")


def test_one_incomplete_category_among_others_is_refused(make_category):
    data = make_category("bottle").parent
    (data / "screw" / "train" / "good").mkdir(parents=True)
    with pytest.raises(DataError, match=r"screw: no test folder"):
        find_categories(data)


def test_masks_of_good_images_are_ignored(make_category):
    folder = make_category()
    write(folder / "ground_truth" / "good" / "000_mask.png", np.zeros((4, 4), np.uint8))
    assert len(read_category(folder).samples) == 5


@pytest.mark.parametrize(
    ("place", "good", "defective", "defects"),
    [
        ("magnetic_tile", 100, 257, ("blowhole", "break", "crack")),
        ("mvtec_ad/bottle", 20, 63, ("broken_large", "broken_small", "contamination")),
    ],
)
def test_real_data_is_listed(place, good, defective, defects):
    if not (DATA / place).is_dir():
        pytest.skip(f"{DATA / place} is absent; set STFPM_DATA to the folder that holds {place}")
    category: Category = read_category(DATA / place)
    assert sum(not sample.is_defective for sample in category.samples) == good
    assert sum(sample.mask is not None for sample in category.samples) == defective
    assert category.defects == defects
