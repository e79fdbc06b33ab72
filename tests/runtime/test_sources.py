"""What `--source` finds, and the frames that it gives, those that cannot be read included."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from stfpm_runtime.errors import DataError
from stfpm_runtime.sources import FileSource, find_files, read_frames


@pytest.fixture
def tree(tmp_path, write, paint, monkeypatch):
    """A folder `parts` in the current one; its contents are written in no sorted order."""
    for name in ("parts/good/1.png", "parts/good/0.png", "parts/broken/0.png", "parts/part[1].png"):
        write(tmp_path / name, paint())
    (tmp_path / "parts/notes.txt").write_text("not a picture")
    (tmp_path / "parts/.hidden.png").touch()
    (tmp_path / "parts/clip.avi").touch()
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(*sources: str) -> list[str]:
    return [path.as_posix() for path in find_files(sources).paths]


def test_folder_gives_pictures_and_videos_below_it_sorted(tree):
    assert found("parts") == [
        "parts/broken/0.png", "parts/clip.avi", "parts/good/0.png", "parts/good/1.png", "parts/part[1].png",
    ]  # fmt: skip


def test_folder_and_pattern_sort(tmp_path):
    names = [f"{number * 37 % 50:02}.png" for number in range(50)]  # neither rising nor falling, as a disk has them
    for name in names:
        (tmp_path / name).touch()
    for source in (tmp_path, tmp_path / "*"):
        assert [path.name for path in find_files([str(source)]).paths] == sorted(names)


def test_files_keep_the_order_in_which_they_are_named(tree):
    assert found("parts/good/1.png", "parts/broken", "parts/good/0.png") == [
        "parts/good/1.png", "parts/broken/0.png", "parts/good/0.png",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("parts/*/0.png", ["parts/broken/0.png", "parts/good/0.png"]),
        ("parts/**/1.png", ["parts/good/1.png"]),
        ("parts/g*", ["parts/good/0.png", "parts/good/1.png"]),
        ("parts/[n-p]*", ["parts/part[1].png"]),  # notes.txt matches and is none of ours
    ],
)
def test_pattern_gives_what_it_matches_sorted(tree, pattern, expected):
    assert found(pattern) == expected


def test_file_whose_name_looks_like_a_pattern_is_a_file(tree):
    assert found("parts/part[1].png") == ["parts/part[1].png"]


def test_file_named_outright_is_taken_whatever_its_suffix(tree):
    assert found("parts/notes.txt") == ["parts/notes.txt"]


def test_file_named_twice_is_taken_once(tree):
    assert found("parts/good/1.png", "parts/good", "./parts/broken/../good/0.png", str(tree / "parts/good/0.png")) == [
        "parts/good/1.png", "parts/good/0.png",
    ]  # fmt: skip


def test_links_are_frames_of_their_own(tree):
    (tree / "parts/good/2.png").symlink_to(tree / "parts/good/0.png")
    assert found("parts/good") == ["parts/good/0.png", "parts/good/1.png", "parts/good/2.png"]


@pytest.mark.parametrize(
    ("sources", "root"),
    [
        (["parts"], "parts"),
        (["parts/broken", "parts/good"], "parts"),
        (["parts/good/0.png"], "parts/good"),
        (["parts/*/0.png"], "parts"),
        (["parts", "empty"], "."),
        (["parts/good/../broken"], "parts/broken"),
    ],
)
def test_root_is_the_innermost_folder_that_holds_all_that_was_named(tree, sources, root):
    assert find_files(sources).root == (tree / root)


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (["none.png"], "none.png: no such file or folder; expected a picture, a video, a folder or a quoted pattern"),
        (["parts", "nowhere"], "nowhere: no such file or folder"),
        (["parts/*.jpg"], r"parts/\*.jpg: the pattern matches no picture, video or folder; check it, and quote it"),
        (["parts/n*.txt"], "the pattern matches no picture"),
        (["empty"], "empty: neither picture nor video in it; expected at least one to inspect"),
    ],
)
def test_sources_that_hold_nothing_are_refused(tree, sources, message):
    with pytest.raises(DataError, match=message):
        find_files(sources)


def test_picture_is_a_frame_without_a_number(tmp_path, write, paint):
    path = write(tmp_path / "a.png", paint(200))
    (frame,) = read_frames([path])
    assert (frame.source, frame.index, frame.error) == (str(path), None, "")
    np.testing.assert_array_equal(frame.image, paint(200))


def test_bad_picture_is_a_frame_with_an_error_and_the_next_one_follows(tmp_path, write, paint):
    (tmp_path / "a.png").touch()
    bad, good = read_frames([tmp_path / "a.png", write(tmp_path / "b.png", paint())])
    assert bad.image is None
    assert "a.png: the file is empty" in bad.error
    assert good.image is not None


def test_file_that_vanished_is_a_frame_with_an_error(tmp_path):
    (frame,) = read_frames([tmp_path / "gone.png"])
    assert "gone.png: cannot be read (No such file or directory)" in frame.error


def test_video_gives_its_frames_in_order(tmp_path, write_video):
    path = write_video(tmp_path / "clip.avi", [0, 100, 200])
    frames = list(read_frames([path]))
    assert [frame.index for frame in frames] == [0, 1, 2]
    assert {frame.source for frame in frames} == {str(path)}
    assert [int(frame.image[4, 4, 0]) for frame in frames] == pytest.approx([0, 100, 200], abs=3)
    assert all(frame.image.shape == (32, 64, 3) for frame in frames)


def test_video_that_breaks_off_ends_with_an_error(tmp_path, write_video):
    path = write_video(tmp_path / "clip.avi", [0] * 20)
    data = path.read_bytes()
    path.write_bytes(data[: int(0.9 * len(data))])
    frames = list(read_frames([path]))
    assert len(frames) > 5
    assert all(frame.image is not None for frame in frames[:-2])
    assert "the frame" in frames[-2].error  # the one in which the file breaks off
    assert frames[-1].image is None
    assert frames[-1].index == len(frames) - 1
    assert f"clip.avi: breaks off after {len(frames) - 1} of 20 frames; copy it again" in frames[-1].error


@pytest.mark.parametrize("content", [b"", b"no video at all" * 100])
def test_video_that_cannot_be_opened_is_one_frame_with_an_error(tmp_path, content):
    (tmp_path / "clip.mp4").write_bytes(content)
    (frame,) = read_frames([tmp_path / "clip.mp4"])
    assert (frame.image, frame.index) == (None, 0)
    assert "clip.mp4: no frame can be decoded; expected a whole video, copy it again" in frame.error


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_file_that_may_not_be_read_is_a_frame_with_an_error(tmp_path, write, paint):
    path = write(tmp_path / "a.png", paint())
    path.chmod(0)
    (frame,) = read_frames([path])
    assert "cannot be read (Permission denied)" in frame.error


@pytest.fixture
def encode_video(tmp_path):
    """Makes a video of 60 moving frames with FFmpeg, in which frames are predicted from others."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("needs ffmpeg")

    def encode(name: str, *options: str, source: Path | None = None, before: tuple[str, ...] = ()) -> Path:
        path = tmp_path / name
        given = ["-i", str(source)] if source else ["-f", "lavfi", "-i", "testsrc2=s=160x120:r=25:d=2.4"]
        subprocess.run(["ffmpeg", "-v", "error", *before, *given, *options, str(path)], check=True)
        return path

    return encode


