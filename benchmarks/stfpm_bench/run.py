"""One run of `stfpm-bench`: refuse what cannot be used, then measure time, then quality."""

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

from .accuracy import LabelledImages, check_product, find_labelled, measure_accuracy
from .client import model_contender
from .options import BenchOptions, unique_names
from .parity import GOLDEN, PYTORCH, measure_parity, read_golden, run_pytorch
from .results import BenchReport, ModelResult
from .roofline import measure_roofline
from .session import Session, Tally, measure
from .stats import noise

Log = Callable[[str], None]
IS_PYTORCH = "PyTorch itself: nothing to compare it with"
NO_THRESHOLD = "has no threshold: its decisions are timed with 0"


@dataclass(frozen=True)
class PreparedModel:
    """A model that can be measured, and what it is compared with."""

    path: Path
    name: str
    golden: Golden | None
    against: str
    labelled: LabelledImages | None
    notes: tuple[str, ...]


def bench(options: BenchOptions, log: Log = lambda line: None) -> BenchReport:
    """Measure all models. Ctrl-C ends it early; the report says so, and holds what there is.

    Raises StfpmErrors for models, data and golden results that cannot be used, all before anything is timed.
    """
    models = prepare_models(options)
    contenders = [model_contender(one.path, one.name, options.device, options.threads, options.frame) for one in models]
    session = measure(contenders, options.plan, log)
    results = [timing_result(tally, model, session) for tally, model in zip(session.tallies, models, strict=True)]
    try:
        for number, model in enumerate(models):
            if not session.interrupted:
                results[number] = measure_quality(results[number], model, options, log)
    except KeyboardInterrupt:
        session.interrupted = True
    return make_report(session, results, options)


def prepare_models(options: BenchOptions) -> list[PreparedModel]:
    """Open every model once, and refuse what cannot be used before time is spent on it."""
    names = unique_names(options.models)
    return [_prepare(path, name, options) for path, name in zip(options.models, names, strict=True)]


def make_report(session: Session, results: Sequence[ModelResult], options: BenchOptions) -> BenchReport:
    """Return the report of a session and its results."""
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


def timing_result(tally: Tally, model: PreparedModel, session: Session) -> ModelResult:
    """Return the times and sizes that were measured of a model."""
    facts = tally.facts
    return ModelResult(
        name=model.name,
        sha256=sha256(model.path),
        model=facts.get("name", ""),
        precision=facts.get("precision", ""),
        epochs=facts.get("epochs"),
        target=facts.get("target", ""),
        provider=facts.get("provider", ""),
        file_bytes=model.path.stat().st_size,
        installed_bytes=tally.installed_bytes,
        peak_bytes=tally.peak_bytes,
        gpu_bytes=tally.gpu_bytes,
        cold_start=tally.cold_start(),
        latency=tally.latency(session.stopped_by),
        idle=tally.idle(),
        throughput=tally.throughput(),
        energy_mj_per_frame=1e3 * median(tally.joules) if tally.joules else None,
        notes=model.notes,
    )


def measure_quality(result: ModelResult, model: PreparedModel, options: BenchOptions, log: Log) -> ModelResult:
    """Return the result with parity, accuracy and roofline, as far as they were asked for."""
    parity, accuracy = result.parity, result.accuracy
    if model.golden is not None or model.labelled is not None:
        with contextlib.closing(open_model(model.path, options.device, options.threads)) as engine:
            if model.golden is not None:
                log(f"{model.name}: parity against {model.against}")
                parity = measure_parity(engine, model.golden, model.against)
            if model.labelled is not None:
                log(f"{model.name}: accuracy on {model.labelled.name}")
                accuracy = measure_accuracy(engine, model.labelled)
    roofline, notes = None, result.notes
    if options.roofline:
        log(f"{model.name}: roofline")
        found = measure_roofline(model.path, result.provider, result.precision)
        roofline, notes = (None, (*notes, found)) if isinstance(found, str) else (found, notes)
    return dataclasses.replace(result, parity=parity, accuracy=accuracy, roofline=roofline, notes=notes)


def _prepare(path: Path, name: str, options: BenchOptions) -> PreparedModel:
    golden, against, labelled, notes = None, GOLDEN, None, []
    with contextlib.closing(open_model(path, options.device, options.threads)) as engine:
        if engine.spec.threshold is None:
            notes.append(NO_THRESHOLD)
        if (options.parity or options.checkpoint) and is_checkpoint(path):
            notes.append(IS_PYTORCH)
        elif checkpoint := _find_checkpoint(options, engine):
            golden, against = run_pytorch(checkpoint, engine.spec), PYTORCH
        elif options.parity:
            golden = read_golden(path)
        if options.data is not None:
            labelled = find_labelled(options.data, engine.spec)
            check_product(engine, labelled, options.data)
    return PreparedModel(path, name, golden, against, labelled, tuple(notes))


def _find_checkpoint(options: BenchOptions, engine: Engine) -> Path | None:
    """Return the checkpoint for parity: the given one, or the one of the same product among the models."""
    if options.checkpoint is not None or not options.parity:
        return options.checkpoint
    for path in filter(is_checkpoint, options.models):
        with contextlib.closing(open_model(path)) as other:
            if (other.spec.name, other.spec.teacher_sha256) == (engine.spec.name, engine.spec.teacher_sha256):
                return path
    return None
