"""The loop: from frames to journalled verdicts. A frame goes forward only: nothing below knows what is above it.

stations          a thread for each camera: trigger, newest frame        station.py, triggers.py, sources/
   │ Shot
meeting           one place for each camera; frames that meet are judged together            shots.py
   │ [Shot]
inspector         regions and tiles, one run of the engine                  inspector.py, regions.py
   │ [Judged]
decider           debounce, p-value                                                       decision.py
   │ Entry
recorder          the journal, on the disk before anybody is told             recorder.py, journal.py
   │ Entry
whoever asked; pictures, JSON lines and sinks, in threads of their own     pictures.py, lines_file.py, sinks/
and onlookers without a say: drift, a shadow, the board that a dashboard shows      drift.py, shadow.py, board.py

Between two frames another model or threshold may begin to rule                            ruling.py, ordering.py
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from stfpm_runtime.detector import Decision
from stfpm_runtime.errors import TriggerError

from .cameras.mailbox import FrameMailbox, TriggeredFrame
from .cameras.worker import POLL_S, CameraWorker
from .inspect import Judged
from .journal.integrity import IntegrityCheck
from .journal.recorder import Recorder
from .journal.rows import VerdictRow, record, storable, utc
from .journal.threshold_orders import apply_threshold_changes
from .models.swap import ActiveModel, ModelSwap
from .observers.drift import DriftWatch
from .observers.guard import Guard
from .observers.heartbeat import Heartbeat
from .observers.shadow import Shadow
from .observers.status import LiveStatus
from .observers.summary import Summary
from .observers.systemd import Notifier
from .outputs.base import Output
from .triggers.listeners import Listener
from .triggers.part_id import check_part

LOG = logging.getLogger("stfpm.line")
STOPPING_S = 2.0
"""Within which cameras' threads have to end: a driver that hangs must not hold up the stop."""
STOPPED = "the line stopped before it was judged"


@dataclass(frozen=True)
class Line:
    """All the parts of a line, ready to run."""

    stations: tuple[CameraWorker, ...]
    meeting: FrameMailbox
    ruling: ActiveModel
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
    succession: ModelSwap | None = None
    """Who may put another model in the ruling one's place."""
    shadow: Shadow | None = None
    board: LiveStatus | None = None
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
        for station in line.stations:
            station.start()
        while not stop.is_set() and not any(station.failure for station in line.stations):
            ended = all(station.ended for station in line.stations)  # asked first: what was brought until then is there
            shots = line.meeting.take(POLL_S)
            if ended and not shots:
                break
            publish(line, line.ruling.inspector.judge(shots))
            do_maintenance(line)
    finally:  # whatever happened: what was asked for is answered
        finish(line)
    for station in line.stations:
        if station.failure:
            raise station.failure


def publish(line: Line, judged: Sequence[Judged]) -> None:
    """Write verdicts into the journal, one by one, and only then tell whoever waits for them."""
    for shot, parts in itertools.groupby(judged, key=lambda part: part.shot):
        kept = [(part, keep(line, part)) for part in parts]
        line.guard.call("answer", shot.firing.answer, [record(entry, line.recorder.id) for _, entry in kept])
        notify_observers(line, kept)


def keep(line: Line, judged: Judged) -> VerdictRow:
    """Write one verdict into the journal, with the names of the pictures that it will have."""
    entry = make_row(line, judged)
    for output in line.outputs:
        entry = line.guard.call(output.name, output.prepare, entry, judged, line.recorder.id) or entry
    entry = line.recorder.keep(entry)
    for output in line.outputs:
        line.guard.call(output.name, output.take, entry)
    line.guard.call("summary", line.summary.take, entry)
    return entry


def notify_observers(line: Line, kept: Sequence[tuple[Judged, VerdictRow]]) -> None:
    """Pass the verdicts on to what they do not depend on: drift, the board, the shadow."""
    for judged, entry in kept:
        line.guard.call("drift", line.drift.take, entry, judged.looks)
        if line.board:
            line.guard.call("board", line.board.take, entry, judged)
    if line.shadow:
        line.guard.call("shadow", line.shadow.offer, kept)


