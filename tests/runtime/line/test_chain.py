"""The chain of the journal: each change of a row, of the order, of an end or of a picture is found and named."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import random
import shutil
import sqlite3
import threading
from pathlib import Path

import pytest

from stfpm_runtime.errors import JournalError
from stfpm_runtime.line.config.camera import CameraOptions
from stfpm_runtime.line.config.storage import PictureOptions
from stfpm_runtime.line.journal import recorder as recording
from stfpm_runtime.line.journal.chain.links import CHAINED, SOURCES, link, write_head
from stfpm_runtime.line.journal.chain.pruning import prune
from stfpm_runtime.line.journal.chain.signing import KeyPair, read_public_key, write_new_key
from stfpm_runtime.line.journal.chain.verify import Verification
from stfpm_runtime.line.journal.command.cli import main
from stfpm_runtime.line.journal.counts import wrong_quarters
from stfpm_runtime.line.journal.cursor import Position
from stfpm_runtime.line.journal.labels import new_label, write_label
from stfpm_runtime.line.journal.models.active import ActiveModelRow
from stfpm_runtime.line.journal.reader import JournalReader, Period
from stfpm_runtime.line.journal.recorder import Recorder
from stfpm_runtime.line.journal.rows import EventRow, utc
from stfpm_runtime.line.journal.tail import JournalTail
from stfpm_runtime.line.journal.threshold_changes import ThresholdChange, new_threshold_change, request_threshold
from stfpm_runtime.line.journal.writer import Journal

from .conftest import wait_until
from .test_journal import make_row
from .test_old_journal import OLD_JOURNAL

TABLES = {*CHAINED, *(table for table, _, _ in SOURCES.values())}


@pytest.fixture(scope="module")
def key(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("key") / "line.key"
    write_new_key(path)
    return path


def public_of(key: Path):
    return read_public_key(key.with_name(key.name + ".pub"))


def found(path: Path, *keys, **options) -> list[str]:
    return list(Verification(path, keys, **options).findings())


def execute(path: Path, sql: str, *values) -> int:
    """Change a journal as any SQLite client may; return how many rows were changed."""
    with contextlib.closing(sqlite3.connect(path)) as client, client:
        client.execute("PRAGMA ignore_check_constraints = 1")
        return client.execute(sql, values).rowcount


def fill(folder: Path, key: Path | None, parts: int = 120) -> Path:
    """Write a journal with rows in each table, and pictures in FOLDER/pictures; a part of it is deleted again."""
    path, pictures = folder / "line.sqlite", folder / "pictures"
    (pictures / "2026-11-24").mkdir(parents=True)
    signer = KeyPair(key) if key else None
    active = ActiveModelRow(utc(), "Ada", "/m.onnx", "55" * 32, "m", "/m.onnx", "55" * 32, 0.25, 1.0)
    with contextlib.closing(Recorder(path, "55" * 32, "normal", debounces={"left": (2, 3)}, signer=signer)) as recorder:
        recorder.use_model(active)
        for number in range(parts):
            name = f"2026-11-24/{recorder.id}-{recorder.next_seq:012d}-left-frame.png" if number % 5 == 0 else ""
            score = 0.1 + number / 1000
            recorder.keep(make_row(part=f"A-{number}", score=score, p_value=number / 500, picture=name))
            if name:
                (pictures / name).write_bytes(bytes(str(number), "ascii"))
                recorder.log_picture(name, hashlib.sha256(bytes(str(number), "ascii")).hexdigest())
            recorder.log_event("lost", f"{number}", "left")
            if number % 20 == 19:
                recorder._maintenance_s = recorder._head_s = 0.0
                recorder.do_maintenance()
        (pictures / "2026-11-24" / f"{recorder.id}-{6:012d}-left-frame.png").unlink()
        recorder.log_picture(f"2026-11-24/{recorder.id}-{6:012d}-left-frame.png", "")
        change = ThresholdChange(0, utc(), "Ada", "", "", 0.6, 0.5, 0.5, "55" * 32, "holds")
        recorder.write_threshold_changes([change], [])
        recorder.write_threshold_changes([dataclasses.replace(change, threshold=0.7)], [])
        recorder.use_model(dataclasses.replace(active, sha256="66" * 32))
        recorder.use_recipe(7, "the PLC by Modbus")
        request_threshold(path, new_threshold_change(0.5, "Ada", reason="the new lamp"))
        write_label(path, new_label(30, "defect", "Ada", "scratch"))
        write_label(path, new_label(31, "good", "Ada"))
        with recorder._journal.transaction() as connection:
            prune(connection, {"verdicts": 11}, signer)
    return path


@pytest.fixture(scope="module")
def filled(tmp_path_factory, key) -> Path:
    return fill(tmp_path_factory.mktemp("filled"), key)


@pytest.fixture
def journal_copy(filled, tmp_path) -> Path:
    shutil.copytree(filled.parent, tmp_path / "copy")
    return tmp_path / "copy" / filled.name


def test_unchanged_journal_has_no_findings(filled, key):
    assert found(filled, public_of(key), pictures=filled.parent / "pictures") == []
    with contextlib.closing(sqlite3.connect(filled)) as client:
        counts = {table: client.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES}
    assert min(counts.values()) >= 1
    assert counts["verdicts"] == 110


class Tamperer:
    """Makes one random change to a journal in memory, and takes it back."""

    def __init__(self, path: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.client = sqlite3.connect(path, isolation_level=None)
        self.client.execute("PRAGMA ignore_check_constraints = 1")
        there = {name for (name,) in self.client.execute("SELECT name FROM sqlite_master")}
        self.tables = sorted({*TABLES, "chain_start", "meta"} & there)

    def change(self) -> str:
        """Change one thing, and return in words which."""
        table = self.random.choice([*self.tables, "verdicts", "verdicts", "events"])
        rowids = [row[0] for row in self.client.execute(f"SELECT rowid FROM {table}")]
        action = self.random.choice(["column", "column", "column", "swap", "remove", "insert"])
        columns = [row[1:3] for row in self.client.execute(f"PRAGMA table_info({table})")]
        rowid = self.random.choice(rowids)
        if action == "column" or len(rowids) < 2 or table == "debounces":
            name, kind = self.random.choice(columns)
            return f"{table}.{name} {rowid}: {self._change_value(table, name, kind, rowid)}"
        if action == "remove":
            self.client.execute(f"DELETE FROM {table} WHERE rowid = ?", (rowid,))
            return f"{table} {rowid} removed"
        key = columns[0][0]
        others = ", ".join(name for name, _ in columns[1:])
        if action == "insert":
            new = self.random.choice([max(rowids) + 1, min(rowids) - 1, max(rowids) + 5])
            copied = f"SELECT ?, {others} FROM {table} WHERE {key} = ?"
            self.client.execute(f"INSERT INTO {table} ({key}, {others}) {copied}", (new, rowid))
            return f"{table} {new} inserted as a copy of {rowid}"
        other = self.random.choice([number for number in rowids if number != rowid])
        for old, new in ((rowid, -99), (other, rowid), (-99, other)):
            self.client.execute(f"UPDATE {table} SET {key} = ? WHERE {key} = ?", (new, old))
        return f"{table} {rowid} and {other} swapped"

    def _change_value(self, table: str, name: str, kind: str, rowid: int) -> str:
        (old,) = self.client.execute(f"SELECT {name} FROM {table} WHERE rowid = ?", (rowid,)).fetchone()
        if kind == "REAL":
            choices = [None, 0.25, "x", b"x", (old or 0.5) * (1 + 2**-52), -(old or 1.0)]
        elif kind == "INTEGER":
            choices = (
                [(old or 0) + 1_000_000, -7, 2**40] if name in ("seq", "run", "id") else [None, old or 5, 99, "x", 2.5]
            )
        elif kind == "BLOB":
            choices = [None, b"", "x", bytes(32), bytes([old[0] ^ 1, *old[1:]])]
        else:
            position = self.random.randrange(len(old) + 1)
            changed = old[:position] + self.random.choice("abc\u00e9\0") + old[position + 1 :]
            choices = [None, "", "pass", "holds", "good", changed, changed, old.encode(), old + " "]
        value = self.random.choice([value for value in choices if (value, type(value)) != (old, type(old))])
        with contextlib.suppress(sqlite3.IntegrityError):
            self.client.execute(f"UPDATE {table} SET {name} = ? WHERE rowid = ?", (value, rowid))
        return f"{old!r:.60} -> {value!r:.60}"


def unnoticed(path: Path, key: Path, changes: int, seed: int) -> list[str]:
    """Make so many single changes, each to the unchanged journal; return those that were not found."""
    missed: list[str] = []
    public, pictures = public_of(key), path.parent / "pictures"
    before = sorted(pictures.rglob("*.png"))[2:]  # those of the verdicts that are kept
    tamperer = Tamperer(path, seed)
    tamperer.client.execute("PRAGMA journal_mode = DELETE")
    original = path.read_bytes()
    count = 0
    while count < changes:
        if tamperer.random.random() < 0.1:  # a picture
            picture = tamperer.random.choice(before)
            data = picture.read_bytes()
            changed = tamperer.random.choice([None, b"", data + b"1", bytes([data[0] ^ 4, *data[1:]])])
            picture.unlink() if changed is None else picture.write_bytes(changed)
            what = f"{picture.name}: {changed!r}"
            findings = found(path, public, pictures=pictures)
            picture.write_bytes(data)
        else:
            what = tamperer.change()
            tamperer.client.close()
            is_changed = path.read_bytes() != original
            try:
                findings = found(path, public, pictures=pictures) if is_changed else ["nothing"]
            except JournalError as error:
                findings = [str(error)]
            path.write_bytes(original)
            count -= not is_changed
            state = tamperer.random
            tamperer = Tamperer(path, 0)
            tamperer.random = state
        count += 1
        if not findings:
            missed.append(what)
    tamperer.client.close()
    return missed


def test_each_of_300_random_changes_is_found(journal_copy, key):
    assert unnoticed(journal_copy, key, 300, seed=1) == []


@pytest.mark.slow
def test_each_of_10_000_random_changes_is_found(journal_copy, key):
    assert unnoticed(journal_copy, key, 10_000, seed=2) == []


def test_changed_verdict_is_named_and_ends_the_command_with_1(journal_copy, key, capsys):
    arguments = [str(journal_copy), "--verify", "--public-key", f"{key}.pub"]
    assert main([*arguments, "--pictures", str(journal_copy.parent / "pictures")]) == 0
    assert "no changes found" in capsys.readouterr().out
    assert execute(journal_copy, "UPDATE verdicts SET decision = 'reject' WHERE seq = 50") == 1
    assert main(arguments) == 1
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "verdict 50 was changed, or does not follow from the one before it"
    assert shown[-1].endswith("1 change found")


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("DELETE FROM verdicts WHERE seq = 50", ["verdict 50 is missing", "verdict 51 was changed, or does not"]),
        ("DELETE FROM verdicts WHERE seq > 118", ["verdicts 119 to 120 are missing, of the end", "head "]),
        ("DELETE FROM verdicts WHERE seq < 13", ["verdicts 11 to 12 are missing", "verdict 13 was changed"]),
        ("UPDATE labels SET label = 'good' WHERE verdict = 30", ["label 1 was changed"]),
        ("DELETE FROM labels WHERE verdict = 30", ["label 1 is missing"]),
        ("UPDATE thresholds SET state = 'holds' WHERE seq = 1", ["state of threshold change 1 was changed"]),
        ("UPDATE threshold_reasons SET reason = 'none'", ["reason of threshold change 3 was changed"]),
        ("UPDATE active_model SET highest = 9", ["active model 1 was changed"]),
        ("UPDATE meta SET id = '00'", ["the start of the chain, or the journal's id"]),
        ("DELETE FROM chain_start", ["the start of the chain, or the journal's id", "the start of the chain is not"]),
        ("UPDATE heads SET body = replace(body, '\"verdicts\": [', '\"verdicts\": [9999999999999999999')", ["head "]),
        ("UPDATE heads SET body = replace(body, '\"verdicts\": [', '\"verdicts\": [Infinity, 1, ')", ["head "]),
        (
            "UPDATE chain_start SET body = json_set(body, '$.uncovered', json('{\"verdicts\": \"x\"}'))",
            ["the start of the chain"],
        ),
        (
            "UPDATE chain_start SET body = json_set(body, '$.uncovered.verdicts', 1e30)",
            ["the start of the chain"],
        ),
    ],
)  # fmt: skip
def test_change_is_named(journal_copy, key, sql, expected):
    execute(journal_copy, sql)
    findings = found(journal_copy, public_of(key))
    assert [any(finding.startswith(start) for finding in findings) for start in expected] == [True] * len(expected)


@pytest.mark.parametrize(
    "values",
    ["time = 'never'", "time = '2026-11-24T12:30:00+02:00'", "time = ''", "camera = x'ff'",
     "model = CAST(x'ff' AS TEXT)", "camera = 'it''s \"one\"'"],
)  # fmt: skip
def test_counts_of_rows_that_no_line_would_write_are_right(journal_copy, values):
    """The triggers count whatever is written."""
    with contextlib.closing(sqlite3.connect(journal_copy)) as connection:
        connection.text_factory = lambda data: data.decode("utf-8", "backslashreplace")
        copied = connection.execute("SELECT max(seq) FROM verdicts").fetchone()
        connection.execute("CREATE TEMP TABLE one AS SELECT * FROM verdicts WHERE seq = ?", copied)
        connection.execute("DELETE FROM verdicts WHERE seq = ?", copied)
        connection.execute(f"UPDATE one SET {values}")
        connection.execute("INSERT INTO verdicts SELECT * FROM one")
        assert wrong_quarters(connection) == 0
        connection.execute("UPDATE verdict_counts SET passed = passed + 1")
        assert wrong_quarters(connection) > 0


def test_counts_that_somebody_has_changed_are_found(journal_copy, key):
    assert execute(journal_copy, "UPDATE verdict_counts SET passed = passed + 1") > 0
    assert found(journal_copy, public_of(key)) == ["the counts of 1 quarter hours are not those of the verdicts"]


def rehash(path: Path, first: int) -> None:
    """Compute the chain again from a row on, heads included, as somebody may who knows how, but without the key."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as client:
        (last,) = client.execute("SELECT max(seq) FROM verdicts").fetchone()
        client.execute("UPDATE verdicts SET hash = NULL WHERE seq >= ?", (first,))
        client.execute("DELETE FROM heads WHERE verdict >= ?", (first,))
        link(client, "verdicts", first, last)
        client.execute("UPDATE sqlite_sequence SET seq = (SELECT max(seq) FROM heads) WHERE name = 'heads'")
        write_head(client, None)


