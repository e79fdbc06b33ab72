"""ONNX Runtime on the CPU: the engine that runs everywhere, and the reference for the others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stfpm_runtime.artifact.onnx_metadata import read_spec
from stfpm_runtime.artifact.spec import Spec
from stfpm_runtime.errors import ArtifactError, EngineError, MissingExtraError, first_line

from .base import BaseEngine, Maps, Scores, check_graph, clips_int8

try:
    import onnxruntime as ort
except ImportError:
    raise MissingExtraError("onnxruntime", "cpu") from None

CPU = "CPUExecutionProvider"


class OnnxRuntimeEngine(BaseEngine):
    """Runs a fused graph in ONNX Runtime.

    `threads` is the number of threads for one operator (None: ONNX Runtime's choice, one for each physical core).
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        spec = read_spec(path)
        options = session_options(spec)
        if threads is not None:
            options.intra_op_num_threads = threads
        self._session: ort.InferenceSession | None = open_session(path, options, [CPU])
        check_session(self._session, spec, path)
        super().__init__(spec, self._session.get_providers()[0], spec.batch)

    def _run(self, images: npt.NDArray[np.uint8]) -> tuple[Maps, Scores]:
        assert self._session is not None, "checked by infer"
        try:
            maps, scores = self._session.run(["anomaly_map", "score"], {"image": images})
        except Exception as error:
            raise EngineError(f"ONNX Runtime failed: {first_line(error)}") from error
        return maps, scores

    def _free(self) -> None:
        self._session = None


def session_options(spec: Spec) -> ort.SessionOptions:
    """Return ONNX Runtime's options, without its warnings: they are about graphs, and its errors are raised too.

    Where its fastest int8 products would clip sums, the exact ones are taken, which are slower.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if clips_int8(spec):
        options.add_session_config_entry("session.x64quantprecision", "1")
    return options


def providers() -> list[str]:
    """Return the providers that this build of ONNX Runtime has."""
    return list(ort.get_available_providers())


def open_session(path: Path, options: ort.SessionOptions, providers: Sequence[Any]) -> ort.InferenceSession:
    """Return a session. Raises ArtifactError for a file that ONNX Runtime cannot load."""
    try:
        return ort.InferenceSession(path, options, providers=list(providers), enable_fallback=False)
    except Exception as error:  # ONNX Runtime's exceptions share no base class of their own
        raise ArtifactError(f"{path}: ONNX Runtime cannot load it ({first_line(error)}); export it again") from error


def check_session(session: ort.InferenceSession, spec: Spec, path: Path) -> None:
    """Raise ArtifactError unless the graph has the inputs and outputs that its Spec describes."""
    values = (*session.get_inputs(), *session.get_outputs())
    check_graph([(value.name, value.type, value.shape[1:]) for value in values], spec, path)
