"""Recipes: which model judges which part, and what happens to a request. Each recipe's engine passes its product alone.

A picture of product N has the level 40 * N in all pixels; recipe N's engine gives it the score 0, and every other
picture a score of 1.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import sqlite3
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from stfpm_runtime.detector import Detector
from stfpm_runtime.engines.fake import FakeEngine
from stfpm_runtime.errors import ArtifactError, OptionError
from stfpm_runtime.files import sha256
from stfpm_runtime.line.config.camera import CameraOptions, RegionOptions
from stfpm_runtime.line.config.recipe import RecipeCameraOptions, RecipeOptions
from stfpm_runtime.line.config.server import ServerOptions
from stfpm_runtime.line.journal.chain.verify import Verification
from stfpm_runtime.line.journal.models.active import FileIdentity
from stfpm_runtime.line.journal.threshold_changes import new_threshold_change, request_threshold, result_of
from stfpm_runtime.line.journal.what_if import newest_model, simulate_threshold
from stfpm_runtime.line.journal.writer import Journal
from stfpm_runtime.line.models.active_model import ChosenModel, model_rules
from stfpm_runtime.line.models.recipes.status import IS_BUSY, UNKNOWN, UNUSABLE
from stfpm_runtime.line.triggers.base import TriggerRequest
from stfpm_runtime.line.web.views.view import LineView
from stfpm_runtime.model_check import Model
from stfpm_runtime.sources.base import Frame

from .conftest import is_taken, wait_until

LEVEL = 40
NEUTRAL = 250
"""The level of a picture without a part, which every recipe passes."""


def picture(product: int | None) -> np.ndarray:
    return np.full((16, 32, 3), NEUTRAL if product is None else LEVEL * product, np.uint8)


def answer_of(product: int):
    """Return the answers of the recipe's engine."""

    def answer(images):
        levels = images[:, 0, 0, 0].astype(int)
        scores = ((levels != LEVEL * product) & (levels != NEUTRAL)).astype(np.float32)
        return np.broadcast_to(scores[:, None, None], images.shape[:3]).copy(), scores

    return answer


class Loader:
    """Loads recipes' models without files of their own; `closed` has the recipes whose engines were closed."""

    def __init__(self, make_spec) -> None:
        self._make_spec = make_spec
        self.loaded: list[int] = []
        self.engines: dict[int, FakeEngine] = {}
        self.refused: dict[int, str] = {}
        self.may_load = threading.Event()
        self.may_load.set()

    def __call__(self, options) -> ChosenModel:
        (path,) = options.models
        number = int(path.stem)
        self.may_load.wait(120)
        if number in self.refused:
            raise ArtifactError(self.refused[number])
        self.loaded.append(number)
        self.engines[number] = engine = FakeEngine(self._make_spec(name=f"product {number}"), answer_of(number))
        digest = sha256(path)
        model = Model(path, digest, engine, Detector(engine, options.threshold))
        return ChosenModel(model, model_rules(options), FileIdentity(str(path), digest))


@pytest.fixture
def loader(make_spec) -> Loader:
    return Loader(make_spec)


@pytest.fixture
def make_recipes(tmp_path):
    def make(*numbers: int, megabytes: float = 0.001, **changes) -> tuple[RecipeOptions, ...]:
        for number in numbers:
            (tmp_path / f"{number}.onnx").write_bytes(f"{number} ".encode() * int(megabytes * 5e5))
        return tuple(RecipeOptions(number, f"p{number}", tmp_path / f"{number}.onnx", **changes) for number in numbers)

    return make


@pytest.fixture
def start(run_line, make_options, make_recipes, loader):
    """Return a function that starts a line with the recipes 1, 2 and 3, and a camera that the test triggers."""

    def start(*cameras, recipe=None, open_source=None, product=lambda index: picture(1), **changes):
        cameras = cameras or (CameraOptions("left", "0"),)
        options = make_options(*cameras, recipe=recipe or make_recipes(1, 2, 3), **changes)
        return run_line(options, load=loader, open_source=open_source, left={"paint": product})

    yield start
    loader.may_load.set()


def is_active(running, number: int) -> bool:
    return running.line.recipes.status.active == number


def activate(running, number: int) -> None:
    assert running.line.recipes.request(number, "plc", "test").code == 0
    wait_until(lambda: is_active(running, number))


def model_of(running, number: int) -> str:
    return running.line.recipes.options[number][1].models[0].name


def tables_of(path: Path) -> set[str]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}


