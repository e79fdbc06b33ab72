"""Pictures that formulas draw, for pre-training a teacher without a photograph: textured bodies on a textured ground.

The idea is formula-driven supervised learning (Kataoka et al., "Pre-training without Natural Images", ACCV 2020) with
radial contours as classes ("Replacing Labeled Real-image Datasets with Auto-generated Contours", CVPR 2022) and labels
for every pixel ("SegRCDB", ICCV 2023). A body's contour is Gielis' superformula with ripples on it; its material is a
texture in two colours; a lamp gives it an edge and a shadow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from .textures import Textures

TEXTURES, CONTOURS, BODIES = 160, 96, 3
"""The number of kinds of textures and of contours, and the largest number of bodies in one picture."""

LOW, HIGH = -2.1, 2.6
"""Darkest and brightest value of a picture: black and white, after ImageNet's normalisation."""


@dataclass(frozen=True)
class Scenes:
    """A batch of pictures and what is where in them."""

    pictures: Tensor
    """float32 [N, 3, side, side], LOW to HIGH: RGB after ImageNet's normalisation."""
    textures: Tensor
    """int64 [N, side, side]: which texture, 0 to TEXTURES - 1."""
    contours: Tensor
    """int64 [N, side, side]: within which contour, 1 to CONTOURS; 0 is the ground."""


class SceneFormulas:
    """The recipes that one seed decides; `draw` makes as many pictures of them as are wanted."""

    def __init__(self, side: int, seed: int, device: torch.device) -> None:
        generator = torch.Generator(device).manual_seed(seed)
        self.side = side
        self.textures = Textures(TEXTURES, side, generator)

        def uniform(low: float, high: float) -> Tensor:
            return low + (high - low) * torch.rand(CONTOURS, 1, 1, 1, generator=generator, device=device)

        self._symmetry = torch.randint(2, 13, (CONTOURS, 1, 1, 1), generator=generator, device=device).float()
        self._exponents = [uniform(math.log(0.5), math.log(12)).exp() for _ in range(3)]
        self._ripples = torch.randint(3, 25, (CONTOURS, 1, 1, 1), generator=generator, device=device).float()
        self._ripple_height = uniform(-0.25, 0.25).abs().sub(0.08).clamp(min=0)
        self._ripple_edge = uniform(0.5, 6)
        self._hole = (uniform(-0.8, 0.8)).clamp(min=0)

    def draw(self, count: int, generator: torch.Generator) -> Scenes:
        """Draw new pictures; the generator's state decides them."""
        device = generator.device

        def uniform(low: float, high: float, *shape: int) -> Tensor:
            return low + (high - low) * torch.rand(count, *shape, generator=generator, device=device)

        layers = BODIES + 1
        texture = torch.randint(TEXTURES, (count, layers), generator=generator, device=device)
        coloured = self._colour_layers(texture, generator)
        picture, texture_map = coloured[:, 0], texture[:, :1, None].expand(-1, self.side, self.side)
        contour_map = torch.zeros_like(texture_map)
        lamp = uniform(0, 2 * math.pi, 1, 1)
        shadow_depth = uniform(0, 0.8, 1, 1, 1) * (uniform(0, 1, 1, 1, 1) < 0.5)
        bodies = torch.randint(1, BODIES + 1, (count, 1, 1), generator=generator, device=device)
        for layer in range(1, layers):
            contour = torch.randint(CONTOURS, (count,), generator=generator, device=device)
            distance = self._distance(contour, uniform)
            distance = torch.where(bodies >= layer, distance, self.side)  # not in this picture
            inside = (0.5 - distance).clamp(0, 1)[:, None]
            shadow = F.avg_pool2d(torch.roll(inside, (3, 2), (2, 3)), 5, 1, 2)
            picture = picture - (picture - LOW) * shadow_depth * shadow
            body = coloured[:, layer] + self._bevel(distance, lamp, uniform)[:, None]
            picture = picture + (body - picture) * inside
            within = distance < 0
            texture_map = torch.where(within, texture[:, layer, None, None], texture_map)
            contour_map = torch.where(within, 1 + contour[:, None, None], contour_map)
        ramp = F.interpolate(uniform(-1, 1, 1, 2, 2), size=(self.side, self.side), mode="bilinear")
        noise = torch.randn(picture.shape, generator=generator, device=device)
        picture = picture * (1 + 0.25 * ramp) + uniform(0, 0.15, 1, 1, 1) * noise
        return Scenes(picture.clamp(LOW, HIGH), texture_map, contour_map)

    def _colour_layers(self, texture: Tensor, generator: torch.Generator) -> Tensor:
        """Draw textures in two colours each, float32 [N, layers, 3, side, side]."""
        count, layers = texture.shape
        fields = self.textures.draw(texture.flatten(), generator).view(count, layers, 1, self.side, self.side)
        shape = (count, layers, 3, 1, 1)
        base, other = torch.randn(2, *shape, generator=generator, device=texture.device)
        grey = torch.randn(count, layers, 1, 1, 1, generator=generator, device=texture.device)
        contrast = 0.1 + 0.9 * torch.rand(count, layers, 1, 1, 1, generator=generator, device=texture.device)
        colours: Tensor = 0.5 * base + 0.7 * grey + contrast * fields * (0.4 * other + 0.5)
        return colours

    def _distance(self, contour: Tensor, uniform: _Uniform) -> Tensor:
        """Draw a contour; return about the signed distance to it in pixels, float32 [N, side, side]."""
        steps = torch.arange(self.side, device=contour.device, dtype=torch.float32)
        x = steps[None, None, :] - uniform(0, self.side, 1, 1)
        y = steps[None, :, None] - uniform(0, self.side, 1, 1)
        turn, squeeze = uniform(0, 2 * math.pi, 1, 1), uniform(0.6, 1, 1, 1)
        across, along = x * turn.cos() + y * turn.sin(), (y * turn.cos() - x * turn.sin()) / squeeze
        radius, theta = torch.hypot(across, along), torch.atan2(along, across)
        m, (n1, n2, n3) = self._symmetry[contour][:, 0], (n[contour][:, 0] for n in self._exponents)
        quarter = m * theta / 4
        power = quarter.cos().abs().clamp(min=1e-3) ** n2 + quarter.sin().abs().clamp(min=1e-3) ** n3
        reach = (power ** (-1 / n1)).clamp(0.2, 2)
        wave = torch.tanh(self._ripple_edge[contour][:, 0] * torch.sin(self._ripples[contour][:, 0] * theta))
        reach = reach / reach.amax((1, 2), keepdim=True) * (1 + self._ripple_height[contour][:, 0] * wave)
        size = torch.exp(uniform(math.log(0.12), math.log(0.8), 1, 1)) * self.side
        outer = radius - size * reach
        distance = torch.maximum(outer, size * self._hole[contour][:, 0] * reach - radius)
        steep = torch.hypot(*torch.gradient(distance, dim=(1, 2))).clamp(min=0.5)
        return distance / steep

    def _bevel(self, distance: Tensor, lamp: Tensor, uniform: _Uniform) -> Tensor:
        """Return light and dark along the edge for the light's direction in radians; float32 [N, side, side]."""
        width = uniform(1, 6, 1, 1)
        height = (-distance).clamp(min=0).minimum(width)
        slope_y, slope_x = torch.gradient(height, dim=(1, 2))
        return uniform(-0.2, 1.2, 1, 1) * (slope_x * lamp.cos() + slope_y * lamp.sin())


class _Uniform(Protocol):
    """Draws float32 [N, *shape] between low and high."""

    def __call__(self, low: float, high: float, *shape: int) -> Tensor: ...
