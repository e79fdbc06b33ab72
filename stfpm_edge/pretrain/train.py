"""Pre-train a teacher: on pictures that formulas draw (no photograph, no data set, no download), or on labelled ones.

At every position of every block of a drawn picture the network predicts the texture, the contour and the mean colour
there: dense answers teach more per picture than one label does, and keep in the features what a defect would change. Of
a labelled picture it predicts the class, as the teachers of the paper's Table 4 do. Or it learns the
features of a larger teacher, on any pictures, see `distil`.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from stfpm_edge.checkpoint import load_tensors, resume_path, save_tensors, strip_prefix
from stfpm_edge.networks import TEACHERS, Pyramid, check_architecture
from stfpm_edge.options import check_seed, pick_device
from stfpm_edge.teacher import PROCEDURAL, load_teacher
from stfpm_runtime.errors import OptionError, OutputError, StfpmError
from stfpm_runtime.files import atomic_path, check_writable, sha256
from stfpm_runtime.imaging.images import find_images

from .distil import PART_SIDE, SOURCES, DistilPretext, Draw, PartPictures, mixed
from .labelled import SETS, open_labelled
from .scenes import SceneFormulas
from .tasks import LabelPretext, Pretext, PretrainModel, ScenePretext

WARM_UP, COOL_DOWN = 0.02, 0.3
"""Shares of the steps in which the learning rate rises from 0, and falls to 0 again; between them it stands still."""
SAVE_EVERY = 60.0
"""Seconds between two saves of the unfinished state."""


@dataclass(frozen=True)
class PretrainOptions:
    """Options of a pre-training."""

    output: Path
    backbone: str = "resnet18"
    blocks: tuple[int, ...] = (2, 3, 4)
    steps: int = 20_000
    """Steps of the optimizer, with those of the warm-up and the cool-down."""
    batch_size: int = 32
    side: int = 96
    """Height and width of the pictures, in pixels."""
    lr: float = 2e-3
    """AdamW's learning rate at its highest."""
    seed: int = 0
    device: str = "auto"
    start: str = ""
    """A teacher to start from, a path as for `load_teacher`; empty starts from random weights."""
    resume: bool = False
    images: str = PROCEDURAL
    """`procedural`, one of `labelled.SETS`, or a folder with one folder for each class."""
    root: Path = Path()
    """The folder of torchvision's data sets."""
    download: bool = False
    """Let torchvision fetch a data set that does not lie there."""
    distil_from: str = ""
    """The teacher whose features are learnt, as for `load_teacher`; empty learns from labels."""
    parts: tuple[Path, ...] = ()
    """Folders of good pictures, from which half of each batch is cropped when a teacher is distilled."""

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("batch_size", 2), ("side", 64)):
            if getattr(self, name) < least:
                raise OptionError(f"got {name.replace('_', ' ')} {getattr(self, name)}; expected {least} or more")
        check_seed(self.seed)
        check_architecture(self.backbone, self.blocks)
        if self.backbone not in TEACHERS:
            raise OptionError(f"got backbone {self.backbone!r} for a teacher; expected one of {', '.join(TEACHERS)}")
        if self.download and self.images not in SETS:
            raise OptionError(f"got --download with --images {self.images}; expected one of {', '.join(SETS)} to fetch")
        if self.distil_from and self.backbone not in SOURCES:
            raise OptionError(f"got --distil-from with --backbone {self.backbone}; expected {', '.join(SOURCES)}")
        if self.parts and not self.distil_from:
            raise OptionError("got --parts without --distil-from; expected both, labels are not known of parts")
        if self.parts and self.side > PART_SIDE:
            raise OptionError(f"got a size of {self.side} with --parts; expected {PART_SIDE} or less")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise OptionError(f"got a learning rate of {self.lr}; expected one above 0, say 0.002")
        if self.output.suffix != ".safetensors":
            raise OptionError(f"{self.output}: expected a file ending in .safetensors")

    def identity(self) -> dict[str, str]:
        """Return what must not change when a pre-training is resumed; strings, for a file's metadata."""
        names = ("backbone", "blocks", "steps", "batch_size", "side", "lr", "seed", "start", "images")
        identity = {name: str(getattr(self, name)) for name in names}
        if self.distil_from:
            identity["distil_from"] = self.distil_from
        for name in ("start", "distil_from"):
            if Path(getattr(self, name)).is_file():
                identity[f"{name}_sha256"] = sha256(Path(getattr(self, name)))
        if Path(self.images).is_dir():
            identity["images_sha256"] = _listing_sha256([Path(self.images)])
        if self.parts:
            identity["parts_sha256"] = _listing_sha256(self.parts)
        return identity


def _listing_sha256(folders: Sequence[Path]) -> str:
    """Return the SHA-256 over names and sizes of the pictures in these folders."""
    found = [f"{path.relative_to(folder)} {path.stat().st_size}" for folder in folders for path in find_images(folder)]
    return hashlib.sha256("\n".join(found).encode()).hexdigest()


