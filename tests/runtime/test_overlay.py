"""A verdict as a picture: calm where normal, hot and surrounded where not, and never a defect hidden."""

from __future__ import annotations

import numpy as np
import pytest

from stfpm_runtime.detector import Verdict
from stfpm_runtime.imaging.overlay import COLOURS, WHITE, caption, contour, cover, draw_overlay, heat

GREY = 90


def judged(anomaly_map: np.ndarray, threshold: float = 0.5) -> Verdict:
    score = float(anomaly_map.max())
    return Verdict("reject" if score > threshold else "pass", score, threshold, anomaly_map.astype(np.float32))


def draw(frame: np.ndarray, verdict: Verdict) -> np.ndarray:
    return draw_overlay(frame, verdict.decision, verdict.score, verdict.threshold, verdict.anomaly_map, verdict.reason)


def one_hot(row: int, column: int, value: float = 1.0, height: int = 8, width: int = 16) -> np.ndarray:
    anomaly_map = np.zeros((height, width), np.float32)
    anomaly_map[row, column] = value
    return anomaly_map


def grey(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), GREY, np.uint8)


def is_white(image: np.ndarray) -> np.ndarray:
    return (image == WHITE).all(axis=2)


def test_normal_part_is_left_as_it_is_but_for_the_caption():
    drawn = draw(grey(256, 512), judged(np.zeros((8, 16))))
    assert drawn.shape == (256, 512, 3)
    assert (drawn[:200] == GREY).all() or (drawn[56:] == GREY).all()
    assert not is_white(drawn).any()


def test_frame_itself_is_not_drawn_on():
    frame = grey(256, 512)
    draw(frame, judged(one_hot(4, 4)))
    draw(frame, Verdict("fault", None, 0.5, reason="broken"))
    assert (frame == GREY).all()


def test_defect_is_red_and_the_contour_goes_round_its_very_pixels():
    drawn = draw(grey(256, 512), judged(one_hot(4, 9)))
    centre = drawn[4 * 32 + 16, 9 * 32 + 16].astype(int)
    assert centre[2] > centre[0] + 50  # BGR
    assert centre[2] > centre[1] + 50
    expected = np.zeros((256, 512), bool)
    expected[4 * 32 - 1 : 5 * 32 + 1, 9 * 32 - 1 : 10 * 32 + 1] = True
    expected[4 * 32 : 5 * 32, 9 * 32 : 10 * 32] = False
    np.testing.assert_array_equal(is_white(drawn), expected)


@pytest.mark.parametrize("size", [(8, 16), (37, 41), (5, 7), (3, 100), (100, 3), (1, 1), (600, 800)])
@pytest.mark.parametrize("cell", [(0, 0), (3, 9), (7, 15)])
def test_cell_above_the_threshold_covers_its_pixels_at_any_size(size, cell):
    covered = cover(one_hot(*cell) > 0, *size)
    rows, columns = np.nonzero(covered)
    assert covered.shape == size
    assert covered.sum() == len(set(rows)) * len(set(columns)) > 0  # one rectangle
    for pixels, cells, length, where in ((rows, 8, size[0], cell[0]), (columns, 16, size[1], cell[1])):
        assert pixels.min() == where * length // cells
        assert pixels.max() == -(-(where + 1) * length // cells) - 1


def test_contour_is_outside_and_thicker_on_a_large_picture():
    above = one_hot(4, 9) > 0
    for height, thickness in ((300, 1), (1000, 3)):
        outline = contour(above, height, 2 * height)
        assert not (outline & cover(above, height, 2 * height)).any()
        assert outline[height // 16 * 9, : 9 * height // 8].sum() == thickness


def test_every_reject_has_a_contour_also_where_float32_and_float64_disagree():
    verdict = judged(one_hot(4, 9, np.float32(0.1)), threshold=0.1)  # the float32 next to 0.1 is above 0.1
    assert verdict.decision == "reject"
    assert is_white(draw(grey(300, 300), verdict)).any()


def test_value_at_the_threshold_has_no_contour():
    assert not is_white(draw(grey(300, 300), judged(one_hot(4, 9, 0.5), threshold=0.5))).any()


def test_heat_is_relative_to_the_threshold():
    values = np.array([[0, 0.25, 0.5, 1, 2, 50]], np.float32)
    for scale in (1, 1e-4, 1e3):
        expected = [0, 0.5, 0.5**0.5, 1, 1, 1]
        assert heat(scale * values, 0.5 * scale)[0].tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("threshold", [0.0, -1.0])
def test_threshold_of_nothing_makes_all_hot_but_zero(threshold):
    assert heat(np.array([[0, 1e-6, 9]], np.float32), threshold)[0].tolist() == [0, 1, 1]


@pytest.mark.parametrize("row", [0, 7])
def test_caption_keeps_away_from_a_defect_at_the_edge(row):
    drawn = draw(grey(256, 512), judged(one_hot(row, 1)))
    lettering = (np.abs(drawn.astype(int) - COLOURS["reject"]) < 10).all(axis=2)
    rows = np.nonzero(lettering)[0]
    assert len(rows) > 50
    assert rows.min() > 200 if row == 0 else rows.max() < 56


@pytest.mark.parametrize(
    ("size", "factor"), [((32, 32), 7), ((20, 300), 2), ((300, 20), 6), ((200, 200), 1), ((3000, 4000), 1)]
)
def test_caption_is_legible_at_any_size(size, factor):
    frame = grey(*size)
    drawn = draw(frame, judged(np.zeros((8, 16))))
    assert drawn.shape == (factor * size[0], factor * size[1], 3)
    rows, columns = np.nonzero((drawn != frame.repeat(factor, axis=0).repeat(factor, axis=1)).any(axis=2))
    box_height, box_width = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert box_height >= 14
    assert 60 <= box_width <= drawn.shape[1]
    assert box_width <= max(0.45 * drawn.shape[1], 200)
    assert drawn[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1, 1].max() > 150  # the lettering


@pytest.mark.parametrize("shape", [(1, 1), (1, 20_000), (20_000, 1), (10, 4000), (5, 5, 4)])
def test_odd_frames_are_drawn(shape):
    drawn = draw(np.zeros(shape, np.uint8), judged(one_hot(4, 4)))
    assert drawn.dtype == np.uint8
    assert drawn.shape[0] * shape[1] == drawn.shape[1] * shape[0]
    assert drawn.size <= 3 * 2048 * 20_000


def test_fault_is_the_picture_with_a_caption():
    drawn = draw(grey(256, 512), Verdict("fault", None, 0.5, reason="the camera is gone"))
    assert (drawn[100:] == GREY).all()
    assert (drawn[:100] != GREY).any()


def test_captions():
    assert caption("reject", 0.75, 0.5) == "REJECT 1.50"
    assert caption("pass", 0.25, 0.5) == "PASS 0.50"
    assert caption("fault", None, 0.5) == "FAULT not judged"
    assert caption("reject", 0.75, 0.0) == "REJECT score 0.75"
