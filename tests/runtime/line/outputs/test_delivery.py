"""Every output against its real other side: each verdict in order, once; and what happens when that goes away."""

from __future__ import annotations

import json
import time

import pytest

from runtime.line.outputs.conftest import floats, wait_until
from stfpm_runtime.line.config.outputs import ModbusOptions, MqttOptions, OutputTables, WebhookOptions
from stfpm_runtime.line.journal.chain.verify import Verification
from stfpm_runtime.line.observers.heartbeat import Heartbeat


def numbers(first: int, last: int) -> list[int]:
    return list(range(first, last + 1))


def without_doubles(seqs: list[int]) -> list[int]:
    """Each number when it first came."""
    return list(dict.fromkeys(seqs))


def test_all_verdicts_in_order(peer, writer, follow):
    peer.start()
    (worker,), _ = follow(peer.options)
    writer.write(30)
    worker.enqueue()
    wait_until(lambda: len(peer.seqs()) >= 30)
    assert peer.seqs() == numbers(1, 30)
    writer.write(3)
    worker.enqueue()
    wait_until(lambda: len(peer.seqs()) >= 33)
    assert peer.seqs() == numbers(1, 33)


def test_outage_delays_verdicts_and_loses_none(peer, writer, follow):
    peer.start()
    (worker,), events = follow(peer.options)
    writer.write(10)
    worker.enqueue()
    wait_until(lambda: len(peer.seqs()) >= 10)
    peer.stop()
    writer.write(40)
    worker.enqueue()
    time.sleep(0.5)
    peer.start()
    wait_until(lambda: set(numbers(1, 50)) <= set(peer.seqs()), 30)
    assert without_doubles(peer.seqs()) == numbers(1, 50)
    wait_until(lambda: any("reached again" in log_event for log_event in events))
    assert len(events) == 2, "one for the loss, one for the return"


def test_peer_that_starts_later_gets_all_verdicts(peer, writer, follow):
    (worker,), events = follow(peer.options)
    writer.write(5)
    worker.enqueue()
    wait_until(lambda: events)
    peer.start()
    wait_until(lambda: len(peer.seqs()) >= 5, 30)
    assert peer.seqs() == numbers(1, 5)


def test_delivery_continues_at_the_cursor_after_a_restart(peer, writer, follow):
    peer.start()
    (worker,), _ = follow(peer.options)
    writer.write(5)
    worker.enqueue()
    wait_until(lambda: len(peer.seqs()) >= 5)
    worker.stop(time.monotonic() + 5)
    writer.write(5)
    (again,), _ = follow(peer.options)
    again.enqueue()
    wait_until(lambda: len(peer.seqs()) >= 10)
    assert peer.seqs() == numbers(1, 10)


def test_new_output_begins_with_the_next_verdict(peer, writer, follow):
    peer.start()
    writer.write(5)
    (worker,), _ = follow(peer.options)
    writer.write(2)
    worker.enqueue()
    wait_until(lambda: len(peer.seqs()) >= 2)
    assert peer.seqs() == [6, 7]


def beats(peer) -> list[int]:
    """The counts of the heartbeat that it was sent."""
    lines = peer.lines()
    if peer.kind == "modbus":
        return [line["registers"][0] for line in lines if line["address"] == 0]
    if peer.kind == "opcua":
        return [line["value"] for line in lines if line["name"] == "Heartbeat"]
    return [line["payload"] for line in lines if line.get("topic") == "plant/heartbeat"]


@pytest.mark.parametrize("kind", ["mqtt", "modbus", "opcua"])
def test_heartbeat_stops_when_the_loop_stops_or_cannot_judge(make_peer, follow, writer, kind):
    peer, heartbeat = make_peer(kind), Heartbeat()
    peer.start()
    follow(peer.options, heartbeat)
    time.sleep(0.5)
    assert beats(peer) == [], "the loop has not turned yet"

    def advance() -> bool:
        heartbeat.advance(True)
        return len(beats(peer)) >= 3

    wait_until(advance)
    time.sleep(0.3)
    sent = beats(peer)
    assert sent == sorted(set(sent))
    assert sent[-1] <= heartbeat.count
    time.sleep(0.7)
    assert beats(peer) == sent, "the loop stands still"
    for _ in range(3):
        heartbeat.advance(False)
        time.sleep(0.11)
    assert beats(peer) == sent, "the loop turns, and cannot judge"


