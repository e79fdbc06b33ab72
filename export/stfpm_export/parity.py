"""The proof: an exported file, run by the engine that will run it, against PyTorch on real images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from stfpm_edge.stfpm import Stfpm
from stfpm_runtime.engines import Engine
from stfpm_runtime.errors import ParityError
from stfpm_runtime.preprocessing import Image
from stfpm_runtime.spec import Spec

MAP_TOLERANCE = {"fp32": 1e-4}
"""The largest absolute error of an anomaly map that an export may have, by precision."""
THRESHOLD_SHARE = 0.01
"""... and no more than this share of the threshold: a model of small scores is held to more."""


@dataclass(frozen=True)
class Parity:
    """How far a file is from PyTorch on the same images. Errors are absolute, scores have no unit."""

    images: int
    map_max_error: float
    map_mean_error: float
    score_max_error: float
    score_max: float
    """The largest score among the images, to read the errors against."""
    verdict_flips: int
    """Images that PyTorch passes and the file rejects, or the other way round."""
    pytorch_threshold: float | None
    """The checkpoint's; the file's own is set from its own scores."""
    tolerance: float
    engine: str
    """What executed the file."""

    @property
    def holds(self) -> bool:
        """Whether the map's error is within the tolerance; not where it is not finite."""
        return self.map_max_error <= self.tolerance

    def to_dict(self) -> dict[str, Any]:
        """As it stands in the Spec."""
        return asdict(self)


def measure_parity(engine: Engine, model: Stfpm, images: Sequence[Image], threshold: float | None) -> Parity:
    """Run images uint8 [H, W, 3] through both, one by one, as a line does.

    `threshold` is the file's own; that of `engine.spec` is PyTorch's. None: no verdicts to compare.
    """
    spec = engine.spec
    assert images, "parity needs at least one image"
    map_errors, score_errors, scores, flips = [], [], [], 0
    before, after = (np.inf if value is None else value for value in (spec.threshold, threshold))
    for image in images:
        batch = image[np.newaxis]
        maps, own = engine.infer(batch)
        with torch.inference_mode():
            expected_maps, expected = (result.numpy() for result in model(torch.from_numpy(batch)))
        map_errors.append(np.abs(maps - expected_maps))
        score_errors.append(abs(float(own[0]) - float(expected[0])))
        scores.append(float(expected[0]))
        flips += (float(own[0]) > after) != (float(expected[0]) > before)
    return Parity(
        images=len(images),
        map_max_error=float(np.max(map_errors)),
        map_mean_error=float(np.mean(map_errors)),
        score_max_error=float(np.max(score_errors)),
        score_max=float(np.max(scores)),
        verdict_flips=int(flips),
        pytorch_threshold=spec.threshold,
        tolerance=_tolerance(spec),
        engine=f"ONNX Runtime, {engine.provider}",
    )


def _tolerance(spec: Spec) -> float:
    absolute = MAP_TOLERANCE[spec.precision]
    return min(absolute, THRESHOLD_SHARE * spec.threshold) if spec.threshold else absolute


def require_parity(parity: Parity, source: str) -> None:
    """Raise ParityError unless it holds."""
    if not parity.holds:
        raise ParityError(
            f"{source}: its anomaly map is {parity.map_max_error:.2g} away from PyTorch's on {parity.images} images; "
            f"expected at most {parity.tolerance:.1e}. No file was written; report this as a bug, with the checkpoint"
        )
