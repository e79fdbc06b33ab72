"""The Spec: the description that a model file carries, as JSON under the metadata key `stfpm`.

A checkpoint (.safetensors) and an exported graph (.onnx) carry the same Spec: from one file alone it is known
what input it takes, where its threshold comes from, and what it was trained on.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Any

from stfpm_runtime.errors import ArtifactError
from stfpm_runtime.imaging.preprocessing import RESIZE

METADATA_KEY = "stfpm"
SCHEMA = 4
"""Version of the JSON. A reader refuses a higher one by name. Version 2 added `bits`, 3 the recipe and the score,
4 `pairs_fit_int16`."""


@dataclass(frozen=True)
class Spec:
    """Everything about a model but its weights.

    Scores have no unit: a score is taken from the anomaly map, is at least 0, and higher for more anomalous.
    """

    name: str
    """The product's name, say `bottle`."""
    height: int
    """Height of the graph's input and of the anomaly map, in pixels."""
    width: int
    backbone: str
    """`resnet18`, `resnet18_half` or another name of `stfpm-train --backbone`."""
    blocks: tuple[int, ...]
    """The pyramid: which of the paper's blocks conv2_x to conv5_x are compared."""
    teacher: str
    """The teacher's origin: `imagenet`, or the file's name."""
    teacher_sha256: str
    """SHA-256 of the teacher's weights as stored in the checkpoint (see `stfpm_edge.teacher.fingerprint`)."""
    channel_order: str = "BGR"
    """Channel order of the uint8 input: `BGR`, as OpenCV and cameras give it, or `RGB`."""
    bits: int | None = None
    """Bits that the values of the 16-bit pictures used that it was trained on, 9 to 16; None: not declared."""
    resize: str = RESIZE
    """The resize that the student was trained with."""
    precision: str = "fp32"
    """Precision of the backbones' arithmetic; the head is always float32."""
    target: str = "cpu"
    """Which engine the graph was written for: `cpu` (ONNX Runtime), `openvino` or `tensorrt`. All can run it."""
    pairs_fit_int16: bool = False
    """In an int8 file: no sum of two products of a uint8 activation and an int8 weight exceeds 16 bits.

    x86 CPUs without VNNI clip such sums to 16 bits in their fastest int8 products, so that these are exact then.
    """
    batch: int | None = None
    """Number of frames that the graph takes at a time; None is any number."""
    recipe: str = "paper"
    """The recipe that it was trained by, see `stfpm_edge.recipes`."""
    blur: float = 0.0
    """Standard deviation of the Gaussian that blurs each block's map, as a share of the map's long side."""
    top_share: float | None = None
    """The score is the mean of the map's highest values, this share of them; None: its maximum, as in the paper.

    It is taken of the map's means over squares of 4 x 4 pixels.
    """
    score_scale: float = 1.0
    """The score is multiplied by it: the threshold of the score then serves the map's pixels as well."""
    min_area: int = 1
    """The score is the highest level that a connected region of so many pixels of the map reaches.

    For more than 1 the engines compute it from the map, instead of the graph's score; see `artifact.min_area`.
    """
    threshold: float | None = None
    """A score above it is a reject. None: never calibrated, and nothing can be judged."""
    threshold_set_by: str = ""
    """The origin of the threshold, in words."""
    false_alarm_rate: float | None = None
    """The guaranteed share of good parts that score above the threshold, 0 to 1; None where the threshold was given.

    From folds it is the expected share, and no theorem guarantees it.
    """
    held_out_scores: tuple[float, ...] = ()
    """Scores of the good images that training did not see; thresholds and p-values come from them."""
    folds: int = 0
    """The number of further students whose scores of images the held-out scores are; 0: the model's own scores.

    See `stfpm_edge.calibration.folds`.
    """
    training: dict[str, Any] = field(default_factory=dict)
    """Provenance: options, seed, images, versions, epochs, losses."""
    parity: dict[str, Any] = field(default_factory=dict)
    """The export's report of parity with PyTorch; empty in a checkpoint."""

    def __post_init__(self) -> None:
        for name in ("name", "backbone", "teacher", "teacher_sha256", "channel_order", "resize", "precision",
                     "target", "recipe"):  # fmt: skip
            _expect(isinstance(getattr(self, name), str), name, getattr(self, name), "a text")
        for name in ("height", "width"):
            value = getattr(self, name)
            _expect(_is_integer(value) and value > 0, name, value, "a whole number of pixels above 0")
        _expect(
            isinstance(self.blocks, tuple)
            and all(_is_integer(block) and 2 <= block <= 5 for block in self.blocks)
            and list(self.blocks) == sorted(set(self.blocks)) != [],
            "blocks", self.blocks, "one or more of 2, 3, 4, 5, rising",
        )  # fmt: skip
        _expect(self.channel_order in ("BGR", "RGB"), "channel_order", self.channel_order, "BGR or RGB")
        _expect(
            self.top_share is None or (_is_finite(self.top_share) and 0 < self.top_share <= 1),
            "top_share", self.top_share, "above 0 and up to 1, or null",
        )  # fmt: skip
        _expect(_is_finite(self.blur) and 0 <= self.blur < 1, "blur", self.blur, "0 to below 1")
        _expect(_is_integer(self.folds) and self.folds >= 0, "folds", self.folds, "a whole number, 0 or more")
        _expect(_is_integer(self.min_area) and self.min_area >= 1, "min_area", self.min_area, "1 pixel or more")
        _expect(_is_finite(self.score_scale) and self.score_scale > 0, "score_scale", self.score_scale, "above 0")
        if self.threshold is not None:
            _expect(_is_finite(self.threshold), "threshold", self.threshold, "a finite number or null")
        _expect(
            isinstance(self.held_out_scores, tuple) and all(map(_is_finite, self.held_out_scores)),
            "held_out_scores", self.held_out_scores, "finite numbers",
        )  # fmt: skip
        _expect(
            self.batch is None or (_is_integer(self.batch) and self.batch > 0),
            "batch",
            self.batch,
            "1 or more, or null",
        )
        _expect(
            self.bits is None or (_is_integer(self.bits) and 9 <= self.bits <= 16),
            "bits", self.bits, "9 to 16, or null",
        )  # fmt: skip
        _expect(isinstance(self.pairs_fit_int16, bool), "pairs_fit_int16", self.pairs_fit_int16, "true or false")
        for name in ("training", "parity"):
            _expect(isinstance(getattr(self, name), dict), name, getattr(self, name), "an object")

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Return (height, width, 3): the shape of one image of the graph's uint8 input [N, height, width, 3]."""
        return self.height, self.width, 3

    @property
    def grey_levels(self) -> tuple[float, float] | None:
        """Return mean and standard deviation of the training pictures' grey levels, 0 to 255; None where not known."""
        levels = self.training.get("grey_levels")
        if not isinstance(levels, list) or len(levels) != 2 or not all(map(_is_finite, levels)):
            return None
        return float(levels[0]), float(levels[1])

    def to_json(self) -> str:
        """Return the spec as JSON, with its schema version."""
        return json.dumps({"schema": SCHEMA, **dataclasses.asdict(self)}, allow_nan=False)

    @classmethod
    def from_json(cls, text: str, source: str) -> Spec:
        """Read what `to_json` wrote; `source`, a file's name, begins the ArtifactError of one that cannot be used."""
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise ArtifactError(f"{source}: its metadata is not JSON ({error}); export the model again") from None
        if not isinstance(data, dict) or not _is_integer(data.get("schema")):
            raise ArtifactError(f"{source}: its metadata names no schema version; export the model again")
        schema = data.pop("schema")
        if schema > SCHEMA:
            raise ArtifactError(
                f"{source}: its metadata has schema {schema}, this stfpm-edge reads up to {SCHEMA}; "
                "upgrade it with: pip install -U stfpm-edge"
            )
        known = {item.name for item in dataclasses.fields(cls)}
        if unknown := sorted(set(data) - known):
            raise ArtifactError(f"{source}: its metadata has unknown keys {unknown}; export the model again")
        data = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
        try:
            return cls(**data)
        except (TypeError, ValueError, OverflowError) as error:  # TypeError: a required key is missing
            raise ArtifactError(f"{source}: its metadata is damaged ({error}); export the model again") from None


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_finite(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _expect(condition: bool, name: str, value: object, expected: str) -> None:
    if not condition:
        raise ValueError(f"{name} is {value!r}, expected {expected}")
