"""Reading what torch.save wrote without executing anything of it: foreign objects come out as inert placeholders."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from stfpm_edge.teacher import check_archive
from stfpm_runtime.errors import ArtifactError


def as_dict(value: object) -> dict[Any, Any]:
    """The value where it is a dictionary, else an empty one: a foreign file may hold anything."""
    return value if isinstance(value, dict) else {}


class Inert:
    """Stands in for an object of any class that a pickle names: keeps what the pickle says of it, and does nothing.

    Its class is called as the pickled one was; its attributes are the pickled ones.
    """

    def __new__(cls, *_: object, **__: object) -> Inert:
        """Whatever the class was called with."""
        return super().__new__(cls)

    def __init__(self, *_: object, **__: object) -> None: ...

    def __call__(self, *_: object) -> Inert:
        """Itself: some pickles call what a class or function gave them."""
        return self

    def __setstate__(self, state: object) -> None:
        self.__dict__.update({str(key): value for key, value in as_dict(state).items()})

    def __setitem__(self, _: object, __: object) -> None: ...

    def append(self, _: object) -> None:
        """Nothing: an item of a pickled kind of list."""


class InertDict(dict[Any, Any]):
    """Stands in for an OrderedDict: its items, without the attributes that a pickle may give it."""

    def __setstate__(self, _: object) -> None: ...


def read_inert(path: Path) -> dict[Any, Any]:
    """What torch.save wrote, a dictionary, as plain data and tensors; all other objects are Inert.

    Not torch.load(weights_only=True), which refuses a file for any object that is neither. Raises ArtifactError for a
    file that is missing, damaged, or no dictionary.
    """
    if not path.is_file():
        raise ArtifactError(f"{path}: no such file; expected a Lightning checkpoint (.ckpt)")
    try:
        with zipfile.ZipFile(path) as archive:
            check_archive(archive, path)
            content = _InertUnpickler(archive).load()
    except ArtifactError:
        raise
    except Exception as error:  # a damaged or forged pickle raises whatever its bytes happen to ask for
        reason = str(error).partition("\n")[0]
        raise ArtifactError(f"{path}: damaged, or no PyTorch checkpoint ({reason}); copy it again") from None
    if not isinstance(content, dict):
        raise ArtifactError(f"{path}: holds a {type(content).__name__}; expected a Lightning checkpoint (.ckpt)")
    return content


class _InertUnpickler(pickle.Unpickler):
    """Reads `NAME/data.pkl` of the zip that torch.save writes, and the tensors' bytes from `NAME/data/KEY`.

    The functions and classes that a pickle can reach are those that `find_class` returns: all of them are ours.
    """

    DTYPES: ClassVar = {
        "FloatStorage": torch.float32,
        "DoubleStorage": torch.float64,
        "HalfStorage": torch.float16,
        "BFloat16Storage": torch.bfloat16,
        "LongStorage": torch.int64,
        "IntStorage": torch.int32,
        "ByteStorage": torch.uint8,
        "BoolStorage": torch.bool,
    }

    def __init__(self, archive: zipfile.ZipFile) -> None:
        """A ValueError for a zip that torch.save did not write."""
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError("a zip file without data.pkl")
        super().__init__(io.BytesIO(archive.read(pickles[0])))
        self._archive = archive
        self._folder = pickles[0].removesuffix("data.pkl")
        self._storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401
        """Ours in place of any function or class that the pickle names; nothing is imported."""
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return self._tensor
        if (module, name) == ("collections", "OrderedDict"):
            return InertDict
        if module == "torch" and name in self.DTYPES:
            return self.DTYPES[name]
        return type(name, (Inert,), {})

    def persistent_load(self, reference: tuple[str, object, str, str, int]) -> Tensor | None:
        """A storage, as a flat tensor; None for an element type that no weights have."""
        _, dtype, key, _, _ = reference
        if not isinstance(dtype, torch.dtype):
            return None
        if key not in self._storages:
            data = bytearray(self._archive.read(f"{self._folder}data/{key}"))
            self._storages[key] = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
        return self._storages[key]

    def _tensor(
        self, storage: Tensor | None, offset: int, size: Sequence[int], stride: Sequence[int], *_: object
    ) -> Tensor | None:
        """A tensor on a storage; PyTorch refuses one that reaches beyond it."""
        return None if storage is None else storage.as_strided(size, stride, offset)
