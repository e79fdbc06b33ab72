"""The engine that a file is made for, and its precision. Every engine runs every file, its own files the fastest."""

from __future__ import annotations

from typing import Literal

Target = Literal["cpu", "openvino", "tensorrt"]
"""The engine that a file is made for. The graphs differ in this:

    cpu       ONNX Runtime. Quantises what is added to a shortcut too, or its integer sum is not used; sums over
              channels by a product with ones.
    openvino  Leaves the residual branch in float: sum and ReLU run inside the convolution, before anything is rounded.
    tensorrt  As openvino; quantised activations are int8 with zero point 0, conv1 stays float: it takes no others.
"""

TARGETS: tuple[Target, ...] = ("cpu", "openvino", "tensorrt")

PRECISIONS = ("fp32", "fp16", "bf16", "int8")
ANY_ENGINE_PRECISIONS = ("fp32", "fp16", "int8")
"""The precisions whose files every engine runs. A bf16 file runs in OpenVINO only."""
AUTO = "auto"
"""The fastest of them whose parity holds."""
