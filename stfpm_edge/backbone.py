"""torchvision's ResNets, cut behind the last block that is compared.

The paper's conv2_x to conv5_x are torchvision's layer1 to layer4; parameters keep torchvision's names.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torchvision
from torch import Tensor, nn

from stfpm_runtime.errors import OptionError

BACKBONES = ("resnet18", "resnet34", "resnet50", "wide_resnet50_2")
BLOCKS = (2, 3, 4, 5)


class Pyramid(nn.Module):
    """A ResNet that returns the features of the chosen blocks.

    Block b has a stride of 2^b: of an image [N, 3, H, W] its features are [N, C_b, H / 2^b, W / 2^b], rounded up.
    """

    def __init__(self, backbone: str, blocks: Sequence[int]) -> None:
        """Draw random weights from torch's generator. Raise OptionError for an unknown backbone or block."""
        super().__init__()
        check_architecture(backbone, blocks)
        self.backbone = backbone
        self.blocks = tuple(blocks)
        resnet = getattr(torchvision.models, backbone)(weights=None)
        self.conv1 = resnet.conv1
        self.bn1 = resnet.bn1
        self.relu = resnet.relu
        self.maxpool = resnet.maxpool
        for block in range(2, max(blocks) + 1):
            self.add_module(_layer(block), getattr(resnet, _layer(block)))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return features of the chosen blocks, lowest first, of normalised images float32 [N, 3, H, W], RGB."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        features = []
        for block in range(2, max(self.blocks) + 1):
            x = self.layer(block)(x)
            if block in self.blocks:
                features.append(x)
        return features

    def layer(self, block: int) -> nn.Sequential:
        """Return the paper's conv{block}_x: a sequence of residual units."""
        return self.get_submodule(_layer(block))  # type: ignore[return-value]

    def width(self, block: int) -> int:
        """Return the number of channels of the features of conv{block}_x."""
        unit = self.layer(block)[-1]
        last = unit.get_submodule("bn3" if hasattr(unit, "bn3") else "bn2")
        assert isinstance(last, nn.BatchNorm2d), "every residual unit ends with one"
        return last.num_features


def check_architecture(backbone: str, blocks: Sequence[int]) -> None:
    """Raise OptionError unless the backbone is one of ours and the blocks are a rising choice of 2 to 5."""
    if backbone not in BACKBONES:
        raise OptionError(f"got backbone {backbone!r}; expected one of {', '.join(BACKBONES)}")
    if not blocks or list(blocks) != sorted(set(blocks)) or not set(blocks) <= set(BLOCKS):
        raise OptionError(f"got blocks {list(blocks)}; expected one or more of 2, 3, 4, 5, each once, say 2,3,4")


def new_student(backbone: str, blocks: Sequence[int], seed: int) -> Pyramid:
    """Return a student with torchvision's random initialisation, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Pyramid(backbone, blocks)


def _layer(block: int) -> str:
    return f"layer{block - 1}"
