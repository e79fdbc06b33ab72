"""AUROC against scikit-learn, and against what it must be by construction."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from stfpm_eval.metrics import auroc, pixel_auroc, roc_area


@pytest.mark.parametrize("levels", [2, 7, 10**6])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_auroc_is_scikit_learns(seed, levels):
    rng = np.random.default_rng(seed)
    normal = rng.integers(0, levels, 301).astype(np.float32)
    defective = rng.integers(levels // 4, levels, 53).astype(np.float32)
    labels = np.r_[np.zeros(normal.size), np.ones(defective.size)]
    expected = roc_auc_score(labels, np.r_[normal, defective])
    assert auroc(normal, defective) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("limit", [0.1, 0.3, 0.95])
def test_partial_area_is_scikit_learns(limit):
    rng = np.random.default_rng(3)
    normal, defective = rng.integers(0, 9, 400), rng.integers(3, 12, 80)
    labels = np.r_[np.zeros(normal.size), np.ones(defective.size)]
    # scikit-learn standardises its partial area (McClish 1989): undo that.
    standardised = roc_auc_score(labels, np.r_[normal, defective], max_fpr=limit)
    least = limit**2 / 2
    expected = (least + (2 * standardised - 1) * (limit - least)) / limit
    assert roc_area(normal.astype(float), defective.astype(float), fpr_limit=limit) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("normal", "defective", "expected"),
    [([1, 2], [3, 4], 1.0), ([3, 4], [1, 2], 0.0), ([5, 5, 5], [5, 5], 0.5), ([1, 3], [2, 3], 0.625)],
)
def test_known_answers(normal, defective, expected):
    assert auroc(normal, defective) == pytest.approx(expected)


def test_pixels_of_all_images_are_compared_with_one_another():
    maps = np.array([[[0.0, 1.0]], [[2.0, 3.0]]])
    masks = np.array([[[False, True]], [[False, True]]])  # 1 < 2: the first image's defect is below the second's normal
    assert pixel_auroc(maps, masks) == pytest.approx(0.75)
    assert pixel_auroc(list(maps), list(masks)) == pytest.approx(0.75)


@pytest.mark.parametrize("scores", [[], [1.0, np.nan], [np.inf]])
def test_scores_that_cannot_be_compared_are_refused(scores):
    with pytest.raises(ValueError, match=r"defective scores; expected at least one, and all of them finite"):
        auroc([1.0], scores)
    with pytest.raises(ValueError, match=r"normal scores; expected at least one, and all of them finite"):
        auroc(scores, [1.0])


def test_limit_out_of_range_is_refused():
    with pytest.raises(ValueError, match="got an FPR limit of 30; expected one above 0 and up to 1"):
        roc_area(np.zeros(1), np.ones(1), fpr_limit=30)


def test_map_of_another_size_than_its_mask_is_refused():
    with pytest.raises(ValueError, match=r"a map of shape \(2, 2\) with a mask of shape \(2, 3\)"):
        pixel_auroc([np.zeros((2, 2))], [np.ones((2, 3), bool)])
