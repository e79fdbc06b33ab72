"""The tables and sentences of a study: the terminal and the page show the same ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from stfpm_runtime.binomial import highest_rate, parts_to_prove, plan_proof
from stfpm_runtime.cli import printable
from stfpm_runtime.errors import name_some
from stfpm_runtime.printed_page import Section

from .agreement import BOUNDS, GRADES, KAPPA_BOUNDS, SHOULD_BE, Agreement, Appraiser, Rate
from .presentations import DECISIONS, Study
from .variation import GRR_BOUNDS, MIN_CATEGORIES, Variation

NOT_KNOWN = "-"
TITLES = {
    "EV": "repeatability (EV)", "AV": "reproducibility (AV)", "INT": "appraiser x part (INT)",
    "GRR": "repeatability and reproducibility (GRR)", "PV": "parts (PV)", "TV": "total (TV)",
}  # fmt: skip


@dataclass(frozen=True)
class Result:
    """A study and what was found."""

    title: str
    inputs: tuple[str, ...]
    study: Study
    agreement: Agreement | None
    variation: Variation | None

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON has it; what was not computed is null."""
        study = self.study
        return {
            "title": self.title, "inputs": self.inputs, "parts": dict(zip(study.parts, study.references, strict=True)),
            "appraisers": study.appraisers, "trials": study.trials, "notes": notes(self),
            "agreement": self.agreement and dataclasses.asdict(self.agreement),
            "variation": self.variation and dataclasses.asdict(self.variation), "proofs": proofs(self),
        }  # fmt: skip


def conditions(result: Result) -> str:
    """Return what was studied, in one sentence."""
    study = result.study
    kinds = (("good", "good"), ("defect", "defective"), ("", "without a reference"))
    counts = [f"{study.references.count(kind)} {words}" for kind, words in kinds if kind in study.references]
    trials = f"{study.trials} trials" if study.trials > 1 else "1 trial"
    return f"{len(study.parts)} parts ({', '.join(counts)}), {trials} by each of: {', '.join(study.appraisers)}."


def notes(result: Result) -> list[str]:
    """Return what a reader has to know before trusting the figures, a sentence each."""
    study, agreement, variation = result.study, result.agreement, result.variation
    lines = list(study.notes)
    unknown = [part for part, reference in zip(study.parts, study.references, strict=True) if not reference]
    if agreement and unknown:
        lines.append(f"Parts without a reference, whose decisions are compared with one another only: "
                     f"{name_some(unknown)}.")  # fmt: skip
    if study.trials == 1:
        lines.append("There is one trial only: whether decisions and scores repeat is not known; present each part "
                     "again.")  # fmt: skip
    for one in agreement.appraisers if agreement else ():
        if one.faults.count:
            lines.append(f"{one.name}: {one.faults.count} of {one.faults.of} presentations are faults. A fault is no "
                         "pass: it counts as neither miss nor false alarm, but as not right.")  # fmt: skip
        if one.kappa_within is None and study.trials > 1:
            lines.append(f"{one.name}: all decisions are alike, so that Kappa of the trials is not defined; a study "
                         "needs good parts and defects.")  # fmt: skip
    if agreement is None:
        lines.append("There are no decisions, so that agreement was not analysed.")
    if variation is None and np.isfinite(study.scores).any() and study.trials > 1:
        lines.append("Fewer than two parts have a score in every presentation, so that their variation was not "
                     "analysed.")  # fmt: skip
    elif variation is None and study.trials > 1:
        lines.append("There are no scores, so that their variation was not analysed.")
    if variation and variation.left_out:
        lines.append(f"Parts that lack a score in some presentation, and are left out of the scores' variation: "
                     f"{name_some(variation.left_out)}.")  # fmt: skip
    if variation and variation.identical:
        lines.append("All presentations of each part have the same score to the last digit. Was each part put before "
                     "the camera again, or was one picture judged again?")  # fmt: skip
    return lines


