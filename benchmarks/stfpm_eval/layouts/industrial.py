"""MVTec AD (and everything laid out like it), VisA, BTAD, MVTec LOCO and MVTec AD 2, as their authors publish them."""

from __future__ import annotations

import csv
from pathlib import Path

from stfpm_eval.data import GOOD, Sample
from stfpm_runtime.errors import DataError

from .base import Listing, check_folders, folders, good_samples, pair, pictures

VISA_SPLIT = Path("split_csv", "1cls.csv")
VISA_COLUMNS = ("object", "split", "label", "image", "mask")
LOCO_ANOMALIES = ("logical_anomalies", "structural_anomalies")


def list_mvtec_ad(root: Path) -> Listing:
    """List train/good, test/good, test/DEFECT and ground_truth/DEFECT/NAME_mask.png; the last may be missing."""
    listing = Listing("mvtec-ad", root)
    for category in _folders_with(root, "train/good") or _folders_with(root, "test"):
        truth = category / "ground_truth"
        check_folders(listing, category, {"train", "test", "ground_truth"})
        check_folders(listing, category / "train", {GOOD})
        samples = good_samples(pictures(category / "test" / GOOD))
        kinds = [folder for folder in folders(category / "test") if folder.name != GOOD]
        listing.misfits += [f"{path}: lies in test/ itself; expected test/{GOOD} or test/DEFECT"
                            for path in pictures(category / "test")]  # fmt: skip
        for kind in kinds:
            if truth.is_dir():
                samples += pair(listing, kind.name, pictures(kind), truth / kind.name, lambda path: f"{path.stem}_mask")
            else:
                samples += [Sample(image, kind.name) for image in pictures(kind)]
        if truth.is_dir():
            check_folders(listing, truth, {GOOD, *(kind.name for kind in kinds)})
        listing.add(_name(category), category, pictures(category / "train" / GOOD), samples, has_masks=truth.is_dir())
    return listing


def list_btad(root: Path) -> Listing:
    """List train/ok, test/ok, test/ko, and ground_truth/ko with masks of the images' names."""
    listing = Listing("btad", root)
    for product in _folders_with(root, "train/ok"):
        check_folders(listing, product, {"train", "test", "ground_truth"})
        check_folders(listing, product / "test", {"ok", "ko"})
        defective = pictures(product / "test" / "ko")
        samples = good_samples(pictures(product / "test" / "ok"))
        samples += pair(listing, "ko", defective, product / "ground_truth" / "ko", lambda path: path.stem)
        listing.add(_name(product), product, pictures(product / "train" / "ok"), samples, has_masks=True)
    return listing


def list_mvtec_loco(root: Path) -> Listing:
    """List train/good, test/good, test/{logical,structural}_anomalies and ground_truth/KIND/NAME/000.png and on.

    An image may have several masks, whose defective pixels have any value above 0: their union is the truth here.
    validation/good is left alone: the held-out images come from train/good, as the paper does it.
    """
    listing = Listing("mvtec-loco", root)
    for category in _folders_with(root, "train/good"):
        check_folders(listing, category, {"train", "validation", "test", "ground_truth"})
        check_folders(listing, category / "test", {GOOD, *LOCO_ANOMALIES})
        samples = good_samples(pictures(category / "test" / GOOD))
        for kind in LOCO_ANOMALIES:
            samples += _loco_pairs(listing, category, kind)
        listing.add(_name(category), category, pictures(category / "train" / GOOD), samples, has_masks=True)
    return listing


def _loco_pairs(listing: Listing, category: Path, kind: str) -> list[Sample]:
    truth = category / "ground_truth" / kind
    masks = {folder.name: pictures(folder) for folder in folders(truth)}
    samples = []
    for image in pictures(category / "test" / kind):
        if first := masks.pop(image.stem, []):
            samples.append(Sample(image, kind, first[0], tuple(first[1:])))
        else:
            listing.misfits.append(f"{image}: has no mask; expected {truth / image.stem}/000.png")
    listing.misfits += [f"{truth / name}: masks of no image; remove them, or bring their image" for name in masks]
    return samples


def list_mvtec_ad2(root: Path) -> Listing:
    """List train/good, test_public/{good,bad} and test_public/ground_truth/bad/NAME_mask.png.

    The private test images have no labels here, and validation/good is left alone, as in MVTec LOCO.
    """
    listing = Listing("mvtec-ad2", root)
    for category in _folders_with(root, "test_public"):
        check_folders(listing, category, {"train", "validation", "test_public", "test_private", "test_private_mixed"})
        public = category / "test_public"
        check_folders(listing, public, {GOOD, "bad", "ground_truth"})
        masks, bad = public / "ground_truth" / "bad", pictures(public / "bad")
        samples = good_samples(pictures(public / GOOD))
        samples += pair(listing, "bad", bad, masks, lambda path: f"{path.stem}_mask")
        listing.add(_name(category), category, pictures(category / "train" / GOOD), samples, has_masks=True)
    return listing


def list_visa(root: Path) -> Listing:
    """List the files in OBJECT/Data/Images by their labels in split_csv/1cls.csv."""
    listing, train, samples = Listing("visa", root), dict[str, list[Path]](), dict[str, list[Sample]]()
    for number, row in _visa_rows(root / VISA_SPLIT):
        image, line = root / row["image"], f"{root / VISA_SPLIT}, line {number}"
        name, split, label = row["object"], row["split"], row["label"]
        if split not in ("train", "test") or label not in ("normal", "anomaly") or (split, label) == (
            "train", "anomaly",
        ):  # fmt: skip
            listing.misfits.append(f"{line}: got {split} {label}; expected train normal, test normal or test anomaly")
        elif not image.is_file():
            listing.misfits.append(f"{image}: missing; {line} names it, unpack the data set again")
        elif split == "train":
            train.setdefault(name, []).append(image)
        elif label == "normal":
            samples.setdefault(name, []).append(Sample(image, GOOD))
        elif not row["mask"] or not (root / row["mask"]).is_file():
            listing.misfits.append(f"{image}: has no mask; {line} names {row['mask'] or 'none'}")
        else:
            samples.setdefault(name, []).append(Sample(image, label, root / row["mask"]))
    for name in sorted({*train, *samples}):
        listing.add(name, root / name, train.get(name, []), samples.get(name, []), has_masks=True)
    return listing


def _visa_rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); expected VisA's split file") from None
    reader = csv.DictReader(text.splitlines())
    if missing := [name for name in VISA_COLUMNS if name not in (reader.fieldnames or ())]:
        raise DataError(f"{path}: has no column {missing[0]}; expected {', '.join(VISA_COLUMNS)}")
    return [(number, {name: row[name] or "" for name in VISA_COLUMNS}) for number, row in enumerate(reader, start=2)]


def _folders_with(root: Path, part: str) -> list[Path]:
    """Return the root, where it has the part itself, or else those folders in it that have."""
    return [root] if (root / part).is_dir() else [folder for folder in folders(root) if (folder / part).is_dir()]


def _name(folder: Path) -> str:
    return folder.resolve().name
