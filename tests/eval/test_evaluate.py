"""Figures that were worked out by hand for the category and the model of conftest.py."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

from known_answers import BLUE, RED, SIDE, write
from stfpm_eval.data import read_category
from stfpm_eval.evaluate import NO_DEFECTIVE_PIXEL, NO_GROUND_TRUTH, DefectResult, Unreadable, evaluate
from stfpm_runtime.engines import open_engine
from stfpm_runtime.errors import ArtifactError, DataError, EngineError

# Good images score 10 and 60 in all their 256 pixels; the other 240 of each defective one score 0.
NORMAL_PIXELS = 2 * 256 + 3 * 240
ABOVE_40 = 256 / NORMAL_PIXELS
"""The share of normal pixels that scores above the worst defect: those of the good image at 60."""


@pytest.fixture
def judge():
    """Evaluates a model file on a folder."""

    def judge(model, folder, **options):
        with contextlib.closing(open_engine(model)) as engine:
            return evaluate(engine, read_category(folder), **options)

    return judge


def test_metrics_equal_those_computed_by_hand(judge, make_model, make_category):
    advanced = []
    result = judge(make_model(), make_category(), advance=lambda: advanced.append(1))
    assert (result.name, result.normal_images, result.defective_images) == ("bottle", 2, 3)
    assert result.image_auroc == pytest.approx(5 / 6)  # of six pairs only 40 against 60 is the wrong way round
    assert result.pixel_auroc == pytest.approx(1 - ABOVE_40 / 3)
    assert result.pro == pytest.approx(1 - ABOVE_40 / 0.3 / 3)
    assert (result.missed, result.false_alarms) == (1, 1)
    assert result.defects == (DefectResult("dent", 1, 1.0, 0), DefectResult("scratch", 2, 0.75, 1))
    assert (result.unreadable, result.note) == ((), "")
    assert len(advanced) == 5


@pytest.mark.parametrize(("order", "channel"), [("BGR", BLUE), ("RGB", RED)])
def test_model_gets_the_channel_order_that_it_asks_for(judge, make_model, make_category, order, channel):
    model = make_model(channel_order=order)
    assert judge(model, make_category(channel=channel)).image_auroc == pytest.approx(5 / 6)
    other = judge(model, make_category("other", channel=RED + BLUE - channel))
    assert other.image_auroc == 0.5  # the first channel is black everywhere


def test_without_ground_truth_there_are_no_pixel_metrics(judge, make_model, make_category):
    result = judge(make_model(), make_category(masks=False))
    assert result.image_auroc == pytest.approx(5 / 6)
    assert (result.pixel_auroc, result.pro, result.note) == (None, None, NO_GROUND_TRUTH)


def test_uncalibrated_model_has_metrics_but_no_verdicts(judge, make_model, make_category):
    result = judge(make_model(threshold=None), make_category())
    assert result.image_auroc == pytest.approx(5 / 6)
    assert (result.missed, result.false_alarms) == (None, None)
    assert {defect.missed for defect in result.defects} == {None}


def speck(folder, *names):
    """Marks one pixel that no pixel of the map looks at."""
    for name in names:
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[8, 16] = 255
        write(folder / "ground_truth" / f"{name}_mask.png", mask)


def test_masks_that_vanish_are_noted(judge, make_model, make_category):
    folder = make_category()
    speck(folder, "dent/000")
    result = judge(make_model(), folder)
    assert result.note == "1 masks vanish at the anomaly map's size; their pixels count as normal"
    assert result.pixel_auroc == pytest.approx(1 - (256 + 16) / (NORMAL_PIXELS + 16) / 2)
    speck(folder, "scratch/000", "scratch/001")
    result = judge(make_model(), folder)
    assert (result.pixel_auroc, result.pro, result.note) == (None, None, NO_DEFECTIVE_PIXEL)


def test_unreadable_image_is_listed_and_in_no_metric(judge, make_model, make_category):
    folder = make_category()
    (folder / "test" / "scratch" / "001.png").write_bytes(b"")
    result = judge(make_model(), folder)
    reason = "the file is empty; expected a picture, copy it again"
    assert result.unreadable == (Unreadable("test/scratch/001.png", reason),)
    assert (result.defective_images, result.missed, result.image_auroc, result.pro) == (2, 0, 1.0, pytest.approx(1.0))


def test_defect_without_a_readable_image_has_no_auroc(judge, make_model, make_category):
    folder = make_category()
    (folder / "test" / "dent" / "000.png").write_bytes(b"")
    assert judge(make_model(), folder).defects[0] == DefectResult("dent", 0, None, 0)


def test_category_without_a_readable_good_image_is_refused(judge, make_model, make_category):
    folder = make_category()
    for path in (folder / "test" / "good").iterdir():
        path.write_bytes(b"")
    with pytest.raises(
        DataError, match=r"bottle: 0 good and 3 defective pictures can be read, 2 cannot, say test/good"
    ):
        judge(make_model(), folder)


def test_mask_of_another_size_is_refused(judge, make_model, make_category):
    folder = make_category()
    write(folder / "ground_truth" / "dent" / "000_mask.png", np.full((SIDE, SIDE // 2), 255, np.uint8))
    with pytest.raises(DataError, match=r"dent/000_mask\.png: the mask has 16x32 pixels, its image 32x32"):
        judge(make_model(), folder)


def test_result_that_is_not_finite_is_an_engine_error(judge, make_model, make_category):
    with pytest.raises(EngineError, match=r"test/good/000\.png: the score is nan .*; the model is of no use as it is"):
        judge(make_model(factor=np.nan), make_category())


def test_model_with_another_resize_is_refused(judge, make_model, make_category):
    with pytest.raises(ArtifactError, match="was trained with the resize 'area'"):
        judge(make_model(resize="area"), make_category())
