"""Small drawn pictures of a striped part, good and with a stain, on which a student learns within seconds."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

SIDE = 64


def draw_striped(rng: np.random.Generator, stained: bool = False) -> np.ndarray:
    """A grey striped part with sensor noise, uint8 [SIDE, SIDE, 3]; a stain is a brown disc of 5 to 7 pixels radius."""
    columns = np.arange(SIDE) + rng.uniform(0, 8)
    part = np.repeat(140 + 30 * np.sin(columns * 2 * np.pi / 8)[None, :, None], SIDE, axis=0).repeat(3, axis=2)
    if stained:
        centre = rng.integers(12, SIDE - 12, 2).tolist()
        part = cv2.circle(part, centre, int(rng.integers(5, 8)), (70, 95, 120), -1)
    return np.clip(part + rng.normal(0, 4, part.shape), 0, 255).astype(np.uint8)


def write_good(folder: Path, count: int, seed: int = 0) -> list[Path]:
    """Write good parts as PNG files and return their paths."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:03d}.png" for number in range(count)]
    for path in paths:
        cv2.imwrite(str(path), draw_striped(rng))
    return paths
