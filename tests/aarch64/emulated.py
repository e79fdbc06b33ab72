"""The lean runtime on Jetson's architecture, emulated: verdicts and golden results next to this machine's.

    python tests/aarch64/emulated.py MODEL.onnx ... --pictures DIR --json benchmarks/results/aarch64_emulated.json

Debian's arm64 Python is unpacked into a folder (half a minute, once), the runtime is installed there with
the aarch64 wheels of its dependencies, and qemu executes it: the results are aarch64's, the times mean nothing. Nothing
is installed on this machine, no chroot is entered, no binfmt registered.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
ROOT = Path(os.environ.get("STFPM_AARCH64", REPOSITORY / "build" / "aarch64"))
SUITE, PYTHON = "bookworm", "3.11"
QEMU = "qemu-aarch64-static"
CPU = "cortex-a76"
"""The nearest that qemu has to Orin's Cortex-A78AE: ARMv8.2 with dot products, without i8mm."""
CPUINFO = """\
processor\t: 0
BogoMIPS\t: 62.50
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x4
CPU part\t: 0xd0b
CPU revision\t: 1

"""
"""What Linux says there of that processor: without it libraries read this machine's, and crash."""
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")


def missing() -> str:
    """Why it cannot be done here; empty where it can."""
    if tools := [tool for tool in ("debootstrap", QEMU, "dpkg-deb") if shutil.which(tool) is None]:
        return f"{' and '.join(tools)} not found: apt install debootstrap qemu-user-static"
    return "" if os.geteuid() == 0 else "debootstrap wants root"


def make_root(root: Path = ROOT) -> Path:
    """Debian's arm64 Python and what it needs, unpacked; returns the interpreter. Made once, and kept."""
    python = root / "debian" / "usr" / "bin" / f"python{PYTHON}"
    if not python.exists():
        unfinished = root / "unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        root.mkdir(parents=True, exist_ok=True)
        _call("debootstrap", "--foreign", "--arch=arm64", "--variant=minbase", "--include=python3", SUITE, unfinished)
        for package in sorted((unfinished / "var/cache/apt/archives").glob("*.deb")):
            _call("dpkg-deb", "-x", package, unfinished)
        (unfinished / "proc" / "cpuinfo").write_text(CPUINFO)
        unfinished.rename(root / "debian")
    return python


def install(root: Path) -> Path:
    """The runtime as `pip install '.[cpu]'` gives it on such a machine, in a folder of its own."""
    target = root / "site"
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        shutil.copytree(REPOSITORY, source, ignore=shutil.ignore_patterns(".*", "build", "demo", "*.egg-info"))
        _call(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, source)
        (wheel,) = Path(folder).glob("*.whl")
        shutil.rmtree(target, ignore_errors=True)
        tags = [part for name in PLATFORMS for part in ("--platform", name)]
        _call(
            sys.executable, "-m", "pip", "install", "--quiet", "--only-binary=:all:", *tags,
            "--python-version", PYTHON, "--implementation", "cp", "--target", target, f"{wheel}[cpu]",
        )  # fmt: skip
    return target


def judge(models: list[Path], pictures: Path, python: Path, site: Path) -> dict:
    """What `judge.py` finds there."""
    argv = [QEMU, "-L", python.parents[2], python, HERE / "judge.py", pictures, *models]
    return json.loads(_call(*argv, environment={"PYTHONPATH": str(site), "PATH": "/usr/bin", "QEMU_CPU": CPU}))


def judge_here(models: list[Path], pictures: Path) -> dict:
    """What it finds on this machine."""
    return json.loads(_call(sys.executable, HERE / "judge.py", pictures, *models))


def compare(models: list[Path], pictures: Path) -> dict:
    """Both, and for each model how far they are apart."""
    python = make_root()
    there, here = judge(models, pictures, python, install(ROOT)), judge_here(models, pictures)
    for name, found in there["models"].items():
        ours = here["models"][name]
        pairs = [
            (a, b) for a, b in zip(found["scores"], ours["scores"], strict=True) if a is not None and b is not None
        ]
        found["score_max_difference_to_here"] = max((abs(a - b) for a, b in pairs), default=0.0)
        both = zip(found["decisions"], ours["decisions"], strict=True)
        found["decisions_that_differ_from_here"] = sum(a != b for a, b in both)
    return {
        "schema": 1,
        "emulator": f"{_call(QEMU, '--version').splitlines()[0]}, {CPU}",
        "here": here["machine"],
        **there,
    }


def main() -> None:
    """Compare, print, and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("models", nargs="+", type=Path, help="what stfpm-export wrote, golden files next to them")
    parser.add_argument("--pictures", type=Path, required=True, metavar="DIR", help="a folder of pictures to judge")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    arguments = parser.parse_args()
    if reason := missing():
        sys.exit(f"cannot be emulated here: {reason}")
    result = compare([path.resolve() for path in arguments.models], arguments.pictures.resolve())
    result["command"] = "python tests/aarch64/emulated.py MODEL ... --pictures DIR --json FILE"
    text = json.dumps(result, indent=1) + "\n"
    print(text)
    if arguments.json:
        arguments.json.write_text(text, encoding="utf-8")


def _call(*argv: object, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run([str(part) for part in argv], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{argv[0]} {argv[1]}: status {done.returncode}\n{done.stdout[-1000:]}{done.stderr[-2000:]}")
    return done.stdout


if __name__ == "__main__":
    main()
