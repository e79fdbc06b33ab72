"""The batch report: the same rows give the same bytes, its counts are the command's, and it shows what was changed."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import hashlib
import io
import json
import re
import shlex
import shutil
import sqlite3
import time
from collections import Counter
from datetime import date
from pathlib import Path

import cv2
import numpy as np
import pytest

from stfpm_runtime.errors import OptionError, StfpmError
from stfpm_runtime.line.journal.batch import facts, tables
from stfpm_runtime.line.journal.batch import report as reporting
from stfpm_runtime.line.journal.batch.making import ReportTask, make, make_apart
from stfpm_runtime.line.journal.batch.pictures import WIDTH, shrink
from stfpm_runtime.line.journal.batch.report import Report, ReportOptions
from stfpm_runtime.line.journal.batch.words import Words, languages
from stfpm_runtime.line.journal.chain.pruning import prune
from stfpm_runtime.line.journal.chain.signing import KeyPair, write_new_key
from stfpm_runtime.line.journal.command.cli import main
from stfpm_runtime.line.journal.history import Filter
from stfpm_runtime.line.journal.labels import new_label, write_label
from stfpm_runtime.line.journal.models.active import ActiveModelRow
from stfpm_runtime.line.journal.recorder import Recorder
from stfpm_runtime.line.journal.rows import MISSED_DEADLINE, seconds_of, utc
from stfpm_runtime.line.journal.threshold_changes import ThresholdChange
from stfpm_runtime.shifts import Shifts

from .test_chain import Tamperer, execute
from .test_journal import make_row
from .test_old_journal import OLD_JOURNAL

BEGIN_S = seconds_of("2026-11-24T05:00:00.000Z")
INTERVAL = Filter(since=utc(BEGIN_S + 3600), until=utc(BEGIN_S + 3 * 3600))
"""Verdicts 61 to 180 of one each minute."""
MODELS = "55" * 32, "66" * 32
EVIL = "<script>alert(1)</script>"


@dataclasses.dataclass
class Line:
    """Writes a journal and pictures as a line does, with times that are given."""

    folder: Path
    recorder: Recorder
    with_events: bool = True

    def judge(self, number: int, **changes) -> None:
        row = {"time": utc(BEGIN_S + 60 * (number - 1)), "model": MODELS[number > 100], "part": f"4711-{number:03d}",
               "camera": ("left", "Kamera Süd")[number % 2], **changes}  # fmt: skip
        if (decision := ("pass", "reject", "fault")[(number % 10 == 3) + 2 * (number % 40 == 7)]) != "pass":
            row |= {"decision": decision, "score": 0.75 if decision == "reject" else None}
            row |= {"reason": f"decided 9 ms late, {MISSED_DEADLINE}", "p_value": None} if decision == "fault" else {}
        data = cv2.imencode(".jpg", np.full((90, 160, 3), number % 256, np.uint8))[1].tobytes()
        if decision == "reject":
            row["overlay"] = f"2026-11-24/{self.recorder.id}-{number:012d}-left-frame.overlay.jpg"
            (self.folder / "pictures" / row["overlay"]).write_bytes(data)
            self.recorder.log_picture(row["overlay"], hashlib.sha256(data).hexdigest())
        self.recorder.keep(make_row(**row))
        if number % 30 == 0:
            self.write_head(row["time"])

    def write_head(self, moment: str) -> None:
        """Write a head, as the line does each minute, and an event."""
        if self.with_events:
            self.recorder.log_event("lost", f"no frame for {EVIL}", "left")
            self.recorder._events[-1] = (moment, *self.recorder._events[-1][1:])
        self.recorder._maintenance_s = self.recorder._head_s = 0.0
        self.recorder.do_maintenance()


def write_line(folder: Path, key: Path | None = None, numbers: range = range(1, 241)) -> Path:
    """Write a journal of four hours with all that a report shows, and pictures; go on with one that is there."""
    (folder / "pictures/2026-11-24").mkdir(parents=True, exist_ok=True)
    path = folder / "line.sqlite"
    first = ActiveModelRow(utc(BEGIN_S), "", "/models/a.onnx", MODELS[0], "m", "/a.onnx", MODELS[0], 0.2, 1.0)
    signer = KeyPair(key) if key else None
    with contextlib.closing(Recorder(path, MODELS[0], "normal", debounces={"left": (2, 3)}, signer=signer)) as recorder:
        line = Line(folder, recorder)
        if numbers.start == 1:
            recorder.use_model(first)
            for hour, threshold in ((0.5, 0.4), (1.5, 0.5)):
                change = ThresholdChange(0, utc(BEGIN_S + 3600 * hour), f"Ада {EVIL}", "left", "frame", threshold, 0.3)
                recorder.write_threshold_changes([dataclasses.replace(change, model=MODELS[0], state="holds")], [])
        for number in numbers:
            if number == 101:
                recorder.use_model(dataclasses.replace(first, time=utc(BEGIN_S + 6000), who="Jörg", sha256=MODELS[1]))
            line.judge(number)
    if numbers.start == 1:
        write_label(path, new_label(73, "good", "Ада", note=EVIL))
        write_label(path, new_label(74, "defect", "Jörg", "Kratzer"))
        write_label(path, new_label(3, "good", "Ада"))
    return path


@pytest.fixture(scope="module", autouse=True)
def berlin():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "Europe/Berlin")
        time.tzset()
        yield
    time.tzset()


@pytest.fixture(scope="module")
def key(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("key") / "line.key"
    write_new_key(path)
    return path


@pytest.fixture(scope="module")
def written(tmp_path_factory, key) -> Path:
    return write_line(tmp_path_factory.mktemp("written"), key)


@pytest.fixture
def journal_copy(written, tmp_path) -> Path:
    shutil.copytree(written.parent, tmp_path / "copy")
    return tmp_path / "copy" / written.name


def report_of(path: Path, asked: Filter = INTERVAL, form: str = "html", **options) -> tuple[Report, str]:
    options = {"pictures": path.parent / "pictures", **options}
    report, data = make(ReportTask(path, asked, form, ReportOptions(**options), Shifts().begins))
    return report, data.decode().replace("<wbr>", "")


def cells(text: str) -> dict[str, list[list[str]]]:
    """Return the rows of a CSV by the titles of their tables, without the headings."""
    found: dict[str, list[list[str]]] = {}
    for title, *row in csv.reader(io.StringIO(text)):
        found.setdefault(title, []).append(row)
    return {title: rows[1:] for title, rows in found.items()}


def public_of(key: Path) -> list[Path]:
    return [key.with_name(f"{key.name}.pub")]


@pytest.mark.parametrize("form", ["html", "csv"])
def test_same_rows_give_the_same_bytes_elsewhere_later_and_from_another_process(written, tmp_path, key, form):
    """The copy has another name and folder, and its line goes on."""
    shutil.copytree(written.parent, tmp_path / "copy")
    copy = write_line(tmp_path / "copy", key, range(241, 301)).rename(tmp_path / "copy/archived.db")
    options = {"order": "4711 Öl", "public_keys": public_of(key), "language": "de"}
    options["pictures"] = copy.parent / "pictures"
    tasks = [ReportTask(path, INTERVAL, form, ReportOptions(**options), Shifts().begins) for path in (written, copy)]
    first = make(tasks[0])[1]
    assert make(tasks[0])[1] == make(tasks[1])[1] == make_apart(tasks[1], 60) == first
    assert str(tmp_path).encode() not in first
    assert str(written.parent).encode() not in first


def test_the_last_line_of_the_first_page_makes_the_report_again(written, tmp_path, key):
    asked = dataclasses.replace(INTERVAL, shift="b", part_prefix="4711-1", camera="left")
    options = ReportOptions('L\'Or "7"', "de", written.parent / "pictures", public_of(key))
    report, data = make(ReportTask(written, asked, "html", options, {"a": "06:30", "b": "08:30"}))
    names = {"JOURNAL": str(written), "FILE": str(tmp_path / "r.html"), "FOLDER": str(options.pictures)}
    names["KEY"] = str(options.public_keys[0])
    words = shlex.split(report.footer.partition(": stfpm-journal ")[2])
    assert main([names.get(word, word) for word in words]) == 0
    assert (tmp_path / "r.html").read_bytes() == data


def test_the_first_page_says_what_was_counted_verified_and_labelled(written, key, journal_copy):
    report, text = report_of(written, order="Los 4711", public_keys=public_of(key), form="csv")
    found = cells(text)
    about = {row[0]: row[1] for row in found["Interval"]}
    assert about["order"] == "Los 4711"
    assert (about["from"], about["until"]) == ("2026-11-24 07:00:00+01:00", "2026-11-24 09:00:00+01:00")
    assert about["numbers of the verdicts"] == "61 ... 180"
    assert about["missed deadlines"] == "3"
    assert about["models"] == "a.onnx 555555555555, a.onnx 666666666666"
    assert found["Counts"] == [
        ["verdicts", "120", "105", "12", "3", "87.50%"],
        ["parts with an id, by all their verdicts", "120", "105", "12", "3", "87.50%"],
    ]
    assert [row[1] for row in found["Interval"] if row[0] == "labels"] == [
        "1 of 1 labelled rejected parts were good (100.0%, 95% interval 2.5% to 100.0%)",
        "1 of 1 labelled passed parts were defective (100.0%, 95% interval 2.5% to 100.0%)",
    ]
    assert report.is_sound
    notes = [row[1] for row in found["Verification of the journal"] if row[0] == "note"]
    assert len(notes) == 1
    assert re.fullmatch(r"signed up to head \d+ of .*; 0 newer rows are not", notes[0])
    labels = [(row[0], *row[4:7], row[8]) for row in found["Labels"]]
    assert labels == [("73", "good", "", "Ада", EVIL), ("74", "defect", "Kratzer", "Jörg", "")]
    assert [(row[1], row[5]) for row in found["Changes of thresholds"]] == [(f"Ада {EVIL}", "0.5")]
    assert [row[1:4] for row in found["Changes of models"]] == [
        ["Jörg", "a.onnx 555555555555", "retired"], ["Jörg", "a.onnx 666666666666", "active"]]  # fmt: skip
    by = {tuple(row[:3]): row[-1] for row in found["Thresholds in use"]}
    assert by["left/frame", "5" * 12, "0.5"] == f"Ада {EVIL}, 2026-11-24 07:30:00"
    assert by["Kamera Süd/frame", "5" * 12, "0.5"] == "model or configuration"
    assert len(found["Events"]) == 4
    assert len(found["Rejects"]) == 12
    assert {row[-1] for row in found["Rejects"]} == {"unchanged"}
    assert {row[-1] for row in found["Not judged"]} == {"none kept"}


def test_who_set_a_threshold_is_said_on_a_line_with_recipes_too(journal_copy):
    with contextlib.closing(sqlite3.connect(journal_copy)) as connection, connection:
        connection.execute("UPDATE thresholds SET model = model || ' recipe 7'")
    found = cells(report_of(journal_copy, form="csv")[1])
    by = {tuple(row[:3]): row[-1] for row in found["Thresholds in use"]}
    assert by["left/frame", "5" * 12, "0.5"].startswith("Ада")


@pytest.mark.parametrize("per", ["region", "model", "hour"])
@pytest.mark.parametrize("limits", [[], ["--camera", "left"], ["--part-prefix", "4711-1"], ["--labelled", "good"],
                                    ["--shift", "early"], ["--model", "66"]])  # fmt: skip
def test_counts_are_those_of_the_command(written, tmp_path, capsys, per, limits):
    interval = ["--since", "2026-11-24T07:00", "--until", "2026-11-24T09:00"]
    assert main([str(written), *interval, *limits, "--report", str(tmp_path / "r.csv")]) == 0
    capsys.readouterr()
    assert main([str(written), *interval, *limits, *(["--per", per] if per != "region" else []), "--json"]) == 0
    expected = json.loads(capsys.readouterr().out)[f"{per}s"]
    found = cells((tmp_path / "r.csv").read_text())[
        {"region": "Regions", "model": "Models in use", "hour": "Hours"}[per]
    ]
    numbers = [[int(cell) for cell in row[-5:-1]] for row in found]
    names = ("total", "passed", "rejected", "faults")
    assert sorted(numbers) == sorted([count[name] for name in names] for count in expected)
    assert sum(row[0] for row in numbers) > 0


@pytest.mark.parametrize(
    ("sql", "finding"),
    [
        ("UPDATE verdicts SET decision = 'pass', reason = '' WHERE seq = 73", "verdict 73 was changed, or does not"),
        ("DELETE FROM verdicts WHERE seq = 73", "verdict 73 is missing"),
        ("DELETE FROM verdicts WHERE seq BETWEEN 150 AND 180", "verdicts 150 to 180 are missing"),
        ("DELETE FROM verdicts WHERE seq BETWEEN 61 AND 70", "verdicts 61 to 70 are missing"),
        ("DELETE FROM events WHERE time >= '2026-11-24T06:00'", "events 3 to 8 are missing"),
        ("UPDATE verdicts SET time = '2026-11-25T06:00:00.000Z' WHERE seq = 83", "verdict 83 was changed"),
        ("UPDATE labels SET label = 'defect' WHERE verdict = 73", "label 1 was changed"),
        ("UPDATE thresholds SET who = 'Bob' WHERE seq = 1", "threshold change 1 was changed"),
        ("UPDATE pictures SET sha256 = '' WHERE verdict = 73", "picture record 8 was changed"),
        ("UPDATE model_states SET who = 'Bob' WHERE seq = 2", "model state 2 was changed"),
        ("UPDATE verdicts SET part = CAST(X'FFFE' AS TEXT) WHERE seq = 90", "verdict 90 was changed"),
        ("UPDATE verdicts SET score = 'high' WHERE seq = 73", "verdict 73 was changed"),
    ],
)  # fmt: skip
def test_what_was_changed_is_on_the_first_page(journal_copy, sql, finding):
    with contextlib.closing(sqlite3.connect(journal_copy)) as client, client:
        client.execute("PRAGMA ignore_check_constraints = 1")
        assert client.execute(sql).rowcount > 0
    report, text = report_of(journal_copy)
    assert not report.is_sound
    first_page = text.partition('<div class="further">')[0]
    assert "NOT INTACT" in first_page
    assert finding in first_page


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE verdicts SET decision = 'pass' WHERE seq = 3",
        "DELETE FROM verdicts WHERE seq > 232",
        "UPDATE events SET detail = '' WHERE seq = 1",
    ],
)
def test_changes_of_other_intervals_are_not_of_this_report(journal_copy, sql):
    assert execute(journal_copy, sql) > 0
    assert report_of(journal_copy)[0].is_sound
    assert not report_of(journal_copy, Filter())[0].is_sound


@pytest.mark.parametrize(
    ("sql", "asked"),
    [
        ("UPDATE verdicts SET part = '8-203' WHERE seq = 203", Filter(part_prefix="7-")),
        ("DELETE FROM verdicts WHERE seq = 203", Filter(part_prefix="7-")),
        ("DELETE FROM verdicts WHERE seq = 203", Filter(utc(BEGIN_S), utc(BEGIN_S + 13e3), part_prefix="7-")),
        ("UPDATE verdicts SET camera = 'right' WHERE seq = 203", Filter(camera="left", part_prefix="7-")),
        (f"UPDATE verdicts SET time = '{utc(BEGIN_S)}' WHERE seq = 60", Filter(utc(BEGIN_S + 59 * 60))),
        (f"UPDATE verdicts SET time = '{utc(BEGIN_S)}' WHERE seq BETWEEN 60 AND 95", Filter(utc(BEGIN_S + 59 * 60))),
        (f"UPDATE verdicts SET time = '{utc(BEGIN_S + 15e3)}' WHERE seq = 203", Filter(until=utc(BEGIN_S + 203 * 60))),
    ],
)  # fmt: skip
def test_a_verdict_that_was_taken_out_of_the_report_is_found(tmp_path, sql, asked):
    """The rows that a report counts do not say which it has lost: a head follows verdict 60, events are missing."""
    (tmp_path / "pictures/2026-11-24").mkdir(parents=True)
    with contextlib.closing(Recorder(tmp_path / "line.sqlite", MODELS[0], "normal")) as recorder:
        line = Line(tmp_path, recorder, with_events=False)
        for number in range(1, 241):
            line.judge(number, camera="left", part=f"{7 if number in (33, 34, 203) else 8}-{number}")
    before = report_of(tmp_path / "line.sqlite", asked)[0]
    assert before.is_sound
    assert execute(tmp_path / "line.sqlite", sql) > 0
    after = report_of(tmp_path / "line.sqlite", asked)[0]
    assert after.total.total < before.total.total
    assert not after.is_sound


def test_random_changes_never_end_the_report_and_are_found(journal_copy, key):
    tamperer = Tamperer(journal_copy, 3)
    tamperer.client.execute("PRAGMA journal_mode = DELETE")
    original = journal_copy.read_bytes()
    missed, count = [], 0
    for _ in range(150):
        what = tamperer.change()
        tamperer.client.close()
        if journal_copy.read_bytes() != original:
            count += 1
            try:
                sound = report_of(journal_copy, Filter(), pictures=None, public_keys=public_of(key))[0].is_sound
            except StfpmError:
                sound = False
            if sound:
                missed.append(what)
        journal_copy.write_bytes(original)
        state = tamperer.random
        tamperer = Tamperer(journal_copy, 0)
        tamperer.random = state
    tamperer.client.close()
    assert count > 100
    assert [what for what in missed if not re.match(r"heads \d+ inserted", what)] == []  # behind the one that signs


def test_pictures_that_were_changed_removed_or_deleted_by_the_line_are_named(journal_copy):
    pictures = sorted((journal_copy.parent / "pictures").rglob("*.jpg"))
    one, other, text = (next(path for path in pictures if f"-{number:012d}-" in path.name) for number in (73, 83, 93))
    one.write_bytes(other.read_bytes())
    other.unlink()
    text.write_bytes(b"no picture")
    report, page = report_of(journal_copy)
    assert not report.is_sound
    found = {row[0]: row[-1] for row in cells(report.to_csv())["Rejects"]}
    assert [found[str(number)] for number in (63, 73, 83, 93)] == ["unchanged", "CHANGED", "MISSING", "CHANGED"]
    first_page = page.partition('<div class="further">')[0]
    assert "of verdict 83: MISSING" in first_page
    assert page.count("<img") == 10  # the changed one is shown, and named
    report, page = report_of(journal_copy, pictures=None)
    assert report.is_sound
    assert "<img" not in page
    assert "the folder of the pictures was not given" in page


def test_a_picture_outside_its_folder_is_not_read(tmp_path):
    line = Line(tmp_path, Recorder(tmp_path / "line.sqlite", MODELS[0], "normal"))
    (tmp_path / "secret.jpg").write_bytes(cv2.imencode(".jpg", np.zeros((9, 9, 3), np.uint8))[1].tobytes())
    (tmp_path / "pictures").mkdir()
    for name in ("../secret.jpg", str(tmp_path / "secret.jpg"), "a\0b", "x" * 300):
        line.recorder.keep(make_row(time=utc(BEGIN_S), decision="reject", score=0.8, overlay=name))
    line.recorder.close()
    report, page = report_of(tmp_path / "line.sqlite", Filter())
    assert "<img" not in page
    assert [row[-1] for row in cells(report.to_csv())["Rejects"]] == ["was not written"] * 4


def test_gap_missing_chain_and_missing_signature_are_on_the_first_page(journal_copy, key, tmp_path):
    with (
        contextlib.closing(Recorder(journal_copy, MODELS[0], "normal", signer=KeyPair(key))) as recorder,
        recorder._journal.transaction() as connection,
    ):
        prune(connection, {"verdicts": 71}, KeyPair(key))
    report, page = report_of(journal_copy, public_keys=public_of(key))
    assert report.is_sound
    assert "verdicts before number 71 were deleted by retention; some may have been of this interval" in page
    later = Filter(since=utc(BEGIN_S + 90 * 60), until=INTERVAL.until)
    assert "deleted by retention" not in report_of(journal_copy, later)[1]
    unsigned = write_line(tmp_path / "unsigned")
    report, page = report_of(unsigned)
    assert report.is_sound
    assert "the journal is not signed" in page
    assert not report_of(unsigned, public_keys=public_of(key))[0].is_sound
    with contextlib.closing(sqlite3.connect(tmp_path / "old.sqlite")) as old:
        old.executescript(OLD_JOURNAL + "INSERT INTO meta VALUES ('0a');")
        names = [name for name in dataclasses.asdict(make_row()) if not name.startswith("peak")]
        row = dataclasses.asdict(make_row(seq=1, time=INTERVAL.since))
        marks = ", ".join("?" * len(names))
        old.execute(f"INSERT INTO verdicts ({', '.join(names)}) VALUES ({marks})", [row[name] for name in names])
        old.executescript("PRAGMA application_id = 0x53746670; PRAGMA user_version = 1")
        old.commit()
    report, page = report_of(tmp_path / "old.sqlite", pictures=None)
    assert "NOT VERIFIED: an earlier version wrote the journal, which has no chain" in page
    with contextlib.closing(Recorder(tmp_path / "old.sqlite", MODELS[0], "normal")) as recorder:
        recorder.keep(make_row(time=INTERVAL.since))
    report, page = report_of(tmp_path / "old.sqlite", pictures=None)
    assert "NOT VERIFIED as a whole: an earlier version wrote the verdicts up to 1" in page
    assert not report.is_sound


def test_long_lists_end_and_say_so(written, monkeypatch):
    for module in (facts, tables):
        monkeypatch.setattr(module, "LISTED", 5)
    monkeypatch.setattr("stfpm_runtime.line.journal.batch.pictures.PICTURES", 2)
    monkeypatch.setattr(reporting, "PICTURES", 2)
    report, page = report_of(written)
    rejects = cells(report.to_csv())["Rejects"]
    assert len(rejects) == 6
    assert rejects[-1] == ["the first 5 of 12 are listed; stfpm-journal lists all"]
    assert [row[-1] for row in rejects[:3]] == ["unchanged", "unchanged", "not shown"]
    assert page.count("<img") == 2
    assert "the first 2 pictures of rejects and faults were compared with the journal" in page


def test_names_and_parts_are_text_and_nothing_else(tmp_path):
    line = Line(tmp_path, Recorder(tmp_path / "line.sqlite", MODELS[0], "normal"))
    line.recorder.keep(make_row(time=utc(BEGIN_S), decision="reject", score=0.8, part=EVIL, camera=f"{EVIL}&Süd"))
    line.recorder.keep(make_row(time=utc(BEGIN_S), decision="fault", score=None, p_value=None, reason="=1+1"))
    line.recorder.close()
    report, page = report_of(tmp_path / "line.sqlite", Filter(), order=f"{EVIL}\n'x", pictures=None)
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(") >= 5
    assert cells(report.to_csv())["Not judged"][0][5] == "'=1+1"  # no formula of a spreadsheet


def test_every_text_has_its_german(written, journal_copy, monkeypatch):
    """Texts of the journal itself stay as they are: names, reasons, details of events."""
    said: Counter[str] = Counter()

    class Listening(Words):
        def __call__(self, text: str) -> str:
            translated = super().__call__(text)
            if translated == text and text not in self._catalogue:
                said[text] += 1
            return translated

    monkeypatch.setattr(reporting, "Words", Listening)
    assert languages() == ["de", "en"]
    report, page = report_of(written, language="de", order="Los")
    assert report.title == "Chargenbericht: Los"
    assert '<html lang="de">' in page
    execute(journal_copy, "UPDATE verdicts SET reason = 'x' WHERE seq IN (73, 90)")
    execute(journal_copy, "DELETE FROM verdicts WHERE seq BETWEEN 110 AND 120")
    execute(journal_copy, "DELETE FROM labels WHERE verdict = 73")
    report, page = report_of(journal_copy, language="de", pictures=None)
    assert "Ergebnis 73 wurde geändert oder folgt nicht aus der Zeile davor" in page
    assert "Ergebnis 110 bis 120 fehlen" in page
    assert "Bewertung 1 fehlt" in page
    allowed = re.compile(r"[\d.:TZ/ -]*|\(?[\d.% ]+|stfpm-journal.*|2026.*")
    assert [text for text in said if not allowed.fullmatch(text)] == []


def test_a_shift_is_an_interval(written, tmp_path, capsys):
    arguments = [str(written), "--report", str(tmp_path / "r.csv"), "--shifts", "a=06:30,b=08:30,night=22:00"]
    assert main([*arguments, "--shift", "2026-11-24/a"]) == 0
    found = {row[0]: row[1] for row in cells((tmp_path / "r.csv").read_text())["Interval"]}
    assert (found["from"], found["until"]) == ("2026-11-24 06:30:00+01:00", "2026-11-24 08:30:00+01:00")
    assert found["numbers of the verdicts"] == "31 ... 150"
    for shift, why in (("2026-11-24/c", "there is no shift 'c'; expected one of a, b, night"), ("x/a", "expected 2026"),
                       ("late", "there is no shift 'late'")):  # fmt: skip
        with pytest.raises(SystemExit):
            main([*arguments, "--shift", shift])
        assert why in capsys.readouterr().err
    begin, end = Shifts().bounds(date(2026, 10, 24), "night")
    assert (end - begin) / 3600 == 9  # the clocks are set back


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--since", "2026-12-01"], "no verdict is of this interval and these filters; the journal has those from"),
        (["--camera", "rear"], "got camera 'rear'; expected one that the journal knows: Kamera Süd, left"),
        (["--report", "r.txt"], "got the suffix '.txt'; expected .html, .htm, .csv"),
        (["--report", "line.csv/r.html"], "cannot be written"),
        (["--pictures", "nowhere"], "is no folder"),
        (["--public-key", "nowhere.pub"], "the public key cannot be read"),
        (["--part", "4711-001", "--since", "2026-11-24T07:00"], "no verdict is of this interval"),
    ],
)  # fmt: skip
def test_what_cannot_be_reported_is_one_line_and_no_file(written, tmp_path, monkeypatch, capsys, arguments, error):
    monkeypatch.chdir(tmp_path)
    Path("line.csv").touch()
    given = arguments if "--report" in arguments else ["--report", "r.html", *arguments]
    assert main([str(written), *given]) == 1
    printed = capsys.readouterr().err.splitlines()
    assert len(printed) == 1
    assert error in printed[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["line.csv"]


def test_a_report_replaces_an_older_one_and_no_journal(journal_copy, capsys):
    target = journal_copy.with_name("r.html")
    target.write_text("old")
    assert main([str(journal_copy), "--report", str(target)]) == 0
    assert target.read_text().startswith("<!doctype html>")
    renamed = journal_copy.rename(journal_copy.with_name("line.csv"))
    assert main([str(renamed), "--report", str(renamed)]) == 1
    assert "another input" in capsys.readouterr().err


def test_another_process_says_what_is_wrong(written, tmp_path):
    task = ReportTask(written, Filter(part="none"), "csv", ReportOptions(), Shifts().begins)
    with pytest.raises(OptionError, match="no verdict is of this interval"):
        make_apart(task, 60)
    with pytest.raises(StfpmError, match="no such file"):
        make_apart(dataclasses.replace(task, journal=tmp_path / "none.sqlite"), 60)
    with pytest.raises(StfpmError, match="choose a shorter interval"):
        make_apart(task, 0.01)


@pytest.mark.parametrize("shape", [(1, 1), (1, 4001), (4001, 2), (400, 400), (401, 399), (2160, 3840)])
def test_small_pictures_are_means_in_whole_numbers(shape):
    image = np.full((*shape, 3), 7, np.uint8)
    small = shrink(image)
    assert max(small.shape[:2]) <= WIDTH
    assert (small == 7).all()
    checks = np.indices((600, 600)).sum(axis=0) % 2 * np.uint8(255)
    assert set(np.unique(shrink(np.dstack([checks] * 3).astype(np.uint8)))) == {127}


def test_a_report_is_made_while_the_line_writes(tmp_path):
    write_line(tmp_path, numbers=range(1, 181))
    with contextlib.closing(Recorder(tmp_path / "line.sqlite", MODELS[0], "normal")) as recorder:
        line = Line(tmp_path, recorder)
        for number in range(181, 200):
            line.judge(number)
            assert report_of(tmp_path / "line.sqlite", pictures=None)[0].is_sound


def test_events_are_those_of_the_camera_and_of_the_line(tmp_path):
    line = Line(tmp_path, Recorder(tmp_path / "line.sqlite", MODELS[0], "normal"))
    for kind, camera in (("lost", "left"), ("lost", "right"), ("started", ""), ("late", ""), *[("shadow", "")] * 3):
        line.recorder.log_event(kind, "why", camera)
    line.recorder.keep(make_row())
    line.recorder.close()
    found = cells(report_of(tmp_path / "line.sqlite", Filter(camera="left"), "csv")[1])
    assert [row[1:3] for row in found["Events"]] == [["left", "lost"], ["line", "started"], ["line", "late"]]
    about = {row[0]: row[1] for row in found["Interval"]}
    assert about["disagreements with the shadow model"] == "3"
    assert about["passes and rejects that were answered too late, as faults"] == "1"
    region = cells(report_of(tmp_path / "line.sqlite", Filter(camera="left", region=make_row().region), "csv")[1])
    assert not any("too late" in row[0] or "shadow" in row[0] for row in region["Interval"])
