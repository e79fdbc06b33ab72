from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from stfpm_edge.calibration.detection import DetectedDefects, find_synthetic_defects, report_found
from stfpm_edge.calibration.head import HeadChoice, auroc, choose_head, usual_values
from stfpm_edge.checkpoint import load_checkpoint, save_checkpoint
from stfpm_edge.model import Head, Stfpm
from stfpm_edge.pictures.synthetic_defects import KINDS, SIZES
from stfpm_runtime.artifact.map_score import map_score
from stfpm_runtime.errors import ArtifactError
from tiny_model import make_checkpoint, make_images


class KnownMaps(Stfpm):
    """A detector whose map is known: how far its picture's first channel is from 35, as 0 to 1."""

    def raw_maps(self, images):
        return (images[..., 0].to(torch.float32) - 35).abs() / 255


@pytest.fixture
def known():
    tiny = make_checkpoint()
    return KnownMaps(tiny.teacher, tiny.student)


def test_scores_by_hand():
    maps = torch.zeros(1, 8, 12)
    maps[0, :4, :4] = 3.0
    maps[0, 4:, 8:] = torch.arange(16.0).reshape(4, 4)  # mean 7.5, maximum 15
    assert Head().scores(maps).item() == 15
    assert Head(top_share=1 / 6, score_scale=2.0).scores(maps).item() == 15.0
    assert Head(top_share=1 / 3).scores(maps).item() == pytest.approx((7.5 + 3) / 2)
    assert Head(top_share=1e-6).scores(maps).item() == 7.5
    scaled = Head(place_scale=torch.full((8, 12), 4.0))
    torch.testing.assert_close(scaled.adjusted(maps), maps / 4)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (66, 61), (35, 33)])
@pytest.mark.parametrize(
    "head", [Head(), Head(0.01), Head(0.5, 1.7), Head(1e-6), Head(None, 3.0), Head(min_area=40)], ids=str
)
def test_the_runtime_scores_a_map_as_the_head_does(head, height, width):
    maps = torch.rand(1, height, width, generator=torch.Generator().manual_seed(0))
    spec = replace(
        make_checkpoint().spec, top_share=head.top_share, score_scale=head.score_scale, min_area=head.min_area
    )
    everywhere = np.ones((height, width), np.bool_)
    for inside in (None, everywhere):
        assert map_score(maps[0].numpy(), spec, inside) == pytest.approx(head.scores(maps).item(), rel=1e-6)


def test_cells_at_the_border_are_the_mean_of_the_pixels_that_they_have():
    maps = torch.zeros(1, 5, 6)
    maps[0, 4, 4:] = 6.0
    assert Head(top_share=0.01).scores(maps).item() == 6.0


def test_what_is_usual_at_a_place():
    mean = np.ones((64, 64), np.float32)
    mean[:, :16] = 9.0
    divided = mean / usual_values(mean, 0.0)
    assert divided[:, :8].mean() == pytest.approx(divided[:, 40:].mean(), rel=0.05)
    floored = usual_values(mean, 0.5)
    assert floored[:, 40:].max() == pytest.approx(1.0, abs=1e-5)
    assert floored[:, :8].min() == pytest.approx(9.0, rel=0.05)
    assert (usual_values(np.zeros((64, 64), np.float32), 0.0) > 0).all()


def test_a_border_where_good_parts_vary_makes_the_place_matter(known):
    """A strong response at the border of good parts hides all defects, until it is divided by what is usual there."""
    rng = np.random.default_rng(0)
    good = np.full((40, 64, 64, 3), 30, np.uint8)
    good += rng.integers(0, 10, good.shape, dtype=np.uint8)
    good[:, :, :6] = rng.integers(150, 256, (40, 64, 1, 1), dtype=np.uint8)
    head, measured = choose_head(
        known, good[::2], good[1::2], 0, lambda done, total: None, [HeadChoice(0.01, None), HeadChoice(0.01, 0)]
    )
    assert head.place_scale is not None
    aurocs = list(measured["synthetic_auroc"].values())
    assert aurocs[1] > aurocs[0] + 0.05
    known.head = head
    maps, scores = known(torch.from_numpy(good))
    highest = maps.amax(dim=(1, 2)).quantile(0.95).item()
    assert scores.quantile(0.95).item() == pytest.approx(highest, rel=0.15)  # one threshold serves both


