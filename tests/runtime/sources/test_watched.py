"""A folder that fills, while somebody writes into it."""

from __future__ import annotations

import shutil
import time

import cv2
import numpy as np
import pytest

from stfpm_runtime.sources.base import Event
from stfpm_runtime.sources.watched import WatchedFolder


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "parts"
    path.mkdir()
    return path


@pytest.fixture
def watch(folder):
    events: list[Event] = []

    def watch(**options):
        source = WatchedFolder(str(folder), events.append, **{"look_s": 0.02, **options})
        return source, events

    return watch


def png(level: int) -> bytes:
    return cv2.imencode(".png", np.full((16, 16, 3), level, np.uint8))[1].tobytes()


def all_of(source, timeout_s: float = 0.5) -> list:
    frames = []
    while (frame := source.next(timeout_s)) is not None:
        frames.append(frame)
    return frames


def test_new_pictures_once_in_the_order_of_their_times(folder, watch):
    (folder / "old.png").write_bytes(png(1))
    source, events = watch()
    for name, level in (("b.png", 10), ("a.png", 20), ("sub/c.png", 30)):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(png(level))
        time.sleep(0.02)
    assert [int(frame.image[0, 0, 0]) for frame in all_of(source)] == [10, 20, 30]
    assert source.next(0.1) is None
    assert not source.ended
    assert [event.kind for event in events] == ["opened"]


def test_half_a_picture_is_waited_for(folder, watch):
    source, _ = watch()
    data = png(7)
    path = folder / "slow.png"
    with path.open("wb") as file:
        for start in range(0, len(data), 20):
            file.write(data[start : start + 20])
            file.flush()
            assert source.next(0.06) is None or start + 20 >= len(data)
    frame = source.next(1.0)
    assert frame is None or int(frame.image[0, 0, 0]) == 7
    assert (frame is not None) or len(all_of(source)) == 0


def test_a_picture_that_never_gets_whole_is_an_error_once(folder, watch):
    source, _ = watch(patience_s=0.3)
    (folder / "broken.png").write_bytes(png(7)[:40])
    started = time.monotonic()
    frame = source.next(3.0)
    assert frame.image is None
    assert "broken.png" in frame.error
    assert time.monotonic() - started > 0.3
    assert source.next(0.2) is None


def test_a_replaced_picture_is_a_new_one(folder, watch):
    source, _ = watch()
    (folder / "same.png").write_bytes(png(1))
    assert int(source.next(1.0).image[0, 0, 0]) == 1
    (folder / "same.png.part").write_bytes(png(2))
    (folder / "same.png.part").rename(folder / "same.png")
    assert int(source.next(1.0).image[0, 0, 0]) == 2


def test_a_folder_that_vanishes_and_returns(folder, watch):
    source, events = watch()
    shutil.rmtree(folder)
    assert source.next(0.1) is None
    folder.mkdir()
    (folder / "new.png").write_bytes(png(3))
    assert int(source.next(1.0).image[0, 0, 0]) == 3
    assert [event.kind for event in events] == ["opened", "lost", "regained"]


def test_a_folder_that_is_not_there_yet(folder, watch):
    folder.rmdir()
    source, events = watch()
    assert source.next(0.05) is None
    folder.mkdir()
    (folder / "new.png").write_bytes(png(3))
    assert source.next(1.0) is not None
    assert [event.kind for event in events] == ["lost", "regained"]


def test_what_is_no_picture_is_left_alone_and_the_end_is_the_end(folder, watch):
    source, _ = watch()
    (folder / "notes.txt").write_text("x")
    (folder / ".hidden.png").write_bytes(png(3))
    assert source.next(0.2) is None
    source.close()
    assert source.ended
    assert source.next(5.0) is None
