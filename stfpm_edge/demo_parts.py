"""The demo's pictures: brass gears on a conveyor belt, drawn from formulas, with defects whose masks are exact.

Nothing is downloaded and nothing photographed, so the demo needs no data set. A part is a signed distance (its outline)
and a relief (its height); a lamp shades both. A defect changes outline, relief or colour *before* the shading, so that
it is lit like the rest, and its mask is where the picture changed visibly: outside the mask a defective part is, pixel
for pixel, its own good twin.

    python -m stfpm_edge.demo_parts demo/gear
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
from stfpm_runtime.preprocessing import Image

SIZE = 480
"""Height and width of a picture, in pixels. Lengths below are in such pixels too."""

TEETH, HOLES = 18, 6
ROOT, TIP, BORE = 174.0, 202.0, 41.0
"""Radii of the gear: the teeth's root and tip, and the hole for its shaft."""

BRASS = (96, 168, 214)
BELT = (74, 70, 52)
"""Colours, BGR."""

VISIBLE = 4.0
"""A pixel that a defect changes by more grey levels than this (noise aside, of 255) belongs to its mask."""

Field = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Defect = Callable[["Surface", np.random.Generator], None]


@dataclass(frozen=True)
class Counts:
    """How many pictures to draw."""

    train: int = 100
    """Good ones to train on."""
    test: int = 20
    """Good ones to test on; of each kind of defect there are half as many."""


@dataclass
class Surface:
    """A part as the lamp finds it; defects change it in place. All fields are float32 of the picture's size."""

    x: Field
    y: Field
    """Columns and rows from the part's centre."""
    angle: float
    """By how much the part is turned, in radians."""
    outline: Field
    """Signed distance to the part's edge, negative inside the metal."""
    relief: Field
    """Height that comes on top of the turned face, in pixels; below 0 is engraved."""
    colour: Field
    """[H, W, 3], BGR, 0 to 255: what the metal would look like in even light."""


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
    """A picture (uint8 [SIZE, SIZE, 3], BGR) and the mask of its defect (bool [SIZE, SIZE]; all false for a good part).

    `defect` is a key of DEFECTS. The seed decides everything: the same one without a defect gives the good twin.
    """
    pose, wear, lamp, noise, harm = np.random.default_rng(seed).spawn(5)
    surface = _gear(pose, wear)
    light = _lamp(lamp)
    belt = _belt(wear)
    good = _shade(surface, belt, light)
    grain = noise.standard_normal(good.shape, dtype=np.float32)
    if defect is None:
        return _expose(good, grain), np.zeros((SIZE, SIZE), np.bool_)
    DEFECTS[defect](surface, harm)
    bad = _shade(surface, belt, light)
    mask = _visible(good, bad)
    return _expose(np.where(mask[..., None], bad, good), grain), mask


@dataclass(frozen=True)
class _Job:
    """One picture to draw."""

    stem: str
    """Where it goes, `test/spot/000` say."""
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
    """A gear somewhere near the middle, turned by up to half a tooth, with its own grain and tarnish."""
    centre = (SIZE - 1) / 2 + pose.uniform(-10, 10, 2).astype(np.float32)
    angle = float(pose.uniform(-1, 1) * math.pi / TEETH)
    x, y = _columns() - centre[0], _rows() - centre[1]
    radius, theta = np.hypot(x, y), np.arctan2(y, x) - angle

    teeth = ROOT + (TIP - ROOT) * (0.5 + 0.5 * np.tanh(3 * np.sin(TEETH * theta)) / math.tanh(3))
    rim = radius - teeth
    rim /= np.hypot(*np.gradient(rim))  # a flank is steep: to first order, this makes a distance of it
    keyway = np.maximum(np.abs(radius * np.cos(theta)) - 10, np.abs(radius * np.sin(theta) + BORE) - 11)
    folded = (theta + math.pi / HOLES) % (2 * math.pi / HOLES) - math.pi / HOLES
    hole = np.hypot(radius * np.cos(folded) - 106, radius * np.sin(folded)) - 22
    outline = np.maximum(rim, -np.minimum(np.minimum(radius - BORE, keyway), hole))

    web = _step(radius - 70, 3) * _step(143 - radius, 3)  # between hub and rim the disc is thinner
    turned = np.interp(radius, np.arange(SIZE), _smooth_noise(wear, (1, SIZE), 0.7)[0])  # grooves left by the lathe
    relief = -5 * web - 2 * np.exp(-(((radius - 159) / 1.8) ** 2)) + 0.04 * turned

    tarnish = _smooth_noise(wear, (SIZE, SIZE), 40) * 4 + _smooth_noise(wear, (SIZE, SIZE), 1.2) * 1.5
    tint = np.array(BRASS, np.float32) + wear.normal(0, 3, 3).astype(np.float32)
    colour = tint + tarnish[..., None]
    return Surface(x, y, angle, outline.astype(np.float32), relief.astype(np.float32), colour.astype(np.float32))


def _belt(wear: np.random.Generator) -> Field:
    """A woven rubber belt, float32 [H, W, 3]; its weave stands still for no two pictures."""
    shift = wear.uniform(0, 12, 2)
    weave = np.sin((_columns() + shift[0]) * (math.pi / 6)) * np.sin((_rows() + shift[1]) * (math.pi / 6))
    dust = _smooth_noise(wear, (SIZE, SIZE), 1.0) * 3 + _smooth_noise(wear, (SIZE, SIZE), 30) * 3
    return np.asarray(np.array(BELT) + (7 * weave + dust)[..., None], np.float32)


