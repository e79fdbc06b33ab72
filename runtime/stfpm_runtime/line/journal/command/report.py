"""`stfpm-journal --report`: what it writes, and what it prints."""

from __future__ import annotations

from pathlib import Path

from stfpm_runtime.cli import printable
from stfpm_runtime.errors import OptionError
from stfpm_runtime.files import atomic_path, check_writable
from stfpm_runtime.line.journal.batch.making import Form, ReportTask, make
from stfpm_runtime.line.journal.batch.report import ReportOptions
from stfpm_runtime.line.journal.history import Filter
from stfpm_runtime.shifts import Shifts

FORMS: dict[str, Form] = {".html": "html", ".htm": "html", ".csv": "csv"}


def write_report(path: Path, options: ReportOptions, journal: Path, asked: Filter, shifts: Shifts) -> int:
    """Write a report in the form that the file's name says, print what it is about, and return 0. Raises StfpmError."""
    form = FORMS.get(path.suffix.lower())
    if form is None:
        raise OptionError(f"{path}: got the suffix {path.suffix!r}; expected {', '.join(FORMS)}")
    if options.pictures and not options.pictures.is_dir():
        raise OptionError(f"{options.pictures}: is no folder; expected that of the pictures")
    check_writable(path, [journal, *options.public_keys])
    report, data = make(ReportTask(journal, asked, form, options, shifts.begins))
    with atomic_path(path) as unfinished:
        unfinished.write_bytes(data)
    total = report.total
    counts = f"{total.total} verdicts, {total.rejected} rejected, {total.faults} faults"
    print(printable(f"{path}: {counts}; {report.conclusion}"))
    return 0
