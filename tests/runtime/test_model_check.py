"""Which models may judge parts: the same answer for a folder of files and for a line, at its start."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from stfpm_runtime.artifact.golden import Golden, golden_path, load_golden, save_golden
from stfpm_runtime.artifact.onnx_metadata import read_spec
from stfpm_runtime.detector import Detector
from stfpm_runtime.engines import open_engine
from stfpm_runtime.errors import StfpmError
from stfpm_runtime.files import sha256
from stfpm_runtime.model_check import ModelRules, check_spec, for_swap, load_checked
from tiny_model import make_images

COMMAND = (sys.executable, "-c", "import sys; from stfpm_runtime.batch.cli import main; sys.exit(main())")
FLIPS = 36


@pytest.fixture(params=["files", "line"])
def begin(request, tmp_path, write, paint):
    """Runs the command on one good part, as a file or as a line; gives the exit code and the last line on stderr."""

    def begin(model: Path, *flags: str, keys: str = "") -> tuple[int, str]:
        write(tmp_path / "parts" / "a.png", paint())
        argv = [str(model), "--source", str(tmp_path / "parts"), "--threads", "1", *flags]
        if request.param == "line":
            argv += ["--journal", str(tmp_path / "line.sqlite")]
        done = subprocess.run([*COMMAND, *argv], capture_output=True, text=True, check=False, timeout=120)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stderr.splitlines()[-1]

    return begin


REFUSED = {
    "no parity report": ({"parity": {}}, "carries no parity report"),
    "failed parity": ({"parity": {"failures": ["too far"]}}, "its parity with PyTorch has failed (too far)"),
    "endless tolerance": ({"parity": {"map_max_error": -1.0}}, "its parity report has map_max_error = -1.0"),
    "text for an error": ({"parity": {"map_max_error": "0"}}, "its parity report has map_max_error = '0'"),
    "huge threshold": ({"threshold": 1e9}, "got a threshold of 1e+09; expected 0 or more, and below 8"),
    "negative threshold": ({"threshold": -1e9}, "got a threshold of -1e+09"),
    "threshold above what was held out": (
        {"threshold": 0.5, "held_out_scores": (0.1, 0.2), "false_alarm_rate": 1 / 3},
        "its threshold of 0.5 does not follow from its 2 held-out scores of 0.1 to 0.2",
    ),
    "threshold below what it promises": (
        {"threshold": 0.1, "held_out_scores": (0.1, 0.2), "false_alarm_rate": 1 / 3},
        "its threshold of 0.1 does not follow from its 2 held-out scores",
    ),
    "threshold far from what was held out": (
        {"threshold": 0.5, "held_out_scores": (0.1, 0.2)},
        "its threshold of 0.5 does not follow from its 2 held-out scores",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_spec_that_makes_no_sense_is_refused(begin, make_model, case):
    changes, message = REFUSED[case]
    code, error = begin(make_model(**changes))
    assert code == 1
    assert message in error


@pytest.mark.parametrize(
    "changes", [{"held_out_scores": (0.2, 0.5), "false_alarm_rate": 1 / 3}, {"held_out_scores": (0.2, 0.3)}]
)
def test_a_threshold_that_follows_from_held_out_scores_is_accepted(begin, make_model, changes):
    assert begin(make_model(**changes))[0] == 0


@pytest.mark.parametrize("changes", [{"bits": 12}, {"width": 64}])
def test_a_model_that_takes_another_s_place_reads_the_same_pictures(make_model, changes):
    current = read_spec(make_model("current.onnx"))
    check_spec(current, for_swap(ModelRules(), current), "current.onnx")
    with pytest.raises(StfpmError, match=r"takes pictures of .* expected 16x8, bits: None, as the model in use"):
        check_spec(dataclasses.replace(current, **changes), for_swap(ModelRules(), current), "new.onnx")


def test_a_missing_golden_file_needs_permission(begin, model):
    golden_path(model).unlink()
    code, error = begin(model)
    assert code == 1
    assert "model.golden.npz: no such file" in error
    assert begin(model, "--allow-missing-golden")[0] == 0


@pytest.mark.parametrize("damage", ["cut", "text", "other model", "changed model", "other results", "types", "bomb"])
def test_a_golden_file_that_is_damaged_or_another_s_is_refused_whatever_is_allowed(begin, make_model, model, damage):
    path = golden_path(model)
    golden, data = load_golden(path), path.read_bytes()
    message = "damaged, or written by another program"
    if damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "text":
        path.write_text("not a golden file")
    elif damage == "bomb":
        images = np.zeros((4, 8192, 8192, 3), np.uint8)
        save_golden(Golden(images, np.zeros((1, 1, 1), np.float32), np.zeros(1, np.float32), golden.sha256), path)
        message = "unpacks to"
    elif damage == "other model":
        path.write_bytes(golden_path(make_model("other.onnx", threshold=0.4)).read_bytes())
        message = "belongs to another model than model.onnx, or model.onnx was changed since its export"
    elif damage == "changed model":
        flipped = bytearray(model.read_bytes())
        flipped[flipped.index(b'"threshold": 0.5') + 15] ^= 1  # 0.5 becomes 0.4
        model.write_bytes(flipped)
        message = "belongs to another model than model.onnx, or model.onnx was changed since its export"
    elif damage == "other results":
        save_golden(dataclasses.replace(golden, scores=golden.scores + np.float32(0.01)), path)
        message = "its score is 0.01 away from PyTorch's on"
    else:
        save_golden(dataclasses.replace(golden, images=golden.images.astype(np.float64)), path)
        message = "do not belong together"
    code, error = begin(model, "--allow-missing-golden")
    assert code == 1
    assert message in error


@pytest.mark.parametrize("position", range(8))
def test_a_golden_file_with_any_byte_changed_is_never_a_crash(model, position):
    path = golden_path(model)
    data = bytearray(path.read_bytes())
    for offset in range(position, len(data), 8 * max(1, len(data) // 400)):
        changed = bytearray(data)
        changed[offset] ^= 0xFF
        path.write_bytes(changed)
        with contextlib.suppress(StfpmError):
            load_golden(path)


def test_flipped_bits_of_the_weights_are_caught(tiny_onnx, tmp_path):
    """Each of 36 files with one flipped bit in a weight's exponent is refused for its SHA-256 alone.

    With a golden file that is made to name the changed file, those whose verdicts differ are refused for their results.
    """
    intact, golden = tiny_onnx.read_bytes(), load_golden(golden_path(tiny_onnx))
    weights = [item.raw_data for item in onnx.load(tiny_onnx).graph.initializer if len(item.raw_data) > 10_000]
    images = [*golden.images, *make_images(8, seed=5)]
    path, rng = tmp_path / "flipped.onnx", np.random.default_rng(0)

    with contextlib.closing(open_engine(tiny_onnx, threads=1)) as engine:
        middle = float(np.median(engine.infer(np.stack(images))[1]))

    def verdicts(model: Path) -> list[str]:
        with contextlib.closing(open_engine(model, threads=1)) as engine:
            return [verdict.decision for verdict in Detector(engine, middle).inspect_batch(images)]

    expected, changed = verdicts(tiny_onnx), 0
    assert set(expected) == {"pass", "reject"}
    for _ in range(FLIPS):
        data, raw = bytearray(intact), weights[rng.integers(len(weights))]
        data[intact.index(raw) + 4 * int(rng.integers(len(raw) // 4)) + 3] ^= 0x40
        path.write_bytes(data)
        golden_path(path).write_bytes(golden_path(tiny_onnx).read_bytes())
        assert "was changed since its export" in refusal(path)
        if verdicts(path) != expected:
            changed += 1
            save_golden(dataclasses.replace(golden, sha256=sha256(path)), golden_path(path))
            assert refusal(path)
    assert changed >= 9


def refusal(path: Path) -> str:
    try:
        load_checked(path, lambda model: open_engine(model, threads=1), ModelRules()).engine.close()
    except StfpmError as error:
        return str(error)
    return ""


def test_an_exported_model_is_accepted(tiny_onnx):
    assert refusal(tiny_onnx) == ""


def test_a_threshold_that_rejects_nothing_is_refused_on_the_command_line(begin, model):
    code, error = begin(model, "--threshold", "1e9")
    assert code == 1
    assert "got a threshold of 1e+09; expected" in error


CONFIG = """
model = "{model}"
threads = 1
{keys}
[journal]
path = "line.sqlite"
[[camera]]
name = "left"
source = "parts"
{camera}
"""
KEYS = {
    "another product": ('product = "screw"', "", "is for the product 'bottle'; expected one for 'screw'"),
    "another file": (f'sha256 = "{"0" * 64}"', "", "expected 000000000000…, the file that the configuration or"),
    "no SHA-256": ('sha256 = "abc"', "", "got 'abc'; expected 64 of 0-9 and a-f"),
    "bounds": ("threshold_bounds = [2, 3]", "", "got [2.0, 3.0]; expected a factor from 0 to 1 and one of 1 or more"),
    "line": ("threshold = 1.1", "", "the line: got a threshold of 1.1; expected 0.25 to 1;"),
    "camera": ("", "threshold = 0.2", "camera left: got a threshold of 0.2; expected 0.25 to 1;"),
    "region": (
        "threshold_bounds = [0.5, 1.5]",
        '[[camera.region]]\nname = "cap"\nthreshold = 0.8',
        "camera left, region cap: got a threshold of 0.8; expected 0.25 to 0.75;",
    ),
}


@pytest.fixture
def configured(tmp_path, write, paint):
    def configured(keys: str = "", camera: str = "", model: str = "model.onnx") -> tuple[int, str]:
        write(tmp_path / "parts" / "a.png", paint())
        path = tmp_path / "line.toml"
        path.write_text(CONFIG.format(keys=keys, camera=camera, model=model))
        argv = [*COMMAND, "--config", str(path)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
        return done.returncode, done.stderr

    return configured


@pytest.mark.parametrize("case", KEYS)
def test_what_the_configuration_demands(configured, model, case):
    keys, camera, message = KEYS[case]
    code, log = configured(keys, camera)
    assert code == 1
    assert message in log.splitlines()[-1]


def test_a_configuration_whose_demands_are_met(configured, model):
    keys = f'product = "bottle"\nsha256 = "{sha256(model)}"\nthreshold_bounds = [0.1, 4]\nthreshold = 2.0'
    assert configured(keys, "threshold = 0.06")[0] == 0
    golden_path(model).unlink()
    assert configured(keys)[0] == 1
    assert configured("allow_missing_golden = true\n" + keys)[0] == 0


def test_a_journal_remembers_its_product(configured, make_model):
    make_model()
    assert configured()[0] == 0
    make_model("screw.onnx", name="screw")
    code, log = configured(model="screw.onnx")
    assert code == 1
    assert "expected one for 'bottle', of which this journal has verdicts; set the key product" in log
    assert configured('product = "screw"', model="screw.onnx")[0] == 0
    assert configured(model="screw.onnx")[0] == 0


def test_another_configured_model_is_used_without_a_word(configured, make_model):
    make_model()
    assert configured()[0] == 0
    make_model("other.onnx", threshold=0.4)
    code, log = configured(model="other.onnx")
    assert code == 0
    assert "not used again" not in log


def test_a_model_that_never_answers_is_not_ready(tmp_path, make_model, configured, monkeypatch):
    """systemd gets no READY while the check waits."""
    model = make_model(kind="endless")
    golden_path(model).unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        cv2.imwrite(str(tmp_path / "part.png"), np.zeros((32, 64, 3), np.uint8))
        argv = [*COMMAND, str(model), "--source", str(tmp_path / "part.png"), "--journal", str(tmp_path / "a.sqlite")]
        with subprocess.Popen([*argv, "--allow-missing-golden"], stderr=subprocess.DEVNULL) as process:
            try:
                assert listener.recv(4096).startswith(b"EXTEND_TIMEOUT_USEC=")
                listener.settimeout(3)
                with pytest.raises(TimeoutError):
                    listener.recv(4096)
                assert process.poll() is None
            finally:
                process.kill()
