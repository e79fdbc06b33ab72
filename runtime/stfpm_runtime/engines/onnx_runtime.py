"""ONNX Runtime on the CPU: the engine that runs everywhere, and the reference for the others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stfpm_runtime.artifact.spec import METADATA_KEY, Spec
from stfpm_runtime.errors import ArtifactError, EngineError, MissingExtraError
from stfpm_runtime.machine import may_saturate_int8

from .base import BaseEngine, Maps, Scores, check_graph

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
        options = session_options()
        if threads is not None:
            options.intra_op_num_threads = threads
        self._session: ort.InferenceSession | None = open_session(path, options, [CPU])
        spec = read_and_check_spec(self._session, path)
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


def session_options() -> ort.SessionOptions:
    """Return ONNX Runtime's options, without its warnings: they are about graphs, and its errors are raised too.

    On x86 CPUs without VNNI its fastest int8 products add pairs in 16 bits, which saturate; the exact ones are taken
    there. They are slower, also on CPUs with VNNI, which do not need them.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if may_saturate_int8():
        options.add_session_config_entry("session.x64quantprecision", "1")
    return options


def providers() -> list[str]:
    """Return the providers that this build of ONNX Runtime has."""
    return list(ort.get_available_providers())


def open_session(path: Path, options: ort.SessionOptions, providers: Sequence[Any]) -> ort.InferenceSession:
    """Return a session. Raises ArtifactError for a file that is missing or that ONNX Runtime cannot load."""
    if not path.is_file():
        raise ArtifactError(f"{path}: no such file; expected a model.onnx that stfpm-export wrote")
    try:
        return ort.InferenceSession(path, options, providers=list(providers), enable_fallback=False)
    except Exception as error:  # ONNX Runtime's exceptions share no base class of their own
        raise ArtifactError(f"{path}: ONNX Runtime cannot load it ({first_line(error)}); export it again") from error


def read_and_check_spec(session: ort.InferenceSession, path: Path) -> Spec:
    """Return the file's Spec. Raises ArtifactError unless it is one of ours and its graph keeps the contract."""
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        raise ArtifactError(f"{path}: an ONNX file, but not one of ours; expected one that stfpm-export wrote")
    spec = Spec.from_json(text, str(path))
    check_graph(_inputs_and_outputs(session), spec, path)
    return spec


def _inputs_and_outputs(session: ort.InferenceSession) -> list[tuple[str, str, list[int]]]:
    return [(value.name, value.type, value.shape[1:]) for value in (*session.get_inputs(), *session.get_outputs())]


def first_line(error: Exception) -> str:
    """Return the first line of an error: ONNX Runtime's messages are long."""
    return str(error).strip().partition("\n")[0]
