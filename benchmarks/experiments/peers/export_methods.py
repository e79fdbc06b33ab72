"""Train PatchCore and PaDiM, which takes one pass, and export them and EfficientAd by anomalib's Engine.

Writes OUT/METHOD/weights/openvino/model.xml, of a fixed image size, but OUT/patchcore/weights/torch/model.pt: in
OpenVINO PatchCore's graph takes exactly two images, where anomalib's own inferencer gives it one. EfficientAd stays
untrained: its teacher and its training images have to be downloaded. See setup_anomalib.sh.
"""
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import argparse
from pathlib import Path

from anomalib.deploy import ExportType
from anomalib.engine import Engine
from offline_methods import METHODS, RANDOM, build_method
from offline_stfpm import image_folder


def main() -> None:
    """Train and export what is asked for."""
    arguments = _parser().parse_args()
    for name in arguments.methods:
        model = build_method(name, arguments.size, arguments.teacher)
        output = arguments.output / name
        engine = Engine(accelerator="cpu", devices=1, logger=False, default_root_dir=output)
        if name not in RANDOM:
            engine.fit(model, datamodule=image_folder(arguments.good, None, arguments.size))
        if name == "patchcore":
            print(engine.export(model.eval(), ExportType.TORCH, export_root=output))
        else:
            size = (arguments.size, arguments.size)
            print(engine.export(model.eval(), ExportType.OPENVINO, export_root=output, input_size=size))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("good", type=Path, metavar="GOOD", help="a folder of good images")
    add("-o", "--output", type=Path, required=True, metavar="OUT")
    add("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    add("--teacher", type=Path, metavar="FILE", help=".safetensors in torchvision's names (default: random weights)")
    add("--size", type=int, default=256, help="side of the square input, in pixels")
    return parser


if __name__ == "__main__":
    main()
