"""Measure this machine's best: a large matrix product in a precision, and a large copy.

Each is measured by whichever of the installed libraries is the fastest (ONNX Runtime, OpenVINO, NumPy's BLAS in fp32),
once a process, so that all models are compared with one limit.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from stfpm_runtime.timing import time_by_turns

SIDES = (1024, 2048)
ROUNDS = 5
"""Runs of each, of which the fastest counts: the limit is asked for, not the usual."""
COPY_BYTES = 1 << 28


@functools.cache
def peak_gops(precision: str) -> float:
    """Return the most operations, 1e9 per second (a multiply-add is two), that a matrix product reaches on this CPU.

    `precision` is a model's; fp16 is run as fp32 on a CPU.
    """
    return max(
        2 * side**3 / (1e6 * min(times_ms))
        for side in SIDES
        for times_ms in time_by_turns(list(_matrix_products(side, precision == "int8")), ROUNDS)
    )


@functools.cache
def copy_gb_s() -> float:
    """Return the bytes, read and written together, that a large copy by all cores moves, in 1e9 per second."""
    cores = os.cpu_count() or 1
    source, target = np.ones(COPY_BYTES, np.uint8), np.zeros(COPY_BYTES, np.uint8)
    parts = list(zip(np.array_split(target, cores), np.array_split(source, cores), strict=True))
    with ThreadPoolExecutor(cores) as pool:
        (times_ms,) = time_by_turns([lambda: list(pool.map(lambda part: np.copyto(*part), parts))], ROUNDS)
    return 2 * COPY_BYTES / (1e6 * min(times_ms))


def _matrix_products(side: int, is_int8: bool) -> Iterator[Callable[[], object]]:
    """Yield the same product by each library."""
    levels = np.random.default_rng(0).integers(0, 256, (side, side), np.uint8)
    matrix: npt.NDArray[Any] = levels if is_int8 else levels.astype(np.float32)
    model = _product_graph(side, is_int8)
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    yield lambda: session.run(None, {"a": matrix})
    if find_spec("openvino"):
        import openvino

        from stfpm_runtime.engines.openvino import CONFIGURATION

        core = openvino.Core()
        request = core.compile_model(core.read_model(model), "CPU", CONFIGURATION).create_infer_request()
        yield lambda: request.infer([matrix])
    if not is_int8:
        yield lambda: matrix @ matrix


def _product_graph(side: int, is_int8: bool) -> bytes:
    """Return an ONNX graph: a matrix times a constant; int8 as in our graphs, uint8 by int8 between Q/DQ pairs."""
    weights = np.random.default_rng(1).integers(-64, 64, (side, side), np.int8)
    constants: dict[str, object] = {"w": weights.astype(np.float32)}
    nodes = [helper.make_node("MatMul", ["a", "w"], ["c"])]
    if is_int8:
        constants = {
            "w": weights, "scale": np.float32(0.01), "out": np.float32(1), "zero": np.uint8(0), "middle": np.int8(0),
        }  # fmt: skip
        nodes = [
            helper.make_node("DequantizeLinear", ["a", "scale", "zero"], ["x"]),
            helper.make_node("DequantizeLinear", ["w", "scale", "middle"], ["y"]),
            helper.make_node("MatMul", ["x", "y"], ["z"]),
            helper.make_node("QuantizeLinear", ["z", "out", "zero"], ["c"]),
        ]
    inputs, outputs = (
        [helper.make_tensor_value_info(name, TensorProto.UINT8 if is_int8 else TensorProto.FLOAT, [side, side])]
        for name in ("a", "c")
    )
    stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "product", inputs, outputs, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(model.SerializeToString())