def pretrain(options: PretrainOptions, report: Callable[[int, str], None] = lambda step, note: None) -> Pyramid:
    """Train and write the teacher: .safetensors, half precision, torchvision's names; also returned, to evaluate with.

    `report` is called every 50 steps with their number and the losses. With the same options on the same machine the
    result is the same, interrupted and resumed or not. Raises OutputError, OptionError, DataError or ArtifactError
    before the training starts; DataError for a picture that cannot be read, StfpmError where the loss is not finite.
    """
    check_writable(options.output)
    device = pick_device(options.device)
    unfinished = resume_path(options.output)
    if unfinished.exists() and not options.resume:
        raise OutputError(
            f"{unfinished}: an unfinished pre-training lies here; continue it with --resume, or delete it"
        )
    pretext = _pretext(options, device)
    model, optimizer = _start(options, pretext, device)
    done = _load(unfinished, model, optimizer, options) if options.resume and unfinished.exists() else 0
    saved = time.monotonic()
    model.train()
    for step in range(done + 1, options.steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = options.lr * _rate(step / options.steps)
        generator = torch.Generator(device).manual_seed((options.seed << 32) + step)
        losses = pretext.losses(model, options.batch_size, generator)
        optimizer.zero_grad()
        torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        if step % 50 == 0 or step == options.steps:
            if not math.isfinite(losses[-1].item()):
                raise StfpmError(f"step {step}: the loss is not finite; start again with a smaller --lr")
            report(step, "loss " + ", ".join(f"{value.item():.2f}" for value in losses))
        if time.monotonic() - saved > SAVE_EVERY:
            _save(unfinished, model, optimizer, options, step)
            saved = time.monotonic()
    teacher = model.pyramid.eval().requires_grad_(False)
    about = {**options.identity(), **pretext.evaluate(model), "made_by": "stfpm-pretrain"}
    # Names alone: this machine's folders mean nothing elsewhere.
    about |= {name: Path(about[name]).name for name in ("images", "start", "distil_from") if name in about}
    write_teacher(teacher, options.output, about)
    unfinished.unlink(missing_ok=True)
    return teacher


def write_teacher(teacher: Pyramid, path: Path, metadata: dict[str, str]) -> None:
    """Write a teacher's weights, half precision, in torchvision's names; atomically."""
    tensors = {
        name: tensor.half().cpu().contiguous()
        for name, tensor in teacher.state_dict().items()
        if tensor.is_floating_point()
    }
    with atomic_path(path) as unfinished:
        save_tensors(tensors, unfinished, metadata)


def _pretext(options: PretrainOptions, device: torch.device) -> Pretext:
    side = options.side
    draw: Draw
    pretext: Pretext
    if options.images == PROCEDURAL:
        formulas = SceneFormulas(side, options.seed, device)
        pretext, draw = ScenePretext(formulas), lambda count, generator: formulas.draw(count, generator).pictures
    else:
        labelled = open_labelled(options.images, options.root, options.download)
        pretext, draw = LabelPretext(labelled, side), lambda count, generator: labelled.draw(count, side, generator)[0]
    if not options.distil_from:
        return pretext
    if options.parts:
        parts = PartPictures(options.parts)
        draw = mixed(draw, lambda count, generator: parts.draw(count, side, generator))
    source = load_teacher(options.distil_from, SOURCES[options.backbone], options.blocks)
    return DistilPretext(source.to(device, memory_format=torch.channels_last), draw)  # type: ignore[call-overload]


def _start(
    options: PretrainOptions, pretext: Pretext, device: torch.device
) -> tuple[PretrainModel, torch.optim.Optimizer]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        if options.start:
            pyramid = load_teacher(options.start, options.backbone, options.blocks).requires_grad_(True)
        else:
            pyramid = Pyramid(options.backbone, options.blocks)
        model = pretext.model(pyramid)
    model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model, torch.optim.AdamW(model.parameters(), weight_decay=2e-2)


def _rate(share: float) -> float:
    """Return the learning rate as a share of its highest, after this share of the steps."""
    return min(1.0, share / WARM_UP, (1 - share) / COOL_DOWN + 1e-3)


def _save(
    path: Path, model: PretrainModel, optimizer: torch.optim.Optimizer, options: PretrainOptions, step: int
) -> None:
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        tensors |= {f"{key}.{name}": value for key, value in optimizer.state[parameter].items()}
    with atomic_path(path) as unfinished:
        kept = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        save_tensors(kept, unfinished, {**options.identity(), "step": str(step)})


def _load(path: Path, model: PretrainModel, optimizer: torch.optim.Optimizer, options: PretrainOptions) -> int:
    """Bring model and optimizer to where they were saved; returns the steps done. OptionError where they differ."""
    tensors, metadata = load_tensors(path)
    if differing := [name for name, value in options.identity().items() if metadata.get(name) != value]:
        raise OptionError(
            f"{path}: is of a pre-training with other {', '.join(differing)}; use the same options, or delete it"
        )
    model.load_state_dict(strip_prefix(tensors, "model."))
    states = {key: strip_prefix(tensors, f"{key}.") for key in ("step", "exp_avg", "exp_avg_sq")}
    for name, parameter in model.named_parameters():
        device = parameter.device
        moments = {key: states[key][name].to(device) for key in ("exp_avg", "exp_avg_sq")}
        optimizer.state[parameter] = {"step": states["step"][name], **moments}
    return int(metadata["step"])
