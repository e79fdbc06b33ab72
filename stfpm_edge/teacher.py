"""Sources of a teacher: torchvision's ImageNet weights, the one that ships, or a file in torchvision's names."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.error import URLError

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from stfpm_runtime.errors import ArtifactError, OptionError, first_line

from .networks import RESNETS, Pyramid, check_architecture, teacher_of

IMAGENET = "imagenet"
PROCEDURAL = "procedural"
SHIPPED = {"resnet18": Path(__file__).with_name("weights") / "resnet18_procedural.safetensors"}
"""Teachers pre-trained by `stfpm-pretrain`, conv1 to conv4_x in half precision; see docs/teacher.md."""
SHIPPED_BLOCKS = (2, 3, 4)


def load_teacher(source: str, backbone: str, blocks: Sequence[int]) -> Pyramid:
    """Load the frozen teacher of a backbone, in evaluation mode.

    `source` is `imagenet` (torchvision's IMAGENET1K_V1, downloaded once), `procedural` (comes with this package, see
    `scenes`; no download) or the path of a .safetensors or .pth file with torchvision's names, of which only conv1 to
    the last chosen block are needed. Raises ArtifactError for a file
    that cannot be used or a download that fails, OptionError for an unknown backbone or block.
    """
    check_architecture(backbone, blocks)
    architecture = teacher_of(backbone)
    if source == IMAGENET:
        weights = _download(architecture)
    else:
        weights = _read(_shipped(architecture, blocks) if source == PROCEDURAL else Path(source))
    teacher = Pyramid(backbone, blocks)
    load_weights(teacher, weights, source)
    return teacher.eval().requires_grad_(False)


def load_weights(pyramid: Pyramid, weights: Mapping[str, Tensor], source: str) -> None:
    """Fill a pyramid; tensors that it has no use for are left alone. ArtifactError says what does not fit."""
    wanted = {name: t for name, t in pyramid.state_dict().items() if not name.endswith("num_batches_tracked")}
    if missing := [name for name in wanted if name not in weights]:
        raise ArtifactError(
            f"{source}: {len(missing)} of {len(wanted)} tensors of {pyramid.backbone} are missing, first {missing[0]}; "
            "expected torchvision's names up to the last chosen block"
        )
    for name, tensor in wanted.items():
        if weights[name].shape != tensor.shape:
            raise ArtifactError(
                f"{source}: {name} is {list(weights[name].shape)}, {pyramid.backbone} has {list(tensor.shape)}; "
                "expected weights of this backbone, or choose theirs with --backbone"
            )
        if not torch.isfinite(weights[name]).all():
            raise ArtifactError(f"{source}: {name} holds values that are not finite; get the file again")
    pyramid.load_state_dict({name: weights[name] for name in wanted}, strict=False)


def check_archive(archive: zipfile.ZipFile, path: Path) -> None:
    """Raise ArtifactError where a zip file at `path` would unpack to more than its own size; unpack nothing.

    PyTorch stores tensors uncompressed. A compressed member, or several that share their bytes, may fill the memory.
    """
    size = path.stat().st_size
    members = archive.infolist()
    unpacked = sum(member.file_size for member in members)
    if unpacked > size or any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ArtifactError(
            f"{path}: its members unpack to {unpacked} bytes, its own size is {size}; expected no compressed member "
            "and no more bytes than the file has, as PyTorch writes it: get the file again from where it was made"
        )


def fingerprint(pyramid: Pyramid) -> str:
    """Return the SHA-256 over the names and values of a pyramid's weights, in hexadecimal."""
    digest = hashlib.sha256()
    for name, tensor in sorted(pyramid.state_dict().items()):
        if not name.endswith("num_batches_tracked"):
            digest.update(name.encode())
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _shipped(backbone: str, blocks: Sequence[int]) -> Path:
    if backbone not in SHIPPED or max(blocks) > max(SHIPPED_BLOCKS):
        asked = f"a {backbone} of blocks {','.join(map(str, blocks))}"
        raise OptionError(
            f"got teacher {PROCEDURAL} for {asked}; it is a {', '.join(SHIPPED)} "
            f"up to block {max(SHIPPED_BLOCKS)}. Make one with stfpm-pretrain --backbone {backbone}"
        )
    return SHIPPED[backbone]


def _read(path: Path) -> dict[str, Tensor]:
    expected = "expected 'imagenet', 'procedural' or a .safetensors or .pth file with torchvision's names"
    if not path.is_file():
        raise ArtifactError(f"teacher {path}: no such file; {expected}")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise ArtifactError(f"teacher {path}: damaged ({error}); get the file again") from None
    if path.suffix not in (".pth", ".pt"):
        raise ArtifactError(f"teacher {path}: got a file ending in {path.suffix!r}; {expected}")
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                check_archive(archive, path)
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except ArtifactError as error:
        raise ArtifactError(f"teacher {error}") from None
    except Exception as error:  # torch.load raises half a dozen types, UnpicklingError for pickled code among them
        raise ArtifactError(
            f"teacher {path}: cannot be read as plain weights ({first_line(error)}); {expected}"
        ) from None
    weights = weights.get("state_dict", weights) if isinstance(weights, dict) else weights
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise ArtifactError(f"teacher {path}: holds no state dict; {expected}")
    return {name.removeprefix("module."): tensor for name, tensor in weights.items()}


def _download(backbone: str) -> Mapping[str, Tensor]:
    if backbone not in RESNETS:
        raise OptionError(
            f"got teacher {IMAGENET} for {backbone}, which torchvision has no weights of; make one with "
            f"stfpm-pretrain --backbone {backbone} --distil-from {IMAGENET}, and give it as --teacher FILE"
        )
    weights = torchvision.models.get_model_weights(backbone)["IMAGENET1K_V1"]
    try:
        return weights.get_state_dict(progress=True, check_hash=True)  # type: ignore[no-any-return]
    except (URLError, OSError, RuntimeError) as error:  # RuntimeError: the file's hash is wrong
        reason = getattr(error, "reason", error)
        raise ArtifactError(
            f"teacher imagenet: {weights.url} cannot be downloaded ({reason}); fetch it where there is internet, "
            "bring the .pth here and give it as --teacher PATH, or do without: --teacher procedural"
        ) from None
