"""`stfpm-inspect --init`: answers become a configuration that the line reads."""

from __future__ import annotations

import builtins

import pytest

from stfpm_runtime.batch.cli import main
from stfpm_runtime.line.config.line import read_config


@pytest.fixture
def init(tmp_path, monkeypatch, capsys):
    """Answers the questions of `--init`, and returns exit code, questions, what was printed, and the file."""

    def init(*answers: str):
        left, asked = list(answers), []

        def answer(question: str) -> str:
            asked.append(question)
            if not left:
                raise EOFError
            return left.pop(0)

        monkeypatch.setattr(builtins, "input", answer)
        code = main(["--init", str(tmp_path / "line.toml")])
        return code, asked, capsys.readouterr(), tmp_path / "line.toml"

    return init


def test_the_defaults_and_a_model_make_a_line(init):
    code, asked, printed, path = init("bottle.onnx", *[""] * 7)
    assert code == 0
    assert "--check --preview" in printed.out
    line = read_config(path)
    assert (line.model.name, line.camera[0].source, line.camera[0].trigger) == ("bottle.onnx", "0", "continuous")
    assert line.camera[0].region == ()
    assert line.review.sample == 0.01
    assert line.dashboard is not None
    assert len(line.dashboard.token) == 32
    assert len(asked) == 8


def test_every_answer_reaches_the_file(init, tmp_path):
    (tmp_path / 'in "box"').mkdir()
    inbox = str(tmp_path / 'in "box"')
    code, _, _, path = init("m.onnx", "top", inbox, "y", "400, 80, 512, 512", "every", "250", "broker",
                            "http://plc/verdicts", "n")  # fmt: skip
    assert code == 0
    line = read_config(path)
    (camera,) = line.camera
    assert (camera.name, camera.source, camera.watch, camera.every_ms) == ("top", inbox, True, 250)
    assert camera.region[0].rectangle == (400, 80, 512, 512)
    assert line.mqtt is not None
    assert line.mqtt.host == "broker"
    assert line.webhook[0].url == "http://plc/verdicts"
    assert line.dashboard is None


def test_a_trigger_by_message_or_request_brings_what_it_needs(init):
    *_, path = init("m.onnx", "", "", "", "mqtt", "parts", "", "", "n")
    assert read_config(path).camera[0].topic == "parts"
    path.unlink()
    *_, path = init("m.onnx", "", "", "", "http", "", "", "n")
    assert read_config(path).dashboard is not None


def test_a_wrong_answer_is_asked_for_again(init):
    code, asked, printed, path = init("", "m.onnx", "a b", "top", "", "1, 2", "1, 2, 3, 4", "10,20,64,64", "often",
                                      "every", "0", "9", "", "ftp://x", "none", "maybe", "y")  # fmt: skip
    assert code == 0
    assert len(asked) == 17
    for said in ("expected an answer", "expected letters, digits", "expected four whole numbers", "width and height of",
                 "expected one of continuous", "whole number of 1", "begins with http", "expected y or n"):  # fmt: skip
        assert said in printed.out
    assert read_config(path).camera[0].every_ms == 9


def test_nothing_is_overwritten_or_half_written(init, tmp_path):
    code, _, printed, path = init("m.onnx", "top")
    assert code == 1
    assert "the answers ended; nothing was written" in printed.err
    assert not path.exists()
    path.write_text("mine")
    code, asked, printed, _ = init()
    assert code == 1
    assert asked == []
    assert "is there already" in printed.err
    assert path.read_text() == "mine"
