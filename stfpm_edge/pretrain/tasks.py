"""The tasks of pre-training: to answer at every position of drawn scenes, or to name a picture's class."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stfpm_edge.networks import Pyramid

from .labelled import Labelled
from .scenes import CONTOURS, TEXTURES, SceneFormulas, Scenes

ANSWERS = (TEXTURES, 1 + CONTOURS, 3)
"""Answers at each position: the texture, the contour (0: the ground), and the mean colour."""
GROUND_WEIGHT = 0.3
"""Weight of the ground in the loss over contours: most of a picture is ground."""
COLOUR_WEIGHT = 0.5
"""Weight of the colour's squared error in the sum with the two cross-entropies."""


class Pretext(Protocol):
    """A source of pictures with the network and the loss that fit it."""

    def model(self, pyramid: Pyramid) -> PretrainModel:
        """Return the pyramid with a head of random weights from torch's generator."""

    def losses(self, model: nn.Module, count: int, generator: torch.Generator) -> list[Tensor]:
        """Compute the losses of one batch of new pictures; their sum is minimised, the last is shown."""

    def evaluate(self, model: nn.Module) -> dict[str, str]:
        """Measure the trained model on pictures it was not trained on, for the file's metadata."""


class PretrainModel(nn.Module):
    """A pyramid, and the layers that the loss of its pre-training needs."""

    pyramid: Pyramid


class DenseClassifier(PretrainModel):
    """A pyramid with a head on each block."""

    def __init__(self, pyramid: Pyramid) -> None:
        super().__init__()
        self.pyramid = pyramid
        with torch.no_grad():
            widths = [features.shape[1] for features in pyramid(torch.zeros(2, 3, 64, 64))]
        self.heads = nn.ModuleList(nn.Conv2d(width, sum(ANSWERS), 1) for width in widths)

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Return the answers of each block, [N, sum(ANSWERS), h, w], for float32 [N, 3, side, side]."""
        return [head(features) for head, features in zip(self.heads, self.pyramid(pictures), strict=True)]


class Classifier(PretrainModel):
    """A pyramid whose last block is pooled and classified by one linear layer."""

    def __init__(self, pyramid: Pyramid, classes: int) -> None:
        super().__init__()
        self.pyramid = pyramid
        self.head = nn.Linear(pyramid.width(max(pyramid.blocks)), classes)

    def forward(self, pictures: Tensor) -> Tensor:
        """Return logits [N, classes] for float32 [N, 3, side, side]."""
        logits: Tensor = self.head(self.pyramid(pictures)[-1].mean((2, 3)))
        return logits


class ScenePretext:
    """Drawn scenes, dense answers."""

    def __init__(self, formulas: SceneFormulas) -> None:
        self.formulas = formulas

    def model(self, pyramid: Pyramid) -> PretrainModel:  # noqa: D102
        return DenseClassifier(pyramid)

    def losses(self, model: nn.Module, count: int, generator: torch.Generator) -> list[Tensor]:  # noqa: D102
        scenes = self.formulas.draw(count, generator)
        with torch.autocast(generator.device.type, torch.bfloat16):
            answers = model(scenes.pictures.contiguous(memory_format=torch.channels_last))
        return [dense_loss(answer.float(), scenes) for answer in answers]

    def evaluate(self, model: nn.Module) -> dict[str, str]:  # noqa: D102
        return {}  # every picture is new: the loss that was reported last is that of unseen ones


class LabelPretext:
    """Labelled pictures, one class each."""

    def __init__(self, labelled: Labelled, side: int) -> None:
        self.labelled = labelled
        self.side = side

    def model(self, pyramid: Pyramid) -> PretrainModel:  # noqa: D102
        return Classifier(pyramid, self.labelled.classes)

    def losses(self, model: nn.Module, count: int, generator: torch.Generator) -> list[Tensor]:  # noqa: D102
        pictures, labels = self.labelled.draw(count, self.side, generator)
        with torch.autocast(generator.device.type, torch.bfloat16):
            logits = model(pictures.contiguous(memory_format=torch.channels_last))
        return [F.cross_entropy(logits.float(), labels)]

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, str]:  # noqa: D102
        device = next(model.parameters()).device
        model.eval()
        right = asked = 0
        for pictures, labels in self.labelled.held_out_batches(64, self.side, device):
            right += int((model(pictures).argmax(dim=1) == labels).sum())
            asked += len(labels)
        classes = {"classes": str(self.labelled.classes)}
        return classes | ({"accuracy": f"{right / asked:.4f}", "held_out": str(asked)} if asked else {})


def dense_loss(answers: Tensor, scenes: Scenes) -> Tensor:
    """Sum the cross-entropies of texture and contour and the colour's squared error, as means over positions.

    `answers` is float32 [N, sum(ANSWERS), h, w]; a position's truth is that of the pixel in its middle.
    """
    texture, contour, colour = torch.split(answers, list(ANSWERS), dim=1)
    stride = scenes.pictures.shape[-1] // answers.shape[-1]
    middle = slice(stride // 2, None, stride)
    weight = torch.ones(1 + CONTOURS, device=answers.device)
    weight[0] = GROUND_WEIGHT
    wrong_texture = F.cross_entropy(texture, scenes.textures[:, middle, middle])
    wrong_contour = F.cross_entropy(contour, scenes.contours[:, middle, middle], weight)
    wrong_colour = F.mse_loss(colour, F.avg_pool2d(scenes.pictures, stride))
    return wrong_texture + wrong_contour + COLOUR_WEIGHT * wrong_colour