def test_chain_that_was_computed_again_is_found_by_signature_or_anchor_alone(journal_copy, key):
    lines = [json.dumps(record) for record in sent(journal_copy)]
    before = Verification(journal_copy)
    assert list(before.findings()) == []
    execute(journal_copy, "UPDATE verdicts SET score = 0.1 WHERE seq = 50")
    rehash(journal_copy, 50)
    assert found(journal_copy) == []  # this is what a key or an anchor is for
    (finding,) = found(journal_copy, public_of(key))
    assert "are not signed with this key" in finding
    assert found(journal_copy, anchors=[before.head])[0].startswith("anchor 1: verdict 120 was another one")
    assert len(found(journal_copy, anchors=lines)) == 71  # verdicts 50 to 120
    execute(journal_copy, "DELETE FROM verdicts WHERE seq > 100")
    execute(journal_copy, "UPDATE sqlite_sequence SET seq = 100 WHERE name = 'verdicts'")
    assert "anchor 110: verdict 120 was there and is missing" in found(journal_copy, anchors=lines)


def test_journal_whose_heads_were_all_deleted_is_not_signed(journal_copy, key):
    check = Verification(journal_copy, [public_of(key)])
    assert list(check.findings()) == []
    assert any(
        note.startswith("signed up to head ") and note.endswith("; 0 newer rows are not") for note in check.notes
    )
    execute(journal_copy, "DELETE FROM heads")
    execute(journal_copy, "DELETE FROM sqlite_sequence WHERE name = 'heads'")
    assert "no head is signed with this key" in found(journal_copy, public_of(key))


