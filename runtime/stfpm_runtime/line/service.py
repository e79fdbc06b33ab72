"""A line from its configuration to its end: opens all parts, runs the loop, and closes them in the right order."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

from stfpm_runtime.detector import Detector
from stfpm_runtime.engines import Engine
from stfpm_runtime.errors import StfpmError
from stfpm_runtime.files import check_writable, sha256
from stfpm_runtime.lifecycle import Closable, Worker, close_all, stop_all
from stfpm_runtime.model_check import Model, for_swap, load_checked
from stfpm_runtime.sources import FileSource, OnEvent, Source, SourceOptions
from stfpm_runtime.sources import open_source as open_address
from stfpm_runtime.sources.mailbox import FrameMailbox

from .cameras.worker import CameraWorker, OpenSource, TriggeredFrame
from .config.camera import CameraOptions
from .config.line import LineOptions, read_config
from .decide import Thresholds, restore_thresholds
from .journal.active_model import FileIdentity, absolute
from .journal.integrity import IntegrityCheck
from .journal.reader import JournalReader
from .journal.recorder import Recorder
from .loop import Line, run
from .models.first import FirstModel, first_model
from .models.swap import ActiveModel, ModelSwap, active_of, opener, rules_of
from .models.trial import answer_s
from .observers.drift import DriftWatch
from .observers.guard import Guard
from .observers.heartbeat import Heartbeat
from .observers.shadow import Shadow
from .observers.status import LiveStatus
from .observers.systemd import Notifier
from .outputs import open_outputs
from .triggers import open_listeners
from .triggers.base import open_trigger

LOG = logging.getLogger("stfpm.line")
STOP_S = 18.0
"""Seconds in which all threads have to end, after the loop's own 2 s: together less than the unit's TimeoutStopSec."""
START_S = 300.0
"""How long systemd is asked to wait for a start, beyond the time that a model may take."""
SHOWN_AT_FIRST = 2000
"""Verdicts of earlier runs that the dashboard begins with."""


def serve(options: LineOptions, stop: threading.Event | None = None, config: Path | None = None) -> int:
    """Run the line until SIGTERM, SIGINT or the end of all its files; returns 0.

    SIGHUP loads its model again, from the file that `config`, the line's TOML file, names then.
    Raises StfpmError before the first frame for what is wrong with model or places to write to, and at the end if the
    files were all and one of them could not be judged.
    """
    stop = threading.Event() if stop is None else stop
    with _until_signalled(stop):
        with contextlib.closing(Notifier()) as notifier:
            notifier.starting(START_S + answer_s(options.model, options.device))
        first = first_model(options)
        with contextlib.closing(first.model.engine), open_line(options, first) as line:
            model = f"model {first.model.spec.name} ({first.model.spec.precision}, {first.model.engine.provider})"
            model += f", {len(options.camera)} cameras"
            LOG.info("%s", model)
            line.recorder.log_event("started", model)
            line.notifier.ready(model)
            with _reloading(line, options, config):
                run(line, stop)
            line.notifier.stopping()
            line.recorder.log_event("stopped", line.summary.status())
            LOG.info("stopped; %s", line.summary.status())
    faults = line.summary.decisions["fault"]
    if faults and not stop.is_set():
        raise StfpmError(
            f"{faults} of {line.summary.total} parts could not be judged, and none of them is passed; "
            f"the first: {line.summary.first_reason}"
        )
    return 0


@contextlib.contextmanager
def open_line(
    options: LineOptions, first: FirstModel | Engine, open_source: OpenSource | None = None
) -> Iterator[Line]:
    """A line's parts around a model, closed in the end: the journal last, so that each can still write into it.

    An engine instead of a model stands for that of `options.model`, and is not checked: for tests and measurements.
    """
    _check_places(options)
    if not isinstance(first, FirstModel):
        digest = sha256(options.model)
        model = Model(options.model, digest, first, Detector(first, options.threshold))
        first = FirstModel(model, FileIdentity(absolute(options.model), digest))
    model, engine = first.model, first.model.engine
    with contextlib.ExitStack() as stack:
        kept = options.journal
        debounces = {camera.name: camera.debounce for camera in options.camera if camera.debounce}
        recorder = Recorder(kept.path, model.sha256, kept.synchronous, kept.keep_days, kept.max_mb, debounces=debounces)
        stack.callback(recorder.close)
        integrity = IntegrityCheck(options.journal.path, recorder.log_event)
        integrity.start()
        threads: list[Closable] = []
        workers: list[Worker] = [integrity]
        stack.callback(lambda: close_all(threads, STOP_S / 2))
        stack.callback(lambda: stop_all(workers, STOP_S / 2))
        mailbox = FrameMailbox[TriggeredFrame]()
        cameras = tuple(
            CameraWorker(
                dataclasses.replace(camera, bits=camera.bits or engine.spec.bits),
                open_trigger(camera),
                open_source or open_camera,
                mailbox,
                lambda camera, event: recorder.log_event(event.kind, event.detail, camera, event.source),
            )
            for camera in options.camera
        )
        notifier = Notifier()
        stack.callback(notifier.close)
        stack.callback(_close_cameras, cameras, mailbox)
        heartbeat = Heartbeat()
        outputs = open_outputs(options, recorder.log_event, heartbeat)
        workers += outputs
        for output in outputs:
            output.start()
        listeners = []
        for listener in open_listeners(options, {c.camera: c.trigger for c in cameras}, recorder.log_event):
            listeners.append(listener)
            threads.append(listener)
        active_model = _ruling(options, model)
        restore_thresholds(recorder, active_model.thresholds)
        recorder.use_model(active_of(active_model, first.who, first.configured))
        if first.log_event:
            recorder.log_event("model", first.log_event)
        stack.callback(lambda: None if active_model.model.engine is engine else active_model.model.engine.close())
        drift = DriftWatch(options.drift, recorder.log_event)
        stack.callback(drift.end, "the line stopped")
        drift.begin(engine.spec.held_out_scores)
        line = Line(
            cameras=cameras,
            mailbox=mailbox,
            active_model=active_model,
            recorder=recorder,
            drift=drift,
            guard=Guard(recorder.log_event),
            outputs=tuple(outputs),
            listeners=tuple(listeners),
            integrity=integrity,
            heartbeat=heartbeat,
            model_swap=ModelSwap(active_model, options, recorder, first.configured),
            shadow=_open_shadow(options, active_model, recorder, threads),
            live_status=_open_board(options) if options.dashboard else None,
            notifier=notifier,
        )
        if options.dashboard:
            from .web import open_server

            server = open_server(options.dashboard, line, options)
            stack.callback(stop_all, [server], STOP_S / 2)
            LOG.info("dashboard at http://%s:%d/", options.dashboard.host, server.port)
        yield line


def _ruling(options: LineOptions, model: Model) -> ActiveModel:
    return ActiveModel(model, options.batch, Thresholds(options.camera, options.threshold), rules_of(options))


def _open_shadow(
    options: LineOptions, active_model: ActiveModel, recorder: Recorder, threads: list[Closable]
) -> Shadow | None:
    """The second model, checked as a successor is. Raises StfpmError before the first frame."""
    if options.shadow is None:
        return None
    rules = dataclasses.replace(for_swap(active_model.rules, active_model.model.spec), sha256="", thresholds=())
    shadow = Shadow(load_checked(options.shadow, opener(options), rules), options.batch, recorder.log_event)
    threads.append(shadow)
    return shadow


def _open_board(options: LineOptions) -> LiveStatus:
    """With what earlier runs have left in the journal."""
    try:
        with contextlib.closing(JournalReader(options.journal.path)) as reader:
            return LiveStatus(options.camera, reader.newest(SHOWN_AT_FIRST))
    except StfpmError as error:
        LOG.error("the dashboard begins without earlier verdicts: %s", error)
        return LiveStatus(options.camera)


def open_camera(camera: CameraOptions, on_event: OnEvent) -> Source:
    """Return the source that a camera's options name, started. Raises StfpmError."""
    names = ("watch", "frozen_after_s", "silent_after_s", "width", "height", "fps", "fourcc", "features", "bits",
             "max_megapixels")  # fmt: skip
    options = SourceOptions(**{name: getattr(camera, name) for name in names})
    if not (camera.watch or camera.has_address or camera.source.startswith("/dev/")):
        return FileSource([camera.source], options, on_event)
    return open_address(camera.source, on_event=on_event, options=options)


