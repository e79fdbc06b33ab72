"""What the other side refuses for good holds up nothing, is kept, and can be sent again."""

from __future__ import annotations

import math
import sqlite3
import time
from contextlib import closing

import pytest

from runtime.line.outputs.conftest import wait_until
from stfpm_runtime.line.config.outputs import ModbusOptions, MqttOptions, OpcUaOptions, OutputTables
from stfpm_runtime.line.journal import dead_letters
from stfpm_runtime.line.journal.command.cli import main


def kept(writer) -> list[tuple[str, int, str]]:
    """The verdicts that were refused."""
    path = dead_letters.path_of(writer.path)
    if not path.exists():
        return []
    with closing(sqlite3.connect(path)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'refused'").fetchone():
            return []  # the file was made this moment
        return connection.execute("SELECT output, seq, reason FROM refused ORDER BY seq").fetchall()


def test_refused_verdict_does_not_delay_the_next(make_peer, writer, follow, capsys):
    peer = make_peer("webhook")
    peer.start("poison")
    (worker,), events = follow(peer.options)
    writer.write(3)
    writer.write(1, part="POISON")
    writer.write(3)
    worker.enqueue()
    wait_until(lambda: len(peer.seqs()) >= 6)
    assert peer.seqs() == [1, 2, 3, 5, 6, 7]
    ((output, seq, reason),) = kept(writer)
    assert (output, seq) == ("webhook", 4)
    assert "answers 422" in reason
    wait_until(lambda: len(events) == 1)
    assert "verdict 4 refused 3 times, kept for stfpm-journal --resend webhook: 127.0.0.1 answers 422" in events[0]
    wait_until(lambda: not worker.failure)  # the other side writes a verdict down before the worker has the answer
    peer.stop()
    peer.start()
    assert main([str(writer.path), "--resend", "webhook"]) == 0
    assert "1 refused verdicts are sent to webhook again" in capsys.readouterr().out
    wait_until(lambda: 4 in peer.seqs(), 30)
    wait_until(lambda: kept(writer) == [])


def test_a_refused_batch_is_offered_verdict_by_verdict_without_waiting(make_peer, writer, follow):
    peer = make_peer("webhook")
    peer.start("poison")
    (worker,), _ = follow(peer.options)
    writer.write(49)
    writer.write(1, part="POISON")
    writer.write(50)
    worker.enqueue()
    wanted = [*range(1, 50), *range(51, 101)]
    wait_until(lambda: set(wanted) <= set(peer.seqs()), 10)  # with the wait before a second offer: 99 x 0.2 s
    assert list(dict.fromkeys(peer.seqs())) == wanted
    wait_until(lambda: [seq for _, seq, _ in kept(writer)] == [50])


def test_a_verdict_that_is_refused_again_is_kept(make_peer, writer, follow):
    peer = make_peer("webhook")
    peer.start("poison")
    (worker,), _ = follow(peer.options)
    writer.write(1, part="POISON")
    worker.enqueue()
    wait_until(lambda: kept(writer))
    assert main([str(writer.path), "--resend", "webhook"]) == 0
    path = dead_letters.path_of(writer.path)

    def is_marked() -> int:
        with closing(sqlite3.connect(path)) as connection:
            return connection.execute("SELECT resend FROM refused").fetchone()[0]

    wait_until(lambda: not is_marked())
    assert len(kept(writer)) == 1


def test_resend_without_refused_verdicts_is_an_error(writer, capsys):
    assert main([str(writer.path), "--resend", "webhook"]) == 1
    assert "no refused verdicts are kept for 'webhook'" in capsys.readouterr().err


def test_a_wrong_token_loses_nothing(make_peer, writer, follow):
    peer = make_peer("webhook")
    peer.start("refuse")
    (worker,), _ = follow(peer.options)
    writer.write(2)
    worker.enqueue()
    wait_until(lambda: kept(writer))
    assert worker.failure, "whatever it offers is refused"
    assert "401" in worker.failure
    peer.stop()
    peer.start()
    main([str(writer.path), "--resend", "webhook"])
    wait_until(lambda: set(peer.seqs()) == {1, 2}, 30)


def test_the_plc_refuses_one_address(make_peer, writer, follow):
    peer = make_peer("modbus")
    peer.start("illegal")
    (worker,), events = follow(peer.options)
    writer.write(2)
    worker.enqueue()
    wait_until(lambda: len(kept(writer)) == 2, 30)
    assert all("the PLC 127.0.0.1 refuses registers from 1 on" in reason for _, _, reason in kept(writer))
    assert len(events) == 1, "and the other within the minute is in the next event"


ACL = "topic readwrite #\ntopic deny plant/verdict/top/secret\n"


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_verdict_that_the_access_rules_drop_is_kept_as_refused(tmp_path, make_peer, writer, follow, version):
    peer = make_peer("mqtt")
    rules = tmp_path / "acl"
    rules.write_text(ACL)
    configuration = tmp_path / "mosquitto.conf"
    configuration.write_text(configuration.read_text() + f"acl_file {rules}\n")
    peer.start()
    options = MqttOptions("127.0.0.1", port=peer.port, topic="plant", version=version)
    (worker,), _ = follow(OutputTables(mqtt=options))
    writer.write(30)
    writer.write(1, region="secret")
    writer.write(30)
    worker.enqueue()
    wanted = [*range(1, 31), *range(32, 62)]
    wait_until(lambda: set(wanted) <= set(peer.seqs()), 60)
    assert list(dict.fromkeys(peer.seqs())) == wanted, "some brokers end the connection, and verdicts are repeated"
    if version == "5":
        wait_until(lambda: [(output, seq) for output, seq, _ in kept(writer)] == [("mqtt", 31)])
        assert "refuses: Not authorized" in kept(writer)[0][2]
    else:
        assert kept(writer) == [], "this version has no word for it"


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        ("mistyped", "score: the node ns=2;s=Line.Score is of type Boolean; expected Double, Float"),
        ("locked", "score: the node ns=2;s=Line.Score cannot be written; allow it to this user"),
        ("other", "the OPC UA server refuses ns=2;s=Line.Verdict"),
    ],
)
def test_opcua_nodes_that_do_not_fit_are_refused_before_anything_is_written(
    make_peer, writer, follow, behaviour, message
):
    peer = make_peer("opcua")
    peer.start(behaviour)
    (worker,), events = follow(peer.options)
    writer.write(3)
    worker.enqueue()
    wait_until(lambda: events)
    assert message in events[0]
    wait_until(lambda: worker.failures >= 4)
    assert len(events) == 1
    assert peer.lines() == [], "no half of a verdict"
    assert worker.failure
    peer.stop()
    peer.start()
    wait_until(lambda: peer.seqs() == [1, 2, 3], 30)


