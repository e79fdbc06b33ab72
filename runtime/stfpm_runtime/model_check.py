"""Decide whether a model may judge parts: one check for the start of a line, a swap, a shadow and a folder of files.

A model is accepted when its spec makes sense, its parity report has no failures, it repeats its golden results in the
engine that will run it, and it is the product, the file and the input size that were asked for. What it is able to do
is another question, see `ability`.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .artifact.golden import golden_path, load_golden
from .artifact.parity import require_parity
from .artifact.spec import Spec
from .detector import Detector
from .engines.base import Engine
from .engines.tensorrt.sidecar import Plan
from .errors import ArtifactError, EngineError, OptionError
from .files import sha256
from .options import THRESHOLD_BOUNDS

LOG = logging.getLogger("stfpm.model")
OpenEngine = Callable[[Path], Engine]


@dataclass(frozen=True)
class ThresholdBounds:
    """The thresholds that may be set, both ends included."""

    lowest: float
    highest: float

    def check(self, threshold: float, where: str = "") -> None:
        """Raise OptionError unless the threshold is a finite number within the bounds; `where` begins the message."""
        if not self.lowest <= threshold <= self.highest:
            raise OptionError(
                f"{where}{': ' if where else ''}got a threshold of {threshold:.6g}; expected {self.lowest:.6g} to "
                f"{self.highest:.6g}; the key threshold_bounds of the configuration sets how far it may be from the "
                "model's own"
            )


@dataclass(frozen=True)
class ModelRules:
    """The rules of one line or command for a model, in addition to those for every model."""

    product: str = ""
    """The name in the model's spec; empty: any."""
    sha256: str = ""
    """The SHA-256 of the model file, 64 hexadecimal digits; empty: any."""
    allow_missing_golden: bool = False
    """Whether a model without its golden file is accepted: its results are then not verified on this machine."""
    threshold_bounds: tuple[float, float] = THRESHOLD_BOUNDS
    """The lowest and the highest threshold that may be set, as multiples of the model's own."""
    thresholds: tuple[tuple[str, float], ...] = ()
    """Configured thresholds, each with its place in words."""
    pictures: tuple[int, int, int | None] | None = None
    """Width and height of the input and the pictures' bits, see `Spec`; None: any."""
    batch: int = 1
    """Images in one run of the engine, at most: it is tried with one, and with so many."""

    def bounds(self, detector: Detector) -> ThresholdBounds:
        """Return the bounds for a model; one without a threshold of its own is measured by the configured one."""
        own = detector.engine.spec.threshold
        own = detector.threshold if own is None else own
        return ThresholdBounds(self.threshold_bounds[0] * own, self.threshold_bounds[1] * own)


@dataclass(frozen=True, eq=False)
class Model:
    """A model file that is open."""

    path: Path
    sha256: str
    engine: Engine
    detector: Detector

    @property
    def spec(self) -> Spec:
        """Return the spec that the file carries."""
        return self.engine.spec

    def describe(self) -> str:
        """Return file, product, precision, engine and the SHA-256's beginning in one line."""
        spec = self.spec
        return f"{self.path.name} ({spec.name}, {spec.precision}, {self.engine.provider}, {self.sha256[:12]})"


def load_checked(path: Path, open_engine: OpenEngine, rules: ModelRules, threshold: float | None = None) -> Model:
    """Open a model, check it and run it once, so that it is ready to judge; `threshold` replaces its own.

    Raises StfpmError, and closes the engine, where the model may not judge.
    """
    digest = _digest(path)
    if rules.sha256 and digest not in ("", rules.sha256):
        raise ArtifactError(
            f"{path}: its SHA-256 is {digest[:12]}…; expected {rules.sha256[:12]}…, the file that the configuration or "
            "the journal names"
        )
    engine = open_engine(path)
    try:
        model = Model(path, digest, engine, Detector(engine, threshold))
        check_model(model, rules)
    except BaseException:
        engine.close()
        raise
    return model


def check_model(model: Model, rules: ModelRules) -> None:
    """Raise StfpmError unless the model may judge parts; its engine has run by then."""
    check_spec(model.spec, rules, model.path.name)
    _check_can_reject(model.detector.threshold, model.spec, model.path.name)
    bounds = rules.bounds(model.detector)
    for place, threshold in rules.thresholds:
        bounds.check(threshold, place)
    check_golden(model, rules.allow_missing_golden)
    for images in sorted({1, rules.batch}):
        _run_once(model, images)


