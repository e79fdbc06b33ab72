"""`stfpm-dataset data/bottle line.sqlite --pictures pictures`: labelled parts join a product's data set."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from stfpm_runtime.cli import printable, run
from stfpm_runtime.files import sha256
from stfpm_runtime.imaging.preprocessing import check_bits

from .extend import ExtendOptions, extend
from .manifest import MANIFEST, check_manifest, read_manifest

COMMAND = "stfpm-dataset"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; `argv` is without the command's name."""
    parser = argparse.ArgumentParser(
        prog=COMMAND,
        description="Let the labelled parts of a line join a product's data set: good ones in train/good, defects in "
        "test/KIND, with their origin in manifest.jsonl.",
        epilog="example: stfpm-dataset data/bottle line.sqlite --pictures pictures",
    )
    add = parser.add_argument
    add("data", type=Path, metavar="DATA", help="the folder of the data set, in MVTec AD's layout; it may be new")
    add("journal", type=Path, nargs="?", help="the line's journal; without one the pictures in DATA are entered")
    add("--pictures", type=Path, metavar="DIR", help="the folder of the line's pictures")
    add("--camera", default="", metavar="NAME", help="take the parts of this camera only")
    add("--model", default="", metavar="SHA256",
        help="take the parts that this model has judged only, say of one recipe; its beginning")  # fmt: skip
    add("--good-to", choices=("train", "test"), default="train", help="which good pictures a good part joins (train)")
    add("--bits", type=int, metavar="N", help="the number of bits that 16-bit pictures use, 9 to 16")
    add("--check", action="store_true", help="change nothing: check that every picture is as the manifest says")
    arguments = parser.parse_args(argv)
    if arguments.check and (arguments.journal or arguments.pictures):
        parser.error("--check goes with DATA alone")
    return run(COMMAND, lambda: _check(arguments.data) if arguments.check else _extend(arguments))


def _extend(arguments: argparse.Namespace) -> int:
    check_bits(arguments.bits)
    done = extend(ExtendOptions(arguments.data, arguments.journal, arguments.pictures, arguments.camera,
                                arguments.good_to, arguments.bits, arguments.model))  # fmt: skip
    for line in done.lines():
        print(printable(line), file=sys.stderr)
    return 0


def _check(data: Path) -> int:
    entries = read_manifest(data / MANIFEST)
    check_manifest(data / MANIFEST, entries)
    print(f"{len(entries)} pictures are as {MANIFEST} says (SHA-256 {sha256(data / MANIFEST)[:12]})")
    return 0
