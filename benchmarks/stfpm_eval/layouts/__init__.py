"""Public data sets in their published layouts: a root is given, nothing is downloaded and nothing rearranged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from stfpm_runtime.errors import DataError, OptionError

from .base import Listing, Product
from .cifar import is_cifar10, list_cifar10
from .industrial import (  # fmt: skip
    is_btad,
    is_mvtec_ad,
    is_mvtec_ad2,
    is_mvtec_loco,
    is_visa,
    list_btad,
    list_mvtec_ad,
    list_mvtec_ad2,
    list_mvtec_loco,
    list_visa,
)
from .shanghaitech import is_shanghaitech, list_shanghaitech

LAYOUTS: dict[str, tuple[Callable[[Path], bool], Callable[[Path], Listing]]] = {
    "visa": (is_visa, list_visa),
    "btad": (is_btad, list_btad),
    "mvtec-loco": (is_mvtec_loco, list_mvtec_loco),
    "mvtec-ad2": (is_mvtec_ad2, list_mvtec_ad2),
    "shanghaitech": (is_shanghaitech, list_shanghaitech),
    "cifar10": (is_cifar10, list_cifar10),
    "mvtec-ad": (is_mvtec_ad, list_mvtec_ad),
}
"""By name: whether a root looks like it, and what it holds. `mvtec-ad` is the generic one, so it is asked last."""


def list_layout(root: Path, layout: str = "auto") -> Listing:
    """What a root holds, misfits included; no picture is opened.

    Raises OptionError for an unknown layout, DataError for a root that is missing or that no layout recognises.
    """
    if layout not in ("auto", *LAYOUTS):
        raise OptionError(f"got layout {layout!r}; expected auto or one of {', '.join(LAYOUTS)}")
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected the root of a data set")
    if layout != "auto":
        return LAYOUTS[layout][1](root)
    for looks_like, lister in LAYOUTS.values():
        if looks_like(root):
            return lister(root)
    found = ", ".join(sorted(path.name for path in root.iterdir())[:8]) or "nothing"
    raise DataError(f"{root}: no layout of {', '.join(LAYOUTS)}; it holds {found}, expected a data set's own root")


def find_products(root: Path, layout: str = "auto", only: str = "") -> list[Product]:
    """The products of a data set, sorted; the one named `only`, where that is not empty.

    With `only`, misfits of other products do no harm. Raises what `list_layout` and `Listing.check` do.
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
