"""The dashboard as people see it, in a real browser."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import time
from pathlib import Path

import numpy as np
import pytest

from stfpm_runtime.artifact.golden import golden_path
from stfpm_runtime.line.config.camera import CameraOptions
from stfpm_runtime.line.config.line import read_config
from stfpm_runtime.line.config.server import ServerOptions
from stfpm_runtime.line.journal.labels import read_labelled
from stfpm_runtime.line.journal.reader import Period
from stfpm_runtime.line.journal.rows import utc
from stfpm_runtime.line.journal.writer import Journal
from stfpm_runtime.line.web.http.users import add_user, write_users

from ..conftest import wait_until
from ..test_journal import make_row
from ..test_model_swap import details

pytest.importorskip("websockets")

from .browser import CHROMIUM, Page
from .conftest import TOKEN, Client

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt install chromium")
TOUCH_PX = 48
"""What a finger in a glove meets, at least (W3C: 44)."""
TABLET = {"width": 1024, "height": 768}
CHART = "document.querySelector('.chart').chart"


def log_in(page: Page, client: Client, **how) -> None:
    page.open(f"http://127.0.0.1:{client.port}/", **{**TABLET, **how})
    page.wait("document.getElementById('login') && !document.getElementById('login').hidden")
    page.run(f"document.getElementById('token').value = {TOKEN!r}; document.querySelector('#login button').click()")
    page.wait("!document.getElementById('main').hidden")


def test_page_shows_the_line_and_its_new_verdicts(serve, page):
    client = serve(CameraOptions("left", "0"), CameraOptions("right", "1"))
    log_in(page, client)
    assert page.wait("document.querySelectorAll('.place img[src^=blob]').length === 2")
    assert page.run("[...document.querySelectorAll('.place h2')].map(h => h.textContent).join()") == "left,right"
    page.wait("document.querySelectorAll('#rejects img').length > 0")
    page.wait(f"{CHART}?.data[0].length > 10")
    first = int(page.run("document.getElementById('total').textContent.replace(/\\\\D/g, '')"))
    picture = page.run("document.querySelector('.place img').src")
    page.wait(f"Number(document.getElementById('total').textContent.replace(/\\\\D/g, '')) > {first}")
    page.wait(f"document.querySelector('.place img').src !== {picture!r}")
    assert page.run("document.getElementById('state').textContent") == "running"
    assert page.run(f"{CHART}.valToPos(1, 'y') / {CHART}.valToPos(0, 'y')") == pytest.approx(0.5, abs=0.01)
    page.wait("['0.31', '2.00'].includes(document.querySelector('.place .score').textContent)")
    assert "threshold 0.5000" in page.run("document.querySelector('.place .score').title")
    assert page.run("document.querySelector('#rejects p').textContent").startswith("2.00 · ")
    client.running.cameras["left"].lose()
    page.wait("document.getElementById('faults-now').textContent.includes('left: the camera is lost')")
    assert [error for error in page.errors if "401" not in error] == []  # the one before the token


@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_a_tablet_and_a_glove_in_light_and_dark(serve, page, dark):
    client = serve()
    log_in(page, client, dark=dark)
    page.wait("document.querySelectorAll('#rejects button').length > 0")
    small = f"[...document.querySelectorAll('main button')].filter(b => b.getBoundingClientRect().height < {TOUCH_PX})"
    assert page.run(f"{small}.length") == 0
    assert page.run("document.documentElement.scrollWidth <= innerWidth")
    ground = page.run("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (max(ground) < 60) == dark


def test_wrong_token_shows_nothing(serve, page):
    client = serve()
    page.open(f"http://127.0.0.1:{client.port}/")
    page.wait("document.getElementById('login') && !document.getElementById('login').hidden")
    page.run("document.getElementById('token').value = 'wrong'; document.querySelector('#login button').click()")
    page.wait("document.getElementById('login-error').textContent.includes('Bearer TOKEN')")
    assert page.run("document.getElementById('main').hidden")
    assert page.run("document.querySelectorAll('.place').length") == 0


def test_a_reject_opens_with_its_picture_and_map(serve, page):
    client = serve()
    log_in(page, client)
    page.wait("document.querySelectorAll('#rejects img').length > 0")
    page.run("document.querySelector('#rejects button').click()")
    page.wait("document.getElementById('viewer-picture').naturalWidth > 0")
    drawn = page.run("document.getElementById('viewer-picture').src")
    page.run("document.getElementById('viewer-map').click()")
    page.wait(f"document.getElementById('viewer-picture').src !== {drawn!r}")
    page.wait("document.getElementById('viewer-picture').naturalWidth === 64")
    assert page.run("document.getElementById('viewer-title').textContent").startswith("REJECT")
    page.run("document.getElementById('viewer-close').click()")
    assert not page.run("document.getElementById('viewer').open")


def test_a_reject_is_labelled_with_a_name(serve, page):
    client = serve()
    log_in(page, client)
    page.wait("document.querySelectorAll('#rejects img').length > 0")
    page.run("document.querySelector('#rejects button').click()")
    page.wait("document.getElementById('viewer').open && !document.getElementById('labeller').hidden")
    assert page.run("document.querySelector('#labeller button').getBoundingClientRect().height") >= 1.4 * TOUCH_PX - 1
    page.run("document.querySelector('#labeller button[value=good]').click()")
    page.wait("document.getElementById('labeller-result').textContent.includes('name')")
    page.run("document.getElementById('labeller-who').value = 'Ada'")
    page.run("document.querySelector('#labeller button[value=good]').click()")
    page.wait("document.getElementById('labeller-result').textContent === 'Labelled good.'")
    page.run("document.querySelector('#labeller button[value=defect]').click()")
    page.wait("document.getElementById('labeller-result').textContent.startsWith('Labelled defect; this label counts')")
    ((row, label),) = read_labelled(client.running.journal.path, Period())
    assert (row.decision, label.label, label.who) == ("reject", "defect", "Ada")


def test_a_threshold_is_tried_and_set_with_a_name(serve, page):
    client = serve()
    wait_until(lambda: len(client.running.journal.rows()) > 20)
    log_in(page, client)
    page.wait("document.querySelector('.change') && !document.querySelector('.change').disabled")
    page.run("document.querySelector('.change').click()")
    page.run("document.getElementById('threshold').value = '0.3'; document.getElementById('threshold').oninput")
    page.run("document.getElementById('threshold').dispatchEvent(new Event('input'))")
    page.wait("/Of the last \\d+ parts/.test(document.getElementById('effect').textContent)")
    page.run("document.getElementById('apply').click()")
    page.wait("document.getElementById('changer-error').textContent.includes('name')")
    page.run("document.getElementById('who').value = 'Ada'; document.getElementById('apply').click()")
    page.wait("document.getElementById('changer-error').textContent.includes('reason')")
    assert client.running.line.active_model.thresholds.of("left", "frame") == 0.5
    page.run("document.getElementById('reason').value = 'a new lamp'; document.getElementById('apply').click()")
    page.wait("!document.getElementById('changer').open")
    wait_until(lambda: any(text.endswith(": a new lamp") for text in details(client.running.journal, "threshold")))
    assert client.running.line.active_model.thresholds.of("left", "frame") == 0.3
    page.wait("document.querySelector('.numbers').textContent.includes('by hand')")
    page.wait("['0.52', '3.33'].includes(document.querySelector('.place .score').textContent)")  # of the new threshold
    assert page.run(f"{CHART}.scales.y.max") == 2, "the limit stays where it was"


@pytest.mark.parametrize("dark", [False, True])
def test_a_picture_that_is_not_the_verdicts_own_is_greyed_and_dated(serve, page, tmp_path, dark):
    client = serve(CameraOptions("left", "0"), CameraOptions("right", "1", debounce=(1, 3)))
    log_in(page, client, dark=dark)
    page.wait("document.querySelectorAll('.place img[src^=blob]').length === 2")
    assert page.run("document.querySelectorAll('.picture.old').length") == 0
    client.running.cameras["left"].lose()
    page.wait("document.querySelector('.place .badge').textContent === 'fault'")
    page.wait("document.querySelector('.place .picture').classList.contains('old')")
    assert "grayscale(1)" in page.run("getComputedStyle(document.querySelector('.place img')).filter")
    (place,) = (p for p in client.get("/api/status")["places"] if p["camera"] == "left")
    dated = f"Older picture: verdict {place['pictured']['seq']}, {place['pictured']['decision']}, "
    page.wait(f"document.querySelector('.place .dated').textContent.startsWith({dated!r})")
    assert "the camera is lost" in page.run("document.querySelector('.place .numbers').textContent")
    page.screenshot(tmp_path / "fault.png")  # to be looked at
    client.running.cameras["left"].regain()
    page.wait("!document.querySelector('.place .picture').classList.contains('old')")
    assert page.run("document.querySelector('.place .dated').hidden")


def test_a_debounced_reject_says_why(serve, page):
    client = serve(CameraOptions("left", "0", debounce=(1, 3)))  # two frames after a bad one are rejects too
    wait_until(lambda: any(verdict.score < verdict.threshold for verdict in client.running.line.live_status.rejects))
    client.running.finish()
    log_in(page, client)
    own = "[...document.querySelectorAll('#rejects button')].find(b => b.textContent.startsWith('0.31'))"
    page.wait(f"{own} !== undefined")  # the frame's own score, which is below the threshold
    page.run(f"{own}.click()")
    title = page.run("document.getElementById('viewer-title').textContent")
    assert title.startswith("REJECT 0.31 · ")
    assert "debounced: 1 of the last 3 frames not passed" in title  # and which frames make it a reject
    assert title.endswith("score 0.1569 · threshold 0.5000")


def test_names_from_outside_are_text_and_nothing_else(serve, page):
    part = "<img src=x onerror=document.title='owned'>"
    client = serve(CameraOptions("left", "0"))
    verdict = client.running.finish()[-1]
    live_status = client.running.line.live_status
    forged = dataclasses.replace(verdict, part=part, reason=part, decision="reject", seq=verdict.seq + 1)
    place = live_status.places["left", "frame"]
    place.newest = place.pictured = dataclasses.replace(place.newest, row=forged)
    live_status.rejects.append(forged)
    log_in(page, client)
    page.wait("document.querySelector('.numbers').textContent.includes('onerror')")
    page.wait("document.getElementById('rejects').textContent.includes('onerror')")
    assert page.run("document.querySelectorAll('img[src=x]').length") == 0
    assert "owned" not in page.run("document.title")


def test_the_page_of_the_api(serve, page):
    client = serve()
    page.open(f"http://127.0.0.1:{client.port}/api")
    page.wait("document.querySelectorAll('#operations section').length === 35")
    assert page.errors == []


def open_page(page: Page, client: Client, path: str, **how) -> None:
    page.open(f"http://127.0.0.1:{client.port}{path}", **{**TABLET, **how})
    page.wait("document.getElementById('login') && !document.getElementById('login').hidden")
    page.run(f"document.getElementById('token').value = {TOKEN!r}; document.querySelector('#login button').click()")
    page.wait("!document.getElementById('main').hidden")
    buttons = "[...document.querySelectorAll('main button')].filter(b => b.checkVisibility())"
    assert page.run(f"{buttons}.filter(b => b.getBoundingClientRect().height < {TOUCH_PX}).length") == 0
    page.wait("document.documentElement.scrollWidth <= innerWidth")


def test_parts_are_reviewed_one_after_the_other(serve, page, tmp_path):
    client = serve()
    wait_until(lambda: len([row for row in client.running.journal.rows() if row.decision == "reject"]) > 3)
    client.running.finish()
    open_page(page, client, "/review")
    page.wait("document.getElementById('picture').naturalWidth > 0")
    assert page.run("document.getElementById('why').textContent") == "reject"
    first = page.run("document.getElementById('numbers').textContent")
    page.run("document.querySelector('#part button[value=good]').click()")
    page.wait("document.getElementById('said').textContent.includes('name')")
    page.run("document.getElementById('who').value = 'Ada'; document.getElementById('kind').value = 'dent'")
    page.run("document.querySelector('#part button[value=defect]').click()")
    page.wait(f"document.getElementById('numbers').textContent !== {first!r}")
    page.wait("document.getElementById('confusion').textContent.includes('0 of 1 labelled rejected parts were good')")
    ((row, label),) = read_labelled(client.running.journal.path, Period())
    assert (label.label, label.kind, label.who) == ("defect", "dent", "Ada")
    assert f"verdict {row.seq} " in first
    second = page.run("document.getElementById('numbers').textContent")
    page.wait("!document.getElementById('skip').disabled")
    page.run("document.getElementById('skip').click()")
    page.wait(f"document.getElementById('numbers').textContent !== {second!r}")
    page.wait("document.getElementById('picture').naturalWidth > 0")
    page.screenshot(tmp_path / "review.png")  # to be looked at
    assert [error for error in page.errors if "401" not in error] == []


@pytest.mark.parametrize("how", [{}, {"width": 390, "height": 844, "dark": True}], ids=["tablet", "dark phone"])
def test_history_shows_counts_places_and_pictures_of_what_is_chosen(serve, page, journal, tmp_path, how):
    with contextlib.closing(Journal(journal.path, "normal")) as writer:
        rows = [make_row(time=utc(time.time() - 7200), region="cap", camera="side") for _ in range(150)]
        rows[:6] = [dataclasses.replace(rows[0], decision="reject", score=0.75, peak_x=0.9, peak_y=0.1)] * 6
        writer.write_late(rows)
    client = serve()
    wait_until(lambda: any(row.picture for row in client.running.journal.rows()))
    client.running.finish()
    total = len(client.running.journal.rows())
    agent = page.run("navigator.userAgent")
    page.call("Emulation.setUserAgentOverride", userAgent=agent, acceptLanguage="de-DE")
    page.call("Emulation.setLocaleOverride", locale="de-DE")
    open_page(page, client, "/history", **how)
    text = "document.getElementById('{}').textContent".format
    page.wait(f"{text('total')} === '{total}'")
    page.run("document.getElementById('verdicts').scrollIntoView()")
    page.wait("document.querySelectorAll('.row img').length > 0")
    assert "," in page.run(text("yield"))  # German has a decimal comma
    assert page.run("document.querySelector('#regions b').textContent") == "side / cap"
    assert page.run("document.querySelector('.heat svg').getAttribute('aria-label')") == (
        "der meiste Ausschuss liegt 90,6\xa0% von links und 9,4\xa0% von oben"
    )
    assert page.run("document.querySelectorAll('.row').length") == 50
    page.run("document.getElementById('more').focus(); document.getElementById('more').click()")
    page.wait("document.querySelectorAll('.row').length === 100")
    page.screenshot(tmp_path / "history.png")  # to be looked at
    page.run("document.querySelector('#regions button').focus()")
    for kind in ("keyDown", "keyUp"):  # by keyboard alone
        page.call("Input.dispatchKeyEvent", type=kind, key="Enter", windowsVirtualKeyCode=13, text="\r")
    page.wait(f"{text('total')} === '150'")
    assert page.run("location.search").endswith("camera=side&region=cap")
    page.run("document.getElementById('decision').value = 'reject'")
    page.run("document.getElementById('decision').dispatchEvent(new Event('change'))")
    page.wait("document.querySelectorAll('.row').length === 6")
    assert page.run(f"{text('rejected')} + ' of ' + {text('total')}") == "6 of 150"
    page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    page.run("document.getElementById('order').value = 'Los 7'; document.getElementById('report').click()")
    wait_until((tmp_path / "report.html").is_file)
    assert "<h1>Chargenbericht: Los 7</h1>" in (tmp_path / "report.html").read_text()
    page.run("document.querySelector('.row').click()")
    page.wait("document.getElementById('viewer').open")
    assert page.run(text("viewer-title")).startswith("AUSSCHUSS 1,50 · side / cap")
    assert [error for error in page.errors if "401" not in error] == []


def test_a_model_is_uploaded(serve, page, make_model, tmp_path):
    client = serve()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    made = make_model("new.onnx", threshold=0.3)
    files = [made.rename(elsewhere / made.name), golden_path(made).rename(elsewhere / golden_path(made).name)]

    def choose(*paths: Path) -> None:
        document = page.call("DOM.getDocument")["root"]["nodeId"]
        field = page.call("DOM.querySelector", nodeId=document, selector="#files")["nodeId"]
        page.call("DOM.setFileInputFiles", files=[str(path) for path in paths], nodeId=field)
        page.run("document.getElementById('upload').click()")

    open_page(page, client, "/models")
    said = "document.getElementById('uploaded').textContent"
    page.wait("!document.getElementById('upload').disabled")
    choose(*files)
    page.wait(f"{said}.includes('name')")
    page.run("document.getElementById('who').value = 'Ada'")
    choose(files[0])
    page.wait(f"{said}.includes('both files')")
    choose(*files)
    page.wait(f"{said}.startsWith('new.onnx repeats its golden results')")
    page.wait("[...document.querySelectorAll('article h2')].some(title => title.textContent === 'new.onnx')")
    page.screenshot(tmp_path / "upload.png")  # to be looked at
    page.wait("!document.getElementById('upload').disabled")
    choose(*files)
    page.wait(f"{said}.includes('there is such a model already')")
    assert (tmp_path / "new.onnx").read_bytes() == files[0].read_bytes()
    assert [error for error in page.errors if "401" not in error and "409" not in error] == []


def test_who_may_not_download_the_pictures_reads_why(serve, page, tmp_path):
    users, token = add_user([], "Bo", "view")
    write_users(tmp_path / "users.json", users)
    client = serve(users=tmp_path / "users.json")
    open_page(page, client, "/setup")
    page.run(f"sessionStorage.setItem('token', {token!r})")
    page.open(f"http://127.0.0.1:{client.port}/setup")
    page.wait("document.getElementById('collected')?.textContent")
    page.run("document.getElementById('download').click()")
    page.wait("document.getElementById('said').textContent.includes('needs the role engineer')")


def test_models_are_checked_activated_and_rolled_back(serve, page, make_model, tmp_path):
    client = serve()
    make_model("new.onnx", threshold=0.3)
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    open_page(page, client, "/models")

    def press(file: str, action: str) -> None:
        card = f"[...document.querySelectorAll('article')].find(a => a.querySelector('h2').textContent === {file!r})"
        button = f"{card}?.querySelector('button[value={action}]')"
        page.wait(f"{button} && !{button}.disabled")
        page.run(f"{button}.click()")

    said = "document.getElementById('said').textContent"
    press("new.onnx", "check")
    page.wait(f"{said}.includes('name')")
    page.run("document.getElementById('who').value = 'Ada'")
    press("broken.onnx", "check")
    page.wait(f"{said}.startsWith('the model stays: ')")
    press("new.onnx", "activate")
    page.wait(f"{said}.includes('reason')")
    page.run("document.getElementById('reason').value = 'the new lamp'")
    press("new.onnx", "activate")
    page.wait(f"{said}.startsWith('new.onnx (bottle, fp32')")
    page.wait("document.querySelector('article .badge').textContent === 'active'")
    assert client.running.line.active_model.model.path.name == "new.onnx"
    page.screenshot(tmp_path / "models.png")  # to be looked at
    make_model("third.onnx", threshold=0.4)
    page.wait("document.querySelectorAll('article').length === 4")
    page.run("document.getElementById('reason').value = 'the third lamp'")
    press("third.onnx", "activate")
    page.wait(f"{said}.startsWith('third.onnx')")
    page.wait("!document.getElementById('rollback').disabled")
    page.run("document.getElementById('reason').value = 'the lamp before'")
    page.run("document.getElementById('rollback').click()")
    page.wait(f"{said}.startsWith('new.onnx') && {said}.endsWith('active again')")
    assert client.running.line.active_model.model.path.name == "new.onnx"
    assert client.running.line.active_model.chosen.who == "Ada"
    wait_until(lambda: any("the lamp before" in text for text in details(client.running.journal, "model")))
    swaps = [text for text in details(client.running.journal, "model") if " -> " in text and ", by Ada: " in text]
    assert [text.rpartition(": ")[2] for text in swaps] == ["the new lamp", "the third lamp", "the lamp before"]


def test_a_limit_is_tried_on_the_scores_of_the_training_and_used(serve, page, make_model, make_options, tmp_path):
    rows = [{"kind": "patch", "size": 0.03, "found": 1, "drawn": 3, "relative_scores": [0.5, 0.8, 1.2]},
            {"kind": "texture", "size": 0.12, "found": 2, "drawn": 2, "relative_scores": [1.6, 7.0]}]  # fmt: skip
    calibrated = {
        "held_out_scores": (0.2, 0.35, 0.4), "false_alarm_rate": 0.25, "threshold_set_by": "3 good pictures",
        "training": {"synthetic_defects": {"found": 3, "drawn": 5, "too_hard": False, "by_kind_and_size": rows}},
    }  # fmt: skip
    options = make_options(dashboard=ServerOptions("127.0.0.1:0", TOKEN))
    make_model()  # a real file in the place of that of the options
    client = serve(options=options)
    make_model("first.onnx", threshold=0.4, **calibrated)
    open_page(page, client, "/models")

    def choose(file: str) -> None:
        page.wait("document.querySelectorAll('#calibrated option').length === 2")
        page.run(f"document.getElementById('calibrated').value = {file!r}")
        page.run("document.getElementById('calibrated').dispatchEvent(new Event('change'))")

    choose("first.onnx")
    tried, limit = "document.getElementById('tried').textContent", "document.getElementById('limit')"
    page.wait(f"{tried}.startsWith('limit 1.00 (threshold 0.4000)')")
    assert "0 of 3 good pictures held out are rejected" in page.run(tried)
    assert "at most 25.0 % of good parts would be rejected on average; 3 of 5 synthetic" in page.run(tried)
    assert page.run("document.getElementById('origin').textContent") == "threshold 0.4000: 3 good pictures"
    page.run(f"{limit}.value = 0.75; {limit}.dispatchEvent(new Event('input'))")
    page.wait(f"{tried}.startsWith('limit 0.75 (threshold 0.3000); 2 of 3 good pictures')")
    assert "4 of 5 synthetic defects" in page.run(tried)
    page.run("document.getElementById('calibration-title').scrollIntoView()")
    page.screenshot(tmp_path / "calibration.png")  # to be looked at
    page.wait("document.getElementById('use').disabled")  # another model judges
    choose("model.onnx")
    page.wait(f"{tried}.startsWith('limit 1.00 (threshold 0.5000)')")
    page.run(f"{limit}.value = 0.6; {limit}.dispatchEvent(new Event('input'))")
    page.wait("!document.getElementById('use').disabled")
    page.run("document.getElementById('who').value = 'Ada'; document.getElementById('use').click()")
    page.wait("document.getElementById('used').textContent.includes('reason')")
    page.run("document.getElementById('reason').value = 'misses'; document.getElementById('use').click()")
    page.wait("document.getElementById('used').textContent.startsWith('Every place')")
    assert client.running.line.active_model.thresholds.of("left", "frame") == pytest.approx(0.3)
    make_model(threshold=0.9)  # under the name of the model in use, which is in memory
    page.wait(f"{tried}.startsWith('limit 1.00 (threshold 0.9000)')")
    assert page.run("document.getElementById('use').disabled")
    assert [error for error in page.errors if "401" not in error] == []


def test_the_operator_reads_the_verdict_from_afar_with_its_own_picture(serve, page, tmp_path):
    client = serve(CameraOptions("left", "0"), CameraOptions("right", "1"), fps=5.0)
    open_page(page, client, "/operator?camera=left")
    word = "document.getElementById('word')"
    page.wait(f"{word}.textContent === 'reject' && document.querySelector('.region.reject img').naturalWidth > 0")
    assert page.run(f"parseFloat(getComputedStyle({word}).fontSize) * 0.7 >= 0.12 * innerHeight")  # a capital's height
    assert page.run("document.getElementById('shape').textContent") == "✕"
    page.screenshot(tmp_path / "operator.png", whole=False)  # to be looked at
    page.wait(f"{word}.textContent === 'pass'")
    client.running.cameras["left"].lose()
    page.wait(f"{word}.textContent === 'fault'")
    page.wait("document.querySelector('.region img').hidden")
    assert "no picture of this verdict" in page.run("document.querySelector('.region').textContent")
    page.screenshot(tmp_path / "operator-fault.png")  # to be looked at
    page.run("document.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowRight' }))")
    page.wait(f"document.getElementById('camera').textContent === 'right' && {word}.textContent !== 'fault'")
    assert page.run("location.search") == "?camera=right"


def test_a_fault_says_what_to_do_and_is_acknowledged_by_name(serve, page):
    client = serve()
    log_in(page, client)
    client.running.cameras["left"].lose()
    page.wait("document.querySelectorAll('#faults-now .fault-card').length === 1")
    card = "document.querySelector('#faults-now .fault-card')"
    assert "cable" in page.run(f"{card}.textContent")
    page.run(f"{card}.querySelector('button').click()")
    page.wait(f"{card}.querySelector('.error').textContent.includes('name')")
    page.run(f"{card}.querySelector('input').value = 'Ada'; {card}.querySelector('button').click()")
    page.wait(f"{card}.textContent.includes('Seen by Ada')")
    wait_until(lambda: details(client.running.journal, "acknowledged") == ["left: the camera is lost, by Ada"])
    client.running.cameras["left"].regain()
    page.wait("document.getElementById('faults-now').hidden")


def test_the_pages_are_german_where_their_reader_chooses_it(serve, page):
    client = serve()
    wait_until(lambda: len(client.running.journal.rows()) > 20)
    log_in(page, client)
    page.run("const s = document.getElementById('language'); s.value = 'de'; s.dispatchEvent(new Event('change'))")
    page.wait("document.documentElement?.lang === 'de' && !document.getElementById('main').hidden")
    page.wait("document.querySelector('.change')?.textContent === 'Grenzwert'")
    page.wait("['0,31', '2,00'].includes(document.querySelector('.place .score').textContent)")
    page.run("document.querySelector('.change').click()")
    page.run("document.getElementById('threshold').value = '0,3'")
    page.run("document.getElementById('reason').value = 'neue Lampe'")
    page.run("document.getElementById('who').value = 'Ada'; document.getElementById('apply').click()")
    page.wait("!document.getElementById('changer').open")
    assert client.running.line.active_model.thresholds.of("left", "frame") == 0.3
    assert [error for error in page.errors if "401" not in error] == []


@pytest.mark.parametrize("path", ["/", "/operator", "/history", "/review", "/models", "/setup"])
@pytest.mark.parametrize("size", [{"width": 390, "height": 844}, {"width": 1024, "height": 768, "dark": True}])
def test_pages_are_accessible_on_phone_and_tablet(serve, page, path, size):
    axe = pytest.importorskip("axe_core_python")
    client = serve()
    wait_until(lambda: len([row for row in client.running.journal.rows() if row.decision == "reject"]) > 1)
    open_page(page, client, path, **size)
    page.wait("document.querySelectorAll('main img[src^=blob], main article').length > 0")
    page.run((Path(axe.__file__).parent / "axe.min.js").read_text() + "; 0")
    found = page.run("axe.run().then(r => r.violations.filter(v => ['serious', 'critical'].includes(v.impact)))")
    assert [(one["id"], [node["html"] for node in one["nodes"]][:3]) for one in found] == []


def test_pages_are_light(serve):
    client = serve()
    for path in ("/", "/operator", "/history", "/review", "/models", "/setup"):
        sizes = {path: len(client.ask(path).body)}
        waiting = [path]
        while waiting:
            text = client.ask(waiting.pop()).body.decode("utf-8", "replace")
            for found in set(re.findall(r'"(/static/[\w.-]+)"', text)) - set(sizes):
                sizes[found] = len(client.ask(found).body)
                waiting.append(found)
        assert sum(sizes.values()) <= 150_000, sizes


def press(page: Page, kind: str, x: float, y: float) -> None:
    page.call("Input.dispatchMouseEvent", type=f"mouse{kind}", x=x, y=y, button="left", buttons=1, clickCount=1)


def test_regions_are_drawn_on_the_frame_and_saved_into_the_file(serve, page, tmp_path):
    config = tmp_path / "line.toml"
    config.write_text(
        '# ours\nmodel = "model.onnx"\njournal.path = "line.sqlite"\n[[camera]]\nname = "left"\nsource = "0"\n'
    )
    client = serve(config=config)
    wait_until(lambda: client.get("/api/setup")["cameras"][0]["size"])
    open_page(page, client, "/setup")
    page.wait("document.getElementById('frame').naturalWidth === 64")
    page.run("document.getElementById('shapes').scrollIntoView({ block: 'center' })")
    left, top, width, height = page.run(
        "(b => [b.left, b.top, b.width, b.height])(document.getElementById('shapes').getBoundingClientRect())"
    )

    def at(x: float, y: float) -> tuple[float, float]:
        return left + x / 64 * width, top + y / 32 * height

    press(page, "Pressed", *at(8, 4))
    press(page, "Moved", *at(20, 20))
    press(page, "Released", *at(40, 28))
    page.wait("document.querySelectorAll('#regions li').length === 1")
    page.run("document.getElementById('polygon').click()")
    for corner in ((42, 2), (62, 2), (62, 30), (42, 2)):
        press(page, "Pressed", *at(*corner))
        press(page, "Released", *at(*corner))
    page.wait("document.querySelectorAll('#regions li').length === 2")
    name = "document.querySelector('#regions input')"
    page.run(f"{name}.value = 'cap'; {name}.dispatchEvent(new Event('change'))")
    page.run("document.getElementById('restart').click()")
    page.wait("document.getElementById('said').textContent.includes('name')")
    page.run("document.getElementById('who').value = 'Ada'; document.getElementById('restart').click()")
    page.wait("document.getElementById('said').textContent.includes('not saved')")
    page.run("document.getElementById('save').click()")
    page.wait("document.getElementById('said').textContent.includes('reason')")
    page.run("document.getElementById('reason').value = 'two parts'; document.getElementById('save').click()")
    page.wait("document.getElementById('state').textContent === 'start the line again'")
    wait_until(lambda: details(client.running.journal, "regions"))
    assert details(client.running.journal, "regions")[0].endswith("by Ada: two parts")
    page.screenshot(tmp_path / "setup.png")  # to be looked at
    first, second = read_config(config).camera[0].region
    assert (first.name, second.name) == ("cap", "region2")
    assert first.rectangle == pytest.approx((8, 4, 32, 24), abs=1)
    assert np.array(second.polygon) == pytest.approx(np.array([[42, 2], [62, 2], [62, 30]]), abs=1)
    assert config.read_text().startswith("# ours\n")
    page.run("document.getElementById('count').value = '3'; document.getElementById('collect').click()")
    page.wait("document.querySelectorAll('#pictures img[src^=blob]').length === 3")
    page.run("document.querySelector('#pictures button').click()")
    page.wait("document.querySelectorAll('#pictures img').length === 2")
    page.run("document.getElementById('restart').click()")
    wait_until(lambda: not client.running.thread.is_alive())
    assert [error for error in page.errors if "401" not in error] == []


def test_the_chart_has_the_colours_of_the_page(serve, page):
    client = serve()
    wait_until(lambda: len([row for row in client.running.journal.rows() if row.decision == "reject"]) > 3)
    log_in(page, client)
    page.wait(f"{CHART}?.data[0].length > 10")
    canvas = "document.querySelector('.chart canvas')"
    pixels = f"[...{canvas}.getContext('2d').getImageData(0, 0, {canvas}.width, {canvas}.height).data]"
    page.wait(f"(d => d.some((v, i) => i % 4 === 0 && v > 150 && d[i + 1] < 60 && d[i + 3] === 255))({pixels})")  # red
