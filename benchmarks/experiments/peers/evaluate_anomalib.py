"""The accuracy of anomalib's exports by our metrics, on the same images and masks: one line of JSON on stdout.

    PYTHONPATH=runtime:benchmarks VENV/bin/python evaluate_anomalib.py FILE DATA KIND

FILE is OpenVINO's .xml, an .onnx file (run by OpenVINO too) or PyTorch's .pt; KIND as for anomalib_worker.py:
`openvino` leaves the precision to OpenVINO, which may be bfloat16, every other is float32. Images are resized our way,
for all alike.
"""
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino

from stfpm_eval.data import find_categories
from stfpm_eval.evaluate import evaluate
from stfpm_runtime.artifact.spec import Spec
from stfpm_runtime.engines.base import Closing, Engine, Maps, Scores

SIDE = 256
ANOMALIB_THRESHOLD = 0.5
"""The threshold of anomalib's normalised scores."""


class TorchExport(Closing):
    """An `Engine` that runs a .pt export."""

    provider = "anomalib, PyTorch cpu"

    def __init__(self, path: Path) -> None:
        os.environ["TRUST_REMOTE_CODE"] = "1"  # the file is our own
        from anomalib.deploy import TorchInferencer

        self.spec = Spec(path.stem, SIDE, SIDE, "resnet18", (2, 3, 4), "file", "", threshold=ANOMALIB_THRESHOLD)
        self._inferencer = TorchInferencer(path, device="cpu")

    def infer(self, images: npt.NDArray[np.uint8]) -> tuple[Maps, Scores]:
        """Return maps and scores of images uint8 [N, H, W, 3], BGR, one by one."""
        found = [self._inferencer.predict(np.ascontiguousarray(image[..., ::-1])) for image in images]
        maps = [np.squeeze(one.anomaly_map.detach().numpy()).astype(np.float32) for one in found]
        return np.stack(maps), np.asarray([float(one.pred_score.reshape(-1)[0]) for one in found], np.float32)


class OpenVinoExport(Closing):
    """An `Engine` that runs an .xml or .onnx export."""

    provider = "anomalib, OpenVINO CPU"

    def __init__(self, path: Path, kind: str) -> None:
        core = openvino.Core()
        model = core.read_model(path)
        height, width = (side.get_length() for side in list(model.inputs[0].get_partial_shape())[2:])
        self.spec = Spec(path.stem, height, width, "resnet18", (2, 3, 4), "file", "", threshold=ANOMALIB_THRESHOLD)
        configuration = {} if kind == "openvino" else {"INFERENCE_PRECISION_HINT": "f32"}
        self._request: Any = core.compile_model(model, "CPU", configuration).create_infer_request()

    def infer(self, images: npt.NDArray[np.uint8]) -> tuple[Maps, Scores]:
        """Return maps and scores of images uint8 [N, H, W, 3], BGR, one by one."""
        maps, scores = [], []
        for image in images:
            planes = (image[..., ::-1].astype(np.float32) / 255).transpose(2, 0, 1)[np.newaxis]
            results = self._request.infer([np.ascontiguousarray(planes)])
            maps.append(np.squeeze(results["anomaly_map"]).astype(np.float32))
            scores.append(float(np.asarray(results["pred_score"]).reshape(-1)[0]))
        return np.stack(maps), np.asarray(scores, np.float32)


if __name__ == "__main__":
    (category,) = find_categories(Path(sys.argv[2]))
    file, _, kind = sys.argv[1:]
    is_torch = file.endswith(".pt")
    engine: Engine = TorchExport(Path(file)) if is_torch else OpenVinoExport(Path(file), kind)
    result = dataclasses.asdict(evaluate(engine, category))
    print(json.dumps({key: value for key, value in result.items() if key != "defects"}))
