"""`stfpm-journal line3.sqlite`: counts, yield, rejects and events of journals, also while they are written.

It also tries or sets a threshold, labels parts, and has refused verdicts sent again.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from stfpm_runtime.cli import printable, run
from stfpm_runtime.detector import Decision
from stfpm_runtime.line.journal.batch.report import ReportOptions
from stfpm_runtime.line.journal.batch.words import languages
from stfpm_runtime.line.journal.dead_letters import mark_for_resending
from stfpm_runtime.line.journal.history import Filter, History, Per, count_all
from stfpm_runtime.line.journal.labels import VALUES, Value, new_label, write_label
from stfpm_runtime.line.journal.reader import check_journals
from stfpm_runtime.line.journal.rows import local_time
from stfpm_runtime.line.journal.threshold_changes import (
    check_place,
    new_threshold_change,
    places_of,
    request_threshold,
    wait_for_result,
)
from stfpm_runtime.line.journal.what_if import newest_model, simulate_threshold
from stfpm_runtime.shifts import DEFAULT_SHIFTS, Shifts

from .arguments import interval_of, moment_of, shifts_of, threshold_of
from .chain import make_key, verify
from .listings import print_counts, print_csv, print_events, print_labels, print_rejects
from .report import write_report

COMMAND = "stfpm-journal"
NOT_GIVEN = object()
ANSWER_S = 2.0
"""How long to wait for a running line to put a threshold in force, in seconds."""

Action = Literal[
    "counts", "csv", "rejects", "events", "labels", "threshold", "label", "resend", "verify", "new_key", "report"
]
INTERVAL = ("since", "until", "camera", "shift", "shifts")
FILTERS = (*INTERVAL, "region", "part", "part_prefix", "model", "labelled")
TAKES: dict[Action, tuple[str, ...]] = {
    "new_key": (),
    "resend": (),
    "threshold": ("by", "note", "camera", "region", "json"),
    "label": ("by", "kind", "note"),
    "verify": ("pictures", "public_key", "anchor"),
    "report": (*FILTERS, "pictures", "public_key", "order", "language"),
    "rejects": (*FILTERS, "decision", "csv", "json", "pictures"),
    "events": (*INTERVAL, "json"),
    "labels": (*FILTERS, "decision", "json"),
    "csv": (*FILTERS, "decision", "pictures"),
    "counts": (*FILTERS, "per", "json", "pictures"),
}
"""The options that go with each action; of several that were given the first is the action."""


@dataclass(frozen=True)
class JournalCliOptions:
    """What to do with which journals."""

    journals: tuple[Path, ...]
    """Several where they are only read."""
    action: Action
    period: Filter
    json: bool = False
    pictures: Path | None = None
    """The folder of the pictures, whose names the journal holds."""
    threshold: float | None = None
    """The threshold to try or to set; None: what configuration and model say."""
    who: str = ""
    """The name of who sets the threshold; empty: it is only tried."""
    output: str = ""
    """The name of the output whose refused verdicts are sent again."""
    label: tuple[str, Value] | None = None
    """The number of a verdict, and what its part was."""
    kind: str = ""
    note: str = ""
    """A remark on a label, or the reason for a threshold."""
    per: Per = "region"
    """What the counts are divided by."""
    csv: bool = False
    """Whether verdicts are printed as CSV: all, or with the action `rejects` those."""
    shifts: Shifts | None = None
    public_keys: Sequence[Path] = ()
    anchor: Path | None = None
    """A file of lines that were kept elsewhere, which the chain must still hold."""
    report: tuple[Path, ReportOptions] | None = None
    """A file for the batch report."""

    @property
    def journal(self) -> Path:
        """Return the only journal."""
        return self.journals[0]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; `argv` is without the command's name."""
    options = parse(argv)
    actions: dict[str, Callable[[JournalCliOptions], int]] = {
        "threshold": change_threshold,
        "label": label_part,
        "resend": resend,
        "verify": lambda options: verify(options.journal, options.public_keys, options.anchor, options.pictures),
        "new_key": lambda options: make_key(options.journal),
        "report": report,
    }
    return run(COMMAND, lambda: actions.get(options.action, show)(options))


