"""A watched folder: each picture once, when it is complete."""

from __future__ import annotations

import os
import shutil
import time

import cv2
import numpy as np
import pytest

QUICK_WATCH = {"poll_s": 0.01, "settle_s": 0.05, "give_up_s": 0.5}


def encoded(level: int, suffix: str = ".png") -> bytes:
    return cv2.imencode(suffix, np.full((20, 30, 3), level, np.uint8))[1].tobytes()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture
def watch(start, folder):
    def watch_folder(**options):
        return start(f"watch:{folder}", **{**QUICK_WATCH, **options})

    return watch_folder


def levels(source, count):
    """Return the levels of the next frames; then no more may come."""
    frames = [source.next(5.0) for _ in range(count)]
    assert source.next(0.3) is None
    return [int(frame.image[0, 0, 0]) for frame in frames]


def test_new_pictures_come_once_each_by_age_and_old_ones_not_at_all(watch, folder, events):
    (folder / "old.png").write_bytes(encoded(1))
    source = watch()
    for number, name in enumerate(("c.png", "sub/b.bmp", "a.jpg")):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(encoded(10 * number, name[-4:]))
        os.utime(folder / name, (1000 + number, 1000 + number))
    (folder / "notes.txt").write_text("no picture")
    assert levels(source, 3) == [0, 10, 20]
    assert not source.live
    assert events.kinds() == ["opened"]
    assert events[0].detail == "pictures that were there before are not judged: 1"


def test_pictures_from_before_the_start_are_given_if_wanted(watch, folder):
    (folder / "old.png").write_bytes(encoded(7))
    assert levels(watch(existing=True), 1) == [7]


def test_option_watch_is_the_same_as_the_prefix(start, folder):
    source = start(folder, watch=True, **QUICK_WATCH)
    (folder / "a.png").write_bytes(encoded(9))
    assert levels(source, 1) == [9]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif"])