def sections(result: Result) -> list[Section]:
    """Return the tables of a study, in order; what was not computed is left out."""
    found = []
    if agreement := result.agreement:
        rows = [[name, *values, bound] for name, values, bound in _agreement_rows(result, agreement)]
        names = [one.name for one in agreement.appraisers]
        found.append(Section("Decisions", ["", *names, "AIAG's bound"], rows))
        if agreement.pairs:
            kinds = [(i, j) for i in range(3) for j in range(3) if any(pair.table[i][j] for pair in agreement.pairs)]
            found.append(Section(
                "Appraisers compared, trial by trial",
                ["", "Kappa", *(f"{DECISIONS[i]} - {DECISIONS[j]}" for i, j in kinds)],
                [[" - ".join(pair.names), kappa(pair.kappa), *(str(pair.table[i][j]) for i, j in kinds)]
                 for pair in agreement.pairs]))  # fmt: skip
        wrong = [row for row in presentations(result) if row[2]]
        if wrong:
            names = [f"decisions of {one}" for one in result.study.appraisers]
            found.append(Section("Parts that were decided unequally or wrongly", ["part", "reference", *names],
                                 [[*row[:2], *row[3]] for row in wrong]))  # fmt: skip
    if variation := result.variation:
        found.append(Section(
            f"Variation of the scores: {len(variation.parts)} parts, {', '.join(variation.appraisers)}",
            ["", "standard deviation", "% of total variation", "% of total variance"],
            [[TITLES[one.name], f"{one.sd:.6f}", f"{one.of_total:.2%}", f"{one.contribution:.2%}"]
             for one in variation.shown]))  # fmt: skip
        found.append(Section("Analysis of variance", ["source", "df", "SS", "MS", "F", "p"], [
            [one.name, str(one.df), f"{one.ss:.4f}", f"{one.ms:.5f}", number(one.f, ".3f"), number(one.p, ".4f")]
            for one in variation.sources]))  # fmt: skip
    return found


def conclusions(result: Result) -> list[str]:
    """Return what the figures come to by AIAG's bounds, a sentence each."""
    lines = []
    for one in result.agreement.appraisers if result.agreement else ():
        wrong = ", ".join(f"{name} {grade}" for name, grade in one.grades.items() if grade != GRADES[0])
        if one.grade:
            lines.append(f"Decisions of {one.name}: {one.grade}" + (f" ({wrong})." if wrong else "."))
    if variation := result.variation:
        categories = "no limit, as GRR is 0" if variation.categories is None else str(variation.categories)
        lines.append(
            f"Scores: {variation.grade}. GRR is {variation.components['GRR'].of_total:.1%} of the total variation "
            f"(up to {GRR_BOUNDS[0]:.0%} acceptable, up to {GRR_BOUNDS[1]:.0%} marginal), and the number of distinct "
            f"categories is {categories} ({MIN_CATEGORIES} or more expected)."
        )
        if limit := variation.threshold:
            lines.append(
                f"A part whose mean score is between {limit.low:.4g} and {limit.high:.4g} (threshold ± 3 GRR) may be "
                f"decided either way; {limit.between} of the {len(variation.parts)} parts are there."
            )
            if limit.of_tolerance is not None:
                lines.append(f"3 GRR is {limit.of_tolerance:.1%} of the way from the good parts' mean score to the "
                             "threshold, which is a one-sided limit.")  # fmt: skip
        if len(variation.appraisers) > 1:
            effect = "not significant, and counts as repeatability" if variation.pooled else "an own component"
            lines.append(f"The interaction of appraisers and parts is {effect}.")
    return lines


def proofs(result: Result) -> list[str]:
    """Return what the counted parts can prove, and how many parts would prove AIAG's bounds, a sentence each."""
    lines = []
    for one in result.agreement.appraisers if result.agreement else ():
        for rate, words in ((one.missed_parts, "defective parts passed"),
                            (one.rejected_good_parts, "good parts were rejected")):  # fmt: skip
            if rate.of:
                most = f"{highest_rate(rate.count, rate.of):.1%}"
                lines.append(f"{one.name}: {rate.count} of {rate.of} {words} in one trial or more; with 95% confidence "
                             f"at most {most} of such parts would.")  # fmt: skip
    for kind, name in (("defective", "miss rate"), ("good", "false-alarm rate")) if result.agreement else ():
        bound = BOUNDS[name][0]
        planned, allowed = plan_proof(bound, bound / 2)
        lines.append(f"To prove a {name} of {bound:.0%} takes {parts_to_prove(bound)} {kind} parts with no error, "
                     f"{parts_to_prove(bound, 1)} with one. An inspection whose true rate is {bound / 2:.1%} succeeds "
                     f"with a probability of 80% from {planned} parts on, with up to {allowed} errors.")  # fmt: skip
    if lines:
        lines.append("Parts are counted here, not presentations: trials of one part are not independent. AIAG's bounds "
                     "are compared with the counted shares, not with the limits of their intervals.")  # fmt: skip
    return lines