def sent(path: Path) -> list[dict]:
    """Return the verdicts as outputs send them."""
    with contextlib.closing(JournalTail(path, "mes", False, print)) as tail, tail.opened() as connection:
        tail.position = Position(tail._id, 10)
        return tail.read_verdicts(connection)


def test_anchors_that_make_no_sense_or_are_of_another_journal(journal_copy, key):
    other = json.dumps({"journal": "00000000", "seq": 5, "hash": "00"})
    assert found(journal_copy, anchors=[other, json.dumps(sent(journal_copy)[0])]) == []
    assert found(journal_copy, anchors=["{", "[]", '{"seq": 1}']) == [
        f"anchor {number}: is neither a verdict with its hash nor a head" for number in (1, 2, 3)
    ]


@pytest.mark.parametrize("is_signed", [True, False])
def test_retention_leaves_a_start_from_which_the_chain_goes_on(tmp_path, key, is_signed):
    path = fill(tmp_path, key if is_signed else None)
    keys = [public_of(key)] if is_signed else []
    with contextlib.closing(Journal(path, "normal", KeyPair(key) if is_signed else None)) as writer:
        while writer.delete_oldest(None, 0, 7):
            assert found(path, *keys) == []
        writer.write(make_row())
        writer.write_head()
    assert found(path, *keys) == []