def make_row(line: Line, judged: Judged) -> VerdictRow:
    """Return the decision on one part, as the journal has it."""
    shot, verdict, now_ns = judged.shot, judged.verdict, time.monotonic_ns()
    seq, part = line.recorder.next_seq, shot.frame.part
    decision, reason, p_value = _decide(line, judged, seq)
    try:
        check_part(part, shot.camera.part_length)
    except TriggerError as error:
        decision, reason, part = "fault", str(error), ""
    return VerdictRow(
        seq=seq,
        time=utc(),
        monotonic_ns=now_ns,
        run=line.recorder.run,
        camera=shot.camera.name,
        region=judged.region.name,
        source=storable(shot.frame.source),
        frame=shot.frame.index,
        part=part,
        decision=decision,
        score=None if decision == "fault" else verdict.score,
        p_value=None if decision == "fault" else p_value,
        threshold=verdict.threshold,
        reason=storable(reason),
        model=line.ruling.model.sha256,
        dropped=shot.frame.dropped,
        wait_ms=_since_ms(shot.frame.arrived_ns, judged.taken_ns),
        preprocess_ms=round(verdict.timings.preprocess_ms, 3),
        infer_ms=round(verdict.timings.infer_ms, 3),
        latency_ms=_since_ms(shot.frame.arrived_ns, now_ns),
    )


def _decide(line: Line, judged: Judged, seq: int) -> tuple[Decision, str, float | None]:
    """Return decision, reason and p-value; a bug in them makes a fault."""
    try:
        decision, reason = line.ruling.decider.decide(judged, seq)
        return decision, reason, line.ruling.decider.p_value(judged)
    except Exception as error:
        LOG.exception("internal error: the decision on a part could not be made")
        return "fault", f"internal error: {type(error).__name__}: {error}", None


def do_maintenance(line: Line) -> None:
    """Do what is due between frames: another model or threshold, events, limits, signs of life. Raises nothing."""
    call = line.guard.call
    call("model", _take_over, line)
    call("thresholds", apply_threshold_changes, line.recorder, line.ruling)
    call("journal", line.recorder.do_maintenance)
    call("heartbeat", lambda: line.heartbeat.advance(line.ruling.inspector.engine_works() and line.recorder.works))
    if line.board:
        call("board", line.board.turned)
    call("systemd", line.notifier.alive, line.summary.status)
    call("summary", line.summary.log_now_and_then)


def _take_over(line: Line) -> None:
    """Let a model that waits for it judge from the next frame on."""
    if line.succession and (model := line.succession.take_over()):
        line.drift.begin(model.spec.held_out_scores)


def finish(line: Line) -> None:
    """End the cameras' threads. Parts that somebody asked for and that were not judged any more become faults."""
    firings = [(station, firing) for station in line.stations for firing in station.close()]
    until = time.monotonic() + STOPPING_S
    waiting: list[TriggeredFrame] = []
    while not all(station.ended for station in line.stations) and time.monotonic() < until:
        waiting += line.meeting.take(0.01)
    waiting += line.meeting.close()
    waiting += [station.shot_without_frame(firing, STOPPED) for station, firing in firings]
    _refuse(line, [shot for shot in waiting if shot.firing.asked])
    # what a camera's thread that hangs still has in hand: it can bring nothing any more
    in_hand = [(station, firing) for station in line.stations for firing in station.trigger.unanswered()]
    _refuse(line, [station.shot_without_frame(firing, STOPPED) for station, firing in in_hand])


def _refuse(line: Line, shots: Sequence[TriggeredFrame]) -> None:
    """Journal these parts as faults because the line stopped."""
    publish(line, line.ruling.inspector.refuse(shots, STOPPED))


def _since_ms(start_ns: int, end_ns: int) -> float:
    return round((end_ns - start_ns) / 1e6, 3)