def parse(argv: Sequence[str] | None = None) -> JournalCliOptions:
    """Return the command line as options. Exits with 2 for bad usage."""
    parser = _make_parser()
    args = parser.parse_args(argv)
    if bool(args.journal) is bool(args.new_key):
        parser.error("expected a journal, or --new-key FILE alone")
    given = {name for name, value in vars(args).items() if value} - {"journal", "show", "threshold"}
    given |= {args.show} - {"counts"}
    given |= set() if args.threshold is NOT_GIVEN else {"threshold"}
    action: Action = next((name for name in TAKES if name in given), "counts")
    if unfit := sorted(given - {action, *TAKES[action]}):
        options = " and ".join(f"--{'reason' if name == 'note' else name.replace('_', '-')}" for name in unfit)
        name = "counts" if action == "counts" else f"--{action.replace('_', '-')}"
        parser.error(f"{options}: cannot be combined with {name}")
    if args.new_key:
        return JournalCliOptions((args.new_key,), "new_key", Filter())
    since, until, shift = interval_of(parser, args)
    if args.csv and args.json:
        parser.error("--csv with --json: expected one of them")
    if args.shifts and action != "report" and args.per != "shift" and not args.shift:
        parser.error("--shifts goes with --per shift or --shift")
    if shift and action in ("labels", "events"):
        parser.error(f"--{action} goes with --shift DAY/NAME")
    if args.threshold is None and not args.by:
        parser.error("--threshold configured without --by: expected who sets it")
    if action == "threshold" and args.note and not args.by:
        parser.error("--reason goes with --by")
    if args.label and not args.by:
        parser.error("--label without --by: expected who says so")
    if args.label and not (args.label[0].isdecimal() and len(args.label[0]) < 19 and args.label[1] in VALUES):
        parser.error(f"got --label {' '.join(args.label)}; expected a verdict's number, and one of {', '.join(VALUES)}")
    if len(args.journal) > 1 and action in ("resend", "threshold", "label", "verify", "report"):
        parser.error(f"got {len(args.journal)} journals with --{action}; expected one")
    how = ReportOptions(args.order, args.language or "en", args.pictures, args.public_key)
    period = Filter(since, until, args.camera, args.part, args.region, args.decision, args.model,
                    args.labelled, shift, args.part_prefix)  # fmt: skip
    return JournalCliOptions(
        tuple(args.journal), action, period, args.json, args.pictures,
        None if args.threshold is NOT_GIVEN else args.threshold,
        args.by, args.resend, args.label, args.kind, args.note, args.per or "region", args.csv, args.shifts,
        args.public_key, args.anchor, (args.report, how) if args.report else None,
    )  # fmt: skip


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=COMMAND, description="Show counts, yield and rejects from a journal.")
    add = parser.add_argument
    moment = "2026-11-24, 2026-11-24T06:00 or 06:00 (local time), today, yesterday, or 30m, 8h, 7d ago"
    add("journal", nargs="*", type=Path, help="SQLite files that stfpm-inspect --config or --journal wrote")
    add("--since", type=moment_of, metavar="WHEN", help=f"show only what happened from this time on: {moment}")
    add("--until", type=moment_of, metavar="WHEN", help="show only what happened before this time")
    add("--camera", default="", metavar="NAME", help="show only this camera")
    add("--region", default="", metavar="NAME", help="show only this region, or set its --threshold")
    add("--part", default="", metavar="ID", help="show only the part with this id")
    add("--part-prefix", default="", metavar="TEXT", help="show only parts whose ids begin with this")
    add("--model", default="", metavar="SHA256", help="show only verdicts of this model; its beginning")
    add("--labelled", choices=VALUES, default="", help="show only parts whose newest label is this one")
    add("--decision", choices=get_args(Decision), default="", help="list only verdicts of this kind")
    add("--per", choices=get_args(Per), help="count by hour, day or shift (local time), region or model")
    shifts = ",".join(f"{name}={begin}" for name, begin in DEFAULT_SHIFTS.items())
    add("--shift", default="", metavar="DAY/NAME",
        help="show only this shift, as yesterday/late or 2026-11-24/late, or as late those of all days")  # fmt: skip
    add("--shifts", type=shifts_of, metavar="NAMES", help=f"the shifts and their begins ({shifts})")
    what = parser.add_mutually_exclusive_group()
    for name, text in (("rejects", "list verdicts that are no pass, and their pictures"),
                       ("events", "list events, for example lost cameras"),
                       ("labels", "list labelled parts, and how often they were decided wrongly")):  # fmt: skip
        what.add_argument(f"--{name}", dest="show", action="store_const", const=name, default="counts", help=text)
    add("--csv", action="store_true", help="print verdicts as CSV: all, or with --rejects only those")
    add("--json", action="store_true", help="print JSON; with --rejects, --events or --labels one object on each line")
    add("--pictures", type=Path, metavar="DIR", help="the folder of the pictures; show their whole paths")
    effect = "show what the threshold X would have decided about the last 1,000 parts; with --by, also use X from now "
    effect += "on; X can be configured, which means the threshold of configuration or model"
    add("--threshold", type=threshold_of, default=NOT_GIVEN, metavar="X", help=effect)
    add("--by", default="", metavar="NAME", help="set --threshold or --label, and journal this person's name")
    add("--label", nargs=2, metavar=("SEQ", "LABEL"),
        help="say that the part of verdict SEQ was good, defect or unclear; the verdict stays as it is")  # fmt: skip
    add("--kind", default="", metavar="NAME", help="with --label: the kind of defect")
    add("--note", "--reason", dest="note", default="", metavar="TEXT",
        help="with --label: a remark; with --threshold and --by: why it is changed")  # fmt: skip
    add("--resend", default="", metavar="OUTPUT",
        help="send the verdicts again that this output refused")  # fmt: skip
    what.add_argument("--verify", dest="show", action="store_const", const="verify",
        help="name every row, and with --pictures every picture, that was changed, removed or inserted")  # fmt: skip
    add("--report", type=Path, metavar="FILE",
        help="write a batch report: FILE.html prints well, with --pictures; FILE.csv has its tables")  # fmt: skip
    add("--order", default="", metavar="TEXT", help="with --report: order or batch, in its title")
    add("--language", choices=languages(), help="with --report: its language (en)")
    add("--public-key", type=Path, action="append", default=[], metavar="FILE",
        help="with --verify or --report: the signatures must be of this key; can be given several times")  # fmt: skip
    add("--anchor", type=Path, metavar="FILE",
        help="with --verify: these verdicts or heads, lines of JSON of an output, must still be there")  # fmt: skip
    add("--new-key", type=Path, metavar="FILE",
        help="make a key that signs the journal, and its public key FILE.pub; without a journal")  # fmt: skip
    return parser


