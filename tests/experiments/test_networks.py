"""The comparison of networks runs."""

from __future__ import annotations

import json

import pytest

from benchmarks.experiments.networks import NETWORKS, main


def test_a_half_network_costs_a_quarter(tmp_path, capsys):
    path = tmp_path / "networks.json"
    assert main(["--size", "64", "--rounds", "2", "--threads", "1", "--json", str(path)]) == 0
    found = json.loads(path.read_text())["networks"]
    assert json.loads(capsys.readouterr().out)["networks"] == found
    assert list(found) == list(NETWORKS)
    assert found["resnet18"]["cpu_ms_share"] == found["resnet18"]["wall_ms_1_threads_share"] == 1
    assert found["resnet18_half"]["macs_share"] == pytest.approx(0.27, abs=0.02)
    assert found["resnet18_half_shared"]["macs_share"] < found["resnet18_half"]["macs_share"]
    assert 0.5 < found["resnet18_shared_narrow"]["macs_share"] < found["resnet18_narrow"]["macs_share"]
    assert found["resnet18_narrow"]["macs_share"] < found["resnet18_shared"]["macs_share"] < 0.85
