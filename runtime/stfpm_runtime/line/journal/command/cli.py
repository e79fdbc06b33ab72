"""`stfpm-journal line3.sqlite`: counts, yield, rejects and events of a journal, also while it is written.

It also tries or sets a threshold, labels parts, and has refused verdicts sent again.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from datetime import time as time_of_day
from pathlib import Path
from typing import Literal, get_args

from stfpm_runtime.cli import printable, run
from stfpm_runtime.line.journal.dead_letters import mark_for_resending
from stfpm_runtime.line.journal.labels import VALUES, Value, new_label, write_label
from stfpm_runtime.line.journal.reader import JournalReader, Per, Period
from stfpm_runtime.line.journal.rows import utc
from stfpm_runtime.line.journal.threshold_changes import (
    check_place,
    new_threshold_change,
    places_of,
    request_threshold,
    wait_for_result,
)
from stfpm_runtime.line.journal.what_if import what_if

from .chain import make_key, verify
from .listings import local_time, print_counts, print_csv, print_events, print_labels, print_rejects

COMMAND = "stfpm-journal"
NOT_GIVEN = object()
ANSWER_S = 2.0
"""How long to wait for a running line to put a threshold in force, in seconds."""
AGO = re.compile(r"(\d+)([mhd])")
AGO_S = {"m": 60, "h": 3600, "d": 86_400}
DAYS_AGO = {"today": 0, "yesterday": 1}
CLOCK = re.compile(r"\d\d:\d\d(:\d\d)?")
"""A time of day: the last one that has passed."""


@dataclass(frozen=True)
class JournalCliOptions:
    """What to do with which journal."""

    journal: Path
    action: Literal["counts", "rejects", "events", "labels", "csv", "threshold", "label", "resend", "verify", "key"]
    period: Period
    json: bool = False
    pictures: Path | None = None
    """The folder of the pictures, whose names the journal holds."""
    threshold: float | None = None
    """The threshold to try or to set; None: what configuration and model say."""
    who: str = ""
    """The name of who sets the threshold; empty: it is only tried."""
    region: str = ""
    output: str = ""
    """The name of the output whose refused verdicts are sent again."""
    label: tuple[str, Value] | None = None
    """The number of a verdict, and what its part was."""
    kind: str = ""
    note: str = ""
    per: Per | None = None
    """What the counts are divided by; None: cameras and regions."""
    public_keys: Sequence[Path] = ()
    anchor: Path | None = None
    """A file of lines that were kept elsewhere, which the chain must still hold."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; `argv` is without the command's name."""
    options = parse(argv)
    actions: dict[str, Callable[[JournalCliOptions], int]] = {
        "threshold": change_threshold,
        "label": label_part,
        "resend": resend,
        "verify": lambda options: verify(options.journal, options.public_keys, options.anchor, options.pictures),
        "key": lambda options: make_key(options.journal),
    }
    return run(COMMAND, lambda: actions.get(options.action, show)(options))


