"""The chart of `rounds`: what the active model of a line misses and rejects wrongly, over the labels given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from stfpm_runtime.files import atomic_path


def draw(products: dict[str, Any], path: Path) -> None:
    """Draw the shares of missed defects and of false alarms over the labels of each product as a PNG."""
    figure, axes = plt.subplots(1, len(products), figsize=(4.5 * len(products), 3.2), squeeze=False, sharey=True)
    for axis, (name, product) in zip(axes[0], products.items(), strict=True):
        labels = np.cumsum([row["labels"] for row in product["rounds"]])
        for words, wrong, total, marker in (("missed defects", "missed", "defective", "o"),
                                            ("false alarms", "false_alarms", "good", "s")):  # fmt: skip
            axis.plot(labels, [100 * row[wrong] / row[total] for row in product["rounds"]], marker=marker, label=words)
        axis.set(title=name.replace("_", " "), xlabel="labels", ylim=(0, None))
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("% of the pictures that no line has seen")
    axes[0][0].legend()
    figure.tight_layout()
    with atomic_path(path) as unfinished:
        figure.savefig(unfinished, format="png", dpi=120)