def recipe_events(journal) -> list[str]:
    return [event.detail for event in journal.events() if event.kind == "recipe"]


def test_no_recipe_is_active_after_a_start(start, journal):
    running = start()
    wait_until(lambda: len(journal.rows()) > 5)
    assert running.line.recipes.status.state == "none"
    rows = running.finish()
    assert {(row.decision, row.reason, row.model) for row in rows} == {
        ("fault", "no recipe is active: none was asked for since the line was started", "")
    }


def test_recipe_is_loaded_and_active_on_request_and_the_journal_says_so(start, journal, loader, tmp_path):
    running = start()
    activate(running, 1)
    at = len(journal.rows())
    wait_until(lambda: len(journal.rows()) > at + 10)
    rows = running.finish()
    judged = [row for row in rows if row.decision != "fault"]
    assert {(row.decision, row.model) for row in judged} == {("pass", sha256(tmp_path / "1.onnx"))}
    assert rows[-1].decision == "pass"
    events = recipe_events(journal)
    assert any(re.match("1: (requested|loading), for plc by test", event) for event in events)  # it may load already
    assert any(event.startswith("1 (p1) is active ") for event in events)
    assert f"1 (p1) judges from verdict {judged[0].seq} on" in events


def test_start_recipe_is_active_at_the_start(start, journal, loader):
    running = start(start_recipe=1)
    wait_until(lambda: len(journal.rows()) > 5)
    assert running.line.recipes.status.state == "active"
    assert {row.decision for row in running.finish()} == {"pass"}


def test_start_recipe_is_not_active_where_another_one_was_asked_for_before(start, journal):
    running = start(start_recipe=1)
    activate(running, 2)
    wait_until(lambda: "asked_recipe" in tables_of(journal.path))
    running.finish()
    again = start(start_recipe=1)
    wait_until(lambda: again.line.summary.total > 3)
    reason = "no recipe is active: before the start 2 (p2) was asked for, and start_recipe is 1 (p1)"
    assert again.line.recipes.status.reason.startswith(reason)
    activate(again, 1)
    row = again.finish()[-1]
    assert (row.decision, again.line.recipes.status.active) == ("pass", 1)
    third = start(start_recipe=1)
    assert third.line.recipes.status.state == "active"
    assert third.line.recipes.request(0, "plc", "test").code == 0
    third.finish()
    assert "before the start none was asked for" in start(start_recipe=1).line.recipes.status.reason
    assert list(Verification(journal.path).findings()) == []


def test_all_recipes_are_loaded_before_they_are_asked_for(start, loader):
    running = start()
    wait_until(lambda: set(running.line.recipes.loaded) == {1, 2, 3})
    loader.may_load.clear()
    activate(running, 2)


@pytest.mark.parametrize("number", [9, None, -1, 70000])
def test_unknown_recipe_leaves_none_active(start, journal, number):
    running = start()
    activate(running, 1)
    answer = running.line.recipes.request(number, "plc", "test")
    assert (answer.code, running.line.recipes.status.state) == (UNKNOWN, "refused")
    assert "expected one of 1, 2, 3" in answer.reason
    at = len(journal.rows())
    wait_until(lambda: len(journal.rows()) > at + 5)
    assert {row.decision for row in running.finish()[at + 2 :]} == {"fault"}
    assert answer.reason in journal.rows()[-1].reason
    assert running.line.recipes.status.active == 0


def test_recipe_whose_model_fails_the_check_is_refused_and_may_be_asked_for_again(start, journal, loader):
    loader.refused[2] = "2.onnx: its anomaly map is 0.01 away from PyTorch's"
    running = start()
    activate(running, 1)
    assert running.line.recipes.request(2, "plc", "test").code == 0
    wait_until(lambda: running.line.recipes.status.state == "refused")
    status = running.line.recipes.status
    assert (status.active, status.requested, status.code) == (0, 2, UNUSABLE)
    at = len(journal.rows())
    wait_until(lambda: len(journal.rows()) > at + 5)
    assert "0.01 away from PyTorch's" in journal.rows()[-1].reason
    assert running.line.recipes.problems.keys() == {2}
    loader.refused.clear()
    activate(running, 2)
    assert not running.line.recipes.problems


def test_request_while_another_recipe_is_loaded_is_refused_and_changes_nothing(start, loader):
    loader.may_load.clear()
    running = start()
    recipes = running.line.recipes
    assert recipes.request(1, "first", "test").code == 0
    wait_until(lambda: recipes.status.state == "loading")
    for number in (2, 9, None):
        answer = recipes.request(number, "second", "test")
        assert answer.code == IS_BUSY
        assert "recipe 1 (p1) is being loaded, for first by test" in answer.reason
    assert recipes.request(1, "second", "test").code == 0  # it is what they want, too
    loader.may_load.set()
    wait_until(lambda: is_active(running, 1))
    assert recipes.status.who == "first by test"


