"""OpenVINO on the CPU, natively: the fastest there for int8 files that were written for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stfpm_runtime.artifact.onnx_metadata import read_spec
from stfpm_runtime.errors import ArtifactError, EngineError, MissingExtraError

from .base import BaseEngine, Maps, Scores, check_graph, clips_int8

try:
    import openvino
except ImportError:
    raise MissingExtraError("openvino", "openvino") from None

CONFIGURATION = {
    "INFERENCE_PRECISION_HINT": "f32",  # it uses bfloat16 otherwise where the CPU can, and the head has no digits left
    "PERFORMANCE_HINT": "LATENCY",
}


class OpenVinoEngine(BaseEngine):
    """Runs a fused graph in OpenVINO's CPU plug-in.

    `threads` is the number of threads for one frame (None: OpenVINO's choice).
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        spec = read_spec(path)
        try:
            core = openvino.Core()
            model = core.read_model(path)
        except Exception as error:  # OpenVINO raises RuntimeError, and bare types of its own
            raise ArtifactError(f"{path}: OpenVINO cannot load it ({_first_line(error)}); export it again") from error
        check_graph(_inputs_and_outputs(model), spec, path)
        if clips_int8(spec):
            raise EngineError(
                f"{path}: OpenVINO clips int8 sums on this processor, an x86 one without VNNI, and its scores would be "
                "wrong; export the file again, or run it in ONNX Runtime (install the extra cpu)"
            )
        if spec.batch is None:
            model.reshape({"image": [1, *spec.input_shape]})  # a free dimension costs it speed
        configuration = CONFIGURATION | ({} if threads is None else {"INFERENCE_NUM_THREADS": str(threads)})
        try:
            self._request: Any = core.compile_model(model, "CPU", configuration).create_infer_request()
        except Exception as error:
            raise ArtifactError(f"{path}: OpenVINO cannot run it ({_first_line(error)}); export it again") from error
        super().__init__(spec, "OpenVINO CPU", spec.batch or 1)

    def _run(self, images: npt.NDArray[np.uint8]) -> tuple[Maps, Scores]:
        try:
            results = self._request.infer({"image": images})
        except RuntimeError as error:
            raise EngineError(f"OpenVINO failed: {_first_line(error)}") from error
        return results["anomaly_map"].copy(), results["score"].copy()  # it reuses its own arrays

    def _free(self) -> None:
        self._request = None


def _inputs_and_outputs(model: openvino.Model) -> list[tuple[str, str, list[int]]]:
    """Return name, ONNX Runtime's name of the type, and all dimensions but the first, of each input and output."""
    types = {"u8": "tensor(uint8)", "f32": "tensor(float)"}
    found = []
    for value in (*model.inputs, *model.outputs):
        kind = value.get_element_type().get_type_name()
        sides = [side.get_length() if side.is_static else -1 for side in list(value.get_partial_shape())[1:]]
        found.append((value.get_any_name(), types.get(kind, kind), sides))
    return found


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith("Exception from")]
    return lines[0].strip() if lines else type(error).__name__
