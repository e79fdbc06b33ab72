"""How much an environment's packages take, in bytes, as JSON: all of it, and what of it is CUDA's.

    python installed_size.py VENV [NAME]

pip and setuptools are left out: they come with the environment.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

CUDA = ("nvidia", "triton", "cuda")
NOT_OURS = ("pip", "setuptools", "_distutils_hack", "distutils-precedence.pth", "pkg_resources")


def measure(environment: Path) -> dict[str, int]:
    """Sizes by kind."""
    (packages,) = environment.glob("lib/python*/site-packages")
    total = cuda = 0
    for entry in packages.iterdir():
        name = entry.name.partition("-")[0]
        if name in NOT_OURS:
            continue
        files = [entry] if entry.is_file() else entry.rglob("*")
        size = sum(file.stat().st_size for file in files if file.is_file() and not file.is_symlink())
        total += size
        cuda += size if name.startswith(CUDA) else 0
    return {"bytes": total, "cuda_bytes": cuda}


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]))))
