"""Models that were trained elsewhere come through the browser; until they are whole and checked, nothing is changed."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from stfpm_runtime.artifact.golden import golden_path
from stfpm_runtime.errors import OptionError
from stfpm_runtime.files import sha256
from stfpm_runtime.line.models.active_model import ActiveModel, no_model
from stfpm_runtime.line.models.swap import ModelSwap
from stfpm_runtime.line.models.training import TrainingTask
from stfpm_runtime.line.web.api import model_upload
from stfpm_runtime.line.web.http.users import add_user, write_users

from ..conftest import wait_until
from ..test_model_swap import details, make_proven  # noqa: F401 (a fixture)
from .conftest import TOKEN, Answer

BYTES = {"Content-Type": "application/octet-stream"}


@pytest.fixture
def client(serve):
    return serve()


@pytest.fixture
def make_files(make_proven, tmp_path):  # noqa: F811 (the fixture)
    """Return a function that makes the golden file and the model of a training elsewhere, as bytes."""

    def make(**changes) -> tuple[bytes, bytes]:
        elsewhere = make_proven("elsewhere.onnx", **{"threshold": 0.3, **changes})
        files = golden_path(elsewhere).read_bytes(), elsewhere.read_bytes()
        golden_path(elsewhere).unlink()
        elsewhere.unlink()
        return files

    return make


def send(client, files: tuple[bytes, bytes], name: str = "new.onnx", who: str = "Ada", **headers: str) -> Answer:
    query = f"?golden_bytes={len(files[0])}&who={who}"
    return client.ask(f"/model/{name}{query}", "PUT", b"".join(files), **{**BYTES, **headers})


def names(folder: Path) -> set[str]:
    """Return what lies next to the model, without the journal and pictures."""
    kept = ("line.sqlite", "pictures", "collected", "users")
    return {path.name for path in folder.iterdir() if not path.name.startswith(kept)}


def test_an_uploaded_model_is_a_candidate_and_can_be_put_to_use(client, make_files, tmp_path):
    golden, model = make_files()
    answer = send(client, (golden, model))
    assert answer.status == 200, answer
    path = tmp_path / "new.onnx"
    assert answer.json["sha256"] == sha256(path)
    assert (path.read_bytes(), golden_path(path).read_bytes()) == (model, golden)
    assert names(tmp_path) == {"model.onnx", "new.onnx", "new.golden.npz"}
    said = f"new.onnx ({sha256(path)[:12]}): none -> uploaded, by Ada"
    wait_until(lambda: details(client.running.journal, "model") == [said])
    listed = {row["file"]: row["state"] for row in client.get("/model")["models"]}
    assert listed["new.onnx"] == "new"
    assert client.post("/model", action="activate", file="new.onnx", who="Ada").status == 200
    wait_until(lambda: client.running.line.active_model.model.path == path)
    assert not client.running.errors


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "screw"}, "is for the product 'screw'; expected one for 'bottle'"),
        ({"wrong": 0.01}, "its anomaly map is 0.01 away from PyTorch's"),
        ({"kind": "failing"}, "ONNX Runtime failed"),
        ({"parity": {}}, "carries no parity report"),
    ],
)
def test_a_model_that_could_not_be_used_is_not_taken(client, make_files, tmp_path, changes, said):
    before = names(tmp_path)
    answer = send(client, make_files(**changes))
    assert answer.status == 409
    assert answer.json["error"].startswith("new.onnx was not taken: ")
    assert said in answer.json["error"]
    assert model_upload.FOLDER not in answer.json["error"]
    assert names(tmp_path) == before
    wait_until(lambda: details(client.running.journal, "model"))
    assert details(client.running.journal, "model")[0].startswith("upload of new.onnx refused, by Ada: ")


def test_damaged_files_are_not_taken(client, make_files, tmp_path):
    golden, model = make_files()
    for files in ((b"x" * 1000, model), (golden[:-100], model), (golden, b"x" * 5000), (golden, model[:-10])):
        assert send(client, files).status == 409
    assert names(tmp_path) == {"model.onnx"}


@pytest.mark.parametrize("name", ["model.onnx", ".new.onnx", "new.engine", "..%2Fnew.onnx", "plan.onnx", "taught.onnx"])
def test_a_name_that_is_taken_or_makes_no_sense_is_refused(client, make_files, tmp_path, name):
    (tmp_path / "plan.engine").write_bytes(b"a plan")
    client.running.line.training._task = TrainingTask(
        tmp_path, tmp_path / "taught.onnx", "bottle", (16, 32), "imagenet", None, "Ada"
    )
    before = names(tmp_path)
    assert send(client, make_files(), name).status in (404, 409)
    assert names(tmp_path) == before
    assert (tmp_path / "model.onnx").read_bytes() == b"only its hash is asked for"


def test_a_line_without_a_model_takes_the_one_that_it_waits_for(make_options, tmp_path):
    options = make_options()
    (tmp_path / "model.onnx").unlink()
    swap = ModelSwap(ActiveModel(no_model(options), options), options, None)
    assert swap.new_path("model.onnx") == tmp_path / "model.onnx"
    with pytest.raises(OptionError, match=r"got other.onnx; expected model.onnx, the model of the configuration"):
        swap.new_path("other.onnx")


def test_what_is_no_upload_is_refused_before_anything_is_written(client, make_files, tmp_path, monkeypatch):
    files = _, model = make_files()
    assert send(client, files, **{"Content-Type": "text/plain"}).status == 415
    chunks = iter([b"".join(files)])
    assert client.ask("/model/new.onnx?golden_bytes=2&who=Ada", "PUT", chunks, **BYTES).status == 411
    assert send(client, files, who="%00").status == 400
    assert client.ask("/model/new.onnx", "PUT", b"ab", **BYTES).status == 400
    assert client.ask("/model/new.onnx?golden_bytes=2&who=Ada", "PUT", b"ab", **BYTES).status == 409
    assert client.ask("/model/new.onnx?golden_bytes=2&who=Ada&more=1", "PUT", b"abc", **BYTES).status == 400
    monkeypatch.setattr(model_upload, "MODEL_BYTES", len(model) - 1)
    assert send(client, files).status == 413
    monkeypatch.setattr(model_upload, "MODEL_BYTES", len(model))
    monkeypatch.setattr(model_upload, "MIN_FREE_BYTES", 1 << 60)
    assert "no room on the disk" in send(client, files).json["error"]
    assert names(tmp_path) == {"model.onnx"}


def test_a_refusal_is_heard_by_a_client_that_still_sends(client, make_files, monkeypatch):
    monkeypatch.setattr(model_upload, "MODEL_BYTES", 1000)
    golden, _ = make_files()
    assert send(client, (golden, bytes(20_000_000))).status == 413


def test_only_engineers_upload_and_only_by_their_own_names(serve, make_files, tmp_path):
    path, users, tokens = tmp_path / "users.json", [], {}
    for role in ("operate", "engineer"):
        users, tokens[role] = add_user(users, role, role)
    write_users(path, users)
    client, files = serve(users=path), make_files()
    client.token = tokens["operate"]
    assert send(client, files, who="operate").status == 403
    client.token = tokens["engineer"]
    assert send(client, files, who="Ada").status == 403
    assert names(tmp_path) == {"model.onnx"}
    assert send(client, files, who="engineer").status == 200


def begin(client, golden_bytes: int, length: int) -> socket.socket:
    """Send the head of an upload, and nothing of its body."""
    peer = socket.create_connection(("127.0.0.1", client.port), timeout=20)
    peer.sendall(
        f"PUT /model/slow.onnx?golden_bytes={golden_bytes}&who=Ada HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Authorization: Bearer {TOKEN}\r\nContent-Type: application/octet-stream\r\n"
        f"Content-Length: {length}\r\n\r\n".encode()
    )
    return peer


def test_there_is_one_upload_at_a_time_and_a_broken_one_leaves_nothing(client, make_files, tmp_path):
    golden, model = files = make_files()
    with begin(client, len(golden), len(golden) + len(model)) as peer:
        peer.sendall(golden[:100])
        wait_until(lambda: list(tmp_path.glob(f"{model_upload.FOLDER}*/slow.golden.npz")))
        assert "another model is being uploaded" in send(client, files).json["error"]
    wait_until(lambda: names(tmp_path) == {"model.onnx"})
    assert send(client, files).status == 200


def test_a_client_that_stops_sending_is_refused(client, tmp_path, monkeypatch):
    monkeypatch.setattr(model_upload, "BODY_S", 0.3)
    with begin(client, 10, 1000) as peer:
        peer.sendall(b"x" * 20)
        assert peer.recv(4096).startswith(b"HTTP/1.1 408")
    assert names(tmp_path) == {"model.onnx"}


def test_the_golden_file_is_in_its_place_first_and_alone_it_stands_in_nobodys_way(
    client, make_files, tmp_path, monkeypatch
):
    replace = Path.replace

    def fail(self, target):
        if self.suffix == ".onnx":
            raise OSError(28, "no space left on device")
        return replace(self, target)

    files = make_files()
    monkeypatch.setattr(Path, "replace", fail)
    assert send(client, files).status == 503
    assert names(tmp_path) == {"model.onnx", "new.golden.npz"}
    monkeypatch.undo()
    assert send(client, files).status == 200


def test_what_a_kill_has_left_is_removed_once_it_is_old(client, make_files, tmp_path):
    old, young = tmp_path / f"{model_upload.FOLDER}old", tmp_path / f"{model_upload.FOLDER}young"
    for folder in (old, young):
        folder.mkdir()
        (folder / "x.onnx").touch()
    moment = time.time() - 3 * model_upload.UPLOAD_S
    os.utime(old, (moment, moment))
    assert send(client, make_files()).status == 200
    assert not old.exists()
    assert young.exists()
