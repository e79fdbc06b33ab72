"""The demo's teacher: a ResNet-18 that learned about a minute's worth of made-up textures. No download.

The paper's teacher knows ImageNet. Where that cannot be fetched, this one learns to tell textures apart that formulas
draw: every picture is a collage of a few of them, and at each position of each block it has to say which texture is
there. It never sees a part, let alone a defect. Next to ImageNet it knows little; it is for the demo.

    python -m stfpm_edge.demo_teacher teacher.safetensors
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stfpm_runtime.cli import run
from stfpm_runtime.files import atomic_path, check_writable

from .backbone import Pyramid
from .checkpoint import save_tensors

BLOCKS = (2, 3, 4)
CHANNELS = (64, 128, 256)
TEXTURES = 64
"""How many textures there are to tell apart."""
STEPS, BATCH, SIDE = 300, 32, 64
"""Training: optimizer steps, pictures in each, and their height and width in pixels."""
LEARNING_RATE = 3e-3


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


def train_teacher(seed: int = 0, steps: int = STEPS, report: Callable[[str], None] = lambda line: None) -> Pyramid:
    """A ResNet-18 up to conv4_x that tells textures apart, in evaluation mode; the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    textures = Textures(TEXTURES, SIDE, generator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        teacher = Pyramid("resnet18", BLOCKS).to(memory_format=torch.channels_last)
        heads = nn.ModuleList(nn.Conv2d(channels, TEXTURES, 1) for channels in CHANNELS)
    optimizer = torch.optim.AdamW([*teacher.parameters(), *heads.parameters()], weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for step in range(1, steps + 1):
        pictures, labels = collage(textures, BATCH, generator)
        scores = [head(features) for head, features in zip(heads, teacher(pictures), strict=True)]
        losses = [_cross_entropy(score, labels) for score in scores]
        optimizer.zero_grad()
        torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == steps:
            report(f"step {step}/{steps}: cross-entropy {losses[-1].item():.2f} ({math.log(TEXTURES):.2f} is guessing)")
    return teacher.eval().requires_grad_(False)


def write_demo_teacher(path: Path, seed: int = 0, steps: int = STEPS) -> None:
    """Train the demo's teacher and write it as .safetensors, atomically, in torchvision's names (conv1 to layer3).

    Progress goes to stderr. Raises OutputError where the file cannot be written.
    """
    check_writable(path)
    teacher = train_teacher(seed, steps, lambda line: print(line, file=sys.stderr, flush=True))
    tensors = {name: tensor.contiguous() for name, tensor in teacher.state_dict().items()}
    with atomic_path(path) as unfinished:
        save_tensors(tensors, unfinished, {"textures": str(TEXTURES), "steps": str(steps), "seed": str(seed)})


def _cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    """Mean over positions, of scores [N, TEXTURES, h, w] against labels [N, H, W] at the positions' centres."""
    stride = labels.shape[1] // scores.shape[2]
    return F.cross_entropy(scores, labels[:, stride // 2 :: stride, stride // 2 :: stride])


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m stfpm_edge.demo_teacher", description="Make the demo's teacher.")
    parser.add_argument("path", type=Path, metavar="FILE", help="the .safetensors file to write")
    parser.add_argument("--seed", type=int, default=0, help="of the textures, the weights and the training")
    parser.add_argument("--steps", type=int, default=STEPS, metavar="N", help="how long it learns")
    arguments = parser.parse_args(argv)
    return run("demo_teacher", lambda: _make(arguments))


def _make(arguments: argparse.Namespace) -> int:
    write_demo_teacher(arguments.path, arguments.seed, arguments.steps)
    return 0


if __name__ == "__main__":
    sys.exit(main())