def test_retention_does_not_hide_what_somebody_has_deleted_or_forged(journal_copy, key):
    start = json.loads(one(journal_copy, "SELECT body FROM chain_start"))
    execute(journal_copy, "DELETE FROM verdicts WHERE seq < 20")
    start["start"]["verdicts"] = [19, "00" * 32]
    execute(journal_copy, "UPDATE chain_start SET body = ?", json.dumps(start))
    with contextlib.closing(Journal(journal_copy, "normal", KeyPair(key))) as writer:
        writer.delete_oldest(None, 0, 5)
    assert "the start of the chain is not signed with this key" in found(journal_copy, public_of(key))


def one(path: Path, sql: str):
    with contextlib.closing(sqlite3.connect(path)) as client:
        return client.execute(sql).fetchone()[0]


def test_verdict_with_the_time_of_a_wrong_clock_goes_with_the_older_ones_around_it(tmp_path):
    path = tmp_path / "line.sqlite"
    times = ["2026-01-01", "2099-01-01", "2026-01-02", "2026-03-01", "2020-01-01"]
    with contextlib.closing(Journal(path, "normal")) as writer:
        for moment in times:
            writer.write(make_row(time=f"{moment}T00:00:00.000Z"))
        assert writer.delete_oldest("2026-02", None, 500, "2026-04") == 3
    with contextlib.closing(JournalReader(path)) as reader:
        assert [row.seq for row in reader.rows(Period())] == [4, 5]
    assert found(path) == []


