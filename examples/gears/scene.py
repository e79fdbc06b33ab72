"""Light, camera and shapes of the demo's pictures: a surface goes in, what a camera sees of it comes out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from stfpm_runtime.imaging.preprocessing import Image

SIZE = 480
"""Height and width of a picture, in pixels. Lengths below are in such pixels too."""

VISIBLE = 4.0
"""A pixel that a defect changes by more grey levels than this (noise aside, of 255) belongs to its mask."""

Field = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


@dataclass
class Surface:
    """A part before it is lit; defects change it in place. All fields are float32 of the picture's size."""

    x: Field
    y: Field
    """Columns and rows from the part's centre."""
    angle: float
    """The angle by which the part is turned, in radians."""
    outline: Field
    """Signed distance to the part's edge, negative inside the metal."""
    relief: Field
    """Height that comes on top of the turned face, in pixels; below 0 is engraved."""
    colour: Field
    """[H, W, 3], BGR, 0 to 255: what the metal would look like in even light."""


@dataclass(frozen=True)
class Light:
    """The lamp of one picture: its direction (a unit vector), and how bright the picture's corners are."""

    direction: tuple[float, float, float]
    brightness: Field
    """The brightness, [H, W], about 1."""


def draw_lamp(rng: np.random.Generator) -> Light:
    """Draw a lamp to the upper left, a little elsewhere and of another brightness each time."""
    azimuth = math.radians(rng.uniform(221, 229))  # from the upper left
    elevation = math.radians(52)
    level = math.cos(elevation)
    direction = (level * math.cos(azimuth), level * math.sin(azimuth), math.sin(elevation))
    slope = rng.uniform(-0.06, 0.06, 2) * 2 / SIZE  # up to 6 % from the middle to an edge
    ramp = 1 + slope[0] * (column_numbers() - SIZE / 2) + slope[1] * (row_numbers() - SIZE / 2)
    return Light(direction, (rng.uniform(0.95, 1.05) * ramp).astype(np.float32))


def shade(surface: Surface, belt: Field, light: Light) -> Field:
    """Render the scene in that light, float32 [H, W, 3], not yet clipped to 0..255."""
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
    solid = soft_step(-surface.outline)
    shadow = cv2.GaussianBlur(np.roll(solid, (9, 7), (0, 1)), (0, 0), 5)
    ground = belt * (1 - 0.65 * shadow)[..., None]
    scene = ground + solid[..., None] * (metal - ground)
    return np.asarray(scene * light.brightness[..., None], np.float32)


def visible(good: Field, bad: Field) -> Mask:
    """Return where two pictures differ visibly, small gaps closed; bool [H, W]."""
    differs = (np.abs(bad - good).max(axis=2) > VISIBLE).astype(np.uint8)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7))
    return cv2.morphologyEx(differs, cv2.MORPH_CLOSE, disc).astype(np.bool_)


def expose(scene: Field, grain: Field) -> Image:
    """Add the camera's noise and round to 8 bits: photon noise that grows with the light, a little read-out noise."""
    noisy = scene + grain * np.sqrt(1.0 + 0.03 * np.maximum(scene, 0))
    return np.asarray(np.clip(np.rint(noisy), 0, 255), np.uint8)


# Shapes.


def column_numbers() -> Field:
    """Return the columns' indices, float32 [1, SIZE]."""
    return np.arange(SIZE, dtype=np.float32)[None, :]


def row_numbers() -> Field:
    """Return the rows' indices, float32 [SIZE, 1]."""
    return np.arange(SIZE, dtype=np.float32)[:, None]


def soft_step(distance: Field, width: float = 1.0) -> Field:
    """Compute 0 outside to 1 inside, over `width` pixels about distance 0."""
    return np.asarray(np.clip(0.5 + distance / width, 0, 1), np.float32)


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], sigma: float) -> Field:
    """Draw Gaussian noise, blurred by `sigma` pixels, of zero mean and unit variance."""
    factor = max(int(sigma / 4), 1)  # a wide blur is drawn small and enlarged
    coarse = rng.standard_normal([-(-side // factor) for side in shape], dtype=np.float32)
    noise = cv2.GaussianBlur(coarse, (0, 0), sigma / factor)
    if factor > 1:
        noise = cv2.resize(noise, shape[::-1], interpolation=cv2.INTER_CUBIC)
    return np.asarray((noise - noise.mean()) / noise.std(), np.float32)
