"""The loop: from frames to rows of the journal. A frame goes forward only: no stage knows the stages after it.

camera workers    one thread for each camera: its trigger and its newest frame    cameras/worker.py, triggers/, sources/
   | TriggeredFrame
mailbox           one place for each camera; the frames in it are judged together                     sources/mailbox.py
   | [TriggeredFrame]
inspector         regions and tiles, one run of the engine                                                   inspect.py
   | [JudgedPart]
decider           threshold, debounce, p-value                                                                decide.py
   | VerdictRow
recorder          the journal, on the disk before anything is sent                                             journal/
   | VerdictRow
outputs           the answer to the trigger; pictures, JSON lines, MQTT and others, in threads of their own    outputs/
observers         the log, live status, drift and the shadow model, which change no verdict                   observers/

Between two frames another model or recipe, or another threshold, may come into force                 models/, decide.py
"""

from __future__ import annotations

import dataclasses
import gc
import itertools
import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from stfpm_runtime.lifecycle import StopBudget
from stfpm_runtime.sources.mailbox import FrameMailbox

from .cameras.worker import POLL_S, CameraWorker, TriggeredFrame
from .decide import apply_threshold_changes, restore_thresholds
from .inspect import JudgedPart, peak_of
from .journal.integrity import IntegrityCheck
from .journal.recorder import Recorder
from .journal.rows import MISSED_DEADLINE, Record, VerdictRow, storable, to_record, utc
from .models.active_model import ActiveModel
from .models.promotion import Promotion
from .models.recipes.recipes import Recipes
from .models.swap import ModelSwap
from .models.training import Training
from .observers.base import Guard, Observer
from .observers.collector import Collector
from .observers.drift import DriftWatch
from .observers.heartbeat import Heartbeat
from .observers.shadow import Shadow
from .observers.status import LiveStatus
from .observers.summary import Summary
from .observers.systemd import Notifier
from .outputs.base import Output
from .triggers.base import Listener

LOG = logging.getLogger("stfpm.line")
CAMERAS_STOP_S = 2.0
"""Seconds within which camera workers have to end: a driver that hangs must not delay the stop."""
ANSWER_MS = 1
"""A part is late so many milliseconds before its camera's deadline: the answer itself takes time after the check."""
STOPPED = "the line stopped before it was judged"


@dataclass(frozen=True)
class Line:
    """All the parts of a line, ready to run."""

    cameras: tuple[CameraWorker, ...]
    mailbox: FrameMailbox[TriggeredFrame]
    recipes: Recipes
    """Decides by which model a frame is judged; without recipes in the configuration there is only one."""
    model_swap: ModelSwap
    shadow: Shadow
    promotion: Promotion
    collector: Collector
    training: Training
    recorder: Recorder
    integrity: IntegrityCheck
    guard: Guard
    """Calls everything that no verdict depends on."""
    drift: DriftWatch
    summary: Summary
    notifier: Notifier
    live_status: LiveStatus | None = None
    """What the dashboard shows; None without a dashboard."""
    outputs: tuple[Output, ...] = ()
    """Receive verdicts, each in a thread of its own."""
    listeners: tuple[Listener, ...] = ()
    """Receive triggers, each in a thread of its own."""
    heartbeat: Heartbeat = field(default_factory=Heartbeat)
    """Outputs send it while frames can be judged and journalled."""
    restart: threading.Event = field(default_factory=threading.Event)
    """Set by a person who wants the line to stop and to start again with its configuration as it is then."""
    stop_budget: StopBudget = field(default_factory=StopBudget)

    @property
    def active_model(self) -> ActiveModel:
        """Return the model that judges what is triggered now; a stand-in while there is none."""
        return self.recipes.current

    @cached_property
    def observers(self) -> tuple[Observer, ...]:
        """Return everything that receives verdicts after the journal and changes none, in the order of the calls."""
        observers = (self.summary, self.drift, self.live_status, self.shadow, self.collector, self.notifier)
        return tuple(observer for observer in observers if observer is not None)


