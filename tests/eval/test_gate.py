"""The gate of `stfpm-eval`: good parts score 10 and 60, scratches 200 and 40, the dent 100; the threshold is 50."""

from __future__ import annotations

import json

import cv2
import pytest

from stfpm_eval.cli import main


@pytest.fixture
def gate(make_model, make_category, tmp_path, capsys):
    """Runs the gate for a new model of this threshold against an old one; gives exit code, figures and stderr."""
    data, written = make_category() / "test", tmp_path / "gate.json"

    def gate(threshold, *arguments, old=50.0, defects=("scratch", "dent"), **changes):
        new = make_model("new.onnx", threshold=threshold, **changes)
        against = [] if old is None else ["--against", make_model("old.onnx", threshold=old)]
        argv = [new, "--must-reject", *(data / name for name in defects), "--must-pass", data / "good", *against]
        code = main([str(part) for part in [*argv, "--json", written, *arguments]])
        return code, json.loads(written.read_text()) if written.is_file() else {}, capsys.readouterr()

    return gate


def test_a_model_that_passes_a_known_defect_may_not_take_the_place(gate):
    code, figures, printed = gate(120.0, old=30.0)
    assert code == 1
    (line,) = printed.err.splitlines()
    assert "2 of 3 known defects are not rejected" in line
    assert "it must not replace the model in use" in line
    assert (figures["passes"], figures["escaped"], figures["false_alarms"]) == (False, 2, 0)
    changed = {(one["must"], one["old"]["decision"], one["new"]["decision"]) for one in figures["changed"]}
    assert changed == {("reject", "reject", "pass"), ("pass", "reject", "pass")}
    assert printed.out.splitlines()[1].split() == ["known", "defects", "passed", "3", "2", "0"]


def test_a_model_that_rejects_more_good_parts_than_its_rate_explains_may_not_either(gate):
    code, figures, printed = gate(5.0, old=70.0, defects=("dent",), false_alarm_rate=0.01)
    assert code == 1
    assert "2 of 2 good parts are not passed" in printed.err
    assert "expected at most 0" in printed.err
    assert figures["false_alarms_allowed"] == 0
    code, figures, _ = gate(5.0, old=5.0, defects=("dent",), false_alarm_rate=0.01)
    assert (code, figures["false_alarms_allowed"]) == (0, 2)  # no worse than the old one


def test_a_model_that_is_able_passes_with_and_without_an_old_one(gate):
    for old in (30.0, None):
        code, figures, printed = gate(35.0, old=old, false_alarm_rate=0.5)
        assert (code, figures["passes"], figures["failures"], printed.err) == (0, True, [], "")


def test_differences_are_saved_side_by_side(gate, tmp_path):
    gate(120.0, "--save", tmp_path / "pictures", old=30.0)
    saved = sorted((tmp_path / "pictures").iterdir())
    assert len(saved) == 3  # a scratch and the dent, now passed, and a good part, passed as well
    picture = cv2.imread(str(saved[0]))
    assert picture.shape[1] == 2 * picture.shape[0]


def refused(new, old, data, tmp_path, capsys):
    argv = [new, "--must-reject", data / "dent", "--must-pass", data / "good", "--against", old]
    assert main([*map(str, argv), "--json", str(tmp_path / "gate.json")]) == 1
    assert not (tmp_path / "gate.json").exists()
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_what_cannot_be_compared_is_refused(make_model, make_category, tmp_path, capsys):
    data, new, old = make_category() / "test", make_model("new.onnx"), make_model("old.onnx")
    assert "no such file" in refused(new, tmp_path / "other.onnx", data, tmp_path, capsys)
    content = old.read_bytes().replace(b'"name": "bottle"', b'"name": "button"')
    (tmp_path / "button.onnx").write_bytes(content)
    assert "expected two of one product" in refused(new, tmp_path / "button.onnx", data, tmp_path, capsys)
    (data / "good/000.png").write_bytes(b"no picture")
    assert "000.png" in refused(new, old, data, tmp_path, capsys)


def test_no_model_is_overwritten_by_the_figures(make_model, make_category, capsys):
    data, new, old = make_category() / "test", make_model("new.onnx"), make_model("old.onnx")
    before = old.read_bytes()
    argv = [new, "--must-reject", data / "dent", "--against", old, "--json", old]
    assert main([str(part) for part in argv]) == 1
    assert "would be overwritten" in capsys.readouterr().err
    assert old.read_bytes() == before


def test_differences_are_not_saved_among_the_known_defects(make_model, make_category, capsys):
    dent = make_category() / "test/dent"
    before = sorted(dent.iterdir())
    assert main([str(make_model()), "--must-reject", str(dent), "--save", str(dent)]) == 1
    assert "lies in it; choose a folder that holds no source" in capsys.readouterr().err
    assert sorted(dent.iterdir()) == before


def test_a_picture_is_either_a_defect_or_good(make_model, make_category, capsys):
    dent = str(make_category() / "test/dent")
    assert main([str(make_model()), "--must-reject", dent, "--must-pass", dent]) == 1
    assert "is given with --must-reject and --must-pass" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["--against", "old.onnx"], ["data", "--must-reject", "dent"]])
def test_flags_that_do_not_go_together_are_wrong_usage(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["new.onnx", *arguments])
    assert stop.value.code == 2
    capsys.readouterr()
