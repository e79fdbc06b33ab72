"""The input size of a product, chosen from its good pictures before any training.

Synthetic defects of the smallest size that matters are drawn into the pictures as they are in the files, and good and
defective pictures are resized to each candidate. The teacher alone then tells how well the defects can be seen: the
distance of a feature is that to the nearest of `BANK` features, drawn at random from other good pictures (after
PatchCore, Roth et al., CVPR 2022). The map and its division by what is usual at each place are those of the detector.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from stfpm_runtime.errors import DataError, OptionError
from stfpm_runtime.imaging.images import read_image
from stfpm_runtime.imaging.preprocessing import Image, preprocess

from .calibration.head import GOOD_QUANTILE, auroc, usual_values
from .calibration.threshold import subsample_evenly
from .epochs import Reporter
from .model import Head, Stfpm, anomaly_map, normalise_images, unit
from .networks import Pyramid, new_student
from .options import TrainOptions
from .pictures.synthetic_defects import KINDS, draw_defects

SHORT_SIDES = (256, 320, 384, 512)
"""Short sides of the candidates, in pixels."""
STRIDE = 32
"""Both sides of an input are multiples of it, in pixels."""
MAX_PICTURES = 40
"""Good pictures that are used, at the most."""
DEFECTS = 160
"""About so many synthetic defects are drawn."""
MAX_PIXELS = 4_000_000
"""Larger pictures are halved before defects are drawn, as long as each candidate would halve them anyway."""
BANK = 2000
"""Features of good pictures that a feature is compared with, in each block."""
FLOORS = (0.9, 0.5, 0.0)
"""Strengths of the division by what is usual at each place, see `head.usual_values`; the best one counts."""
MARGIN = 0.02
"""The smallest candidate is chosen whose AUROC is at most so much lower than the best one's."""
MIN_AUROC = 0.7
"""Below it the defects are hardly seen."""
RUNS = 7
"""Runs of the network whose median is its time."""


@dataclass
class SizeCandidate:
    """An input size, and how well synthetic defects are seen at it."""

    width: int
    """In pixels, as the height."""
    height: int
    pytorch_ms: float
    """Time of the detector in PyTorch for one picture on this machine, in milliseconds."""
    auroc: float | None = None
    """The AUROC of pictures with synthetic defects against good ones; None: the time is over the budget."""
    found: float | None = None
    """The share of the defects whose score is above that of 95% of the good pictures."""

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