def run(line: Line, stop: threading.Event) -> None:
    """Judge the cameras' frames until the end, and then drain the line.

    The end is `stop` or `line.restart`, or that no frame will ever come again.

    Raises StfpmError for a camera that can never be opened. Nothing else ends it: every other failure makes faults.
    """
    try:
        LOG.info("running")
        gc.collect()
        gc.freeze()  # Python's garbage collector looks no more through what is loaded, which would stop the loop
        for worker in line.cameras:
            worker.start()
        while not (stop.is_set() or line.restart.is_set()) and not any(worker.failure for worker in line.cameras):
            # asked before the mailbox is emptied: all frames that were brought until then are in it
            ended = all(worker.ended for worker in line.cameras)
            frames = line.mailbox.pop_all(POLL_S)
            if ended and not frames:
                break
            judge(line, frames)
            do_maintenance(line)
    finally:  # in any case each part that was asked for is answered
        LOG.info("draining")
        gc.unfreeze()
        drain(line)
    for worker in line.cameras:
        if worker.failure:
            raise worker.failure


def judge(line: Line, frames: Sequence[TriggeredFrame], refusal: str = "") -> None:
    """Judge frames, each by the model of its time, and publish the verdicts; with a `refusal` all are faults."""
    for period, group in line.recipes.assign(frames):
        inspector, reason = period.model.inspector, period.reason or refusal
        judged = inspector.refuse(group, reason) if reason else inspector.judge(group)
        publish(line, judged, period.model)


def publish(line: Line, judged: Sequence[JudgedPart], model: ActiveModel) -> None:
    """Write verdicts into the journal, one by one, and only then answer the triggers and call the observers."""
    line.recipes.log_active_recipe(model, line.recorder.next_seq)
    for triggered, parts in itertools.groupby(judged, key=lambda part: part.triggered):
        kept = [(part, keep(line, part, model)) for part in parts]
        line.guard.call("answer", _answer, line, triggered, [to_record(row, line.recorder.id) for _, row in kept])
        for observer in line.observers:
            line.guard.call(observer.name, observer.observe, kept)


def keep(line: Line, judged: JudgedPart, model: ActiveModel) -> VerdictRow:
    """Write one verdict into the journal, with the names of its files, and pass it to the outputs; return its row."""
    row = make_row(line, judged, model)
    for output in line.outputs:
        row = line.guard.call(output.name, output.prepare, row, judged, line.recorder.id) or row
    row = line.recorder.keep(row)
    for output in line.outputs:
        line.guard.call(output.name, output.enqueue, row)
    return row


def make_row(line: Line, judged: JudgedPart, model: ActiveModel) -> VerdictRow:
    """Return the decision on one part as a row of the journal."""
    triggered, now_ns = judged.triggered, time.monotonic_ns()
    verdict = judged.verdict
    if late := why_late(triggered, now_ns):
        verdict = dataclasses.replace(verdict, decision="fault", reason=verdict.reason or f"decided {late}")
    camera, frame, seq = triggered.camera, triggered.frame, line.recorder.next_seq
    decided = model.decider.decide(camera, judged.region.name, verdict, frame.part, judged.pictures, seq)
    peak_x, peak_y = peak_of(verdict) if decided.decision != "fault" else (None, None)
    return VerdictRow(
        seq=seq,
        time=utc(),
        monotonic_ns=now_ns,
        run=line.recorder.run,
        camera=camera.name,
        region=judged.region.name,
        source=storable(frame.source),
        frame=frame.index,
        part=decided.part,
        decision=decided.decision,
        score=None if decided.decision == "fault" else verdict.score,
        p_value=decided.p_value,
        threshold=verdict.threshold,
        reason=storable(decided.reason),
        model=model.model.sha256,
        dropped=triggered.dropped,
        wait_ms=_since_ms(frame.arrived_ns, judged.taken_ns),
        preprocess_ms=round(verdict.timings.preprocess_ms, 3),
        infer_ms=round(verdict.timings.infer_ms, 3),
        latency_ms=_since_ms(frame.arrived_ns, now_ns),
        peak_x=peak_x,
        peak_y=peak_y,
    )


