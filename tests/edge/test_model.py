from __future__ import annotations

import pytest
import torch

from stfpm_edge.model import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Stfpm,
    anomaly_map,
    blur_matrix,
    distance,
    loss,
    normalise_images,
    unit,
)  # fmt: skip


def test_the_map_is_exactly_zero_where_the_student_is_the_teacher(tiny):
    maps, scores = Stfpm(tiny.teacher, tiny.teacher)(torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8))
    assert maps.shape == (2, 64, 64)
    assert maps.count_nonzero() == 0
    assert scores.tolist() == [0, 0]


def test_distance_is_half_the_squared_distance_of_unit_vectors():
    teacher = unit(torch.tensor([3.0, 4.0]).view(1, 2, 1, 1))
    assert distance(teacher, unit(torch.tensor([30.0, 40.0]).view(1, 2, 1, 1))).item() == pytest.approx(0, abs=1e-12)
    assert distance(teacher, unit(torch.tensor([-4.0, 3.0]).view(1, 2, 1, 1))).item() == pytest.approx(1)  # right angle
    assert distance(teacher, -teacher).item() == pytest.approx(2)


def test_a_zero_feature_stays_finite():
    assert unit(torch.zeros(1, 4, 2, 2)).count_nonzero() == 0


def test_loss_is_the_mean_over_positions_and_the_weighted_sum_over_blocks():
    distances = [torch.tensor([[[1.0, 3.0]]]), torch.full((1, 4, 4), 0.5)]
    assert loss(distances, (1, 1)).item() == pytest.approx(2.5)
    assert loss(distances, (1, 2)).item() == pytest.approx(3.0)


def test_a_perturbed_cell_is_where_the_map_peaks():
    low, high = torch.full((1, 16, 16), 0.1), torch.full((1, 4, 4), 0.1)
    low[0, 5, 9] = high[0, 1, 2] = 0.9
    result = anomaly_map([low, high], 64, 64)
    peak = divmod(int(result.argmax()), 64)
    assert (peak[0] // 4, peak[1] // 4) == (5, 9)
    assert result[0, 60, 2].item() == pytest.approx(0.01)  # far away: the product of the two


def test_upsampling_is_bilinear_with_half_pixel_centres():
    row = anomaly_map([torch.tensor([[[0.0, 1.0]]])], 1, 4)[0, 0]
    assert row.tolist() == pytest.approx([0, 0.25, 0.75, 1])


def test_frames_are_bgr_and_normalised_as_imagenet_was():
    frame = torch.tensor([10, 20, 30], dtype=torch.uint8).view(1, 1, 1, 3)
    expected = [(v / 255 - m) / s for v, m, s in zip((30, 20, 10), IMAGENET_MEAN, IMAGENET_STD, strict=True)]
    assert normalise_images(frame).flatten().tolist() == pytest.approx(expected, rel=1e-5)
    assert normalise_images(frame.flip(3), "RGB").flatten().tolist() == pytest.approx(expected, rel=1e-5)


def test_a_golden_vector(tiny):
    """Pins the method: change it only when the method is meant to change."""
    ramp = torch.arange(64, dtype=torch.uint8).repeat(64, 1)
    image = torch.stack([ramp, ramp.T, ramp * 2], dim=-1)[None]
    maps, scores = tiny.model()(image)
    assert scores.item() == pytest.approx(maps.max().item())
    assert scores.item() == pytest.approx(0.258385, rel=1e-3)
    assert maps[0, 10, 50].item() == pytest.approx(0.250413, rel=1e-3)


def test_a_blur_keeps_the_mean_and_spreads_a_peak():
    matrix = blur_matrix(9, 1.5)
    torch.testing.assert_close(matrix.sum(dim=1), torch.ones(9))
    wide = blur_matrix(256, 2.0)
    assert wide[wide > 0].min() > 1e-10  # subnormal numbers would make products with it slow
    peak = torch.zeros(1, 16, 16)
    peak[0, 8, 8] = 1.0
    sharp, blurred = anomaly_map([peak], 64, 64), anomaly_map([peak], 64, 64, blur=3 / 64)
    assert blurred.max() < 0.6 * sharp.max()
    assert blurred.sum().item() == pytest.approx(sharp.sum().item(), rel=1e-3)
    assert blurred[0].argmax() == sharp[0].argmax()