@contextlib.contextmanager
def _reloading(line: Line, options: LineOptions, config: Path | None) -> Iterator[None]:
    """On SIGHUP let the configuration's model rule, as it is on the disk then; in a thread, beside the line."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def reload() -> None:
        assert line.model_swap is not None, "every line has one"
        try:
            read = read_config(config) if config else options
        except StfpmError as error:
            LOG.error("the model stays: %s", error)
            line.recorder.log_event("model", f"refused, by SIGHUP: {error}")
            return
        with contextlib.suppress(StfpmError):  # it has been said
            line.model_swap.load_and_swap(read.model, "SIGHUP", read)

    before = signal.signal(
        signal.SIGHUP, lambda *_: threading.Thread(target=reload, name="reload", daemon=True).start()
    )
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def _check_places(options: LineOptions) -> None:
    """Raise OutputError for what cannot be written, before the first frame."""
    if options.journal.json_lines:
        check_writable(options.journal.json_lines, (options.model, options.journal.path))
    if options.pictures:
        check_writable(options.pictures.folder / "picture")


def _close_cameras(cameras: tuple[CameraWorker, ...], mailbox: FrameMailbox[TriggeredFrame]) -> None:
    for worker in cameras:
        worker.request_stop()
        worker.trigger.close()
    mailbox.close()


@contextlib.contextmanager
def _until_signalled(stop: threading.Event) -> Iterator[None]:
    """Set `stop` on SIGTERM and SIGINT; a second one of them ends the process as usual."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: object) -> None:
        stop.set()
        signal.signal(number, before[signal.Signals(number)])

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