def why_late(triggered: TriggeredFrame, now_ns: int) -> str:
    """Return in words that the camera's deadline, less the time of an answer, is over; empty where it is not."""
    if triggered.camera.deadline_ms is None:
        return ""
    most_ms = triggered.camera.deadline_ms - ANSWER_MS
    age_ms = _since_ms(triggered.request.at_ns or triggered.frame.arrived_ns, now_ns)
    if age_ms <= most_ms:
        return ""
    return f"{age_ms:.1f} ms after its trigger; expected at most {most_ms} ms, {ANSWER_MS} ms before {MISSED_DEADLINE}"


def _answer(line: Line, triggered: TriggeredFrame, records: list[Record]) -> None:
    """Answer a trigger; after the deadline, which a slow journal may pass, with a fault, and an event says so."""
    if triggered.request.asked and (late := why_late(triggered, time.monotonic_ns())):
        for one in records:
            if one["decision"] != "fault":
                line.recorder.log_event("late", f"verdict {one['seq']} was answered as a fault, {late}", one["camera"])
        records = [{**one, "decision": "fault", "reason": one["reason"] or f"answered {late}"} for one in records]
    triggered.request.answer(records)


def do_maintenance(line: Line) -> None:
    """Do what is due between frames: another model or threshold, events, limits, signs of life. Raises nothing."""
    call = line.guard.call
    call("model", _swap_model, line)
    call("thresholds", apply_threshold_changes, line.recorder, line.active_model.thresholds)
    call("journal", line.recorder.do_maintenance)
    call("heartbeat", _beat, line)
    for observer in line.observers:
        call(observer.name, observer.do_maintenance)


def drain(line: Line) -> None:
    """Stop the camera workers, and make faults of the parts that were asked for and are not judged any more."""
    for worker in line.cameras:
        worker.request_stop()
    requests = [(worker, request) for worker in line.cameras for request in worker.trigger.close()]
    deadline_s = min(time.monotonic() + CAMERAS_STOP_S, line.stop_budget.deadline_s())
    waiting: list[TriggeredFrame] = []
    while not all(worker.ended for worker in line.cameras) and time.monotonic() < deadline_s:
        waiting += line.mailbox.pop_all(0.01)
    waiting += line.mailbox.close()
    waiting += [worker.frame_without_image(request, STOPPED) for worker, request in requests]
    _refuse(line, [frame for frame in waiting if frame.request.asked])
    # a worker that hangs in a driver still has requests, and will bring no frame for them any more
    in_hand = [(worker, request) for worker in line.cameras for request in worker.trigger.unanswered()]
    _refuse(line, [worker.frame_without_image(request, STOPPED) for worker, request in in_hand])
    line.guard.call("recipe", _keep_request, line)


def _swap_model(line: Line) -> None:
    """Judge with the pending model or recipe, if there is one, from the next frame on."""
    recorder, recipes = line.recorder, line.recipes
    active = recipes.apply_pending(lambda model: restore_thresholds(recorder, model.thresholds, recipes.scopes))
    if active:
        line.collector.use_recipe(active.recipe.name if active.recipe else "")
    _keep_request(line)
    if model := active.model if active else line.model_swap.apply_pending():
        for observer in line.observers:
            observer.use_model(model)


def _keep_request(line: Line) -> None:
    """Write into the journal which recipe was asked for, if that is new."""
    if asked := line.recipes.pop_request():
        line.recorder.use_recipe(*asked)


def _beat(line: Line) -> None:
    line.heartbeat.advance(line.active_model.inspector.engine_works() and line.recorder.works)


def _refuse(line: Line, frames: Sequence[TriggeredFrame]) -> None:
    """Write these parts into the journal as faults because the line stopped."""
    judge(line, frames, STOPPED)


def _since_ms(start_ns: int, end_ns: int) -> float:
    return round((end_ns - start_ns) / 1e6, 3)
