"""A line from its configuration to its end: opens all parts, runs the loop, and stops and closes them in order."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from stfpm_runtime.engines import Engine
from stfpm_runtime.errors import OptionError, StfpmError
from stfpm_runtime.files import check_writable
from stfpm_runtime.lifecycle import Worker, call_without_real_time, stop_all
from stfpm_runtime.sources import FileSource, OnEvent, Source, SourceOptions
from stfpm_runtime.sources import open_source as open_address
from stfpm_runtime.sources.mailbox import FrameMailbox

from .cameras.worker import CameraWorker, OpenSource, TriggeredFrame
from .config.camera import CameraOptions
from .config.line import LineOptions, read_config
from .decide import restore_thresholds
from .journal.chain.links import Signer
from .journal.integrity import IntegrityCheck
from .journal.reader import JournalReader
from .journal.recorder import Recorder
from .loop import Line, run
from .models.active_model import ActiveModel, ChosenModel, earlier_model, first_model, load_recipe, unchecked_model
from .models.promotion import Promotion, shadow_model
from .models.recipes import open_recipe_listeners
from .models.recipes.loaded import LoadRecipe
from .models.recipes.recipes import Recipes
from .models.swap import RECIPES_STAY, ModelSwap
from .models.training import Training
from .models.trial import answer_s
from .observers.base import Guard
from .observers.collector import Collector
from .observers.drift import DriftWatch
from .observers.heartbeat import Heartbeat
from .observers.shadow import Shadow
from .observers.status import LiveStatus
from .observers.summary import Summary
from .observers.systemd import Notifier
from .outputs import open_outputs
from .triggers import open_listeners
from .triggers.base import open_trigger

LOG = logging.getLogger("stfpm.line")
RESTART = 75
"""What `serve` returns where the line is to be started again."""
COLLECTED = "collected"
"""The folder, next to the journal, for pictures that are collected for a training."""
START_S = 300.0
"""The time that systemd is asked to wait for a start, in seconds, beyond the time that a model may take to load."""
SHOWN_AT_FIRST = 2000
"""The number of verdicts of earlier runs that the dashboard begins with."""


def serve(
    options: LineOptions, stop: threading.Event | None = None, config: Path | None = None, teach: bool = False
) -> int:
    """Run the line until SIGTERM, SIGINT or the end of all its files; return 0, or RESTART where a person wants that.

    SIGHUP loads its model again, from the file that `config`, the line's TOML file, names then. With `teach` the line
    also runs while the model does not exist yet, and judges nothing.
    Raises StfpmError before the first frame for what is wrong with model or places to write to, and at the end if the
    sources were all files and one of them could not be judged.
    """
    stop = threading.Event() if stop is None else stop
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def request_stop(number: int, frame: object) -> None:
        stop.set()
        signal.signal(number, handlers[signal.Signals(number)])  # a second signal ends the process as usual

    with _handling(request_stop, *handlers):
        LOG.info("opening: model %s", ", ".join(map(str, options.models)))
        with contextlib.closing(Notifier()) as notifier:
            notifier.starting(_start_s(options))
        first = first_model(options, teach)
        with contextlib.closing(first.model.engine), open_line(options, first, config=config) as line:
            spec, provider = first.model.spec, first.model.engine.provider
            model = f"model {spec.name} ({spec.precision}, {provider}), {len(options.camera)} cameras"
            LOG.info("ready: %s", model)
            line.recorder.log_event("started", model)
            line.notifier.ready(model)
            with _handling(lambda *_: _start_reload(line, options, config), signal.SIGHUP):
                run(line, stop)  # logs the phases "running" and "draining"
            is_restart = line.restart.is_set() and not stop.is_set()
            line.notifier.restarting(_start_s(options)) if is_restart else line.notifier.stopping()
            line.recorder.log_event("stopped", line.summary.status())
        LOG.info("stopped; %s", line.summary.status())
    if is_restart and not stop.is_set():
        return RESTART
    faults = line.summary.decisions["fault"]
    if faults and not stop.is_set():
        raise StfpmError(
            f"{faults} of {line.summary.total} parts could not be judged, and none of them is passed; "
            f"the first: {line.summary.first_reason}"
        )
    return 0


@contextlib.contextmanager
def open_line(
    options: LineOptions,
    first: ChosenModel | Engine,
    open_source: OpenSource | None = None,
    config: Path | None = None,
    load: LoadRecipe = load_recipe,
) -> Iterator[Line]:
    """Yield a line's parts, its threads started except the cameras'. At the end all stop, and the journal closes last.

    An engine instead of a model stands for that of `options.model`, and is not checked: for tests and measurements;
    `load` loads the models of recipes. Raises StfpmError for what cannot be opened.
    """
    _check_places(options)
    first = first if isinstance(first, ChosenModel) else unchecked_model(first, options)
    with contextlib.ExitStack() as stack:
        kept = options.journal
        debounces = {camera.name: camera.debounce for camera in options.camera if camera.debounce}
        recorder = Recorder(kept.path, first.model.sha256, kept.synchronous, kept.keep_days, kept.max_mb,
                            debounces=debounces, signer=open_signer(kept.signing_key))  # fmt: skip
        stack.callback(recorder.close)
        start = options.recipe_of(options.start_recipe) if first.model.sha256 else None
        active_model = ActiveModel(first, options.with_recipe(start) if start else options, start)
        stack.callback(_close_other_model, active_model, first)
        line = _make_line(options, recorder, active_model, open_source or open_camera, load)
        stack.callback(line.recipes.close)
        if start:
            line.collector.use_recipe(start.name)
        for observer in line.observers:
            stack.callback(line.guard.call, observer.name, observer.close)
        workers: list[Worker] = [line.integrity, *line.outputs, *line.listeners, line.shadow, line.promotion,
                                 line.collector, line.training, line.recipes]  # fmt: skip
        stack.callback(lambda: stop_all(workers, line.stop_budget.deadline_s()))
        for worker in workers:
            worker.start()
        # only now: a start that failed above must not end a threshold or a choice of model that were in force
        if active_model.exists:
            restore_thresholds(recorder, active_model.thresholds, line.recipes.scopes)
        own = active_model.row() if active_model.exists else None
        if row := earlier_model(options) if line.recipes.has_recipes else own:
            recorder.use_model(row)
        if first.event:
            recorder.log_event("model", first.event)
        if options.dashboard:
            from .web import open_server

            server = open_server(options.dashboard, line, options, config)
            LOG.info("dashboard at http://%s:%d/", options.dashboard.host, server.port)
            workers.append(server)
        stack.callback(_close_cameras, line)
        yield line


def _make_line(
    options: LineOptions, recorder: Recorder, active_model: ActiveModel, open_source: OpenSource, load: LoadRecipe
) -> Line:
    """Return the line's parts, before their threads are started."""
    log_event, mailbox, heartbeat = recorder.log_event, FrameMailbox[TriggeredFrame](), Heartbeat()
    bits = active_model.model.spec.bits
    cameras = tuple(
        CameraWorker(
            dataclasses.replace(camera, bits=camera.bits or bits),
            open_trigger(camera),
            open_source,
            mailbox,
            lambda camera, event: recorder.log_event(event.kind, event.detail, camera, event.source),
        )
        for camera in options.camera
    )
    drift, summary = DriftWatch(options.drift, log_event), Summary()
    drift.use_model(active_model.model)
    recipes = Recipes(options, active_model, log_event, mailbox.wake, load)
    model_swap = ModelSwap(active_model, options, recorder)
    in_shadow = call_without_real_time(lambda: shadow_model(options, active_model, log_event))
    shadow = Shadow(in_shadow, options.batch, options.journal.path, log_event)
    return Line(
        cameras=cameras,
        mailbox=mailbox,
        recipes=recipes,
        model_swap=model_swap,
        shadow=shadow,
        promotion=Promotion(model_swap, shadow, log_event),
        collector=Collector(options.journal.path.parent / COLLECTED),
        training=Training(log_event),
        recorder=recorder,
        guard=Guard(log_event),
        drift=drift,
        summary=summary,
        notifier=Notifier(summary.status),
        live_status=_open_live_status(options, recipes) if options.dashboard else None,
        outputs=tuple(open_outputs(options, log_event, heartbeat, recorder.log_picture)),
        heartbeat=heartbeat,
        listeners=(
            *open_listeners(options, {worker.camera: worker.trigger for worker in cameras}, log_event),
            *open_recipe_listeners(options, recipes, log_event),
        ),
        integrity=IntegrityCheck(options.journal.path, log_event),
    )


