"""The model that rules a line, and its successor: loaded and tried beside it, and then put in its place.

A successor has to be of the same product and input size, to carry a parity certificate that holds, and to repeat its
golden results on this machine. Whoever asks loads it, in a thread of their own; the loop takes it over between two
frames, so that no frame is lost, and none judged by half of each.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..detector import Detector
from ..engines import Engine
from ..errors import ArtifactError, OptionError, StfpmError
from ..files import sha256
from ..golden import compare_with_golden, golden_path, load_golden
from ..plans.parity import limit_of, verdict_flips
from ..spec import Spec
from .decision import Decider
from .inspector import Inspector
from .thresholds import Thresholds

LOG = logging.getLogger("stfpm.model")
TAKE_OVER_S = 30.0
"""Within which the loop has to take a successor over."""

OpenEngine = Callable[[Path], Engine]
Remark = Callable[[str, str], None]


@dataclass(frozen=True, eq=False)
class Model:
    """A model in use."""

    path: Path
    sha256: str
    engine: Engine
    detector: Detector

    @property
    def spec(self) -> Spec:
        """What the file says of itself."""
        return self.engine.spec

    def describe(self) -> str:
        """In a few words."""
        spec = self.spec
        return f"{self.path.name} ({spec.name}, {spec.precision}, {self.engine.provider}, {self.sha256[:12]})"


class Ruling:
    """What judges, at this moment. The loop's thread alone changes it; all of it may be read from any."""

    def __init__(self, model: Model, batch: int, thresholds: Thresholds) -> None:
        self.thresholds = thresholds
        self._batch = batch
        self._use(model)

    def swap(self, model: Model) -> int:
        """Let another model rule; returns how many places the operator's threshold no longer holds for."""
        assert model.detector.threshold is not None, "a detector has one"
        gone = self.thresholds.use_model(model.detector.threshold)
        self._use(model)
        return gone

    def _use(self, model: Model) -> None:
        self.model = model
        self.inspector = Inspector(model.detector, self._batch, self.thresholds.of)
        self.decider = Decider(model.spec.held_out_scores)


def load(path: Path, open_engine: OpenEngine) -> Model:
    """A model that is ready to judge. Raises StfpmError."""
    engine = open_engine(path)
    try:
        return Model(path, sha256(path), engine, Detector(engine))
    except OSError as error:
        engine.close()
        raise ArtifactError(f"{path}: cannot be read ({error.strerror})") from None
    except BaseException:
        engine.close()
        raise


def check_successor(model: Model, ruling: Spec) -> None:
    """Raise StfpmError unless the model may take the place of the one that rules."""
    spec, name = model.spec, model.path.name
    if spec.name != ruling.name:
        raise ArtifactError(f"{name}: is for the product {spec.name!r}; expected one for {ruling.name!r}")
    if spec.input_shape != ruling.input_shape:
        got, expected = (f"{shape[1]}x{shape[0]}" for shape in (spec.input_shape, ruling.input_shape))
        raise ArtifactError(f"{name}: takes pictures of {got}; expected {expected}, as the model that rules")
    if not spec.parity:
        raise ArtifactError(f"{name}: carries no parity certificate; expected a file that stfpm-export wrote")
    if failures := spec.parity.get("failures"):
        raise ArtifactError(f"{name}: its parity certificate does not hold ({failures[0]}); export it again")
    check_golden(model)


def check_golden(model: Model) -> None:
    """Raise StfpmError unless the model repeats its golden results on this machine."""
    name = model.path.name
    golden = load_golden(golden_path(model.path))
    if model.path.suffix.lower() == ".onnx" and golden.sha256 != model.sha256:
        raise ArtifactError(f"{golden_path(model.path)}: belongs to another model than {name}; bring both along")
    result = compare_with_golden(model.engine, golden)
    limit = limit_of(model.spec)
    if not math.isfinite(result.map_max_error) or result.map_max_error > limit:
        raise ArtifactError(
            f"{name}: on the golden images its map is {result.map_max_error:.2g} away from PyTorch's, expected at most "
            f"{limit:.1e}; export it again"
        )
    if flips := verdict_flips(model.engine, golden, model.spec):
        raise ArtifactError(f"{name}: {flips} verdicts on golden images are not PyTorch's; export it again")


class Succession:
    """Changes the model of a running line. `succeed` may be called from any thread but the loop's."""

    def __init__(self, ruling: Ruling, open_engine: OpenEngine, remark: Remark) -> None:
        self._ruling = ruling
        self._open_engine = open_engine
        self._remark = remark
        self._busy = threading.Lock()
        self._handing_over = threading.Lock()
        """Held while the successor is put up, taken, or withdrawn: nobody takes what is being withdrawn."""
        self._successor: Model | None = None
        self._who = ""
        self._taken = threading.Event()

    def candidates(self) -> list[str]:
        """Files that lie beside the model and could be models."""
        folder = self._ruling.model.path.parent
        return sorted(path.name for path in folder.iterdir() if path.suffix.lower() in (".onnx", ".engine"))

    def beside(self, name: str) -> Path:
        """The model file of that name, in the folder of the one that rules. Raises OptionError for any other."""
        if name not in self.candidates():
            raise OptionError(f"got model {name[:80]!r}; expected one that lies beside {self._ruling.model.path.name}")
        return self._ruling.model.path.with_name(name)

    def succeed(self, path: Path, who: str) -> Model:
        """Load, check, and let it rule; what ruled before is closed. Raises StfpmError, and nothing has changed."""
        if not self._busy.acquire(blocking=False):
            raise OptionError("another model is being loaded; wait until it has been")
        try:
            return self._succeed(path, who)
        except StfpmError as error:
            LOG.error("the model stays: %s", error)
            self._remark("model", f"refused, by {who}: {error}")
            raise
        finally:
            self._busy.release()

    def take_over(self) -> Model | None:
        """Let the successor rule, if there is one; for the loop, between two frames."""
        if self._successor is None:
            return None
        with self._handing_over:
            model, before = self._successor, self._ruling.model
            if model is None:
                return None
            gone = self._ruling.swap(model)
            self._successor = None
        note = f"; the operator's threshold of {gone} places is gone with it" if gone else ""
        self._remark("model", f"{before.describe()} -> {model.describe()}, by {self._who}{note}")
        self._taken.set()
        return model

    def _succeed(self, path: Path, who: str) -> Model:
        model, before = load(path, self._open_engine), self._ruling.model
        try:
            check_successor(model, before.spec)
            self._taken.clear()
            self._who, self._successor = who, model  # in this order: the loop looks at the second
            if not self._taken.wait(TAKE_OVER_S):
                with self._handing_over:
                    self._successor = None
                if self._ruling.model is not model:
                    raise ArtifactError(f"{path.name}: the line did not take it over within {TAKE_OVER_S:.0f} s")
        except BaseException:
            model.engine.close()
            raise
        with contextlib.suppress(StfpmError):  # it is not needed any more
            before.engine.close()
        LOG.warning("%s rules now", model.describe())
        return model


def fields_of(model: Model) -> dict[str, object]:
    """The model as the API tells of it."""
    spec = model.spec
    keys = ("name", "precision", "backbone", "threshold", "height", "width", "false_alarm_rate")
    return {
        "file": model.path.name,
        "sha256": model.sha256,
        "provider": model.engine.provider,
        **{key: value for key, value in dataclasses.asdict(spec).items() if key in keys},
    }
