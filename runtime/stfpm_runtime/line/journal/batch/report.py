"""A report on an interval of a journal: what its first page says, and all its tables."""

from __future__ import annotations

import csv
import dataclasses
import io
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from stfpm_runtime.line.journal.chain.verify import read_keys
from stfpm_runtime.line.journal.history import Count
from stfpm_runtime.line.journal.labels import count_confusion
from stfpm_runtime.line.journal.rows import csv_cell, local_time, storable
from stfpm_runtime.printed_page import Section
from stfpm_runtime.score import format_score

from .facts import SHADOW, BatchReader, VerificationResult
from .pictures import PICTURES, WRONG, KeptPicture, read_pictures
from .tables import NUMBERS, Tables, place_of, sum_up
from .words import Words

FORMAT = 1
"""The version of the report's form. It rises when the same journal would give other bytes."""
SIGNATURES = ("prepared by: name, date, signature", "released by: name, date, signature")
FILTERS = {"camera": "--camera", "region": "--region", "part": "--part", "part_prefix": "--part-prefix",
           "model": "--model", "label": "--labelled", "shift": "--shift"}  # fmt: skip
"""The options of stfpm-journal that limit a report beside its interval."""


@dataclass(frozen=True)
class ReportOptions:
    """What a person chooses about a report beside its interval: title, language, pictures, keys."""

    order: str = ""
    """What the report is about, as its reader calls it: an order, a batch, a shift."""
    language: str = "en"
    pictures: Path | None = None
    """The folder of the pictures; None: none is shown."""
    public_keys: Sequence[Path] = ()
    """Heads of the chain must be signed with one of them; without any, signatures are not verified."""


