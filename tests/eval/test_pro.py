"""PRO against a naive implementation that shares nothing with ours, and against answers known by construction."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from stfpm_eval.pro import pro, region_weights


def naive_pro(maps, masks, limit):
    """The definition word for word: every threshold, every region, then the trapezoid rule up to the limit."""
    regions = [(image, region) for image, mask in enumerate(masks) for region in flood_regions(mask)]
    curve = [(0.0, 0.0)]
    for threshold in sorted(set(maps.ravel().tolist()), reverse=True):
        found = maps >= threshold
        overlaps = [sum(found[image][pixel] for pixel in region) / len(region) for image, region in regions]
        curve.append((found[~masks].mean(), sum(overlaps) / len(overlaps)))
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(curve):
        if x1 > limit:
            y1 = y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
            x1 = limit
        area += (x1 - x0) * (y0 + y1) / 2
        if x1 == limit:
            break
    return area / limit


def flood_regions(mask):
    """Sets of pixels that touch, also at a corner."""
    left = set(map(tuple, np.argwhere(mask).tolist()))
    regions = []
    while left:
        region, edge = [], [left.pop()]
        while edge:
            row, column = edge.pop()
            region.append((row, column))
            around = {(row + down, column + right) for down in (-1, 0, 1) for right in (-1, 0, 1)} & left
            left -= around
            edge += around
        regions.append(region)
    return regions


@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("levels", [2, 4, 30, 10**6])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_pro_is_the_naive_one(seed, levels, limit):
    rng = np.random.default_rng(seed)
    masks = rng.random((3, 12, 10)) < 0.15
    masks[0] = False  # a good image
    maps = (rng.integers(0, levels, masks.shape) + masks * (levels // 3)).astype(np.float32)
    assert pro(maps, masks, limit) == pytest.approx(naive_pro(maps, masks, limit), abs=1e-12)


@pytest.fixture
def masks():
    """A region of 4 pixels in the first image, one of 25 in the second, none in the third; 271 pixels are normal."""
    masks = np.zeros((3, 10, 10), bool)
    masks[0, 2:4, 2:4] = True
    masks[1, 5:10, 5:10] = True
    return masks


def test_perfect_map_has_one_and_inverted_map_zero(masks):
    assert pro(masks.astype(np.float32), masks) == pytest.approx(1.0)
    assert pro((~masks).astype(np.float32), masks) == pytest.approx(0.0)


@pytest.mark.parametrize(("found", "size"), [(0, 4), (1, 25)])
def test_small_region_counts_as_much_as_a_large_one(masks, found, size):
    maps = np.full(masks.shape, 0.5)
    maps[masks] = 0.0
    maps[found][masks[found]] = 1.0
    assert masks[found].sum() == size
    assert pro(maps, masks) == pytest.approx(0.5)


def test_constant_map_has_half_the_limit(masks):
    assert pro(np.ones(masks.shape), masks) == pytest.approx(0.15)
    assert pro(np.ones(masks.shape), masks, fpr_limit=1.0) == pytest.approx(0.5)


def test_regions_that_touch_at_a_corner_are_one():
    mask = np.zeros((1, 8, 8), bool)
    mask[0, 2, 2] = mask[0, 3, 3:6] = True
    maps = np.full(mask.shape, 0.5)
    maps[mask] = 0.0
    maps[0, 2, 2] = 1.0
    assert pro(maps, mask) == pytest.approx(0.25)  # one of four pixels; as two regions it would be a half


def test_false_positives_are_counted_over_all_images(masks):
    maps = np.where(masks, 1.0, 0.0)
    maps[2] = 2.0  # the good image scores above all defects: 100 of 271 normal pixels, beyond the limit of 0.3
    assert pro(maps, masks) == pytest.approx(0.0)
    assert pro(maps, masks, fpr_limit=1.0) == pytest.approx(171 / 271)


def test_curve_is_cut_where_the_limit_is(masks):
    maps = np.where(masks, 1.0, 0.0)
    maps[2, :5] = 2.0  # 50 of 271 normal pixels
    assert pro(maps, masks) == pytest.approx(1 - 50 / 271 / 0.3)


def test_region_weights_sum_to_one_and_are_shared_by_regions(masks):
    weights = region_weights(masks)
    assert weights == pytest.approx([1 / 8] * 4 + [1 / 50] * 25)


def test_masks_without_a_defect_are_refused():
    with pytest.raises(ValueError, match="0 defective scores; expected at least one"):
        pro(np.zeros((1, 4, 4)), np.zeros((1, 4, 4), bool))
