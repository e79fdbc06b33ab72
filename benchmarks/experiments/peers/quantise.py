"""Our float32 graph, quantised by others' tools: ONNX Runtime's quantiser, NNCF through OpenVINO, or NVIDIA's ModelOpt.

    python quantise.py onnxruntime model.onnx IMAGES out.onnx
    python quantise.py nncf model.onnx IMAGES out.xml
    python quantise.py modelopt model.onnx IMAGES out.onnx

What `stfpm_export.graph.int8` has to beat. IMAGES is a folder of good pictures. NNCF comes with setup_anomalib.sh, and
ModelOpt is `pip install nvidia-modelopt[onnx]`, in an environment of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

IMAGES = 24


def frames(folder: Path, side: int = 256) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield uint8 [1, side, side, 3] of up to IMAGES pictures."""
    for path in sorted(folder.iterdir())[:IMAGES]:
        image = cv2.imread(str(path))
        assert image is not None, f"{path} is a picture"
        yield np.asarray(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA), np.uint8)[np.newaxis]


def by_onnxruntime(model: Path, folder: Path, output: Path) -> None:
    """Quantise to QDQ, uint8 activations, int8 weights by channel; the head is left out."""
    import onnx
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.images = frames(folder)

        def get_next(self) -> dict[str, npt.NDArray[np.uint8]] | None:
            image = next(self.images, None)
            return None if image is None else {"image": image}

    head = [node.name for node in onnx.load(model).graph.node if node.name.startswith(("head/", "anomaly", "score"))]
    quantize_static(
        model, output, Reader(), quant_format=QuantFormat.QDQ, per_channel=True, activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8, calibrate_method=CalibrationMethod.MinMax, nodes_to_exclude=head,
    )  # fmt: skip


def by_nncf(model: Path, folder: Path, output: Path) -> None:
    """Quantise by NNCF's post-training quantisation with its defaults; the head is left out."""
    import nncf
    import openvino

    graph = openvino.Core().read_model(model)
    graph.reshape({"image": [1, 256, 256, 3]})
    head = [node.get_friendly_name() for node in graph.get_ops() if node.get_friendly_name().startswith("head/")]
    quantised = nncf.quantize(
        graph, nncf.Dataset(list(frames(folder))), ignored_scope=nncf.IgnoredScope(names=head, validate=False)
    )
    openvino.save_model(quantised, output)


def by_modelopt(model: Path, folder: Path, output: Path) -> None:
    """Quantise to symmetric int8 as TensorRT takes it, calibrated by entropy, ModelOpt's default; without the head.

    The file keeps the metadata of ours.
    """
    import onnx
    from modelopt.onnx.quantization import quantize

    ours = onnx.load(model)
    head = [node.name for node in ours.graph.node if node.name.startswith(("head/", "anomaly", "score"))]
    images = np.concatenate(list(frames(folder)))
    quantize(
        str(model), quantize_mode="int8", calibration_data={"image": images}, nodes_to_exclude=head,
        high_precision_dtype="fp32", output_path=str(output),
    )  # fmt: skip
    quantised = onnx.load(output)
    del quantised.metadata_props[:]
    quantised.metadata_props.extend(ours.metadata_props)
    onnx.save(quantised, output)


if __name__ == "__main__":
    tool, *paths = sys.argv[1:]
    {"onnxruntime": by_onnxruntime, "nncf": by_nncf, "modelopt": by_modelopt}[tool](*map(Path, paths))
