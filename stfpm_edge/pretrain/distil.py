"""Distilling a teacher: a network with fewer channels learns a larger one's features, on pictures without labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from stfpm_edge.model import distance, normalise_images, unit
from stfpm_edge.networks import HALF, Pyramid
from stfpm_edge.pictures.data import find_good_images
from stfpm_runtime.imaging.preprocessing import preprocess

from .labelled import read_picture
from .tasks import PretrainModel

SOURCES = {HALF: "resnet18"}
"""The architecture that each network with fewer channels learns from."""
POSITIONS = 512
"""Positions of a batch whose features are compared with each other, in each block."""
PART_SIDE = 256
"""Height and width that pictures of parts are resized to before a crop: the training's default."""

Draw = Callable[[int, torch.Generator], Tensor]
"""Draws that many pictures, float32 [N, 3, side, side], normalised for ImageNet."""


class ProjectedPyramid(PretrainModel):
    """A pyramid with a linear map of each block's features to the source's number of channels, for its loss alone."""

    def __init__(self, pyramid: Pyramid, widths: Sequence[int]) -> None:
        super().__init__()
        self.pyramid = pyramid
        own = [pyramid.width(block) for block in pyramid.blocks]
        self.maps = nn.ModuleList(nn.Conv2d(*each, 1) for each in zip(own, widths, strict=True))

    def forward(self, pictures: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return each block's features, as they are and mapped: [N, C_b, h, w] and [N, source's C_b, h, w]."""
        features = self.pyramid(pictures)
        return [(own, linear(own)) for own, linear in zip(features, self.maps, strict=True)]


class DistilPretext:
    """Pictures from anywhere, and the features that the source has of them."""

    def __init__(self, source: Pyramid, draw: Draw) -> None:
        self.source = source
        self.draw = draw

    def model(self, pyramid: Pyramid) -> PretrainModel:  # noqa: D102
        return ProjectedPyramid(pyramid, [self.source.width(block) for block in self.source.blocks])

    def losses(self, model: nn.Module, count: int, generator: torch.Generator) -> list[Tensor]:  # noqa: D102
        pictures = self.draw(count, generator).contiguous(memory_format=torch.channels_last)
        with torch.autocast(generator.device.type, torch.bfloat16):
            with torch.no_grad():
                wanted = self.source(pictures)
            found = model(pictures)
        return [
            feature_loss(source.float(), own.float(), mapped.float(), generator)
            for source, (own, mapped) in zip(wanted, found, strict=True)
        ]

    def evaluate(self, model: nn.Module) -> dict[str, str]:  # noqa: D102
        return {}  # the loss that was reported last is that of unseen crops


def feature_loss(source: Tensor, own: Tensor, mapped: Tensor, generator: torch.Generator) -> Tensor:
    """Compute how far a block is from its source: about 2 for features that say nothing, 0 for equal ones.

    The first half is the distance of equation 1 between the mapped features and the source's [N, C, h, w], over that
    of the source's features at two random positions. The second half compares the products of unit features at
    POSITIONS random positions, own with the source's ("similarity-preserving distillation", Tung and Mori, ICCV 2019),
    over their variance: an anomaly map is made of such products, of the pyramid's own features.
    """
    source, own, mapped = unit(source), unit(own), unit(mapped)
    flat = [features.permute(1, 0, 2, 3).flatten(1) for features in (source, own)]  # [C, N h w]
    chosen = torch.randint(flat[0].shape[1], (POSITIONS,), generator=generator, device=source.device)
    wanted, found = (features[:, chosen].T @ features[:, chosen] for features in flat)
    apart = distance(source, mapped).mean() / (1 - wanted).mean().clamp(min=1e-6)
    return apart + (found - wanted).square().mean() / wanted.var().clamp(min=1e-6)


class PartPictures:
    """Pictures of good parts, of one product or several."""

    def __init__(self, folders: Sequence[Path]) -> None:
        """Read the good pictures of each folder. Raise DataError for one without any, or an unreadable picture."""
        paths = [path for folder in folders for path in find_good_images(folder)]
        pictures = [preprocess(read_picture(path), PART_SIDE, PART_SIDE) for path in paths]
        self._pictures = torch.from_numpy(np.stack(pictures))

    def draw(self, count: int, side: int, generator: torch.Generator) -> Tensor:
        """Draw random crops, mirrored by chance: float32 [count, 3, side, side], on the generator's device."""
        device = generator.device
        chosen = torch.randint(len(self._pictures), (count,), generator=generator, device=device).tolist()
        corners = torch.randint(PART_SIDE - side + 1, (count, 2), generator=generator, device=device).tolist()
        mirrors = torch.randint(2, (count, 2), generator=generator, device=device).tolist()
        crops = []
        for number, (top, left), mirror in zip(chosen, corners, mirrors, strict=True):
            crop = self._pictures[number, top : top + side, left : left + side]
            crops.append(crop.flip([axis for axis in (0, 1) if mirror[axis]]))
        return normalise_images(torch.stack(crops).to(device))


def mixed(first: Draw, second: Draw) -> Draw:
    """Return a source of pictures whose batches are half from the one and half from the other."""

    def draw(count: int, generator: torch.Generator) -> Tensor:
        return torch.cat([first(count - count // 2, generator), second(count // 2, generator)])

    return draw