@pytest.mark.parametrize("suffix", ["mp4", "mov", "m4v", "mkv", "webm", "avi", "ts", "mpg", "flv"])
def test_whole_video_of_any_container_has_no_error(encode_video, suffix):
    frames = list(read_frames([encode_video(f"a.{suffix}", "-q:v", "5")]))
    assert len(frames) == 60
    assert {frame.error for frame in frames} == {""}


def test_frames_that_a_container_hides_or_guesses_are_no_loss(encode_video):
    whole = encode_video("whole.mp4")
    cut = encode_video("cut.mp4", "-c", "copy", source=whole, before=("-ss", "0.9"))  # an edit list hides the rest
    sparse = encode_video("sparse.mkv", "-vf", "select='not(mod(n,3))'", "-vsync", "vfr")  # its count is a guess
    for path in (cut, sparse):
        assert {frame.error for frame in read_frames([path])} == {""}


@pytest.mark.parametrize(
    ("suffix", "options"), [("mp4", ("-movflags", "faststart")), ("mkv", ()), ("webm", ()), ("avi", ())]
)
def test_video_file_cut_off_ends_with_an_error(encode_video, suffix, options):
    path = encode_video(f"a.{suffix}", *options)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 4 // 5])
    *frames, last = read_frames([path])
    assert frames
    assert last.image is None
    assert f"a.{suffix}: breaks off after {len(frames)}" in last.error


def test_video_of_too_many_pixels_is_refused(tmp_path, write_video):
    (frame,) = read_frames([write_video(tmp_path / "a.avi", [0, 1])], max_megapixels=0.001)
    assert "has frames of 64x32 pixels; expected at most 0.001 megapixels" in frame.error


def test_what_is_left_out_is_named_with_its_reason(tree, write, paint):
    write(tree / "elsewhere/far.png", paint())
    (tree / "parts/linked").symlink_to(tree / "elsewhere")
    (tree / "parts/back").symlink_to(tree / "parts")
    (tree / "parts/nowhere.png").symlink_to(tree / "gone.png")
    (tree / "parts/photo.heic").touch()
    files = find_files(["parts"])
    assert [path.as_posix() for path in files.paths] == [
        "parts/broken/0.png", "parts/clip.avi", "parts/good/0.png", "parts/good/1.png", "parts/linked/far.png",
        "parts/part[1].png",
    ]  # fmt: skip
    assert {path.as_posix(): reason for path, reason in files.left_out.items()} == {
        "parts/notes.txt": "files named *.txt are not read",
        "parts/photo.heic": "files named *.heic are not read",
        "parts/nowhere.png": "the link leads nowhere",
    }
    assert find_files(["parts/*"]).left_out.keys() >= {Path("parts/notes.txt"), Path("parts/photo.heic")}


@pytest.mark.parametrize("name", ["a.jp2", "a.avif", "a.gif", "a.jfif", "a.jpe", "a.m4v", "a.ts", "a.dib", "a.pam"])
def test_every_kind_of_picture_and_video_is_found(tmp_path, name):
    (tmp_path / name).touch()
    assert [path.name for path in find_files([str(tmp_path)]).paths] == [name]


@pytest.mark.parametrize("source", ["rtsp://user:secret@127.0.0.1:9/x?token=secret"])
def test_stream_is_refused_as_a_file_without_its_password(source):
    with pytest.raises(DataError, match="is no file; a camera or a stream needs --journal FILE") as refused:
        find_files([source])
    assert "secret" not in str(refused.value)


def test_files_of_a_line_that_are_left_out_are_an_event(tree):
    events = []
    source = FileSource(["parts"], on_event=events.append)
    assert [event.kind for event in events] == ["skipped"]
    assert events[0].detail == "1 not inspected; files named *.txt are not read: parts/notes.txt"
    source.close()
