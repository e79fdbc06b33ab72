"""Runs of `stfpm-bench` whose figures are made up, known to all tests."""

from __future__ import annotations

from stfpm_bench.results import Accuracy, BenchReport, ColdStart, Idle, Latency, ModelResult, ParityResult, Throughput
from stfpm_bench.roofline import Group, Roofline
from stfpm_bench.sensors import Reading
from stfpm_runtime.machine import Machine

MACHINE = Machine("a processor", "x86_64", 2, ("avx2",), 8.0, "", "Linux 6", "3.11", {"numpy": "2.0"})


def latency(p50=10.0, width=0.2, p99=12.0):
    low, high = p50 - width / 2, p50 + width / 2
    return Latency(
        p50, (low, high), p50 + 1, (low + 1, high + 1), p99, (p99 - 0.5, p99 + 0.5), 15.0, 0.3, 200, "precision",
        {"resize": 0.7, "network": 9.0, "decision": 0.1},
        tuple(p50 + (p99 - p50) * k / 100 for k in range(101)),
    )  # fmt: skip


def model(name="bottle", **changes):
    parity = ParityResult("golden file", 2, 1e-5, 1e-5, 0, 1e-4, True, (0.1, 0.2), (0.1, 0.2))
    accuracy = Accuracy("bottle", 20, 63, 1.0, 0.98, 0.96, 0, 0)
    roofline = Roofline(200.0, 20.0, (Group("stem", 10**8, 10**6, 1.0, 2.0),), 1.0, 2.0)
    values = {
        "sha256": "0", "model": "bottle", "precision": "int8", "target": "cpu", "provider": "CPUExecutionProvider",
        "file_bytes": 6_000_000, "installed_bytes": 200_000_000, "peak_bytes": 120_000_000,
        "cold_start": ColdStart(300.0, (290.0, 300.0, 310.0)), "latency": latency(),
        "idle": (Idle(1.0, 13.0, (12.0, 13.0, 14.0)),),
        "throughput": (Throughput(1, 100.0, 10.0), Throughput(4, 110.0, 36.4)),
        "parity": parity, "accuracy": accuracy, "roofline": roofline,
    } | changes  # fmt: skip
    return ModelResult(name, **values)


def report(*models, **changes):
    values = {
        "machine": MACHINE, "frame": (1280, 720), "threads": None, "models": models or (model(),),
        "others_cpu_share": 0.01, "sensors_start": Reading(), "sensors_end": Reading(clock_mhz=2000.0),
    } | changes  # fmt: skip
    return BenchReport("2026-01-02T03:04:05+00:00", **values)
