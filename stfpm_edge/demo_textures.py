"""Textures that formulas draw, and collages of them: what the demo's teacher takes for foreign bodies."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

TEXTURES = 64
"""How many recipes there are."""


class Textures:
    """Recipes of textures: each a band of spatial frequencies with preferred directions, and a tone curve.

    White noise, or a few sparse points, are filtered with the recipe's spectrum: a narrow band with one direction makes
    stripes, with two a weave, a wide one brushed metal; no direction makes grain, blobs or (from points) spots.
    """

    def __init__(self, count: int, side: int, generator: torch.Generator) -> None:
        def uniform(low: float, high: float) -> Tensor:
            return low + (high - low) * torch.rand(count, 1, 1, generator=generator)

        self.side = side
        fy, fx = torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)[None, :]
        frequency, direction = torch.hypot(fx, fy).clamp(min=0.5 / side), torch.atan2(fy, fx)
        centre, width = uniform(math.log(0.02), math.log(0.35)).exp(), uniform(0.1, 0.7)
        band = torch.exp(-0.5 * (torch.log(frequency / centre) / width) ** 2)
        focus = uniform(0, 1).sub(0.3).clamp(min=0) * 30  # 0: no preferred direction
        lobes = torch.randint(1, 3, (count, 1, 1), generator=generator)
        bearing = torch.exp(focus * (torch.cos(2 * lobes * (direction - uniform(0, math.pi))) - 1))
        self.spectra = band * bearing
        """float32 [count, side, side // 2 + 1], real and not negative."""
        self.sparse = torch.rand(count, 1, 1, generator=generator) < 0.3
        self.contrast = uniform(0.0, 1.0) ** 3 * 8
        """Of the tone curve: 0 leaves the field as it is, 8 makes it almost two-valued."""
        self.offset = uniform(-0.8, 0.8)

    def draw(self, which: Tensor, generator: torch.Generator) -> Tensor:
        """One sample of each texture, float32 [N, side, side] within -1 and 1, for int64 [N] numbers."""
        shape = (len(which), self.side, self.side)
        noise = torch.randn(shape, generator=generator)
        points = (torch.rand(shape, generator=generator) < 0.01) * noise
        source = torch.where(self.sparse[which], points, noise)
        field = torch.fft.irfft2(torch.fft.rfft2(source) * self.spectra[which], s=shape[1:])
        field = field / field.std(dim=(1, 2), keepdim=True).clamp(min=1e-6) + self.offset[which]
        return torch.tanh(field * (0.5 + self.contrast[which]))


def collage(textures: Textures, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Pictures (float32 [count, 3, side, side], about zero mean and unit variance) of three textures each.

    With them, int64 [count, side, side]: which texture is where.
    """
    side, layers = textures.side, 3
    which = torch.randint(len(textures.spectra), (count, layers), generator=generator)
    fields = textures.draw(which.flatten(), generator).view(count, layers, 1, side, side)
    dark, bright = torch.randn(2, count, layers, 3, 1, 1, generator=generator)
    colours = dark + (fields + 1) / 2 * (bright - dark)

    coarse = torch.randn(count, layers, 4, 4, generator=generator)
    territory = F.interpolate(coarse, size=(side, side), mode="bicubic").argmax(1)
    index = territory[:, None, None].expand(-1, 1, 3, -1, -1)
    picture = colours.gather(1, index).squeeze(1)
    ramp = F.interpolate(torch.randn(count, 1, 2, 2, generator=generator), size=(side, side), mode="bilinear")
    grain = 0.1 * torch.randn(picture.shape, generator=generator)
    return picture * (1 + 0.2 * ramp) + grain, which.gather(1, territory.flatten(1)).view(count, side, side)