def test_the_simpler_head_is_kept_where_both_are_alike(known):
    good = np.full((20, 64, 64, 3), 30, np.uint8)
    good += np.random.default_rng(0).integers(0, 10, good.shape, dtype=np.uint8)
    head, _ = choose_head(
        known, good[::2], good[1::2], 0, lambda done, total: None, [HeadChoice(None, None), HeadChoice(None, 0.9)]
    )
    assert (head.top_share, head.score_scale, head.place_scale) == (None, 1.0, None)


def test_the_first_head_that_is_as_good_as_the_best_is_kept(known, monkeypatch):
    """Three heads that improve a little each are alike; a rule that compares neighbours would take the last."""
    values = iter([0.900, 0.9045, 0.9065, 0.909])
    monkeypatch.setattr("stfpm_edge.calibration.head.auroc", lambda good, bad: next(values))
    good = np.full((8, 64, 64, 3), 30, np.uint8)
    choices = [HeadChoice(None, floor) for floor in (None, 0.9, 0.5, 0.0)]
    _, measured = choose_head(known, good, good, 0, lambda done, total: None, choices)
    assert measured["chosen"] == str(choices[1])


def test_auroc_with_ties():
    assert auroc(np.array([0.0, 1.0]), np.array([1.0, 2.0])) == pytest.approx(0.875)


def test_found_defects_are_counted_by_kind_and_size(known):
    good = np.full((4, 64, 64, 3), 100, np.uint8)
    good[:, 20:44, 20:44] = 140
    everything = find_synthetic_defects(known, good, 0.0, 0, lambda done, total: None)
    assert (everything.found, everything.drawn, everything.is_too_hard) == (144, 144, False)
    nothing = find_synthetic_defects(known, good, 1.0, 0, lambda done, total: None)
    assert (nothing.found, nothing.is_too_hard) == (0, True)
    assert set(nothing.counts) == set(KINDS)
    assert set(nothing.counts["patch"]) == set(SIZES)
    assert nothing.lines()[1].split() == ["patch", *["0", "of", "12"] * 3]


def test_a_product_that_is_too_hard_is_called_so():
    spec, said = make_checkpoint(false_alarm_rate=0.02).spec, []
    report_found(DetectedDefects({"patch": {0.03: [0.1] * 10, 0.12: [0.6] * 7 + [0.5] * 3}}, 0.5), spec, said.append)
    assert "7 of 20 synthetic defects would be found" in said[0]
    assert "TOO HARD" in said[-1]
    said.clear()
    report_found(DetectedDefects({"patch": {0.03: [0.1] * 10, 0.12: [0.6] * 8 + [0.5] * 2}}, 0.5), spec, said.append)
    assert not any("TOO HARD" in line for line in said)


def test_the_head_is_kept_in_the_checkpoint(tmp_path):
    tiny = make_checkpoint(top_share=0.02, score_scale=1.5)
    place = torch.rand(64, 64) + 0.5
    save_checkpoint(replace(tiny, place_scale=place), tmp_path / "m.safetensors")
    loaded = load_checkpoint(tmp_path / "m.safetensors")
    torch.testing.assert_close(loaded.head.place_scale, place)
    images = torch.from_numpy(make_images(2))
    maps, scores = loaded.model()(images)
    plain_maps, _ = tiny.model()(images)
    torch.testing.assert_close(maps, plain_maps / place)
    torch.testing.assert_close(scores, Head(0.02, 1.5).scores(maps))
    save_checkpoint(replace(tiny, place_scale=torch.zeros(64, 64)), tmp_path / "m.safetensors")
    with pytest.raises(ArtifactError, match=r"head.place_scale does not fit its input size or is not positive"):
        load_checkpoint(tmp_path / "m.safetensors")


def test_scores_of_synthetic_defects_are_kept_relative_to_the_threshold():
    found = DetectedDefects({"patch": {0.03: [0.5, 0.2]}, "texture": {0.03: [0.75]}}, 0.5)
    rows = found.to_dict()["by_kind_and_size"]
    assert rows == [
        {"kind": "patch", "size": 0.03, "found": 0, "drawn": 2, "relative_scores": [0.4, 1.0]},
        {"kind": "texture", "size": 0.03, "found": 1, "drawn": 1, "relative_scores": [1.5]},
    ]
    assert DetectedDefects({"patch": {0.03: [0.5]}}, 0.0).to_dict()["by_kind_and_size"][0]["relative_scores"] == []


def test_a_defect_that_changes_nothing_does_not_count(known):
    found = find_synthetic_defects(known, np.zeros((2, 64, 64, 3), np.uint8), 1e9, 0, lambda done, total: None)
    assert all(found.counts["patch"][size] == (0, 0) for size in SIZES)  # black pasted into black
    assert found.counts["texture"][SIZES[-1]][1] > 0
