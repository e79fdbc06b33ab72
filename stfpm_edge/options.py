"""Options of a training, checked before it begins."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from stfpm_runtime.artifact.conformal import check_false_alarm_rate
from stfpm_runtime.errors import OptionError
from stfpm_runtime.imaging.preprocessing import check_bits

from .data import check_fractions
from .model import check_architecture


@dataclass(frozen=True)
class TrainOptions:
    """Options of a training; the defaults are the paper's protocol, 256x256."""

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
    epochs: int = 100
    batch_size: int = 32
    lr: float = 0.4
    momentum: float = 0.9
    weight_decay: float = 1e-4
    seed: int = 0
    val_fraction: float = 0.2
    train_fraction: float = 1.0
    false_alarm_rate: float = 0.01
    device: str = "auto"
    mixed_precision: bool = False
    """The student's passes in bfloat16, on a device that computes in it; elsewhere it is refused."""
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
        for name, least in (("epochs", 1), ("batch_size", 2)):
            if getattr(self, name) < least:
                raise OptionError(f"got {name.replace('_', ' ')} {getattr(self, name)}; expected {least} or more")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise OptionError(f"got a learning rate of {self.lr}; expected one above 0, say 0.4")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0 and 0 <= self.momentum < 1):
            raise OptionError(
                f"got a momentum of {self.momentum} and a weight decay of {self.weight_decay}; "
                "expected a momentum from 0 to below 1, and a weight decay of 0 or more"
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
        if self.output.suffix != ".safetensors":
            raise OptionError(f"{self.output}: expected a file ending in .safetensors")

    @property
    def weights(self) -> tuple[float, ...]:
        """Return the loss's alpha_l, one a block."""
        return self.block_weights or (1.0,) * len(self.blocks)


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
        reason = str(error).partition("\n")[0]
        raise OptionError(f"device {name}: cannot be used ({reason}); expected auto, cpu or cuda") from None
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
