"""The contenders of `experiments.gpu`: PyTorch in eager mode, compiled and as a CUDA graph, and our engines."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from stfpm_edge.model import Stfpm
from stfpm_export.target import ANY_ENGINE_PRECISIONS
from stfpm_runtime.engines import Engine
from stfpm_runtime.engines.tensorrt.sidecar import PlanOptions, load_sidecar
from stfpm_runtime.errors import StfpmError
from stfpm_runtime.files import sha256

Infer = Callable[[npt.NDArray[np.uint8]], tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]
"""From images uint8 [N, H, W, 3] on the host to maps float32 [N, H, W] and scores float32 [N] there."""
EAGER = "PyTorch eager fp32"
"""The contender that all ratios refer to."""


def contenders(
    model: Stfpm, device: str, folder: Path, stack: contextlib.ExitStack, *, most: int, compiles: bool
) -> Iterator[tuple[str, Callable[[], Infer]]]:
    """Return name and maker of each; `model` is on the device, `folder` holds fp32.onnx and so on, `stack` closes them.

    `most` is the largest number of frames that will come.
    """
    yield EAGER, lambda: pytorch(model, device)
    yield "PyTorch eager fp16", lambda: pytorch(Autocast(model, device), device)
    if compiles:
        yield "PyTorch compile", lambda: pytorch(torch.compile(model), device)
        if device == "cuda":
            yield "PyTorch compile max-autotune", lambda: pytorch(torch.compile(model, mode="max-autotune"), device)
    if device == "cuda":
        yield "PyTorch in a CUDA graph", lambda: _recorded(model)
    for precision in ANY_ENGINE_PRECISIONS:
        file = folder / f"{precision}.onnx"
        if device == "cpu":
            yield f"ONNX Runtime CPU {precision}", partial(_engine, stack, "onnxruntime", file)
            continue
        for graphs in (True, False):
            suffix = "" if graphs else ", no graph"
            yield f"ONNX Runtime CUDA {precision}{suffix}", partial(_engine, stack, "cuda", file, graphs)
        yield f"TensorRT {precision}", partial(_engine, stack, "plan", file, True, most)
        yield f"TensorRT {precision}, no graph", partial(_engine, stack, "plan", file, False, most)


def pytorch(model: Callable[..., Any], device: str) -> Infer:
    """Return a PyTorch module as a contender, copies included."""

    @torch.inference_mode()
    def infer(images: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        maps, scores = model(torch.from_numpy(images).to(device))
        return maps.float().cpu().numpy(), scores.float().cpu().numpy()

    return infer


class Autocast(torch.nn.Module):
    """The backbones in half precision, as PyTorch's users have it."""

    def __init__(self, model: Stfpm, device: str) -> None:
        super().__init__()
        self.model, self.device = model, device

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute what `Stfpm.forward` computes."""
        with torch.autocast(self.device, torch.float16 if self.device == "cuda" else torch.bfloat16):
            maps, scores = self.model(images)
            return maps, scores


def _recorded(model: torch.nn.Module) -> Infer:
    """Return PyTorch in a CUDA graph, one for each number of frames."""
    kept: dict[int, Any] = {}

    @torch.inference_mode()
    def infer(images: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        if len(images) not in kept:
            static = torch.from_numpy(images).to("cuda")
            side = torch.cuda.Stream()  # type: ignore[no-untyped-call, unused-ignore]
            with torch.cuda.stream(side):
                for _ in range(3):
                    model(static)
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                results = model(static)
            kept[len(images)] = graph, static, results
        graph, static, (maps, scores) = kept[len(images)]
        static.copy_(torch.from_numpy(images))
        graph.replay()
        return maps.cpu().numpy(), scores.cpu().numpy()

    return infer


def _engine(stack: contextlib.ExitStack, kind: str, file: Path, graphs: bool = True, most: int = 1) -> Infer:
    engine: Engine
    if kind == "onnxruntime":
        from stfpm_runtime.engines.onnx_runtime import OnnxRuntimeEngine

        engine = OnnxRuntimeEngine(file)
    elif kind == "cuda":
        from stfpm_runtime.engines.onnx_runtime_gpu import OnnxRuntimeGpuEngine

        engine = OnnxRuntimeGpuEngine(file, "CUDA", graphs)
    else:
        from stfpm_runtime.engines.tensorrt.build import build_plan
        from stfpm_runtime.engines.tensorrt.engine import TensorRtEngine

        plan, batches = file.with_suffix(".engine"), (1, 1, most)
        if not _is_plan_of(plan, file, batches):
            build_plan(file, plan, PlanOptions(batches=batches), say)
        engine = TensorRtEngine(plan, graphs)
    return stack.enter_context(contextlib.closing(engine)).infer


def _is_plan_of(plan: Path, file: Path, batches: tuple[int, int, int]) -> bool:
    """Return whether the plan exists and was built from this ONNX file for these numbers of frames."""
    with contextlib.suppress(StfpmError):
        found = load_sidecar(plan)
        return (found.onnx_sha256, found.batches) == (sha256(file), batches)
    return False


def say(text: str) -> None:
    """Print a line of progress on stderr."""
    print(text, file=sys.stderr)
