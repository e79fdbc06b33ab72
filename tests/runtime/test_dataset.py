"""The data set of a product: labelled parts join it, with manifest, origin and checks."""

from __future__ import annotations

import contextlib
import json
import shutil

import cv2
import numpy as np
import pytest

from stfpm_runtime.dataset import extend as extending
from stfpm_runtime.dataset.cli import main
from stfpm_runtime.dataset.extend import ExtendOptions, extend
from stfpm_runtime.dataset.manifest import (
    ALIKE,
    MANIFEST,
    Entry,
    check_manifest,
    read_manifest,
    write_manifest,
)
from stfpm_runtime.errors import DataError, OutputError
from stfpm_runtime.files import sha256
from stfpm_runtime.imaging.perceptual_hash import hash_distances, perceptual_hash
from stfpm_runtime.line.journal.labels import new_label, write_label
from stfpm_runtime.line.journal.writer import Journal

from .line.test_journal import make_row


def picture(seed: int) -> np.ndarray:
    """Return smooth colours that no other seed gives."""
    small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    return cv2.resize(small, (64, 64), interpolation=cv2.INTER_CUBIC)


@pytest.fixture
def line(tmp_path):
    """A journal of eight parts with pictures, and their folder; the last part's picture is gone."""
    (pictures := tmp_path / "pictures").mkdir()
    with contextlib.closing(Journal(tmp_path / "line.sqlite")) as journal:
        for number in range(1, 9):
            name = f"{number}.png"
            cv2.imwrite(str(pictures / name), picture(number))
            journal.write(
                make_row(decision="reject", score=0.75, camera="left" if number < 8 else "right", picture=name)
            )
    (pictures / "8.png").unlink()
    return tmp_path / "line.sqlite", pictures


@pytest.fixture
def say(line):
    def say(seq: int, value: str, kind: str = "") -> None:
        write_label(line[0], new_label(seq, value, "Ada", kind))

    return say


@pytest.fixture
def build(line, tmp_path):
    def build(**changes) -> dict[str, Entry]:
        done = extend(ExtendOptions(tmp_path / "data", *line, **changes))
        check_manifest(tmp_path / "data" / MANIFEST, done.entries)
        assert read_manifest(tmp_path / "data" / MANIFEST) == sorted(done.entries, key=lambda entry: entry.path)
        return {entry.path: entry for entry in done.entries}

    return build


def folders(entries) -> list[str]:
    return sorted(path.rpartition("/")[0] for path in entries)


def test_labelled_parts_join_with_their_origin(build, say, line, tmp_path):
    say(1, "good")
    say(2, "defect", "scratch at rim")
    say(3, "defect")
    say(4, "unclear")
    say(8, "good")  # its picture is gone
    entries = build()
    assert folders(entries) == ["test/defect", "test/scratch_at_rim", "train/good"]
    (scratch,) = (entry for entry in entries.values() if "scratch" in entry.path)
    assert (scratch.seq, scratch.camera, scratch.label, scratch.by) == (2, "left", "defect", "Ada")
    assert scratch.sha256 == sha256(line[1] / "2.png") == sha256(tmp_path / "data" / scratch.path)
    before = (tmp_path / "data" / MANIFEST).read_bytes()
    build()  # a second run changes nothing
    assert (tmp_path / "data" / MANIFEST).read_bytes() == before


def test_a_revised_label_moves_the_picture_also_where_the_line_has_deleted_it(build, say, line):
    say(1, "good")
    say(2, "good")
    build()
    say(1, "defect", "dent")
    say(2, "unclear")
    (line[1] / "1.png").unlink()
    entries = build()
    assert folders(entries) == ["test/dent"]
    assert next(iter(entries.values())).seq == 1


def test_what_was_trained_on_stays_where_it_is(build, say):
    say(1, "good")
    build()
    say(2, "good")
    assert folders(build(good_to="test")) == ["test/good", "train/good"]


