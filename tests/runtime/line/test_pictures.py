"""Pictures: prepared, written by a thread, and never too many."""

from __future__ import annotations

import dataclasses
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from stfpm_runtime.detector import Verdict
from stfpm_runtime.lifecycle import stop_all
from stfpm_runtime.line.cameras.worker import TriggeredFrame
from stfpm_runtime.line.config.camera import CameraOptions, RegionOptions
from stfpm_runtime.line.config.storage import PictureOptions
from stfpm_runtime.line.inspect import JudgedPart
from stfpm_runtime.line.outputs import pictures as pictures_module
from stfpm_runtime.line.outputs.picture_folder import PictureFolder
from stfpm_runtime.line.outputs.pictures import Pictures
from stfpm_runtime.line.triggers.base import TriggerRequest
from stfpm_runtime.sources import Frame

from .test_journal import fill, make_row, small_disk  # noqa: F401 (a fixture)

DAY = "2026-11-24"
JOURNAL = "a48490c9"


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "pictures"


@pytest.fixture
def events():
    return []


@pytest.fixture
def open_pictures(folder, events):
    opened = []

    def open_pictures(**options) -> Pictures:
        options = {"folder": folder, "save": "all", "free_mb": 0, **options}
        opened.append(Pictures(PictureOptions(**options), lambda *event: events.append(event)))
        opened[-1].start()
        return opened[-1]

    yield open_pictures
    stop_all(opened, time.monotonic() + 5.0)


def judged(decision: str = "reject", image: np.ndarray | None = None) -> JudgedPart:
    image = np.arange(32 * 48 * 3, dtype=np.uint8).reshape(32, 48, 3) if image is None else image
    triggered = TriggeredFrame(CameraOptions("left", "0"), Frame("fake", 0, image), TriggerRequest())
    anomaly_map = np.zeros((8, 8), np.float32)
    return JudgedPart(triggered, RegionOptions("cap"), Verdict(decision, 0.25, 0.5, anomaly_map), 0, image)


def row(seq: int, decision: str = "reject"):
    return make_row(seq=seq, decision=decision, time=f"{DAY}T02:00:00.000Z", region="cap")


def take(pictures: Pictures, seq: int, decision: str = "reject"):
    prepared = pictures.prepare(row(seq, decision), judged(decision), JOURNAL)
    pictures.enqueue(prepared)
    return prepared


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_original_is_kept_as_it_was_with_its_overlay(open_pictures, folder):
    pictures = open_pictures()
    prepared = take(pictures, 7)
    assert (prepared.picture, prepared.overlay) == (
        f"{DAY}/{JOURNAL}-000000000007-left-cap.png", f"{DAY}/{JOURNAL}-000000000007-left-cap.overlay.jpg",
    )  # fmt: skip
    pictures.stop(time.monotonic() + 5)
    assert files(folder) == sorted([prepared.picture, prepared.overlay])
    assert (cv2.imread(str(folder / prepared.picture)) == judged().image).all()
    assert cv2.imread(str(folder / prepared.overlay)) is not None


def test_of_parts_that_were_not_looked_at_for_the_same_reason_the_first_alone_has_a_picture(open_pictures):
    pictures = open_pictures(save="reject")

    def has_picture(seq: int, reason: str, region: str = "cap") -> bool:
        refused = dataclasses.replace(judged("fault"), pictures=0) if reason else judged()
        line = dataclasses.replace(row(seq, "fault" if reason else "reject"), reason=reason, region=region)
        prepared = pictures.prepare(line, refused, JOURNAL)
        pictures.enqueue(prepared)
        return bool(prepared.picture)

    reasons = ["no recipe", "no recipe", "the engine failed", "", "", "no recipe"]
    found = [has_picture(seq, reason) for seq, reason in enumerate(reasons, 1)]
    assert found == [True, False, True, True, True, True]
    assert has_picture(7, "no recipe", "label")


def test_jpeg_and_no_overlay(open_pictures, folder):
    pictures = open_pictures(format="jpeg", overlay=False)
    prepared = take(pictures, 7)
    pictures.stop(time.monotonic() + 5)
    assert files(folder) == [prepared.picture] == [f"{DAY}/{JOURNAL}-000000000007-left-cap.jpg"]


