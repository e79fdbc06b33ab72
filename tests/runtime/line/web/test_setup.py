"""Setting up a running line: regions in its file, pictures of good parts, a restart, a training."""

from __future__ import annotations

import concurrent.futures
import io
import time
import zipfile
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from stfpm_runtime.detector import Detector, Verdict
from stfpm_runtime.line.cameras.worker import TriggeredFrame
from stfpm_runtime.line.config.camera import CameraOptions, RegionOptions
from stfpm_runtime.line.config.line import read_config
from stfpm_runtime.line.inspect import Inspector, JudgedPart
from stfpm_runtime.line.journal.recorder import Recorder
from stfpm_runtime.line.journal.threshold_changes import new_threshold_change
from stfpm_runtime.line.models.no_model import NoModelEngine
from stfpm_runtime.line.observers import collector as collector_module
from stfpm_runtime.line.observers.collector import CollectedPicture, CollectionTask, Collector, look_at, warnings_of
from stfpm_runtime.line.triggers.base import TriggerRequest
from stfpm_runtime.sources import Frame

from ..conftest import wait_until
from ..test_model_swap import details

CONFIG = """# line 3
model = "model.onnx"  # of May
journal.path = "line.sqlite"

[[camera]]
name = "left"  # above the belt
source = "0"
[[camera.region]]
name = "cap"
rectangle = [0, 0, 32, 32]  # measured
threshold = 0.4
tile = 32
overlap = 8

[dashboard]
"""
CAP = {"original": "cap", "name": "cap", "rectangle": [8, 0, 40, 32], "polygon": []}
CORNER = {"original": None, "name": "corner", "rectangle": None, "polygon": [[32, 0], [64, 0], [64, 32]]}


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "line.toml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def client(serve, config):
    client = serve(config=config)
    wait_until(lambda: client.get("/api/setup")["cameras"][0]["size"])
    return client


def version_of(client) -> str:
    return client.get("/api/setup")["cameras"][0]["version"]


def save(client, *regions: dict, version: str | None = None, who: str = "Ada"):
    """Save the regions as a page does that has just been opened, or one that was opened when they had that version."""
    version = version_of(client) if version is None else version
    return client.post("/api/regions", camera="left", version=version, regions=list(regions), who=who)


def keys_of(config) -> dict[str, tuple]:
    """Return by name the keys of each region that no page shows."""
    return {
        region.name: (region.threshold, region.tile, region.overlap) for region in read_config(config).camera[0].region
    }


def test_the_whole_frame_is_shown_with_its_size(client):
    answer = client.ask("/api/frames/left?width=64")
    assert (answer.status, answer.headers["x-frame-size"]) == (200, "64x32")
    assert cv2.imdecode(np.frombuffer(answer.body, np.uint8), cv2.IMREAD_COLOR).shape == (32, 64, 3)
    assert client.ask("/api/frames/none").status == 404


def test_regions_are_written_with_comments_and_other_keys_kept(client, config):
    answer = save(client, CAP, CORNER)
    assert answer.status == 200, answer
    assert answer.json["needs_restart"]
    cap, corner = read_config(config).camera[0].region
    assert (cap.rectangle, cap.threshold) == ((8, 0, 40, 32), 0.4)
    assert corner.polygon == ((32, 0), (64, 0), (64, 32))
    text = config.read_text()
    assert all(comment in text for comment in ("# line 3", "# of May", "# above the belt", "# measured"))
    assert save(client).status == 200
    assert read_config(config).camera[0].region == ()
    assert "[dashboard]" in config.read_text()
    wait_until(lambda: len(details(client.running.journal, "regions")) == 2)
    assert details(client.running.journal, "regions") == [
        "cap [0, 0, 32, 32] -> cap [8, 0, 40, 32]; new -> corner [[32, 0], [64, 0], [64, 32]]; "
        "used from the next start on, by Ada",
        "cap [8, 0, 40, 32] -> removed; corner [[32, 0], [64, 0], [64, 32]] -> removed; "
        "used from the next start on, by Ada",
    ]


