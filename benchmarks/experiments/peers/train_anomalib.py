"""Train anomalib's own Stfpm, as anomalib does, for a Lightning checkpoint to import. See setup_anomalib.sh."""
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

from anomalib.engine import Engine
from anomalib.models import Stfpm
from offline_stfpm import build_stfpm, image_folder
from safetensors.torch import load_file


def main() -> None:
    """Train and save."""
    arguments = _parser().parse_args()
    model = build_stfpm(None, arguments.size)
    if arguments.teacher:
        load_teacher(model, arguments.teacher)
    data = image_folder(arguments.good, arguments.defective, arguments.size)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder:  # for the logs and checkpoints of Lightning's own
        engine = Engine(max_epochs=arguments.epochs, accelerator="cpu", devices=1, default_root_dir=folder)
        engine.fit(model, datamodule=data)
        engine.trainer.save_checkpoint(arguments.output)
    print(arguments.output)


def load_teacher(model: Stfpm, path: Path) -> None:
    """Fill the teacher from a file in torchvision's names, which are timm's for a ResNet."""
    extractor = model.model.teacher_model.feature_extractor
    weights = load_file(path)
    missing, _ = extractor.load_state_dict(weights, strict=False)
    if missing := [name for name in missing if not name.endswith("num_batches_tracked")]:
        raise SystemExit(f"{path}: {len(missing)} tensors are missing, first {missing[0]}; expected a ResNet-18")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("good", type=Path, metavar="GOOD", help="a folder of good images")
    add("-o", "--output", type=Path, required=True, metavar="FILE", help="the .ckpt file to write")
    add("--defective", type=Path, metavar="DIR", help="defective images, for anomalib's own threshold")
    add("--teacher", type=Path, metavar="FILE", help=".safetensors in torchvision's names (default: random weights)")
    add("--epochs", type=int, default=3)
    add("--size", type=int, default=256, help="side of the square input, in pixels")
    return parser


if __name__ == "__main__":
    main()
