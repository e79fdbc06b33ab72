"""Collects pictures of parts for a training: each region's own or its tiles, as they are judged, by place.

It has a thread of its own; a picture for which the disk has no time is left out and counted.
"""

from __future__ import annotations

import logging
import math
import os
import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from stfpm_runtime.errors import OutputError
from stfpm_runtime.files import atomic_path
from stfpm_runtime.imaging.perceptual_hash import ALIKE, HASH_SIDE, hash_distances, perceptual_hash
from stfpm_runtime.imaging.preprocessing import Image
from stfpm_runtime.imaging.regions import cut
from stfpm_runtime.lifecycle import Worker
from stfpm_runtime.line.config.camera import RegionOptions

from .base import KeptParts, Observer

LOG = logging.getLogger("stfpm.collector")
WAITING = 16
"""Pictures that may wait for the disk; further ones are left out."""
POLL_S = 0.2
BLURRED = 0.4
"""A picture is called blurred below this share of the median sharpness of its set."""
LOOKING_S = 0.5
"""The longest time that one call reads new pictures, in seconds."""
COMPARED = 256
"""Pictures that are compared with all others at once."""
SIDE = 256
"""The pixels of the longer side at which sharpness is measured."""


@dataclass(frozen=True)
class CollectedPicture:
    """A picture of a set."""

    name: str
    sharpness: float = math.inf
    looks: str = ""
    """Its perceptual hash; empty: it was not read yet."""
    like: str = ""
    """The name of the oldest earlier picture that looks alike; empty where there is none."""


@dataclass(frozen=True)
class CollectionTask:
    """What is collected now."""

    camera: str
    region: str
    count: int
    """The number of further pictures."""
    every_s: float
    """The least time between two of them."""


class Collector(Worker, Observer):
    """Writes pictures while it is told to. `observe` belongs to the loop's thread, all else is for any."""

    keeps_real_time = False

    name = "collector"

    def __init__(self, folder: Path) -> None:
        """Store the folder; each place has `CAMERA/REGION/train/good` in it, below the name of an active recipe."""
        super().__init__("collector")
        self.failure = ""
        """Why the last picture could not be written."""
        self.left_out = 0
        self.folder = folder
        self._recipe = ""
        self._wanted: CollectionTask | None = None
        self._taken = 0
        self._taken_s = 0.0
        self._waiting: queue.Queue[tuple[Path, Image, RegionOptions]] = queue.Queue(WAITING)
        self._seen: dict[Path, dict[str, CollectedPicture]] = {}
        """The pictures of each folder that were read, by name."""
        self._looking = threading.Lock()

    @property
    def wanted(self) -> CollectionTask | None:
        """Return what is collected now."""
        return self._wanted

    def folder_of(self, camera: str, region: str) -> Path:
        """Return the folder of a place's pictures; it may not exist yet."""
        return self.folder / self._recipe / camera / region / "train" / "good"

    def use_recipe(self, name: str) -> None:
        """Collect nothing more: the next parts are of another product, whose pictures have folders of their own."""
        self._wanted, self._recipe = None, name

    def begin(self, wanted: CollectionTask) -> None:
        """Collect the next pictures of a place, instead of what was collected before."""
        self._taken, self._taken_s, self.failure, self.left_out = 0, 0.0, "", 0
        self._wanted = wanted

    def end(self) -> None:
        """Collect nothing more; what was collected stays."""
        self._wanted = None

    def observe(self, parts: KeptParts) -> None:
        """Queue the picture of the wanted place, without waiting."""
        wanted = self._wanted
        if wanted is None or time.monotonic() - self._taken_s < wanted.every_s:
            return
        for judged, row in parts:
            is_wanted = (row.camera, row.region) == (wanted.camera, wanted.region)
            # a part that was not cut has the whole frame; one that the engine, or a missing one, failed on has its own
            if not is_wanted or judged.image is None or judged.pictures == 0:
                continue
            path = self.folder_of(row.camera, row.region) / f"{row.time[:23].replace(':', '-')}-{row.seq}.png"
            try:
                self._waiting.put_nowait((path, judged.image, judged.region))
            except queue.Full:
                self.left_out += 1
                return
            self._taken_s, self._taken = time.monotonic(), self._taken + 1
            if self._taken >= wanted.count:
                self._wanted = None

    def run(self) -> None:
        """Write the pictures until the stop."""
        while not self.stopping.is_set():
            try:
                path, image, region = self._waiting.get(timeout=POLL_S)
            except queue.Empty:
                continue
            try:
                pictures = cut(image, region.name, tile=region.tile, overlap=region.overlap).crops
                for number, picture in enumerate(pictures, 1):
                    name = f"{path.stem}-{number}.png" if region.tile else path.name
                    with atomic_path(path.with_name(name)) as unfinished:
                        unfinished.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
            except OutputError as error:
                self._wanted, self.failure = None, str(error)
                LOG.error("no more pictures are collected: %s", error)
            except Exception as error:
                self._wanted, self.failure = None, f"internal error: {type(error).__name__}: {error}"
                LOG.exception("internal error: no more pictures are collected")

    def paths(self, camera: str, region: str) -> list[Path]:
        """Return the files of a place's pictures, the oldest first."""
        folder = self.folder_of(camera, region)
        return [folder / name for name in finished_pictures(folder)]

    def pictures(self, camera: str, region: str) -> list[CollectedPicture]:
        """Return the pictures of a place, the oldest first.

        Each is read once, for `LOOKING_S` seconds in a call; nothing is known yet of those that wait for a later one.
        """
        folder = self.folder_of(camera, region)
        names, seen = finished_pictures(folder), self._seen.setdefault(folder, {})
        if self._looking.acquire(blocking=False):  # another thread may look already
            try:
                _look(folder, names, seen)
            finally:
                self._looking.release()
        return [seen.get(name) or CollectedPicture(name) for name in names]