# The defects.


def _scratch(surface: Surface, harm: np.random.Generator) -> None:
    """A bright, slightly bent groove in the metal, 4 to 6 pixels wide and 60 to 130 long."""
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
    """One to three blowholes or stains, of irregular shape and 6 to 14 pixels radius."""
    stain = np.array((38, 60, 92) if harm.random() < 0.5 else (40, 44, 46), np.float32)
    for _ in range(harm.integers(1, 4)):
        column, row = _place_on(surface.outline < -12, harm)
        blob = np.hypot(_columns() - column, _rows() - row) + 3 * _smooth_noise(harm, (SIZE, SIZE), 4)
        cover = _step(harm.uniform(6, 14) - blob, 2.0)
        surface.relief -= 3 * cover
        surface.colour += (stain - surface.colour) * (harm.uniform(0.6, 0.9) * cover)[..., None]


def _missing(surface: Surface, harm: np.random.Generator) -> None:
    """A tooth broken off, or a bite out of the rim, with a rough edge."""
    rough = 1.5 * _smooth_noise(harm, (SIZE, SIZE), 3)
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


# Light and camera.


@dataclass(frozen=True)
class Light:
    """The lamp of one picture: where it stands (a unit vector), and how bright the picture's corners are."""

    direction: tuple[float, float, float]
    brightness: Field
    """[H, W], about 1."""


def _lamp(rng: np.random.Generator) -> Light:
    azimuth = math.radians(rng.uniform(221, 229))  # from the upper left
    elevation = math.radians(52)
    level = math.cos(elevation)
    direction = (level * math.cos(azimuth), level * math.sin(azimuth), math.sin(elevation))
    slope = rng.uniform(-0.06, 0.06, 2) * 2 / SIZE  # up to 6 % from the middle to an edge
    ramp = 1 + slope[0] * (_columns() - SIZE / 2) + slope[1] * (_rows() - SIZE / 2)
    return Light(direction, (rng.uniform(0.95, 1.05) * ramp).astype(np.float32))


def _shade(surface: Surface, belt: Field, light: Light) -> Field:
    """The scene in that light, float32 [H, W, 3], not yet clipped to 0..255."""
    inside = np.clip(-surface.outline, 0, 7)
    height = 1.1 * (inside - inside**2 / 14) + surface.relief  # a rounded edge
    slope_y, slope_x = np.gradient(height)
    length = np.sqrt(slope_x**2 + slope_y**2 + 1)
    east, south, up = light.direction
    diffuse = np.maximum((up - slope_x * east - slope_y * south) / length, 0)
    # Turned metal throws light back across its grooves: two bright wedges, whichever way the part lies.
    radius = np.maximum(np.hypot(surface.x, surface.y), 1)
    across = (surface.x * east + surface.y * south) / (radius * math.hypot(east, south))
    sheen = 0.18 * across**6
    metal = surface.colour * (0.30 + 0.62 * diffuse + sheen)[..., None]
    solid = _step(-surface.outline)
    shadow = cv2.GaussianBlur(np.roll(solid, (9, 7), (0, 1)), (0, 0), 5)
    ground = belt * (1 - 0.65 * shadow)[..., None]
    scene = ground + solid[..., None] * (metal - ground)
    return np.asarray(scene * light.brightness[..., None], np.float32)


def _visible(good: Field, bad: Field) -> Mask:
    """Where the two differ visibly, small gaps closed; bool [H, W]."""
    differs = (np.abs(bad - good).max(axis=2) > VISIBLE).astype(np.uint8)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7))
    return cv2.morphologyEx(differs, cv2.MORPH_CLOSE, disc).astype(np.bool_)


def _expose(scene: Field, grain: Field) -> Image:
    """The camera: photon noise that grows with the light, a little read-out noise, 8 bits."""
    noisy = scene + grain * np.sqrt(1.0 + 0.03 * np.maximum(scene, 0))
    return np.asarray(np.clip(np.rint(noisy), 0, 255), np.uint8)


# Shapes.


def _columns() -> Field:
    return np.arange(SIZE, dtype=np.float32)[None, :]


def _rows() -> Field:
    return np.arange(SIZE, dtype=np.float32)[:, None]


def _step(distance: Field, width: float = 1.0) -> Field:
    """0 outside to 1 inside, over `width` pixels about distance 0."""
    return np.asarray(np.clip(0.5 + distance / width, 0, 1), np.float32)


def _smooth_noise(rng: np.random.Generator, shape: tuple[int, int], sigma: float) -> Field:
    """Gaussian noise, blurred by `sigma` pixels, of zero mean and unit variance."""
    factor = max(int(sigma / 4), 1)  # a wide blur is drawn small and enlarged
    coarse = rng.standard_normal([-(-side // factor) for side in shape], dtype=np.float32)
    noise = cv2.GaussianBlur(coarse, (0, 0), sigma / factor)
    if factor > 1:
        noise = cv2.resize(noise, shape[::-1], interpolation=cv2.INTER_CUBIC)
    return np.asarray((noise - noise.mean()) / noise.std(), np.float32)


def _place_on(metal: Mask, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """A random (column, row) on the metal."""
    rows, columns = np.nonzero(metal)
    chosen = rng.integers(len(rows))
    return np.array([columns[chosen], rows[chosen]], np.float64)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m stfpm_edge.demo_parts", description="Draw the demo's pictures.")
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
