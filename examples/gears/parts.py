"""The demo's pictures: brass gears on a conveyor belt, drawn from formulas, with defects whose masks are exact.

Nothing is downloaded and nothing photographed, so the demo needs no data set. A part is a signed distance (its outline)
and a relief (its height); a lamp shades both. A defect changes outline, relief or colour *before* the shading, so that
it is lit like the rest, and its mask is where the picture changed visibly: outside the mask a defective part is, pixel
for pixel, its own good twin.

    python -m examples.gears.parts demo/gear
"""

from __future__ import annotations

import argparse
import math
import shutil
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from stfpm_runtime.cli import run
from stfpm_runtime.errors import OutputError
from stfpm_runtime.imaging.preprocessing import Image

from .scene import (
    SIZE,
    Field,
    Mask,
    Surface,
    column_numbers,
    draw_lamp,
    expose,
    row_numbers,
    shade,
    smooth_noise,
    soft_step,
    visible,
)

TEETH, HOLES = 18, 6
ROOT, TIP, BORE = 174.0, 202.0, 41.0
"""Radii of the gear: the teeth's root and tip, and the hole for its shaft."""

BRASS = (96, 168, 214)
BELT = (74, 70, 52)
"""Colours, BGR."""

Defect = Callable[["Surface", np.random.Generator], None]


@dataclass(frozen=True)
class Counts:
    """The number of pictures to draw."""

    train: int = 100
    """Good ones to train on."""
    test: int = 20
    """Good ones to test on; of each kind of defect there are half as many."""


