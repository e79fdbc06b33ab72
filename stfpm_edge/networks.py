"""The networks: teacher and student, by the names of `--backbone`.

They are torchvision's ResNets or smaller ones, cut behind the last block that is compared. The paper's conv2_x to
conv5_x are torchvision's layer1 to layer4; parameters keep torchvision's names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from stfpm_runtime.errors import OptionError

RESNETS = ("resnet18", "resnet34", "resnet50", "wide_resnet50_2")
"""torchvision's networks, for which there are ImageNet weights."""
HALF = "resnet18_half"
"""ResNet-18 with half its channels."""
TEACHERS = (*RESNETS, HALF)
BLOCKS = (2, 3, 4, 5)


class SmallStudent(NamedTuple):
    """A student that is smaller than its teacher."""

    teacher: str
    """The teacher's architecture, one of TEACHERS."""
    is_shared: bool = False
    """The student's input is the teacher's conv2_x; it has no conv1 and no conv2_x of its own."""
    is_narrow: bool = False
    """The student has half of ResNet-18's channels, and projects the features of each block to the teacher's."""


SMALL_STUDENTS = {
    "resnet18_shared": SmallStudent("resnet18", is_shared=True),
    "resnet18_narrow": SmallStudent("resnet18", is_narrow=True),
    "resnet18_shared_narrow": SmallStudent("resnet18", is_shared=True, is_narrow=True),
    "resnet18_half_shared": SmallStudent(HALF, is_shared=True),
}
BACKBONES = (*TEACHERS, *SMALL_STUDENTS)
"""Names of teacher and student together. Where the student is no SmallStudent, both have the same architecture."""


class Pyramid(nn.Module):
    """A ResNet that returns the features of the chosen blocks.

    Block b has a stride of 2^b: of an image [N, 3, H, W] its features are [N, C_b, H / 2^b, W / 2^b], rounded up.
    """

    conv1: nn.Conv2d
    bn1: nn.BatchNorm2d
    relu: nn.ReLU
    maxpool: nn.MaxPool2d

    def __init__(self, backbone: str, blocks: Sequence[int], teacher: Pyramid | None = None) -> None:
        """Draw random weights from torch's generator: a student's where `teacher` is given, else a teacher's.

        Raise OptionError for an unknown backbone or block.
        """
        super().__init__()
        check_architecture(backbone, blocks)
        own = SmallStudent(teacher_of(backbone))
        if teacher is not None:
            own = SMALL_STUDENTS.get(backbone, own)
        self.backbone = own.teacher if teacher is None else backbone
        self.blocks = tuple(blocks)
        # A tuple, so that the teacher is no part of the student's parameters and state.
        self.lower = (teacher,) if teacher is not None and own.is_shared else ()
        shared_width = self.lower[0].width(2) if self.lower else None
        resnet = _new_resnet(HALF if own.is_narrow else own.teacher, shared_width)
        if not self.lower:
            for name in ("conv1", "bn1", "relu", "maxpool"):
                self.add_module(name, resnet.get_submodule(name))
        for block in self.own_blocks():
            self.add_module(_layer(block), resnet.get_submodule(_layer(block)))
        self.projections = nn.ModuleDict()
        if teacher is not None and own.is_narrow:
            for block in blocks:
                self.projections[str(block)] = _projection(self.width(block), teacher.width(block))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return features of the chosen blocks, lowest first, of normalised images float32 [N, 3, H, W], RGB."""
        if self.lower:
            with torch.no_grad():
                x = self.lower[0].layer(2)(self.lower[0].stem(images))
        else:
            x = self.stem(images)
        features = []
        for block in self.own_blocks():
            x = self.layer(block)(x)
            if block in self.blocks:
                features.append(self.projections[str(block)](x) if self.projections else x)
        return features

    def stem(self, images: Tensor) -> Tensor:
        """Compute conv1 to max-pooling of normalised images: [N, C_2, H / 4, W / 4]."""
        x: Tensor = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        return x

    def own_blocks(self) -> range:
        """Return the blocks that this network computes itself: all up to the last chosen one that it does not share."""
        return range(3 if self.lower else 2, max(self.blocks) + 1)

    def layer(self, block: int) -> nn.Sequential:
        """Return the paper's conv{block}_x: a sequence of residual units."""
        return self.get_submodule(_layer(block))  # type: ignore[return-value]

    def width(self, block: int) -> int:
        """Return the number of channels of conv{block}_x, before a projection."""
        unit = self.layer(block)[-1]
        last = unit.get_submodule("bn3" if hasattr(unit, "bn3") else "bn2")
        assert isinstance(last, nn.BatchNorm2d), "every residual unit ends with one"
        return last.num_features


