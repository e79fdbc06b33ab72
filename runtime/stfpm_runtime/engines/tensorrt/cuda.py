"""The packages under a TensorRT engine: TensorRT itself, and CUDA's memory, copies, streams and graphs.

CUDA has two implementations with the same methods: `CudaPython` (`cuda.bindings`, with CUDA graphs) and `PyCuda`, which
many Jetson images have instead (no graphs). Any thread may call all of it, one thread at a time. Every status
is checked: an error of CUDA becomes an EngineError with CUDA's message. Handles and device addresses are integers.
"""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stfpm_runtime.errors import EngineError, MissingExtraError

PACKAGES = ("tensorrt", "tensorrt_lean", "tensorrt_lean_bindings")
"""Packages in the order of preference; the last is the lean runtime's wheel without the package around it."""
OLDEST = (10, 3)
NO_DEVICE = "is an NVIDIA driver installed, and a GPU there? nvidia-smi (on Jetson: tegrastats) tells"


class Device(NamedTuple):
    """The GPU, and the CUDA that drives it."""

    name: str
    compute_capability: str
    """Compute capability, say `8.7`."""
    cuda: str
    """The runtime's version, say `12.6`."""
    driver: str
    """The newest CUDA that the driver knows, say `13.0`."""


class Graph(NamedTuple):
    """Work that was recorded once and is launched as a whole."""

    launch: Callable[[], None]
    close: Callable[[], None]


def find_tensorrt(packages: Sequence[str] = PACKAGES) -> ModuleType:
    """Return TensorRT's first package that can be imported.

    Raises MissingExtraError where none can, EngineError for one that is too old.
    """
    reasons = []
    for name in packages:
        try:
            package = importlib.import_module(name)
        except ImportError:
            continue
        except (OSError, RuntimeError) as error:  # the bindings without their libraries
            reasons.append(f"{name}: {error}")
            continue
        version = tuple(int(part) for part in package.__version__.split(".")[:2])
        if version < OLDEST:
            raise EngineError(
                f"found TensorRT {package.__version__}; expected 10.3 (JetPack 6) or newer, or use --device cuda"
            )
        return package
    if reasons:
        raise EngineError(f"TensorRT cannot be loaded ({'; '.join(reasons)}); install its libraries too")
    raise MissingExtraError("tensorrt", "tensorrt")


def version_of(package: ModuleType) -> str:
    """Return TensorRT's version, say `10.3.0`."""
    return str(package.__version__)


def is_lean(package: ModuleType) -> bool:
    """Return whether the package can only execute plans, and only version-compatible ones."""
    return not hasattr(package, "Builder")


def open_cuda() -> Cuda:
    """Return CUDA through the package that is installed, cuda-python before PyCUDA.

    Raises MissingExtraError where neither is, EngineError where there is no driver or no GPU.
    """
    try:
        from cuda.bindings import runtime
    except ImportError:
        runtime = None
    if runtime is not None:
        return CudaPython(runtime)
    try:
        import pycuda.driver
    except ImportError:
        raise MissingExtraError("cuda-python (nor pycuda)", "tensorrt") from None
    return PyCuda(pycuda.driver)


