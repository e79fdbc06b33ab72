"""A stand-in for the GPU and for TensorRT, put in their place for one test."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from plans.stand_in_cuda import StandInCuda
from plans.stand_in_tensorrt import stand_in
from stfpm_export.export import ExportOptions, export_checkpoint
from stfpm_runtime.engines.tensorrt import cuda as cuda_module
from stfpm_runtime.engines.tensorrt.sidecar import PlanOptions

IMPORTERS = tuple(f"engines.tensorrt.{name}" for name in ("engine", "build"))


@pytest.fixture
def install(monkeypatch, tmp_path):
    """Puts a GPU and a TensorRT in place; returns our modules as they are with these."""

    def install(cuda: StandInCuda | None = None, **behaviour) -> SimpleNamespace:
        cuda = cuda or StandInCuda()
        package = stand_in(cuda, **behaviour)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.setitem(sys.modules, "tensorrt", package)
        monkeypatch.setattr(cuda_module, "open_cuda", lambda: cuda_module.CudaPython(cuda))
        for name in IMPORTERS:
            monkeypatch.delitem(sys.modules, f"stfpm_runtime.{name}", raising=False)
        engine, building = (importlib.import_module(f"stfpm_runtime.{name}") for name in IMPORTERS[:2])
        reports: list[str] = []

        def build(onnx: Path, output: Path | None = None, **options):
            wanted = PlanOptions(**options)
            return building.build_plan(onnx, output or onnx.with_suffix(".engine"), wanted, reports.append)

        return SimpleNamespace(
            cuda=cuda, trt=package, world=package.world, reports=reports, build=build, rebuild=building.rebuild,
            Engine=engine.TensorRtEngine,
        )  # fmt: skip

    yield install
    for name in IMPORTERS:
        sys.modules.pop(f"stfpm_runtime.{name}", None)


@pytest.fixture(scope="session", params=["fp32", "fp16", "int8"])
def exported(request, tiny_checkpoint, tmp_path_factory) -> Path:
    """A file for TensorRT in each precision."""
    return _export(tiny_checkpoint, tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="session")
def half(tiny_checkpoint, tmp_path_factory) -> Path:
    """One in fp16."""
    return _export(tiny_checkpoint, tmp_path_factory.mktemp("half"), "fp16")


@pytest.fixture(scope="session")
def full(tiny_checkpoint, tmp_path_factory) -> Path:
    """One in fp32."""
    return _export(tiny_checkpoint, tmp_path_factory.mktemp("full"), "fp32")


@pytest.fixture
def copy(tmp_path):
    """Copies a model and its golden file to a folder of the test's own."""

    def copy(model: Path) -> Path:
        for path in (model, model.with_suffix(".golden.npz")):
            (tmp_path / path.name).write_bytes(path.read_bytes())
        return tmp_path / model.name

    return copy


def _export(checkpoint: Path, folder: Path, precision: str) -> Path:
    options = ExportOptions(checkpoint, folder / "tiny.onnx", precision=precision, target="tensorrt")
    export_checkpoint(dataclasses.replace(options, allow_parity_loss=True), print)
    return options.output