def candidate_sizes(pictures: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the sizes (width, height) to compare, for pictures of (width, height), all in pixels.

    They have the pictures' median aspect ratio and no side longer than a picture of that ratio and of the median number
    of pixels has. Where `SHORT_SIDES` are all longer there is one, about as large as the pictures; no side is below 32.
    """
    ratio = float(np.median([width / height for width, height in pictures]))
    pixels = float(np.median([width * height for width, height in pictures]))
    sides = round((pixels * ratio) ** 0.5), round((pixels / ratio) ** 0.5)
    short, long = min(sides), max(sides)
    result = []
    for side in [side for side in SHORT_SIDES if side <= short] or [_floor(short)]:
        other = min(round(side * long / short / STRIDE) * STRIDE, _floor(long))
        result.append((other, side) if sides[0] > sides[1] else (side, other))
    return result


def choose_size(
    teacher: Pyramid, paths: Sequence[Path], options: TrainOptions, reporter: Reporter
) -> dict[str, object]:
    """Return the width and height in pixels for a product, the reason and what was measured, as plain JSON data.

    `paths` are good pictures that can be read; `options.smallest_defect` is the size of the defects. The same pictures
    give the same size, but for times near `options.budget_ms`. Raise DataError for fewer than 2 pictures, and
    OptionError where the smallest candidate takes longer than the budget.
    """
    share = options.smallest_defect
    assert share is not None, "the size is to be chosen"
    if len(paths) < 2:
        raise DataError(f"{options.data}: got {len(paths)} pictures to choose the size; expected 2 or more")
    paths = subsample_evenly(paths, MAX_PICTURES)
    shapes = [read_image(path, bits=options.bits).shape for path in paths]
    sizes = candidate_sizes([(shape[1], shape[0]) for shape in shapes])
    candidates = [SizeCandidate(*size, _milliseconds(teacher, *size, options)) for size in sizes]
    within = [one for one in candidates if options.budget_ms is None or one.pytorch_ms <= options.budget_ms]
    if not within:
        raise OptionError(
            f"got --budget-ms {options.budget_ms:g}; the smallest input, {candidates[0]}, takes "
            f"{candidates[0].pytorch_ms:.1f} ms in PyTorch here; expected a larger budget, or a smaller fixed --size"
        )
    _measure(teacher, paths, within, share, options, lambda done, total: reporter.step("input size", done, total))
    best = max(one.auroc or 0.0 for one in within)
    chosen = next(one for one in within if (one.auroc or 0.0) >= best - MARGIN)
    reason = (
        "the only one" if len(within) == 1 else f"the smallest with an AUROC within {MARGIN} of the best, {best:.3f}"
    )
    middle = sorted(shapes, key=lambda shape: shape[0] * shape[1])[len(shapes) // 2]
    defect = f"{share:.1%} of the long side, {share * max(middle):.0f} of {max(middle)} pixels"
    reporter.say(f"defects of {defect}, drawn into {len(paths)} pictures, as far as the teacher alone sees them:")
    reporter.say("  input        ms in PyTorch   AUROC   found")
    for one in candidates:
        seen = "above the budget" if one.auroc is None else f"{one.auroc:5.3f}   {one.found or 0:5.0%}"
        reporter.say(f"  {one!s:12} {one.pytorch_ms:13.1f}   {seen}")
    reporter.say(f"input size: {chosen}, {reason}")
    if best < MIN_AUROC:
        reporter.say(
            f"warning: defects of {defect}, are hardly seen at any of these sizes (AUROC {best:.3f} at best). More "
            "pixels of the part (a closer view, a better camera), steadier light and position, or a larger --budget-ms "
            "may help. Larger defects are seen better (--smallest-defect)"
        )
    return {
        "width": chosen.width, "height": chosen.height, "reason": reason, "smallest_defect": share,
        "budget_ms": options.budget_ms, "pictures": len(paths), "candidates": [asdict(one) for one in candidates],
    }  # fmt: skip


def _floor(side: int) -> int:
    return max(side // STRIDE * STRIDE, STRIDE)


def _milliseconds(teacher: Pyramid, width: int, height: int, options: TrainOptions) -> float:
    """Return the median time of the detector for one picture, in milliseconds, with a student of random weights."""
    device = next(teacher.parameters()).device
    student = new_student(options.backbone, options.blocks, 0, teacher).to(device)
    if options.channels_last:
        student.to(memory_format=torch.channels_last)
    model = Stfpm(teacher, student, head=Head(blur=options.recipe.blur))
    picture = torch.zeros(1, height, width, 3, dtype=torch.uint8, device=device)
    times = []
    with torch.inference_mode():
        for _ in range(RUNS + 1):
            start = time.perf_counter()
            model(picture)[1].item()
            times.append(1000 * (time.perf_counter() - start))
    return round(median(times[1:]), 1)  # the first run also allocates memory


def _measure(
    teacher: Pyramid,
    paths: Sequence[Path],
    candidates: Sequence[SizeCandidate],
    share: float,
    options: TrainOptions,
    report: Callable[[int, int], None],
) -> None:
    """Set AUROC and found share of the candidates. Every other picture is compared with the features of the others."""
    count = max(round(DEFECTS / len(KINDS) / len(paths)), 1)
    total = 2 * len(paths)
    scorers = []
    for number, one in enumerate(candidates, start=1):
        good = [preprocess(read_image(path, bits=options.bits), one.height, one.width) for path in paths]
        scorers.append(_TeacherScores(teacher, good, options.recipe.blur))
        report(len(paths) * number // len(candidates), total)
    bad: list[list[npt.NDArray[np.float32]]] = [[] for _ in candidates]
    for number, path in enumerate(paths):
        frame = halve_large(read_image(path, bits=options.bits), candidates[-1])
        size = share * max(frame.shape[:2]) / min(frame.shape[:2])
        defects = [defect.image for defect in draw_defects([frame], (size,), count, number) if defect.mask.any()]
        for scores, scorer, one in zip(bad, scorers, candidates, strict=True):
            scores += [scorer.scores(preprocess(image, one.height, one.width), number % 2) for image in defects]
        report(len(paths) + number + 1, total)
    for one, scorer, scores in zip(candidates, scorers, bad, strict=True):
        aurocs = [auroc(*pair) for pair in zip(scorer.good.T, np.array(scores).T, strict=True)] if scores else [0.5]
        best = int(np.argmax(aurocs))
        limit = np.quantile(scorer.good[:, best], GOOD_QUANTILE)
        one.auroc = round(aurocs[best], 4)
        one.found = round(float(np.mean([score[best] > limit for score in scores])), 4) if scores else 0.0


def halve_large(frame: Image, largest: SizeCandidate) -> Image:
    """Return a picture of at most about `MAX_PIXELS`, but of no fewer than the largest candidate's."""
    while frame.size > 3 * MAX_PIXELS and frame.shape[0] >= 2 * largest.height and frame.shape[1] >= 2 * largest.width:
        frame = preprocess(frame, frame.shape[0] // 2, frame.shape[1] // 2)
    return frame


class _TeacherScores:
    """Scores of pictures of one size by the teacher's features alone, one for each of `FLOORS`.

    The pictures are in two halves, by turns. A picture of one half is compared with features and usual values of the
    other half's pictures.
    """

    def __init__(self, teacher: Pyramid, good: Sequence[Image], blur: float) -> None:
        """Draw features of good pictures, each uint8 [H, W, 3], and score these pictures: `good` [N, FLOORS]."""
        self._teacher, self._blur = teacher, blur
        self._banks = [self._bank(good[half::2]) for half in (0, 1)]
        maps = [self._map(image, number % 2) for number, image in enumerate(good)]
        means = [np.asarray(torch.stack(maps[half::2]).mean(dim=0).numpy(), np.float32) for half in (0, 1)]
        self._heads = [
            [Head(place_scale=torch.from_numpy(usual_values(mean, floor))) for floor in FLOORS] for mean in means
        ]
        self.good = np.array([self._scores(one, number % 2) for number, one in enumerate(maps)], np.float32)

    def scores(self, image: Image, half: int) -> npt.NDArray[np.float32]:
        """Return the scores [FLOORS] of a picture uint8 [H, W, 3] of one half."""
        return self._scores(self._map(image, half), half)

    def _scores(self, one: Tensor, half: int) -> npt.NDArray[np.float32]:
        heads = self._heads[1 - half]
        return np.array([head.scores(head.adjusted(one[None])).item() for head in heads], np.float32)

    @torch.inference_mode()
    def _bank(self, good: Sequence[Image]) -> list[Tensor]:
        """Return about `BANK` unit features of each block, [n, C], equally many of each picture."""
        random = np.random.default_rng(0)
        drawn = []
        for image in good:
            blocks = [block.flatten(1).T for block in self._features(image)]
            each = max(BANK // len(good), 1)
            drawn.append([block[random.permutation(len(block))[:each]] for block in blocks])
        return [torch.cat(blocks) for blocks in zip(*drawn, strict=True)]

    @torch.inference_mode()
    def _map(self, image: Image, half: int) -> Tensor:
        """Return the map [H, W] on the CPU. Half the squared distance of unit features is 1 less their product."""
        distances = []
        for block, bank in zip(self._features(image), self._banks[1 - half], strict=True):
            nearest = (bank @ block.flatten(1)).amax(dim=0)
            distances.append((1 - nearest).clamp_min(0).reshape(1, *block.shape[1:]))
        return anomaly_map(distances, image.shape[0], image.shape[1], self._blur)[0].cpu()

    def _features(self, image: Image) -> list[Tensor]:
        """Return the unit features of each block, [C, h, w]."""
        x = normalise_images(torch.from_numpy(image[None]).to(next(self._teacher.parameters()).device))
        return [unit(features)[0] for features in self._teacher(x)]
