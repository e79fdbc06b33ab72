"""Textures that formulas draw: filtered noise, from brushed metal and weaves to grain, blobs and spots."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class Textures:
    """Recipes of textures: each a band of spatial frequencies with preferred directions, and a tone curve.

    White noise, or a few sparse points, are filtered with the recipe's spectrum: a narrow band with one direction makes
    stripes, with two a weave, a wide one brushed metal; no direction makes grain, blobs or (from points) spots.
    """

    def __init__(self, count: int, side: int, generator: torch.Generator) -> None:
        device = generator.device

        def uniform(low: float, high: float) -> Tensor:
            return low + (high - low) * torch.rand(count, 1, 1, generator=generator, device=device)

        self.side = side
        fy, fx = torch.fft.fftfreq(side, device=device)[:, None], torch.fft.rfftfreq(side, device=device)[None, :]
        frequency, direction = torch.hypot(fx, fy).clamp(min=0.5 / side), torch.atan2(fy, fx)
        centre, width = uniform(math.log(0.02), math.log(0.35)).exp(), uniform(0.1, 0.7)
        band = torch.exp(-0.5 * (torch.log(frequency / centre) / width) ** 2)
        focus = uniform(0, 1).sub(0.3).clamp(min=0) * 30  # 0: no preferred direction
        lobes = torch.randint(1, 3, (count, 1, 1), generator=generator, device=device)
        bearing = torch.exp(focus * (torch.cos(2 * lobes * (direction - uniform(0, math.pi))) - 1))
        self.spectra = band * bearing
        """float32 [count, side, side // 2 + 1], real and not negative."""
        self.sparse = torch.rand(count, 1, 1, generator=generator, device=device) < 0.3
        self.contrast = uniform(0.0, 1.0) ** 3 * 8
        """Steepness of the tone curve: 0 leaves the field as it is, 8 makes it almost two-valued."""
        self.offset = uniform(-0.8, 0.8)

    def draw(self, which: Tensor, generator: torch.Generator) -> Tensor:
        """Draw one sample of each texture, float32 [N, side, side] within -1 and 1, for int64 [N] numbers."""
        shape, device = (len(which), self.side, self.side), generator.device
        noise = torch.randn(shape, generator=generator, device=device)
        points = (torch.rand(shape, generator=generator, device=device) < 0.01) * noise
        source = torch.where(self.sparse[which], points, noise)
        field = torch.fft.irfft2(torch.fft.rfft2(source) * self.spectra[which], s=shape[1:])
        field = field / field.std(dim=(1, 2), keepdim=True).clamp(min=1e-6) + self.offset[which]
        return torch.tanh(field * (0.5 + self.contrast[which]))