def test_opcua_takes_the_types_of_a_plc(make_peer, writer, follow):
    peer = make_peer("opcua")
    peer.start("plc")
    (worker,), events = follow(peer.options)
    writer.write(1)
    writer.write(1, decision="fault", score=None, p_value=None, reason="no frame")
    worker.enqueue()
    wait_until(lambda: len(peer.seqs()) == 2)
    values = {name: [line["value"] for line in peer.lines() if line["name"] == name] for name in
              ("Decision", "Score", "RelativeScore", "Age", "Seq")}  # fmt: skip
    assert values["Decision"] == [2, 3]
    assert (values["Score"][0], values["RelativeScore"][0]) == (0.75, 1.5)
    assert all(math.isnan(values[name][1]) for name in ("Score", "RelativeScore"))
    assert all(0 <= age < 60_000 for age in values["Age"])
    assert events == []


def test_a_verdict_beyond_the_nodes_type_is_refused_alone(make_peer, writer, follow):
    peer = make_peer("opcua")
    peer.start("plc")
    (worker,), _ = follow(peer.options)
    writer.write(2)
    writer.journal._last = 2**31 - 2
    writer.write(2)
    worker.enqueue()
    wait_until(lambda: kept(writer), 30)
    assert peer.seqs() == [1, 2, 2**31 - 1]
    assert "seq: 2147483648 does not fit into the node's type Int32" in kept(writer)[0][2]


def test_a_peer_that_keeps_failing_makes_one_event_a_minute(make_peer, writer, follow):
    peer = make_peer("modbus")
    options = ModbusOptions("127.0.0.1", port=peer.port, timeout_s=0.3, max_age_s=0)
    (worker,), events = follow(OutputTables(modbus=(options,)))
    for _ in range(3):
        peer.start()
        before = len(peer.seqs())
        writer.write(1)
        worker.enqueue()
        wait_until(lambda: len(peer.seqs()) > before, 30)  # noqa: B023 (called at once)
        peer.stop()
        writer.write(1)
        worker.enqueue()
        wait_until(lambda: worker.failure)
    time.sleep(0.3)
    assert sum("trying again" in log_event for log_event in events) == 1
    assert sum("reached again" in log_event for log_event in events) == 1


def test_an_opcua_node_that_is_no_node_is_refused_at_the_start(writer, follow):
    from stfpm_runtime.errors import OptionError

    options = OpcUaOptions("opc.tcp://127.0.0.1:9/", decision="Line.Decision")
    with pytest.raises(OptionError, match=r"opcua: decision: got 'Line.Decision'; expected a node's id"):
        follow(OutputTables(opcua=(options,)))
