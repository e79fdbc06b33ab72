"""Which images are a model's, and what can be said of it where labels are missing."""

from __future__ import annotations

import shutil

import pytest

from stfpm_bench.accuracy import NO_DEFECTS, NO_THRESHOLD, check_product, find_labelled, measure_accuracy
from stfpm_eval.evaluate import NO_GROUND_TRUTH
from stfpm_runtime.engines import open_engine
from stfpm_runtime.errors import DataError


@pytest.fixture
def engine(make_model):
    return open_engine(make_model(held_out_scores=(10.0, 20.0)), "onnxruntime")


def test_all_labels_give_all_metrics(engine, make_category):
    found = measure_accuracy(engine, find_labelled(make_category(), engine.spec))
    assert (found.data, found.good, found.defective, found.missed, found.false_alarms) == ("bottle", 2, 3, 1, 1)
    assert found.image_auroc == pytest.approx(5 / 6)
    assert found.pro is not None
    assert found.notes == ()


def test_the_category_with_the_models_name_is_used(engine, make_category):
    make_category("screw", channel=2)
    labelled = find_labelled(make_category("bottle").parent, engine.spec)
    assert labelled.name == "bottle"


def test_categories_of_other_products_are_refused(engine, make_category):
    make_category("cable")
    with pytest.raises(DataError, match="holds cable, screw, the model is of bottle; give the folder of its product"):
        find_labelled(make_category("screw").parent, engine.spec)


def test_data_of_another_product_are_refused_by_their_scores(make_model, make_category):
    folder = make_category("screw")  # good parts score 10 and 60
    known = open_engine(make_model(held_out_scores=(5.0, 9.0)), "onnxruntime")
    with pytest.raises(
        DataError, match=r"a typical good picture there scores 35, the held-out ones of bottle at most 9"
    ):
        check_product(known, find_labelled(folder, known.spec), folder)
    like = open_engine(make_model(held_out_scores=(5.0, 40.0)), "onnxruntime")
    check_product(like, find_labelled(folder, like.spec), folder)


def test_data_with_the_models_name_may_have_any_scores(make_model, make_category):
    """That is the model's accuracy, to be measured and not to be refused."""
    folder = make_category("bottle")
    poor = open_engine(make_model(held_out_scores=(1.0,)), "onnxruntime")
    check_product(poor, find_labelled(folder, poor.spec), folder)


@pytest.mark.parametrize("kind", ["category", "folder"])
def test_good_pictures_alone_give_false_alarms_and_the_reason(engine, make_category, kind):
    folder = make_category()
    for defect in ("scratch", "dent"):
        shutil.rmtree(folder / "test" / defect)
    shutil.rmtree(folder / "ground_truth")
    found = measure_accuracy(
        engine, find_labelled(folder if kind == "category" else folder / "test" / "good", engine.spec)
    )
    assert (found.good, found.defective, found.false_alarms, found.missed) == (2, 0, 1, None)
    assert found.image_auroc is found.pixel_auroc is found.pro is None
    assert found.notes == (NO_DEFECTS,)


def test_labels_without_masks_give_image_auroc_and_the_reason(engine, make_category):
    found = measure_accuracy(engine, find_labelled(make_category(masks=False), engine.spec))
    assert found.image_auroc == pytest.approx(5 / 6)
    assert found.pixel_auroc is found.pro is None
    assert found.notes == (NO_GROUND_TRUTH,)


def test_model_without_a_threshold_has_auroc_but_no_verdicts(make_model, make_category):
    engine = open_engine(make_model(threshold=None), "onnxruntime")
    found = measure_accuracy(engine, find_labelled(make_category(), engine.spec))
    assert found.image_auroc == pytest.approx(5 / 6)
    assert found.missed is found.false_alarms is None
    assert found.notes == (NO_THRESHOLD,)


def test_picture_that_cannot_be_read_is_left_out_and_named(engine, make_category):
    folder = make_category()
    (folder / "test" / "dent" / "000.png").write_bytes(b"")
    found = measure_accuracy(engine, find_labelled(folder, engine.spec))
    assert found.defective == 2
    assert "1 pictures cannot be read, say test/dent/000.png" in found.notes[0]


@pytest.mark.parametrize(("name", "text"), [("absent", "no such folder"), ("empty", "no pictures in it")])
def test_folder_without_pictures_is_refused(engine, tmp_path, name, text):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=text):
        find_labelled(tmp_path / name, engine.spec)
