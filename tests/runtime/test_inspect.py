"""`stfpm-inspect` end to end: files in, JSON lines, overlays and exit codes out."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from stfpm_runtime import Detector, open_engine, read_image
from stfpm_runtime.batch.cli import main

COMMAND = (sys.executable, "-c", "import sys; from stfpm_runtime.batch.cli import main; sys.exit(main())")
KEYS = [
    "source", "frame", "decision", "relative_score", "score", "threshold", "reason", "preprocess_ms", "infer_ms",
    "latency_ms",
]  # fmt: skip


@dataclass(frozen=True)
class Inspected:
    code: int
    records: list[dict]
    errors: list[str]

    @property
    def decisions(self) -> list[str]:
        return [record["decision"] for record in self.records]


@pytest.fixture
def inspect(capsys):
    def inspect(*argv: object) -> Inspected:
        code = main([*map(str, argv), "--threads", "1"])
        out, err = capsys.readouterr()
        return Inspected(code, [json.loads(line) for line in out.splitlines()], err.splitlines())

    return inspect


@pytest.fixture
def parts(tmp_path, write, paint) -> Path:
    """Three good parts and a defective one, in subfolders with the same names."""
    folder = tmp_path / "parts"
    write(folder / "broken" / "000.png", paint(255))
    for number in range(3):
        write(folder / "good" / f"{number:03}.png", paint(10 * number))
    return folder


@pytest.fixture
def odd_parts(parts, write, paint) -> Path:
    """The same, and whatever else turns up on a line."""
    write(parts / "odd" / "0_grey.png", paint(255)[..., 0])
    write(parts / "odd" / "1_rgba.png", np.dstack([paint(), np.full((32, 64), 255, np.uint8)]))
    write(parts / "odd" / "2_sixteen.png", paint(255).astype(np.uint16) << 8)
    write(parts / "odd" / "3_pixel.png", paint(0, 1, 1))
    whole = write(parts / "odd" / "4_cut.jpg", np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    whole.write_bytes(whole.read_bytes()[:-500])
    (parts / "odd" / "5_empty.png").touch()
    (parts / "odd" / "6_text.png").write_text("not a picture")
    write(parts / "odd" / "7_last.png", paint(255))
    return parts


def overlays(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_each_picture_gets_its_verdict_in_order(inspect, model, parts):
    result = inspect(model, "--source", parts)
    assert result.code == 0
    assert [Path(record["source"]).relative_to(parts).as_posix() for record in result.records] == [
        "broken/000.png", "good/000.png", "good/001.png", "good/002.png",
    ]  # fmt: skip
    assert result.decisions == ["reject", "pass", "pass", "pass"]
    assert [record["score"] for record in result.records] == pytest.approx([1, 0, 10 / 255, 20 / 255])
    for record in result.records:
        assert list(record) == KEYS
        assert record["relative_score"] == record["score"] / 0.5
        assert (record["frame"], record["threshold"], record["reason"]) == (None, 0.5, None)
        assert record["latency_ms"] == pytest.approx(record["preprocess_ms"] + record["infer_ms"], abs=0.002)
        assert record["infer_ms"] > 0


def test_summary_and_model_are_printed_on_stderr(inspect, model, parts):
    opening, summary = inspect(model, "--source", parts).errors
    assert opening == "model bottle (fp32, CPUExecutionProvider), threshold 0.5"
    assert summary.startswith(
        "4 frames: 3 passed, 1 rejected, 0 not judged; yield 75.0%; relative scores 0.00 to 2.00; latency median "
    )
    assert ", p99 " in summary


def test_what_cannot_be_read_is_a_fault_in_its_place_and_inspection_goes_on(inspect, model, odd_parts):
    result = inspect(model, "--source", odd_parts / "odd")
    assert result.code == 1
    assert result.decisions == ["reject", "pass", "reject", "fault", "fault", "fault", "fault", "reject"]
    faults = [record for record in result.records if record["decision"] == "fault"]
    assert all(record["score"] is None and record["relative_score"] is None for record in faults)
    reasons = ["got a picture of 1x1 pixels", "ends before", "is empty", "cannot be decoded"]
    assert all(reason in fault["reason"] for reason, fault in zip(reasons, faults, strict=True))
    assert "8 frames: 1 passed, 3 rejected, 4 not judged; yield 12.5%" in result.errors[-2]
    assert result.errors[-1].startswith(
        "stfpm-inspect: error: 4 of 8 frames could not be judged, and none of them is passed; the first: "
    )
    assert "got a picture of 1x1 pixels; expected sides of 8 or more" in result.errors[-1]


@pytest.mark.parametrize("size", [2, 3, 100])
def test_batches_give_the_same_verdicts(inspect, model, odd_parts, size):
    def verdicts(result: Inspected) -> list[tuple]:
        return [(record["source"], record["decision"], record["score"]) for record in result.records]

    alone, batched = (inspect(model, "--source", odd_parts, "--batch-size", count) for count in (1, size))
    assert verdicts(alone) == verdicts(batched)
    assert batched.code == alone.code == 1


def test_frames_of_a_video_are_numbered(inspect, model, tmp_path, write_video):
    result = inspect(model, "--source", write_video(tmp_path / "clip.avi", [0, 255, 40]))
    assert result.code == 0
    assert [record["frame"] for record in result.records] == [0, 1, 2]
    assert result.decisions == ["pass", "reject", "pass"]


def test_broken_video_is_a_fault_and_the_next_source_follows(inspect, model, tmp_path, parts):
    (tmp_path / "clip.mp4").write_bytes(b"nothing")
    result = inspect(model, "--source", tmp_path / "clip.mp4", parts)
    assert (result.code, result.decisions) == (1, ["fault", "reject", "pass", "pass", "pass"])


def test_engine_that_fails_is_a_fault_for_that_frame(inspect, make_model, parts):
    result = inspect(make_model(kind="failing"), "--source", parts)
    assert (result.code, result.decisions) == (1, ["fault", "pass", "pass", "pass"])
    assert result.records[0]["reason"].startswith("ONNX Runtime failed: ")


def test_score_that_is_not_a_number_is_a_fault(inspect, make_model, parts, write, paint):
    write(parts / "good" / "001.png", paint(51))
    result = inspect(make_model(kind="nan"), "--source", parts)
    assert (result.code, result.decisions) == (1, ["reject", "pass", "fault", "pass"])
    assert "the first: the score is nan" in result.errors[-1]


def test_model_for_rgb_gets_rgb(inspect, make_model, parts):
    assert inspect(make_model(channel_order="RGB"), "--source", parts).decisions == ["pass"] * 4


def test_threshold_and_limit(inspect, model, parts):
    result = inspect(model, "--source", parts, "--threshold", 0.05, "--limit", 4)
    assert result.decisions == ["reject", "pass", "pass", "reject"]
    assert {record["threshold"] for record in result.records} == {0.05}
    assert inspect(model, "--source", parts, "--limit", 2).decisions == ["reject", "pass"]
    assert "threshold 0.05" in result.errors[0]


def test_json_goes_to_a_file_and_leaves_stdout_empty(inspect, model, parts, tmp_path):
    path = tmp_path / "new" / "verdicts.jsonl"
    result = inspect(model, "--source", parts, "--json", path)
    assert (result.code, result.records) == (0, [])
    assert [json.loads(line)["decision"] for line in path.read_text().splitlines()] == ["reject"] + ["pass"] * 3


def test_overlays_mirror_the_sources_so_that_none_overwrites_another(inspect, model, parts, write, paint, tmp_path):
    write(parts / "good" / "000.jpg", paint())
    result = inspect(model, "--source", parts, "--save", tmp_path / "overlays")
    assert result.code == 0
    assert overlays(tmp_path / "overlays") == [
        "broken/000.png.overlay.png", "good/000.jpg.overlay.png", "good/000.png.overlay.png",
        "good/001.png.overlay.png", "good/002.png.overlay.png",
    ]  # fmt: skip


def test_overlay_is_of_the_picture_s_size_with_the_defect_in_its_place(inspect, model, write, paint, tmp_path):
    write(tmp_path / "parts" / "a.png", paint(255, 300, 400))
    inspect(model, "--source", tmp_path / "parts", "--save", tmp_path / "overlays")
    drawn = cv2.imread(str(tmp_path / "overlays" / "a.png.overlay.png"))
    assert drawn.shape == (300, 400, 3)
    assert drawn[75, 100, 2] > 100  # red over blue
    assert (drawn[200, 300] == 0).all()
    assert (drawn[75, 200] == 255).all()  # the contour, just right of the patch


def test_overlays_of_a_video_are_in_a_folder_of_its_name(inspect, model, tmp_path, write_video):
    write_video(tmp_path / "line" / "clip.avi", [0, 255])
    inspect(model, "--source", tmp_path / "line", "--save", tmp_path / "overlays")
    assert overlays(tmp_path / "overlays") == ["clip.avi/000000.overlay.png", "clip.avi/000001.overlay.png"]


@pytest.mark.parametrize(
    ("save_only", "expected"),
    [
        ("all", ["bad", "good", "nan"]),
        ("pass", ["good"]),
        ("reject", ["bad", "nan"]),  # all that was not passed
        ("fault", ["nan"]),
    ],
)
def test_save_only(inspect, make_model, write, paint, tmp_path, save_only, expected):
    for name, level in (("good", 0), ("bad", 255), ("nan", 51)):
        write(tmp_path / "parts" / f"{name}.png", paint(level))
    (tmp_path / "parts" / "unreadable.png").touch()  # has nothing to show
    folder = tmp_path / "overlays"
    argv = ("--source", tmp_path / "parts", "--save", folder, "--save-only", save_only)
    result = inspect(make_model(kind="nan"), *argv)
    assert (result.code, result.decisions) == (1, ["reject", "pass", "fault", "fault"])
    assert overlays(folder) == [f"{name}.png.overlay.png" for name in expected]


def test_overlay_that_cannot_be_written_costs_no_verdict(inspect, model, parts, tmp_path):
    for name in ("000", "001"):  # folders stand in their way
        (tmp_path / "overlays" / "good" / f"{name}.png.overlay.png").mkdir(parents=True)
    result = inspect(model, "--source", parts, "--save", tmp_path / "overlays")
    assert (result.code, result.decisions) == (1, ["reject", "pass", "pass", "pass"])
    assert overlays(tmp_path / "overlays") == ["broken/000.png.overlay.png", "good/002.png.overlay.png"]
    (message,) = (line for line in result.errors if "going on without" in line)
    assert "good/000.png.overlay.png: the overlay cannot be written" in message
    assert result.errors[-1] == (
        "stfpm-inspect: error: 2 overlays could not be written; free space or choose another --save"
    )


def test_faults_and_lost_overlays_are_one_line(inspect, model, odd_parts, tmp_path):
    (tmp_path / "overlays" / "good" / "000.png.overlay.png").mkdir(parents=True)
    last = inspect(model, "--source", odd_parts, "--save", tmp_path / "overlays").errors[-1]
    assert "4 of 12 frames could not be judged" in last
    assert "; 1 overlays could not be written" in last


def test_sources_within_the_folder_for_overlays_are_refused(inspect, model, parts):
    before = overlays(parts)
    for folder in (parts, parts.parent, parts / "good" / ".." / "good"):
        result = inspect(model, "--source", parts, "--save", folder)
        assert (result.code, result.records) == (1, [])
        assert "choose a folder that holds no source" in result.errors[-1]
    assert overlays(parts) == before


@pytest.mark.parametrize("option", ["--json", "--save"])
def test_place_that_cannot_be_written_is_found_out_before_the_first_frame(inspect, model, parts, tmp_path, option):
    (tmp_path / "file").touch()
    result = inspect(model, "--source", parts, option, tmp_path / "file" / "below")
    assert (result.code, result.records) == (1, [])
    assert len(result.errors) == 1
    assert "cannot be written" in result.errors[0]


def test_json_that_is_a_folder_is_refused(inspect, model, parts, tmp_path):
    result = inspect(model, "--source", parts, "--json", tmp_path)
    assert result.code == 1
    assert "is a folder; expected the name of a file" in result.errors[0]


def test_refused_model_leaves_the_verdicts_of_the_last_run_alone(inspect, model, parts, tmp_path):
    (tmp_path / "verdicts.jsonl").write_text("precious\n")
    model.write_bytes(b"damaged")
    assert inspect(model, "--source", parts, "--json", tmp_path / "verdicts.jsonl").code == 1
    assert (tmp_path / "verdicts.jsonl").read_text() == "precious\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux only")
def test_verdict_that_cannot_be_written_ends_the_inspection(inspect, model, parts):
    result = inspect(model, "--source", parts, "--json", "/dev/full")
    assert result.code == 1
    assert "broken/000.png cannot be written (No space left on device); it and those after it" in result.errors[-1]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["none.onnx", "--source", "{parts}"], "none.onnx: no such file; expected a model.onnx"),
        (["{model}", "--source", "{parts}/none"], "none: no such file or folder; expected a picture"),
        (["{model}", "--source", "{empty}"], "neither picture nor video in it; expected at least one"),
        (["{model}", "--source", "{parts}", "--threshold", "nan"], "got a threshold of nan; expected a finite number"),
    ],
)
def test_what_the_user_can_mend_is_one_line_and_status_1(inspect, model, parts, tmp_path, argv, message):
    (tmp_path / "empty").mkdir()
    result = inspect(*(text.format(parts=parts, model=model, empty=tmp_path / "empty") for text in argv))
    assert (result.code, result.records) == (1, [])
    assert len(result.errors) == 1
    assert result.errors[0].startswith("stfpm-inspect: error: ")
    assert message in result.errors[0]


def test_model_without_a_threshold_asks_for_one(inspect, make_model, parts):
    model = make_model(threshold=None)
    assert "has no threshold; give one" in inspect(model, "--source", parts).errors[-1]
    assert inspect(model, "--source", parts, "--threshold", 0.5).code == 0


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["model.onnx"],
        ["--source", "a.png"],
        ["model.onnx", "--source"],
        ["model.onnx", "--source", "a.png", "--save-only", "reject"],
        ["model.onnx", "--source", "a.png", "--save", "out", "--save-only", "some"],
        ["model.onnx", "--source", "a.png", "--limit", "0"],
        ["model.onnx", "--source", "a.png", "--batch-size", "-1"],
        ["model.onnx", "--source", "a.png", "--threads", "many"],
        ["model.onnx", "--source", "a.png", "--threshold", "high"],
    ],
)
def test_bad_usage_is_status_2(argv, capsys):
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2
    assert "stfpm-inspect: error: " in capsys.readouterr().err


def command(*argv: object, **options) -> subprocess.CompletedProcess:
    """Runs the command as its users do, in a process of its own."""
    argv = (*COMMAND, *map(str, argv), "--threads", "1")
    buffered = {**os.environ, "PYTHONUNBUFFERED": ""}  # as it is for a user: what is not flushed waits for the exit
    return subprocess.run(argv, env=buffered, stderr=subprocess.PIPE, text=True, timeout=180, check=False, **options)


def test_in_a_process_stdout_is_json_and_stderr_words_alone(model, odd_parts, tmp_path):
    """OpenCV's and FFmpeg's logs write past Python; they must not get into either."""
    (odd_parts / "odd" / "clip.mp4").write_bytes(b"nothing")
    (odd_parts / "odd" / "cut.bmp").write_bytes(cv2.imencode(".bmp", np.zeros((9, 9, 3), np.uint8))[1].tobytes()[:99])
    done = command(model, "--source", odd_parts, "--save", tmp_path / "overlays", stdout=subprocess.PIPE)
    assert done.returncode == 1
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["decision"] for record in records].count("fault") == 6
    assert len(records) == 14
    assert len(overlays(tmp_path / "overlays")) == 9
    opening, summary, message = done.stderr.splitlines()
    assert opening.startswith("model bottle")
    assert summary.startswith("14 frames: ")
    assert message.startswith("stfpm-inspect: error: 6 of 14 frames could not be judged")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux only")
def test_full_disk_behind_stdout_is_status_1(model, parts):
    with Path("/dev/full").open("w") as full:
        done = command(model, "--source", parts, stdout=full)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("stfpm-inspect: error: <stdout>: the verdict on ")


def test_closed_pipe_behind_stdout_ends_without_a_traceback(model, parts):
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = command(model, "--source", parts, stdout=writing)
    finally:
        os.close(writing)
    assert done.returncode == 1
    opening, summary = done.stderr.splitlines()  # neither traceback nor message
    assert opening.startswith("model bottle")
    assert summary.startswith("0 frames: ")


def test_kill_loses_nothing_that_was_judged(model, parts, tmp_path):
    """The third picture is a pipe that has no writer: the command waits there, and is killed."""
    os.mkfifo(tmp_path / "pipe.png")
    verdicts = tmp_path / "verdicts.jsonl"
    argv = (model, "--source", parts / "broken", parts / "good" / "000.png", tmp_path / "pipe.png", "--json", verdicts)
    with subprocess.Popen([*COMMAND, *argv], stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while not verdicts.exists() or verdicts.read_text().count("\n") < 2:
            assert time.monotonic() < deadline, "no two verdicts in the file"
            time.sleep(0.02)
        process.kill()
    assert [json.loads(line)["decision"] for line in verdicts.read_text().splitlines()] == ["reject", "pass"]


@pytest.mark.parametrize("link", [False, True])
def test_verdicts_never_overwrite_a_source_or_the_model(inspect, model, parts, tmp_path, link):
    for victim in (parts / "broken" / "000.png", model, parts.parent / "other.png"):
        if victim.name == "other.png":
            victim.write_bytes((parts / "broken" / "000.png").read_bytes())
        before, output = victim.read_bytes(), victim
        if link:
            output = tmp_path / f"{victim.stem}.jsonl"
            output.symlink_to(victim)
        result = inspect(model, "--source", parts, "--json", output)
        assert result.code == 1
        assert "which would be overwritten; choose another name" in result.errors[-1]
        assert victim.read_bytes() == before


def test_earlier_verdicts_may_be_overwritten(inspect, model, parts, tmp_path):
    for _ in range(2):
        assert inspect(model, "--source", parts, "--json", tmp_path / "v.jsonl").code == 0


def test_password_of_a_stream_is_not_printed(inspect, model):
    result = inspect(model, "--source", "rtsp://user:secret@127.0.0.1:9/x")
    assert result.code == 1
    assert "rtsp://127.0.0.1:9/x: is no file; a camera or a stream needs --journal" in result.errors[-1]
    assert "secret" not in "".join(result.errors)


def test_what_is_left_out_is_counted_and_named(inspect, model, parts):
    (parts / "good" / "notes.txt").touch()
    result = inspect(model, "--source", parts)
    assert result.code == 0
    assert result.errors[0] == f"1 not inspected; files named *.txt are not read: {parts}/good/notes.txt"
    assert result.errors[-1].endswith("; 1 files left out")


def test_bits_are_the_model_s_or_those_of_the_option(inspect, make_model, write, tmp_path):
    frame = np.zeros((32, 64), np.uint16)
    frame[:16, :32] = 0xFF0
    path = write(tmp_path / "part.png", frame)
    for model, options in ((make_model("a.onnx", bits=12), ()), (make_model("b.onnx"), ("--bits", 12))):
        (record,) = inspect(model, "--source", path, *options).records
        assert (record["decision"], record["score"]) == ("reject", 1.0)
    (record,) = inspect(make_model("b.onnx"), "--source", path).records
    assert record["decision"] == "fault"
    assert "4 of 16 bits are unused; set bits" in record["reason"]
    assert "got bits 8; expected 9 to 16" in inspect(model, "--source", path, "--bits", 8).errors[-1]


def test_picture_of_too_many_pixels_is_a_fault(inspect, model, parts):
    result = inspect(model, "--source", parts / "good", "--max-megapixels", 0.001)
    assert result.decisions == ["fault"] * 3
    assert "expected at most 0.001, raise max_megapixels" in result.records[0]["reason"]


def test_the_command_and_python_judge_a_turned_photograph_alike(inspect, model, tmp_path, paint):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "part.jpg"
    Image.fromarray(paint(255)).save(path, exif=exif, quality=95, subsampling=0)
    (record,) = inspect(model, "--source", path).records
    with contextlib.closing(open_engine(model, threads=1)) as engine:
        detector = Detector(engine)
        assert detector.inspect(path).score == detector.inspect(read_image(path)).score == record["score"]
    assert read_image(path).shape == paint().shape


def test_paths_after_the_model_are_sources(model, parts, capsys):
    first, second = sorted(parts.rglob("*.png"))[:2]
    assert main([str(model), str(first), "--limit", "5", str(second)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    with pytest.raises(SystemExit):
        main([str(model), str(parts), "--source", str(parts)])


def test_a_person_at_a_terminal_gets_lines_and_colours(model, write, paint, tmp_path, monkeypatch, capsys):
    path = write(tmp_path / "bad.png", paint(255))
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert main([str(model), str(path)]) == 0
    assert capsys.readouterr().out == f"\x1b[1;31mreject\x1b[0m   2.00  {path}\n"
    monkeypatch.setenv("NO_COLOR", "1")
    assert main([str(model), str(path)]) == 0
    assert capsys.readouterr().out == f"reject   2.00  {path}\n"
    assert main([str(model), str(path), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["decision"] == "reject"


def test_masks_of_a_category_are_not_judged(model, write, paint, tmp_path, capsys):
    for folder in ("test/good", "ground_truth/hole"):
        write(tmp_path / "cap" / folder / "0.png", paint(0))
    assert main([str(model), str(tmp_path / "cap")]) == 0
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 1
    assert "folders named ground_truth hold masks" in printed.err
    assert main([str(model), str(tmp_path / "cap/ground_truth")]) == 0  # asked for by name
    capsys.readouterr()
