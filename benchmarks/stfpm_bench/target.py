"""The process that measures one of our models: `python -m stfpm_bench.target MODEL ...`; `stfpm-bench` starts it.

It imports what a device's program imports and no more, so that its start and its memory are the device's.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stfpm_eval.models import open_model
from stfpm_runtime.detector import Detector
from stfpm_runtime.errors import EngineError, StfpmError

from .protocol import make_frame, serve


class ModelTarget:
    """A BenchTarget: a model behind the detector that ships, from a frame in memory to the decision."""

    def __init__(self, path: Path, device: str, threads: int | None, width: int, height: int) -> None:
        self.engine = open_model(path, device, threads)
        threshold = self.engine.spec.threshold
        self.detector = Detector(self.engine, 0.0 if threshold is None else threshold)
        self.frame = make_frame(width, height)

    def facts(self) -> dict[str, Any]:
        """Return what a report says of the model."""
        spec = self.engine.spec
        return {
            "provider": self.engine.provider,
            "name": spec.name,
            "precision": spec.precision,
            "epochs": spec.training.get("epochs"),
            "target": spec.target,
            "threshold": spec.threshold,
        }

    def inspect(self) -> dict[str, float | None]:
        """Inspect one frame and return milliseconds by stage; copies to and from the device count as the network's.

        Raises EngineError where the verdict is a fault.
        """
        started = time.perf_counter()
        verdict = self.detector.inspect(self.frame)
        total = 1e3 * (time.perf_counter() - started)
        if verdict.decision == "fault":
            raise EngineError(f"{verdict.reason}; a model that judges nothing cannot be measured, export it again")
        timings = verdict.timings
        return {
            "resize": timings.preprocess_ms,
            "network": timings.infer_ms,
            "decision": max(total - timings.latency_ms, 0.0),
        }

    def inspect_batch(self, size: int) -> None:
        """Inspect a batch of equal frames."""
        self.detector.inspect_batch([self.frame] * size)


def main(argv: Sequence[str] | None = None) -> int:
    """Run with MODEL DEVICE THREADS WIDTH HEIGHT (0 threads: the engine decides) and return the exit code."""
    path, device, *numbers = sys.argv[1:] if argv is None else argv
    threads, width, height = map(int, numbers)
    return serve(
        lambda: ModelTarget(Path(path), device, threads or None, width, height),
        lambda error: {"text": str(error)} if isinstance(error, StfpmError) else None,
    )


if __name__ == "__main__":
    sys.exit(main())
