"""Options of a training, checked before it begins."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from stfpm_runtime.artifact.conformal import check_false_alarm_rate
from stfpm_runtime.errors import OptionError, first_line
from stfpm_runtime.imaging.preprocessing import check_bits

from .networks import check_architecture
from .pictures.data import MIN_TRAIN, check_fractions
from .recipes import PLUS, Recipe

SMALLEST_DEFECT = 0.01
"""The size of defects that an input size is chosen for, where none is given: a share of the long side."""


@dataclass(frozen=True)
class TrainOptions:
    """Options of a training."""

    data: Path
    output: Path
    teacher: str = "imagenet"
    """`imagenet`, `procedural`, or the path of a .safetensors or .pth file in torchvision's names."""
    backbone: str = "resnet18"
    blocks: tuple[int, ...] = (2, 3, 4)
    block_weights: tuple[float, ...] | None = None
    """The loss's alpha_l, one a block; None is 1 for each."""
    height: int = 256
    width: int = 256
    smallest_defect: float | None = None
    """Choose height and width so that defects of this size are found, a share of the pictures' long side, 0 to 0.5.

    None: they are as given.
    """
    budget_ms: float | None = None
    """Choose among inputs whose detector takes at most so long in PyTorch on this machine, in milliseconds."""
    recipe: Recipe = PLUS
    seed: int = 0
    """The seed of all random numbers."""
    val_fraction: float = 0.2
    """The share of the images that is held out, between 0 and 1."""
    train_fraction: float = 1.0
    """The share of the other images that is trained on, above 0 and at most 1."""
    folds: int | None = None
    """Cross-conformal calibration with so many further students, for few images; 0 holds images out instead.

    None is `FEW_FOLDS` for fewer than `FEW_IMAGES` images, where the recipe keeps the last epoch, else 0.
    """
    false_alarm_rate: float = 0.01
    """The share of good parts that may be rejected, between 0 and 1."""
    min_area: int = 1
    """A part is rejected only for a connected region of so many pixels of the map above the threshold."""
    device: str = "auto"
    mixed_precision: bool = False
    """The student's passes in bfloat16, on a device that computes in it; elsewhere it is refused."""
    init_from: Path | None = None
    """A checkpoint of the same teacher and network, whose student is trained on; None begins with random weights."""
    manifest: Path | None = None
    """The manifest of the data set, which is checked before the training; see `stfpm_runtime.dataset`."""
    by: str = ""
    """The name of who trains, for the provenance."""
    channels_last: bool = True
    """Memory order of the network's tensors: faster, and the same figures but for rounding."""
    resume: bool = False
    bits: int | None = None
    """Bits that the values of 16-bit pictures use, 9 to 16, as the camera has them; None: not declared."""
    skip_unreadable: bool = False
    accept_data: bool = False
    """Train also where the pictures look doubtful, see `data_report`."""
    name: str = ""
    """The product's name; empty is the data folder's."""

    def __post_init__(self) -> None:
        for name in ("height", "width"):
            if getattr(self, name) < 32:
                raise OptionError(f"got a {name} of {getattr(self, name)} pixels; expected 32 or more, say 256")
        if self.smallest_defect is not None and not 0 < self.smallest_defect <= 0.5:
            raise OptionError(
                f"got a smallest defect of {self.smallest_defect:g} of the long side; expected above 0 and up to 0.5"
            )
        if self.budget_ms is not None and not (math.isfinite(self.budget_ms) and self.budget_ms > 0):
            raise OptionError(f"got a budget of {self.budget_ms:g} ms; expected a number above 0, say 50")
        if self.budget_ms is not None and self.smallest_defect is None:
            raise OptionError(f"got a budget of {self.budget_ms:g} ms for a fixed input size; expected --size auto")
        if self.folds is not None and (self.folds < 0 or self.folds == 1):
            raise OptionError(f"got {self.folds} folds; expected 0, or 2 or more")
        if self.folds and self.recipe.selects_epoch:
            raise OptionError(f"got {self.folds} folds with the recipe {self.recipe.name}; expected the recipe plus")
        if self.min_area < 1:
            raise OptionError(f"got a smallest area of {self.min_area}; expected 1 pixel of the map or more")
        if self.min_area > self.height * self.width // 4:
            raise OptionError(
                f"got a smallest area of {self.min_area} pixels for a map of {self.width}x{self.height}; expected at "
                "most a quarter of its pixels: no defect would be so large"
            )
        check_bits(self.bits)
        check_seed(self.seed)
        check_fractions(self.val_fraction, self.train_fraction)
        check_false_alarm_rate(self.false_alarm_rate)
        check_architecture(self.backbone, self.blocks)
        if not all(math.isfinite(weight) and weight > 0 for weight in self.weights):
            raise OptionError(f"got block weights {list(self.weights)}; expected numbers above 0, one a block")
        if len(self.weights) != len(self.blocks):
            raise OptionError(
                f"got {len(self.weights)} block weights for {len(self.blocks)} blocks; expected one a block"
            )
        if self.manifest is not None and self.manifest.parent.resolve() != self.data.resolve():
            raise OptionError(f"{self.manifest}: is not the manifest of {self.data}; expected the one in that folder")
        if self.output.suffix != ".safetensors":
            raise OptionError(f"{self.output}: expected a file ending in .safetensors")

    @property
    def weights(self) -> tuple[float, ...]:
        """Return the loss's alpha_l, one a block."""
        return self.block_weights or (1.0,) * len(self.blocks)

    def folds_for(self, images: int) -> int:
        """Return the number of folds for so many good images; 0 holds images out instead."""
        if self.folds is not None:
            return min(self.folds, images // MIN_TRAIN)
        return 0 if images >= FEW_IMAGES or self.recipe.selects_epoch else min(FEW_FOLDS, images // MIN_TRAIN)


FEW_IMAGES = 50
"""With fewer good images than this each of them trains, and the threshold is set by folds."""
FEW_FOLDS = 4


def check_seed(seed: int) -> None:
    """Raise OptionError for a seed that the random generators do not take."""
    if not 0 <= seed < 1 << 31:
        raise OptionError(f"got seed {seed}; expected 0 to {(1 << 31) - 1}")


def pick_device(name: str) -> torch.device:
    """Return the device; `auto` is a GPU where there is one. Raise OptionError for a device that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise OptionError(f"device {name}: cannot be used ({first_line(error)}); expected auto, cpu or cuda") from None
    return device


def check_mixed_precision(options: TrainOptions, device: torch.device) -> None:
    """Raise OptionError where mixed precision is asked for and the device has no use for it."""
    if options.mixed_precision and not has_bfloat16(device):
        raise OptionError(
            f"got --mixed-precision on {device}; expected a GPU or CPU that computes in bfloat16, leave the option out"
        )


def has_bfloat16(device: torch.device) -> bool:
    """Return whether a device computes in bfloat16; for a CPU only torch 2.10 and newer can tell."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    capabilities: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def parse_size(text: str) -> tuple[int, int]:
    """Parse `256` or `320x240` as (width, height). Raise OptionError for anything else."""
    try:
        sides = [int(side) for side in text.lower().split("x")]
        width, height = sides * 2 if len(sides) == 1 else sides
    except ValueError:
        raise OptionError(f"got --size {text}; expected one side in pixels, say 256, or WIDTHxHEIGHT") from None
    return width, height
