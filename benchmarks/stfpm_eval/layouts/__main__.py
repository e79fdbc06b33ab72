"""`python -m stfpm_eval.layouts ROOT`: the products of a data set, and each file that does not fit, with its reason."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from stfpm_runtime.cli import run

from . import LAYOUTS, list_layout
from .cifar import unpack_cifar10


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code, 1 where there are misfits."""
    parser = argparse.ArgumentParser(prog="python -m stfpm_eval.layouts", description=__doc__)
    parser.add_argument("root", type=Path, metavar="ROOT", help="the root folder of a data set")
    parser.add_argument("--layout", default="auto", choices=("auto", *LAYOUTS), help="its layout (default: auto)")
    parser.add_argument("--unpack-cifar10", type=Path, metavar="FOLDER", help="write CIFAR-10's pickles as pictures")
    arguments = parser.parse_args(argv)
    if arguments.unpack_cifar10:
        return run(parser.prog, lambda: _unpack(arguments.root, arguments.unpack_cifar10))
    return run(parser.prog, lambda: _show(arguments.root, arguments.layout))


def _unpack(root: Path, target: Path) -> int:
    print(f"{target}: {unpack_cifar10(root, target)} pictures")
    return 0


def _show(root: Path, layout: str) -> int:
    listing = list_layout(root, layout)
    print(f"{root}: layout {listing.layout}, {len(listing.products)} products")
    for product in listing.products:
        samples = product.category.samples
        defective = sum(sample.is_defective for sample in samples)
        masks = "with masks" if product.category.has_masks else "no masks"
        print(f"  {product.name}: {len(product.train)} to train on, {len(samples) - defective} good and "
              f"{defective} defective to judge, {masks}")  # fmt: skip
    for line in listing.misfits:
        print(f"  misfit: {line}")
    return 1 if listing.misfits else 0


if __name__ == "__main__":
    sys.exit(main())
