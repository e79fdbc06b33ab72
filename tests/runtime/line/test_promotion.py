"""States of models on a running line: shadow, approval, the gate with kept pictures, override, roll-back, commands."""

from __future__ import annotations

import sqlite3
import threading

import cv2
import numpy as np
import pytest

from stfpm_runtime.errors import ArtifactError, JournalError, OptionError, StfpmError
from stfpm_runtime.files import sha256
from stfpm_runtime.line.config.storage import PictureOptions, ReviewOptions
from stfpm_runtime.line.journal.labels import new_label, write_label
from stfpm_runtime.line.journal.models import states as model_states
from stfpm_runtime.line.journal.models.shadow import read_disagreements, read_shadow_counts
from stfpm_runtime.line.journal.models.states import (
    ModelState,
    new_command,
    newest_by_model,
    read_states,
    send_command,
    write_states,
)
from stfpm_runtime.line.journal.review import review_queue
from stfpm_runtime.line.models.cli import main
from stfpm_runtime.line.models.promotion import Promotion

from .conftest import wait_until
from .test_model_swap import details


@pytest.fixture
def start(run_line, make_options, paint, tmp_path):
    """Runs a line whose parts have the levels 0.1, 0.4 and, every tenth, 0.8; the first model's threshold is 0.5."""

    def start(pictures: bool = False, shadow_parts: int = 0, **changes):
        review = ReviewOptions(sample=1.0 if pictures else 0.0, shadow_parts=shadow_parts)
        kept = PictureOptions(tmp_path / "pictures", free_mb=0, queue=1000) if pictures else None
        options = make_options(pictures=kept, review=review, **changes)

        def part(index: int):
            return paint(204 if index % 10 == 9 else 102 if index % 2 else 25)

        running = run_line(options, left={"paint": part, "fps": 100.0})
        wait_until(lambda: len(running.journal.rows()) > 20)
        return running

    return start


def states(journal) -> dict[str, str]:
    return {row.path.rpartition("/")[2]: row.state for row in newest_by_model(read_states(journal.path)).values()}


def test_a_model_goes_from_shadow_to_active_and_back(start, make_model, journal):
    line = start(shadow_parts=20)
    promotion, path = line.line.promotion, make_model("new.onnx", threshold=0.3)
    with pytest.raises(ArtifactError, match="nobody has approved it"):
        promotion.act(new_command("Ada", "activate", "new.onnx"))
    with pytest.raises(OptionError, match="has judged 0 parts as the shadow; expected 20 or more"):
        promotion.act(new_command("Ada", "approve", "new.onnx"))
    promotion.act(new_command("Ada", "shadow", "new.onnx"))
    assert states(journal)["new.onnx"] == "shadow"
    wait_until(lambda: line.line.shadow.counts.compared >= 40)
    assert "as the shadow" in promotion.act(new_command("Ada", "approve", "new.onnx"))
    promotion.act(new_command("Ada", "activate", "new.onnx"))
    assert line.line.active_model.model.path == path
    assert line.line.shadow.model is None
    wait_until(lambda: states(journal) == {"model.onnx": "retired", "new.onnx": "active"})
    wait_until(lambda: read_shadow_counts(journal.path)[sha256(path)].disagreed > 0)
    assert 0 < len(read_disagreements(journal.path)) <= len(details(journal, "shadow"))
    assert {row.decision for row in journal.rows()} == {"pass", "reject"}


def test_the_model_before_is_used_again_by_one_call(start, make_model, journal):
    line = start()
    swap, promotion = line.line.model_swap, line.line.promotion
    with pytest.raises(OptionError, match="no other model has been active"):
        promotion.act(new_command("Ada", "rollback"))
    first = make_model("first.onnx")
    swap.load_and_swap(first, "Ada")
    swap.load_and_swap(make_model("second.onnx", threshold=0.3), "Ada")
    wait_until(lambda: states(journal).get("second.onnx") == "active")
    assert "first.onnx" in promotion.act(new_command("Bob", "rollback"))
    assert line.line.active_model.model.path == first
    wait_until(lambda: states(journal) == {"model.onnx": "retired", "second.onnx": "retired", "first.onnx": "active"})
    (tmp := make_model("second.onnx", threshold=0.45)).touch()
    with pytest.raises(StfpmError, match=r"second\.onnx: its SHA-256 is"):
        promotion.act(new_command("Bob", "rollback"))
    tmp.unlink()
    with pytest.raises(StfpmError, match=r"second\.onnx"):
        promotion.act(new_command("Bob", "rollback"))
    assert line.line.active_model.model.path == first


