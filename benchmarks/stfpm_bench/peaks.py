"""What this machine can do at its best: a large matrix product in a precision, and a large copy.

By whichever of the libraries at hand is the fastest: ONNX Runtime, OpenVINO where it is installed, NumPy's BLAS in
fp32. Measured once a process, so that all models are held against one limit.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

SIDES = (1024, 2048)
RUNS, LEAST_RUNS = 12, 3
ENOUGH_S = 1.0
"""A product that takes longer than that for all its runs has fewer of them."""
COPY_BYTES = 1 << 28


@functools.cache
def peak_gops(precision: str) -> float:
    """The most operations, 1e9 per second (a multiply-add is two), that a matrix product reaches on this CPU.

    `precision` is a model's; fp16 is run as fp32 on a CPU.
    """
    is_int8 = precision == "int8"
    best = 0.0
    for side in SIDES:
        for run in _products(side, is_int8):
            best = max(best, 2 * side**3 / _fastest(run) / 1e9)
    return best


@functools.cache
def copy_gb_s() -> float:
    """Bytes, read and written together, that a large copy by all cores moves, in 1e9 per second."""
    cores = os.cpu_count() or 1
    source = np.ones(COPY_BYTES, np.uint8)
    target = np.zeros_like(source)
    parts = [slice(k * COPY_BYTES // cores, (k + 1) * COPY_BYTES // cores) for k in range(cores)]
    with ThreadPoolExecutor(cores) as pool:
        fastest = _fastest(lambda: list(pool.map(lambda part: np.copyto(target[part], source[part]), parts)))
    return 2 * COPY_BYTES / fastest / 1e9


def _fastest(run: Callable[[], object]) -> float:
    """Seconds: the least of several runs, for it is the limit that is asked for."""
    times: list[float] = []
    while len(times) < LEAST_RUNS or (len(times) < RUNS and sum(times) < ENOUGH_S):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times)


def _products(side: int, is_int8: bool) -> Iterator[Callable[[], object]]:
    """The same product by each library."""
    rng = np.random.default_rng(0)
    whole = rng.integers(0, 256, (side, side), np.uint8)
    feed = whole if is_int8 else whole.astype(np.float32)
    model = _product(side, is_int8)
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    yield lambda: session.run(None, {"a": feed})
    if find_spec("openvino"):
        import openvino

        from stfpm_runtime.engines.openvino import CONFIGURATION

        core = openvino.Core()
        request = core.compile_model(core.read_model(model), "CPU", CONFIGURATION).create_infer_request()
        yield lambda: request.infer([feed])
    if not is_int8:
        yield lambda: feed @ feed


def _product(side: int, is_int8: bool) -> bytes:
    """A square matrix times a constant one; in int8 as our graphs have it, uint8 by int8 between Q/DQ pairs."""
    weights = np.random.default_rng(1).integers(-64, 64, (side, side), np.int8)
    kind = TensorProto.UINT8 if is_int8 else TensorProto.FLOAT
    inputs = [helper.make_tensor_value_info("a", kind, [side, side])]
    outputs = [helper.make_tensor_value_info("c", kind, [side, side])]
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
    else:
        constants = {"w": weights.astype(np.float32)}
        nodes = [helper.make_node("MatMul", ["a", "w"], ["c"])]
    initial = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "product", inputs, outputs, initial)
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(model.SerializeToString())
