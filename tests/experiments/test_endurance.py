"""The endurance run: its audit finds what is broken, and a short one runs with all that can fail."""

from __future__ import annotations

import contextlib
import json
import shutil
import time

import numpy as np
import pytest

from benchmarks.experiments.line.endurance import main
from benchmarks.experiments.line.endurance_audit import audit
from benchmarks.experiments.line.endurance_plant import Part
from stfpm_runtime.artifact.golden import Golden, golden_path, save_golden
from stfpm_runtime.engines import open_engine
from stfpm_runtime.files import sha256
from stfpm_runtime.line.journal.rows import EventRow, VerdictRow, utc
from stfpm_runtime.line.journal.writer import Journal

PARTS = [
    Part("good-1", "good", "http", is_accepted=True, answer="pass"),
    Part("defective-2", "defective", "mqtt", is_accepted=True, answer="reject"),
    Part("torn-3", "torn", "http", is_accepted=True, answer="fault"),
]
DECISIONS = {"good-1": "pass", "defective-2": "reject", "torn-3": "fault"}


@pytest.fixture
def judge(tmp_path):
    """Return a function that writes a journal, and returns the failed checks by name."""

    def judge(decisions=DECISIONS, parts=PARTS, delivered=(1, 2, 3), events=(), exits=()):
        journal = Journal(tmp_path / "line.sqlite", "normal")
        run = journal.begin_run("0" * 64)
        for number, (part, decision) in enumerate(decisions.items()):
            journal.write(VerdictRow(
                seq=0, time=utc(), monotonic_ns=time.monotonic_ns(), run=run, camera="top", region="frame",
                source="fake", frame=number, part=part, decision=decision,
                score=None if decision == "fault" else 0.5, p_value=None, threshold=0.5, reason="", model="0" * 64,
                dropped=0, wait_ms=0.1, preprocess_ms=0.1, infer_ms=0.1, latency_ms=0.3,
            ))  # fmt: skip
        journal.write_events([EventRow(0, utc(), time.monotonic_ns(), run, "", "", "output", text) for text in events])
        journal.close()
        checks = audit(tmp_path / "line.sqlite", parts, {"modbus": list(delivered)}, exits)
        return {check.name.partition(" (")[0]: check.broken for check in checks if check.broken}

    return judge


def test_repeated_deliveries_are_allowed(judge):
    assert judge(delivered=(1, 1, 2, 1, 2, 3)) == {}


@pytest.mark.parametrize("part", ["defective-2", "torn-3"])
def test_a_part_that_passed_by_mistake_is_found(judge, part):
    assert f"{part.partition('-')[0]} parts are not passed" in judge({**DECISIONS, part: "pass"})


def test_an_answer_that_the_journal_does_not_have_is_found(judge):
    parts = [*PARTS[:2], Part("torn-3", "torn", "http", is_accepted=True, answer="pass")]
    assert judge(parts=parts) == {
        "torn parts are not passed": ("torn-3, by its answer",),
        "answers are the journal's": ("torn-3",),
    }


def test_an_accepted_trigger_without_a_verdict_is_found(judge):
    parts = [*PARTS, Part("good-4", "good", "mqtt", is_accepted=True), Part("good-5", "good", "http")]
    assert judge(parts=parts) == {"accepted triggers have a verdict in the journal": ("good-4 (mqtt)",)}


def test_a_pass_that_was_answered_while_the_disk_was_full_may_not_be_missing(judge):
    part = Part("good-4", "good", "http", is_accepted=True, answer="pass", had_no_disk=True)
    assert judge(parts=[*PARTS, part]) == {
        "accepted triggers have a verdict in the journal": ("good-4 (http)",),
        "answers are the journal's": ("good-4",),
    }


def test_a_fault_that_was_answered_while_the_disk_was_full_may_be_missing(judge):
    part = Part("good-4", "good", "http", is_accepted=True, answer="fault", had_no_disk=True)
    assert judge(parts=[*PARTS, part]) == {}


def test_a_pass_of_unknown_parts_is_found(judge):
    assert judge({**DECISIONS, "": "pass"}, delivered=(1, 2, 3, 4)) == {
        "verdicts of no known part are no pass": ("4: ''",)
    }


def test_an_end_by_itself_is_found(judge):
    assert judge(exits=("exit status 134: aborted",)) == {"the line ended by itself": ("exit status 134: aborted",)}


@pytest.mark.parametrize(
    ("delivered", "broken"),
    [
        ((1, 3), {"modbus: delivered": ("2",)}),
        ((1, 3, 2), {"modbus: in order": ("2",)}),
        ((1, 2, 3, 9), {"modbus: nothing that is not in the journal": ("9",)}),
    ],
)
def test_what_an_output_missed_or_mixed_up_is_found(judge, delivered, broken):
    assert judge(delivered=delivered) == broken


def test_what_an_event_says_is_accounted_for(judge):
    events = ["modbus: 2 verdicts (1 to 2) older than max_age_s = 60 and not written"]
    assert judge(delivered=(3,), events=events) == {}


def test_another_outputs_event_accounts_for_nothing(judge):
    assert "modbus: delivered" in judge(delivered=(2, 3), events=["mqtt: verdict 1 refused 3 times, kept for ..."])


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("mosquitto") is None, reason="no broker: apt install mosquitto")
def test_a_few_kills_break_nothing(make_model, make_category, tmp_path, capsys):
    path = tmp_path / "endurance.json"
    model = make_model(factor=0.01, threshold=0.5, parity={"map_max_error": 1e-7, "failures": []})
    with contextlib.closing(open_engine(model)) as engine:
        images = np.random.default_rng(0).integers(0, 256, (2, *engine.spec.input_shape), np.uint8)
        save_golden(Golden(images, *engine.infer(images), sha256(model)), golden_path(model))
    status = main([str(model), str(make_category()), "--kills", "4", "--json", str(path)])
    found = capsys.readouterr()
    assert status == 0, found.out + found.err
    result = json.loads(path.read_text())
    assert result["holds"]
    assert result["kills"] == 4
    assert result["parts_answered"] > 5
    assert 0 < result["good_parts_passed"] <= result["good_parts"]
    assert result["poisoned_triggers"] > 0
    assert all(result["frames"].values())
