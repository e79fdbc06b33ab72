from __future__ import annotations

import cv2
import numpy as np
import pytest

from stfpm_edge.pictures.synthetic_defects import KINDS, draw_defect, draw_defects, draw_into, find_product


def part(seed: int = 0) -> np.ndarray:
    """A grained disc on a white background, 128 x 128."""
    rng = np.random.default_rng(seed)
    image = np.full((128, 128, 3), 250, np.uint8)
    disc = np.zeros((128, 128), np.uint8)
    cv2.circle(disc, (64, 64), 40, 1, -1)
    image[disc > 0] = rng.integers(60, 120, (int(disc.sum()), 3), dtype=np.uint8)
    return image


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [0.05, 0.15])
def test_a_defect_has_its_size_and_lies_on_the_product(kind, size):
    image = part()
    for seed in range(20):
        drawn = draw_defect(image, kind, size, np.random.default_rng(seed))
        assert (drawn.image.dtype, drawn.image.shape) == (np.uint8, image.shape)
        rows, columns = np.nonzero(drawn.mask)
        assert len(rows), "a defect changes something"
        extent = max(np.ptp(rows), np.ptp(columns)) + 1
        assert extent <= 2.5 * size * 128 + 2
        assert np.hypot(rows.mean() - 64, columns.mean() - 64) < 40 + size * 128
        np.testing.assert_array_equal(drawn.mask, np.any(drawn.image != image, axis=2))
        assert np.abs(drawn.image[drawn.mask].astype(int) - image[drawn.mask]).mean() >= 4


def test_on_a_strip_of_parts_a_defect_is_no_larger_than_on_one_part():
    strip = np.concatenate([part(0), part(1), part(2)], axis=1)
    for seed in range(10):
        rows, columns = np.nonzero(draw_defect(strip, "patch", 0.2, np.random.default_rng(seed)).mask)
        assert max(np.ptp(rows), np.ptp(columns)) <= 1.5 * 0.2 * 128


@pytest.mark.parametrize("count", [1, 5, 6, 12])
def test_pictures_are_taken_in_turn(count):
    """A grey level tells the pictures apart: of an even number, too, each gets defects."""
    images = np.stack([np.full((32, 32, 3), 10 * number, np.uint8) for number in range(count)])
    drawn = draw_defects(images, (0.06, 0.12), 6, seed=0)
    levels = [int(np.median(defect.image)) // 10 for defect in drawn]
    assert levels == [number % count for number in range(len(drawn))]


def test_the_same_seed_draws_the_same_defects():
    images = [part(0), part(1)]
    first, second = draw_defects(images, (0.1,), 3, seed=5), draw_defects(images, (0.1,), 3, seed=5)
    assert len(first) == 3 * len(KINDS)
    assert all(np.array_equal(one.image, other.image) for one, other in zip(first, second, strict=True))
    other = draw_defects(images, (0.1,), 3, seed=6)
    assert not any(np.array_equal(one.image, two.image) for one, two in zip(first, other, strict=True))


def test_a_picture_filled_by_the_product_has_no_background():
    product, background = find_product(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    assert product.all()
    assert background is None
    product, background = find_product(part())
    assert background.tolist() == [250, 250, 250]
    assert product.mean() == pytest.approx(np.pi * 40**2 / 128**2, rel=0.1)


def test_a_black_picture_of_few_pixels_does_no_harm():
    for kind in KINDS:
        drawn = draw_defect(np.zeros((32, 40, 3), np.uint8), kind, 0.03, np.random.default_rng(0))
        assert drawn.image.shape == (32, 40, 3)


def test_pictures_to_learn_from_have_defects_in_a_share_of_them():
    images = np.full((200, 64, 64, 3), 60, np.uint8)
    images[:, 10:54, 10:54] = np.random.default_rng(0).integers(90, 200, (44, 44, 3), np.uint8)
    before = images.copy()
    drawn = draw_into(images, 0.5, np.random.default_rng(1))
    changed = (drawn != images).any(axis=(1, 2, 3))
    assert 0.4 < changed.mean() < 0.6
    assert (images == before).all()
    assert (draw_into(images, 0.5, np.random.default_rng(1)) == drawn).all()
    assert (draw_into(images, 0.0, np.random.default_rng(1)) == images).all()
    assert (drawn[changed] != images[changed]).any(axis=3).mean(axis=(1, 2)).max() < 0.3