def test_old_journal_gets_a_chain_and_says_from_where(tmp_path):
    path = tmp_path / "line.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as client:
        client.executescript(OLD_JOURNAL)
    execute(path, "INSERT INTO verdicts SELECT 1, 't', 1, 1, 'c', 'r', 's', 1, '', 'pass', 0.1, NULL, 0.2, '', 'm', 0, "
            "0.1, 0.1, 0.1, 0.1, '', ''")  # fmt: skip
    with pytest.raises(JournalError, match="has no chain; an earlier version wrote it"):
        found(path)
    write_label(path, new_label(1, "good", "Ada"))  # before any line of this version has opened it
    Journal(path).close()
    with contextlib.closing(Journal(path, "normal")) as writer:
        writer.write(make_row())
    check = Verification(path)
    assert list(check.findings()) == []
    assert "verdicts up to 1 are of an earlier version and not covered" in check.notes
    execute(path, "UPDATE labels SET who = 'Eve'")
    execute(path, "INSERT INTO verdicts (seq, time, monotonic_ns, run, camera, region, source, frame, part, decision, "
            "score, threshold, reason, model, dropped, wait_ms, preprocess_ms, infer_ms, latency_ms, picture, overlay) "
            "SELECT 3, time, monotonic_ns, run, camera, region, source, frame, part, decision, score, threshold, "
            "reason, model, dropped, wait_ms, preprocess_ms, infer_ms, latency_ms, picture, overlay FROM verdicts "
            "WHERE seq = 2")  # fmt: skip
    with contextlib.closing(Journal(path, "normal")) as writer:  # an earlier version wrote in between
        writer.write(make_row())
    assert found(path) == ["verdict 3 has no hash: another program has written or changed it", "label 1 was changed"]


def test_writers_in_several_threads_and_a_line_keep_one_chain(tmp_path):
    path = tmp_path / "line.sqlite"
    with contextlib.closing(Recorder(path, "55", "normal")) as recorder:
        recorder.keep(make_row())

        def work() -> None:
            for _ in range(15):
                write_label(path, new_label(1, "good", "Ada"))
                request_threshold(path, new_threshold_change(0.5, "Ada"))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            recorder.keep(make_row())
            recorder.do_maintenance()
    assert found(path) == []
    assert one(path, "SELECT count(*) FROM labels") == 60


