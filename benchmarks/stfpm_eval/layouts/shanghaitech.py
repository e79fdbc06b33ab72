"""ShanghaiTech Campus, frame by frame: videos of walkways, in which a frame is normal or abnormal."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stfpm_eval.data import GOOD, Sample

from .base import Listing, folders, pictures

KIND = "abnormal"


def list_shanghaitech(root: Path) -> Listing:
    """List training/frames/CLIP/*.jpg, testing/frames/CLIP/*.jpg and testing/test_{frame,pixel}_mask/CLIP.npy.

    The training set is published as videos: its frames have to be extracted first, which the misfit says.
    """
    listing = Listing("shanghaitech", root)
    train = [image for clip in folders(root / "training" / "frames") for image in pictures(clip)]
    if not train and (root / "training" / "videos").is_dir():
        listing.misfits.append(
            f"{root / 'training' / 'videos'}: videos, no frames; extract each to training/frames/CLIP/, "
            "say by ffmpeg -i CLIP.avi training/frames/CLIP/%04d.jpg"
        )
    testing, samples = root / "testing", []
    labels = {path.stem: path for path in sorted((testing / "test_frame_mask").glob("*.npy"))}
    for clip in folders(testing / "frames"):
        label = labels.pop(clip.name, None)
        if label is None:
            wanted = testing / "test_frame_mask" / clip.name
            listing.misfits.append(f"{clip}: a clip without labels; expected {wanted}.npy")
        else:
            samples += _frames(listing, clip, label, testing / "test_pixel_mask" / f"{clip.name}.npy")
    listing.misfits += [f"{path}: labels of no clip; expected {testing / 'frames' / name}"
                        for name, path in labels.items()]  # fmt: skip
    has_masks = (testing / "test_pixel_mask").is_dir()
    listing.add("shanghaitech", root, train, samples, has_masks=has_masks)
    return listing


def _frames(listing: Listing, clip: Path, label: Path, pixels: Path) -> list[Sample]:
    images = pictures(clip)
    try:
        flags = np.load(label, allow_pickle=False)
    except (OSError, ValueError) as error:
        listing.misfits.append(f"{label}: cannot be read as an array ({error}); copy it again")
        return []
    if flags.shape != (len(images),):
        listing.misfits.append(f"{label}: has the shape {list(flags.shape)}; expected one label for each of "
                               f"the {len(images)} frames in {clip}")  # fmt: skip
        return []
    if pixels.parent.is_dir() and not pixels.is_file():
        listing.misfits.append(f"{clip}: has no pixel masks; expected {pixels}")
        return []
    mask = pixels if pixels.is_file() else None
    return [
        Sample(image, KIND, mask, frame=number) if flag else Sample(image, GOOD)
        for number, (image, flag) in enumerate(zip(images, flags, strict=True))
    ]
