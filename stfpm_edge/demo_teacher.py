"""The demo's teacher: a ResNet-18 that learned, in a minute, to find foreign bodies on good parts. No download.

The paper's teacher knows ImageNet. Where that cannot be fetched, this one sees crops of the good training pictures into
which something was put: a line, a blob or a patch, filled with a made-up texture, a piece of another picture or a tint.
At each position of each block it has to say which, or that nothing was. It never sees one of the demo's defects. Next
to ImageNet it knows little: scratches and spots it finds, a missing tooth hardly. It is for the demo.

    python -m stfpm_edge.demo_teacher teacher.safetensors --parts parts/train/good
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stfpm_runtime.cli import run
from stfpm_runtime.files import atomic_path, check_writable

from .backbone import Pyramid
from .checkpoint import save_tensors
from .data import find_good_images, read_images
from .demo_textures import TEXTURES, Textures, collage
from .stfpm import normalise_images

BLOCKS = (2, 3, 4)
CHANNELS = (64, 128, 256)
WEIGHTS = (0.3, 1.0, 1.0, 1.0)
"""Of the answers in the loss: nothing was put there (most of a picture), a texture, a piece of another one, a tint."""
STEPS, BATCH, SIDE = 250, 16, 96
"""Training: optimizer steps, crops in each, and their height and width in pixels."""
PART_SIDE = 256
"""What a good picture is resized to before it is cropped."""
LEARNING_RATE = 3e-3


def put_foreign(parts: Tensor, count: int, textures: Textures, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Crops of parts (normalised float32 [N, 3, H, W]) with foreign bodies: float32 [count, 3, side, side].

    With them, int64 [count, side, side]: an index of WEIGHTS for each pixel. `side` is the textures'.
    """
    side = textures.side
    crops, moved = (_crops(parts, count, side, generator) for _ in range(2))
    tint = 1.2 * torch.randn(count, 3, 1, 1, generator=generator)
    bodies = torch.stack([collage(textures, count, generator)[0], moved, crops + tint])
    kind = torch.randint(len(bodies), (count,), generator=generator)
    body = bodies[kind, torch.arange(count)]
    shapes = np.random.default_rng(int(torch.randint(1 << 31, (1,), generator=generator)))
    mask = torch.from_numpy(np.stack([_shape(side, shapes) for _ in range(count)]))
    opacity = 0.4 + 0.6 * torch.rand(count, 1, 1, 1, generator=generator)
    pictures = crops + (body - crops) * mask[:, None] * opacity
    brightness = 1 + 0.1 * torch.randn(count, 1, 1, 1, generator=generator)
    return pictures * brightness, torch.where(mask > 0.5, 1 + kind.view(-1, 1, 1), 0)


