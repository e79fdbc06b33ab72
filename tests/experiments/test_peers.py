"""The peers' side that needs none of their packages: what is started, the sizes of installs, what is refused."""

from __future__ import annotations

import ast
import importlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks.experiments.line.recorded import BENCHMARKS
from benchmarks.experiments.peers import peers, prepare
from known_answers import write
from stfpm_edge.recipes import PAPER

PEERS = BENCHMARKS / "experiments" / "peers"


def test_every_peer_has_a_name_of_its_own_and_is_measured_in_its_environment(tmp_path):
    options = prepare.PeerOptions((), tmp_path, tmp_path / "work", tmp_path / "results", frame=(64, 48))
    found = [peer for group in peers.peers(options.work, options.epochs).values() for peer in group]
    assert len({peer.name for peer in found}) == len(found) == 8
    assert [peer.name for peer in found if peer.evaluated is None] == ["anomalib EfficientAd OpenVINO"]
    assert {peer.epochs for peer in found if "Stfpm" in peer.name} == {PAPER.epochs}
    for peer in found:
        contender = peers.contender_of(peer, options)
        assert contender.command[0] == str(tmp_path / "work" / "anomalib" / "bin" / "python")
        assert contender.command[1:3] == (str(PEERS / "anomalib_worker.py"), peer.kind)
        assert contender.command[-2:] == ("64", "48")
        assert str(BENCHMARKS) in contender.environment["PYTHONPATH"]


def test_files_of_an_export_are_those_that_lie_in_its_folder(tmp_path):
    for name in ("a.xml", "a.bin", "b.onnx", "b.onnx.data", "c.pt", "a.json"):
        (tmp_path / name).touch()
    found = {
        name: [path.name for path in peers.files_of(peers.Peer(name, "", tmp_path / name))]
        for name in ("a.xml", "b.onnx", "c.pt")
    }
    assert found == {"a.xml": ["a.xml", "a.bin"], "b.onnx": ["b.onnx", "b.onnx.data"], "c.pt": ["c.pt"]}


def test_installed_size_leaves_out_pip_and_names_cudas_share(tmp_path):
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    sizes = {"numpy/a.so": 100, "pip/b.py": 1000, "nvidia/cublas/c.so": 30, "triton-3.1.dist-info/R": 4, "single.py": 1}
    for name, size in sizes.items():
        path = packages / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(size))
    assert prepare.installed_size(tmp_path) == {"bytes": 135, "cuda_bytes": 34}


def test_data_to_train_on_are_asked_for_first(tmp_path, capsys):
    flags = ["--data", tmp_path, "--work", tmp_path / "work", "--results", tmp_path / "results"]
    assert peers.main([*map(str, [tmp_path / "a.onnx", *flags])]) == 1
    err = capsys.readouterr().err
    assert "no train/good in it; expected an MVTec-style category" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("script", sorted(PEERS.glob("*.py")), ids=lambda path: path.name)
def test_scripts_say_what_they_do_and_import_what_is_there(script: Path):
    tree = ast.parse(script.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    ours = {path.stem: path for path in PEERS.glob("*.py")}
    for statement in (one for one in ast.walk(tree) if isinstance(one, ast.ImportFrom)):
        names = {alias.name for alias in statement.names}
        if statement.module in ours:  # their own imports need anomalib
            neighbour = ast.parse(ours[statement.module].read_text(encoding="utf-8")).body
            found = {one.name for one in neighbour if isinstance(one, (ast.FunctionDef, ast.ClassDef))}
            found |= {
                str(t.id) for one in neighbour if isinstance(one, ast.Assign) for t in one.targets if hasattr(t, "id")
            }
        elif str(statement.module).startswith("stfpm_"):
            found = set(dir(importlib.import_module(str(statement.module))))
        else:
            continue
        assert names <= found, f"{statement.module} has no {names - found}"


def test_what_was_made_from_other_images_or_teachers_or_epochs_is_made_again(make_category, tmp_path):
    data = make_category()
    picture = data / "test" / "good" / "000.png"
    for place in ("train/good/000.png", "train/good/001.png"):
        (data / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(picture, data / place)
    teacher = tmp_path / "teacher.safetensors"
    teacher.write_bytes(b"one")

    def made(**changes):
        options = prepare.PeerOptions((), data, tmp_path / "work", tmp_path / "results", teacher, **changes)
        for group in peers.peers(options.made, options.epochs).values():
            assert all(peer.path.is_relative_to(options.made) for peer in group)
        return options.made

    first = made()
    assert made() == first
    found = {first, made(epochs=12)}
    teacher.write_bytes(b"two")
    found.add(made())
    write(data / "train" / "good" / "001.png", np.full((32, 32), 7, np.uint8))
    found.add(made())
    (data / "test" / "scratch" / "001.png").unlink()
    (data / "ground_truth" / "scratch" / "001_mask.png").unlink()
    found.add(made())
    assert len(found) == 5
    assert all(folder.parent == tmp_path / "work" and folder.name.startswith("bottle-") for folder in found)
