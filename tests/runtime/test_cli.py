"""What all commands share: exit codes, and one line for what the user can fix."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stfpm_runtime.cli import run
from stfpm_runtime.errors import DataError


def raising(error: BaseException):
    def action() -> int:
        raise error

    return action


@pytest.mark.parametrize("status", [0, 1])
def test_action_s_status_is_the_command_s(status):
    assert run("stfpm", lambda: status) == status


def test_what_the_user_can_mend_is_one_line_and_status_1(capsys):
    assert run("stfpm", raising(DataError("got this\n  expected that"))) == 1
    assert capsys.readouterr() == ("", "stfpm: error: got this expected that\n")


def test_interruption_is_status_130(capsys):
    assert run("stfpm", raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "stfpm: interrupted\n"


def test_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run("stfpm", raising(ZeroDivisionError()))


def test_file_that_the_system_refuses_is_one_line_with_its_name(capsys):
    assert run("stfpm", raising(PermissionError(13, "Permission denied", "/data/a.sqlite"))) == 1
    assert capsys.readouterr().err == "stfpm: error: /data/a.sqlite: cannot be used (Permission denied)\n"
    with pytest.raises(ConnectionError):
        run("stfpm", raising(ConnectionError(104, "Connection reset")))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux only")
@pytest.mark.parametrize("arguments", [["-V"], ["--completion", "bash"]])
def test_full_disk_and_closed_pipe_of_stdout(arguments):
    command = [sys.executable, "-c", "import sys; from stfpm_runtime.command import main; sys.exit(main())", *arguments]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=180, check=False)
    assert (done.returncode, done.stderr) == (1, "stfpm: error: stdout: cannot be written (No space left on device)\n")
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=180, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux only")
def test_output_that_a_full_disk_refuses_does_not_change_the_status():
    code = """
import sys
from stfpm_runtime.cli import run
from stfpm_runtime.errors import DataError

def action():
    print("a result that is still in the buffer")
    raise DataError("got this, expected that")

sys.exit(run("stfpm", action))
"""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, timeout=180, check=False,
            env={**os.environ, "PYTHONUNBUFFERED": ""},
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "stfpm: error: got this, expected that\n")