def train_teacher(
    parts: Tensor, seed: int = 0, steps: int = STEPS, report: Callable[[str], None] = lambda line: None
) -> Pyramid:
    """A ResNet-18 up to conv4_x that finds foreign bodies on parts (normalised float32 [N, 3, H, W], RGB).

    In evaluation mode; the same for the same seed and parts.
    """
    generator = torch.Generator().manual_seed(seed)
    textures = Textures(TEXTURES, SIDE, generator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        teacher = Pyramid("resnet18", BLOCKS).to(memory_format=torch.channels_last)
        heads = nn.ModuleList(nn.Conv2d(channels, len(WEIGHTS), 1) for channels in CHANNELS)
    optimizer = torch.optim.AdamW([*teacher.parameters(), *heads.parameters()], weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for step in range(1, steps + 1):
        pictures, labels = put_foreign(parts, BATCH, textures, generator)
        answers = [head(features) for head, features in zip(heads, teacher(pictures), strict=True)]
        losses = [_cross_entropy(answer, labels) for answer in answers]
        optimizer.zero_grad()
        torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == steps:
            guessing = math.log(len(WEIGHTS))
            report(f"step {step}/{steps}: cross-entropy {losses[-1].item():.2f} ({guessing:.2f} is guessing)")
    return teacher.eval().requires_grad_(False)


def write_demo_teacher(path: Path, parts: Path, seed: int = 0, steps: int = STEPS) -> None:
    """Train the demo's teacher and write it as .safetensors, atomically, in torchvision's names (conv1 to layer3).

    `parts` is a folder of good pictures, or a category. Progress goes to stderr. Raises OutputError where the file
    cannot be written, DataError for a folder without usable pictures.
    """
    check_writable(path)
    images, _ = read_images(find_good_images(parts), PART_SIDE, PART_SIDE, skip_unreadable=False, report=_say)
    teacher = train_teacher(normalise_images(torch.from_numpy(images)), seed, steps, _say)
    tensors = {name: tensor.contiguous() for name, tensor in teacher.state_dict().items()}
    with atomic_path(path) as unfinished:
        save_tensors(tensors, unfinished, {"steps": str(steps), "seed": str(seed)})


def _crops(parts: Tensor, count: int, side: int, generator: torch.Generator) -> Tensor:
    def choose(below: int) -> list[int]:
        return torch.randint(below, (count,), generator=generator).tolist()

    rows, columns = choose(parts.shape[2] - side + 1), choose(parts.shape[3] - side + 1)
    return torch.stack([
        parts[part, :, row : row + side, column : column + side]
        for part, row, column in zip(choose(len(parts)), rows, columns, strict=True)
    ])  # fmt: skip


def _shape(side: int, rng: np.random.Generator) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """The outline of foreign bodies, float32 [side, side], 0 to 1: a few lines, ellipses, or ragged patches."""
    canvas = np.zeros((side, side), np.float32)
    kind = rng.choice(["line", "ellipse", "patch"], p=[0.5, 0.25, 0.25])
    if kind == "patch":
        field = rng.standard_normal((6, 6)).astype(np.float32)
        return np.asarray(cv2.resize(field, (side, side), interpolation=cv2.INTER_CUBIC) > 1, np.float32)
    for _ in range(rng.integers(1, 4)):
        column, row = (int(value) for value in rng.integers(0, side, 2))
        if kind == "line":
            length, heading = rng.uniform(10, 60), rng.uniform(0, math.pi)
            end = (int(column + length * math.cos(heading)), int(row + length * math.sin(heading)))
            cv2.line(canvas, (column, row), end, 1.0, int(rng.integers(1, 4)), cv2.LINE_AA)
        else:
            axes = (int(rng.integers(2, 16)), int(rng.integers(2, 16)))
            cv2.ellipse(canvas, (column, row), axes, rng.uniform(0, 180), 0, 360, 1.0, -1, cv2.LINE_AA)
    return canvas


def _cross_entropy(answers: Tensor, labels: Tensor) -> Tensor:
    """Mean over positions, of answers [N, 4, h, w]: a position holds a foreign body if any of its pixels does."""
    stride = labels.shape[1] // answers.shape[2]
    wanted = F.max_pool2d(labels[:, None].float(), stride)[:, 0].long()
    return F.cross_entropy(answers, wanted, weight=torch.tensor(WEIGHTS))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m stfpm_edge.demo_teacher", description="Make the demo's teacher.")
    parser.add_argument("path", type=Path, metavar="FILE", help="the .safetensors file to write")
    parser.add_argument("--parts", type=Path, required=True, metavar="DIR", help="good pictures to learn on")
    parser.add_argument("--seed", type=int, default=0, help="of the foreign bodies, the weights and the training")
    parser.add_argument("--steps", type=int, default=STEPS, metavar="N", help="how long it learns")
    arguments = parser.parse_args(argv)
    return run("demo_teacher", lambda: _make(arguments))


def _make(arguments: argparse.Namespace) -> int:
    write_demo_teacher(arguments.path, arguments.parts, arguments.seed, arguments.steps)
    return 0


if __name__ == "__main__":
    sys.exit(main())
