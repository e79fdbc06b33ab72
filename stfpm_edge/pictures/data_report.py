"""Inspects the pictures of a training or calibration before they are used: what was found, and what is doubtful.

`read_good_images` reads each picture once, as training does anyway, and keeps a few facts of each. `doubts` names what
is probably a mistake, each with its remedy; `docs/training.md` lists the rules.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from stfpm_runtime.dataset.folder_names import NOT_GOOD_WORDS, suspect_folders, words_of
from stfpm_runtime.errors import DataError, name_some
from stfpm_runtime.files import sha256
from stfpm_runtime.imaging.images import SUFFIXES, survey_folder, why_left_out
from stfpm_runtime.imaging.preprocessing import Image

from .data import find_good_images, read_images
from .picture_facts import DataReport, Picture, picture_facts

MIN_PICTURES = 10
"""Fewer pictures to train on, those held out included, are doubtful."""
MAX_DUPLICATE_SHARE = 0.1
"""A larger share of pictures that repeat another one is doubtful."""
SIZE_TOLERANCE = 0.1
"""Sides and aspect ratios that differ by a larger share are mixed."""
MAX_SIZE_SHARE = 0.5
"""With more sizes than this share of the pictures they are taken for crops, whose sizes differ by their nature."""
ASPECT_FACTOR = 1.5
"""A warning is given where the input's aspect ratio differs from the pictures' by more than this factor."""
UNREAD_SUFFIXES = {
    ".apng", ".arw", ".avif", ".avi", ".cr2", ".dib", ".dng", ".exr", ".gif", ".hdr", ".heic", ".heif", ".j2k", ".jfif",
    ".jp2", ".jpe", ".jxl", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mpo", ".nef", ".npy", ".npz", ".pbm",
    ".pfm", ".pnm", ".psd", ".ras", ".raw", ".sr", ".ts", ".webm", ".wmv",
} - set(SUFFIXES)  # fmt: skip
"""Suffixes of pictures and videos that are left out; their pictures are missed in training."""


def read_good_images(
    folder: Path,
    height: int,
    width: int,
    report: Callable[[str], None],
    *,
    bits: int | None = None,
    paths: Sequence[Path] | None = None,
    skip_unreadable: bool = False,
    accept_doubtful: bool = False,
    least: int = MIN_PICTURES,
    checks_size: bool = True,
) -> tuple[Image, list[Path], DataReport]:
    """Read good pictures and inspect them: uint8 [N, height, width, 3], BGR, the paths of those read, and the report.

    `bits` is the number of bits that the values of 16-bit pictures use, see `preprocessing.to_bgr8`.
    `paths` names the pictures; None searches `folder` for them. `report` gets the table, warnings and doubts as lines
    for a person. Raises DataError for pictures that cannot be read unless they may be skipped, and for doubtful data
    unless it is accepted. Fewer pictures than `least` are doubtful. `checks_size` warns of an input size that does not
    fit.
    """
    facts: list[Picture] = []
    chosen = find_good_images(folder) if paths is None else list(paths)
    root = folder / "train" / "good" if paths is None and (folder / "train" / "good").is_dir() else folder
    images, read = read_images(
        chosen, height, width, bits=bits, skip_unreadable=skip_unreadable, report=report,
        on_read=lambda path, frame: facts.append(picture_facts(path, frame, _relative(path, root), bits)),
    )  # fmt: skip
    unreadable = tuple(_relative(path, root) for path in sorted(set(chosen) - set(read)))
    unopened, suffixes = left_out(root) if paths is None else ((), ())
    found = DataReport(root, tuple(facts), unreadable, unopened, suffixes, files_sha256(chosen))
    report(table_text(found))
    if checks_size and (warning := size_warning(found, height, width)):
        report(f"warning: {warning}")
    doubtful = doubts(found, least)
    for doubt in doubtful:
        report(f"{'accepted' if accept_doubtful else 'doubtful'}: {doubt}")
    if doubtful and not accept_doubtful:
        others = f" (and {len(doubtful) - 1} more, named above)" if len(doubtful) > 1 else ""
        raise DataError(f"{folder}: doubtful pictures: {doubtful[0]}{others}; if all of it is meant, add --accept-data")
    return images, read, found


def files_sha256(paths: Iterable[Path]) -> str:
    """Return the SHA-256 over the contents of files, in their order, in hexadecimal; what cannot be read is empty."""
    digest = hashlib.sha256()
    for path in paths:
        with contextlib.suppress(OSError):
            digest.update(sha256(path).encode())
    return digest.hexdigest()


def left_out(folder: Path) -> tuple[tuple[str, ...], tuple[tuple[str, int], ...]]:
    """Return what the search below `folder` leaves out: (what cannot be opened, (suffix, count) of other files)."""
    unopened: list[str] = []
    suffixes: Counter[str] = Counter()
    for path, reason in survey_folder(folder).left_out.items():
        if reason == why_left_out(path):
            suffixes[path.suffix.lower() or "no suffix"] += 1
        else:
            unopened.append(f"{_relative(path, folder)} ({reason})")
    return tuple(sorted(unopened)), tuple(sorted(suffixes.items()))


def doubts(found: DataReport, least: int = MIN_PICTURES) -> list[str]:
    """Return what is doubtful about the data as sentences, each with its remedy; an empty list is sound data."""
    result = [doubt for rule in (_layout, _left_out, _mixture, _contents) for doubt in rule(found)]
    if len(found.pictures) < least:
        result.append(f"{len(found.pictures)} pictures are few; take {least} or more of good parts, better 100")
    return result


def size_warning(found: DataReport, height: int, width: int) -> str | None:
    """Return a warning where an input of height x width pixels distorts the pictures much, or each in another way."""
    if _are_crops(found):
        return (
            f"pictures of {len(found.sizes)} sizes, taken for crops: an input of {width}x{height} distorts each in "
            "another way; crop them alike where that is possible"
        )
    (columns, rows), _ = found.sizes.most_common(1)[0]
    factor = (width / height) / (columns / rows)
    if 1 / ASPECT_FACTOR <= factor <= ASPECT_FACTOR:
        return None
    scale = min(1.0, (width * height / (columns * rows)) ** 0.5)
    fitting = "x".join(str(max(32, round(side * scale / 32) * 32)) for side in (columns, rows))
    stretch = max(factor, 1 / factor)
    return (
        f"pictures of {columns}x{rows} pixels are distorted {stretch:.1f} times by an input of {width}x{height}; "
        f"--size {fitting} has about their aspect ratio"
    )


def table_text(found: DataReport) -> str:
    """Return the report as a table of two columns for a person."""
    table = Table.grid(padding=(0, 2))
    for name, value in _rows(found):
        table.add_row(f"  {name}", value)
    console = Console(file=io.StringIO(), width=110)
    with console.capture() as capture:
        console.print(table)
    lines = (line.rstrip() for line in capture.get().splitlines())
    return "\n".join([f"{found.folder}: {len(found.pictures)} pictures", *lines])


def _rows(found: DataReport) -> list[tuple[str, str]]:
    rows = [
        ("folders", _counts(found.folders)),
        ("sizes, in pixels", _counts({f"{width}x{height}": n for (width, height), n in found.sizes.most_common()})),
        ("bit depth, colour", _counts(found.kinds)),
        ("exact duplicates", _names(found.duplicates)),
        ("near-black", _names(found.named("is_near_black"))),
        ("constant", _names(found.named("is_constant"))),
        ("unreadable, left out", _names(found.unreadable)),
        ("cannot be opened, left out", _names(found.unopened)),
        ("other suffixes, left out", _counts(dict(found.other_suffixes))),
    ]
    return [(name, value or "none") for name, value in rows]


def _layout(found: DataReport) -> Iterable[str]:
    remedy = "give the folder that holds good pictures alone as DATA"
    own_name = found.folder.resolve().name
    if own_name.casefold() in NOT_GOOD_WORDS:
        yield f"the folder is named {own_name}, like defects or masks; {remedy}"
    suspects = suspect_folders(found.folders)
    if suspects:
        listed = _counts({name: count for name, count in sorted(found.folders.items()) if name in suspects})
        yield f"folders named like defects or masks, or next to a folder of good pictures: {listed}; {remedy}"
    if named := [p.path for p in found.pictures if words_of(Path(p.path).stem) & NOT_GOOD_WORDS]:
        yield f"pictures with file names like defects or masks: {_names(named)}; move them out of the folder"
    if masks := found.named("has_two_levels"):
        yield f"pictures of two grey levels only, like masks: {_names(masks)}; move them out of the folder"


def _left_out(found: DataReport) -> Iterable[str]:
    if found.unopened:
        yield f"files or folders that cannot be opened: {_names(found.unopened)}; repair or remove them"
    if unread := {suffix: count for suffix, count in found.other_suffixes if suffix in UNREAD_SUFFIXES}:
        yield f"files with suffixes that are not read: {_counts(unread)}; convert them to PNG, or move them out"


def _mixture(found: DataReport) -> Iterable[str]:
    ratios = [width / height for width, height in found.sizes]
    sides = zip(*found.sizes, strict=True)
    listed = _counts({f"{width}x{height}": count for (width, height), count in found.sizes.most_common()})
    if _are_crops(found):
        pass  # a warning says so
    elif max(ratios) > min(ratios) * (1 + SIZE_TOLERANCE):
        yield f"pictures of different aspect ratios: {listed}; crop them alike, or train a model for each"
    elif any(max(side) > min(side) * (1 + SIZE_TOLERANCE) for side in sides):
        yield f"pictures of different sizes: {listed}; take them with the same camera settings"
    if len(found.kinds) > 1:
        yield f"pictures of different bit depths or colours: {_counts(found.kinds)}; take them with the same settings"
    if len(turned := Counter(picture.orientation for picture in found.pictures)) > 1:
        yield (
            f"pictures with different EXIF orientations: {_counts({str(k): n for k, n in turned.items()})}; "
            "turn the pixels and remove the flag"
        )


def _are_crops(found: DataReport) -> bool:
    return len(found.sizes) > max(1, MAX_SIZE_SHARE * len(found.pictures))


def _contents(found: DataReport) -> Iterable[str]:
    deep = [picture.highest for picture in found.pictures if picture.highest is not None]
    if deep and (used := max(deep).bit_length()) < 16:
        yield (
            f"16-bit pictures whose values need {used} bits only (highest {max(deep)} of 65535); "
            f"give the camera's own number of bits, say --bits {used}"
        )
    if len(found.duplicates) > MAX_DUPLICATE_SHARE * len(found.pictures):
        yield (
            f"{len(found.duplicates)} of {len(found.pictures)} pictures repeat another one exactly: "
            f"{_names(found.duplicates)}; look whether the camera stood still, and remove them"
        )
    for fact, words in (("is_near_black", "near-black"), ("is_constant", "constant")):
        if names := found.named(fact):
            yield f"{words} pictures: {_names(names)}; look at them, and remove them where they show no part"


def _names(names: Sequence[str]) -> str:
    return f"{len(names)}: {name_some(names)}" if names else ""


def _counts(counts: dict[str, int]) -> str:
    return name_some([f"{name} ({count})" for name, count in counts.items()])


def _relative(path: Path, folder: Path) -> str:
    """Return the path relative to the folder where it lies below it, with forward slashes."""
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()
