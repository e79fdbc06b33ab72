"""A watched folder: each picture once, when it is complete."""

from __future__ import annotations

import os
import shutil

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
    """Of the next frames; then nothing may come any more."""
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


def test_pictures_of_before_come_too_if_wanted(watch, folder):
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


def test_what_never_becomes_a_picture_is_a_frame_with_the_reason(watch, folder):
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


def test_folder_that_is_not_there_yet(watch, folder, events):
    shutil.rmtree(folder)
    source = watch()
    assert source.next(0.1) is None
    folder.mkdir()
    (folder / "a.png").write_bytes(encoded(10))
    assert levels(source, 1) == [10]
    assert events.kinds() == ["lost", "regained"]
