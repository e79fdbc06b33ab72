"""Jetson's architecture, emulated: what the lean runtime says there is what it says here."""

from __future__ import annotations

import cv2
import pytest

from aarch64.emulated import compare, missing
from stfpm_export.export import ExportOptions, export_checkpoint
from tiny_model import make_images

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing() or "it can")]
PICTURES = 20


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, image in enumerate(make_images(PICTURES, 72, 80, seed=5)):
        cv2.imwrite(str(folder / f"{number:02}.png"), image)
    return folder


def test_fp32_and_int8_judge_as_they_do_here(tiny_checkpoint, tiny_onnx, pictures, tmp_path):
    int8 = tmp_path / "tiny_int8.onnx"
    export_checkpoint(ExportOptions(tiny_checkpoint, int8, precision="int8", allow_parity_loss=True), print)
    result = compare([tiny_onnx, int8], pictures)
    assert (result["machine"], result["here"]) == ("aarch64", "x86_64")
    exact, rounded = result["models"][tiny_onnx.name], result["models"][int8.name]
    assert exact["map_max_error"] < 1e-5
    assert exact["score_max_difference_to_here"] < 1e-5
    for found in (exact, rounded):
        assert len(found["decisions"]) == PICTURES
        assert "fault" not in found["decisions"]
        assert found["golden_flips"] == found["decisions_that_differ_from_here"] == 0
