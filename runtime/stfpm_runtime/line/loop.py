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

from .board import Board
from .drift import DriftWatch
from .entry import Entry, record, storable, utc
from .heartbeat import Heartbeat
from .inspector import Judged
from .lines_file import JsonLinesFollower
from .ordering import take_orders
from .pictures import Pictures
from .recorder import Recorder
from .ruling import Ruling, Succession
from .sd_notify import Notifier
from .shadow import Shadow
from .shots import Meeting, Shot
from .sinks.follower import Follower
from .station import POLL_S, Station
from .summary import Summary

LOG = logging.getLogger("stfpm.line")
STOPPING_S = 2.0
"""Within which cameras' threads have to end: a driver that hangs must not hold up the stop."""
STOPPED = "the line stopped before it was judged"


@dataclass(frozen=True)
class Line:
    """All the parts of a line, ready to run."""

    stations: tuple[Station, ...]
    meeting: Meeting
    ruling: Ruling
    recorder: Recorder
    drift: DriftWatch
    pictures: Pictures | None = None
    json_lines: JsonLinesFollower | None = None
    followers: tuple[Follower, ...] = ()
    """Threads that tell others, each from the journal."""
    succession: Succession | None = None
    """Who may put another model in the ruling one's place."""
    shadow: Shadow | None = None
    board: Board | None = None
    """What is shown; None: nobody can look."""
    heartbeat: Heartbeat = field(default_factory=Heartbeat)
    """What the sinks send while frames can be judged and journalled."""
    notifier: Notifier = field(default_factory=Notifier)
    summary: Summary = field(default_factory=Summary)


def run(line: Line, stop: threading.Event) -> None:
    """Judge what the cameras bring until told to stop, or until no frame will ever come again.

    Raises StfpmError for a camera that can never be opened. Nothing else ends it: whatever breaks makes faults.
    """
    for station in line.stations:
        station.start()
    while not stop.is_set() and not any(station.failure for station in line.stations):
        ended = all(station.ended for station in line.stations)  # asked first: what was brought until then is there
        shots = line.meeting.take(POLL_S)
        if ended and not shots:
            break
        pass_on(line, line.ruling.inspector.judge(shots))
        keep_up(line)
    finish(line)
    for station in line.stations:
        if station.failure:
            raise station.failure


def pass_on(line: Line, judged: Sequence[Judged]) -> None:
    """Verdicts to the journal, one by one, and only then to whoever waits for them."""
    for shot, parts in itertools.groupby(judged, key=lambda part: part.shot):
        kept = [(part, keep(line, part)) for part in parts]
        shot.firing.answer([record(entry, line.recorder.id) for _, entry in kept])
        look_on(line, kept)
    if judged:
        for follower in (line.json_lines, *line.followers):
            if follower:
                follower.wake()


def keep(line: Line, judged: Judged) -> Entry:
    """One verdict into the journal, with the names of the pictures that it will have."""
    entry, job = make_entry(line, judged), None
    if line.pictures:
        entry, job = line.pictures.promise(entry, judged)
    entry = line.recorder.keep(entry)
    if line.pictures and job:
        if entry.seq:
            line.pictures.submit(job)
        else:
            line.pictures.withdraw(job)
    line.summary.take(entry)
    return entry


def look_on(line: Line, kept: Sequence[tuple[Judged, Entry]]) -> None:
    """What has no say in the verdicts, and comes after them: drift, the shadow, what is shown."""
    for judged, entry in kept:
        line.drift.take(entry, judged.looks)
        if line.board:
            line.board.take(entry, judged)
    if line.shadow:
        line.shadow.offer(kept)


def make_entry(line: Line, judged: Judged) -> Entry:
    """The decision on one part, as the journal has it."""
    shot, verdict, now_ns = judged.shot, judged.verdict, time.monotonic_ns()
    decision, reason = line.ruling.decider.decide(judged)
    return Entry(
        seq=line.recorder.next_seq,
        time=utc(),
        monotonic_ns=now_ns,
        run=line.recorder.run,
        camera=shot.camera.name,
        region=judged.region.name,
        source=storable(shot.frame.source),
        frame=shot.frame.index,
        part=shot.frame.part,
        decision=decision,
        score=verdict.score,
        p_value=line.ruling.decider.p_value(judged),
        threshold=verdict.threshold,
        reason=storable(reason),
        model=line.ruling.model.sha256,
        dropped=shot.frame.dropped,
        wait_ms=_since_ms(shot.frame.arrived_ns, judged.taken_ns),
        preprocess_ms=round(verdict.timings.preprocess_ms, 3),
        infer_ms=round(verdict.timings.infer_ms, 3),
        latency_ms=_since_ms(shot.frame.arrived_ns, now_ns),
    )


def keep_up(line: Line) -> None:
    """What is due between frames: another model or threshold, events, limits, signs of life."""
    if line.succession and (model := line.succession.take_over()):
        line.drift.begin(model.spec.held_out_scores)
    take_orders(line.recorder, line.ruling)
    line.recorder.keep_up()
    line.heartbeat.advance(line.ruling.inspector.engine_works() and line.recorder.works)
    if line.board:
        line.board.turned()
    line.notifier.alive(line.summary.status)
    line.summary.log_now_and_then()


def finish(line: Line) -> None:
    """End the cameras' threads. Parts that somebody asked for and that were not judged any more become faults."""
    firings = [(station, firing) for station in line.stations for firing in station.close()]
    until = time.monotonic() + STOPPING_S
    waiting: list[Shot] = []
    while not all(station.ended for station in line.stations) and time.monotonic() < until:
        waiting += line.meeting.take(0.01)
    waiting += line.meeting.close()
    waiting += [station.shot_without_frame(firing, STOPPED) for station, firing in firings]
    asked = [shot for shot in waiting if shot.firing.asked]
    pass_on(line, line.ruling.inspector.refuse(asked, STOPPED))


def _since_ms(start_ns: int, end_ns: int) -> float:
    return round((end_ns - start_ns) / 1e6, 3)