def check_spec(spec: Spec, rules: ModelRules, name: str) -> None:
    """Raise ArtifactError unless the spec is the one asked for and its figures make sense; `name` is the file's."""
    if rules.product and spec.name != rules.product:
        raise ArtifactError(f"{name}: is for the product {spec.name!r}; expected one for {rules.product!r}")
    found = spec.width, spec.height, spec.bits
    if rules.pictures not in (None, found):
        got, expected = ("{}x{}, bits: {}".format(*one) for one in (found, rules.pictures or ()))
        raise ArtifactError(f"{name}: takes pictures of {got}; expected {expected}, as the model in use")
    parity = spec.parity
    if not parity:
        raise ArtifactError(f"{name}: carries no parity report; expected a file that stfpm-export wrote")
    if failures := parity.get("failures"):
        first = failures[0] if isinstance(failures, list | tuple) else failures
        raise ArtifactError(f"{name}: its parity with PyTorch has failed ({first}); export it again")
    for key in ("map_max_error", "pytorch_threshold"):
        value = parity.get(key)
        if value is not None and not (isinstance(value, int | float) and 0 <= value < math.inf):
            raise ArtifactError(f"{name}: its parity report has {key} = {value!r}; expected a finite number")
    _check_threshold(spec, rules.threshold_bounds[1], name)


def check_golden(model: Model, allow_missing: bool = False) -> None:
    """Raise StfpmError unless the model repeats its golden results on this machine, in its engine.

    With `allow_missing` a model without a golden file is accepted; a damaged one, or another model's, never is.
    """
    name, path = model.path.name, golden_path(model.path)
    if not path.exists():
        if not allow_missing:
            raise ArtifactError(
                f"{path}: no such file; expected it next to {name}, from stfpm-export: copy it here, or accept with "
                "allow_missing_golden (as an option or a key) that the results are not verified on this machine"
            )
        LOG.warning("%s: no such file, so the results of %s are not verified on this machine", path, name)
        return
    golden = load_golden(path)
    plan = getattr(model.engine, "plan", None)
    if golden.sha256 != (plan.onnx_sha256 if isinstance(plan, Plan) else model.sha256):
        raise ArtifactError(
            f"{path}: belongs to another model than {name}, or {name} was changed since its export; "
            "bring both from one export"
        )
    require_parity(model.engine.infer, golden, model.spec, name, "export it again")


def _check_threshold(spec: Spec, highest: float, name: str) -> None:
    """Raise ArtifactError unless the model's own threshold can reject parts and agrees with its held-out scores."""
    threshold, scores, rate = spec.threshold, spec.held_out_scores, spec.false_alarm_rate
    if threshold is None:
        return
    _check_can_reject(threshold, spec, name)
    if not scores:
        return
    most = max(scores) * (highest if rate is None else 1 + 1e-6)
    above = 1 + sum(score > threshold for score in scores)
    if threshold > most or (rate is not None and above / (len(scores) + 1) > rate + 1e-6):
        raise ArtifactError(
            f"{name}: its threshold of {threshold:.6g} does not follow from its {len(scores)} held-out scores of "
            f"{min(scores):.6g} to {max(scores):.6g}; calibrate it again"
        )


def _check_can_reject(threshold: float, spec: Spec, name: str) -> None:
    """Raise ArtifactError for a threshold that no score can exceed.

    A block's map is half a squared distance of unit vectors, at most 2, and the anomaly map is the product of all.
    """
    limit = 2.0 ** len(spec.blocks)
    if not 0 <= threshold < limit:
        raise ArtifactError(
            f"{name}: got a threshold of {threshold:.6g}; expected 0 or more, and below {limit:g}, "
            "which no score of this model exceeds"
        )


def _run_once(model: Model, images: int) -> None:
    """Run the engine on black images; what it prepares for this number of images is then done. Raises StfpmError."""
    maps, scores = model.engine.infer(np.zeros((images, *model.spec.input_shape), np.uint8))
    if maps.shape != (images, model.spec.height, model.spec.width) or scores.shape != (images,):
        raise EngineError(
            f"{model.path.name}: gives maps {list(maps.shape)} and scores {list(scores.shape)} for {images} images"
        )
    if not (np.isfinite(maps).all() and np.isfinite(scores).all()):
        raise EngineError(f"{model.path.name}: its results on a black image are not finite; export it again")


def _digest(path: Path) -> str:
    """Return the file's SHA-256; empty where there is none, of which `open_engine` says what is missing."""
    try:
        return sha256(path) if path.is_file() else ""
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror})") from None


def for_swap(rules: ModelRules, current: Spec) -> ModelRules:
    """Return the rules for a model that takes another's place: of the same product, input size and bits."""
    pictures = current.width, current.height, current.bits
    return dataclasses.replace(rules, product=rules.product or current.name, pictures=pictures)