def test_registers_hold_the_verdict(make_peer, writer, follow):
    peer = make_peer("modbus")
    peer.start()
    (worker,), _ = follow(peer.options)
    writer.write(1, part="A-1017")
    writer.write(1, decision="fault", score=None, p_value=None, reason="no frame")
    worker.enqueue()
    wait_until(lambda: len(peer.seqs()) >= 2)
    reject, fault = [line["registers"] for line in peer.lines() if line["address"] == 1]
    assert (reject[2], fault[2]) == (2, 3)
    assert floats(reject, 3) == 0.75
    assert floats(reject, 5) == 0.5
    assert floats(fault, 3) != floats(fault, 3), "not a number"
    assert b"".join(register.to_bytes(2, "big") for register in reject[8:20]).rstrip(b"\0") == b"A-1017"


def test_handshake_waits_for_the_plc(make_peer, writer, follow):
    peer = make_peer("modbus")
    peer.start("plain")  # a PLC that acknowledges nothing
    options = ModbusOptions("127.0.0.1", port=peer.port, handshake=True, timeout_s=0.3)
    (worker,), events = follow(OutputTables(modbus=(options,)))
    writer.write(3)
    worker.enqueue()
    wait_until(lambda: events)
    assert "did not acknowledge verdict 1" in events[0]
    assert set(peer.seqs()) == {1}
    peer.stop()
    peer.start("acknowledge")
    wait_until(lambda: set(peer.seqs()) == {1, 2, 3}, 30)


def test_opcua_nodes_hold_the_verdict(make_peer, writer, follow):
    peer = make_peer("opcua")
    peer.start()
    (worker,), _ = follow(peer.options)
    writer.write(1, part="A-1017")
    worker.enqueue()
    wait_until(lambda: peer.seqs())
    last = {line["name"]: line["value"] for line in peer.lines()}
    assert (last["Decision"], last["Score"], last["RelativeScore"], last["Part"]) == ("reject", 0.75, 1.5, "A-1017")
    verdict = json.loads(last["Verdict"])
    assert (verdict["seq"], verdict["score"], verdict["relative_score"]) == (1, 0.75, 1.5)
    names = [line["name"] for line in peer.lines() if line["name"] != "Heartbeat"]
    assert names[-1] == "Seq"


@pytest.mark.parametrize("kind", ["mqtt", "webhook"])
def test_json_has_the_relative_score_beside_the_score(make_peer, writer, follow, kind):
    peer = make_peer(kind)
    peer.start()
    (worker,), _ = follow(peer.options)
    writer.write(1)
    writer.write(1, decision="fault", score=None, p_value=None, reason="no frame")
    worker.enqueue()
    wait_until(lambda: len(peer.seqs()) == 2)
    records = [line.get("payload", line) for line in peer.lines() if "verdict" in line.get("topic", "verdict")]
    records = [record for record in records if "seq" in record]
    assert [(record["relative_score"], record["score"]) for record in records] == [(1.5, 0.75), (None, None)]


def test_status_and_last_will(make_peer, writer, follow):
    peer = make_peer("mqtt")
    peer.start()
    (worker,), _ = follow(peer.options)

    def statuses() -> list[str]:
        return [line["payload"] for line in peer.lines() if line.get("topic") == "plant/status"]

    wait_until(lambda: statuses() == ["online"])
    worker.stop(time.monotonic() + 5)
    wait_until(lambda: statuses()[-1] == "offline")