def presentations(result: Result) -> Iterator[tuple[str, str, bool, list[str]]]:
    """Yield each part, its reference, whether it was decided unequally or wrongly, and each appraiser's decisions."""
    study = result.study
    for index, (part, reference) in enumerate(zip(study.parts, study.references, strict=True)):
        decisions = study.decisions[:, index]
        made = set(decisions.flat) - {""}
        wrong = len(made) > 1 or (bool(made) and reference != "" and made != {SHOULD_BE[reference]})
        yield part, reference or NOT_KNOWN, wrong, [" ".join(one).strip() for one in decisions]


def to_words(result: Result) -> str:
    """Return the study as text for the terminal."""
    lines = [conditions(result), *(f"Note: {line}" for line in notes(result))]
    for section in sections(result):
        cells = [section.headings, *section.rows]
        widths = [max(len(row[index]) for row in cells) for index in range(len(section.headings))]
        lines += ["", section.title]
        lines += [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
        ]
    return "\n".join(map(printable, [*lines, "", *conclusions(result), "", *proofs(result)])).rstrip()


def kappa(value: float | None) -> str:
    """Return Kappa with two digits, as AIAG prints it."""
    return number(value, ".2f")


def number(value: float | None, form: str) -> str:
    """Return a number in a format, or the sign for what is not known."""
    return NOT_KNOWN if value is None else format(value, form)


def rate_text(rate: Rate) -> str:
    """Return a share with its counts and its interval."""
    if rate.share is None:
        return NOT_KNOWN
    return f"{percent(rate.share)} ({rate.count} of {rate.of}; {rate.low:.1%} to {rate.high:.1%})"


def percent(share: float) -> str:
    """Return a share, 0 to 1, in percent with one decimal; a half is rounded up, as AIAG's tables have it."""
    return f"{share + 1e-12:.1%}"


def _agreement_rows(result: Result, agreement: Agreement) -> Iterator[tuple[str, list[str], str]]:
    """Yield the name, a text of each appraiser, and the bound of each figure."""
    good_kappa = f"> {KAPPA_BOUNDS[0]}"
    rates = {
        "effectiveness (parts)": ("effectiveness", "effectiveness"), "miss rate": ("misses", "miss rate"),
        "false-alarm rate": ("false_alarms", "false-alarm rate"),
    }  # fmt: skip

    def row(attribute: str) -> list[Any]:
        return [getattr(one, attribute) for one in agreement.appraisers]

    def has_reference(one: Appraiser) -> bool:
        return one.effectiveness.of > 0

    if result.study.trials > 1:
        yield "repeats itself (parts)", [rate_text(one) for one in row("repeated")], ""
        yield "Kappa, trial against trial", [kappa(one) for one in row("kappa_within")], good_kappa
    if any(map(has_reference, agreement.appraisers)):
        yield "Kappa, against the reference", [kappa(one) for one in row("kappa_reference")], good_kappa
        for title, (attribute, name) in rates.items():
            sign = ">=" if name == "effectiveness" else "<="
            yield title, [rate_text(one) for one in row(attribute)], f"{sign} {BOUNDS[name][0]:.0%}"
    yield "faults", [rate_text(one) for one in row("faults")], ""
    if any(map(has_reference, agreement.appraisers)):
        yield "by AIAG's bounds", [one or NOT_KNOWN for one in row("grade")], ""
    if len(agreement.appraisers) > 1:
        blank = [""] * (len(agreement.appraisers) - 1)
        yield "all agree in all trials (parts)", [rate_text(agreement.all_agree), *blank], ""
        if agreement.all_right.of:
            yield "all are right in all trials (parts)", [rate_text(agreement.all_right), *blank], ""
