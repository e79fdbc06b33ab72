"""Whether a checkpoint imported by `read_anomalib` is what anomalib computes: one line of JSON on stdout.

Both get the same images, resized our way; the errors are of raw anomaly maps and scores, before anomalib scales them.
`resize_*` says what anomalib's own resize does to the same model's scores: their ratio to ours and rank correlation.
Runs in anomalib's environment with our packages on the path: see setup_anomalib.sh.
"""
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from offline_stfpm import build_stfpm
from scipy.stats import spearmanr

from stfpm_export.anomalib import read_anomalib
from stfpm_runtime.imaging.images import find_images, read_image
from stfpm_runtime.imaging.preprocessing import Image, preprocess


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, metavar="CKPT", help="anomalib's model.ckpt")
    parser.add_argument("images", type=Path, nargs="+", metavar="DIR", help="folders of images")
    arguments = parser.parse_args()
    paths = [path for folder in arguments.images for path in find_images(folder)]
    print(json.dumps(compare(arguments.checkpoint, paths)))


@torch.inference_mode()
def compare(checkpoint: Path, paths: list[Path]) -> dict[str, float]:
    """Return errors over all images, by name."""
    imported = read_anomalib(checkpoint, checkpoint.stem, report=lambda line: print(line, file=sys.stderr))
    ours, spec = imported.model(), imported.spec
    theirs = build_stfpm(checkpoint, spec.height).eval()
    map_errors, peaks, scores, own_scores, resized_scores = [], [], [], [], []
    for path in paths:
        picture = read_image(path)
        frame = preprocess(picture, spec.height, spec.width)
        maps, score = ours(torch.from_numpy(frame).unsqueeze(0))
        own = theirs.model(theirs.pre_processor.transform(as_anomalib(frame)))
        resized = theirs.model(theirs.pre_processor.transform(as_anomalib(picture)))
        map_errors.append(float((own.anomaly_map.squeeze(1) - maps).abs().max()))
        peaks.append(float(maps.max()))
        scores.append(float(score))
        own_scores.append(float(own.pred_score))
        resized_scores.append(float(resized.pred_score))
    ratios: npt.NDArray[np.float64] = np.divide(resized_scores, scores)
    return {
        "images": len(paths),
        "map_max_error": max(map_errors),
        "map_max": max(peaks),
        "score_max_error": float(np.abs(np.subtract(scores, own_scores)).max()),
        "resize_score_ratio_min": float(ratios.min()),
        "resize_score_ratio_max": float(ratios.max()),
        "resize_rank_correlation": float(spearmanr(scores, resized_scores).statistic),
    }


def as_anomalib(image: Image) -> torch.Tensor:
    """Return a picture uint8 [H, W, 3], BGR, as anomalib reads one: float32 [1, 3, H, W], RGB, 0 to 1."""
    return torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1).unsqueeze(0).to(torch.float32) / 255


if __name__ == "__main__":
    main()
