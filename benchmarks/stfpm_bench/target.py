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

COPIES = ("copy_in", "copy_out")


class ModelTarget:
    """A model behind the detector that ships, from a frame in memory to the decision."""

    def __init__(self, path: Path, device: str, threads: int | None, width: int, height: int) -> None:
        self.engine = open_model(path, device, threads)
        threshold = self.engine.spec.threshold
        self.detector = Detector(self.engine, 0.0 if threshold is None else threshold)
        self.frame = make_frame(width, height)

    def facts(self) -> dict[str, Any]:
        """See Subject."""
        spec = self.engine.spec
        return {
            "provider": self.engine.provider,
            "name": spec.name,
            "precision": spec.precision,
            "epochs": spec.training.get("epochs"),
            "target": spec.target,
            "threshold": spec.threshold,
            "batch": spec.batch,
            "input": [spec.height, spec.width],
        }

    def judge(self) -> dict[str, float | None]:
        """See Subject. An engine tells its copies in `last_timings`; without it, all of its time is the network's."""
        started = time.perf_counter()
        verdict = self.detector.inspect(self.frame)
        total = 1e3 * (time.perf_counter() - started)
        if verdict.decision == "fault":
            raise EngineError(f"{verdict.reason}; a model that judges nothing cannot be measured, export it again")
        timings = verdict.timings
        copies = last_copies(self.engine)
        return {
            "resize": timings.preprocess_ms,
            "network": timings.infer_ms - sum(value or 0.0 for value in copies.values()),
            "decision": max(total - timings.latency_ms, 0.0),
            **copies,
        }

    def judge_batch(self, size: int) -> None:
        """See Subject."""
        self.detector.inspect_batch([self.frame] * size)


def last_copies(engine: object) -> dict[str, float | None]:
    """Milliseconds that the last frame spent in copies to and from the device; None where the engine does not tell.

    An engine that can tell has `last_timings` with `copy_in_ms` and `copy_out_ms`, as a mapping or as attributes.
    """
    timings = getattr(engine, "last_timings", None)
    if timings is None:
        return dict.fromkeys(COPIES)
    values = timings if isinstance(timings, dict) else {f"{c}_ms": getattr(timings, f"{c}_ms", None) for c in COPIES}
    return {copy: values.get(f"{copy}_ms") for copy in COPIES}


def main(argv: Sequence[str] | None = None) -> int:
    """MODEL DEVICE THREADS WIDTH HEIGHT; threads 0 is the engine's choice."""
    path, device, *numbers = sys.argv[1:] if argv is None else argv
    threads, width, height = map(int, numbers)
    return serve(lambda: ModelTarget(Path(path), device, threads or None, width, height), _describe)


def _describe(error: Exception) -> dict[str, str] | None:
    return {"text": str(error)} if isinstance(error, StfpmError) else None


if __name__ == "__main__":
    sys.exit(main())
