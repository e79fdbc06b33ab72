"""A line that has no model yet: cameras and dashboard run, so that one can be trained, and every part is a fault."""

from __future__ import annotations

from typing import NoReturn

import numpy as np
import numpy.typing as npt

from stfpm_runtime.artifact.spec import Spec
from stfpm_runtime.engines.base import BaseEngine
from stfpm_runtime.errors import EngineError

NO_MODEL = "there is no model yet; collect pictures of good parts and train one on the page Setup"
SIDE = 256
"""The side of the input of a first model, in pixels."""


class NoModelEngine(BaseEngine):
    """Stands for the model, and judges nothing."""

    def __init__(self, product: str) -> None:
        spec = Spec(
            name=product, height=SIDE, width=SIDE, backbone="none", blocks=(2,), teacher="none", teacher_sha256="",
            threshold=1.0, threshold_set_by=NO_MODEL,
        )  # fmt: skip
        super().__init__(spec, "no model")

    def _run(self, images: npt.NDArray[np.uint8]) -> NoReturn:
        raise EngineError(NO_MODEL)
