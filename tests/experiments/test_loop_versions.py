"""The comparison of two versions of the loop: figures by hand, and a folder that is no checkout."""

from __future__ import annotations

import pytest

from benchmarks.experiments.line.loop_versions import compare, run_turn
from stfpm_runtime.errors import OptionError


def test_ratios_are_new_over_old():
    found = compare([1.0, 2.0, 3.0], [2.0, 4.0, 6.0])
    assert found["p50"] == {"old_ms": 2.0, "new_ms": 4.0, "ratio": 2.0}
    assert found["p99"]["ratio"] == 2.0


def test_a_folder_that_is_no_checkout_is_an_error(tmp_path):
    with pytest.raises(OptionError, match=r"has no benchmarks/stfpm_bench; expected a checkout"):
        run_turn(tmp_path, tmp_path / "model.onnx", 1)
