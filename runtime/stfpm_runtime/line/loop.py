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

Between two frames another model or another threshold may come into force                     models/swap.py, decide.py
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from stfpm_runtime.sources.mailbox import FrameMailbox

from .cameras.worker import POLL_S, CameraWorker, TriggeredFrame
from .decide import apply_threshold_changes
from .inspect import JudgedPart
from .journal.integrity import IntegrityCheck
from .journal.recorder import Recorder
from .journal.rows import VerdictRow, record, storable, utc
from .models.swap import ActiveModel, ModelSwap
from .observers.drift import DriftWatch
from .observers.guard import Guard
from .observers.heartbeat import Heartbeat
from .observers.shadow import Shadow
from .observers.status import LiveStatus
from .observers.summary import Summary
from .observers.systemd import Notifier
from .outputs.base import Output
from .triggers import Listener

LOG = logging.getLogger("stfpm.line")
STOPPING_S = 2.0
"""Within which cameras' threads have to end: a driver that hangs must not hold up the stop."""
STOPPED = "the line stopped before it was judged"


@dataclass(frozen=True)
class Line:
    """All the parts of a line, ready to run."""

    cameras: tuple[CameraWorker, ...]
    mailbox: FrameMailbox[TriggeredFrame]
    active_model: ActiveModel
    recorder: Recorder
    drift: DriftWatch
    guard: Guard
    """Calls everything that no verdict depends on."""
    outputs: tuple[Output, ...] = ()
    """What receives verdicts, each in a thread of its own."""
    listeners: tuple[Listener, ...] = ()
    """Threads that receive triggers."""
    integrity: IntegrityCheck | None = None
    """Looks for damage in the whole journal."""
    model_swap: ModelSwap | None = None
    """Who may put another model in the active_model one's place."""
    shadow: Shadow | None = None
    live_status: LiveStatus | None = None
    """What is shown; None: nobody can look."""
    heartbeat: Heartbeat = field(default_factory=Heartbeat)
    """What the sinks send while frames can be judged and journalled."""
    notifier: Notifier = field(default_factory=Notifier)
    summary: Summary = field(default_factory=Summary)


def run(line: Line, stop: threading.Event) -> None:
    """Judge what the cameras bring until told to stop, or until no frame will ever come again.

    Raises StfpmError for a camera that can never be opened. Nothing else ends it: whatever breaks makes faults.
    """
    try:
        for worker in line.cameras:
            worker.start()
        while not stop.is_set() and not any(worker.failure for worker in line.cameras):
            ended = all(worker.ended for worker in line.cameras)  # asked first: what was brought until then is there
            shots = line.mailbox.take(POLL_S)
            if ended and not shots:
                break
            publish(line, line.active_model.inspector.judge(shots))
            do_maintenance(line)
    finally:  # whatever happened: what was asked for is answered
        finish(line)
    for worker in line.cameras:
        if worker.failure:
            raise worker.failure


def publish(line: Line, judged: Sequence[JudgedPart]) -> None:
    """Write verdicts into the journal, one by one, and only then tell whoever waits for them."""
    for shot, parts in itertools.groupby(judged, key=lambda part: part.triggered):
        kept = [(part, keep(line, part)) for part in parts]
        line.guard.call("answer", shot.request.answer, [record(entry, line.recorder.id) for _, entry in kept])
        notify_observers(line, kept)


def keep(line: Line, judged: JudgedPart) -> VerdictRow:
    """Write one verdict into the journal, with the names of the pictures that it will have."""
    entry = make_row(line, judged)
    for output in line.outputs:
        entry = line.guard.call(output.name, output.prepare, entry, judged, line.recorder.id) or entry
    entry = line.recorder.keep(entry)
    for output in line.outputs:
        line.guard.call(output.name, output.take, entry)
    line.guard.call("summary", line.summary.take, entry)
    return entry


def notify_observers(line: Line, kept: Sequence[tuple[JudgedPart, VerdictRow]]) -> None:
    """Pass the verdicts on to what they do not depend on: drift, the live_status, the shadow."""
    for judged, entry in kept:
        line.guard.call("drift", line.drift.take, entry, judged.pictures)
        if line.live_status:
            line.guard.call("live_status", line.live_status.take, entry, judged)
    if line.shadow:
        line.guard.call("shadow", line.shadow.offer, kept)


def make_row(line: Line, judged: JudgedPart) -> VerdictRow:
    """Return the decision on one part as a row of the journal."""
    triggered, verdict, now_ns = judged.triggered, judged.verdict, time.monotonic_ns()
    camera, frame, seq = triggered.camera, triggered.frame, line.recorder.next_seq
    decided = line.active_model.decider.decide(camera, judged.region.name, verdict, frame.part, judged.pictures, seq)
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
        model=line.active_model.model.sha256,
        dropped=triggered.dropped,
        wait_ms=_since_ms(frame.arrived_ns, judged.taken_ns),
        preprocess_ms=round(verdict.timings.preprocess_ms, 3),
        infer_ms=round(verdict.timings.infer_ms, 3),
        latency_ms=_since_ms(frame.arrived_ns, now_ns),
    )


def do_maintenance(line: Line) -> None:
    """Do what is due between frames: another model or threshold, events, limits, signs of life. Raises nothing."""
    call = line.guard.call
    call("model", _take_over, line)
    call("thresholds", apply_threshold_changes, line.recorder, line.active_model.thresholds)
    call("journal", line.recorder.do_maintenance)
    call(
        "heartbeat", lambda: line.heartbeat.advance(line.active_model.inspector.engine_works() and line.recorder.works)
    )
    if line.live_status:
        call("live_status", line.live_status.turned)
    call("systemd", line.notifier.alive, line.summary.status)
    call("summary", line.summary.log_now_and_then)


def _take_over(line: Line) -> None:
    """Let a model that waits for it judge from the next frame on."""
    if line.model_swap and (model := line.model_swap.take_over()):
        line.drift.begin(model.spec.held_out_scores)


def finish(line: Line) -> None:
    """End the cameras' threads. Parts that somebody asked for and that were not judged any more become faults."""
    for worker in line.cameras:
        worker.request_stop()
    requests = [(worker, request) for worker in line.cameras for request in worker.trigger.close()]
    until = time.monotonic() + STOPPING_S
    waiting: list[TriggeredFrame] = []
    while not all(worker.ended for worker in line.cameras) and time.monotonic() < until:
        waiting += line.mailbox.take(0.01)
    waiting += line.mailbox.close()
    waiting += [worker.frame_without_image(request, STOPPED) for worker, request in requests]
    _refuse(line, [frame for frame in waiting if frame.request.asked])
    # what a camera's thread that hangs still has in hand: it can bring nothing any more
    in_hand = [(worker, request) for worker in line.cameras for request in worker.trigger.unanswered()]
    _refuse(line, [worker.frame_without_image(request, STOPPED) for worker, request in in_hand])


def _refuse(line: Line, shots: Sequence[TriggeredFrame]) -> None:
    """Journal these parts as faults because the line stopped."""
    publish(line, line.active_model.inspector.refuse(shots, STOPPED))


def _since_ms(start_ns: int, end_ns: int) -> float:
    return round((end_ns - start_ns) / 1e6, 3)
