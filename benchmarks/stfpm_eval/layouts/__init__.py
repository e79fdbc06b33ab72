"""Public data sets in their published layouts: a root is given, nothing is downloaded and nothing rearranged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from stfpm_runtime.errors import DataError, OptionError

from .base import Listing, Product
from .cifar import ARCHIVE, list_cifar10
from .industrial import list_btad, list_mvtec_ad, list_mvtec_ad2, list_mvtec_loco, list_visa
from .shanghaitech import list_shanghaitech

LAYOUTS: dict[str, tuple[Callable[[Path], Listing], tuple[str, ...]]] = {
    "visa": (list_visa, ("split_csv/1cls.csv",)),
    "btad": (list_btad, ("train/ok", "*/train/ok")),
    "mvtec-loco": (list_mvtec_loco, ("test/*_anomalies", "*/test/*_anomalies")),
    "mvtec-ad2": (list_mvtec_ad2, ("test_public", "*/test_public")),
    "shanghaitech": (list_shanghaitech, ("testing/test_frame_mask",)),
    "cifar10": (list_cifar10, (ARCHIVE, "train/airplane")),
    "mvtec-ad": (list_mvtec_ad, ("train/good", "*/train/good")),
}
"""Lister of each layout, and the paths of which its root has one. `mvtec-ad` is the most general, so the last."""


def list_layout(root: Path, layout: str = "auto") -> Listing:
    """Return what a root holds, misfits included; no picture is opened.

    Raises OptionError for an unknown layout, DataError for a root that is missing or that no layout recognises.
    """
    if layout not in ("auto", *LAYOUTS):
        raise OptionError(f"got layout {layout!r}; expected auto or one of {', '.join(LAYOUTS)}")
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected the root of a data set")
    if layout != "auto":
        return LAYOUTS[layout][0](root)
    for lister, patterns in LAYOUTS.values():
        if any(any(root.glob(pattern)) for pattern in patterns):
            return lister(root)
    found = ", ".join(sorted(path.name for path in root.iterdir())[:8]) or "nothing"
    raise DataError(f"{root}: no layout of {', '.join(LAYOUTS)}; it holds {found}, expected a data set's own root")


def find_products(root: Path, layout: str = "auto", only: str = "") -> list[Product]:
    """Return the products of a data set, sorted; the one named `only`, where that is not empty.

    With `only`, misfits of other products are left out. Raises what `list_layout` and `Listing.check` do.
    """
    listing = list_layout(root, layout)
    if not only:
        return listing.check()
    products = [product for product in listing.products if product.name == only]
    folders = {str(root / only), *(str(product.category.folder) for product in products)}
    ours = [line for line in listing.misfits if any(line.startswith((f"{f}/", f"{f}:")) for f in folders)]
    if not products and not ours:
        names = ", ".join(product.name for product in listing.products) or "none"
        raise DataError(f"{root}: no product named {only}; it holds {names}")
    return replace(listing, products=products, misfits=ours).check()
