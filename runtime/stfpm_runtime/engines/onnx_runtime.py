"""ONNX Runtime on the CPU: the engine that runs everywhere, and the yardstick for the others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stfpm_runtime.artifact.spec import METADATA_KEY, Spec
from stfpm_runtime.errors import ArtifactError, EngineError, MissingExtraError

from .base import Maps, Scores, check_graph, check_images, in_batches

try:
    import onnxruntime as ort
except ImportError:
    raise MissingExtraError("onnxruntime", "cpu") from None

CPU = "CPUExecutionProvider"


class OnnxRuntimeEngine:
    """Runs a fused graph in ONNX Runtime.

    `threads` is the number of threads for one operator (None: ONNX Runtime's choice, one for each physical core).
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        options = session_options()
        if threads is not None:
            options.intra_op_num_threads = threads
        self._session: ort.InferenceSession | None = open_session(path, options, [CPU])
        self._spec = read_and_check_spec(self._session, path)
        self._provider: str = self._session.get_providers()[0]

    @property
    def spec(self) -> Spec:
        """What the model file says of itself."""
        return self._spec

    @property
    def provider(self) -> str:
        """ONNX Runtime's name of what executes the graph."""
        return self._provider

    def infer(self, images: npt.NDArray[np.uint8]) -> tuple[Maps, Scores]:
        """Anomaly maps float32 [N, H, W] and scores float32 [N] of images uint8 [N, H, W, 3]."""
        if self._session is None:
            raise EngineError("the engine was closed; open it again")
        check_images(images, self._spec)
        try:
            return in_batches(images, self._spec.batch or len(images), self._run)
        except Exception as error:
            raise EngineError(f"ONNX Runtime failed: {first_line(error)}") from error

    def _run(self, images: npt.NDArray[np.uint8]) -> tuple[Maps, Scores]:
        assert self._session is not None, "checked by infer"
        maps, scores = self._session.run(["anomaly_map", "score"], {"image": images})
        return maps, scores

    def close(self) -> None:
        """Give the session's memory back."""
        self._session = None


def session_options() -> ort.SessionOptions:
    """ONNX Runtime's options, without its warnings: they are about graphs, and its errors are raised too."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return options


def providers() -> list[str]:
    """What this build of ONNX Runtime could use."""
    return list(ort.get_available_providers())


def open_session(path: Path, options: ort.SessionOptions, providers: Sequence[Any]) -> ort.InferenceSession:
    """A session. Raises ArtifactError for a file that is missing or that ONNX Runtime cannot load."""
    if not path.is_file():
        raise ArtifactError(f"{path}: no such file; expected a model.onnx that stfpm-export wrote")
    try:
        return ort.InferenceSession(path, options, providers=list(providers), enable_fallback=False)
    except Exception as error:  # ONNX Runtime's exceptions share no base class of their own
        raise ArtifactError(f"{path}: ONNX Runtime cannot load it ({first_line(error)}); export it again") from error


def read_and_check_spec(session: ort.InferenceSession, path: Path) -> Spec:
    """What the file says of itself. Raises ArtifactError unless it is one of ours and its graph keeps the contract."""
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        raise ArtifactError(f"{path}: an ONNX file, but not one of ours; expected one that stfpm-export wrote")
    spec = Spec.from_json(text, str(path))
    check_graph(_inputs_and_outputs(session), spec, path)
    return spec


def _inputs_and_outputs(session: ort.InferenceSession) -> list[tuple[str, str, list[int]]]:
    return [(value.name, value.type, value.shape[1:]) for value in (*session.get_inputs(), *session.get_outputs())]


def first_line(error: Exception) -> str:
    """The gist of ONNX Runtime's errors."""
    return str(error).strip().partition("\n")[0]
