from __future__ import annotations

import json

import pytest

from stfpm_bench import export_speed
from stfpm_bench.graph_profile import KINDS, shares
from stfpm_bench.rewrites import REWRITES
from stfpm_export.exporting import ExportOptions, export

pytest.importorskip("openvino")


@pytest.mark.slow
def test_every_variant_is_timed_beside_a_peer(tiny_checkpoint, tiny_onnx, tmp_path, capsys):
    output = tmp_path / "speed.json"
    arguments = [str(tiny_checkpoint), "--runs", "2", "--json", str(output), "--peer", f"the same={tiny_onnx}"]
    assert export_speed.main(arguments) == 0
    result = json.loads(output.read_text())
    names = [(row["engine"], row["name"]) for row in result["rows"]]
    assert len(names) == len(set(names)) == 2 * (1 + 2 * len(REWRITES)) + 1
    assert ("ONNX Runtime", "the same") in names
    assert all(row["p10_ms"] <= row["p50_ms"] <= row["p90_ms"] for row in result["rows"])
    assert "int8, all rewrites" in capsys.readouterr().out


def test_a_peer_that_is_not_there_is_one_line(tiny_checkpoint, capsys):
    assert export_speed.main([str(tiny_checkpoint), "--peer", "other=nowhere.onnx"]) == 1
    assert "expected NAME=FILE" in capsys.readouterr().err


@pytest.mark.parametrize(("engine", "target"), [("ONNX Runtime", "cpu"), ("OpenVINO", "openvino")])
def test_time_is_told_apart_by_kind(engine, target, tiny_checkpoint, tmp_path):
    path = tmp_path / "m.onnx"
    export(ExportOptions(tiny_checkpoint, path, precision="int8", target=target, allow_parity_loss=True), print)
    found = shares(engine, path)
    assert list(found) == list(KINDS)
    assert all(value > 0 for value in found.values())
    assert found["convolution and pooling"] == max(found.values())