def test_the_same_picture_joins_once(build, say, line):
    jpeg = cv2.imencode(".jpg", cv2.imread(str(line[1] / "1.png")), [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
    (line[1] / "2.png").write_bytes(cv2.imencode(".png", cv2.imdecode(jpeg, cv2.IMREAD_COLOR))[1].tobytes())
    say(1, "good")
    say(2, "good")
    assert len(build()) == 1


def test_a_part_that_is_good_and_a_defect_is_refused_and_nothing_is_changed(build, say, line, tmp_path):
    say(1, "good")
    build()
    before = (tmp_path / "data" / MANIFEST).read_bytes()
    brighter = np.clip(cv2.imread(str(line[1] / "1.png")) * 1.02, 0, 255).astype(np.uint8)
    cv2.imwrite(str(line[1] / "2.png"), brighter)
    say(2, "defect", "dent")
    with pytest.raises(DataError, match=r"test/dent/.* shows the same part as the good train/good/"):
        build()
    assert (tmp_path / "data" / MANIFEST).read_bytes() == before
    assert not (tmp_path / "data/test").exists()


def test_pictures_that_were_there_are_entered(build, say, tmp_path):
    (good := tmp_path / "data/train/good").mkdir(parents=True)
    (tmp_path / "data/test/hole").mkdir(parents=True)
    cv2.imwrite(str(good / "a.png"), picture(100))
    cv2.imwrite(str(tmp_path / "data/test/hole/b.png"), picture(101))
    say(1, "good")
    entries = build(good_to="test")
    assert folders(entries) == ["test/good", "test/hole", "train/good"]
    assert [entry.is_trained_on for entry in entries.values()].count(True) == 1
    assert entries["train/good/a.png"].journal == ""


CHANGES = {
    "missing": (lambda path: path.unlink(), "is gone"),
    "changed": (lambda path: path.write_bytes(path.read_bytes() + b"x"), "was changed since it was entered"),
    "unknown": (lambda path: shutil.copy(path, path.with_name("other.png")), "one of 1 pictures that manifest.jsonl"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_the_check_finds_what_is_not_as_the_manifest_says(build, say, tmp_path, capsys, case):
    say(1, "good")
    (path,) = build()
    data, (change, message) = tmp_path / "data", CHANGES[case]
    assert main([str(data), "--check"]) == 0
    change(data / path)
    assert main([str(data), "--check"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_known_defect_that_is_in_training_is_refused_by_the_check(tmp_path):
    for folder in ("train/good", "test/dent"):
        (tmp_path / folder).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / folder / "a.png"), picture(1))
    entries = [Entry(f"{folder}/a.png", sha256(tmp_path / folder / "a.png"), perceptual_hash(picture(1)))
               for folder in ("train/good", "test/dent")]  # fmt: skip
    write_manifest(tmp_path / MANIFEST, entries)
    with pytest.raises(DataError, match="shows the same part as the good"):
        check_manifest(tmp_path / MANIFEST, entries)


def test_a_full_disk_loses_nothing_and_the_next_run_goes_on(build, say, tmp_path, monkeypatch):
    for number in (1, 2, 3):
        say(number, "good")
    copy, copied = shutil.copyfile, []

    def fail_at_the_second(source, target):
        copied.append(source)
        if len(copied) == 2:
            raise OSError(28, "No space left on device")
        return copy(source, target)

    monkeypatch.setattr(extending.shutil, "copyfile", fail_at_the_second)
    with pytest.raises(OutputError, match="No space left on device"):
        build()
    entries = read_manifest(tmp_path / "data" / MANIFEST)
    with pytest.raises(DataError, match="is gone"):  # a training on half of the data is refused
        check_manifest(tmp_path / "data" / MANIFEST, entries)
    monkeypatch.undo()
    assert len(build()) == 3


def test_a_picture_that_is_gone_everywhere_is_dropped(build, say, line, tmp_path):
    for number in (1, 2):
        say(number, "good")
    first = next(path for path in build() if path.endswith("1.png"))
    (tmp_path / "data" / first).unlink()
    assert len(build()) == 2  # the line still has it
    (tmp_path / "data" / first).unlink()
    (line[1] / "1.png").unlink()
    assert len(build()) == 1


def test_a_run_that_ended_before_the_manifest_was_written_loses_no_origin(build, say, line, tmp_path, monkeypatch):
    say(1, "good")
    build()
    say(1, "defect", "dent")
    (line[1] / "1.png").unlink()

    def full(*_: object) -> None:
        raise OutputError("no space left")

    monkeypatch.setattr(extending, "write_manifest", full)
    with pytest.raises(OutputError):
        build()
    monkeypatch.undo()
    say(1, "good")  # once more another label
    (path,) = build()
    assert path.startswith("train/good/")


def test_two_runs_at_once_do_not_mix(build, say, tmp_path):
    say(1, "good")
    with (
        extending._locked(tmp_path / "data" / MANIFEST),
        pytest.raises(OutputError, match="another stfpm-dataset changes it"),
    ):
        build()
    assert len(build()) == 1


def test_bad_input_is_one_line(line, tmp_path, capsys):
    data = tmp_path / "data"
    for arguments, message in (
        ([data], "no such folder"),
        ([data, line[0]], "expected both"),
        ([data, tmp_path / "none.sqlite", "--pictures", line[1]], "no such file"),
        ([data, line[0], "--pictures", line[1], "--bits", "99"], "bits"),
        ([data, line[0], "--pictures", tmp_path / "picturse"], "is no folder; expected that of the line's pictures"),
    ):
        assert main([str(one) for one in arguments]) == 1
        (said,) = capsys.readouterr().err.splitlines()
        assert message in said
        assert not data.exists()
    data.mkdir(exist_ok=True)
    (data / MANIFEST).write_text('{"path": 1}\n')
    assert main([str(data), str(line[0]), "--pictures", str(line[1])]) == 1
    assert "line 1 is no entry" in capsys.readouterr().err
    (data / MANIFEST).write_text(json.dumps({"path": "train/good/x.png", "sha256": "0", "looks": "00", "x": 1}))
    assert main([str(data), "--check"]) == 1
    with pytest.raises(SystemExit):
        main([str(data), str(line[0]), "--check"])


def test_distances_of_hashes():
    one, other = perceptual_hash(picture(1)), perceptual_hash(picture(2))
    distances = hash_distances([one, other], [one])
    assert distances[0, 0] == 0
    assert distances[1, 0] == bin(int(one, 16) ^ int(other, 16)).count("1") > 5 * ALIKE


def test_a_name_of_a_kind_leads_out_of_no_folder(build, say):
    for number, kind in enumerate(("../../etc", "good", "a/b", "…"), start=1):
        say(number, "defect", kind)
    assert all(path.startswith("test/") and ".." not in path and "/good/" not in path for path in build())
