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
from stfpm_runtime.line.mqtt_trigger import part_of
from stfpm_runtime.line.reading import JournalReader, Period
from stfpm_runtime.line.sinks.options import MqttOptions
from stfpm_runtime.line.triggers import Posted

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


@pytest.mark.parametrize(
    ("payload", "part"),
    [
        (b'{"part": "A-1"}', "A-1"),
        (b"A-1017\n", "A-1017"),
        (b"", ""),
        (b'{"other": 1}', ""),
        (b'{"part": 17}', "17"),
        (b'{"part": {"no": 1}}', ""),
        (b"17", "17"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"x" * 5000, "x" * 200),
    ],
)
def test_the_part_in_a_message(payload, part):
    assert part_of(payload) == part


def test_a_gpio_line_that_is_not_there():
    pytest.importorskip("gpiod")
    from stfpm_runtime.line.gpio_trigger import GpioTrigger

    with pytest.raises(OptionError, match=r"gpio /dev/none:3: cannot be used .*; expected CHIP:LINE of a line that is"):
        GpioTrigger("/dev/none:3", Posted())


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
        trigger = GpioTrigger(f"/dev/{chip}:2", posted)
        pull = Path(f"/sys/devices/platform/{device}/{chip}/sim_gpio2/pull")
        pull.write_text("pull-up")
        assert posted.wait(5.0) is not None
        trigger.close()
    finally:
        (root / "live").write_text("0")
        (root / "bank0").rmdir()
        root.rmdir()