def test_a_region_that_is_renamed_keeps_its_other_keys(client, config):
    assert save(client, {**CAP, "name": "lid"}).status == 200
    assert keys_of(config) == {"lid": (0.4, 32, 8)}
    assert "# measured" in config.read_text()
    assert save(client, CORNER, {**CAP, "original": "lid", "name": "hat"}).status == 200
    assert keys_of(config) == {"corner": (None, None, 0), "hat": (0.4, 32, 8)}
    swapped = [{**CORNER, "original": "corner", "name": "hat"}, {**CAP, "original": "hat", "name": "corner"}]
    assert save(client, *swapped).status == 200
    assert keys_of(config) == {"hat": (None, None, 0), "corner": (0.4, 32, 8)}


def test_a_new_region_with_the_name_of_a_removed_one_gets_none_of_its_keys(client, config):
    assert save(client, {**CAP, "original": None}).status == 200
    assert keys_of(config) == {"cap": (None, None, 0)}


def test_regions_in_one_line_keep_their_keys(client, config):
    config.write_text(
        'model = "model.onnx"\njournal.path = "line.sqlite"\n[[camera]]\nname = "left"\nsource = "0"\n'
        'region = [{ name = "cap", rectangle = [0, 0, 32, 32], threshold = 0.4 }]\n'
    )
    assert save(client, CORNER, {**CAP, "name": "lid"}).status == 200
    assert keys_of(config) == {"corner": (None, None, 0), "lid": (0.4, None, 0)}


def test_a_page_that_was_opened_long_ago_overwrites_nothing(client, config):
    old = version_of(client)
    assert save(client, {**CAP, "name": "lid"}).status == 200
    text = config.read_text()
    answer = save(client, CAP, version=old)
    assert answer.status == 409
    assert "the file has other regions than those that were changed" in answer.json["error"]
    assert config.read_text() == text
    config.write_text(text.replace("threshold = 0.4", "threshold = 0.3"))  # by hand
    assert save(client, {**CAP, "original": "lid"}, version=old).status == 409
    found = client.get("/api/setup")["cameras"][0]["regions"]
    assert [region["name"] for region in found] == ["lid"]
    assert save(client, {**CAP, "original": "lid"}).status == 200
    assert keys_of(config) == {"cap": (0.3, 32, 8)}


def test_of_several_requests_at_once_one_is_carried_out(client, config):
    version, names = version_of(client), [f"cap{number}" for number in range(8)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda name: save(client, {**CAP, "name": name}, version=version), names))
    assert sorted(answer.status for answer in answers) == [200] + 7 * [409]
    (name,) = [name for name, answer in zip(names, answers, strict=True) if answer.status == 200]
    assert keys_of(config) == {name: (0.4, 32, 8)}
    wait_until(lambda: len(details(client.running.journal, "regions")) == 1)


def test_a_file_that_others_may_not_read_stays_so(client, config):
    config.chmod(0o600)
    assert save(client, {**CAP, "name": "lid"}).status == 200
    assert config.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "moved",
    [
        [{**CAP, "original": None}],
        [{**CAP, "name": "lid"}],
        [{**CAP, "name": "lid"}, {**CORNER, "name": "cap", "original": None}],
    ],
)
def test_a_threshold_that_was_set_by_hand_is_neither_lost_nor_inherited(client, config, moved, monkeypatch):
    """It is kept by the name of its place, so that it would end with a rename, or hold for another region."""
    by_hand = new_threshold_change(0.3, "Ada", "left", "cap")  # perhaps of a recipe that is not active
    monkeypatch.setattr(Recorder, "thresholds_in_force", [by_hand])
    answer = save(client, *moved)
    assert answer.status == 409
    assert "region cap: a threshold was set by hand for this name" in answer.json["error"]
    assert config.read_text() == CONFIG
    assert save(client, CAP).status == 200  # a region may be drawn anew under its name


