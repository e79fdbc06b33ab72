"""Inside the emulated machine: golden results, then pictures. argv: folder of pictures, models; JSON on stdout."""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path

import cv2
import numpy as np
import onnxruntime

from stfpm_runtime import Detector, open_engine
from stfpm_runtime.artifact.golden import golden_path, load_golden
from stfpm_runtime.artifact.parity import measure_parity
from stfpm_runtime.imaging.images import read_image


def main(folder: Path, models: list[Path]) -> None:
    """One object: the machine, and for each model its parity and its verdicts."""
    versions = {module.__name__: module.__version__ for module in (np, cv2, onnxruntime)}
    result = {"machine": platform.machine(), "python": platform.python_version(), **versions, "models": {}}
    for path in models:
        engine = open_engine(path, "cpu", threads=1)
        found = measure_parity(engine.infer, load_golden(golden_path(path)), engine.spec)
        verdicts = [Detector(engine).inspect(read_image(picture)) for picture in sorted(folder.iterdir())]
        result["models"][path.name] = {
            "precision": engine.spec.precision,
            "map_max_error": found.map_max_error,
            "golden_images": found.images,
            "golden_flips": found.verdict_flips,
            "decisions": [verdict.decision for verdict in verdicts],
            "scores": [verdict.score for verdict in verdicts],
        }
    print(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(argument) for argument in sys.argv[2:]])
