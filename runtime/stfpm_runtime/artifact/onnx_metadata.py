"""The Spec of an ONNX file without an ONNX library: a device that has TensorRT alone need not have one.

An ONNX file is a protocol buffer. Of its outermost message this module reads the metadata and skips the rest, also the
weights: field 14 of ModelProto is `metadata_props`, whose fields 1 and 2 are key and value
(https://github.com/onnx/onnx/blob/main/onnx/onnx.proto; wire format: https://protobuf.dev/programming-guides/encoding).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from stfpm_runtime.errors import ArtifactError

from .spec import METADATA_KEY, Spec

METADATA_PROPS = 14
KEY, VALUE = 1, 2
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5


def read_spec(path: Path) -> Spec:
    """Read the Spec of a model.onnx. Raises ArtifactError for a file that is missing, damaged or not one of ours."""
    try:
        data = memoryview(path.read_bytes())
    except FileNotFoundError:
        raise ArtifactError(f"{path}: no such file; expected a model.onnx that stfpm-export wrote") from None
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror}); expected a model.onnx") from None
    try:
        text = _metadata(data).get(METADATA_KEY)
    except (IndexError, ValueError):
        raise ArtifactError(f"{path}: damaged, or no ONNX file; export it again") from None
    if text is None:
        raise ArtifactError(
            f"{path}: an ONNX file that stfpm-export did not write; expected one that stfpm-export wrote"
        )
    return Spec.from_json(text, str(path))


def replace_spec(path: Path, spec: Spec) -> bytes:
    """Return the contents of a model.onnx that `read_spec` can read, with another Spec; all else stays as it is."""
    data = memoryview(path.read_bytes())
    key = METADATA_KEY.encode()
    kept = [
        data[start:end]
        for number, value, start, end in _spans(data)
        if number != METADATA_PROPS or value is None or bytes(dict(_fields(value)).get(KEY, b"")) != key
    ]
    entry = _field(KEY, key) + _field(VALUE, spec.to_json().encode())
    return b"".join([*kept, _field(METADATA_PROPS, entry)])


def _field(number: int, contents: bytes) -> bytes:
    """Return a field that has a length, with its tag."""
    return _packed(number << 3 | LENGTH) + _packed(len(contents)) + contents


def _packed(value: int) -> bytes:
    """Return a number of 0 or more as `_varint` reads it."""
    result = bytearray()
    while value > 0x7F:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*result, value])


def _metadata(model: memoryview) -> dict[str, str]:
    entries = [dict(_fields(value)) for number, value in _fields(model) if number == METADATA_PROPS]
    return {bytes(entry[KEY]).decode(): bytes(entry[VALUE]).decode() for entry in entries if {KEY, VALUE} <= set(entry)}


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield number and contents of a message's fields that have a length; the others are skipped."""
    for number, contents, _, _ in _spans(message):
        if contents is not None:
            yield number, contents


def _spans(message: memoryview) -> Iterator[tuple[int, memoryview | None, int, int]]:
    """Yield each field's number, its contents where it has a length, and where it starts and ends with its tag."""
    position = 0
    while position < len(message):
        start, contents = position, None
        tag, position = _varint(message, position)
        number, kind = tag >> 3, tag & 7
        if kind == VARINT:
            _, position = _varint(message, position)
        elif kind in (FIXED64, FIXED32):
            position += 8 if kind == FIXED64 else 4
        elif kind == LENGTH:
            length, position = _varint(message, position)
            if position + length > len(message):
                raise ValueError("cut off")
            contents = message[position : position + length]
            position += length
        else:
            raise ValueError(f"wire type {kind}")
        yield number, contents, start, position


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """Return a number of seven bits a byte, lowest first, and the position behind it."""
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, position
        if shift > 63:
            raise ValueError("a number without end")