def finished_pictures(folder: Path) -> list[str]:
    """Return the names of the pictures in a set's folder, sorted; unfinished files begin with a full stop."""
    try:
        names = os.listdir(folder)  # noqa: PTH208 (text: there may be thousands of them, and pages ask every second)
    except FileNotFoundError:
        return []
    return sorted(name for name in names if name.endswith(".png") and not name.startswith("."))


def warnings_of(pictures: Sequence[CollectedPicture]) -> list[str]:
    """Return for each picture, the oldest first, why it is worth little for a training; empty: it is not."""
    known = [picture.sharpness for picture in pictures if picture.looks]
    usual = float(np.median(known)) if known else 0.0
    return [
        "blurred" if picture.sharpness < BLURRED * usual else "like an earlier one" if picture.like else ""
        for picture in pictures
    ]


def _look(folder: Path, names: Sequence[str], seen: dict[str, CollectedPicture]) -> None:
    """Bring what is known of a set up to date: read new pictures, and compare them with those before them."""
    there, until_s = set(names), time.monotonic() + LOOKING_S
    for name in seen.keys() - there:
        del seen[name]
    changed = [name for name, one in seen.items() if one.like and one.like not in there]
    for name in names:
        if name not in seen:
            if time.monotonic() > until_s:
                break
            seen[name] = look_at(folder / name)
            changed.append(name)
    known = [seen[name] for name in names if name in seen]
    places = {one.name: place for place, one in enumerate(known)}
    for start in range(0, len(changed), COMPARED):
        some = [known[places[name]] for name in changed[start : start + COMPARED]]
        distances = hash_distances([one.looks for one in some], [one.looks for one in known])
        for one, row in zip(some, distances, strict=True):
            alike = np.flatnonzero(row[: places[one.name]] <= ALIKE)
            seen[one.name] = replace(one, like=known[alike[0]].name if alike.size else "")


def look_at(path: Path) -> CollectedPicture:
    """Return what a picture alone says of itself."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:  # removed or damaged meanwhile
        return CollectedPicture(path.name, 0.0, "00" * (HASH_SIDE**2 // 8))
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    scale = min(1.0, SIDE / max(grey.shape))
    small = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return CollectedPicture(path.name, float(cv2.Laplacian(small, cv2.CV_64F).var()), perceptual_hash(image))  # type: ignore[arg-type]
