"""The documentation as a site, its commands and its notebook; what containers and wheels are made of."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from stfpm_runtime.command import verbs

ROOT = Path(__file__).parents[1]
TUTORIAL = ROOT / "docs/tutorials/first-model.md"
ENVIRONMENT = {
    **os.environ,
    "NO_MKDOCS_2_WARNING": "1",
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
}


def run(*command: object, cwd: Path, **environment: str) -> str:
    """Run a command and return what it prints."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env={**ENVIRONMENT, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


def test_the_site_is_built_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path):
    pytest.importorskip("mkdocs")
    run(sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site", cwd=ROOT)
    commands = (tmp_path / "site/reference/commands.html").read_text()
    assert all(f"stfpm {verb}" in commands for verb in verbs())
    assert "--smallest-defect" in commands
    assert "relative_score" in (tmp_path / "site/reference/api.html").read_text()
    for page in (tmp_path / "site").rglob("*.html"):
        loaded = re.findall(
            r"<(?:script|img|link rel=\"(?:stylesheet|preload)\")[^>]*(?:src|href)=\"(https?:[^\"]*)", page.read_text()
        )
        assert loaded == [], page


def test_every_page_is_in_the_navigation():
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    named = set(re.findall(r"- ([\w./-]+\.md)", (ROOT / "mkdocs.yml").read_text()))
    assert pages | {"reference/commands.md"} == named


@pytest.mark.slow
def test_the_commands_of_the_first_tutorial_work_in_their_order(tmp_path):
    blocks = re.findall(r"```sh\n(.*?)```", TUTORIAL.read_text(), re.DOTALL)
    assert len(blocks) == 5
    for block in blocks:
        run("sh", "-ec", block.replace("python -m", f"{sys.executable} -m"), cwd=tmp_path)
    for name in ("gear.safetensors", "gear.onnx", "gear.golden.npz", "verdicts.jsonl"):
        assert (tmp_path / name).stat().st_size > 0
    assert len(list((tmp_path / "overlays").rglob("*.png"))) == 8 + 3 * 4


@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
    pytest.importorskip("nbclient")
    import nbformat
    from nbclient import NotebookClient

    os.environ.update(ENVIRONMENT, GEARS=str(tmp_path), EPOCHS="2")
    notebook = nbformat.read(ROOT / "examples/gears/first_model.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "the notebook is kept without outputs"
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    printed = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))
    assert re.search(r"^missing  (pass|reject) +\d+\.\d\d$", printed, re.MULTILINE)


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.l4t"])
def test_a_container_installs_extras_and_starts_a_command_that_there_are(name):
    text, setup = (ROOT / name).read_text(), (ROOT / "setup.py").read_text()
    extras = {extra for found in re.findall(r'"/src\[([\w,]+)\]"', text) for extra in found.split(",")}
    assert extras
    assert all(f'"{extra}": ' in setup for extra in extras)
    assert '"inspect"' in setup
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert all((ROOT / path).exists() for path in kept)
    packages = re.findall(r'^    "stfpm_\w+": "([\w/]+)"', setup, re.MULTILINE)
    assert all(any(path == folder or path.startswith(f"{folder}/") for folder in kept) for path in packages)


@pytest.mark.slow
def test_a_wheel_is_whole_and_works_in_an_environment_of_its_own(tmp_path, tiny_onnx, good_images):
    source = tmp_path / "source"
    shutil.copytree(
        ROOT, source, ignore=shutil.ignore_patterns(".git", ".venv", "build", "demo", "results", "*.egg-info")
    )
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    run(*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path / "dist", source, cwd=tmp_path)
    (wheel,) = (tmp_path / "dist").glob("stfpm_edge-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for name in (
        "stfpm_runtime/py.typed", "stfpm_runtime/line/web/static/index.html", "stfpm_runtime/line/web/static/de.json",
        "stfpm_runtime/line/web/static/uplot.js", "stfpm_bench/report/page.html.j2",
    ):  # fmt: skip
        assert name in names, name
    assert any(re.fullmatch(r"stfpm_edge/weights/.*\.safetensors", name) for name in names)
    assert not any(name.startswith(("tests/", "examples/", "docs/", "benchmarks/")) for name in names)
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv/bin/python"
    (site,) = (tmp_path / "venv/lib").glob("python*/site-packages")
    run(*pip, "install", "-q", "--no-deps", "--target", site, wheel, cwd=tmp_path)
    (here,) = {path for path in map(Path, sys.path) if path.name == "site-packages"}
    (site / "others.pth").write_text(f"{here}\n")  # the dependencies, without a download
    clean = {"PYTHONPATH": "", "PATH": f"{tmp_path}/venv/bin:{os.environ['PATH']}"}
    where = run(python, "-c", "import stfpm_runtime; print(stfpm_runtime.__file__)", cwd=tmp_path, **clean)
    assert where.startswith(str(site))
    assert "stfpm-edge 0" in run(
        python, "-c", "from stfpm_runtime.command import main; main(['--version'])", cwd=tmp_path, **clean
    )
    code = "from stfpm_runtime.batch.cli import main; import sys; sys.exit(main(sys.argv[1:]))"
    verdicts = run(python, "-c", code, tiny_onnx, good_images, "--json", "-", cwd=tmp_path, **clean).splitlines()
    assert len(verdicts) == len(list(good_images.iterdir()))
    assert all(json.loads(verdict)["decision"] in ("pass", "reject") for verdict in verdicts)
