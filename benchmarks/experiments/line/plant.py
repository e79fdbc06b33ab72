"""Measure how much an open dashboard and four outputs slow the loop down, from a frame to its journalled verdict.

    python -m benchmarks.experiments.line.plant bottle_int8.onnx --json benchmarks/results/plant.json

Runs take turns: one is the loop alone, the next is the same loop with MQTT, webhook, Modbus TCP, OPC UA, a dashboard
and a client that requests what the dashboard's page requests. One part in fifty is a reject; its pictures are kept.
The brokers, servers and the client run on this machine, too, at the lowest priority; on a plant they run elsewhere.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from stfpm_runtime.cli import run
from stfpm_runtime.detector import Detector
from stfpm_runtime.engines import Engine, open_engine
from stfpm_runtime.errors import OptionError, StfpmError
from stfpm_runtime.imaging.preprocessing import Image
from stfpm_runtime.line.config.camera import CameraOptions
from stfpm_runtime.line.config.line import LineOptions
from stfpm_runtime.line.config.outputs import ModbusOptions, MqttOptions, OpcUaOptions, OutputTables, WebhookOptions
from stfpm_runtime.line.config.server import ServerOptions
from stfpm_runtime.line.config.storage import JournalOptions, PictureOptions
from stfpm_runtime.line.loop import run as run_loop
from stfpm_runtime.line.service import open_line
from stfpm_runtime.machine import describe_machine
from stfpm_runtime.sources.base import OnEvent
from stfpm_runtime.sources.fake import FakeCamera
from stfpm_runtime.timing import time_by_turns

from .loop import WARM_UP, Stopwatch, percentiles, picture, quietest, show_result, with_summary

PEERS = Path(__file__).with_name("plant_peers.py")
TOKEN = "a token for a benchmark"
TURNS = 6
BAR = 1.2
REJECT_EVERY = 50
"""Frames."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.experiments.line.plant", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("model", type=Path, help="a .onnx file that stfpm-export wrote")
    parser.add_argument("--verdicts", type=int, default=1200, metavar="N", help="of each kind (1200)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    arguments = parser.parse_args(argv)
    return run("plant", lambda: _measure(arguments))


def _measure(arguments: argparse.Namespace) -> int:
    if shutil.which("mosquitto") is None:
        raise OptionError("mosquitto is not installed; expected a broker: apt install mosquitto")
    with tempfile.TemporaryDirectory() as name:
        result = {
            "schema": 1,
            "command": "python -m benchmarks.experiments.line.plant MODEL --json FILE",
            "machine": dataclasses.asdict(describe_machine()),
            **compare(arguments.model, arguments.verdicts, Path(name)),
        }
    return show_result(result, arguments.json)


def compare(model: Path, verdicts: int, folder: Path) -> dict[str, object]:
    """Return the latencies of the loop alone and with everything on, at a third of the rate that it sustains."""
    engine = open_engine(model)
    detector, frame = Detector(engine), picture()
    fps = 1e3 / quietest(time_by_turns([lambda: detector.inspect(frame)], 50)) / 3
    alone: list[Stopwatch] = []
    watched: list[Stopwatch] = []
    with peers(folder) as tables:
        for turn in range(TURNS):
            for found, more in ((alone, None), (watched, tables)):
                name = folder / f"{turn}-{'alone' if more is None else 'watched'}"
                found.append(_loop(model, engine, frame, fps, verdicts // TURNS, name, more))
    engine.close()
    first, second = percentiles(alone), percentiles(watched)
    return {
        "model": {"name": engine.spec.name, "precision": engine.spec.precision, "provider": engine.provider},
        "frames_per_s": round(fps, 1),
        "alone": first,
        "dashboard_and_outputs": second,
        "p50_ratio": round(second["p50_ms"] / first["p50_ms"], 3),
        "p99_ratio": {"value": round(second["p99_ms"] / first["p99_ms"], 3), "bar": BAR},
    }


def _loop(
    model: Path, engine: Engine, frame: Image, fps: float, verdicts: int, folder: Path, tables: OutputTables | None
) -> Stopwatch:
    folder.mkdir(parents=True)
    good, bad = sorted((frame, frame[::-1, ::-1] // 2), key=lambda one: float(Detector(engine).inspect(one).score or 0))
    scores = [float(Detector(engine).inspect(one).score or 0) for one in (good, bad)]
    options = LineOptions(
        model=model, journal=JournalOptions(folder / "line.sqlite"), camera=(CameraOptions("fake", "0"),),
        threshold=sum(scores) / 2, pictures=PictureOptions(folder / "pictures", free_mb=0),
    )  # fmt: skip
    if tables is not None:
        options = dataclasses.replace(
            options, dashboard=ServerOptions(f"127.0.0.1:{free_port()}", TOKEN), mqtt=tables.mqtt,
            webhook=tables.webhook, modbus=tables.modbus, opcua=tables.opcua,
        )  # fmt: skip

    def open_source(camera: CameraOptions, on_event: OnEvent) -> FakeCamera:
        return FakeCamera(lambda index: bad if index % REJECT_EVERY == 0 else good, fps)

    stop = threading.Event()
    stopwatch = Stopwatch(verdicts + WARM_UP, stop)
    with open_line(options, engine, open_source) as line, contextlib.ExitStack() as stack:
        if options.dashboard:
            stack.enter_context(peer("dashboard_client", options.dashboard.port, TOKEN))
        run_loop(with_summary(line, stopwatch), stop)
        unreached = [output.name for output in line.outputs if output.failure]
    if unreached:
        raise StfpmError(f"{', '.join(unreached)} could not be reached; the result would say nothing")
    return stopwatch


@contextlib.contextmanager
def peers(folder: Path) -> Iterator[OutputTables]:
    """Run all other sides; the context gives the configuration's tables that reach them."""
    ports = {kind: free_port() for kind in ("mqtt", "webhook", "modbus", "opcua")}
    configuration = folder / "mosquitto.conf"
    configuration.write_text(f"listener {ports['mqtt']} 127.0.0.1\nallow_anonymous true\nlog_type none\nuser root\n")
    node = "ns=2;s=Line."
    with contextlib.ExitStack() as stack:
        stack.enter_context(_process(["mosquitto", "-c", str(configuration)]))
        for kind in ("webhook", "modbus", "opcua"):
            stack.enter_context(peer(kind, ports[kind]))
        for port in ports.values():
            wait_for(port)
        opcua = OpcUaOptions(
            f"opc.tcp://127.0.0.1:{ports['opcua']}/", verdict=f"{node}Verdict", seq=f"{node}Seq",
            decision=f"{node}Decision", score=f"{node}Score", heartbeat=f"{node}Heartbeat",
        )  # fmt: skip
        yield OutputTables(
            MqttOptions("127.0.0.1", port=ports["mqtt"], topic="plant"),
            (WebhookOptions(f"http://127.0.0.1:{ports['webhook']}/"),),
            (ModbusOptions("127.0.0.1", port=ports["modbus"]),),
            (opcua,),
        )


def peer(kind: str, port: int, *more: str) -> contextlib.AbstractContextManager[None]:
    """Run one of the other sides, as long as the context lasts."""
    return _process([sys.executable, str(PEERS), kind, str(port), *more])


@contextlib.contextmanager
def _process(argv: Sequence[str]) -> Iterator[None]:
    process = subprocess.Popen(["nice", "-n", "19", *argv], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    """Return a port on which no process listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, timeout_s: float = 60.0) -> None:
    """Wait until a process listens on a port. Raises StfpmError where none does."""
    until = time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return
        if time.monotonic() > until:
            raise StfpmError(f"nothing listens on port {port}; is the extra for it installed?")
        time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())