def test_half_a_picture_is_waited_for(watch, folder, suffix):
    source, data = watch(give_up_s=30.0), encoded(50, suffix)
    with (folder / f"part{suffix}").open("wb") as file:
        for position in range(0, len(data), len(data) // 3):
            assert source.next(0.15) is None
            file.write(data[position : position + len(data) // 3])
            file.flush()
    assert levels(source, 1) == [50]


def test_file_that_never_becomes_a_picture_is_a_frame_with_the_reason(watch, folder):
    source = watch()
    (folder / "broken.png").write_bytes(encoded(50)[:40])
    frame = source.next(5.0)
    assert frame.image is None
    assert "broken.png: the file ends before the picture does" in frame.error
    assert source.next(0.8) is None


def test_picture_written_over_is_another_one(watch, folder):
    source = watch()
    for level in (10, 20):
        (folder / "current.png").write_bytes(encoded(level))
        assert levels(source, 1) == [level]


def test_folder_that_goes_and_comes_back_gives_nothing_twice(watch, folder, events):
    source = watch()
    (folder / "a.png").write_bytes(encoded(10))
    assert levels(source, 1) == [10]
    folder.rename(folder.with_name("away"))
    assert source.next(0.2) is None
    folder.with_name("away").rename(folder)
    (folder / "b.png").write_bytes(encoded(20))
    assert levels(source, 1) == [20]
    assert events.kinds() == ["opened", "lost", "regained"]
    assert "No such file" in events[1].detail


def test_missing_folder_is_waited_for(watch, folder, events):
    shutil.rmtree(folder)
    source = watch()
    assert source.next(0.1) is None
    folder.mkdir()
    (folder / "a.png").write_bytes(encoded(10))
    assert levels(source, 1) == [10]
    assert events.kinds() == ["lost", "regained"]


def skipped(events) -> str:
    return " ".join(event.detail for event in events if event.kind == "skipped")


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_file_that_is_overwritten_all_the_time_is_judged_each_time(watch, folder, suffix):
    source = watch(settle_s=5.0)
    for level in (10, 60, 110, 160, 210):
        (folder / f"latest{suffix}").write_bytes(encoded(level, suffix))
        frame = source.next(5.0)
        assert frame is not None
        assert int(frame.image[0, 0, 0]) == pytest.approx(level, abs=2)
    assert source.next(0.1) is None


def test_picture_that_was_overwritten_before_it_was_read_is_counted_and_named(watch, folder, events):
    source = watch(settle_s=0.5)
    for level in (10, 20, 30):
        (folder / "new.bmp").write_bytes(encoded(level, ".bmp"))
        (folder / "new.bmp").replace(folder / "latest.bmp")
        assert source.next(0.05) is None
    assert levels(source, 1) == [30]
    assert source.next(1.2) is None
    details = [event.detail for event in events if event.kind == "skipped"]
    assert all(f"{folder}/latest.bmp: overwritten before it was read" in detail for detail in details)
    assert sum(int(detail.partition(" not judged: ")[0]) for detail in details) == 2


def test_whole_picture_that_is_overwritten_while_another_is_judged_is_named(watch, folder, events):
    source = watch()
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(encoded(10))
        os.utime(folder / name, (1000, 1000))
    time.sleep(0.3)
    assert source.next(5.0) is not None  # a.png; b.png was seen as well
    (folder / "b.png").write_bytes(encoded(20))
    assert levels(source, 1) == [20]
    assert source.next(1.2) is None
    assert f"{folder}/b.png: overwritten before it was read" in skipped(events)


def test_pictures_are_seen_and_dated_while_none_is_requested(watch, folder, events):
    """As between two triggers."""
    source = watch()
    before_ns = time.monotonic_ns()
    for level in (10, 20, 30):
        (folder / "latest.png").write_bytes(encoded(level))
        time.sleep(0.3)
    after_ns = time.monotonic_ns()
    time.sleep(1.2)
    assert before_ns < source.next(5.0).arrived_ns < after_ns
    details = [event.detail for event in events if event.kind == "skipped"]
    assert sum(int(detail.partition(" not judged: ")[0]) for detail in details) == 2


def test_another_time_or_other_rights_of_a_waiting_picture_are_no_loss(watch, folder, events):
    source = watch()
    (folder / "part.png").write_bytes(encoded(10))
    time.sleep(0.2)
    os.utime(folder / "part.png", (1000, 1000))
    time.sleep(0.2)
    (folder / "part.png").chmod(0o600)
    time.sleep(0.2)
    assert levels(source, 1) == [10]
    assert source.next(1.2) is None
    assert events.kinds() == ["opened"]


@pytest.mark.parametrize("in_place", [True, False])
def test_picture_replaced_within_its_time_stamp_is_another_one(watch, folder, in_place):
    source = watch()
    path = folder / "part.bmp"
    path.write_bytes(encoded(10, ".bmp"))
    os.utime(path, (1000, 1000))
    assert levels(source, 1) == [10]
    other = path if in_place else folder / "other.unfinished"
    other.write_bytes(encoded(20, ".bmp"))
    os.utime(other, (1000, 1000))
    other.replace(path)
    assert levels(source, 1) == [20]


def test_other_rights_another_name_or_another_link_make_no_new_picture(watch, folder, events):
    source = watch()
    path = folder / "part.png"
    path.write_bytes(encoded(10))
    assert levels(source, 1) == [10]
    path.chmod(0o600)
    assert source.next(0.2) is None
    os.link(path, folder.with_name("archived.png"))
    assert source.next(0.2) is None
    path.rename(folder / "done.png")
    assert source.next(1.2) is None
    assert events.kinds() == ["opened"]


def test_new_picture_with_time_size_and_inode_of_one_that_was_removed_is_judged(watch, folder):
    (folder / "before.bmp").write_bytes(encoded(5, ".bmp"))
    os.utime(folder / "before.bmp", (1000, 1000))
    source = watch(poll_s=0.5)
    for level in (10, 20, 30):  # ext4 gives the inode to the next file; here the old one is written anew and renamed
        old = next(folder.iterdir())
        old.write_bytes(encoded(level, ".bmp"))
        os.utime(old, (1000, 1000))
        old.rename(folder / f"{level}.bmp")
        assert levels(source, 1) == [level]


def test_picture_that_was_seen_half_written_and_is_renamed_is_judged_once_and_not_missed(watch, folder, events):
    source = watch(settle_s=0.5)
    data = encoded(40, ".bmp")
    with (folder / "new.bmp").open("wb") as file:
        assert source.next(0.1) is None
        file.write(data[:100])
        file.flush()
        assert source.next(0.1) is None
        file.write(data[100:])
    (folder / "new.bmp").rename(folder / "part.bmp")
    assert levels(source, 1) == [40]
    assert source.next(1.2) is None
    assert skipped(events) == ""


def test_picture_that_is_renamed_is_not_missed_if_the_next_one_has_its_old_name(watch, folder, events):
    source = watch(poll_s=0.3, settle_s=1.0)
    (folder / "new.bmp").write_bytes(encoded(40, ".bmp"))
    assert source.next(0.5) is None
    (folder / "new.bmp").rename(folder / "part.bmp")
    (folder / "new.bmp").write_bytes(encoded(50, ".bmp"))
    assert levels(source, 2) == [40, 50]
    assert source.next(1.2) is None
    assert skipped(events) == ""


def test_picture_that_is_renamed_while_it_settles_is_judged_once_and_not_missed(watch, folder, events):
    source = watch(settle_s=0.5)
    (folder / "upload.bmp").write_bytes(encoded(10, ".bmp"))
    assert source.next(0.1) is None
    (folder / "upload.bmp").rename(folder / "part.bmp")
    assert levels(source, 1) == [10]
    assert source.next(1.2) is None
    assert events.kinds() == ["opened"]


def test_picture_taken_away_before_it_was_read_is_named(watch, folder, events):
    source = watch(settle_s=5.0)
    (folder / "part.bmp").write_bytes(encoded(10, ".bmp"))
    assert source.next(0.5) is None
    (folder / "part.bmp").rename(folder.with_name("archive.bmp"))
    assert source.next(2.0) is None
    assert skipped(events) == f"1 not judged: {folder}/part.bmp: taken away before it was read"


def test_other_files_are_reported_once_and_unfinished_uploads_are_not(watch, folder, events, monkeypatch):
    monkeypatch.setattr("stfpm_runtime.sources.watched.LEFT_OUT_AFTER_S", 0.1)
    (folder / "of_before.mp4").touch()
    source = watch()
    (folder / "clip.mp4").touch()
    (folder / "part.png.part").touch()
    (folder / "nowhere.png").symlink_to(folder / "gone.png")
    assert source.next(2.5) is None
    assert sorted(skipped(events).removeprefix("2 not judged: ").split("; ")) == [
        f"{folder}/clip.mp4: files named *.mp4 are not read", f"{folder}/nowhere.png: the link leads nowhere",
    ]  # fmt: skip


def test_files_skipped_since_the_last_event_are_reported_on_closing(watch, folder, events):
    source = watch(settle_s=60.0)
    for name in ("a.bmp", "b.bmp"):
        (folder / name).write_bytes(encoded(5, ".bmp"))
        seen = len(source._files)
        while len(source._files) == seen:
            time.sleep(0.005)
        (folder / name).unlink()
        while source._files:
            time.sleep(0.005)
    source.close()
    details = " ".join(event.detail for event in events if event.kind == "skipped")
    assert all(f"{name}: taken away before it was read" in details for name in ("a.bmp", "b.bmp"))


@pytest.mark.parametrize("suffix", [".jp2", ".avif", ".gif", ".jfif", ".jpe", ".pam"])
def test_every_kind_that_can_be_read_is_judged(watch, folder, suffix):
    source = watch()
    picture = np.zeros((64, 96, 3), np.uint8)
    data = cv2.imencode(".jpg" if suffix in (".jfif", ".jpe") else suffix, picture)[1].tobytes()
    (folder / f"part{suffix}").write_bytes(data)
    assert levels(source, 1) == pytest.approx([0], abs=5)


def test_links_to_folders_are_followed_and_one_that_leads_back_is_searched_once(watch, folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "back").symlink_to(folder)
    source = watch()
    (tmp_path / "elsewhere/a.png").write_bytes(encoded(10))
    assert levels(source, 1) == [10]
    assert not source.next(0.1)


def test_bits_and_size_are_those_of_the_options(watch, folder):
    source = watch(bits=12, max_megapixels=0.01)
    (folder / "a.png").write_bytes(cv2.imencode(".png", np.full((20, 30), 0xABC, np.uint16))[1].tobytes())
    assert levels(source, 1) == [0xAB]
    (folder / "b.png").write_bytes(cv2.imencode(".png", np.zeros((200, 300), np.uint8))[1].tobytes())
    frame = source.next(5.0)
    assert "0.1 megapixels (300x200); expected at most 0.01" in frame.error