@pytest.mark.parametrize(
    ("kind", "behaviour", "message"),
    [
        ("webhook", "unavailable", "answers 503 Service Unavailable; expected 2xx"),
        ("webhook", "hang", "the request broke off (no whole answer within 0.5 s)"),
        ("webhook", "trickle", "the request broke off (no whole answer within 0.5 s)"),
        ("modbus", "refuse", "the PLC 127.0.0.1 refuses registers from "),
        ("opcua", "other", "the OPC UA server refuses ns=2;s=Line."),
    ],
)
def test_refusal_for_now_is_one_event_and_the_verdict_is_offered_again(
    make_peer, writer, follow, kind, behaviour, message
):
    peer = make_peer(kind)
    peer.start(behaviour)
    (worker,), events = follow(peer.options)
    writer.write(4)
    worker.enqueue()
    wait_until(lambda: events)
    assert message in events[0]
    time.sleep(0.5)
    assert len(events) == 1, "one event, however often it is tried"
    peer.stop()
    peer.start()
    wait_until(lambda: set(peer.seqs()) == {1, 2, 3, 4}, 30)


def test_event_about_wrong_credentials_does_not_show_the_password(tmp_path, make_peer, writer, follow):
    peer = make_peer("mqtt")
    passwords = tmp_path / "passwords"
    passwords.write_text("")
    configuration = tmp_path / "mosquitto.conf"
    configuration.write_text(
        configuration.read_text().replace("allow_anonymous true", f"allow_anonymous false\npassword_file {passwords}")
    )
    peer.start("closed")
    options = MqttOptions("127.0.0.1", port=peer.port, user="line", password="hunter2", heartbeat_s=0.1)
    _, events = follow(OutputTables(mqtt=options))
    wait_until(lambda: events)
    assert "refuses the connection: Not authorized" in events[0]
    assert "hunter2" not in "".join(events) + repr(options)


def test_secret_of_a_webhook_is_never_shown(writer, follow):
    options = WebhookOptions("http://user:secret@127.0.0.1:9/x?token=secret", token="secret")
    _, events = follow(OutputTables(webhook=(options,)))
    wait_until(lambda: events)
    assert "secret" not in "".join(events) + repr(options)


def test_output_that_hangs_does_not_delay_another(make_peer, writer, follow):
    slow, quick = make_peer("webhook"), make_peer("modbus")
    slow.start("hang")
    quick.start()
    tables = OutputTables(webhook=slow.options.webhook, modbus=quick.options.modbus)
    workers, _ = follow(tables)
    writer.write(50)
    for worker in workers:
        worker.enqueue()
    wait_until(lambda: len(quick.seqs()) >= 50)
    assert slow.seqs() == []


def test_hashes_and_heads_that_a_broker_has_are_anchors(make_peer, writer, follow):
    broker = make_peer("mqtt")
    broker.start()
    (worker,), _ = follow(broker.options)
    writer.write(5)
    writer.journal.write_head()
    worker.enqueue()
    wait_until(lambda: len(broker.seqs()) >= 5 and any(line.get("topic") == "plant/head" for line in broker.lines()))
    kept = [json.dumps(line["payload"]) for line in broker.lines() if isinstance(line.get("payload"), dict)]
    assert list(Verification(writer.path, anchors=kept).findings()) == []
    with writer.journal.transaction() as connection:
        connection.execute("UPDATE verdicts SET hash = zeroblob(32) WHERE seq = 5")
    findings = list(Verification(writer.path, anchors=kept).findings())
    assert sum(finding.startswith("anchor ") for finding in findings) == 2


@pytest.mark.slow
def test_ten_thousand_are_delivered_in_order(peer, writer, follow, record_property):
    _, events = follow(peer.options)
    writer.write(10_000)
    wait_until(lambda: events)
    peer.start()
    started = time.monotonic()
    wait_until(lambda: peer.log.read_bytes().count(b"\n") >= 10_000 and len(peer.seqs()) >= 10_000, 900)
    record_property("seconds", round(time.monotonic() - started, 1))
    print(peer.kind, round(time.monotonic() - started, 1), "s for 10,000 verdicts")
    assert peer.seqs() == numbers(1, 10_000)
