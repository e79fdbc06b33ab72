"""What a finished plan really computes in: TensorRT's engine inspector held against what was asked for.

A builder that was asked for float16 has been seen to build float32 without a word; such a plan is a failed build.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

TYPES = {"fp32": r"FP32|TF32|Float(?!\d)", "fp16": r"FP16|Half", "bf16": r"BF16|BFloat16", "int8": r"INT8"}
"""What the inspector of TensorRT 8 to 11 calls the types, in formats such as `Row major linear FP16 format`."""
WANTED = {"fp32": ("fp32",), "fp16": ("fp16",), "int8": ("int8",)}
LEAST_SHARE = {"fp32": 1.0, "fp16": 0.9, "int8": 0.75}
"""Of the convolutions: an int8 graph leaves the first one, and shortcuts at the builder's choice, in float."""


def convolution_types(inspection: str) -> dict[str, int]:
    """How many convolutions read their input in which type, from the inspector's JSON; empty where it does not tell.

    A plan that was not built with detailed profiling lists names only.
    """
    try:
        layers = json.loads(inspection)["Layers"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return {}
    counts = Counter(kind for layer in layers if _is_convolution(layer) for kind in _input_type(layer))
    return dict(sorted(counts.items()))


def audit(types: dict[str, int], precision: str) -> str:
    """Why a plan is not of the precision that was asked for; empty where it is, or where nothing is known."""
    total = sum(types.values())
    if not total:
        return ""
    right = sum(types.get(name, 0) for name in WANTED[precision])
    if right >= LEAST_SHARE[precision] * total:
        return ""
    found = ", ".join(f"{count} in {name}" for name, count in types.items())
    return f"{precision} was asked for, but of {total} convolutions it runs {found}"


def _is_convolution(layer: object) -> bool:
    if not isinstance(layer, dict):
        return False
    kinds = f"{layer.get('LayerType', '')} {layer.get('ParameterType', '')}"
    return "conv" in kinds.lower() and "reformat" not in kinds.lower()


def _input_type(layer: dict[str, Any]) -> Iterator[str]:
    """The type of the first input, if it is one that we know."""
    for tensor in layer.get("Inputs", [])[:1]:
        text = " ".join(str(tensor.get(key, "")) for key in ("Format/Datatype", "Datatype", "Format"))
        for name, pattern in TYPES.items():
            if re.search(rf"\b(?:{pattern})\b", text, re.IGNORECASE):
                yield name
                return
