"""Figure 1 (each block's map and the result) and Figure 3 (t-SNE of teacher's and student's features)."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from stfpm_edge.checkpoint import Checkpoint
from stfpm_edge.model import anomaly_map, distance, normalise_images, unit
from stfpm_eval.data import Sample, sample_mask
from stfpm_eval.masks import Mask, resize_mask
from stfpm_runtime.errors import MissingExtraError
from stfpm_runtime.imaging.images import read_image
from stfpm_runtime.imaging.preprocessing import Image, preprocess

try:
    from sklearn.manifold import TSNE
except ImportError:
    raise MissingExtraError("scikit-learn", "paper") from None

GAP = 4
"""Pixels between two panels."""
CAPTION = 22
"""Height of a panel's caption, in pixels."""
PLOT = 640
"""Side of Figure 3's plot, in pixels."""
COLOURS = {"teacher, normal": (200, 120, 40), "student, normal": (80, 170, 60), "teacher, defective": (40, 60, 220),
           "student, defective": (20, 160, 250)}  # fmt: skip
"""BGR."""
POINTS = 400
"""Positions of each kind that Figure 3 shows, at the most."""


@torch.inference_mode()
def block_maps(checkpoint: Checkpoint, image: Image) -> tuple[list[npt.NDArray[np.float32]], npt.NDArray[np.float32]]:
    """Return each block's map float32 [H, W] at the image's size, and their product, of an image uint8 [H, W, 3]."""
    x = normalise_images(torch.from_numpy(image[None]), checkpoint.spec.channel_order)
    pairs = zip(checkpoint.teacher(x), checkpoint.student(x), strict=True)
    distances = [distance(unit(teacher), unit(student)) for teacher, student in pairs]
    size = image.shape[0], image.shape[1]
    return [anomaly_map([one], *size)[0].numpy() for one in distances], anomaly_map(distances, *size)[0].numpy()


def figure1(checkpoint: Checkpoint, samples: list[Sample]) -> Image:
    """Draw a row for each sample: image, truth, a map for each block, their product, each on its own scale."""
    rows = []
    for sample in samples:
        image, mask = _prepared(checkpoint, sample)
        blocks, product = block_maps(checkpoint, image)
        truth = np.repeat((mask * np.uint8(255))[:, :, None], 3, axis=2)
        panels = [(f"{sample.kind}", image), ("truth", truth)]
        names = [f"conv{block}_x" for block in checkpoint.spec.blocks]
        panels += [(name, _heat(one)) for name, one in zip([*names, "product"], [*blocks, product], strict=True)]
        rows.append(np.concatenate([_panel(name, picture) for name, picture in panels], axis=1))
    return np.concatenate(rows)


@torch.inference_mode()
def figure3(checkpoint: Checkpoint, sample: Sample, block: int, seed: int = 0) -> Image:
    """Draw teacher's and student's unit features of one block at the positions of a defective image, by t-SNE.

    A position is defective where most of its pixels are. On normal positions the two should lie together, on defective
    ones apart.
    """
    image, mask = _prepared(checkpoint, sample)
    x = normalise_images(torch.from_numpy(image[None]), checkpoint.spec.channel_order)
    place = checkpoint.spec.blocks.index(block)
    teacher, student = (unit(network(x)[place])[0].flatten(1).T.numpy()
                        for network in (checkpoint.teacher, checkpoint.student))  # fmt: skip
    cells = -(-image.shape[0] // 2**block), -(-image.shape[1] // 2**block)
    share = cv2.resize(mask.astype(np.float32), cells[::-1], interpolation=cv2.INTER_AREA)
    is_defective = share.ravel() > 0.5
    rng = np.random.default_rng(seed)
    chosen = [rng.permutation(np.flatnonzero(flags))[:POINTS] for flags in (~is_defective, is_defective)]
    groups = [network[some] for some in chosen for network in (teacher, student)]
    points = TSNE(random_state=seed, init="pca").fit_transform(np.concatenate(groups))
    return _scatter(points, [len(group) for group in groups])


def _scatter(points: npt.NDArray[np.float32], counts: list[int]) -> Image:
    """Draw points [N, 2] in groups of these sizes, in the order of COLOURS."""
    low, high = points.min(axis=0), points.max(axis=0)
    places = ((points - low) / np.maximum(high - low, 1e-6) * (PLOT - 40) + 20).astype(int)
    plot = np.full((PLOT + CAPTION * 2, PLOT, 3), 255, np.uint8)
    ends = np.cumsum(counts)
    for number, ((name, colour), end, count) in enumerate(zip(COLOURS.items(), ends, counts, strict=True)):
        for x, y in places[end - count : end]:
            cv2.circle(plot, (int(x), int(y)), 3, colour, -1, cv2.LINE_AA)
        at = (20 + (number % 2) * PLOT // 2, PLOT + 14 + CAPTION * (number // 2))
        cv2.circle(plot, (at[0] - 8, at[1] - 5), 5, colour, -1, cv2.LINE_AA)
        cv2.putText(plot, f"{name} ({count})", at, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    return plot


def _prepared(checkpoint: Checkpoint, sample: Sample) -> tuple[Image, Mask]:
    """Return an image and its mask at the model's size."""
    spec = checkpoint.spec
    whole = read_image(sample.image, bits=spec.bits)
    mask = resize_mask(sample_mask(sample, whole.shape[0], whole.shape[1]), spec.height, spec.width)
    return preprocess(whole, spec.height, spec.width), mask


def _heat(one: npt.NDArray[np.float32]) -> Image:
    levels = (255 * (one - one.min()) / max(float(one.max() - one.min()), 1e-12)).astype(np.uint8)
    return np.asarray(cv2.applyColorMap(levels, cv2.COLORMAP_JET), np.uint8)


def _panel(name: str, picture: Image) -> Image:
    panel = np.full((picture.shape[0] + CAPTION + GAP, picture.shape[1] + GAP, 3), 255, np.uint8)
    panel[CAPTION : CAPTION + picture.shape[0], : picture.shape[1]] = picture
    cv2.putText(panel, name, (2, CAPTION - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    return panel


def write_figure(picture: Image, path: Path) -> None:
    """Write a PNG file atomically."""
    from stfpm_runtime.files import atomic_path

    with atomic_path(path) as unfinished:
        unfinished.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