def parse(argv: Sequence[str] | None = None) -> JournalCliOptions:
    """Return the command line as options. Exits with 2 for bad usage."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="Show counts, yield and rejects from a journal.")
    moment = "2026-11-24, 2026-11-24T06:00 or 06:00 (local time), today, yesterday, or 30m, 8h, 7d ago"
    parser.add_argument(
        "journal", type=Path, nargs="?", help="the SQLite file that stfpm-inspect --config or --journal wrote"
    )
    parser.add_argument(
        "--since", type=_moment, metavar="WHEN", help=f"show only what happened from this time on: {moment}"
    )
    parser.add_argument("--until", type=_moment, metavar="WHEN", help="show only what happened before this time")
    parser.add_argument("--camera", default="", metavar="NAME", help="show only this camera")
    parser.add_argument("--part", default="", metavar="ID", help="show only the part with this id")
    parser.add_argument("--per", choices=get_args(Per), help="count by hour, day (local time) or model")
    what = parser.add_mutually_exclusive_group()
    for name, text in (("rejects", "list verdicts that are no pass, and their pictures"),
                       ("events", "list events, for example lost cameras"),
                       ("labels", "list labelled parts, and how often they were decided wrongly"),
                       ("csv", "print every verdict as CSV")):  # fmt: skip
        what.add_argument(f"--{name}", dest="show", action="store_const", const=name, default="counts", help=text)
    parser.add_argument(
        "--json", action="store_true", help="print JSON; with --rejects, --events or --labels one object on each line"
    )
    parser.add_argument(
        "--pictures", type=Path, metavar="DIR", help="the folder of the pictures; show their whole paths"
    )
    effect = (
        "show what the threshold X would have decided about the last 1,000 parts; with --by, also use X from now on; "
    )
    effect += "X can be configured, which means the threshold of configuration or model"
    parser.add_argument("--threshold", type=_threshold, default=NOT_GIVEN, metavar="X", help=effect)
    parser.add_argument(
        "--by",
        default="",
        metavar="NAME",
        help="set --threshold or --label, and write this person's name into the journal",
    )
    parser.add_argument("--label", nargs=2, metavar=("SEQ", "LABEL"),
        help="say that the part of verdict SEQ was good, defect or unclear; the verdict stays as it is")  # fmt: skip
    parser.add_argument("--kind", default="", metavar="NAME", help="with --label: the kind of defect")
    parser.add_argument("--note", default="", metavar="TEXT", help="with --label: a remark")
    parser.add_argument("--region", default="", metavar="NAME", help="with --threshold: use this region only")
    parser.add_argument(
        "--resend", default="", metavar="OUTPUT", help="send the verdicts again that this output refused"
    )
    what.add_argument("--verify", dest="show", action="store_const", const="verify",
        help="name every row, and with --pictures every picture, that was changed, removed or inserted")  # fmt: skip
    parser.add_argument("--public-key", type=Path, action="append", default=[], metavar="FILE",
        help="with --verify: the signatures must be of this key; can be given several times")  # fmt: skip
    parser.add_argument("--anchor", type=Path, metavar="FILE",
        help="with --verify: these verdicts or heads, lines of JSON of an output, must still be there")  # fmt: skip
    parser.add_argument("--new-key", type=Path, metavar="FILE",
        help="make a key that signs the journal, and its public key FILE.pub; without a journal")  # fmt: skip
    args = parser.parse_args(argv)
    if (args.journal is None) is (args.new_key is None):
        parser.error("expected a journal, or --new-key FILE alone")
    if args.new_key:
        return JournalCliOptions(args.new_key, "key", Period())
    has_threshold = args.threshold is not NOT_GIVEN
    shows = args.since or args.until or args.pictures or args.show != "counts" or args.part or args.per
    if args.show != "verify" and (args.public_key or args.anchor):
        parser.error("--public-key and --anchor go with --verify")
    if args.show == "verify" and (args.since or args.until or args.camera or args.part or args.json):
        parser.error("--verify goes with --pictures, --public-key and --anchor alone")
    if args.per and args.show != "counts":
        parser.error(f"--per with --{args.show}: it is for counts")
    if args.part and args.show == "events":
        parser.error("--part with --events: events have no part")
    if args.resend and (shows or has_threshold or args.camera or args.json or args.by or args.region):
        parser.error("--resend goes with the journal alone")
    if has_threshold and shows:
        parser.error("--threshold goes with --by, --camera, --region and --json alone")
    if has_threshold and args.threshold is None and not args.by:
        parser.error("--threshold configured without --by: expected who sets it")
    if args.label and (shows or has_threshold or args.resend or args.camera or args.json or args.region):
        parser.error("--label goes with --by, --kind and --note alone")
    if args.label and not args.by:
        parser.error("--label without --by: expected who says so")
    if not args.label and (args.kind or args.note):
        parser.error("--kind and --note go with --label")
    if not has_threshold and ((args.by and not args.label) or args.region):
        parser.error("--by goes with --threshold or --label, --region with --threshold")
    if args.label and not (args.label[0].isdecimal() and args.label[1] in VALUES):
        parser.error(f"got --label {' '.join(args.label)}; expected a verdict's number, and one of {', '.join(VALUES)}")
    if args.json and args.show == "csv":
        parser.error("--csv with --json: expected one of them")
    return JournalCliOptions(
        args.journal,
        "resend" if args.resend else "threshold" if has_threshold else "label" if args.label else args.show,
        Period(args.since or "", args.until or "", args.camera, args.part), args.json, args.pictures,
        args.threshold if has_threshold else None, args.by, args.region, args.resend, args.label, args.kind, args.note,
        args.per, args.public_key, args.anchor,
    )  # fmt: skip


def change_threshold(options: JournalCliOptions) -> int:
    """Print what a threshold would have decided, set it where a name is given, and return 0. Raises StfpmError."""
    place = options.period.camera, options.region
    check_place(places_of(options.journal), *place)
    effect = None if options.threshold is None else what_if(options.journal, options.threshold, *place)
    answer: dict[str, object] = {"effect": effect and dataclasses.asdict(effect)}
    if options.who:
        number = request_threshold(options.journal, new_threshold_change(options.threshold, options.who, *place))
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
        print("it holds now" if answer["taken"] else "written down; no running line has taken it over yet")
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
    with contextlib.closing(JournalReader(options.journal)) as journal:
        if options.period.camera:
            journal.check_camera(options.period.camera)
        if options.action == "csv":
            print_csv(journal.rows(options.period))
        elif options.action == "rejects":
            print_rejects(journal.rows(options.period, not_passed=True), options.pictures, options.json, journal.id)
        elif options.action == "labels":
            print_labels(options.journal, options.period, options.json, journal.id)
        elif options.action == "events":
            print_events(journal.events(options.period), options.json)
        else:
            print_counts(journal.counts(options.period, options.per), options.json, options.per)
    return 0


def _threshold(text: str) -> float | None:
    """Return a threshold of the command line; None for `configured`."""
    if text == "configured":
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a finite number, or: configured")
    return value


def _moment(text: str) -> str:
    """Return a moment of the command line as the journal writes it."""
    if match := AGO.fullmatch(text):
        return utc(time.time() - int(match[1]) * AGO_S[match[2]])
    now = datetime.now()
    today = datetime.combine(now.date(), time_of_day())
    if text in DAYS_AGO:
        return utc((today - timedelta(days=DAYS_AGO[text])).astimezone().timestamp())
    try:
        if CLOCK.fullmatch(text):
            clock = datetime.combine(now.date(), time_of_day.fromisoformat(text))
            return utc((clock if clock <= now else clock - timedelta(days=1)).astimezone().timestamp())
        return utc(datetime.fromisoformat(text).astimezone().timestamp())
    except ValueError:
        expected = "expected 2026-11-24, 2026-11-24T06:00, 06:00, today, yesterday, 30m, 8h or 7d"
        raise argparse.ArgumentTypeError(f"got {text!r}, {expected}") from None
