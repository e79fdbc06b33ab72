"""Regions and tiles: what the engine sees of a frame, and how its answers are put together again."""

from __future__ import annotations

import numpy as np
import pytest

from stfpm_runtime.detector import Detector
from stfpm_runtime.engines.fake import FakeEngine
from stfpm_runtime.errors import ImageError
from stfpm_runtime.imaging.regions import blend, cut, lay_tiles
from stfpm_runtime.line.cameras.worker import TriggeredFrame
from stfpm_runtime.line.config.camera import CameraOptions, RegionOptions
from stfpm_runtime.line.decide import Thresholds
from stfpm_runtime.line.inspect import Inspector
from stfpm_runtime.line.triggers.base import TriggerRequest
from stfpm_runtime.sources import Frame

SIDE = 32


@pytest.fixture
def judge(make_spec):
    """Return a function that judges one camera's frames with an engine of 32x32; it returns parts and engine."""

    def judge(frames, *regions, batch=16, answer=None, head=None, **options):
        engine = FakeEngine(make_spec(height=SIDE, width=SIDE, **head or {}), *([answer] if answer else []))
        camera = CameraOptions("left", "0", region=regions, **options)
        thresholds = Thresholds([camera], None)
        thresholds.use_model(Detector(engine).threshold)
        triggered = [TriggeredFrame(camera, Frame("left", image=frame), TriggerRequest()) for frame in frames]
        return Inspector(Detector(engine), batch, thresholds.of).judge(triggered), engine

    return judge


@pytest.fixture
def noise():
    return np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)


@pytest.mark.parametrize("length", [32, 33, 63, 64, 65, 100, 640, 1000])
@pytest.mark.parametrize("overlap", [0, 1, 8, 16])
def test_tiles_cover_all_with_at_least_the_overlap(length, overlap):
    starts = lay_tiles(length, SIDE, SIDE, overlap).tops
    assert starts[0] == 0
    assert starts[-1] == length - SIDE
    steps = np.diff(starts)
    assert (steps > 0).all()
    assert (steps <= SIDE - overlap).all()
    assert len(starts) == 1 or (len(starts) - 1) * (SIDE - overlap) < length - overlap  # one less would not reach


@pytest.mark.parametrize("overlap", [0, 5, 16])
def test_map_that_does_not_depend_on_its_surroundings_is_blended_to_the_whole(judge, noise, overlap):
    """The fake's map is the blue channel, pixel by pixel: tiles of it have to be the whole's."""
    (part,), engine = judge([noise], RegionOptions("all", tile=SIDE, overlap=overlap))
    assert part.verdict.anomaly_map.shape == noise.shape[:2]
    np.testing.assert_allclose(part.verdict.anomaly_map, noise[:, :, 0] / np.float32(255), atol=2e-7)
    assert part.verdict.score == part.verdict.anomaly_map.max()
    assert part.pictures == len(lay_tiles(200, 300, SIDE, overlap).corners) == sum(engine.batch_sizes)


def test_where_tiles_overlap_the_nearer_middle_counts_more():
    tiling = lay_tiles(8, 12, 8, 4)
    assert tiling.lefts == (0, 4)
    blended = blend([np.zeros((8, 8), np.float32), np.ones((8, 8), np.float32)], tiling)
    assert blended.shape == (8, 12)
    rows = np.array([0, 0, 0, 0, 1 / 5, 2 / 5, 3 / 5, 4 / 5, 1, 1, 1, 1], np.float32)
    np.testing.assert_allclose(blended, np.tile(rows, (8, 1)), atol=1e-6)


@pytest.mark.parametrize("cells", [5, 16, 63])
@pytest.mark.parametrize("length", [32, 100, 257])
def test_tiles_of_any_scale_leave_no_gap(length, cells):
    tiling = lay_tiles(length, length, SIDE, 0)
    blended = blend([np.ones((cells, cells), np.float32)] * len(tiling.corners), tiling)
    assert blended.shape[0] == blended.shape[1] == int(length * cells / SIDE + 0.5)
    np.testing.assert_allclose(blended, 1, atol=1e-6)


def test_tiles_go_through_the_engine_in_batches(judge, noise):
    (part,), engine = judge([noise], RegionOptions("all", tile=SIDE), batch=16)
    assert part.pictures == 70
    assert engine.batch_sizes == [16, 16, 16, 16, 6]


def test_rectangle_is_judged_alone(judge):
    frame = np.zeros((64, 96, 3), np.uint8)
    frame[40, 70, 0] = 255
    regions = (RegionOptions("hit", (64, 32, 32, 32)), RegionOptions("missed", (0, 0, 64, 32)))
    parts, engine = judge([frame], *regions)
    assert [(part.region.name, part.verdict.decision) for part in parts] == [("hit", "reject"), ("missed", "pass")]
    assert parts[0].verdict.anomaly_map[8, 6] == 1
    assert parts[0].image.shape == (32, 32, 3)
    assert engine.batch_sizes == [2]


def test_map_counts_within_the_polygon_alone(judge):
    frame = np.zeros((SIDE, SIDE, 3), np.uint8)
    frame[2, 29, 0] = 255  # top right: outside the triangle
    frame[20, 10, 0] = 102
    triangle = RegionOptions("triangle", polygon=((0, 0), (0, 31), (31, 31)))
    (part,), _ = judge([frame], triangle)
    assert part.verdict.decision == "pass"
    assert part.verdict.score == pytest.approx(0.4)
    assert np.count_nonzero(part.verdict.anomaly_map) == 1
    (part,), _ = judge([frame])
    assert part.verdict.decision == "reject"


