"""TensorRT's Python package: the whole of it, or the lean runtime that only executes."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from types import ModuleType

from stfpm_runtime.errors import EngineError, MissingExtraError

PACKAGES = ("tensorrt", "tensorrt_lean", "tensorrt_lean_bindings")
"""In the order of preference; the last is the lean runtime's wheel without the package around it."""
OLDEST = (10, 3)


def find_tensorrt(packages: Sequence[str] = PACKAGES) -> ModuleType:
    """The first package that can be imported. Raises MissingExtraError where none can, EngineError for one too old."""
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
    """TensorRT's version, say `10.3.0`."""
    return str(package.__version__)


def is_lean(package: ModuleType) -> bool:
    """Whether the package can only execute plans, and only version-compatible ones."""
    return not hasattr(package, "Builder")
