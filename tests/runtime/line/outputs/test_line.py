"""A whole line with all its outputs: killed in the middle again and again; triggered by messages and by an edge."""

from __future__ import annotations

import contextlib
import gc
import json
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from runtime.line.outputs.conftest import KINDS, Broker, wait_until
from stfpm_runtime.errors import OptionError
from stfpm_runtime.line.clients.mqtt import IN_FLIGHT
from stfpm_runtime.line.config.camera import CameraOptions
from stfpm_runtime.line.config.outputs import MqttOptions
from stfpm_runtime.line.journal.reader import JournalReader, Period
from stfpm_runtime.line.triggers.base import NOT_TAKEN, WAITING, QueuedTrigger
from stfpm_runtime.line.triggers.mqtt import HELD_BACK_S, LATE

pytestmark = pytest.mark.filterwarnings("ignore:.*socket:pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def collect_sockets():
    """Collect what paho leaves open where it connects while it is stopped: it belongs to this test and no later one."""
    yield
    gc.collect()


COMMAND = (sys.executable, "-c", "import sys; from stfpm_runtime.batch.cli import main; sys.exit(main())")
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
    journalled = [row.seq for row in reader.rows(Period())]
    reader.close()
    assert journalled == list(range(1, len(journalled) + 1))
    for kind, peer in peers.items():
        wait_until(lambda peer=peer: set(peer.seqs()) >= set(journalled), 30)
        delivered = peer.seqs()
        assert list(dict.fromkeys(delivered)) == journalled, kind
        assert len(delivered) - len(journalled) <= rounds * 100, f"{kind}: doubles of one batch for each kill at most"


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
    rows = running.finish()
    assert rows[-1].part == "A-2"
    assert len(rows) >= before + 1
    assert all(row.decision == "pass" for row in rows)


@pytest.fixture
def triggered(tmp_path, make_options, run_line):
    """Runs cameras that messages on the topic plant/fire trigger; gives broker, line and a function that publishes."""
    with contextlib.ExitStack() as stack:

        def start(*names: str, broker: Broker | None = None):
            if broker is None:
                broker = Broker(tmp_path)
                stack.callback(broker.close)
                broker.start("no subscriber")
            mqtt = MqttOptions("127.0.0.1", port=broker.port, topic="plant")
            cameras = [CameraOptions(name, "0", trigger="mqtt", topic="plant/fire") for name in names]
            running = run_line(make_options(*cameras, mqtt=mqtt))

            def publish(payload: bytes) -> None:
                client = paho.Client(CallbackAPIVersion.VERSION2)
                client.connect("127.0.0.1", broker.port)
                client.loop_start()
                client.publish("plant/fire", payload, qos=1).wait_for_publish(20)
                client.disconnect()
                client.loop_stop()

            return broker, running, publish

        yield start


def test_a_message_with_a_bad_part_id_is_a_fault_and_the_line_goes_on(triggered):
    _, running, publish = triggered("left")
    bad = [rb'{"part": "\ud800"}', b"\xff\xfe", b'{"Part": "A-1"}', b"x" * 201, b"A\nB"]
    wait_until(lambda: publish(b"A-0") or (running.journal.path.exists() and running.journal.rows()))
    for payload in bad:
        publish(payload)
    publish(b"A-9")
    wait_until(lambda: running.journal.rows()[-1].part == "A-9")
    rows = running.finish()
    assert [row.decision for row in rows[-6:]] == ["fault"] * 5 + ["pass"]
    assert all(row.reason.startswith("got ") and not row.part for row in rows[-6:-1])


def test_a_message_triggers_every_camera_of_its_topic(triggered):
    _, running, publish = triggered("left", "right")
    wait_until(lambda: publish(b"A-0") or running.journal.rows())
    publish(b"A-1")
    wait_until(lambda: {e.camera for e in running.journal.rows() if e.part == "A-1"} == {"left", "right"})


def test_a_trigger_of_the_time_when_the_line_was_away_is_a_fault(triggered):
    broker, running, publish = triggered("left")
    wait_until(lambda: publish(b"A-0") or running.journal.rows())
    running.finish()
    publish(b"A-1")
    _, running, publish = triggered("left", broker=broker)
    wait_until(lambda: any(row.part == "A-1" for row in running.journal.rows()))
    time.sleep(HELD_BACK_S)
    publish(b"A-2")
    wait_until(lambda: any(row.part == "A-2" for row in running.journal.rows()))
    late, now = (e for e in running.finish() if e.part in ("A-1", "A-2"))
    assert (late.decision, late.reason) == ("fault", LATE)
    assert now.decision == "pass"


def test_triggers_are_received_again_when_the_broker_is_back(triggered):
    broker, running, publish = triggered("left")
    wait_until(lambda: publish(b"A-0") or running.journal.rows())
    broker.stop()
    wait_until(lambda: running.line.listeners[0].failure)
    broker.start("no subscriber")
    wait_until(lambda: not running.line.listeners[0].failure)
    time.sleep(HELD_BACK_S)
    publish(b"A-1")
    wait_until(lambda: any(row.part == "A-1" for row in running.journal.rows()))
    assert next(row for row in running.finish() if row.part == "A-1").decision == "pass"
    details = [event.detail for event in running.journal.events() if event.kind == "trigger"]
    assert details[-1] == "the broker is reached again"


def test_a_trigger_that_the_broker_could_not_send_in_time_is_a_fault(triggered):
    _, running, publish = triggered("left")
    wait_until(lambda: publish(b"A-0") or running.journal.rows())
    engine, go = running.engine, threading.Event()
    infer = engine.infer
    engine.infer = lambda images: (go.wait(60), infer(images))[1]
    for number in range(1, 41):
        publish(f"B-{number}".encode())
    wait_until(lambda: running.line.listeners[0]._unacknowledged == IN_FLIGHT)
    client = running.line.listeners[0]._client
    receive = client.on_message
    client.on_message = lambda *message: (time.sleep(0.02), receive(*message))  # a network slower than the line
    time.sleep(HELD_BACK_S)
    go.set()
    wait_until(lambda: sum(row.part.startswith("B-") for row in running.journal.rows()) == 40)
    time.sleep(HELD_BACK_S)
    publish(b"C")
    wait_until(lambda: any(row.part == "C" for row in running.journal.rows()))
    found = {row.part: row for row in running.finish()}
    assert {found[f"B-{number}"].reason for number in range(IN_FLIGHT + 1, 41)} == {LATE}
    assert found["C"].decision == "pass"


def test_a_message_is_acknowledged_only_when_its_verdict_is_journalled(triggered):
    """A line that ends with a trigger in hand gets it again; here its end is forced by closing the listener first."""
    broker, running, publish = triggered("left")
    wait_until(lambda: publish(b"A-0") or running.journal.rows())
    time.sleep(0.2)  # further messages of the first part
    wait_until(lambda: running.line.listeners[0]._unacknowledged == 0)
    engine, begun, go = running.engine, threading.Event(), threading.Event()
    infer = engine.infer
    engine.infer = lambda images: (begun.set(), go.wait(20), infer(images))[2]
    publish(b"A-1")
    wait_until(lambda: begun.is_set() and running.line.listeners[0]._unacknowledged == 1)
    # the connection ends, and the message has not been acknowledged
    running.line.listeners[0].stop(time.monotonic() + 5.0)
    go.set()
    running.finish()
    _, running, publish = triggered("left", broker=broker)
    wait_until(lambda: [e.decision for e in running.journal.rows() if e.part == "A-1"] == ["pass", "fault"])


def test_a_subscription_that_the_broker_refuses_is_shown(tmp_path, triggered):
    plugin = next(Path("/usr/lib").glob("*/mosquitto_dynamic_security.so"), None)
    if plugin is None:
        pytest.skip("mosquitto's dynamic security plug-in is not installed")
    rights = {"publishClientSend": True, "publishClientReceive": True, "subscribe": False, "unsubscribe": True}
    rules = {"defaultACLAccess": rights, "groups": [{"groupname": "all", "roles": []}], "anonymousGroup": "all"}
    (tmp_path / "rules.json").write_text(json.dumps(rules))
    extra = f"allow_anonymous true\nplugin {plugin}\nplugin_opt_config_file {tmp_path / 'rules.json'}"
    broker = Broker(tmp_path, extra)
    broker.start("no subscriber")
    _, running, _ = triggered("left", broker=broker)
    try:
        wait_until(lambda: running.line.listeners[0].failure)
        assert "refuses the subscription to plant/fire: Not authorized" in running.line.listeners[0].failure
        wait_until(lambda: any("refuses the subscription" in event.detail for event in running.journal.events()))
    finally:
        running.finish()
        broker.close()


def test_edge_that_cannot_be_taken_is_an_event():
    pytest.importorskip("gpiod")
    from stfpm_runtime.line.triggers.gpio import request_verdict

    queued, events = QueuedTrigger(), []
    for _ in range(WAITING + 2):
        request_verdict(queued, "gpio /dev/gpiochip0:17", lambda *log_event: events.append(log_event))
    assert events == [("trigger", f"gpio /dev/gpiochip0:17: not taken: {NOT_TAKEN}")] * 2


def test_a_gpio_line_that_is_not_there():
    pytest.importorskip("gpiod")
    from stfpm_runtime.line.triggers.gpio import GpioTrigger

    with pytest.raises(OptionError, match=r"gpio /dev/none:3: cannot be used .*; expected CHIP:LINE of a line that is"):
        GpioTrigger("/dev/none:3", QueuedTrigger(), print).start()


def test_an_edge_asks_for_a_verdict():
    """With the kernel's gpio-sim, where it is to be had."""
    pytest.importorskip("gpiod")
    if not Path("/sys/kernel/config/gpio-sim").is_dir():
        pytest.skip("the kernel has no gpio-sim: modprobe gpio-sim, and mount configfs")
    from stfpm_runtime.line.triggers.gpio import GpioTrigger

    root = Path("/sys/kernel/config/gpio-sim/stfpm")
    (root / "bank0").mkdir(parents=True)
    try:
        (root / "bank0" / "num_lines").write_text("4")
        (root / "live").write_text("1")
        chip = (root / "bank0" / "chip_name").read_text().strip()
        device = (root / "dev_name").read_text().strip()
        queued = QueuedTrigger()
        trigger = GpioTrigger(f"/dev/{chip}:2", queued, print)
        trigger.start()
        pull = Path(f"/sys/devices/platform/{device}/{chip}/sim_gpio2/pull")
        pull.write_text("pull-up")
        assert queued.wait(5.0) is not None
        trigger.stop(time.monotonic() + 5.0)
    finally:
        (root / "live").write_text("0")
        (root / "bank0").rmdir()
        root.rmdir()