@pytest.mark.parametrize(
    ("regions", "said"),
    [
        ([CAP, {**CAP, "original": None}], "there are two of the name 'cap'"),
        ([{**CAP, "rectangle": [40, 0, 40, 32]}], "leaves the frame of 64x32 pixels"),
        ([{**CORNER, "polygon": [[0, 0], [70, 0], [0, 30]]}], "leaves the frame"),
        ([{**CORNER, "polygon": [[0, 0], [1, 1]]}], "expected 3 or more"),
        ([{**CAP, "rectangle": [0, 0, 1, 1]}], "width and height of"),
        ([{**CAP, "name": "a\nb"}], "expected letters, digits"),
        ([{**CAP, "original": "lid"}], "the file has no region 'lid'"),
        ([CAP, {**CAP, "name": "lid"}], "two regions are to have been 'cap'"),
    ],
)
def test_regions_that_make_no_sense_leave_the_file_as_it_was(client, config, regions, said):
    answer = save(client, *regions)
    assert answer.status == 409
    assert said in answer.json["error"]
    assert "unfinished" not in answer.json["error"]
    assert config.read_text() == CONFIG


def test_a_file_that_was_broken_meanwhile_is_neither_overwritten_nor_started_with(client, config):
    config.write_text("model = ")
    assert save(client, CAP).status == 409
    assert client.post("/api/restart", who="Ada").status == 409
    assert config.read_text() == "model = "
    assert not client.running.line.restart.is_set()


def test_a_line_without_a_file_says_so(serve):
    client = serve()
    assert not client.get("/api/setup")["can_save"]
    answer = save(client, CAP)
    assert (answer.status, "--config" in answer.json["error"]) == (409, True)


def test_a_restart_ends_the_loop_and_is_journalled(client):
    assert client.post("/api/restart", who="Ada").status == 200
    wait_until(lambda: not client.running.thread.is_alive())
    assert details(client.running.journal, "restart") == ["running -> starts again, by Ada"]


def test_pictures_are_collected_looked_at_removed_and_downloaded(client, tmp_path):
    body = {"camera": "left", "region": "frame", "who": "Ada"}
    assert client.post("/api/collected", **body, count=5).status == 200
    at = "/api/collected/left/frame"
    wait_until(lambda: len(client.get(at)["pictures"]) == 5)
    found = client.get(at)
    newest = client.get(f"{at}?last=2")
    assert (newest["count"], newest["pictures"]) == (5, found["pictures"][:2])
    assert found["doubtful"] == sum(picture["warning"] != "" for picture in found["pictures"])
    assert {picture["warning"] for picture in found["pictures"]} <= {"", "like an earlier one"}
    assert client.get("/api/setup")["collecting"] is None
    files = sorted((tmp_path / "collected/left/frame/train/good").glob("*.png"))
    assert [path.name for path in files] == [picture["name"] for picture in found["pictures"]][::-1]
    assert all(cv2.imread(str(path)).shape == (32, 64, 3) for path in files)
    assert client.ask(f"{at}/{files[0].name}").headers["content-type"] == "image/jpeg"
    archive = zipfile.ZipFile(io.BytesIO(client.ask("/api/collected.zip/left/frame").body))
    assert archive.namelist() == [f"left/frame/train/good/{path.name}" for path in files]
    left = client.ask(f"{at}/{files[0].name}", "DELETE", {"who": "Ada"}).json["pictures"]
    assert [picture["name"] for picture in left] == [path.name for path in files[:0:-1]]
    assert client.ask(f"{at}/..%2F..%2F..%2Fline.sqlite", "DELETE", {"who": "Ada"}).status == 404
    assert client.ask(f"{at}/line.sqlite").status == 404
    assert client.post("/api/collected", **body, count=1000, every_ms=60_000).json["collecting"] == "left/frame"
    wait_until(lambda: len(client.get(at)["pictures"]) == 5)
    assert client.post("/api/collected", **body, count=0).json["collecting"] is None
    assert len(client.get(at)["pictures"]) == 5


def test_a_disk_that_cannot_be_written_ends_the_collecting_with_its_reason(client, tmp_path):
    (tmp_path / "collected").write_text("a file where a folder is expected")
    client.post("/api/collected", camera="left", region="frame", who="Ada", count=5)
    wait_until(lambda: "cannot be written" in client.get("/api/setup")["failure"])
    assert client.get("/api/setup")["collecting"] is None
    assert client.running.journal.rows()[-1].decision in ("pass", "reject")


