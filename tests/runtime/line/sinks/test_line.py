"""A whole line with all its sinks: killed in the middle again and again; triggered by messages and by an edge."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from runtime.line.sinks.conftest import KINDS, wait_until
from stfpm_runtime.errors import OptionError
from stfpm_runtime.line.config import CameraOptions
from stfpm_runtime.line.reading import JournalReader, Period
from stfpm_runtime.line.sinks.options import MqttOptions
from stfpm_runtime.line.triggers import WAITING, Posted

COMMAND = (sys.executable, "-c", "import sys; from stfpm_runtime.inspect_cli import main; sys.exit(main())")
CONFIG = """
model = "model.onnx"
threads = 1
[journal]
path = "line.sqlite"
synchronous = "normal"
[[camera]]
name = "left"
source = "parts"
[mqtt]
host = "127.0.0.1"
port = {mqtt}
topic = "plant"
[[webhook]]
url = "http://127.0.0.1:{webhook}/"
token = "token"
[[modbus]]
host = "127.0.0.1"
port = {modbus}
[[opcua]]
url = "opc.tcp://127.0.0.1:{opcua}/"
verdict = "ns=2;s=Line.Verdict"
seq = "ns=2;s=Line.Seq"
"""


@pytest.fixture
def peers(make_peer):
    made = {kind: make_peer(kind) for kind in KINDS}
    for peer in made.values():
        peer.start()
    return made


@pytest.fixture
def line(tmp_path, model, write, paint, peers) -> Path:
    for number in range(60):
        write(tmp_path / "parts" / f"{number:03d}.png", paint(255 if number % 3 == 0 else 0))
    path = tmp_path / "line.toml"
    path.write_text(CONFIG.format(**{kind: peer.port for kind, peer in peers.items()}))
    return path


def kill_and_compare(line: Path, peers, rounds: int, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(rounds):
        process = subprocess.Popen([*COMMAND, "--config", line], stderr=subprocess.DEVNULL)
        time.sleep(1.0 + rng.random())
        process.kill()
        process.wait()
    done = subprocess.run([*COMMAND, "--config", line], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    reader = JournalReader(line.with_name("line.sqlite"))
    journalled = [entry.seq for entry in reader.entries(Period())]
    reader.close()
    assert journalled == list(range(1, len(journalled) + 1))
    for kind, peer in peers.items():
        wait_until(lambda peer=peer: set(peer.seqs()) >= set(journalled), 30)
        told = peer.seqs()
        assert list(dict.fromkeys(told)) == journalled, kind
        assert len(told) - len(journalled) <= rounds * 100, f"{kind}: doubles of one batch for each kill at most"


def test_kills_lose_nothing_at_any_peer(line, peers):
    kill_and_compare(line, peers, 3, seed=0)


@pytest.mark.slow
def test_twenty_kills_lose_nothing_at_any_peer(line, peers):
    kill_and_compare(line, peers, 20, seed=1)


def test_a_message_asks_for_a_verdict(make_peer, make_options, run_line):
    broker = make_peer("mqtt")
    broker.start()
    mqtt = MqttOptions("127.0.0.1", port=broker.port, topic="plant")
    camera = CameraOptions("left", "0", trigger="mqtt", topic="plant/left/fire")
    running = run_line(make_options(camera, mqtt=mqtt))
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()

    def verdicts() -> list[dict]:
        return [line["payload"] for line in broker.lines() if "/verdict/" in line.get("topic", "")]

    def fire() -> bool:
        client.publish("plant/left/fire", json.dumps({"part": "A-1"}), qos=1)
        time.sleep(0.2)
        return bool(verdicts())

    wait_until(fire)
    before = len(verdicts())
    time.sleep(0.5)
    client.publish("plant/left/fire", "A-2", qos=1)
    wait_until(lambda: [verdict["part"] for verdict in verdicts()][-1:] == ["A-2"])
    client.disconnect()
    client.loop_stop()
    entries = running.finish()
    assert entries[-1].part == "A-2"
    assert len(entries) >= before + 1
    assert all(entry.decision == "pass" for entry in entries)


@pytest.fixture
def publish(make_peer):
    """A broker, and a client that publishes to it."""
    broker = make_peer("mqtt")
    broker.start()
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()

    def publish(topic: str, payload: str) -> None:
        client.publish(topic, payload, qos=1).wait_for_publish(10)

    publish.port, publish.broker = broker.port, broker
    yield publish
    client.disconnect()
    client.loop_stop()


def receiving(running) -> bool:
    return not any(listener.failure for listener in running.line.listeners)


def test_message_that_is_not_understood_is_a_fault_and_the_line_goes_on(publish, make_options, run_line):
    """One message triggers both cameras that have its topic."""
    mqtt = MqttOptions("127.0.0.1", port=publish.port, topic="plant")
    cameras = [CameraOptions(name, "0", trigger="mqtt", topic="plant/fire") for name in ("left", "right")]
    running = run_line(make_options(*cameras, mqtt=mqtt))
    wait_until(lambda: receiving(running))
    messages = [json.dumps({"part": "\ud800"}), '{"Part": "A-1"}', "A" * 201, '{"part": "A-1\\u001d21"}', "A-2"]
    for number, payload in enumerate(messages, 1):
        publish("plant/fire", payload)
        wait_until(lambda number=number: len(running.journal.entries()) >= 2 * number)
    entries = running.finish()
    assert running.errors == []
    for camera in ("left", "right"):
        found = [(entry.part, entry.decision) for entry in entries if entry.camera == camera]
        assert found == [("", "fault")] * 3 + [("A-1\x1d21", "pass"), ("A-2", "pass")]


def test_message_that_came_while_the_line_was_away_is_a_fault(publish, make_options, run_line):
    """Its part went by unseen: it is not judged on a later frame, and not forgotten."""
    mqtt = MqttOptions("127.0.0.1", port=publish.port, topic="plant")
    camera = CameraOptions("left", "0", trigger="mqtt", topic="plant/fire")
    for number in range(2):
        running = run_line(make_options(camera, mqtt=mqtt))
        wait_until(lambda running=running: receiving(running))
        publish("plant/fire", f"seen {number}")
        wait_until(lambda number=number, running=running: running.journal.entries()[-1:] and
                   running.journal.entries()[-1].part == f"seen {number}")  # fmt: skip
        running.finish()
        publish("plant/fire", f"unseen {number}")
    found = [(entry.part, entry.decision) for entry in running.journal.entries()]
    assert found == [("seen 0", "pass"), ("unseen 0", "fault"), ("seen 1", "pass")]
    assert "no connection to the broker" in running.journal.entries()[1].reason


def test_subscription_that_the_broker_refuses_is_an_event_and_a_problem(make_peer, make_options, run_line, tmp_path):
    broker = make_peer("mqtt")
    plugin = next(Path("/usr/lib").rglob("mosquitto_dynamic_security.so"), None)
    if plugin is None:
        pytest.skip("mosquitto has no plug-in that refuses subscriptions")
    access = {"publishClientSend": True, "publishClientReceive": True, "subscribe": False, "unsubscribe": True}
    (tmp_path / "access.json").write_text(json.dumps({"defaultACLAccess": access}))
    with (tmp_path / "mosquitto.conf").open("a") as file:
        file.write(f"plugin {plugin}\nplugin_opt_config_file {tmp_path}/access.json\n")
    broker.start("quiet")
    mqtt = MqttOptions("127.0.0.1", port=broker.port, topic="plant")
    running = run_line(make_options(CameraOptions("left", "0", trigger="mqtt", topic="plant/fire"), mqtt=mqtt))
    (listener,) = running.line.listeners
    wait_until(lambda: "refuses to send plant/fire" in listener.failure)
    wait_until(lambda: any("refuses to send plant/fire" in event.detail for event in running.journal.events()))
    running.finish()


def test_edge_that_cannot_be_taken_is_an_event():
    pytest.importorskip("gpiod")
    from stfpm_runtime.line.gpio_trigger import fire

    posted, remarks = Posted(), []
    for _ in range(WAITING + 2):
        fire(posted, "gpio /dev/gpiochip0:17", lambda *remark: remarks.append(remark))
    assert remarks == [("trigger", "gpio /dev/gpiochip0:17: not taken, too many wait")] * 2


def test_a_gpio_line_that_is_not_there():
    pytest.importorskip("gpiod")
    from stfpm_runtime.line.gpio_trigger import GpioTrigger

    with pytest.raises(OptionError, match=r"gpio /dev/none:3: cannot be used .*; expected CHIP:LINE of a line that is"):
        GpioTrigger("/dev/none:3", Posted(), print)


def test_an_edge_asks_for_a_verdict():
    """With the kernel's gpio-sim, where it is to be had."""
    pytest.importorskip("gpiod")
    if not Path("/sys/kernel/config/gpio-sim").is_dir():
        pytest.skip("the kernel has no gpio-sim: modprobe gpio-sim, and mount configfs")
    from stfpm_runtime.line.gpio_trigger import GpioTrigger

    root = Path("/sys/kernel/config/gpio-sim/stfpm")
    (root / "bank0").mkdir(parents=True)
    try:
        (root / "bank0" / "num_lines").write_text("4")
        (root / "live").write_text("1")
        chip = (root / "bank0" / "chip_name").read_text().strip()
        device = (root / "dev_name").read_text().strip()
        posted = Posted()
        trigger = GpioTrigger(f"/dev/{chip}:2", posted, print)
        pull = Path(f"/sys/devices/platform/{device}/{chip}/sim_gpio2/pull")
        pull.write_text("pull-up")
        assert posted.wait(5.0) is not None
        trigger.close()
    finally:
        (root / "live").write_text("0")
        (root / "bank0").rmdir()
        root.rmdir()
