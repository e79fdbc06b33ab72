"""Public data sets in their published layouts: their listings, and the misfit of each file that does not fit."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from known_answers import write
from stfpm_eval.data import sample_mask
from stfpm_eval.layouts import find_products, list_layout
from stfpm_eval.layouts.__main__ import main
from stfpm_runtime.errors import DataError, OptionError

PICTURE = np.full((6, 8), 90, np.uint8)


def fill(root, *paths, level=90):
    for path in paths:
        picture = np.zeros((6, 8), np.uint8)
        picture[2:4, 3:5] = level
        write(root / path, picture)


def mvtec_ad(root):
    fill(root, "bottle/train/good/000.png", "bottle/train/good/001.png", "bottle/test/good/000.png")
    fill(root, "bottle/test/dent/000.png", "bottle/ground_truth/dent/000_mask.png", level=255)


def visa(root):
    base = "candle/Data"
    fill(root, *(f"{base}/Images/Normal/{n}.JPG" for n in ("0", "1")), f"{base}/Images/Anomaly/000.JPG")
    fill(root, f"{base}/Masks/Anomaly/000.png", level=1)
    (root / "split_csv").mkdir()
    (root / "split_csv" / "1cls.csv").write_text(
        "object,split,label,image,mask\n"
        f"candle,train,normal,{base}/Images/Normal/0.JPG,\n"
        f"candle,test,normal,{base}/Images/Normal/1.JPG,\n"
        f"candle,test,anomaly,{base}/Images/Anomaly/000.JPG,{base}/Masks/Anomaly/000.png\n"
    )


def btad(root):
    fill(root, "01/train/ok/0000.bmp", "01/test/ok/0000.bmp", "01/test/ko/0001.bmp")
    fill(root, "01/ground_truth/ko/0001.png", level=255)


def loco(root):
    base = "breakfast_box"
    fill(root, *(f"{base}/{part}/good/000.png" for part in ("train", "validation", "test")))
    for kind in ("logical_anomalies", "structural_anomalies"):
        fill(root, f"{base}/test/{kind}/000.png")
        fill(root, f"{base}/ground_truth/{kind}/000/000.png", level=37)
    other = np.zeros((6, 8), np.uint8)
    other[0, 0] = 1
    write(root / base / "ground_truth/logical_anomalies/000/001.png", other)


def ad2(root):
    fill(root, "can/train/good/000_regular.png", "can/validation/good/000_regular.png")
    fill(root, "can/test_public/good/000_regular.png", "can/test_public/bad/000_regular.png")
    fill(root, "can/test_private/000_regular.png", "can/test_private_mixed/000_mixed.png")
    fill(root, "can/test_public/ground_truth/bad/000_regular_mask.png", level=255)


def shanghaitech(root):
    fill(root, "training/frames/01_001/0000.jpg", *(f"testing/frames/01_0014/{n:03d}.jpg" for n in range(3)))
    pixels = np.zeros((3, 6, 8), np.uint8)
    pixels[1, 2:4, 3:5] = 1
    for folder, array in (("test_frame_mask", np.array([0, 1, 0], np.int8)), ("test_pixel_mask", pixels)):
        (root / "testing" / folder).mkdir()
        np.save(root / "testing" / folder / "01_0014.npy", array)


def cifar10(root):
    from stfpm_eval.layouts.cifar import CLASSES

    fill(root, *(f"{split}/{name}/00000.png" for split in ("train", "test") for name in CLASSES))


CASES = {
    "mvtec-ad": (mvtec_ad, "bottle", 2, {"good": 1, "dent": 1}),
    "visa": (visa, "candle", 1, {"good": 1, "anomaly": 1}),
    "btad": (btad, "01", 1, {"good": 1, "ko": 1}),
    "mvtec-loco": (loco, "breakfast_box", 1, {"good": 1, "logical_anomalies": 1, "structural_anomalies": 1}),
    "mvtec-ad2": (ad2, "can", 1, {"good": 1, "bad": 1}),
    "shanghaitech": (shanghaitech, "shanghaitech", 1, {"good": 2, "abnormal": 1}),
}


@pytest.mark.parametrize("layout", CASES)
def test_layout_is_recognised_and_listed(tmp_path, layout):
    make, name, train, kinds = CASES[layout]
    make(tmp_path)
    assert list_layout(tmp_path).layout == layout
    (product,) = find_products(tmp_path)
    samples = product.category.samples
    assert (product.name, len(product.train)) == (name, train)
    assert {kind: sum(s.kind == kind for s in samples) for kind in {s.kind for s in samples}} == kinds
    assert product.category.has_masks
    for sample in samples:
        mask = sample_mask(sample, 6, 8)
        assert mask[2:4, 3:5].all() == mask.any() == sample.is_defective


def test_masks_of_one_loco_image_are_joined(tmp_path):
    loco(tmp_path)
    samples = {s.kind: s for s in find_products(tmp_path)[0].category.samples}
    assert sample_mask(samples["logical_anomalies"], 6, 8).sum() == 5
    assert sample_mask(samples["structural_anomalies"], 6, 8).sum() == 4


def test_cifar10_sets_each_class_against_the_other_nine(tmp_path):
    cifar10(tmp_path)
    products = find_products(tmp_path)
    assert len(products) == 10
    assert all(len(p.train) == 1 and len(p.category.samples) == 10 and not p.category.has_masks for p in products)
    ship = find_products(tmp_path, only="ship")[0]
    assert [s.image.parent.name for s in ship.category.samples if not s.is_defective] == ["ship"]


def gone(*parts):
    def change(root):
        path = root.joinpath(*parts)
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def more(path, level=255):
    return lambda root: fill(root, path, level=level)


def short_labels(root):
    np.save(root / "testing/test_frame_mask/01_0014.npy", np.array([0, 1], np.int8))


def videos_alone(root):
    shutil.rmtree(root / "training" / "frames")
    (root / "training" / "videos").mkdir()


def mislabelled(root):
    path = root / "split_csv" / "1cls.csv"
    path.write_text(path.read_text().replace("candle,train,normal", "candle,train,anomaly"))


@pytest.mark.parametrize(
    ("layout", "change", "message"),
    [
        ("mvtec-ad", gone("bottle/ground_truth/dent/000_mask.png"), r"dent/000\.png: has no mask; expected .*000_mask"),
        ("mvtec-ad", more("bottle/ground_truth/dent/007_mask.png"), r"dent/007_mask\.png: a mask of no image"),
        ("mvtec-ad", gone("bottle/test/good"), r"bottle: no good test pictures; expected at least one"),
        ("mvtec-ad", gone("bottle/test"), r"bottle: no good test pictures.*no defective test pictures"),
        ("mvtec-ad", more("bottle/test/000.png"), r"test/000\.png: lies in test/ itself"),
        ("mvtec-ad", more("bottle/train/bad/000.png"), r"train/bad: unknown to the layout; expected one of good"),
        ("btad", gone("01/ground_truth/ko/0001.png"), r"ko/0001\.bmp: has no mask; expected .*ko/0001\.png"),
        ("btad", more("01/test/maybe/0.bmp"), r"test/maybe: unknown to the layout; expected one of ko, ok"),
        ("mvtec-loco", gone("breakfast_box/ground_truth/logical_anomalies/000"), r"000\.png: has no mask"),
        ("mvtec-loco", more("breakfast_box/ground_truth/logical_anomalies/9/000.png"), r"/9: masks of no image"),
        ("mvtec-ad2", gone("can/test_public/ground_truth/bad/000_regular_mask.png"), r"000_regular\.png: has no mask"),
        ("visa", gone("candle/Data/Images/Normal/0.JPG"), r"Normal/0\.JPG: missing; .*1cls\.csv, line 2 names it"),
        ("visa", gone("candle/Data/Masks"), r"Anomaly/000\.JPG: has no mask; .*line 4 names .*000\.png"),
        ("visa", mislabelled, r"line 2: got train anomaly; expected train normal"),
        ("shanghaitech", short_labels, r"01_0014\.npy: has the shape \[2\]; expected one label for each of the 3"),
        ("shanghaitech", videos_alone, r"training/videos: videos, no frames; extract each"),
        ("shanghaitech", gone("testing/test_frame_mask/01_0014.npy"), r"01_0014: a clip without labels"),
    ],
)
def test_each_file_that_does_not_fit_is_a_misfit(tmp_path, capsys, layout, change, message):
    CASES[layout][0](tmp_path)
    change(tmp_path)
    with pytest.raises(DataError, match=message):
        find_products(tmp_path)
    assert main([str(tmp_path)]) == 1
    assert "misfit: " in capsys.readouterr().out


def test_misfits_of_another_product_are_left_out(tmp_path):
    mvtec_ad(tmp_path)
    fill(tmp_path, "screw/train/good/000.png")
    assert find_products(tmp_path, only="bottle")[0].name == "bottle"
    with pytest.raises(DataError, match="screw: no good test pictures"):
        find_products(tmp_path, only="screw")
    with pytest.raises(DataError, match="no product named cable; it holds bottle"):
        find_products(tmp_path, only="cable")


def test_one_class_alone_is_no_one_class_problem(tmp_path):
    cifar10(tmp_path)
    shutil.rmtree(tmp_path / "test" / "truck")
    with pytest.raises(DataError, match="test/truck: no pictures; one-class needs all ten"):
        find_products(tmp_path)


def test_truncated_cifar_archive_is_refused(tmp_path, capsys):
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"cut off")
    with pytest.raises(DataError, match="pickles, not pictures; unpack them with"):
        find_products(tmp_path)
    assert main([str(tmp_path), "--unpack-cifar10", str(tmp_path / "out")]) == 1
    assert "missing, cut off or changed" in capsys.readouterr().err


def test_unknown_root_and_layout_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"no layout of visa, .*; it holds nothing"):
        list_layout(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        list_layout(tmp_path / "nowhere")
    with pytest.raises(OptionError, match="got layout 'coco'"):
        list_layout(tmp_path, "coco")
