"""Files that are replaced: whole or not at all, and readable by the same people as before."""

from __future__ import annotations

import os
import stat
import tempfile
import threading
from pathlib import Path

import pytest

from stfpm_runtime.errors import OutputError
from stfpm_runtime.files import atomic_path

IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


def mode_of(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_a_file_that_is_replaced_keeps_its_mode(tmp_path, mode):
    path = tmp_path / "secret.toml"
    path.write_text("old")
    path.chmod(mode)
    with atomic_path(path) as unfinished:
        assert mode_of(unfinished) == 0o600  # nobody else reads it while it is written
        unfinished.write_text("new")
        unfinished.chmod(0o400)  # as some writers do
    assert (path.read_text(), mode_of(path)) == ("new", mode)
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_file_has_the_mode_that_the_umask_leaves_or_the_one_that_is_wanted(tmp_path):
    (tmp_path / "plain").touch()
    for name, mode, expected in (("new", 0o666, mode_of(tmp_path / "plain")), ("private", 0o600, 0o600)):
        with atomic_path(tmp_path / name, mode) as unfinished:
            unfinished.write_text("new")
            assert mode_of(unfinished) == expected
        assert mode_of(tmp_path / name) == expected


@pytest.mark.skipif(not IS_ROOT, reason="only root may give a file away")
def test_a_file_that_is_replaced_keeps_its_owner_and_group(tmp_path):
    path = tmp_path / "theirs"
    path.touch()
    os.chown(path, 1234, 4321)
    with atomic_path(path) as unfinished:
        unfinished.write_text("new")
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 4321)


@pytest.mark.skipif(not IS_ROOT, reason="only root may give a file away")
def test_a_group_that_cannot_be_kept_gives_its_rights_to_no_other():
    groups = os.getgroups()
    with tempfile.TemporaryDirectory() as folder:  # other users reach it
        path = Path(folder) / "theirs"
        path.parent.chmod(0o777)
        path.write_text("old")
        os.chown(path, 1234, 4321)
        path.chmod(0o660)
        os.setgroups([])
        os.setegid(99)
        os.seteuid(99)
        try:
            with atomic_path(path) as unfinished:
                unfinished.write_text("new")
        finally:
            os.seteuid(0)
            os.setegid(0)
            os.setgroups(groups)
        assert (path.read_text(), mode_of(path)) == ("new", 0o600)


def test_writers_of_one_file_at_once_do_not_meet(tmp_path):
    path, barrier, errors = tmp_path / "line.toml", threading.Barrier(8), []

    def write(text: str) -> None:
        try:
            with atomic_path(path) as unfinished:
                barrier.wait(30)
                unfinished.write_text(text)
                barrier.wait(30)
                assert unfinished.read_text() == text
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(str(number) * 1000,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert len(set(path.read_text())) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "kept"
    path.write_text("old")

    def fail() -> None:
        with atomic_path(path) as unfinished:
            unfinished.write_text("new")
            raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match="cannot be written"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