def test_a_model_that_rejects_good_parts_of_the_last_hour_is_refused_unless_overridden(start, make_model, journal):
    line = start(pictures=True)
    strict, promotion = make_model("strict.onnx", threshold=0.3, false_alarm_rate=0.01), line.line.promotion
    with pytest.raises(ArtifactError, match=r"good parts are not passed .*expected at most"):
        promotion.act(new_command("Ada", "activate", "strict.onnx"))
    refused = newest_by_model(read_states(journal.path))[sha256(strict)]
    assert refused.state == "refused"
    assert refused.measured["false_alarms"] > refused.measured["false_alarms_allowed"]
    promotion.act(new_command("Ada", "activate", "strict.onnx", override="the lamp is new"))
    assert line.line.active_model.model.path == strict
    approved = [row for row in read_states(journal.path) if row.state == "approved"]
    assert approved[-1].note.startswith("the lamp is new (in spite of: ")
    wait_until(lambda: any("for this reason: the lamp is new" in text for text in details(journal, "model")))


def test_labels_decide_what_a_kept_picture_demands(start, make_model, journal):
    line = start(pictures=True)
    lax, promotion = make_model("lax.onnx", threshold=0.9), line.line.promotion
    assert "no worse" in promotion.act(new_command("Ada", "check", "lax.onnx"))  # an unlabelled reject demands nothing
    reject = next(row for row in journal.rows() if row.decision == "reject")
    write_label(journal.path, new_label(reject.seq, "defect", "Ada"))
    said = promotion.act(new_command("Ada", "check", "lax.onnx"))
    assert "1 of 1 known defects are not rejected" in said
    measured = newest_by_model(read_states(journal.path))[sha256(lax)].measured
    assert (measured["escaped"], measured["still_passed"]) == (1, 0)
    with pytest.raises(ArtifactError, match="known defects are not rejected"):
        promotion.act(new_command("Ada", "activate", "lax.onnx"))


def test_a_defect_that_the_active_model_passes_too_does_not_keep_it_in_place(start, make_model, tmp_path, journal):
    (folder := tmp_path / "known").mkdir()
    cv2.imwrite(str(folder / "faint.png"), np.full((16, 32, 3), 60, np.uint8))
    (folder / "good").mkdir()
    cv2.imwrite(str(folder / "good" / "part.png"), np.zeros((16, 32, 3), np.uint8))  # no known defect
    line = start(known_defects=folder)
    first = make_model("first.onnx")
    with pytest.raises(ArtifactError, match="1 of 1 known defects are not rejected"):  # nothing can be compared yet
        line.line.model_swap.load_and_swap(first, "Ada")
    line.line.model_swap.load_and_swap(first, "Ada", override="the first real file")
    said = line.line.promotion.act(new_command("Ada", "check", make_model("second.onnx", threshold=0.4).name))
    assert "no worse than the active model" in said
    measured = [row for row in read_states(journal.path) if row.state == "candidate"][-1].measured
    assert (measured["escaped"], measured["still_passed"]) == (0, 1)