def test_blurred_pictures_are_named():
    set_ = [CollectedPicture(name, sharpness, "00") for name, sharpness in (("a", 100.0), ("b", 90.0), ("c", 10.0))]
    assert warnings_of(set_) == ["", "", "blurred"]
    assert warnings_of([]) == []


def test_repetitions_are_named_by_the_first_of_them_and_unfinished_files_are_no_pictures(tmp_path, monkeypatch):
    collector = Collector(tmp_path)
    folder = collector.folder_of("left", "cap")
    folder.mkdir(parents=True)
    noise = [np.random.default_rng(seed).integers(0, 255, (64, 64, 3), np.uint8) for seed in range(2)]
    for name, image in (("a", noise[0]), ("b", noise[1]), ("c", noise[0]), ("d", noise[0]), (".e", noise[1])):
        cv2.imwrite(str(folder / f"{name}.png"), image)

    def like() -> dict[str, str]:
        return {one.name: one.like for one in collector.pictures("left", "cap")}

    assert like() == {"a.png": "", "b.png": "", "c.png": "a.png", "d.png": "a.png"}
    assert collector.pictures("right", "cap") == []
    looked_at = []
    monkeypatch.setattr(
        "stfpm_runtime.line.observers.collector.look_at",
        lambda path: looked_at.append(path.name) or look_at(path),
    )
    like()
    assert looked_at == []  # pages ask every second, for two places in turn
    (folder / "a.png").unlink()
    assert like() == {"b.png": "", "c.png": "", "d.png": "c.png"}
    assert looked_at == []


def test_a_large_set_is_read_in_several_calls_each_picture_once(tmp_path, monkeypatch):
    collector = Collector(tmp_path)
    folder = collector.folder_of("left", "cap")
    folder.mkdir(parents=True)
    for name in "abc":
        (folder / f"{name}.png").touch()
    now = iter(range(100))
    monkeypatch.setattr(collector_module, "LOOKING_S", 1.0)
    monkeypatch.setattr(collector_module.time, "monotonic", lambda: float(next(now)))
    reads = []
    monkeypatch.setattr(
        collector_module, "look_at", lambda path: reads.append(path.name) or CollectedPicture(path.name, 1.0, "00" * 32)
    )
    assert [one.like for one in collector.pictures("left", "cap")] == ["", "", ""]
    assert reads == ["a.png"]
    assert warnings_of(collector.pictures("left", "cap")) == ["", "like an earlier one", ""]
    assert warnings_of(collector.pictures("left", "cap")) == ["", "like an earlier one", "like an earlier one"]
    assert reads == ["a.png", "b.png", "c.png"]


def test_a_part_without_a_model_is_collected_and_a_frame_that_was_not_cut_is_not(tmp_path):
    camera = CameraOptions("left", "0", region=(RegionOptions("cap", (0, 0, 32, 16)),))
    inspector = Inspector(Detector(NoModelEngine("cap")), 1, lambda camera, region: 0.5)
    images = [np.zeros((side, side, 3), np.uint8) for side in (16, 32)]  # the first is smaller than the region
    frames = [TriggeredFrame(camera, Frame("left", image=image), TriggerRequest()) for image in images]
    judged = [*inspector.refuse(frames[1:], "the camera is frozen"), *inspector.judge(frames)]
    assert [part.verdict.decision for part in judged] == ["fault"] * 3
    collector = Collector(tmp_path)
    collector.begin(CollectionTask("left", "cap", 10, 0.0))
    for seq, part in enumerate(judged):
        row = SimpleNamespace(camera="left", region="cap", decision="fault", time="2026-01-01T00:00:00", seq=seq)
        collector.observe([(part, row)])
    with collector:
        wait_until(lambda: collector.paths("left", "cap"))
        time.sleep(0.3)
    (path,) = collector.paths("left", "cap")
    assert cv2.imread(str(path)).shape == (16, 32, 3)


