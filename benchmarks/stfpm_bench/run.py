"""One run of `stfpm-bench`: what can be refused is refused first, then time is measured, then quality."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from stfpm_eval.models import is_checkpoint, open_model
from stfpm_runtime.artifact.golden import Golden
from stfpm_runtime.engines import Engine
from stfpm_runtime.files import sha256
from stfpm_runtime.machine import describe_machine

from .accuracy import Labelled, check_product, find_labelled, measure_accuracy
from .client import our_contender
from .options import BenchOptions, unique_names
from .parity import GOLDEN, PYTORCH, ask_pytorch, measure_parity, read_golden
from .results import BenchReport, ModelResult
from .roofline import measure_roofline
from .session import INTERRUPTED, Session, Tally, measure
from .stats import noise

Say = Callable[[str], None]
ITSELF = "PyTorch itself: nothing to compare it with"
NO_THRESHOLD = "has no threshold: its decisions are timed with 0"


@dataclass(frozen=True)
class BenchTarget:
    """A model and what it will be held against."""

    path: Path
    name: str
    golden: Golden | None
    against: str
    labelled: Labelled | None
    notes: tuple[str, ...]


def bench(options: BenchOptions, say: Say = lambda line: None) -> BenchReport:
    """Measure all models. Ctrl-C ends it early; the report says so, and holds what there is.

    Raises StfpmErrors for models, data and golden results that cannot be used, all before anything is timed.
    """
    subjects = prepare_all(options)
    contenders = [our_contender(one.path, one.name, options.device, options.threads, options.frame) for one in subjects]
    session = measure(contenders, options.plan, say)
    results = [result_of(tally, subject, session) for tally, subject in zip(session.tallies, subjects, strict=True)]
    try:
        for number, subject in enumerate(subjects):
            if not session.interrupted:
                results[number] = measure_quality(results[number], subject, options, say)
    except KeyboardInterrupt:
        session.interrupted = True
    return assemble(session, results, options)


def prepare_all(options: BenchOptions) -> list[BenchTarget]:
    """Open every model once, and refuse what cannot be used before time is spent on it."""
    names = unique_names(options.models)
    return [_prepare(path, name, options) for path, name in zip(options.models, names, strict=True)]


def assemble(session: Session, results: Sequence[ModelResult], options: BenchOptions) -> BenchReport:
    """The report of a session and of what came out of it."""
    samples = [(tally.contender.name, tally.rounds) for tally in session.tallies if tally.turns]
    return BenchReport(
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        machine=describe_machine(),
        frame=options.frame,
        threads=options.threads,
        models=tuple(results),
        others_cpu_share=session.others_cpu_share,
        sensors_start=session.sensors_start,
        sensors_end=session.sensors_end,
        noise=noise(samples, session.others_cpu_share),
        interrupted=session.interrupted,
    )


def _prepare(path: Path, name: str, options: BenchOptions) -> BenchTarget:
    golden, against, notes = None, GOLDEN, []
    labelled = None
    with contextlib.closing(open_model(path, options.device, options.threads)) as engine:
        if engine.spec.threshold is None:
            notes.append(NO_THRESHOLD)
        if (options.parity or options.checkpoint) and is_checkpoint(path):
            notes.append(ITSELF)
        elif checkpoint := _checkpoint(options, engine):
            golden, against = ask_pytorch(checkpoint, engine.spec), PYTORCH
        elif options.parity:
            golden = read_golden(path)
        if options.data is not None:
            labelled = find_labelled(options.data, engine.spec)
            check_product(engine, labelled, options.data)
    return BenchTarget(path, name, golden, against, labelled, tuple(notes))


def _checkpoint(options: BenchOptions, engine: Engine) -> Path | None:
    """The checkpoint for parity: the given one, or that of the same product among the models."""
    if options.checkpoint is not None or not options.parity:
        return options.checkpoint
    for path in filter(is_checkpoint, options.models):
        with contextlib.closing(open_model(path)) as other:
            if (other.spec.name, other.spec.teacher_sha256) == (engine.spec.name, engine.spec.teacher_sha256):
                return path
    return None


def result_of(tally: Tally, subject: BenchTarget, session: Session) -> ModelResult:
    """What was measured of a model."""
    facts = tally.facts
    return ModelResult(
        name=subject.name,
        sha256=sha256(subject.path),
        model=facts.get("name", ""),
        precision=facts.get("precision", ""),
        epochs=facts.get("epochs"),
        target=facts.get("target", ""),
        provider=facts.get("provider", ""),
        file_bytes=subject.path.stat().st_size,
        installed_bytes=tally.installed_bytes,
        peak_bytes=tally.peak_bytes,
        gpu_bytes=tally.gpu_bytes,
        cold_start=tally.cold_start(),
        latency=tally.latency(session.stopped_by or INTERRUPTED),
        idle=tally.idle(),
        throughput=tally.throughput(),
        energy_mj_per_frame=1e3 * median(tally.joules) if tally.joules else None,
        notes=subject.notes,
    )


def measure_quality(result: ModelResult, subject: BenchTarget, options: BenchOptions, say: Say) -> ModelResult:
    """Add parity, accuracy and roofline, as far as they were asked for."""
    if subject.golden is not None or subject.labelled is not None:
        with contextlib.closing(open_model(subject.path, options.device, options.threads)) as engine:
            if subject.golden is not None:
                say(f"{subject.name}: parity against {subject.against}")
                parity = measure_parity(engine, subject.golden, subject.against)
                result = dataclasses.replace(result, parity=parity)
            if subject.labelled is not None:
                say(f"{subject.name}: accuracy on {subject.labelled.name}")
                result = dataclasses.replace(result, accuracy=measure_accuracy(engine, subject.labelled))
    if options.roofline:
        say(f"{subject.name}: roofline")
        roofline = measure_roofline(subject.path, result.provider, result.precision)
        if isinstance(roofline, str):
            return dataclasses.replace(result, notes=(*result.notes, roofline))
        result = dataclasses.replace(result, roofline=roofline)
    return result
