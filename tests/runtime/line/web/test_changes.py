"""One rule for all changes over HTTP: the journal says who, when, the old and the new value."""

from __future__ import annotations

import re

import cv2
import numpy as np
import pytest

from stfpm_runtime.line.journal.labels import read_labelled
from stfpm_runtime.line.journal.reader import Period

from ..conftest import wait_until
from ..test_model_swap import details

CONFIG = 'model = "model.onnx"\njournal.path = "line.sqlite"\n[[camera]]\nname = "left"\nsource = "0"\n'
PLACE = {"camera": "left", "region": "frame"}
CAP = {"original": None, "name": "cap", "rectangle": [0, 0, 32, 32]}
TRAINING = {**PLACE, "file": "taught.onnx", "teacher": "procedural"}
STEPS = [
    ("post", "/api/threshold", {"threshold": 0.4, **PLACE}, "threshold", r"left/frame: 0\.5 -> 0\.4, by Ada at .+"),
    ("post", "/api/threshold", {"threshold": None}, "threshold", r"left/frame: 0\.4 -> 0\.5, by Ada at .+"),
    ("post", "/model", {"action": "shadow", "file": "new.onnx"}, "model", r"new\.onnx \(\w+\): new -> shadow, by Ada"),
    ("post", "/model", {"action": "retire", "file": "new.onnx"}, "model",
     r"new\.onnx \(\w+\): shadow -> retired, by Ada"),
    ("post", "/api/collected", {**PLACE, "count": 500, "every_ms": 9000}, "collect",
     "nothing -> left/frame: 500 pictures, one in 9000 ms at most, by Ada"),
    ("post", "/api/collected", {**PLACE, "count": 0}, "collect", "left/frame -> nothing, by Ada"),
    ("delete", "/api/collected/{camera}/{region}/{name}", {}, "collect", r"left/frame/a\.png -> removed, by Ada"),
    ("post", "/api/training", TRAINING, "training", r"begun by Ada: taught\.onnx from .+"),
    ("delete", "/api/training", {}, "training", "training, epoch 0 of 0 -> cancelled, by Ada"),
    ("post", "/api/labels", {"seq": 2, "label": "defect"}, "", ""),
    ("post", "/api/faults", {"cause": "left: the camera is lost"}, "acknowledged", "left: the camera is lost, by Ada"),
    ("post", "/api/regions", {"camera": "left", "regions": [CAP]}, "regions",
     r"new -> cap \[0, 0, 32, 32\]; used from the next start on, by Ada"),
    ("post", "/api/restart", {}, "restart", "running -> starts again, by Ada"),
]  # fmt: skip
NO_CHANGES = {("post", "/trigger/{camera}"), ("post", "/api/recipe"), ("put", "/model/{file}")}
"""A trigger changes nothing, this line has no recipes, an upload is no JSON; their events are tested with them."""


def test_every_change_is_journalled_with_who_old_and_new(serve, make_model, tmp_path):
    pytest.importorskip("torch")
    (tmp_path / "line.toml").write_text(CONFIG)
    good = tmp_path / "collected/left/frame/train/good"
    good.mkdir(parents=True)
    cv2.imwrite(str(good / "a.png"), np.zeros((32, 64, 3), np.uint8))
    client = serve(config=tmp_path / "line.toml")
    make_model("new.onnx", threshold=0.3)
    journal = client.running.journal
    calls = {(method, path) for path, found in client.get("/openapi.json")["paths"].items() for method in found}
    assert {step[:2] for step in STEPS} == {call for call in calls if call[0] != "get"} - NO_CHANGES
    for method, path, body, kind, expected in STEPS:
        if path == "/api/faults":
            client.running.cameras["left"].lose()
            wait_until(lambda: client.get("/api/status")["faults"])
        if path == "/api/regions":
            body = {**body, "version": client.get("/api/setup")["cameras"][0]["version"]}
        address, before = path.format(**PLACE, name="a.png"), len(details(journal, kind))
        refused = client.ask(address, method.upper(), body)
        assert (refused.status, refused.json["error"]) == (400, "who is missing; see /api") or not body, refused
        assert refused.status == 400
        answer = client.ask(address, method.upper(), {**body, "who": "Ada"})
        assert answer.status == 200, (path, answer)
        if kind:
            wait_until(lambda: len(details(journal, kind)) > before)  # noqa: B023 (called at once)
            assert any(re.fullmatch(expected, text) for text in details(journal, kind)[before:]), details(journal, kind)
        else:
            ((_, label),) = read_labelled(journal.path, Period())
            assert (label.label, label.who, bool(label.time)) == ("defect", "Ada", True)
    client.running.thread.join(60)


@pytest.mark.parametrize("is_required", [True, False])
def test_the_reason_of_a_change_is_in_its_event_and_required_where_the_configuration_says_so(
    serve, make_model, tmp_path, is_required
):
    (tmp_path / "line.toml").write_text(CONFIG)
    client = serve(config=tmp_path / "line.toml", require_reason=is_required)
    make_model("new.onnx", threshold=0.3)
    version = client.get("/api/setup")["cameras"][0]["version"]
    changes = [
        ("/api/threshold", "threshold", {"threshold": 0.4}),
        ("/model", "model", {"action": "shadow", "file": "new.onnx"}),
        ("/model", "model", {"action": "retire", "file": "new.onnx"}),
        ("/model", "model", {"action": "activate", "file": "new.onnx"}),
        ("/api/regions", "regions", {"camera": "left", "version": version, "regions": [CAP]}),
    ]
    for path, kind, body in changes:
        if is_required:
            answer = client.post(path, **body, who="Ada", reason=" ")
            assert (answer.status, answer.json["error"]) == (
                400,
                "reason is missing; expected in words why it is changed",
            )
        assert client.post(path, **body, who="Ada", reason="because\nof").status == 400
        before = len(details(client.running.journal, kind))
        assert client.post(path, **body, who="Ada", reason="a new lamp").status == 200, path
        expected = re.compile(".+ -> .+by Ada.*: a new lamp")
        wait_until(lambda: any(map(expected.fullmatch, details(client.running.journal, kind)[before:])))  # noqa: B023
    assert client.post("/model", action="check", file="new.onnx", who="Ada").status == 200  # it changes nothing
    if not is_required:
        assert client.post("/api/threshold", threshold=0.4, who="Ada").status == 200
