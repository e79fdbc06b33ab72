"""`stfpm-inspect --config line.toml --check`: a start is tried, and no verdict is written."""

from __future__ import annotations

import socket

import cv2
import numpy as np
import pytest

from stfpm_runtime.batch.cli import main

LINE = """
model = "model.onnx"
journal.path = "line.sqlite"
[[camera]]
name = "top"
source = "part.png"
[[camera.region]]
name = "left"
rectangle = [0, 0, 32, 32]
[[camera.region]]
name = "right"
polygon = [[32, 0], [63, 0], [63, 31]]
"""


@pytest.fixture
def check(tmp_path, model, write, paint, capsys):
    """Writes a configuration, checks it, and returns the exit code, the lines and the error."""
    write(tmp_path / "part.png", paint(255))

    def check(text: str = LINE, *more: object):
        (tmp_path / "line.toml").write_text(text)
        code = main(["--config", str(tmp_path / "line.toml"), "--check", *map(str, more)])
        printed = capsys.readouterr()
        return code, printed.out.splitlines(), printed.err

    return check


def test_a_line_that_would_work_is_tried_and_leaves_nothing(check, tmp_path):
    before = sorted(tmp_path.iterdir())
    code, lines, error = check()
    assert (code, error) == (0, "")
    assert [line.split()[0] for line in lines] == ["works"] * 4
    assert "camera top: 64x32 pixels" in lines[1]
    assert "region top/left: reject 2.00" in lines[2]
    assert "region top/right: pass 0.00" in lines[3]
    assert sorted(path for path in tmp_path.iterdir() if path.name != "line.toml") == before


def test_the_preview_shows_regions_and_maps(check, tmp_path):
    code, lines, _ = check(LINE, "--preview", tmp_path / "preview")
    assert code == 0
    assert lines[-1].endswith("preview/top.png")
    drawn, plain = cv2.imread(str(tmp_path / "preview/top.png")), cv2.imread(str(tmp_path / "part.png"))
    assert drawn.shape == plain.shape
    assert (drawn[:, 31:34] != plain[:, 31:34]).any()


def test_all_mistakes_are_named_at_once_with_their_lines(check):
    text = LINE.replace("journal.path", "jurnal.path").replace("rectangle", "rectangel").replace('"top"', "7")
    code, lines, error = check(text)
    assert code == 1
    assert [line.split(":")[1] for line in lines] == ["3", "5", "9"]
    assert "did you mean journal?" in lines[0]
    assert "3 mistakes, see above; nothing else was tried" in error


def test_mistakes_of_one_table_do_not_hide_each_other(check):
    code, lines, error = check(LINE.replace('name = "top"', 'name = "t p"\nbits = 40\ntrigger = "http post"\nfps = -4'))
    assert code == 1
    assert "4 mistakes" in error
    assert [line.split(": ")[1] for line in lines] == [f"camera.{key}" for key in ("name", "bits", "trigger", "fps")]


def test_everything_that_would_not_work_is_named(check, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    text = 'known_defects = "none"\njournal.signing_key = "none.key"\n' + LINE.replace(
        "[0, 0, 32, 32]", "[0, 0, 65, 32]"
    )
    text += f'[[camera]]\nname = "side"\nsource = "none.png"\n[[webhook]]\nurl = "http://127.0.0.1:{port}/"\n'
    code, lines, error = check(text, "--preview", tmp_path / "preview")
    failing = [line for line in lines if line.startswith("FAILS")]
    assert code == 1
    assert "journal.signing_key: " in failing[0]
    assert "none.key: the signing key cannot be read (No such file or directory)" in failing[0]
    assert "known_defects: " in failing[1]
    assert "region left reaches to 65, 32" in failing[2]
    assert "camera side" in failing[3]
    assert f"{len(failing)} things of this line would not work" in error
    assert (tmp_path / "preview/top.png").exists()  # shows where the region would be


def test_the_journal_the_dashboard_and_the_shadow_are_tried(check, tmp_path):
    text = 'shadow = "none.onnx"\n' + LINE + '[dashboard]\nlisten = "127.0.0.1:{}"\n'
    (tmp_path / "line.sqlite").write_bytes(b"not a journal, and longer than an SQLite header is: " * 20)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, lines, _ = check(text.format(taken.getsockname()[1]))
    assert code == 1
    failures = "\n".join(line for line in lines if line.startswith("FAILS"))
    assert "line.sqlite: cannot be used as a journal" in failures
    assert "cannot listen there" in failures
    assert "none.onnx: no such file" in failures
    (tmp_path / "line.sqlite").unlink()
    code, lines, _ = check(text.replace('shadow = "none.onnx"\n', "").format(0))
    assert code == 0
    assert "works  dashboard on 127.0.0.1:0" in lines


RECIPE = """
[[recipe]]
id = 1
name = "whole"
model = "model.onnx"
[[recipe.camera]]
name = "top"
region = [{name = "all"}]
"""


def test_the_recipe_server_is_tried(check, model):
    pytest.importorskip("asyncua")
    text = LINE.replace('model = "model.onnx"', "") + RECIPE + '[recipe_server]\nlisten = "127.0.0.1:PORT"\n'
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, lines, _ = check(text.replace("PORT", str(port)))
    assert code == 1
    assert f"FAILS  recipe_server: 127.0.0.1:{port}: cannot listen there" in "\n".join(lines)
    code, lines, _ = check(text.replace("PORT", str(port)))
    assert code == 0
    assert f"works  recipe server on 127.0.0.1:{port}" in lines


def test_a_model_that_may_not_judge_is_named_and_no_camera_is_tried(check, tmp_path):
    (tmp_path / "model.golden.npz").unlink()
    code, lines, error = check()
    assert code == 1
    assert len(lines) == 1
    assert "model.golden.npz: no such file" in lines[0]
    assert "no camera was tried" in error


def test_a_watched_folder_is_tried_with_a_picture_that_is_there(check, tmp_path, paint):
    text = LINE.replace('"part.png"', '"inbox"\nwatch = true')
    (tmp_path / "inbox").mkdir()
    code, lines, _ = check(text)
    assert code == 0
    assert "no picture in" in lines[1]
    cv2.imwrite(str(tmp_path / "inbox/a.png"), np.ascontiguousarray(paint(255)))
    code, lines, _ = check(text)
    assert code == 0
    assert "64x32 pixels" in lines[1]


@pytest.mark.parametrize("argv", [["model.onnx", "x.png", "--check"], ["--config", "a.toml", "--preview", "x"]])
def test_flags_that_do_not_go_together_are_wrong_usage(argv):
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2


def test_each_recipe_is_tried_with_its_own_regions(check, tmp_path, model):
    model.with_name("broken.onnx").write_bytes(b"no model")
    recipes = (
        RECIPE
        + """
    [[recipe]]
    id = 2
    name = "broken"
    model = "broken.onnx"
    """
    )
    code, lines, error = check(LINE.replace('model = "model.onnx"', "") + recipes)
    assert code == 1
    assert "1 thing of this line would not work" in error
    assert lines[0] == "note   recipe 1 (whole)"
    assert "region top/all: reject 2.00" in lines[3]
    assert lines[4] == "note   recipe 2 (broken)"
    assert lines[5].startswith("FAILS  ")
    assert len(lines) == 6
