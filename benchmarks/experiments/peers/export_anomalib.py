"""Export anomalib's Stfpm by anomalib's own Engine: PyTorch, ONNX and OpenVINO in float32, OpenVINO in int8 by NNCF.

Writes OUT/weights/onnx/model.onnx, OUT/weights/openvino/model.xml and OUT/weights/openvino/model_int8.xml, all of a
fixed image size and a free batch, and OUT/weights/torch/model.pt. Their input is float32 [N, 3, H, W], RGB, 0 to 1;
normalisation is inside. See setup_anomalib.sh.
"""
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import argparse
from pathlib import Path

from anomalib.deploy import CompressionType, ExportType
from anomalib.engine import Engine
from offline_stfpm import build_stfpm, image_folder


def main() -> None:
    """Export them all."""
    arguments = _parser().parse_args()
    size = (arguments.size, arguments.size)
    model = build_stfpm(arguments.checkpoint, arguments.size)
    engine = Engine(accelerator="cpu", devices=1, logger=False, default_root_dir=arguments.output)
    where = {"export_root": arguments.output, "input_size": size}
    print(engine.export(model, ExportType.ONNX, **where))
    print(engine.export(model, ExportType.OPENVINO, **where))
    print(engine.export(model, ExportType.TORCH, export_root=arguments.output))
    int8 = engine.export(
        model,
        ExportType.OPENVINO,
        **where,
        model_file_name="model_int8",
        compression_type=CompressionType.INT8_PTQ,
        datamodule=image_folder(arguments.good, None, arguments.size),
    )
    print(int8)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("good", type=Path, metavar="GOOD", help="a folder of good images: a fifth of them calibrates int8")
    add("-o", "--output", type=Path, required=True, metavar="OUT", help="the folder to write into")
    add("--checkpoint", type=Path, metavar="FILE", help="a trained model (default: random weights, as fast)")
    add("--size", type=int, default=256, help="side of the square input, in pixels")
    return parser


if __name__ == "__main__":
    main()
