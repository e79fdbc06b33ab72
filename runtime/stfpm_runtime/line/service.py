"""A line from its configuration to its end: opens all parts, runs the loop, and closes them in the right order."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Iterator

from ..detector import Detector
from ..engines import Engine, open_engine
from ..errors import StfpmError
from ..files import check_writable, sha256
from ..sources import Source
from ..sources.base import OnEvent
from ..sources.clip import FileSource
from .config import ADDRESS, CameraOptions, LineOptions
from .decision import Decider
from .http_trigger import ANSWER_S, TriggerServer
from .inspector import Inspector
from .lines_file import JsonLinesFollower
from .listeners import open_listeners
from .loop import Line, run
from .pictures import Pictures
from .recorder import Recorder
from .sd_notify import Notifier
from .shots import Meeting
from .sinks import open_followers
from .station import OpenSource, Station
from .triggers import Posted, open_trigger

LOG = logging.getLogger("stfpm.line")


def serve(options: LineOptions, stop: threading.Event | None = None) -> int:
    """Run the line until SIGTERM, SIGINT or the end of all its files; returns 0.

    Raises StfpmError before the first frame for what is wrong with model or places to write to, and at the end if the
    files were all and one of them could not be judged.
    """
    stop = threading.Event() if stop is None else stop
    with (
        _until_signalled(stop),
        contextlib.closing(open_engine(options.model, options.device, options.threads)) as engine,
        open_line(options, engine) as line,
    ):
        model = f"model {engine.spec.name} ({engine.spec.precision}, {engine.provider}), {len(options.camera)} cameras"
        LOG.info("%s", model)
        line.recorder.remark("started", model)
        line.notifier.ready(model)
        run(line, stop)
        line.notifier.stopping()
        line.recorder.remark("stopped", line.summary.status())
        LOG.info("stopped; %s", line.summary.status())
    faults = line.summary.decisions["fault"]
    if faults and not stop.is_set():
        raise StfpmError(
            f"{faults} of {line.summary.total} parts could not be judged, and none of them is passed; "
            f"the first: {line.summary.first_reason}"
        )
    return 0


@contextlib.contextmanager
def open_line(options: LineOptions, engine: Engine, open_source: OpenSource | None = None) -> Iterator[Line]:
    """A line's parts around an engine, closed in the end: the journal last, so that each can still write into it."""
    detector = Detector(engine, options.threshold)
    _check_places(options)
    model = sha256(options.model)
    with contextlib.ExitStack() as stack:
        recorder = Recorder(options.journal, model)
        stack.callback(recorder.close)
        json_lines = pictures = None
        if options.journal.json_lines:
            limit = options.journal.json_lines_mb * 1e6
            json_lines = JsonLinesFollower(options.journal.path, options.journal.json_lines, limit, recorder.remark)
            stack.callback(json_lines.close)
        if options.pictures:
            pictures = Pictures(options.pictures, recorder.remark)
            stack.callback(pictures.close)
        meeting = Meeting()
        stations = tuple(
            Station(camera, open_trigger(camera), open_source or open_camera, meeting, recorder.note)
            for camera in options.camera
        )
        notifier = Notifier()
        stack.callback(notifier.close)
        stack.callback(_close_cameras, stations, meeting)
        followers = tuple(open_followers(options.sinks, options.journal.path, recorder.remark))
        for follower in followers:
            stack.callback(follower.close)
        for listener in open_listeners(options, stations, recorder.remark):
            stack.callback(listener.close)
        if options.http:
            posted = {
                s.camera.name: s.trigger
                for s in stations
                if isinstance(s.trigger, Posted) and s.camera.trigger == "http"
            }
            longest_s = max((camera.delay_ms + camera.timeout_ms) / 1e3 for camera in options.camera)
            server = TriggerServer(options.http, posted, longest_s + ANSWER_S)
            LOG.info("triggers at http://%s:%d/trigger/{%s}", options.http.host, server.port, ",".join(posted))
            stack.callback(server.close)
        yield Line(
            stations=stations,
            meeting=meeting,
            inspector=Inspector(detector, options.batch),
            decider=Decider(engine.spec.held_out_scores),
            recorder=recorder,
            model=model,
            pictures=pictures,
            json_lines=json_lines,
            followers=followers,
            notifier=notifier,
        )


def open_camera(camera: CameraOptions, on_event: OnEvent) -> Source:
    """The source that a camera's options name. Raises StfpmError."""
    if not (camera.watch or ADDRESS.fullmatch(camera.source) or camera.source.startswith("/dev/")):
        return FileSource([camera.source])
    from ..sources.live import open_source
    from ..sources.options import SourceOptions

    names = ("watch", "frozen_after_s", "silent_after_s", "width", "height", "fps", "fourcc", "features")
    options = SourceOptions(**{name: getattr(camera, name) for name in names})
    return open_source(camera.source, on_event=on_event, options=options)


def _check_places(options: LineOptions) -> None:
    """Raise OutputError for what cannot be written, before the first frame."""
    if options.journal.json_lines:
        check_writable(options.journal.json_lines)
    if options.pictures:
        check_writable(options.pictures.folder / "picture")


def _close_cameras(stations: tuple[Station, ...], meeting: Meeting) -> None:
    for station in stations:
        station.close()
    meeting.close()


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
