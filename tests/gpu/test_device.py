"""To be run on a device with an NVIDIA GPU: python -m pytest -m gpu tests/gpu

The same trials as stfpm-selftest's, each of which has to hold.
"""

from __future__ import annotations

import json

import pytest

from stfpm_export import selftest_cli
from stfpm_runtime.engines import has_nvidia_gpu

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not has_nvidia_gpu(), reason="there is no NVIDIA GPU")]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    path = tmp_path_factory.mktemp("selftest") / "report.json"
    status = selftest_cli.main(["--quick", "--json", str(path)])
    return status, json.loads(path.read_text())


def test_every_trial_holds(results):
    status, report = results
    assert status == 0, [trial for trial in report["trials"] if "error" in trial]


def test_something_ran_on_the_gpu(results):
    _, report = results
    assert any("CUDA" in trial["provider"] or "TensorRT" in trial["provider"] for trial in report["trials"])


def test_graphs_are_not_slower(results):
    _, report = results
    times = {(trial["model"], trial["engine"]): trial["p50_ms"] for trial in report["trials"]}
    pairs = [(times[model, engine], without) for (model, name), without in times.items()
             if (engine := name.removesuffix(", without graphs")) != name]  # fmt: skip
    assert pairs
    assert all(with_graphs <= 1.1 * without for with_graphs, without in pairs)