@pytest.mark.parametrize(
    ("save", "expected"), [("all", "prf"), ("pass", "p"), ("reject", "rf"), ("fault", "f")]
)  # fmt: skip
def test_only_pictures_of_the_chosen_decisions_are_saved(open_pictures, save, expected):
    pictures = open_pictures(save=save)
    kept = [decision for decision in ("pass", "reject", "fault") if take(pictures, 1, decision).picture]
    assert "".join(decision[0] for decision in kept) == expected


def test_verdict_without_a_number_or_without_pixels_has_no_picture(open_pictures):
    pictures = open_pictures()
    assert take(pictures, 0).picture == ""
    blind = dataclasses.replace(judged("fault"), image=None)
    assert pictures.prepare(row(1, "fault"), blind, JOURNAL).picture == ""


def test_full_queue_is_counted_and_is_an_event_and_costs_no_verdict(open_pictures, events, monkeypatch, folder):
    go_on, busy = threading.Event(), threading.Event()

    def slow(*arguments):
        busy.set()
        assert go_on.wait(120)
        return np.zeros((4, 4, 3), np.uint8)

    monkeypatch.setattr(pictures_module, "draw_overlay", slow)
    pictures = open_pictures(queue=2, original=False)
    prepared = [take(pictures, seq) for seq in range(1, 6)]
    assert [bool(one.overlay) for one in prepared] == [True, True, False, False, False]
    assert pictures.dropped == 3
    assert events == [("pictures", "come faster than they can be written; verdicts go on without")]
    assert busy.wait(120)
    go_on.set()
    pictures.stop(time.monotonic() + 5)
    assert files(folder) == sorted(one.overlay for one in prepared[:2])


def test_picture_of_a_verdict_that_was_not_journalled_frees_its_place_in_the_queue(open_pictures):
    pictures = open_pictures(queue=1)
    for _ in range(3):
        prepared = pictures.prepare(row(1), judged(), JOURNAL)
        pictures.enqueue(dataclasses.replace(prepared, decision="fault", seq=0, picture="", overlay=""))
    assert pictures.dropped == 0


def test_picture_that_cannot_be_written_costs_no_other(open_pictures, folder, events):
    folder.mkdir()
    (folder / DAY).touch()  # a file stands in the way of the folder
    pictures = open_pictures(overlay=False)
    take(pictures, 1)
    take(pictures, 2)
    pictures.stop(time.monotonic() + 5)
    assert pictures.failed == 2
    assert len(events) == 1
    assert events[0][1].startswith("one cannot be written: ")


@pytest.fixture
def keep(folder, events):
    """Keeps files of 100 kB in a folder of at most 1 MB."""
    options = PictureOptions(folder, quota_mb=1, free_mb=0)
    picture_folder = PictureFolder(options, lambda *event: events.append(event))
    picture_folder.measure()
    return lambda name, size=100_000: picture_folder.write(name, bytes(size))


def test_oldest_pictures_are_deleted_for_the_quota(keep, folder):
    names = [
        f"2026-11-{day:02}/{seq:012}.png" for day, seq in zip([9] * 5 + [10] * 5 + [11] * 5, range(15), strict=True)
    ]
    for name in names:
        assert keep(name)
    assert files(folder) == names[5:]
    assert not (folder / "2026-11-09").exists()


def test_pictures_that_another_program_removes_make_room(keep, folder):
    for seq in range(10):
        assert keep(f"{DAY}/{seq:012}.png")
    for seq in range(2, 9):
        (folder / DAY / f"{seq:012}.png").unlink()
    for seq in range(10, 17):
        assert keep(f"{DAY}/{seq:012}.png")
    assert files(folder) == [f"{DAY}/{seq:012}.png" for seq in (0, 1, *range(9, 17))]


