"""Finds near-duplicates among pictures by a perceptual hash."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from .preprocessing import Image

HASH_SIDE = 16
"""The perceptual hash has HASH_SIDE^2 - 1 bits."""
ALIKE = 9
"""Pictures whose hashes differ in at most so many of 255 bits are near-duplicates.

The same picture compressed again, 3% brighter or with noise differs in at most 10; two parts of MVTec AD's bottle and
pill, of magnetic tile and of cookies in 10 or more, most of them in 30 or more.
"""
BITS = np.array([number.bit_count() for number in range(1 << 16)], np.uint8)
"""The number of bits that are set in each number of 16 bits."""


def perceptual_hash(image: Image) -> str:
    """Return the perceptual hash of a picture uint8 [H, W, 3], BGR, in hexadecimal (Zauner 2010: DCT, median)."""
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    small = cv2.resize(grey, (4 * HASH_SIDE, 4 * HASH_SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(small)[:HASH_SIDE, :HASH_SIDE].ravel()[1:]
    return np.packbits(low > np.median(low)).tobytes().hex()


def hash_distances(some: Sequence[str], others: Sequence[str]) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """Return the numbers of bits in which hashes differ, [len(some), len(others)]."""
    one, other = (np.frombuffer(bytes.fromhex("".join(texts)), np.uint16).reshape(len(texts), -1)
                  for texts in (some, others))  # fmt: skip
    distances = np.empty((len(one), len(other)), np.int64)
    for row, words in zip(distances, one, strict=True):
        BITS[words ^ other].sum(axis=1, dtype=np.int64, out=row)
    return distances