def test_line_covers_its_pictures_and_those_that_it_deletes(run_line, make_options, journal, tmp_path, monkeypatch):
    monkeypatch.setattr(recording, "MAINTENANCE_S", 0)
    pictures = PictureOptions(tmp_path / "pictures", save="all", overlay=False, quota_mb=0.001, free_mb=0)
    running = run_line(make_options(CameraOptions("left", "0"), pictures=pictures))
    wait_until(lambda: len(journal.rows()) >= 40)
    running.finish()
    check = Verification(journal.path, pictures=tmp_path / "pictures")
    assert list(check.findings()) == []
    kept = sorted((tmp_path / "pictures").rglob("*.png"))
    assert 0 < len(kept) < len(journal.rows())
    kept[0].write_bytes(b"another picture")
    kept[-1].unlink()
    assert [finding.split(" of verdict")[0] for finding in found(journal.path, pictures=tmp_path / "pictures")] == [
        f"picture {path.relative_to(tmp_path / 'pictures')}" for path in (kept[-1], kept[0])
    ]


def test_key_that_cannot_be_used_keeps_a_line_from_starting(tmp_path, make_options, run_line, key):
    (tmp_path / "no.key").write_text("no key")
    with pytest.raises(JournalError, match=r"no.key: is no private Ed25519 key"):
        run_line(make_options(journal_options={"signing_key": tmp_path / "no.key"}))
    with pytest.raises(JournalError, match=r"gone.key: the signing key cannot be read .*stfpm-journal --new-key FILE"):
        run_line(make_options(journal_options={"signing_key": tmp_path / "gone.key"}))
    with pytest.raises(JournalError, match="is no public Ed25519 key"):
        read_public_key(key)


def test_line_that_starts_with_another_key_says_so(tmp_path, make_options, run_line, journal, key):
    write_new_key(tmp_path / "other.key")
    for path in (key, tmp_path / "other.key", tmp_path / "other.key"):
        running = run_line(make_options(journal_options={"signing_key": path}))
        wait_until(lambda: journal.path.exists() and one(journal.path, "SELECT count(*) FROM verdicts"))
        running.finish()
    assert sum("heads of the chain are signed with key" in event.detail for event in journal.events()) == 1
    other = public_of(tmp_path / "other.key")
    assert found(journal.path, public_of(key), other) == []
    assert any(finding.startswith("heads 1 to ") for finding in found(journal.path, other))


def test_what_the_last_head_says_is_written_at_the_close(tmp_path, key):
    write_new_key(tmp_path / "other.key")
    for path in (key, tmp_path / "other.key"):  # closed at once, as a line that is stopped at once
        Recorder(tmp_path / "line.sqlite", "5" * 64, signer=KeyPair(path)).close()
    with contextlib.closing(sqlite3.connect(tmp_path / "line.sqlite")) as file:
        (count,) = file.execute("SELECT count(*) FROM events WHERE detail LIKE 'heads of the chain%'").fetchone()
    assert count == 1
    assert found(tmp_path / "line.sqlite", public_of(key), public_of(tmp_path / "other.key")) == []


def test_new_key_is_private_and_replaces_none(tmp_path, capsys):
    assert main(["--new-key", str(tmp_path / "line.key")]) == 0
    assert (tmp_path / "line.key").stat().st_mode & 0o777 == 0o600
    assert main(["--new-key", str(tmp_path / "line.key")]) == 1
    assert "cannot be written (File exists); choose another name" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [[], ["line.sqlite", "--new-key", "k"], ["line.sqlite", "--anchor", "a"], ["a", "--verify", "--json"]]
)
def test_bad_usage(arguments):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)


def test_row_hash_is_what_the_documentation_says(tmp_path):
    path = tmp_path / "line.sqlite"
    with contextlib.closing(Journal(path)) as writer:
        writer.write_events([EventRow(0, "2026-11-24T02:00:00.000Z", 7, 3, "left", "cam", "lost", 'a "b" \u00e9')])
        name = writer.id
    array = '[1,"2026-11-24T02:00:00.000Z",7,3,"left","cam","lost","a \\"b\\" \u00e9"]'
    expected = hashlib.sha256(hashlib.sha256(f"{name} events".encode()).digest() + array.encode()).digest()
    assert one(path, "SELECT hash FROM events") == expected


def test_row_of_another_program_that_has_no_digest_keeps_no_old_journal_from_being_opened(tmp_path):
    path = tmp_path / "line.sqlite"
    Journal(path).close()
    for table in (*CHAINED[2:], "chain_start"):
        execute(path, f"DROP TABLE {table}")
    execute(path, "INSERT INTO thresholds VALUES (1, 't', x'ff', '', '', 'high', 0, 0, '', 'ordered')")
    Journal(path).close()
    assert found(path) == ["threshold change 1 was inserted: it has no digest"]