def test_a_shadow_is_used_again_after_a_restart(start, make_model, journal):
    line = start()
    path = make_model("new.onnx", threshold=0.3)
    line.line.promotion.act(new_command("Ada", "shadow", "new.onnx"))
    wait_until(lambda: line.line.shadow.counts.compared >= 10)
    line.line.promotion.act(new_command("Ada", "approve", "new.onnx"))  # it stays the shadow until it is active
    line.finish()
    wait_until(lambda: not line.thread.is_alive())
    before = read_shadow_counts(journal.path)[sha256(path)].compared
    again = start()
    wait_until(lambda: again.line.shadow.model is not None)
    assert again.line.shadow.model.path == path
    wait_until(lambda: again.line.shadow.counts.compared > before)
    again.line.promotion.act(new_command("Ada", "retire", "new.onnx"))
    assert again.line.shadow.model is None
    assert states(journal)["new.onnx"] == "retired"
    again.finish()
    path.unlink()  # a shadow that is gone keeps no line from starting
    write_states(journal.path, [ModelState("2026", "Ada", sha256(path.with_name("model.onnx")), str(path), "shadow")])
    third = start()
    assert third.line.shadow.model is None
    wait_until(lambda: any("is not used again" in text for text in details(journal, "model")))


def test_what_a_page_asks_for_is_done_by_the_promotions_own_thread(start, monkeypatch):
    """The threads of the model's engine inherit its real-time priority, which the server's threads do not have."""
    line, seen = start(), []
    monkeypatch.setattr(Promotion, "act", lambda self, command: seen.append(threading.current_thread().name) or "done")
    assert line.line.promotion.ask(new_command("Ada", "check", "new.onnx")) == "done"
    assert seen == ["promotion"]
    line.finish()
    with pytest.raises(OptionError, match="the line stops; nothing was changed"):
        line.line.promotion.ask(new_command("Ada", "check", "new.onnx"))


def test_orders_reach_a_running_line_and_are_withdrawn_without_one(start, make_model, journal, capsys, monkeypatch):
    line = start()
    make_model("new.onnx", threshold=0.3)
    path = str(journal.path)
    with sqlite3.connect(path) as connection:  # as an earlier version has made it
        connection.execute("ALTER TABLE model_orders DROP COLUMN reason")
    assert main(["activate", path, "new.onnx", "--by", "Ada", "--reason", "the new lamp"]) == 0
    wait_until(lambda: any(text.endswith("by Ada: the new lamp") for text in details(journal, "model")))
    assert "new.onnx (bottle, fp32, " in capsys.readouterr().out
    assert line.line.active_model.model.path.name == "new.onnx"
    assert main(["activate", path, "none.onnx", "--by", "Ada"]) == 1
    assert "got model 'none.onnx'; expected one that lies next to new.onnx" in capsys.readouterr().err
    assert main(["retire", path, "new.onnx", "--by", "Ada"]) == 1
    assert "is active; activate another model first" in capsys.readouterr().err
    assert main(["states", path]) == 0
    table = capsys.readouterr().out
    assert "active" in table
    assert "retired" in table
    line.finish()
    monkeypatch.setattr(model_states, "TAKEN_S", 0.2)
    assert main(["rollback", path, "--by", "Ada"]) == 1
    assert "no running line accepted the command within 0.2 s; nothing was changed" in capsys.readouterr().err
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM model_orders WHERE answer IS NULL").fetchone() == (0,)
    with pytest.raises(OptionError, match="got no name"):
        send_command(journal.path, new_command(" ", "rollback"), 1.0)


def test_a_command_that_was_interrupted_is_carried_out_by_no_later_start(start, make_model, journal, monkeypatch):
    line = start()
    line.finish()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(model_states, "_wait_for_answer", interrupt)
    with pytest.raises(KeyboardInterrupt):
        send_command(journal.path, new_command("Ada", "activate", "new.onnx"), 1.0)
    assert model_states.pop_command(journal.path) is None
    with sqlite3.connect(journal.path) as connection:  # as after a power cut
        connection.execute(
            "INSERT INTO model_orders (time, who, action, file, override) VALUES ('', 'Ada', 'rollback', '', '')"
        )
    again = start()
    wait_until(lambda: sqlite3.connect(journal.path).execute("SELECT count(*) FROM model_orders").fetchone() == (0,))
    assert again.line.promotion.is_alive


def test_the_active_model_keeps_its_state(start, make_model, journal):
    line = start(pictures=True)
    make_model("new.onnx")
    promotion = line.line.promotion
    promotion.act(new_command("Ada", "activate", "new.onnx", override="as a test"))
    wait_until(lambda: states(journal)["new.onnx"] == "active")
    promotion.act(new_command("Ada", "check", "new.onnx"))
    promotion.act(new_command("Ada", "activate", "new.onnx"))
    assert states(journal)["new.onnx"] == "active"
    for action in ("retire", "approve", "shadow"):
        with pytest.raises(OptionError, match="is active"):
            promotion.act(new_command("Ada", action, "new.onnx"))