def test_a_region_that_is_judged_in_tiles_is_collected_in_tiles(tmp_path):
    region = RegionOptions("web", tile=32)
    image = np.arange(32 * 64 * 3, dtype=np.uint8).reshape(32, 64, 3)
    triggered = TriggeredFrame(CameraOptions("left", "0"), Frame("left", image=image), TriggerRequest())
    judged = JudgedPart(triggered, region, Verdict("pass", 0.0, 0.5), 0, image, 2)
    collector = Collector(tmp_path)
    collector.begin(CollectionTask("left", "web", 1, 0.0))
    row = SimpleNamespace(camera="left", region="web", decision="pass", time="2026-01-01T00:00:00", seq=1)
    with collector:
        collector.observe([(judged, row)])
        wait_until(lambda: len(collector.paths("left", "web")) == 2)
    left, right = (cv2.imread(str(path)) for path in collector.paths("left", "web"))
    assert (left == image[:, :32]).all()
    assert (right == image[:, 32:]).all()


def test_each_recipe_has_pictures_of_its_own_and_its_change_ends_the_collecting(tmp_path):
    collector = Collector(tmp_path)
    collector.use_recipe("blue")
    collector.begin(CollectionTask("left", "cap", 10, 0.0))
    before = collector.folder_of("left", "cap")
    collector.use_recipe("large")
    assert collector.wanted is None
    assert before == tmp_path / "blue/left/cap/train/good"
    assert collector.folder_of("left", "cap") == tmp_path / "large/left/cap/train/good"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"file": "../new.onnx"}, "expected letters, digits"),
        ({"file": "model.onnx"}, "there is such a model already"),
        ({"file": "new.onnx", "teacher": "/etc/passwd"}, "a file next to the model"),
    ],
)
def test_a_training_that_cannot_be_begun_says_why(client, body, said):
    answer = client.post("/api/training", camera="left", region="frame", who="Ada", **body)
    assert answer.status == 409
    assert said in answer.json["error"]
    assert client.ask("/api/training", "DELETE", {"who": "Ada"}).json["error"] == "no training runs"


@pytest.mark.slow
def test_a_model_is_taught_from_collected_pictures_and_put_to_use(serve, config, tmp_path):
    pytest.importorskip("torch")
    client = serve(config=config, spec={"height": 64, "width": 64})
    client.post("/api/collected", camera="left", region="frame", who="Ada", count=24)
    wait_until(lambda: len(client.get("/api/collected/left/frame")["pictures"]) == 24)
    body = {
        "camera": "left",
        "region": "frame",
        "who": "Ada",
        "file": "taught.onnx",
        "teacher": "procedural",
        "epochs": 2,
    }
    assert client.post("/api/training", **body).status == 200
    wait_until(lambda: client.get("/api/setup")["training"]["state"] == "failed")  # all pictures are alike
    assert any("--accept-data" in line for line in client.get("/api/setup")["training"]["lines"])
    body["accept_data"] = True
    assert client.post("/api/training", **body).status == 200
    assert client.post("/api/training", **body).status == 409  # one at a time
    for _ in range(2):  # with other pictures the second time, which begins anew
        wait_until(lambda: client.get("/api/setup")["training"]["epoch"] == 1)
        assert client.ask("/api/training", "DELETE", {"who": "Ada"}).status == 200
        wait_until(lambda: client.get("/api/setup")["training"]["state"] == "cancelled")
        name = client.get("/api/collected/left/frame")["pictures"][0]["name"]
        if len(client.get("/api/collected/left/frame")["pictures"]) == 24:
            client.ask(f"/api/collected/left/frame/{name}", "DELETE", {"who": "Ada"})
            assert client.post("/api/training", **body).status == 200
    assert client.post("/api/training", **body).status == 200
    wait_until(lambda: client.get("/api/setup")["training"]["state"] in ("done", "failed"), 420)
    training = client.get("/api/setup")["training"]
    assert training["state"] == "done", training
    assert any("continuing after epoch 1 of 2" in line for line in training["lines"]), training
    wait_until(lambda: "done: taught.onnx, begun by Ada" in details(client.running.journal, "training"))
    assert client.post("/model", action="activate", file="taught.onnx", who="Ada").status == 200
    wait_until(lambda: client.running.line.active_model.model.path.name == "taught.onnx")
