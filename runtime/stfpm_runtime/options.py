"""Values of options that commands, configuration and the code behind them share."""

from __future__ import annotations

from typing import Literal

DEVICES = ("auto", "cpu", "onnxruntime", "openvino", "cuda", "tensorrt")
"""What can execute a model, see `engines.open_engine`."""
MAX_MEGAPIXELS = 64.0
"""The largest picture that is decoded unless another limit is set, in millions of pixels."""
MIN_SIDE = 8
"""The shortest side of a picture of a part, in pixels."""
PART_LENGTH = 200
"""The longest part id, in characters."""
THRESHOLD_BOUNDS = (0.5, 2.0)
"""The lowest and the highest threshold that may be set, as multiples of the model's own."""
SaveOnly = Literal["all", "pass", "reject", "fault"]
"""The verdicts whose pictures are saved; `reject` means all that were not passed, faults included."""


def is_saved(save_only: SaveOnly, decision: str) -> bool:
    """Return whether pictures of a verdict with this decision are saved."""
    return save_only in ("all", decision) or (save_only == "reject" and decision != "pass")