def write_parts(folder: Path, seed: int = 0, counts: Counts | None = None) -> None:
    """Write the data set in MVTec AD's layout below `folder`, in place of one that is there; PNG files.

        train/good/000.png ...            test/{good,missing,scratch,spot}/000.png ...
        ground_truth/<defect>/000_mask.png ...  (0 and 255)

    The same seed gives the same pictures. Raises OutputError where they cannot be written.
    """
    counts = counts or Counts()
    jobs = [_Job(f"train/good/{number:03}", (seed, 0, number)) for number in range(counts.train)]
    jobs += [_Job(f"test/good/{number:03}", (seed, 1, number)) for number in range(counts.test)]
    for split, kind in enumerate(DEFECTS, start=2):
        jobs += [_Job(f"test/{kind}/{n:03}", (seed, split, n), kind) for n in range(-(-counts.test // 2))]
    for name in ("train", "test", "ground_truth"):
        shutil.rmtree(folder / name, ignore_errors=True)
    with ThreadPoolExecutor() as pool:  # NumPy and OpenCV let go of the interpreter while they work
        for _ in pool.map(lambda job: job.write(folder), jobs):
            pass


def draw_part(seed: Sequence[int], defect: str | None = None) -> tuple[Image, Mask]:
    """Draw a picture (uint8 [SIZE, SIZE, 3], BGR) and its defect's mask (bool [SIZE, SIZE], all false for a good part).

    `defect` is a key of DEFECTS. The seed decides everything: the same one without a defect gives the good twin.
    """
    pose, wear, lamp, noise, harm = np.random.default_rng(seed).spawn(5)
    surface = _gear(pose, wear)
    light = draw_lamp(lamp)
    belt = _belt(wear)
    good = shade(surface, belt, light)
    grain = noise.standard_normal(good.shape, dtype=np.float32)
    if defect is None:
        return expose(good, grain), np.zeros((SIZE, SIZE), np.bool_)
    DEFECTS[defect](surface, harm)
    bad = shade(surface, belt, light)
    mask = visible(good, bad)
    return expose(np.where(mask[..., None], bad, good), grain), mask


@dataclass(frozen=True)
class _Job:
    """One picture to draw."""

    stem: str
    """The name of its file without the suffix, `test/spot/000` say."""
    seed: tuple[int, int, int]
    defect: str | None = None

    def write(self, folder: Path) -> None:
        image, mask = draw_part(self.seed, self.defect)
        _write_png(folder / f"{self.stem}.png", image)
        if self.defect:
            truth = folder / "ground_truth" / f"{self.stem.removeprefix('test/')}_mask.png"
            _write_png(truth, mask.astype(np.uint8) * 255)


def _write_png(path: Path, image: Image) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another folder") from None


# The good part.


def _gear(pose: np.random.Generator, wear: np.random.Generator) -> Surface:
    """Draw a gear somewhere near the middle, turned by up to half a tooth, with its own grain and tarnish."""
    centre = (SIZE - 1) / 2 + pose.uniform(-10, 10, 2).astype(np.float32)
    angle = float(pose.uniform(-1, 1) * math.pi / TEETH)
    x, y = column_numbers() - centre[0], row_numbers() - centre[1]
    radius, theta = np.hypot(x, y), np.arctan2(y, x) - angle

    teeth = ROOT + (TIP - ROOT) * (0.5 + 0.5 * np.tanh(3 * np.sin(TEETH * theta)) / math.tanh(3))
    rim = radius - teeth
    rim /= np.hypot(*np.gradient(rim))  # a flank is steep: to first order, this makes a distance of it
    keyway = np.maximum(np.abs(radius * np.cos(theta)) - 10, np.abs(radius * np.sin(theta) + BORE) - 11)
    folded = (theta + math.pi / HOLES) % (2 * math.pi / HOLES) - math.pi / HOLES
    hole = np.hypot(radius * np.cos(folded) - 106, radius * np.sin(folded)) - 22
    outline = np.maximum(rim, -np.minimum(np.minimum(radius - BORE, keyway), hole))

    web = soft_step(radius - 70, 3) * soft_step(143 - radius, 3)  # between hub and rim the disc is thinner
    turned = np.interp(radius, np.arange(SIZE), smooth_noise(wear, (1, SIZE), 0.7)[0])  # grooves left by the lathe
    relief = -5 * web - 2 * np.exp(-(((radius - 159) / 1.8) ** 2)) + 0.04 * turned

    tarnish = smooth_noise(wear, (SIZE, SIZE), 40) * 4 + smooth_noise(wear, (SIZE, SIZE), 1.2) * 1.5
    tint = np.array(BRASS, np.float32) + wear.normal(0, 3, 3).astype(np.float32)
    colour = tint + tarnish[..., None]
    return Surface(x, y, angle, outline.astype(np.float32), relief.astype(np.float32), colour.astype(np.float32))


def _belt(wear: np.random.Generator) -> Field:
    """Draw a woven rubber belt, float32 [H, W, 3], at another place in each picture."""
    shift = wear.uniform(0, 12, 2)
    weave = np.sin((column_numbers() + shift[0]) * (math.pi / 6)) * np.sin((row_numbers() + shift[1]) * (math.pi / 6))
    dust = smooth_noise(wear, (SIZE, SIZE), 1.0) * 3 + smooth_noise(wear, (SIZE, SIZE), 30) * 3
    return np.asarray(np.array(BELT) + (7 * weave + dust)[..., None], np.float32)


# The defects.


def _scratch(surface: Surface, harm: np.random.Generator) -> None:
    """Draw a bright, slightly bent groove in the metal, 4 to 6 pixels wide and 60 to 130 long."""
    start = _place_on(surface.outline < -8, harm)
    along = np.linspace(0, harm.uniform(60, 130), 24)
    heading = np.arctan2(SIZE / 2 - start[1], SIZE / 2 - start[0]) + harm.uniform(-1.2, 1.2)  # not off the part
    bend = heading + harm.uniform(-0.008, 0.008) * along
    line = start + np.cumsum(np.stack([np.cos(bend), np.sin(bend)], 1) * along[1], axis=0)
    canvas = np.zeros((SIZE, SIZE), np.uint8)
    cv2.polylines(canvas, [np.round(line * 16).astype(np.int32)], False, 255, int(harm.integers(3, 6)), cv2.LINE_AA, 4)
    groove = cv2.GaussianBlur(canvas, (0, 0), 0.7).astype(np.float32) / 255
    surface.relief -= 3 * groove
    surface.colour += harm.uniform(60, 95) * groove[..., None]


def _spot(surface: Surface, harm: np.random.Generator) -> None:
    """Draw one to three blowholes or stains, of irregular shape and 6 to 14 pixels radius."""
    stain = np.array((38, 60, 92) if harm.random() < 0.5 else (40, 44, 46), np.float32)
    for _ in range(harm.integers(1, 4)):
        column, row = _place_on(surface.outline < -12, harm)
        blob = np.hypot(column_numbers() - column, row_numbers() - row) + 3 * smooth_noise(harm, (SIZE, SIZE), 4)
        cover = soft_step(harm.uniform(6, 14) - blob, 2.0)
        surface.relief -= 3 * cover
        surface.colour += (stain - surface.colour) * (harm.uniform(0.6, 0.9) * cover)[..., None]


def _missing(surface: Surface, harm: np.random.Generator) -> None:
    """Remove a tooth, or a piece of the rim, with a rough edge."""
    rough = 1.5 * smooth_noise(harm, (SIZE, SIZE), 3)
    centre = (harm.integers(TEETH) + 0.25) * (2 * math.pi / TEETH) + surface.angle  # the middle of a tooth
    outward = surface.x * math.cos(centre) + surface.y * math.sin(centre)
    sideways = surface.y * math.cos(centre) - surface.x * math.sin(centre)
    if harm.random() < 0.5:
        gone = np.maximum(ROOT + harm.uniform(-4, 6) - outward, np.abs(sideways) - 48)
    else:
        gone = np.hypot(outward - TIP + 4, sideways - harm.uniform(-12, 12)) - harm.uniform(34, 48)
    surface.outline = np.maximum(surface.outline, -(gone + rough)).astype(np.float32)


DEFECTS: dict[str, Defect] = {"missing": _missing, "scratch": _scratch, "spot": _spot}
"""The kinds of defect by the name of their folder."""


def _place_on(metal: Mask, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Draw a random (column, row) on the metal."""
    rows, columns = np.nonzero(metal)
    chosen = rng.integers(len(rows))
    return np.array([columns[chosen], rows[chosen]], np.float64)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m examples.gears.parts", description="Draw the demo's pictures.")
    parser.add_argument("folder", type=Path, metavar="DIR", help="where the data set goes")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same pictures")
    parser.add_argument("--train", type=int, default=Counts.train, metavar="N", help="good pictures to train on")
    parser.add_argument(
        "--test", type=int, default=Counts.test, metavar="N", help="good ones to test on; of each defect half as many"
    )
    arguments = parser.parse_args(argv)
    return run("demo_parts", lambda: _draw(arguments))


def _draw(arguments: argparse.Namespace) -> int:
    write_parts(arguments.folder, arguments.seed, Counts(arguments.train, arguments.test))
    print(f"{arguments.folder}: {arguments.train} good parts to train on, and good and defective ones in test/")
    return 0


if __name__ == "__main__":
    sys.exit(main())