def _open_live_status(options: LineOptions, recipes: Recipes) -> LiveStatus:
    """Return the status with the newest verdicts of earlier runs, which the journal holds."""
    cameras = [*(camera for _, own in recipes.options.values() for camera in own.camera), *options.camera]
    try:
        with contextlib.closing(JournalReader(options.journal.path)) as reader:
            return LiveStatus(cameras, reader.newest(SHOWN_AT_FIRST))
    except StfpmError as error:
        LOG.error("the dashboard begins without earlier verdicts: %s", error)
        return LiveStatus(cameras)


def open_camera(camera: CameraOptions, on_event: OnEvent) -> Source:
    """Return the source that a camera's options name, started. Raises StfpmError."""
    names = ("watch", "frozen_after_s", "silent_after_s", "width", "height", "fps", "fourcc", "features", "bits",
             "max_megapixels")  # fmt: skip
    options = SourceOptions(**{name: getattr(camera, name) for name in names})
    if not (camera.watch or camera.has_address or camera.source.startswith("/dev/")):
        return FileSource([camera.source], options, on_event)
    return open_address(camera.source, on_event=on_event, options=options)


def open_signer(key: Path | None) -> Signer | None:
    """Return what signs heads of the chain; None without a key. Raises JournalError, MissingExtraError."""
    if key is None:
        return None
    from .journal.chain.signing import KeyPair

    return KeyPair(key)


