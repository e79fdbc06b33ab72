"""The process that measures one of anomalib's exports; `peers.py` starts it, in anomalib's environment.

    python anomalib_worker.py openvino|openvino-f32|onnx|torch FILE WIDTH HEIGHT

On processors with bfloat16, OpenVINO computes a float32 file in bfloat16 unless its precision option is set. anomalib's
inferencer does not set it; `openvino-f32` sets it with the inferencer's option.

From a uint8 frame in memory to anomalib's own decision, `pred_label`, by anomalib's own inferencer where it has one.
OpenVINOInferencer does not resize, and an ONNX file has no inferencer: they get our resize, the fastest that does not
alias, so that what differs is the rest. TorchInferencer resizes by itself. See `stfpm_bench.protocol` for the protocol.
"""
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from stfpm_bench.protocol import make_frame, serve
from stfpm_runtime.imaging.preprocessing import shrink

SIDE = 256
F32 = {"INFERENCE_PRECISION_HINT": "f32"}


class AnomalibTarget:
    """One export behind its inferencer."""

    def __init__(self, kind: str, path: Path, width: int, height: int) -> None:
        self.kind, self.frame = kind, make_frame(width, height)
        if kind.startswith("openvino"):
            from anomalib.deploy import OpenVINOInferencer

            os.chdir(path.parent)  # where it keeps a cache of compiled models: its second start is faster
            self.inferencer: Any = OpenVINOInferencer(path, "CPU", F32 if kind == "openvino-f32" else None)
        elif kind == "torch":
            os.environ["TRUST_REMOTE_CODE"] = "1"  # the file is our own
            from anomalib.deploy import TorchInferencer

            self.inferencer = TorchInferencer(path, device="cpu")
        else:
            import onnxruntime

            self.inferencer = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def facts(self) -> dict[str, Any]:
        """Return the provider."""
        if self.kind.startswith("openvino"):
            active = self.inferencer.model.get_property("INFERENCE_PRECISION_HINT").get_type_name()
            return {"provider": f"anomalib, OpenVINO CPU, {active}"}
        return {"provider": {"torch": "anomalib, PyTorch cpu", "onnx": "CPUExecutionProvider"}[self.kind]}

    def inspect(self) -> dict[str, float | None]:
        """Inspect one frame and return milliseconds by stage."""
        started = time.perf_counter()
        if self.kind == "torch":  # it resizes within
            image = cv2.cvtColor(self.frame, cv2.COLOR_BGR2RGB)
        else:
            image = cv2.cvtColor(shrink(self.frame, SIDE, SIDE), cv2.COLOR_BGR2RGB)
        resized = time.perf_counter()
        label = self._label(np.asarray(image))
        done = time.perf_counter()
        assert label in (True, False), "a decision"
        return {"resize": 1e3 * (resized - started), "network": 1e3 * (done - resized), "decision": 0.0}

    def _label(self, image: np.ndarray) -> bool:
        if self.kind == "onnx":
            planes = (image.astype(np.float32) / 255).transpose(2, 0, 1)[np.newaxis]
            (label,) = self.inferencer.run(["pred_label"], {"input": np.ascontiguousarray(planes)})
            return bool(np.asarray(label).reshape(-1)[0])
        return bool(np.asarray(self.inferencer.predict(image).pred_label).reshape(-1)[0])

    def inspect_batch(self, size: int) -> None:
        """Raise NotImplementedError, because anomalib's inferencers take one image at a time."""
        raise NotImplementedError


if __name__ == "__main__":
    kind, path, *sides = sys.argv[1:]
    width, height = map(int, sides)
    sys.exit(serve(lambda: AnomalibTarget(kind, Path(path).resolve(), width, height), lambda error: None))
