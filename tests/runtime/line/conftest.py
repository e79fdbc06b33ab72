"""A line whose every verdict is known: FakeEngine's map is the blue channel, the threshold is 0.5."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from stfpm_runtime.engines.fake import FakeEngine, first_channel
from stfpm_runtime.line.config.camera import CameraOptions
from stfpm_runtime.line.config.line import LineOptions
from stfpm_runtime.line.config.storage import JournalOptions
from stfpm_runtime.line.journal.reader import JournalReader, Period
from stfpm_runtime.line.journal.rows import EventRow, VerdictRow, to_record
from stfpm_runtime.line.journal.threshold_changes import result_of
from stfpm_runtime.line.loop import Line, run
from stfpm_runtime.line.models.active_model import load_recipe, no_model, recipe_at_start
from stfpm_runtime.line.service import open_line
from stfpm_runtime.sources.fake import FakeCamera


def wait_until(condition: Callable[[], object], timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.005)


@dataclass
class Journalled:
    """The contents of a journal."""

    path: Path

    def rows(self) -> list[VerdictRow]:
        with contextlib.closing(JournalReader(self.path)) as reader:
            return list(reader.rows(Period()))

    def events(self) -> list[EventRow]:
        with contextlib.closing(JournalReader(self.path)) as reader:
            return list(reader.events(Period()))

    def sent(self) -> list[dict]:
        """The verdicts as outputs send them, without their age."""
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            hashes = dict(connection.execute("SELECT seq, lower(hex(hash)) FROM verdicts"))
        return [{**to_record(row, self.id), "hash": hashes[row.seq]} for row in self.rows()]

    @property
    def decisions(self) -> list[str]:
        return [verdict.decision for verdict in self.rows()]

    @property
    def id(self) -> str:
        with contextlib.closing(JournalReader(self.path)) as reader:
            return reader.id


@dataclass
class Running:
    """A line that runs in a thread."""

    line: Line
    engine: FakeEngine
    cameras: dict[str, FakeCamera]
    journal: Journalled
    stop: threading.Event
    thread: threading.Thread
    errors: list[BaseException] = field(default_factory=list)

    def finish(self) -> list[VerdictRow]:
        """Stop the line, or wait for its end; return all verdicts."""
        self.stop.set()
        self.thread.join(120)
        assert not self.thread.is_alive()
        return self.journal.rows()


@pytest.fixture
def journal(tmp_path) -> Journalled:
    return Journalled(tmp_path / "line.sqlite")


@pytest.fixture
def make_options(tmp_path, journal):
    def make(*cameras: CameraOptions, journal_options: dict | None = None, **changes) -> LineOptions:
        (tmp_path / "model.onnx").write_bytes(b"only its hash is asked for")
        cameras = cameras or (CameraOptions("left", "0"),)
        options = JournalOptions(**{"path": journal.path, **(journal_options or {})})
        model = None if "recipe" in changes else tmp_path / "model.onnx"
        return LineOptions(model=model, journal=options, camera=cameras, **changes)

    return make


@pytest.fixture
def black() -> Callable[[int], np.ndarray]:
    """Return a painter of good parts, 32x16 pixels."""
    return lambda index: np.zeros((16, 32, 3), np.uint8)


@pytest.fixture
def run_line(make_options, make_spec, journal, black):
    """Return a function that runs a line in a thread; cameras are fakes, by name, or functions that open them."""
    with contextlib.ExitStack() as stack:

        def start(options: LineOptions | None = None, answer=first_channel, open_source=None, spec=None, **cameras):
            options, load = options or make_options(), cameras.pop("load", load_recipe)
            engine = FakeEngine(make_spec(**(spec or {})), answer)
            opened: dict[str, FakeCamera] = {}

            def open_fake(camera: CameraOptions, on_event) -> FakeCamera:
                arguments = {"paint": black, "fps": 100.0, **cameras.get(camera.name, {})}
                opened[camera.name] = FakeCamera(name=f"fake {camera.name}", on_event=on_event, **arguments)
                return opened[camera.name]

            line_options = options
            start_recipe, reason = recipe_at_start(options)
            first = load(options.with_recipe(start_recipe)) if start_recipe else no_model(options, reason)
            first = first if options.recipe else engine
            stop, errors, ready = threading.Event(), [], threading.Event()
            holder: list[Line] = []

            def work() -> None:
                try:
                    with open_line(line_options, first, open_source or open_fake, load=load) as line:
                        holder.append(line)
                        ready.set()
                        run(line, stop)
                except BaseException as error:
                    errors.append(error)
                finally:
                    ready.set()

            thread = threading.Thread(target=work)
            thread.start()
            stack.callback(lambda: (stop.set(), thread.join(120)))
            assert ready.wait(120)
            if not holder:
                raise errors[0]
            if open_source is None:
                wait_until(lambda: len(opened) == len(options.camera))
            return Running(holder[0], engine, opened, journal, stop, thread, errors)

        yield start


def is_taken(journal: Path, number: int) -> bool:
    """Return whether the running line has put the threshold change of that number in force."""
    return result_of(journal, number) == "taken"


def read_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]
