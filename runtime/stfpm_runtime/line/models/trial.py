"""The trial of a model: a process of its own loads and checks it before the line's process opens it.

A model whose engine hangs or crashes ends that process, and not the line. The process also measures what the model is
able to do, beside the active one. It gets its task as JSON on stdin and answers with a line of JSON on stdout; it runs
at a lower priority than the line.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stfpm_runtime.ability import Expected, measure_ability
from stfpm_runtime.detector import Detector
from stfpm_runtime.engines import open_engine
from stfpm_runtime.errors import ArtifactError, ImageError, StfpmError
from stfpm_runtime.imaging.images import read_image
from stfpm_runtime.imaging.preprocessing import Image
from stfpm_runtime.lifecycle import child_environment, lower_priority
from stfpm_runtime.model_check import ModelRules, load_checked

ANSWER_S = 60.0
"""The longest time to load and check a model, in seconds."""
BUILD_S = 1800.0
"""The same, in seconds, where TensorRT within ONNX Runtime builds an engine for the model first."""
PICTURE_S = 1.0
"""The longest time to judge one picture with two models, in seconds."""
KILLED_S = 5.0
"""The longest wait for the end of a killed process, in seconds; one that hangs in a driver may not end."""
MARK = "stfpm-model-check: "
"""The beginning of the line with the answer: an engine may print lines of its own."""
COMMAND = "from stfpm_runtime.line.models.trial import main; main()"


@dataclass(frozen=True)
class KnownPicture:
    """A picture that the trial judges."""

    path: str
    expected: Expected
    must_be_read: bool
    """True: the model is refused where this picture cannot be read. False: such a picture is left out."""


@dataclass(frozen=True)
class Trial:
    """What a trial found."""

    sha256: str
    ability: dict[str, Any] | None
    """`Ability.to_dict`; None where no pictures were given."""

    @property
    def failures(self) -> list[str]:
        """Return in words what the model is not able to do."""
        return list(self.ability["failures"]) if self.ability else []


def answer_s(path: Path, device: str, pictures: int = 0) -> float:
    """Return the seconds that a model may take to load on that device, and to judge so many pictures."""
    load_s = BUILD_S if device == "tensorrt" and path.suffix.lower() == ".onnx" else ANSWER_S
    return load_s + PICTURE_S * pictures


def try_model(
    path: Path,
    device: str,
    threads: int | None,
    rules: ModelRules,
    threshold: float | None,
    pictures: Sequence[KnownPicture] = (),
    against: tuple[Path, str] | None = None,
) -> Trial:
    """Check a model in a process of its own; `against` is the active model's file with its SHA-256.

    Raises ArtifactError where it is refused, does not answer in time, or ends the process. What it is not able to do
    is no error here.
    """
    timeout_s = answer_s(path, device, len(pictures))
    task = {
        "path": str(path.absolute()), "device": device, "threads": threads, "rules": dataclasses.asdict(rules),
        "threshold": threshold, "timeout_s": timeout_s, "pictures": [dataclasses.astuple(one) for one in pictures],
        "against": against and [str(against[0]), against[1]],
    }  # fmt: skip
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", COMMAND],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, errors="replace", env=child_environment(),
        )  # fmt: skip
    except OSError as error:
        reason = f"a process to check it in cannot be started ({error.strerror}); look for free memory"
        raise ArtifactError(f"{path.name}: {reason}") from None
    try:
        output, _ = process.communicate(json.dumps(task), timeout_s)
    except subprocess.TimeoutExpired:
        raise ArtifactError(f"{path.name}: did not load and answer within {timeout_s:.0f} s; export it again") from None
    finally:
        _end(process)
    return Trial(**_answer(output, process.returncode, path.name))


def main() -> None:
    """Check the model that stdin names, and print the answer."""
    task = json.load(sys.stdin)
    signal.alarm(int(task["timeout_s"]) + 1)  # ends this process also where the line is no longer there to do it
    lower_priority()
    rules: dict[str, Any] = {key: _tuples(value) for key, value in task["rules"].items()}
    try:
        model = load_checked(
            Path(task["path"]),
            lambda path: open_engine(path, task["device"], task["threads"]),
            ModelRules(**rules),
            task["threshold"],
        )
        pictures = [KnownPicture(*values) for values in task["pictures"]]
        old = _active_detector(task) if pictures else None
        ability = measure_ability(model.detector, old, _read(pictures, model.spec.bits)).to_dict() if pictures else None
        answer = {"sha256": model.sha256, "ability": ability}
    except StfpmError as error:
        answer = {"refused": str(error)}
    print(f"\n{MARK}{json.dumps(answer)}", flush=True)
    os._exit(0)  # the answer is given; an engine that crashes while it is closed does not change it


def _active_detector(task: dict[str, Any]) -> Detector | None:
    """Return the active model; None where its file is no longer the one that is in use."""
    if task["against"] is None:
        return None
    path, digest = Path(task["against"][0]), task["against"][1]
    try:
        rules = ModelRules(sha256=digest, allow_missing_golden=True)
        return load_checked(path, lambda file: open_engine(file, task["device"], task["threads"]), rules,
                            task["threshold"]).detector  # fmt: skip
    except (StfpmError, OSError) as error:
        print(f"the new model is compared with no other: {error}", file=sys.stderr)
        return None


def _read(pictures: Sequence[KnownPicture], bits: int | None) -> Iterator[tuple[str, Image, Expected]]:
    for one in pictures:
        try:
            yield Path(one.path).name, read_image(Path(one.path), bits=bits), one.expected
        except ImageError:
            if one.must_be_read:
                raise


def _answer(output: str, returncode: int | None, name: str) -> dict[str, Any]:
    """Return what the process printed. Raises ArtifactError for a refusal, or where it printed nothing."""
    lines = [line for line in output.splitlines() if line.startswith(MARK)]
    if not lines:
        how = f"signal {-returncode}" if returncode is not None and returncode < 0 else f"status {returncode}"
        raise ArtifactError(f"{name}: the process that loaded it ended with {how}; export it again")
    answer: dict[str, Any] = json.loads(lines[-1].removeprefix(MARK))
    if "refused" in answer:
        raise ArtifactError(answer["refused"])
    return answer


def _end(process: subprocess.Popen[str]) -> None:
    """Kill the process if it still runs, and close its pipes."""
    process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(KILLED_S)
    for pipe in (process.stdin, process.stdout):
        if pipe:
            with contextlib.suppress(OSError):
                pipe.close()


def _tuples(value: object) -> object:
    """Return JSON's lists as the tuples that they were."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