def _start_s(options: LineOptions) -> float:
    """Return the longest time that a start may take, in seconds."""
    return START_S + answer_s(options.models[0], options.device)


def _check_places(options: LineOptions) -> None:
    """Raise OutputError for what cannot be written, before the first frame."""
    if options.journal.json_lines:
        check_writable(options.journal.json_lines, (*options.models, options.journal.path))
    if options.pictures:
        check_writable(options.pictures.folder / "picture")


def _close_cameras(line: Line) -> None:
    for worker in line.cameras:
        worker.request_stop()
        worker.trigger.close()
    line.mailbox.close()


def _close_other_model(active_model: ActiveModel, first: ChosenModel) -> None:
    """Close the engine of the model in use if it replaced the first one, which the caller closes."""
    if active_model.model is not first.model:
        active_model.model.engine.close()


def _start_reload(line: Line, options: LineOptions, config: Path | None) -> None:
    """Swap in the configuration's model as it is on the disk now, in a thread of its own."""

    def reload() -> None:
        try:
            read = read_config(config) if config else options
            if read.model is None or line.recipes.has_recipes:
                raise OptionError(RECIPES_STAY)
            path = read.model
        except StfpmError as error:
            LOG.error("the model stays: %s", error)
            line.recorder.log_event("model", f"refused, by SIGHUP: {error}")
            return
        with contextlib.suppress(StfpmError):  # the swap has logged it
            line.model_swap.load_and_swap(path, "SIGHUP", read)

    threading.Thread(target=reload, name="reload", daemon=True).start()


@contextlib.contextmanager
def _handling(handler: Callable[[int, Any], object], *numbers: signal.Signals) -> Iterator[None]:
    """Handle these signals with this function until the end. Outside the main thread signals stay as they are."""
    is_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, handler) for number in numbers} if is_main else {}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