def test_another_shadow_takes_no_approval_away(start, make_model, journal):
    promotion = start().line.promotion
    for name, threshold in (("a.onnx", 0.4), ("b.onnx", 0.45)):
        make_model(name, threshold=threshold)
    promotion.act(new_command("Ada", "shadow", "a.onnx"))
    promotion.act(new_command("Ada", "approve", "a.onnx"))
    promotion.act(new_command("Ada", "shadow", "b.onnx"))
    promotion.act(new_command("Ada", "check", "a.onnx"))
    assert (states(journal)["a.onnx"], states(journal)["b.onnx"]) == ("approved", "shadow")


def test_two_people_at_once_do_not_mix_two_models(start, make_model, journal):
    line = start()
    names = [make_model(f"{number}.onnx", threshold=0.3 + number / 100).name for number in range(2)]
    errors: list[StfpmError] = []

    def act(name: str) -> None:
        try:
            line.line.promotion.act(new_command("Ada", "activate", name))
        except StfpmError as error:
            errors.append(error)

    threads = [threading.Thread(target=act, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(errors) <= 1
    assert all("another model is being loaded" in str(error) for error in errors)
    active = [row for row in newest_by_model(read_states(journal.path)).values() if row.state == "active"]
    assert len(active) == 1
    assert active[0].sha256 == line.line.active_model.model.sha256


def test_the_queue_takes_turns_and_leaves_out_what_is_labelled(start, make_model, journal):
    line = start(pictures=True)
    line.line.promotion.act(new_command("Ada", "shadow", make_model("new.onnx", threshold=0.3).name))
    wait_until(lambda: line.line.shadow.counts.disagreed > 3)
    line.finish()
    queue = review_queue(journal.path, 10)
    assert len({row.seq for row, _ in queue}) == 10
    assert [why for _, why in queue[:3]] == ["the shadow disagrees", "pass near the threshold", "random pass"]
    assert queue[1][0].score == pytest.approx(0.4, abs=0.01)
    first = queue[0][0]
    write_label(journal.path, new_label(first.seq, "unclear", "Ada"))
    assert first.seq not in {row.seq for row, _ in review_queue(journal.path, 1000)}
    assert {row.decision for row, _ in review_queue(journal.path, 1000)} == {"pass", "reject"}


def test_a_sample_of_passed_parts_keeps_its_pictures(run_line, make_options, paint, tmp_path, journal):
    pictures = PictureOptions(tmp_path / "pictures", free_mb=0, overlay=False, queue=1000)
    options = make_options(pictures=pictures, review=ReviewOptions(sample=0.25))
    line = run_line(options, left={"paint": lambda index: paint(25), "fps": 200.0})
    wait_until(lambda: len(journal.rows()) > 300)
    rows = line.finish()
    share = sum(bool(row.picture) for row in rows) / len(rows)
    assert 0.12 < share < 0.4
    assert all((tmp_path / "pictures" / row.picture).is_file() for row in rows if row.picture)


def test_a_broken_journal_costs_no_verdict_while_models_change(start, make_model, monkeypatch):
    line = start()
    monkeypatch.setattr("stfpm_runtime.line.models.promotion.pop_command", _broken)
    at = len(line.journal.rows())
    wait_until(lambda: len(line.journal.rows()) > at + 100)
    assert line.line.promotion.is_alive
    assert "fault" not in line.journal.decisions


def _broken(journal):
    raise JournalError(f"{journal}: cannot be used")


def test_states_of_a_journal_without_them_are_empty(tmp_path, journal, start):
    line = start()
    line.finish()
    with sqlite3.connect(journal.path) as connection:
        connection.execute("DROP TABLE model_states")
    assert read_states(journal.path) == []
    assert ModelState("", "", "x", "", "candidate", "", "no JSON").measured is None
