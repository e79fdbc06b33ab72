"""Recipes: how a student is trained, and whether its head is the paper's or chosen for the product."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from stfpm_runtime.errors import OptionError

Schedule = Literal["constant", "one-cycle"]


@dataclass(frozen=True)
class Recipe:
    """Everything about a training that is not the product, its pictures or the network."""

    name: str
    epochs: int
    batch_size: int
    lr: float
    """The learning rate of SGD; of the one-cycle schedule, its highest."""
    schedule: Schedule
    """`one-cycle` raises the learning rate for 30% of the steps and lowers it to nearly 0 (Smith and Topin 2019)."""
    least_steps: int = 0
    """With few images the epochs are repeated until the optimizer has made so many steps."""
    momentum: float = 0.9
    weight_decay: float = 1e-4
    hard_weight: float = 0.0
    """The weight, in the loss of a block, of the mean over the positions with the largest distances."""
    hard_share: float = 0.01
    """The share of a block's positions that count as hard, 0 to 1 (after EfficientAD, Batzner et al. 2024)."""
    defect_share: float = 0.0
    """The share of the pictures, 0 to 1, that the student sees with synthetic defects in them.

    It has to give the teacher's features of the picture without them (a denoising student, as in DeSTSeg, Zhang et al.,
    CVPR 2023), so that it does not imitate the teacher on defects as well.
    """
    blur: float = 0.0
    """The blur of the map, see `stfpm_edge.model.Head`."""
    selects_epoch: bool = False
    """Keep the epoch with the lowest validation error, measured on images set aside for that; else the last."""
    selects_head: bool = False
    """Compare the heads of `calibration.head` on synthetic defects and keep the best one; else keep the paper's."""

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 2)):
            if getattr(self, name) < least:
                raise OptionError(f"got {name.replace('_', ' ')} {getattr(self, name)}; expected {least} or more")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise OptionError(f"got a learning rate of {self.lr}; expected one above 0, say 0.4")
        if not 0 <= self.defect_share <= 1:
            raise OptionError(f"got a share of pictures with defects of {self.defect_share}; expected 0 to 1")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0 and 0 <= self.momentum < 1):
            raise OptionError(
                f"got a momentum of {self.momentum} and a weight decay of {self.weight_decay}; "
                "expected a momentum from 0 to below 1, and a weight decay of 0 or more"
            )

    def epochs_for(self, images: int) -> int:
        """Return the number of passes over so many images that give at least `least_steps`."""
        steps = max(images // self.batch_size, 1)
        return max(self.epochs, math.ceil(self.least_steps / steps))

    def rate(self, share: float) -> float:
        """Return the learning rate after a share of all steps, 0 to 1."""
        if self.schedule == "constant":
            return self.lr
        if share < WARM_UP:
            return self.lr * (LOWEST + (1 - LOWEST) * 0.5 * (1 - math.cos(math.pi * share / WARM_UP)))
        return self.lr * 0.5 * (1 + math.cos(math.pi * (share - WARM_UP) / (1 - WARM_UP)))


WARM_UP = 0.3
"""The share of the steps in which the one-cycle schedule raises the learning rate."""
LOWEST = 0.04
"""The one-cycle schedule's first learning rate, as a share of its highest."""

PAPER = Recipe("paper", epochs=100, batch_size=32, lr=0.4, schedule="constant", selects_epoch=True)
"""The protocol of the paper, section 4.1."""
OFFICIAL = Recipe("official", epochs=200, batch_size=32, lr=0.4, schedule="constant", selects_epoch=True)
"""The protocol of the authors' repository: the paper's with 200 epochs."""
PLUS = Recipe(
    "plus", epochs=30, batch_size=8, lr=0.4, schedule="one-cycle", least_steps=600, hard_weight=1.0,
    defect_share=0.5, blur=1 / 128, selects_head=True
)  # fmt: skip
"""Chosen by trials on the products in `benchmarks/results/recipes.json`."""
RECIPES = {recipe.name: recipe for recipe in (PAPER, PLUS, OFFICIAL)}
