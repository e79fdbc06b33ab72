"""ONNX Runtime on an NVIDIA GPU, through its CUDA provider or TensorRT within it.

Buffers on the GPU are bound once for each number of frames, and with the CUDA provider the work between them is
recorded as a CUDA graph on the first frame and replayed from then on. ONNX Runtime falls back to the CPU by itself
when a library is missing; here that is an error.
"""

from __future__ import annotations

import contextlib
import io
import itertools
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from stfpm_runtime.artifact.onnx_metadata import read_spec
from stfpm_runtime.errors import ArtifactError, EngineError, MissingExtraError, first_line
from stfpm_runtime.files import user_cache_folder

from .base import BaseEngine, Maps, Scores
from .onnx_runtime import check_session, open_session, session_options

try:
    import onnxruntime as ort
except ImportError:
    raise MissingExtraError("onnxruntime-gpu", "gpu") from None

Provider = Literal["CUDA", "TensorRT"]
NO_FALLBACK = ("session.disable_cpu_ep_fallback", "1")
HINT = (
    "Is there a GPU (nvidia-smi)? pip install 'stfpm-edge[gpu]' brings CUDA's libraries; --device cpu does without it"
)
MAX_SHAPES = 4
"""Numbers of frames whose buffers are kept; one more, and the oldest go."""


class Binding(NamedTuple):
    """Buffers on the GPU for one number of frames."""

    bound: Any
    image: Any
    maps: Any
    scores: Any
    run_options: Any


class OnnxRuntimeGpuEngine(BaseEngine):
    """Runs a fused graph in ONNX Runtime's CUDA or TensorRT provider.

    `graphs` turns CUDA graphs off, for measuring what they bring. Raises EngineError where the provider that was asked
    for is not the one that is active.
    """

    def __init__(self, path: Path, provider: Provider = "CUDA", graphs: bool = True) -> None:
        self._name = f"{'Tensorrt' if provider == 'TensorRT' else provider}ExecutionProvider"
        self._require_provider()
        self._graphs = graphs
        self._on_cpu = ""
        self.spec = read_spec(path)
        self._session: ort.InferenceSession | None = self._open(path)
        check_session(self._session, self.spec, path)
        super().__init__(self.spec, self._name + self._on_cpu, self.spec.batch)
        self._bindings: dict[int, Binding] = {}
        self._graph_ids = itertools.count(1)

    def _require_provider(self) -> None:
        available = ort.get_available_providers()
        if self._name not in available:
            raise EngineError(
                f"this ONNX Runtime has {', '.join(available)} and no {self._name}; install the other build with: "
                "pip uninstall onnxruntime; pip install 'stfpm-edge[gpu]'"
            )

    def _open(self, path: Path) -> ort.InferenceSession:
        """Return a session with every operator on the GPU or, where that cannot be, one with some on the CPU."""
        printed = io.StringIO()
        ort.set_default_logger_severity(4)  # its messages are long; the exception says it in one line
        with contextlib.redirect_stdout(printed):
            if hasattr(ort, "preload_dlls"):
                ort.preload_dlls()  # finds the CUDA libraries that came with pip
            session = self._strict_session(path) or self._tolerant_session(path)
        active = session.get_providers()
        if self._name not in active:
            reason = printed.getvalue().strip().partition("\n")[0] or "a library is missing, or there is no GPU"
            raise EngineError(f"{self._name} was asked for and {active[0]} is active: {reason}. {HINT}")
        return session

    def _tolerant_session(self, path: Path) -> ort.InferenceSession:
        try:
            return open_session(path, session_options(self.spec), self._providers(path))
        except ArtifactError as error:
            if path.is_file() and self._name == "TensorrtExecutionProvider":
                raise EngineError(f"{self._name} was asked for: {error.__cause__}. {HINT}") from error
            raise

    def _strict_session(self, path: Path) -> ort.InferenceSession | None:
        """Return a session without the CPU; None where the GPU cannot run an operator, which `provider` then says."""
        options = session_options(self.spec)
        options.add_session_config_entry(*NO_FALLBACK)
        try:
            session = open_session(path, options, self._providers(path))
        except ArtifactError:
            self._on_cpu, self._graphs = " (some operators on the CPU)", False
            return None
        return session

    def _providers(self, path: Path) -> list[Any]:
        shared = {"enable_cuda_graph": "1" if self._graphs else "0", "use_tf32": "0"}
        cuda = ("CUDAExecutionProvider", {**shared, "cudnn_conv_algo_search": "EXHAUSTIVE"})
        if self._name == cuda[0]:
            return [cuda]
        precision, cache = self.spec.precision, str(user_cache_folder() / "onnxruntime-tensorrt")
        options = {
            "trt_engine_cache_enable": True,
            "trt_engine_cache_path": cache,
            "trt_timing_cache_enable": True,
            "trt_timing_cache_path": cache,
            "trt_fp16_enable": precision == "fp16",
            "trt_int8_enable": precision == "int8",
            "trt_cuda_graph_enable": self._graphs,
        }
        return [(self._name, options), cuda]

    def _run(self, images: npt.NDArray[np.uint8]) -> tuple[Maps, Scores]:
        assert self._session is not None, "checked by infer"
        try:
            binding = self._bindings.get(len(images)) or self._bind(len(images))
            binding.image.update_inplace(np.ascontiguousarray(images))
            self._session.run_with_iobinding(binding.bound, binding.run_options)
            return binding.maps.numpy(), binding.scores.numpy()
        except Exception as error:
            raise EngineError(f"ONNX Runtime failed on the GPU: {first_line(error)}") from error

    def _free(self) -> None:
        self._bindings = {}
        self._session = None

    def _bind(self, frames: int) -> Binding:
        assert self._session is not None, "checked by infer"
        while len(self._bindings) >= MAX_SHAPES:
            del self._bindings[next(iter(self._bindings))]
        height, width, channels = self.spec.input_shape

        def buffer(shape: list[int], dtype: type) -> Any:  # noqa: ANN401
            return ort.OrtValue.ortvalue_from_shape_and_type(shape, dtype, "cuda", 0)

        image = buffer([frames, height, width, channels], np.uint8)
        maps, scores = buffer([frames, height, width], np.float32), buffer([frames], np.float32)
        bound = self._session.io_binding()
        bound.bind_ortvalue_input("image", image)
        bound.bind_ortvalue_output("anomaly_map", maps)
        bound.bind_ortvalue_output("score", scores)
        run_options = ort.RunOptions()
        if self._graphs:
            run_options.add_run_config_entry(
                "gpu_graph_id", str(next(self._graph_ids))
            )  # it holds these buffers' addresses
        self._bindings[frames] = Binding(bound, image, maps, scores, run_options)
        return self._bindings[frames]