def test_earlier_pictures_count_and_other_files_stay(folder, keep, events):
    for name in (f"{DAY}/000000000001.png", f"{DAY}/000000000002.png.unfinished", "notes/precious.txt", "precious.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(bytes(950_000))
    picture_folder = PictureFolder(PictureOptions(folder, quota_mb=1, free_mb=0), lambda *event: events.append(event))
    picture_folder.measure()
    assert files(folder) == sorted([f"{DAY}/000000000001.png", "notes/precious.txt", "precious.png"])
    assert picture_folder.write(f"{DAY}/000000000003.png", bytes(100_000))
    assert files(folder) == sorted([f"{DAY}/000000000003.png", "notes/precious.txt", "precious.png"])


def test_picture_larger_than_the_quota_is_refused_once(keep, folder, events):
    assert keep(f"{DAY}/1.png")
    assert not keep(f"{DAY}/2.png", 1_000_001)
    assert not keep(f"{DAY}/3.png", 1_000_001)
    assert keep(f"{DAY}/4.png")
    assert [text for _, text in events] == ["have no room left on the disk; verdicts go on without", "have room again"]


def test_disk_is_never_filled(small_disk, events):  # noqa: F811 (the fixture)
    """1 MB, of which 0.3 are to be left free."""
    folder = small_disk / "pictures"
    picture_folder = PictureFolder(
        PictureOptions(folder, quota_mb=100, free_mb=0.3), lambda *event: events.append(event)
    )
    for seq in range(30):
        assert picture_folder.write(f"{DAY}/{seq:012}.png", bytes(100_000))
    assert files(folder)[-1] == f"{DAY}/{29:012}.png"
    assert 5 <= len(files(folder)) <= 7
    fill(small_disk).rename(small_disk / "ballast 1")
    assert picture_folder.write(f"{DAY}/{30:012}.png", bytes(100_000))
    assert 1 <= len(files(folder)) <= 4  # the others have given way to what is to be left free
    fill(small_disk)
    assert not picture_folder.write(f"{DAY}/{31:012}.png", bytes(200_000))
    assert files(folder) == []  # all have given way
    assert events[-1][1].startswith("have no room left")


def test_new_journal_does_not_overwrite_the_pictures_of_the_old_one(open_pictures, folder):
    pictures = open_pictures(overlay=False)
    for journal in (JOURNAL, "b5959ada"):
        pictures.enqueue(pictures.prepare(row(1), judged(), journal))
    pictures.stop(time.monotonic() + 5)
    assert len(files(folder)) == 2


def test_wrong_date_does_not_make_the_newest_pictures_the_oldest(keep, folder):
    """The clock is reset to 1970 after five pictures, and another journal's are there from before."""
    others = [f"2026-11-10/00000000-{seq:012}.png" for seq in range(2)]
    right = [f"{DAY}/{JOURNAL}-{seq:012}.png" for seq in range(5)]
    wrong = [f"1970-01-01/{JOURNAL}-{seq:012}.png" for seq in range(5, 10)]
    for name in (*others, *right, *wrong):
        assert keep(name)
    assert files(folder) == sorted([*right, *wrong])
    assert keep(f"1970-01-01/{JOURNAL}-{10:012}.png")
    assert files(folder) == sorted([*right[1:], *wrong, f"1970-01-01/{JOURNAL}-{10:012}.png"])


def test_picture_that_cannot_be_deleted_is_skipped(keep, folder, events, monkeypatch):
    names = [f"{DAY}/{JOURNAL}-{seq:012}.png" for seq in range(12)]
    unlink, tried = Path.unlink, []

    def refuse(path: Path, missing_ok: bool = False) -> None:
        tried.append(path.name)
        assert len(tried) < 1000, "it is tried for ever"
        if path.name.endswith(("000.png", "001.png")):
            raise PermissionError(1, "Operation not permitted")
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    for name in names:
        assert keep(name)
    assert files(folder) == sorted([*names[:2], *names[4:]])
    assert [text for _, text in events] == [
        f"{JOURNAL}-{0:012}.png cannot be deleted (Operation not permitted); check its permissions"
    ]
    monkeypatch.setattr(Path, "unlink", lambda path, missing_ok=False: refuse(path.with_name("000.png")))
    assert not keep(f"{DAY}/{JOURNAL}-{12:012}.png")


def test_pictures_have_mode_0640(keep, folder):
    assert keep(f"{DAY}/1.png")
    assert (folder / DAY / "1.png").stat().st_mode & 0o777 == 0o640