class _HalfResNet18(nn.Module):
    """conv1 to conv5_x with 32, 64, 128 and 256 channels, in torchvision's names."""

    def __init__(self, shared_width: int | None) -> None:
        """Draw weights as torchvision does. With `shared_width`, conv3_x takes that number of channels."""
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = nn.Sequential(BasicBlock(32, 32), BasicBlock(32, 32))
        for number, width in ((2, 64), (3, 128), (4, 256)):
            inputs = shared_width if number == 2 and shared_width else width // 2
            shortcut = nn.Sequential(nn.Conv2d(inputs, width, 1, 2, bias=False), nn.BatchNorm2d(width))
            units = BasicBlock(inputs, width, 2, shortcut), BasicBlock(width, width)
            self.add_module(f"layer{number}", nn.Sequential(*units))
        _draw_weights(self)


def _new_resnet(architecture: str, shared_width: int | None) -> nn.Module:
    if architecture == HALF:
        return _HalfResNet18(shared_width)
    resnet: nn.Module = getattr(torchvision.models, architecture)(weights=None)
    return resnet


def _projection(inputs: int, outputs: int) -> nn.Module:
    """Return a 1x1 convolution with batch norm and ReLU: the teacher's features are behind a ReLU too."""
    projection = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())
    _draw_weights(projection)
    return projection


def _draw_weights(module: nn.Module) -> None:
    for conv in module.modules():
        if isinstance(conv, nn.Conv2d):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")


def check_architecture(backbone: str, blocks: Sequence[int]) -> None:
    """Raise OptionError unless the backbone is one of ours and the blocks are a rising choice of those it compares."""
    if backbone not in BACKBONES:
        raise OptionError(f"got backbone {backbone!r}; expected one of {', '.join(BACKBONES)}")
    if not blocks or list(blocks) != sorted(set(blocks)) or not set(blocks) <= set(BLOCKS):
        raise OptionError(f"got blocks {list(blocks)}; expected one or more of 2, 3, 4, 5, each once, say 2,3,4")
    if backbone in SMALL_STUDENTS and SMALL_STUDENTS[backbone].is_shared and 2 in blocks:
        raise OptionError(
            f"got blocks {list(blocks)} for {backbone}, whose student shares block 2 with the teacher; "
            "expected one or more of 3, 4, 5, say --blocks 3,4"
        )


def default_blocks(backbone: str) -> tuple[int, ...]:
    """Return the blocks that are compared where none are chosen."""
    return (3, 4) if backbone in SMALL_STUDENTS and SMALL_STUDENTS[backbone].is_shared else (2, 3, 4)


def teacher_of(backbone: str) -> str:
    """Return the architecture of a backbone's teacher, one of TEACHERS."""
    return SMALL_STUDENTS[backbone].teacher if backbone in SMALL_STUDENTS else backbone


def new_student(backbone: str, blocks: Sequence[int], seed: int, teacher: Pyramid | None = None) -> Pyramid:
    """Return a student with torchvision's random initialisation, the same for the same seed.

    A SmallStudent needs its teacher: it shares the teacher's lower blocks, or has the teacher's number of channels.
    """
    assert teacher is not None or backbone in TEACHERS, f"the student of {backbone} needs its teacher"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Pyramid(backbone, blocks, teacher)


def _layer(block: int) -> str:
    return f"layer{block - 1}"