def test_of_many_plcs_that_ask_at_once_one_is_served(start, loader):
    loader.may_load.clear()
    running = start()
    recipes = running.line.recipes
    gate, codes = threading.Barrier(8), []

    def ask(number: int) -> None:
        gate.wait()
        codes.append((recipes.request(number, f"plc {number}", "test").code, number))

    threads = [threading.Thread(target=ask, args=(1 + number % 3,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    loader.may_load.set()
    (served,) = {number for code, number in codes if code == 0}
    wait_until(lambda: is_active(running, served))
    assert {code for code, number in codes if number != served} == {IS_BUSY}


def test_withdrawal_makes_faults_also_while_a_recipe_is_loaded(start, journal, loader):
    running = start()
    recipes = running.line.recipes
    activate(running, 1)
    assert recipes.request(0, "plc", "test").code == 0
    assert recipes.status.state == "none"
    at = len(journal.rows())
    wait_until(lambda: len(journal.rows()) > at + 5)
    assert "it was withdrawn, for plc by test" in journal.rows()[-1].reason
    wait_until(lambda: len(recipes.loaded) == 3)
    loader.refused[2] = "would be refused"
    recipes.request(2, "plc", "test")
    recipes.request(0, "plc", "test")
    time.sleep(0.2)
    assert (recipes.status.state, recipes.status.active) == ("none", 0)
    activate(running, 1)


def test_name_that_the_journal_cannot_hold_is_refused(start):
    with pytest.raises(OptionError, match="got a name"):
        start().line.recipes.request(1, "a\nb", "test")


def test_recipe_of_a_line_without_recipes_is_refused(run_line):
    answer = run_line().line.recipes.request(1, "plc", "test")
    assert (answer.code, "has no recipes" in answer.reason) == (UNKNOWN, True)


def test_recipes_replace_thresholds_and_regions(start, journal, make_recipes):
    first, second = make_recipes(1, 2)
    cap = RegionOptions("cap", (0, 0, 16, 16))
    second = dataclasses.replace(second, threshold=0.7, camera=(RecipeCameraOptions("left", region=(cap,)),))
    running = start(recipe=(first, second))
    activate(running, 1)
    wait_until(lambda: journal.decisions[-1:] == ["pass"])
    activate(running, 2)
    wait_until(lambda: journal.decisions[-1:] == ["reject"])
    judged = {(row.region, row.threshold, row.decision) for row in running.finish() if row.decision != "fault"}
    assert judged == {("frame", 0.5, "pass"), ("cap", 0.7, "reject")}


def test_threshold_of_an_operator_holds_for_its_recipe_alone_also_after_a_restart(start, journal, make_recipes):
    running = start()
    activate(running, 1)
    number = request_threshold(journal.path, new_threshold_change(0.9, "Ada", "left", "frame"))
    wait_until(lambda: is_taken(journal.path, number))
    activate(running, 2)
    assert running.line.active_model.thresholds.of("left", "frame") == 0.5
    number = request_threshold(journal.path, new_threshold_change(0.8, "Bob", "left", "frame"))
    wait_until(lambda: is_taken(journal.path, number))
    activate(running, 1)
    assert running.line.active_model.thresholds.of("left", "frame") == 0.9
    running.finish()
    again = start()
    for number, threshold in ((2, 0.8), (3, 0.5), (1, 0.9)):
        activate(again, number)
        assert again.line.active_model.thresholds.of("left", "frame") == threshold


def test_threshold_of_a_recipe_comes_back_with_it_while_the_journal_cannot_be_read(start, journal, monkeypatch):
    running = start()
    activate(running, 1)
    number = request_threshold(journal.path, new_threshold_change(0.9, "Ada", "left", "frame"))
    wait_until(lambda: is_taken(journal.path, number))
    activate(running, 2)
    assert [change.threshold for change in running.line.recorder.thresholds_in_force] == [0.9]

    def refuse(self, state):
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(Journal, "threshold_changes", refuse)
    activate(running, 1)
    assert running.line.active_model.thresholds.of("left", "frame") == 0.9


def test_threshold_order_for_another_recipe_is_refused(start, journal):
    running = start()
    activate(running, 1)
    key = running.line.active_model.thresholds.model_key
    activate(running, 2)
    for model in (key, key.partition(" ")[0]):
        number = request_threshold(journal.path, new_threshold_change(0.9, "Ada", "left", "frame", model=model))
        wait_until(lambda number=number: result_of(journal.path, number) == "refused")
    assert running.line.active_model.thresholds.of("left", "frame") == 0.5
    running.finish()
    details = [event.detail for event in journal.events() if event.kind == "threshold"]
    assert len(details) == 2
    assert all("it was for another model or recipe than the one in use" in detail for detail in details)


def test_effect_of_a_threshold_is_that_on_parts_of_one_model(start, journal):
    running = start(product=lambda index: picture(2))
    activate(running, 2)
    wait_until(lambda: running.line.summary.total > 5)
    model = running.line.active_model.model.sha256
    activate(running, 1)
    wait_until(lambda: newest_model(journal.path) not in ("", model))
    running.finish()
    assert simulate_threshold(journal.path, -1.0, model=model).rejected == 0
    newest = simulate_threshold(journal.path, -1.0)
    assert (newest.model, newest.rejected) == (newest_model(journal.path), newest.parts)


def test_status_has_the_places_of_the_active_recipe_alone(start, journal, make_recipes, make_options):
    first, second, third = make_recipes(1, 2, 3)
    cap = RegionOptions("cap", rectangle=(0, 0, 16, 16))
    second = dataclasses.replace(second, camera=(RecipeCameraOptions("left", region=(cap,)),))
    running = start(recipe=(first, second, third), dashboard=ServerOptions("127.0.0.1:0"))
    wait_until(lambda: running.line.summary.total > 3)  # faults of the whole frame
    view = LineView(running.line, make_options())
    assert view.status()["faults"]
    activate(running, 2)
    at = running.line.summary.total
    wait_until(lambda: running.line.summary.total > at + 5)
    status = view.status()
    assert [place["region"] for place in status["places"]] == ["cap"]
    assert not any("no recipe" in card["cause"] for card in status["faults"])
    assert status["totals"]["faults"] > 3


def test_threshold_order_without_an_active_recipe_is_refused(start, journal):
    running = start()
    number = request_threshold(journal.path, new_threshold_change(0.9, "Ada", "left", "frame"))
    wait_until(lambda: any(f"order {number} is refused" in event.detail for event in journal.events()))
    activate(running, 1)
    assert running.line.active_model.thresholds.of("left", "frame") == 0.5


def test_models_beyond_the_memory_are_given_up_and_loaded_again(start, loader, make_recipes, monkeypatch):
    monkeypatch.setattr("stfpm_runtime.line.models.recipes.periods.KEPT_S", 0.1)
    monkeypatch.setattr("stfpm_runtime.line.models.recipes.loaded._resident_mb", lambda: 0.0)
    running = start(recipe=make_recipes(1, 2, 3, megabytes=0.5), recipe_memory_mb=1.1)
    recipes = running.line.recipes
    wait_until(lambda: loader.loaded == [1, 2])
    time.sleep(0.1)
    assert loader.loaded == [1, 2]
    activate(running, 1)
    activate(running, 3)
    wait_until(lambda: set(recipes.loaded) == {1, 3})
    activate(running, 2)
    wait_until(lambda: set(recipes.loaded) == {2, 3})
    assert loader.loaded == [1, 2, 3, 2]
    with pytest.raises(Exception, match="the engine was closed"):
        loader.engines[1].infer(np.zeros((1, *loader.engines[1].spec.input_shape), np.uint8))


def test_models_cannot_be_swapped_on_a_line_with_recipes(start):
    running = start()
    with pytest.raises(OptionError, match="a recipe's model is changed in the configuration"):
        running.line.model_swap.load_and_swap(Path("new.onnx"), "Ada")


class TriggeredCamera:
    """Gives for each trigger a picture of the product that is at the camera at that moment, a little later."""

    live, ended, name = True, False, "cell"

    def __init__(self, delay_s: float = 0.0) -> None:
        self._delay_s = delay_s

    def next(self, timeout_s: float) -> Frame | None:
        time.sleep(min(timeout_s, self._delay_s))
        return Frame(self.name, 1, picture(None), arrived_ns=time.monotonic_ns())

    def close(self) -> None:
        pass


class Belt:
    """Shows the product on the belt; a picture has arrived once it is taken, and no product comes in between."""

    live, ended, name = True, False, "left"

    def __init__(self) -> None:
        self.product: int | None = None
        self._changing = threading.Lock()

    def bring(self, product: int | None) -> None:
        with self._changing:
            self.product = product

    def next(self, timeout_s: float) -> Frame | None:
        time.sleep(0.002)
        with self._changing:
            return Frame(self.name, 1, picture(self.product), arrived_ns=time.monotonic_ns())

    def close(self) -> None:
        pass


def test_part_that_was_triggered_before_the_request_is_judged_by_the_recipe_before(start, journal, tmp_path):
    cell = CameraOptions("cell", "0", trigger="http", timeout_ms=5000, same_size=False, frozen_after_s=0)
    running = start(cell, open_source=lambda *_: TriggeredCamera(0.3), dashboard=ServerOptions("127.0.0.1:0"))
    wait_until(lambda: len(running.line.recipes.loaded) == 3)
    activate(running, 1)
    (worker,) = running.line.cameras
    worker.trigger.put(TriggerRequest(time.monotonic_ns(), "old"))
    running.line.recipes.request(2, "plc", "test")
    between = time.monotonic_ns()
    wait_until(lambda: is_active(running, 2))  # within milliseconds: the old part's picture comes later
    worker.trigger.put(TriggerRequest(between, "between"))
    worker.trigger.put(TriggerRequest(time.monotonic_ns(), "new"))
    wait_until(lambda: len(journal.rows()) == 3)
    rows = {row.part: (row.decision, row.model) for row in running.finish()}
    assert rows["old"] == ("pass", sha256(tmp_path / "1.onnx"))
    assert rows["between"] == ("fault", "")
    assert rows["new"] == ("pass", sha256(tmp_path / "2.onnx"))
    assert "recipe 2 (p2) is not active yet, for plc by test" in journal.rows()[1].reason


def switch_under_load(start, journal, tmp_path, switches: int) -> tuple[list, int]:
    """Change recipes again and again, while a belt and a cell bring parts; return the verdicts and parts asked for.

    The belt brings a product only while its recipe is active, as a PLC does, and a part is triggered right before the
    request for the next recipe: it is judged after that.
    """
    belt, shown = Belt(), CameraOptions("left", "0", frozen_after_s=0)
    cell = CameraOptions("cell", "0", trigger="http", same_size=False, frozen_after_s=0)

    def open_source(camera, on_event):
        return belt if camera.name == "left" else TriggeredCamera()

    kept = {"synchronous": "normal"}
    running = start(shown, cell, open_source=open_source, journal_options=kept, dashboard=ServerOptions("127.0.0.1:0"))
    recipes = running.line.recipes
    wait_until(lambda: len(recipes.loaded) == 3)
    trigger = running.line.cameras[1].trigger
    asked = 0
    for number in range(switches):
        recipe = 1 + number % 3
        belt.bring(None)
        assert recipes.request(recipe, "plc", "test").code == 0
        version = recipes.version
        while not is_active(running, recipe):
            version = recipes.wait_for_change(version, 1.0)
        belt.bring(recipe)
        if number % 4 == 0:
            time.sleep(0.005)
        asked += trigger.put(TriggerRequest(time.monotonic_ns(), f"{recipe}"))
    wait_until(lambda: not trigger.unanswered())
    return running.finish(), asked


def check_switches(rows, asked: int, journal, tmp_path, switches: int) -> None:
    models = {sha256(tmp_path / f"{number}.onnx"): str(number) for number in (1, 2, 3)}
    assert "reject" not in {row.decision for row in rows}, "a belt's part was judged by another product's recipe"
    cell = [row for row in rows if row.camera == "cell"]
    assert len(cell) == asked
    judged = [row for row in cell if row.decision == "pass"]
    assert all(models[row.model] == row.part for row in judged)
    assert len(judged) >= 0.99 * asked, {row.reason for row in cell}  # a part may wait through 32 changes
    assert sum(row.camera == "left" and row.decision == "pass" for row in rows) > switches / 10
    assert sum(" is active " in event for event in recipe_events(journal)) == switches


def test_no_part_is_judged_by_the_wrong_recipe_in_300_changes(start, journal, tmp_path):
    rows, asked = switch_under_load(start, journal, tmp_path, 300)
    check_switches(rows, asked, journal, tmp_path, 300)


@pytest.mark.slow
def test_no_part_is_judged_by_the_wrong_recipe_in_10000_changes(start, journal, tmp_path):
    rows, asked = switch_under_load(start, journal, tmp_path, 10_000)
    check_switches(rows, asked, journal, tmp_path, 10_000)