@dataclass(frozen=True)
class Report:
    """A report, in the language of its reader."""

    title: str
    language: str
    conclusion: str
    """One sentence that says if the rows are those that the line wrote."""
    is_sound: bool
    total: Count
    first: Sequence[Section]
    """The tables of the first page."""
    further: Sequence[Section]
    pictures: Sequence[tuple[KeptPicture, str]]
    """Those that are shown, each with its caption."""
    pictures_title: str
    signatures: Sequence[str]
    footer: str

    def to_csv(self) -> str:
        """Return all tables as CSV: each line begins with the table's title, the first one of each names the cells."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        for section in (*self.first, *self.further):
            for row in (section.headings, *section.rows):
                writer.writerow([section.title, *map(csv_cell, row)])
        return text.getvalue()


def make_report(reader: BatchReader, options: ReportOptions) -> Report:
    """Read the interval and return its report. Raises JournalError, and OptionError for an unknown language."""
    say = Words(options.language)
    options = dataclasses.replace(options, order=storable(options.order))
    tables = Tables(reader, say)
    groups, labelled, kinds = reader.verdict_groups(), reader.labelled(), reader.event_counts()
    rejects, faults = reader.first_verdicts("reject"), reader.first_verdicts("fault")
    names = {row.overlay or row.picture for row in (*rejects, *faults)}
    pictures = read_pictures([*rejects, *faults], options.pictures, reader.picture_digests(names))
    total = sum_up(groups, lambda group: ())[()]
    labels = {row.seq: label for row, label in labelled}
    asked = reader.asked
    # an event names its camera alone, so that those of a region, part, model or label cannot be counted
    has_events = not (asked.region or asked.part or asked.part_prefix or asked.model or asked.label)
    shadow, late = kinds.pop(SHADOW, 0) * has_events, kinds.get("late", 0) * has_events
    known = [
        ("missed deadlines", str(sum(group.late for group in groups))),
        ("frames passed over", str(sum(group.dropped for group in groups))),
        *(("labels", say(line)) for line in count_confusion(labelled).lines() if not line.startswith("0 of 0 ")),
        *([("passes and rejects that were answered too late, as faults", str(late))] if late else []),
        *([("disagreements with the shadow model", str(shadow))] if shadow else []),
    ]
    counts = [[say("verdicts"), *tables.numbers(total)]]
    if (parts := reader.count_parts()).total:
        counts.append([say("parts with an id, by all their verdicts"), *tables.numbers(parts)])
    check = reader.check(read_keys(options.public_keys))
    read = pictures.values()
    wrong = [f"picture {one.name} of verdict {one.row.seq}: {one.state}" for one in read if one.state in WRONG]
    conclusion, is_sound = _conclusion(check, wrong)
    title = say("Batch report") + (f": {options.order}" if options.order else "")
    places = ", ".join("/".join(place) for place in sum_up(groups, lambda group: (group.camera, group.region)))
    models = ", ".join(tables.model(sha256) for (sha256,) in sum_up(groups, lambda group: (group.model,)))
    about = [*_about(reader, options, say), ("cameras and regions", places), ("models", models), *known]
    verified = [("result", say(conclusion)), *(("finding", say(one)) for one in (*check.findings, *wrong)),
                *(("note", say(one)) for one in _notes(reader, options, check, len(pictures)))]  # fmt: skip
    return Report(
        title, options.language, say(conclusion), is_sound, total,
        [Section(say("Interval"), [say("what"), say("value")], [[say(name), text] for name, text in about]),
         Section(say("Counts"), ["", *map(say, NUMBERS)], counts),
         Section(say("Verification of the journal"), [say("what"), say("value")],
                 [[say(name), text] for name, text in verified])],
        [tables.by_place(groups), tables.by_time(), tables.models(groups), tables.thresholds(groups), tables.changes(),
         tables.states(), tables.labels(labelled),
         tables.verdicts("Rejects", rejects, total.rejected, labels, pictures),
         tables.verdicts("Not judged", faults, total.faults, labels, pictures),
         tables.events(reader.first_events(), sum(kinds.values()))],
        [(one, _caption(one, say)) for one in read if one.small],
        say("Pictures"), [say(one) for one in SIGNATURES],
        say(f"Made from the journal by: {_command(reader, options)}"),
    )  # fmt: skip


def _about(reader: BatchReader, options: ReportOptions, say: Words) -> list[tuple[str, str]]:
    """Return what the report is about, by name."""
    asked = reader.asked
    limits = [(name.replace("part_prefix", "beginning of the part's id"), getattr(asked, name))
              for name in FILTERS if getattr(asked, name)]  # fmt: skip
    return [
        *([("order", options.order)] if options.order else []),
        ("from", _moment(asked.since) or say("the beginning of the journal")),
        ("until", _moment(asked.until) or say("the end of the journal")),
        *limits,
        ("first and last verdict", f"{_moment(reader.since)} ... {_moment(reader.until)}"),
        ("numbers of the verdicts", f"{reader.numbers[0]} ... {reader.numbers[1]}"),
        ("journal", str(reader.id)),
        ("format of the report", str(FORMAT)),
    ]


def _conclusion(check: VerificationResult, wrong: Sequence[str]) -> tuple[str, bool]:
    """Return what the verification says in one sentence, and whether all is as the line wrote it."""
    if not check.has_chain:
        return "NOT VERIFIED: an earlier version wrote the journal, which has no chain", False
    if count := check.count + len(wrong):
        return f"NOT INTACT: {count} findings; what this report says may not be what the line wrote", False
    if check.uncovered:
        return f"NOT VERIFIED as a whole: an earlier version wrote the verdicts up to {check.uncovered}", False
    return "intact: no change was found in verdicts, events, labels, thresholds and models", True


def _notes(reader: BatchReader, options: ReportOptions, check: VerificationResult, pictures: int) -> list[str]:
    """Return what a reader has to know before trusting the report, a sentence each."""
    notes = list(check.notes)
    if check.has_chain and not check.is_signed:
        notes.append("the journal is not signed")
    if check.count > len(check.findings):
        notes.append(f"the first {len(check.findings)} findings are listed; stfpm-journal --verify lists all")
    seq, moment = reader.oldest()
    if seq > 1 and moment >= reader.asked.since:
        notes.append(f"verdicts before number {seq} were deleted by retention; some may have been of this interval")
    if options.pictures is None:
        notes.append("the folder of the pictures was not given; none was looked at")
    elif pictures == PICTURES:
        notes.append(f"the first {PICTURES} pictures of rejects and faults were compared with the journal; no others")
    return notes


def _caption(picture: KeptPicture, say: Words) -> str:
    row, digest = picture.row, picture.sha256[:16]
    score = format_score(row.score, row.threshold)
    what = [str(row.seq), local_time(row.time), place_of(row), row.part, say(row.decision), score]
    return " · ".join([*filter(None, what), f"{say(picture.state)} {digest}".strip()])


def _moment(moment: str) -> str:
    """Return a moment in local time, with the offset of the time zone."""
    try:
        there = datetime.fromisoformat(moment.replace("Z", "+00:00")).astimezone()
    except ValueError:
        return moment
    return there.isoformat(" ", "seconds")


def _command(reader: BatchReader, options: ReportOptions) -> str:
    """Return the command that makes the report again, without the names of files."""
    asked, begins = reader.asked, ",".join(f"{name}={begin}" for name, begin in reader.begins.items())
    words = ["stfpm-journal", "JOURNAL", "--report", "FILE"]
    bounds = {"--since": asked.since.replace("Z", "+00:00"), "--until": asked.until.replace("Z", "+00:00")}
    limits = {option: getattr(asked, name) for name, option in FILTERS.items()}
    more = {
        "--shifts": begins if asked.shift else "",
        "--order": options.order,
        "--language": options.language if options.language != "en" else "",
    }
    for option, value in {**bounds, **limits, **more}.items():
        words += [f"{option}={shlex.quote(value)}"] if value else []
    words += ["--pictures FOLDER"] if options.pictures else []
    return " ".join([*words, *["--public-key KEY"] * len(options.public_keys)])
