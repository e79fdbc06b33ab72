"""Prepare a comparison with anomalib: its environment, its trained models and exports, and the sizes of installs."""

from __future__ import annotations

import functools
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stfpm_eval.layouts import find_products
from stfpm_runtime.errors import ArtifactError, StfpmError
from stfpm_runtime.files import sha256

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]
METHODS = {
    "patchcore": ("PatchCore Torch", "torch", True),
    "padim": ("PaDiM OpenVINO", "openvino", True),
    "efficientad": ("EfficientAd OpenVINO", "openvino", False),
}
"""Anomalib's other methods: title, how they are run, and whether they can be trained without a download."""
EXTRAS = ("cpu", "openvino")
"""Our device installs."""
CUDA = ("nvidia", "triton", "cuda")
PIP = ("pip", "setuptools", "_distutils_hack", "distutils-precedence.pth", "pkg_resources")
"""What comes with every environment."""

Log = Callable[[str], None]


@dataclass(frozen=True)
class PeerOptions:
    """What to compare, and where things lie."""

    models: tuple[Path, ...]
    data: Path
    """An MVTec-style category, with train/good."""
    work: Path
    """Where environments are made and kept, and in folders of their own what was trained from the same."""
    results: Path
    teacher: Path | None = None
    epochs: int = 100
    venv: Path | None = None
    """Anomalib's environment; None makes one in `work`."""
    time: float = 60.0
    cold_starts: int = 3
    only: str = ""
    """One of the groups; empty is both."""
    frame: tuple[int, int] = (1280, 720)

    @property
    def python(self) -> Path:
        """Return anomalib's interpreter."""
        return (self.venv or self.work / "anomalib") / "bin" / "python"

    @functools.cached_property
    def made(self) -> Path:
        """Return the folder in `work` for models trained from these very images, teacher and epochs.

        Raises StfpmError for data or a teacher that cannot be read.
        """
        product = find_products(self.data)[0]
        try:
            teacher = sha256(self.teacher) if self.teacher else "none"
        except OSError as error:
            raise ArtifactError(f"teacher {self.teacher}: cannot be read ({error.strerror})") from None
        digest = hashlib.sha256(f"{product.digest()} {teacher} {self.epochs}".encode()).hexdigest()[:12]
        return self.work / f"{product.name}-{digest}"


def prepare(options: PeerOptions, log: Log) -> None:
    """Make what is missing: anomalib's environment, its trained models, its exports."""
    good, made = options.data / "train" / "good", options.made
    made.mkdir(parents=True, exist_ok=True)
    if not options.python.is_file():
        log("anomalib's environment, 6 GB, once")
        call(["bash", HERE / "setup_anomalib.sh", options.python.parents[1]], {})
    teacher = ["--teacher", str(options.teacher)] if options.teacher else []
    checkpoint = made / "stfpm.ckpt"
    if not checkpoint.is_file():
        log(f"anomalib's Stfpm: {options.epochs} epochs")
        call([options.python, HERE / "train_anomalib.py", good, "-o", checkpoint, "--epochs", options.epochs, *teacher])
    if not (made / "stfpm/weights/torch/model.pt").is_file():
        log("anomalib's Stfpm: exports")
        call([options.python, HERE / "export_anomalib.py", good, "-o", made / "stfpm", "--checkpoint", checkpoint])
    for name in METHODS:
        if not method_path(made, name).is_file():
            log(f"anomalib's {name}")
            call([options.python, HERE / "export_methods.py", good, "-o", made, "--methods", name, *teacher])


def method_path(made: Path, name: str) -> Path:
    """Return the export of one of the other methods."""
    is_torch = METHODS[name][1] == "torch"
    return made / name / "weights" / ("torch/model.pt" if is_torch else "openvino/model.xml")


def measure_installs(options: PeerOptions, log: Log) -> list[dict[str, Any]]:
    """Return name, command and bytes of each install, ours from fresh environments."""
    found: list[dict[str, Any]] = []
    for extra in EXTRAS:
        venv = options.work / f"device-{extra}"
        if not (venv / "bin" / "stfpm-inspect").is_file():
            log(f"a fresh environment of our device install, [{extra}]")
            call([sys.executable, "-m", "venv", venv])
            with tempfile.TemporaryDirectory() as folder:  # pip would leave a build folder in the working tree
                copy = Path(folder) / "repository"
                call(["git", "clone", "--quiet", REPOSITORY, copy])
                call([venv / "bin" / "python", "-m", "pip", "install", "--quiet", f"{copy}[{extra}]"])
        found.append({"name": f"ours, [{extra}]", "command": f"pip install '.[{extra}]'", **installed_size(venv)})
    size = installed_size(options.python.parents[1])
    return [*found, {"name": "anomalib", "command": "pip install 'anomalib[openvino]' onnxruntime", **size}]


def installed_size(environment: Path) -> dict[str, int]:
    """Return the bytes of an environment's packages without pip: all of them, and CUDA's."""
    (packages,) = environment.glob("lib/python*/site-packages")
    total = cuda = 0
    for entry in packages.iterdir():
        name = entry.name.partition("-")[0]
        if name not in PIP:
            files = [entry] if entry.is_file() else entry.rglob("*")
            size = sum(file.stat().st_size for file in files if file.is_file() and not file.is_symlink())
            total += size
            cuda += size if name.startswith(CUDA) else 0
    return {"bytes": total, "cuda_bytes": cuda}


def our_path() -> dict[str, str]:
    """Return the variables by which another interpreter finds our packages."""
    folders = (REPOSITORY, REPOSITORY / "export", REPOSITORY / "runtime", REPOSITORY / "benchmarks")
    return {"PYTHONPATH": os.pathsep.join(map(str, folders))}


def call(command: Sequence[object], environment: dict[str, str] | None = None) -> str:
    """Run a step and return its stdout. Raises StfpmError where it fails; its own words are on stderr."""
    extra = our_path() if environment is None else environment
    done = subprocess.run(
        [str(part) for part in command], env={**os.environ, **extra}, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise StfpmError(f"{Path(str(command[1])).name}: ended with status {done.returncode}; its own words are above")
    return done.stdout