class CudaPython:
    """Through `cuda.bindings.runtime`; functions there return a status and then their results."""

    has_graphs = True

    def __init__(self, runtime: Any) -> None:
        self._rt = runtime
        self._close: list[Callable[[], object]] = []
        self._call("cudaSetDevice", 0)

    def device(self) -> Device:
        """Return the first GPU."""
        attributes = self._rt.cudaDeviceAttr
        major = self._call("cudaDeviceGetAttribute", attributes.cudaDevAttrComputeCapabilityMajor, 0)
        minor = self._call("cudaDeviceGetAttribute", attributes.cudaDevAttrComputeCapabilityMinor, 0)
        name = self._call("cudaGetDeviceProperties", 0).name
        name = name.decode() if isinstance(name, bytes) else str(name)
        versions = (_version(self._call(f"cuda{which}GetVersion")) for which in ("Runtime", "Driver"))
        return Device(name.rstrip("\0"), f"{major}.{minor}", *versions)

    def free_bytes(self) -> int:
        """Return the number of bytes that are free on the GPU."""
        return int(self._call("cudaMemGetInfo")[0])

    def stream(self) -> int:
        """Return a new stream, which does not wait for the default one."""
        stream = int(self._call("cudaStreamCreateWithFlags", self._rt.cudaStreamNonBlocking))
        self._close.append(lambda: self._call("cudaStreamDestroy", stream))
        return stream

    def memory(self, size: int) -> int:
        """Return the address of `size` new bytes on the GPU."""
        address = int(self._call("cudaMalloc", size))
        self._close.append(lambda: self._call("cudaFree", address))
        return address

    def host_array(self, shape: Sequence[int], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Return a new page-locked array: the GPU copies from and to it without the CPU's help."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        address = int(self._call("cudaMallocHost", size))
        self._close.append(lambda: self._call("cudaFreeHost", address))
        array: npt.NDArray[Any] = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))
        return array.view(dtype).reshape(shape)

    def copy_in(self, address: int, array: npt.NDArray[Any], stream: int) -> None:
        """Begin copying a contiguous array to the GPU."""
        kind = self._rt.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", address, array.ctypes.data, array.nbytes, kind, stream)

    def copy_out(self, array: npt.NDArray[Any], address: int, stream: int) -> None:
        """Begin copying from the GPU into a contiguous array."""
        kind = self._rt.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", array.ctypes.data, address, array.nbytes, kind, stream)

    def wait(self, stream: int) -> None:
        """Return when all that was begun on the stream is done."""
        self._call("cudaStreamSynchronize", stream)

    def record(self, stream: int, work: Callable[[], None]) -> Graph:
        """Return what `work` begins on the stream as a graph; nothing of it is done yet."""
        mode = self._rt.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", stream, mode)
        try:
            work()
        finally:  # a stream that is left recording is of no more use
            recorded = self._call("cudaStreamEndCapture", stream)
        executable = self._call("cudaGraphInstantiate", recorded, 0)
        self._call("cudaGraphDestroy", recorded)
        return Graph(
            lambda: self._call("cudaGraphLaunch", executable, stream),
            lambda: self._call("cudaGraphExecDestroy", executable),
        )

    def close(self) -> None:
        """Free everything that was made here, the newest first; what CUDA refuses then has no consequence."""
        while self._close:
            try:
                self._close.pop()()
            except EngineError:
                continue

    def _call(self, name: str, *arguments: Any) -> Any:
        """Return the only result of a function of CUDA, or the list of all. Raises EngineError for an error status."""
        status, *results = getattr(self._rt, name)(*arguments)
        if int(status) != 0:
            raise EngineError(self._explain(name, status, arguments))
        return results[0] if len(results) == 1 else results

    def _explain(self, name: str, status: Any, arguments: Sequence[Any]) -> str:
        _, text = self._rt.cudaGetErrorString(status)
        said = f"CUDA: {name}: {text.decode() if isinstance(text, bytes) else text} (error {int(status)})"
        kind = str(getattr(status, "name", ""))
        if kind in ("cudaErrorInsufficientDriver", "cudaErrorNoDevice", "cudaErrorInitializationError"):
            return f"{said}; {NO_DEVICE}"
        if kind == "cudaErrorMemoryAllocation":
            size = next((argument for argument in arguments if isinstance(argument, int)), 0)
            return f"{said}: {size / 1e6:.1f} MB were asked for; close what else uses the GPU, or use a smaller batch"
        return said


class PyCuda:
    """Through `pycuda.driver`: its contexts belong to a thread, so that each call enters ours and leaves it."""

    has_graphs = False

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        self._objects: dict[int, Any] = {}
        self._context: Any = None
        try:
            driver.init()
            self._device = driver.Device(0)
            self._context = self._device.retain_primary_context()
        except driver.Error as error:
            raise EngineError(f"CUDA: {error}; {NO_DEVICE}") from None

    def device(self) -> Device:
        """Return the first GPU."""
        major, minor = self._device.compute_capability()
        runtime = ".".join(str(part) for part in self._driver.get_version()[:2])
        return Device(self._device.name(), f"{major}.{minor}", runtime, _version(self._driver.get_driver_version()))

    def free_bytes(self) -> int:
        """Return the number of bytes that are free on the GPU."""
        return int(self._run(lambda: self._driver.mem_get_info()[0]))

    def stream(self) -> int:
        """Return a new stream."""
        stream = self._run(self._driver.Stream)
        return self._keep(int(stream.handle), stream)

    def memory(self, size: int) -> int:
        """Return the address of `size` new bytes on the GPU."""
        memory = self._run(lambda: self._driver.mem_alloc(size))
        return self._keep(int(memory), memory)

    def host_array(self, shape: Sequence[int], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Return a new page-locked array: the GPU copies from and to it without the CPU's help."""
        array: npt.NDArray[Any] = self._run(lambda: self._driver.pagelocked_empty(tuple(shape), dtype))
        return array

    def copy_in(self, address: int, array: npt.NDArray[Any], stream: int) -> None:
        """Begin copying a contiguous array to the GPU."""
        self._run(lambda: self._driver.memcpy_htod_async(address, array, self._objects[stream]))

    def copy_out(self, array: npt.NDArray[Any], address: int, stream: int) -> None:
        """Begin copying from the GPU into a contiguous array."""
        self._run(lambda: self._driver.memcpy_dtoh_async(array, address, self._objects[stream]))

    def wait(self, stream: int) -> None:
        """Return when all that was begun on the stream is done."""
        self._run(self._objects[stream].synchronize)

    def record(self, stream: int, work: Callable[[], None]) -> Graph:
        """Raise EngineError: PyCUDA has no graphs."""
        raise EngineError("PyCUDA has no CUDA graphs; install cuda-python for them")

    def close(self) -> None:
        """Free everything that was made here."""
        if self._context is not None:
            self._run(self._objects.clear)
            self._context.detach()
            self._context = None

    def _keep(self, handle: int, thing: Any) -> int:
        self._objects[handle] = thing
        return handle

    def _run(self, action: Callable[[], Any]) -> Any:
        self._context.push()
        try:
            return action()
        except self._driver.Error as error:
            raise EngineError(f"CUDA: {error}") from None
        finally:
            self._context.pop()


def _version(number: int) -> str:
    """Return CUDA's 12060 as 12.6."""
    return f"{number // 1000}.{number % 1000 // 10}"


Cuda = CudaPython | PyCuda
