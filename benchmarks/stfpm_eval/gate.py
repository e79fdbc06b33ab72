"""The gate of `stfpm-eval`: whether a model may take another's place, by what it is able to do."""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from stfpm_runtime.ability import Ability, Case, Expected, measure_ability
from stfpm_runtime.detector import Detector, Picture
from stfpm_runtime.errors import DataError, OptionError, StfpmError
from stfpm_runtime.files import atomic_path, check_writable
from stfpm_runtime.imaging.images import read_image
from stfpm_runtime.imaging.overlay import draw_overlay
from stfpm_runtime.sources import find_files
from stfpm_runtime.sources.files import check_save, summarise

from .models import open_model


@dataclass(frozen=True)
class GateOptions:
    """Options of the gate."""

    model: Path
    must_reject: tuple[str, ...] = ()
    """Pictures of known defects: files, folders and glob patterns."""
    must_pass: tuple[str, ...] = ()
    """Pictures of good parts."""
    against: Path | None = None
    """The model whose place is taken."""
    json: Path | None = None
    """A file for the figures and the differences."""
    save: Path | None = None
    """A folder for pictures of what the models decide differently or wrongly: the old one's left, the new one's right.
    """


def pass_gate(options: GateOptions) -> Ability:
    """Print what the model is able to do, and return it.

    Raises StfpmError where it may not take the other's place, after everything was written, and for pictures and models
    that cannot be used.
    """
    pictures: list[tuple[Path, Expected]] = [(path, "reject") for path in _files(options.must_reject)]
    pictures += [(path, "pass") for path in _files(options.must_pass)]
    both = {path.resolve() for path, expected in pictures if expected == "reject"}
    if twice := [path for path, expected in pictures if expected == "pass" and path.resolve() in both]:
        raise OptionError(f"{twice[0]}: is given with --must-reject and --must-pass; expected one of them")
    if options.json:
        models = [path for path in (options.model, options.against) if path]
        check_writable(options.json, (*(path for path, _ in pictures), *models))
    if options.save:
        check_save(options.save, [path for path, _ in pictures])
    with contextlib.ExitStack() as stack:

        def opened(path: Path) -> Detector:
            return Detector(stack.enter_context(contextlib.closing(open_model(path))))

        new, old = opened(options.model), opened(options.against) if options.against else None
        _check_alike(new, old)
        saved = itertools.count()

        def on_case(case: Case, picture: Picture) -> None:
            if options.save and (case.differs or case.is_wrong):
                _save(options.save / f"{next(saved):04d}.{Path(case.picture).name}.png", case, picture)

        bits = new.engine.spec.bits
        named = ((str(path), read_image(path, bits=bits), expected) for path, expected in pictures)
        ability = measure_ability(new, old, named, on_case)
    if options.json:
        with atomic_path(options.json) as unfinished:
            unfinished.write_text(json.dumps(ability.to_dict(), indent=1) + "\n", encoding="utf-8")
    for line in _lines(ability):
        print(line)
    if ability.failures:
        raise StfpmError(f"{options.model}: {'; '.join(ability.failures)}; it must not replace the model in use")
    return ability


def _files(sources: tuple[str, ...]) -> list[Path]:
    if not sources:
        return []
    found = find_files(sources)
    if found.left_out:
        print(f"stfpm-eval: {summarise(found.left_out)}", file=sys.stderr)
    return list(found.paths)


def _check_alike(new: Detector, old: Detector | None) -> None:
    """Raise DataError for models of different products: their verdicts say nothing about each other."""
    if old is not None and new.engine.spec.name != old.engine.spec.name:
        names = new.engine.spec.name, old.engine.spec.name
        raise DataError(f"got models of the products {names[0]!r} and {names[1]!r}; expected two of one product")


def _lines(ability: Ability) -> list[str]:
    """Return what the models do on the pictures, as a table for a person."""
    lines = [f"{'':24}{'pictures':>10}{'new':>8}{'old':>8}"]
    rows = ("known defects passed", ability.defects, "pass"), ("good parts rejected", ability.good, "reject")
    for words, cases, wrong in rows:
        new = sum(case.new.decision == wrong for case in cases)
        olds = [case.old.decision == wrong for case in cases if case.old is not None]
        lines.append(f"{words:24}{len(cases):10}{new:8}{sum(olds) if olds else '-':>8}")
    if still := ability.still_passed:
        lines.append(f"warning: {len(still)} known defects are passed by both models, say {still[0].picture}")
    return lines


def _save(path: Path, case: Case, picture: Picture) -> None:
    assert isinstance(picture, np.ndarray), "read before it was judged"
    drawn = [
        draw_overlay(picture, one.decision, one.score, one.threshold, one.anomaly_map, one.reason)
        for one in (case.old, case.new) if one is not None
    ]  # fmt: skip
    with atomic_path(path) as unfinished:
        unfinished.write_bytes(cv2.imencode(".png", np.hstack(drawn))[1].tobytes())
