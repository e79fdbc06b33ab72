"""Reads what torch.save wrote without executing anything in it: foreign objects become inert placeholders."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from stfpm_edge.teacher import check_archive
from stfpm_runtime.errors import ArtifactError, first_line


def as_dict(value: object) -> dict[Any, Any]:
    """Return the value where it is a dictionary, else an empty one: a foreign file may hold anything."""
    return value if isinstance(value, dict) else {}


class Inert:
    """Stands in for an object of any class that a pickle names: keeps what the pickle says of it, and does nothing.

    Its class is called as the pickled one was; its attributes are the pickled ones.
    """

    def __new__(cls, *_: object, **__: object) -> Inert:
        """Accept any arguments."""
        return super().__new__(cls)

    def __init__(self, *_: object, **__: object) -> None: ...

    def __call__(self, *_: object) -> Inert:
        """Return itself: some pickles call what a class or function gave them."""
        return self

    def __setstate__(self, state: object) -> None:
        self.__dict__.update({str(key): value for key, value in as_dict(state).items()})

    def __setitem__(self, _: object, __: object) -> None: ...

    def append(self, _: object) -> None:
        """Ignore an item of a pickled kind of list."""


class InertDict(dict[Any, Any]):
    """Stands in for an OrderedDict: its items, without the attributes that a pickle may give it."""

    def __setstate__(self, _: object) -> None: ...


def read_inert(path: Path) -> dict[Any, Any]:
    """Return the dictionary that torch.save wrote, as plain data and tensors; all other objects are Inert.

    torch.load(weights_only=True) would refuse a file for any object that is neither. Raises ArtifactError for a file
    that is missing, damaged, or no dictionary.
    """
    if not path.is_file():
        raise ArtifactError(f"{path}: no such file; expected a Lightning checkpoint (.ckpt)")
    try:
        with zipfile.ZipFile(path) as archive:
            check_archive(archive, path)
            names = {name.rpartition("/")[2] for name in archive.namelist()}
            if "data.pkl" not in names:
                raise ValueError("a zip file without data.pkl")
            if "constants.pkl" in names:
                raise ValueError("a TorchScript archive, which holds code")
            if damaged := archive.testzip():  # torch.load does not compare checksums
                raise ValueError(f"the checksum of {damaged} is wrong")
        content = torch.load(path, "cpu", pickle_module=_PICKLE, weights_only=False)
    except ArtifactError:
        raise
    except Exception as error:  # a damaged or forged pickle raises whatever its bytes happen to ask for
        raise ArtifactError(f"{path}: damaged, or no PyTorch checkpoint ({first_line(error)}); copy it again") from None
    if not isinstance(content, dict):
        raise ArtifactError(f"{path}: holds a {type(content).__name__}; expected a Lightning checkpoint (.ckpt)")
    return content


class _InertUnpickler(pickle.Unpickler):
    """Unpickles for torch.load. A pickle can reach only the functions and classes that `find_class` returns."""

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401
        """Return the function that makes a tensor of a storage, or one of our classes; nothing is imported."""
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        return InertDict if (module, name) == ("collections", "OrderedDict") else type(name, (Inert,), {})


def _rebuild_tensor(storage: torch.TypedStorage, offset: int, size: Any, stride: Any, *_: object) -> Tensor:  # noqa: ANN401
    return torch._utils._rebuild_tensor_v2(storage, offset, size, stride, False, {})  # type: ignore[no-untyped-call, no-any-return]


_PICKLE = SimpleNamespace(__name__=__name__, Unpickler=_InertUnpickler)
"""The part of a pickle module that torch.load uses."""
