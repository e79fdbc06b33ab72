"""`cuda.bindings.runtime` as far as we call it, on host memory, for machines without a GPU.

It is stricter than a GPU: streams do nothing until they are waited for, so that a result read too early is not there;
copies outside an allocation, frees of what is not allocated and launches of destroyed graphs are errors; `alive` tells
what was never given back.
"""

from __future__ import annotations

import ctypes
import enum
from types import SimpleNamespace

import numpy as np


class cudaError_t(enum.IntEnum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorStreamCaptureUnsupported = 900


OK = cudaError_t.cudaSuccess
BAD = cudaError_t.cudaErrorInvalidValue


class StandInCuda:
    cudaError_t = cudaError_t
    cudaStreamNonBlocking = 1
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)
    cudaDeviceAttr = SimpleNamespace(cudaDevAttrComputeCapabilityMajor=75, cudaDevAttrComputeCapabilityMinor=76)

    def __init__(
        self, *, driver: bool = True, memory: int = 1 << 30, records: bool = True, gpu: str = "Stand-in"
    ) -> None:
        self.driver, self.memory, self.records, self.gpu = driver, memory, records, gpu
        self.buffers: dict[int, ctypes.Array] = {}
        self.queues: dict[int, list] = {}
        self.recording: dict[int, list] = {}
        self.graphs: dict[int, list] = {}
        self.launches = 0
        self._next = 1000

    @property
    def alive(self) -> dict[str, int]:
        return {"buffers": len(self.buffers), "streams": len(self.queues), "graphs": len(self.graphs)}

    def enqueue(self, stream: int, work) -> cudaError_t:
        if stream not in self.queues:
            return BAD
        self.recording.get(stream, self.queues[stream]).append(work)
        return OK

    def cudaGetErrorString(self, error):
        return OK, f"words for {error.name}".encode()

    def cudaSetDevice(self, device):
        return (OK,) if self.driver else (cudaError_t.cudaErrorInsufficientDriver,)

    def cudaDeviceGetAttribute(self, attribute, device):
        return OK, {75: 8, 76: 7}[attribute]

    def cudaGetDeviceProperties(self, device):
        return OK, SimpleNamespace(name=self.gpu.encode() + b"\0\0")

    def cudaRuntimeGetVersion(self):
        return OK, 12060

    def cudaDriverGetVersion(self):
        return OK, 13000

    def cudaMemGetInfo(self):
        return OK, self.memory, self.memory

    def cudaStreamCreateWithFlags(self, flags):
        assert flags == self.cudaStreamNonBlocking
        return OK, self._new(self.queues, [])

    def cudaStreamDestroy(self, stream):
        return (OK if self.queues.pop(stream, None) is not None else BAD,)

    def cudaMalloc(self, size):
        if size > self.memory:
            return cudaError_t.cudaErrorMemoryAllocation, None
        self.memory -= size
        buffer = (ctypes.c_uint8 * size)(*([0xAB] * min(size, 16)))  # not zero: what is not written shows
        self.buffers[ctypes.addressof(buffer)] = buffer
        return OK, ctypes.addressof(buffer)

    cudaMallocHost = cudaMalloc

    def cudaFree(self, address):
        return (OK if self.buffers.pop(address, None) is not None else BAD,)

    cudaFreeHost = cudaFree

    def cudaMemcpyAsync(self, destination, source, size, kind, stream):
        device = destination if kind == self.cudaMemcpyKind.cudaMemcpyHostToDevice else source
        if device not in self.buffers or size > ctypes.sizeof(self.buffers[device]):
            return (BAD,)
        return (self.enqueue(stream, lambda: ctypes.memmove(destination, source, size)),)

    def cudaStreamSynchronize(self, stream):
        if stream in self.recording or stream not in self.queues:
            return (BAD,)
        work, self.queues[stream] = self.queues[stream], []
        for action in work:
            action()
        return (OK,)

    def cudaStreamBeginCapture(self, stream, mode):
        if not self.records:
            return (cudaError_t.cudaErrorStreamCaptureUnsupported,)
        self.recording[stream] = []
        return (OK,)

    def cudaStreamEndCapture(self, stream):
        return OK, self.recording.pop(stream)

    def cudaGraphInstantiate(self, graph, flags):
        return OK, self._new(self.graphs, list(graph))

    def cudaGraphDestroy(self, graph):
        return (OK,)

    def cudaGraphExecDestroy(self, graph):
        return (OK if self.graphs.pop(graph, None) is not None else BAD,)

    def cudaGraphLaunch(self, graph, stream):
        if graph not in self.graphs:
            return (BAD,)
        self.launches += 1
        for action in self.graphs[graph]:
            self.enqueue(stream, action)
        return (OK,)

    def view(self, address: int, shape, dtype) -> np.ndarray:
        """What lies at an address of the device."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        assert size <= ctypes.sizeof(self.buffers[address]), "outside its allocation"
        return np.ctypeslib.as_array(self.buffers[address])[:size].view(dtype).reshape(shape)

    def _new(self, kind: dict, value) -> int:
        self._next += 1
        kind[self._next] = value
        return self._next