def report(options: JournalCliOptions) -> int:
    """Write a batch report, print what it is about, and return 0. Raises StfpmError."""
    assert options.report is not None, "checked by parse"
    return write_report(*options.report, options.journal, options.period, options.shifts or Shifts())


def change_threshold(options: JournalCliOptions) -> int:
    """Print what a threshold would have decided, set it where a name is given, and return 0. Raises StfpmError."""
    place = options.period.camera, options.period.region
    check_place(places_of(options.journal), *place)
    model, threshold = newest_model(options.journal), options.threshold
    effect = None if threshold is None else simulate_threshold(options.journal, threshold, *place, model=model)
    answer: dict[str, object] = {"effect": effect and dataclasses.asdict(effect)}
    if options.who:
        change = new_threshold_change(threshold, options.who, *place, options.note, model)
        number = request_threshold(options.journal, change)
        answer |= {"order": number, "taken": wait_for_result(options.journal, number, ANSWER_S) == "taken"}
    if options.json:
        print(json.dumps(answer, indent=1))
        return 0
    if effect:
        print(
            f"of the last {effect.parts} parts {effect.would_reject} would be rejected; {effect.rejected} were "
            f"({len(effect.newly_rejected)} more, {len(effect.newly_passed)} fewer)"
        )
    if options.who:
        print("the threshold is in use" if answer["taken"] else "recorded; no running line has applied it yet")
    return 0


def label_part(options: JournalCliOptions) -> int:
    """Write a label, print the part that it is for, and return 0. Raises StfpmError."""
    assert options.label is not None, "checked by parse"
    number, value = options.label
    label = new_label(int(number), value, options.who, options.kind, options.note)
    row, earlier = write_label(options.journal, label)
    line = f"{local_time(row.time)} {row.seq:8} {row.decision:7}{row.camera}/{row.region} {row.part}".rstrip()
    print(printable(f"{line}: labelled {label.label}"))
    if earlier:
        print(printable(f"before: {', '.join(f'{one.label} by {one.who}' for one in earlier)}; the new label counts"))
    if not row.picture:
        print("its picture was not kept, so that it can join no data set")
    return 0


def resend(options: JournalCliOptions) -> int:
    """Mark refused verdicts to be sent again, print how many, and return 0. Raises StfpmError."""
    count = mark_for_resending(options.journal, options.output)
    print(f"{count} refused verdicts are sent to {options.output} again, by the running line or at its next start")
    return 0


def show(options: JournalCliOptions) -> int:
    """Print what is asked for, and return 0. Raises JournalError for a journal that cannot be read."""
    with contextlib.ExitStack() as stack:
        journals = [stack.enter_context(contextlib.closing(History(path, options.shifts))) for path in options.journals]
        check_journals(journals, options.period.camera)
        if options.csv:
            print_csv(row for one in journals for row in one.rows(options.period, options.action == "rejects"))
        elif options.action == "counts":
            print_counts(count_all(journals, options.period, options.per), options.json, options.per)
        for journal in () if options.csv else journals:
            if options.action == "rejects":
                rejects = journal.rows(options.period, not_passed=True)
                print_rejects(rejects, options.pictures, options.json, journal.id)
            elif options.action == "events":
                print_events(journal.events(options.period), options.json)
        if options.action == "labels":
            print_labels(journals, options.period, options.json)
    return 0
