"""`stfpm-journal --verify` and `--new-key`: what they do, and what they print."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from stfpm_runtime.cli import printable
from stfpm_runtime.errors import OptionError
from stfpm_runtime.line.journal.chain.verify import Verification, read_keys


def verify(journal: Path, public_keys: Sequence[Path], anchor: Path | None, pictures: Path | None) -> int:
    """Print each thing in a journal that was changed; return 1 if there is one, else 0. Raises StfpmError."""
    keys = read_keys(public_keys)
    if pictures and not pictures.is_dir():
        raise OptionError(f"{pictures}: is no folder; expected that of the pictures")
    count = 0
    with contextlib.ExitStack() as stack:
        try:
            anchors = stack.enter_context(anchor.open(encoding="utf-8", errors="replace")) if anchor else ()
        except OSError as error:
            raise OptionError(f"{anchor}: cannot be read ({error.strerror}); expected lines of JSON") from None
        check = Verification(journal, keys, anchors, pictures)
        for finding in check.findings():
            count += 1
            print(printable(finding))
    for note in check.notes:
        print(printable(f"note: {note}"))
    print(f"{check.rows} rows: {count or 'no'} change{'' if count == 1 else 's'} found")
    if not count:
        print(check.head)
    return min(count, 1)


def make_key(path: Path) -> int:
    """Write a key pair, print where, and return 0. Raises StfpmError."""
    from stfpm_runtime.line.journal.chain.signing import write_new_key

    public = write_new_key(path)
    print(f"{path} signs: name it as signing_key, and let nobody read it who may change the journal")
    print(f"{public} verifies: keep it with those who use stfpm-journal --verify --public-key")
    return 0
