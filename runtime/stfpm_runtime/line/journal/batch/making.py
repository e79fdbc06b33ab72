"""Makes a report as a page or as CSV, also in a process of its own, which does not delay a line that runs here."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stfpm_runtime.cli import one_line
from stfpm_runtime.errors import JournalError, OptionError, StfpmError
from stfpm_runtime.lifecycle import child_environment, lower_priority
from stfpm_runtime.line.journal.history import Filter
from stfpm_runtime.shifts import Shifts

from .facts import BatchReader
from .page import to_html
from .report import Report, ReportOptions, make_report

Form = Literal["html", "csv"]
COMMAND = "from stfpm_runtime.line.journal.batch.making import main; main()"
REFUSED = 3
"""The process's exit code for what its task asks for and the journal does not have; 1 is for other errors."""


@dataclass(frozen=True)
class ReportTask:
    """What a report is about, and how it is made."""

    journal: Path
    asked: Filter
    form: Form
    options: ReportOptions
    shifts: Mapping[str, str]


def make(task: ReportTask) -> tuple[Report, bytes]:
    """Make a report. Raises JournalError, and OptionError for an interval without verdicts."""
    with contextlib.closing(BatchReader(task.journal, task.asked, Shifts(task.shifts))) as reader:
        report = make_report(reader, task.options)
    text = to_html(report) if task.form == "html" else report.to_csv()
    return report, text.encode("utf-8", "backslashreplace")


def make_apart(task: ReportTask, timeout_s: float) -> bytes:
    """Make a report in a process of a lower priority. Raises as `make` does, and JournalError where it takes too long.

    Python runs one thread at a time: in this process the verification would delay the line's verdicts.
    """
    fields = {**dataclasses.asdict(task), "timeout_s": timeout_s}
    try:
        done = subprocess.run(
            [sys.executable, "-c", COMMAND], input=json.dumps(fields, default=str).encode(), capture_output=True,
            timeout=timeout_s, env=child_environment(), check=False,
        )  # fmt: skip
    except OSError as error:
        raise JournalError(f"a process for the report cannot be started ({error.strerror})") from None
    except subprocess.TimeoutExpired:
        raise JournalError(f"the report takes longer than {timeout_s:g} s; choose a shorter interval") from None
    if done.returncode:
        text = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2] or "its process has ended"
        raise (OptionError if done.returncode == REFUSED else JournalError)(text)
    return done.stdout


def main() -> None:
    """Make the report that stdin describes, and write it to stdout."""
    task = json.load(sys.stdin)
    signal.alarm(int(task["timeout_s"]) + 1)  # ends this process also where the line is no longer there to do it
    lower_priority()
    options = task["options"]
    options["pictures"] = Path(options["pictures"]) if options["pictures"] else None
    options["public_keys"] = [Path(path) for path in options["public_keys"]]
    try:
        _, data = make(ReportTask(Path(task["journal"]), Filter(**task["asked"]), task["form"],
                                  ReportOptions(**options), task["shifts"]))  # fmt: skip
    except StfpmError as error:
        print(one_line(str(error)), file=sys.stderr)
        sys.exit(REFUSED if isinstance(error, OptionError) else 1)
    sys.stdout.buffer.write(data)