MEAN = {"top_share": 0.25, "score_scale": 2.0}
"""A head that gives twice the mean of the highest 16 of the 64 cells."""


def test_tiles_are_scored_by_the_models_head_each_and_the_highest_counts(judge):
    frame = np.zeros((SIDE, 3 * SIDE, 3), np.uint8)
    frame[0, ::4, 0] = 255  # a pixel in each of 8 cells of each tile
    (part,), _ = judge([frame], RegionOptions("all", tile=SIDE), head=MEAN)
    assert part.verdict.score == pytest.approx(2 * 8 / 16 / 16)  # not more because there are three tiles
    assert part.verdict.decision == "pass"  # the map's maximum is twice the threshold
    frame[:16, SIDE:, 0] = 255
    (part,), _ = judge([frame], RegionOptions("all", tile=SIDE), head=MEAN)
    assert part.verdict.score == pytest.approx(2.0)


def test_of_a_polygon_the_head_takes_the_pixels_inside_alone(judge):
    frame = np.full((SIDE, SIDE, 3), 255, np.uint8)
    frame[:2, :, 0] = frame[:, 30:, 0] = 102
    edge = RegionOptions("edge", polygon=((0, 0), (31, 0), (31, 31), (30, 31), (30, 1), (0, 1)))
    (part,), _ = judge([frame], edge, head=MEAN)
    assert part.verdict.score == pytest.approx(0.8)  # of 15 cells, though the head asks for 16
    (part,), _ = judge([frame], edge, head={"min_area": 200})
    assert part.verdict.score == pytest.approx(0.4)  # 124 pixels are all that there are


def test_a_smallest_area_may_lie_across_tiles(judge):
    frame = np.zeros((SIDE, 2 * SIDE, 3), np.uint8)
    frame[10:12, SIDE - 3 : SIDE + 3, 0] = 255
    (part,), _ = judge([frame], RegionOptions("all", tile=SIDE), head={"min_area": 12})
    assert (part.verdict.score, part.verdict.decision) == (1.0, "reject")
    (part,), _ = judge([frame], RegionOptions("all", tile=SIDE), head={"min_area": 13})
    assert (part.verdict.score, part.verdict.decision) == (0.0, "pass")


def test_cell_that_the_polygon_has_any_share_in_counts(judge):
    """64x64 pixels become 32x32 cells: a cell is four pixels."""
    frame = np.zeros((64, 64, 3), np.uint8)
    frame[40:42, 10:12, 0] = 255
    (part,), _ = judge([frame], RegionOptions("one-pixel", polygon=((11, 41), (63, 41), (63, 63), (11, 63))))
    assert part.image.shape == (23, 53, 3)
    assert part.verdict.decision == "reject"


def test_innermost_threshold_is_in_force(judge):
    frame = np.zeros((64, 64, 3), np.uint8)
    frame[:, :, 0] = 128  # scores 0.502
    regions = (RegionOptions("own", (0, 0, 32, 32), threshold=0.6), RegionOptions("cameras", (0, 0, 32, 32)))
    parts, _ = judge([frame], *regions, threshold=0.4)
    assert [(part.verdict.decision, part.verdict.threshold) for part in parts] == [("pass", 0.6), ("reject", 0.4)]
    (part,), _ = judge([frame])
    assert (part.verdict.decision, part.verdict.threshold) == ("reject", 0.5)


def test_region_beyond_the_frame_is_a_fault_and_the_others_are_judged(judge, noise):
    regions = (RegionOptions("beyond", (250, 0, 51, 32)), RegionOptions("within", (0, 0, 32, 32)))
    parts, _ = judge([noise], *regions)
    assert [part.verdict.decision for part in parts] == ["fault", "reject"]
    assert parts[0].verdict.reason.startswith("region beyond reaches to 301, 32, the frame is 300x200; expected")


def test_tiles_larger_than_the_region_are_refused(noise):
    with pytest.raises(ImageError, match="region small is 300x40, its tiles 64x64; expected tiles that fit"):
        cut(noise[:40], "small", tile=64)


def test_one_tile_that_cannot_be_judged_makes_the_region_a_fault(judge, noise):
    def one_is_nan(images):
        maps = images[..., 0].astype(np.float32) / 255
        maps[3] = np.nan
        return maps, maps.max(axis=(1, 2))

    (part,), _ = judge([noise], RegionOptions("all", tile=100), answer=one_is_nan)
    assert (part.verdict.decision, part.verdict.score) == ("fault", None)
    assert "the score is nan" in part.verdict.reason


def test_internal_error_in_the_engine_is_a_fault_of_every_frame_with_its_traceback_in_the_log(judge, noise, caplog):
    def buggy(images):
        raise ZeroDivisionError("a bug")

    parts, _ = judge([noise, noise], answer=buggy)
    assert [part.verdict.decision for part in parts] == ["fault", "fault"]
    assert parts[0].verdict.reason == "internal error: ZeroDivisionError: a bug"
    assert "Traceback" in caplog.text
