"""`tensorrt` as far as we use it, for machines where it cannot be installed: a plan is the ONNX file, behind a mark.

It executes plans in ONNX Runtime, on the memory and streams of StandInCuda, and can be set to fail as real
versions do: build float32 where float16 was asked for, refuse strong typing, compute wrongly, run out of memory.
It proves our use of the interface's order and addresses, not TensorRT; the names are checked against the real thing's.
"""

from __future__ import annotations

import enum
import json
from types import ModuleType, SimpleNamespace

import numpy as np
import onnx
import onnxruntime as ort

MARK = b"PLAN"
CONTRACT = {"image": "DataType.UINT8", "anomaly_map": "DataType.FLOAT", "score": "DataType.FLOAT"}


def stand_in(cuda, *, version="10.3.0", lean=False, **misbehaviour) -> ModuleType:
    """A module to put under the name `tensorrt`.

    Misbehaviour: `builds` (the type that convolutions end up in), `refuses_strong`, `memory_error`, `wrong_by`.
    """
    module = ModuleType("tensorrt")
    module.__version__ = version
    world = SimpleNamespace(cuda=cuda, version=version, **{
        "builds": None, "refuses_strong": False, "memory_error": False, "wrong_by": 0.0, **misbehaviour,
    })  # fmt: skip
    module.world = world
    world.configs, world.contexts = [], []

    class ILogger:
        class Severity(enum.IntEnum):
            INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

        INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = Severity

    class Dims:
        def __init__(self, shape):
            self.shape = list(shape)

        def __len__(self):
            return len(self.shape)

        def __getitem__(self, index):
            return self.shape[index]

    class Context:
        def __init__(self, session, spec):
            self.session, self.spec, self.addresses, self.frames = session, spec, {}, None
            world.contexts.append(self)

        def set_tensor_address(self, name, address):
            self.addresses[name] = address
            return name in CONTRACT

        def set_input_shape(self, name, shape):
            least, _, most = self.spec["batches"]
            self.frames = shape[0]
            return name == "image" and least <= shape[0] <= most

        def execute_async_v3(self, stream):
            assert set(self.addresses) == set(CONTRACT), "every tensor has its address"
            frames = self.frames

            def work():
                height, width = self.spec["size"]
                image = world.cuda.view(self.addresses["image"], (frames, height, width, 3), np.uint8)
                maps, scores = self.session.run(["anomaly_map", "score"], {"image": image})
                world.cuda.view(self.addresses["anomaly_map"], maps.shape, np.float32)[:] = maps + world.wrong_by
                world.cuda.view(self.addresses["score"], scores.shape, np.float32)[:] = scores + world.wrong_by

            return world.cuda.enqueue(stream, work) == 0

    class Engine:
        num_io_tensors = 3

        def __init__(self, session, spec):
            self.session, self.spec = session, spec

        def create_execution_context(self):
            return Context(self.session, self.spec)

        def create_engine_inspector(self):
            kind = world.builds or {"fp32": "FP32", "fp16": "FP16", "int8": "Int8"}[self.spec["precision"]]
            layer = {
                "LayerType": "CaskConvolution",
                "Inputs": [{"Format/Datatype": f"Channel major {kind} format where channel % 8 == 0"}],
            }
            text = json.dumps({"Layers": [layer] * 20 + [{"LayerType": "Reformat", "Inputs": []}]})
            return SimpleNamespace(get_engine_information=lambda format: text)

        def get_tensor_name(self, index):
            return sorted(CONTRACT)[index]

        def get_tensor_dtype(self, name):
            return CONTRACT[name]

        def get_tensor_shape(self, name):
            height, width = self.spec["size"]
            return Dims({"image": [-1, height, width, 3], "anomaly_map": [-1, height, width], "score": [-1]}[name])

    class Runtime:
        def __init__(self, log):
            self.log, self.engine_host_code_allowed = log, False

        def deserialize_cuda_engine(self, data):
            if not data.startswith(MARK):
                self.log.log(ILogger.Severity.ERROR, "deserialization failed:\n magic tag does not match")
                return None
            length = int.from_bytes(data[4:8], "little")
            spec = json.loads(data[8 : 8 + length])
            if spec["version_compatible"] and not self.engine_host_code_allowed:
                self.log.log(ILogger.Severity.ERROR, "engine_host_code_allowed is not set")
                return None
            return Engine(ort.InferenceSession(data[8 + length :], providers=["CPUExecutionProvider"]), spec)

    class Config:
        def __init__(self):
            self.flags, self.pools, self.profiles, self.cache = {BuilderFlag.TF32}, {}, [], None
            world.configs.append(self)

        def set_flag(self, flag):
            self.flags.add(flag)

        def clear_flag(self, flag):
            self.flags.discard(flag)

        def set_memory_pool_limit(self, pool, size):
            self.pools[pool] = size

        def add_optimization_profile(self, profile):
            self.profiles.append(profile)
            return 0

        def create_timing_cache(self, data):
            return SimpleNamespace(data=bytes(data), serialize=lambda: bytes(data) + b"timed")

        def set_timing_cache(self, cache, ignore_mismatch):
            self.cache = cache
            return True

        def get_timing_cache(self):
            return self.cache

    class Profile:
        def set_shape(self, name, least, best, most):
            assert name == "image"
            self.batches = [least[0], best[0], most[0]]

    class Builder:
        num_DLA_cores = 2

        def __init__(self, log):
            self.log = log

        def create_network(self, flags=0):
            return SimpleNamespace(is_strong=bool(flags & 1 << NetworkFlag.STRONGLY_TYPED), data=b"", num_layers=0)

        def create_builder_config(self):
            return Config()

        def create_optimization_profile(self):
            return Profile()

        def build_serialized_network(self, network, config):
            monitor = config.progress_monitor
            monitor.phase_start("Building", None, 2)
            assert all(monitor.step_complete("Building", step) for step in range(2))
            monitor.phase_finish("Building")
            if world.memory_error:
                self.log.log(ILogger.Severity.ERROR, "Requested size was 1073741824 bytes: out of memory")
                return None
            if world.refuses_strong and network.is_strong:
                self.log.log(ILogger.Severity.ERROR, "strongly typed: no implementation for node conv1")
                return None
            model = onnx.load_from_string(network.data)
            metadata = json.loads(model.metadata_props[0].value)
            spec = {
                "batches": config.profiles[0].batches,
                "size": [metadata["height"], metadata["width"]],
                "precision": metadata["precision"],
                "version_compatible": BuilderFlag.VERSION_COMPATIBLE in config.flags,
            }
            text = json.dumps(spec).encode()
            return MARK + len(text).to_bytes(4, "little") + text + network.data

    class OnnxParser:
        def __init__(self, network, log):
            self.network, self.errors = network, []

        @property
        def num_errors(self):
            return len(self.errors)

        def get_error(self, index):
            return self.errors[index]

        def parse(self, data):
            self.network.data = data
            for node in onnx.load_from_string(data).graph.node:
                if node.op_type == "Gelu":
                    self.errors.append(SimpleNamespace(
                        node_name=lambda node=node: node.name, node_operator=lambda: "Gelu", desc=lambda: "no importer",
                    ))  # fmt: skip
            return not self.errors

    class BuilderFlag(enum.Enum):
        TF32, GPU_FALLBACK, VERSION_COMPATIBLE, FP16, INT8, OBEY_PRECISION_CONSTRAINTS = range(6)

    class NetworkFlag(enum.IntEnum):
        EXPLICIT_BATCH, STRONGLY_TYPED = range(2)

    class IProgressMonitor:
        pass

    kinds = [ILogger, Dims, Runtime, IProgressMonitor] + ([] if lean else [Builder, OnnxParser])
    for kind in kinds:
        setattr(module, kind.__name__, kind)
    for name in ("ICudaEngine", "IExecutionContext", "INetworkDefinition", "IBuilderConfig"):
        setattr(module, name, object)
    module.BuilderFlag, module.NetworkDefinitionCreationFlag = BuilderFlag, NetworkFlag
    module.LayerInformationFormat = SimpleNamespace(JSON=1)
    module.ProfilingVerbosity = SimpleNamespace(DETAILED=2)
    module.MemoryPoolType = SimpleNamespace(WORKSPACE="workspace")
    module.HardwareCompatibilityLevel = SimpleNamespace(AMPERE_PLUS="ampere")
    module.DeviceType = SimpleNamespace(DLA="dla")
    return module
