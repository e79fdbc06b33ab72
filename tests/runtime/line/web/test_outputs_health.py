"""Sinks, JSON lines and pictures that do not deliver are unhealthy, whatever the reason."""

from __future__ import annotations

import socket

from runtime.line.conftest import wait_until
from stfpm_runtime.line.config.camera import CameraOptions
from stfpm_runtime.line.config.outputs import ModbusOptions, WebhookOptions
from stfpm_runtime.line.config.server import ServerOptions

CAMERA = CameraOptions("left", "0")
DASHBOARD = ServerOptions("127.0.0.1:0", "x" * 32)


def test_outputs_that_fail_are_named_with_their_lag(serve, make_options, tmp_path):
    folder = tmp_path / "lines"
    options = make_options(
        CAMERA,
        dashboard=DASHBOARD,
        webhook=(WebhookOptions("http://127.0.0.1:9/"),),
        journal_options={"json_lines": folder / "line.jsonl"},
    )
    client = serve(options=options, token=DASHBOARD.token)
    folder.rename(tmp_path / "away")
    folder.write_text("a file stands in the way")
    wait_until(lambda: len(client.ask("/healthz").json["problems"]) == 2)
    problems = " ".join(client.ask("/healthz").json["problems"])
    assert "webhook: 127.0.0.1 cannot be reached" in problems
    assert "json_lines: cannot follow the journal" in problems
    outputs = {output["name"]: output for output in client.get("/api/status")["outputs"]}
    assert set(outputs) == {"webhook", "json_lines"}
    assert not any(output["works"] for output in outputs.values())
    wait_until(lambda: all(output["lag_s"] > 0.5 for output in client.get("/api/status")["outputs"]))


def test_an_output_that_hangs_has_a_lag(serve, make_options, monkeypatch):
    """Whatever a thread waits for: the age of the oldest undelivered verdict grows."""
    monkeypatch.setattr("stfpm_runtime.line.outputs.base.LAG_LIMIT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        plc = ModbusOptions("127.0.0.1", port=silent.getsockname()[1], timeout_s=10.0)
        client = serve(options=make_options(CAMERA, dashboard=DASHBOARD, modbus=(plc,)), token=DASHBOARD.token)
        wait_until(lambda: any("modbus: the oldest undelivered verdict is" in p for p in _problems(client)), 9)
        assert client.ask("/healthz").status == 503


def test_pictures_that_cannot_be_written_are_named(serve, tmp_path):
    client = serve()
    assert [output["name"] for output in client.get("/api/status")["outputs"]] == ["pictures"]
    assert _problems(client) == []
    (tmp_path / "pictures").rename(tmp_path / "away")
    (tmp_path / "pictures").write_text("")
    wait_until(lambda: any("pictures: one cannot be written" in problem for problem in _problems(client)))


def _problems(client) -> list[str]:
    return client.ask("/healthz").json["problems"]
