"""Answers that come late: what people see belongs to what they have chosen, or it is hidden."""

from __future__ import annotations

import time

import cv2
import numpy as np
import pytest

from stfpm_runtime.line.config.camera import CameraOptions
from stfpm_runtime.line.config.line import read_config

from ..conftest import wait_until

pytest.importorskip("websockets")

from .browser import CHROMIUM, Page
from .test_browser import log_in, open_page

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt install chromium")
HOLD = """
(() => {
  const fetch = window.fetch;
  Object.assign(window, { hold: null, held: [] });
  window.fetch = async (path, options) => {
    const isHeld = window.hold?.test(path);
    const answer = await fetch(path, options);
    if (isHeld) await new Promise((go) => window.held.push({ path, go }));
    return answer;
  };
})()
"""
"""Holds back the answers to requests whose path fits `hold`, until `held[n].go()`."""
TEXT = "document.getElementById('{}').textContent".format


def hold(page: Page, pattern: str) -> None:
    page.run(f"window.held ?? {HOLD}; window.hold = {f'/{pattern}/' if pattern else 'null'}")


def release(page: Page, pattern: str) -> None:
    """Let the answers that are held back for these paths come, and give the page time to show them."""
    page.run(f"window.held.filter((one) => /{pattern}/.test(one.path)).forEach((one) => one.go())")
    time.sleep(0.3)


def choose(page: Page, name: str, value: str) -> None:
    page.run(
        f"{{ const s = document.getElementById({name!r}); s.value = {value!r}; s.dispatchEvent(new Event('change')) }}"
    )


@pytest.fixture
def two(serve):
    return serve(CameraOptions("left", "0"), CameraOptions("right", "1"))


def lose_frame(client, camera: str) -> None:
    """A camera of which there is no frame, as before its first one."""
    client.running.cameras[camera].lose()
    status = client.running.line.live_status
    wait_until(lambda: status.places[camera, "frame"].newest.row.decision == "fault")  # after its last frame
    del status.frames[camera]


def test_setup_shows_the_frame_of_the_chosen_camera_or_none(two, page):
    lose_frame(two, "right")
    open_page(page, two, "/setup")
    page.wait("document.getElementById('frame').naturalWidth === 64")
    shown = "document.getElementById('frame').checkVisibility()"
    choose(page, "camera", "right")
    assert not page.run(shown)
    assert page.run("document.getElementById('no-frame').checkVisibility()")
    assert page.run("document.getElementById('rectangle').disabled")
    time.sleep(1.5)  # the page asks again meanwhile
    assert not page.run(shown)
    hold(page, r"\/api\/frames\/left")
    choose(page, "camera", "left")
    page.wait("held.length === 1")
    choose(page, "camera", "right")
    release(page, "left")
    assert not page.run(shown)
    hold(page, "")
    choose(page, "camera", "left")
    page.wait(f"{shown} && document.getElementById('frame').naturalWidth === 64")
    assert not page.run("document.getElementById('rectangle').disabled")
    choose(page, "camera", "right")
    two.running.cameras["right"].regain()
    page.wait(shown)  # once there is one
    assert [error for error in page.errors if "401" not in error] == []


def test_setup_shows_the_pictures_of_the_chosen_place_alone(two, page, tmp_path):
    for camera, count in (("left", 3), ("right", 1)):
        folder = tmp_path / "collected" / camera / "frame/train/good"
        folder.mkdir(parents=True)
        for number in range(count):
            cv2.imwrite(str(folder / f"{camera}{number}.png"), np.full((32, 64, 3), 50 * number, np.uint8))
    open_page(page, two, "/setup")
    names = "[...document.querySelectorAll('#pictures img')].map((image) => image.alt.slice(0, -5)).join()"
    page.wait(f"{names} === 'left,left,left'")
    hold(page, r"\/api\/collected\/left\/frame$")
    page.wait("held.length === 1")
    choose(page, "camera", "right")
    assert page.run(names) == ""
    page.wait(f"{names} === 'right'")
    release(page, "left")
    assert page.run(names) == "right"
    page.run("document.getElementById('who').value = 'Ada'; document.querySelector('#pictures button').click()")
    page.wait(f"{names} === ''")
    assert [path.name for path in sorted((tmp_path / "collected").rglob("*.png"))] == [
        "left0.png",
        "left1.png",
        "left2.png",
    ]


def test_setup_saves_only_over_the_regions_that_it_has_shown(serve, page, tmp_path):
    config = tmp_path / "line.toml"
    config.write_text(
        'model = "model.onnx"\njournal.path = "line.sqlite"\n[[camera]]\nname = "left"\nsource = "0"\n'
        '[[camera.region]]\nname = "cap"\nrectangle = [0, 0, 32, 32]\nthreshold = 0.4\n'
    )
    client = serve(config=config)
    open_page(page, client, "/setup")
    name = "document.querySelector('#regions input')"
    page.wait(f"{name}?.value === 'cap'")
    config.write_text(config.read_text().replace('"cap"', '"lid"'))
    page.wait(f"{name}.value === 'lid'")  # nothing was drawn: the page shows what is there now
    rename = f"{name}.value = 'hat'; {name}.dispatchEvent(new Event('change'))"
    say = "document.getElementById('who').value = 'Ada'; document.getElementById('reason').value = 'a name'"
    page.run(f"{rename}; {say}")
    config.write_text(config.read_text().replace("0, 0, 32", "8, 0, 32"))
    page.run("document.getElementById('save').click()")
    page.wait(f"{TEXT('said')}.includes('other regions than those that were changed')")
    page.wait("!document.getElementById('main').inert")  # the regions that are in the file now were read
    assert page.run(f"{name}.value") == "hat"
    page.run("document.getElementById('undo').click()")
    assert page.run(f"{name}.value") == "lid"
    page.run(rename)
    page.run("document.getElementById('save').click()")
    wait_until(lambda: read_config(config).camera[0].region[0].name == "hat")
    page.wait("!document.getElementById('main').inert")  # nothing can be changed until the answer is shown
    page.run(f"{rename.replace('hat', 'top')}; {say}; document.getElementById('save').click()")
    wait_until(lambda: read_config(config).camera[0].region[0].name == "top")  # once more, after one's own change
    (region,) = read_config(config).camera[0].region
    assert (region.rectangle, region.threshold) == ((8, 0, 32, 32), 0.4)


def test_the_operator_sees_no_verdict_of_another_camera(two, page):
    open_page(page, two, "/operator?camera=left")
    page.wait("document.querySelector('.region img')?.naturalWidth > 0")
    hold(page, r"\/api\/live\/left")
    page.wait("held.length > 0")
    hold(page, r"\/api\/")
    page.run("document.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowRight' }))")
    assert page.run(f"[{TEXT('camera')}, {TEXT('word')}]") == ["right", "reading"]
    release(page, "left")
    assert page.run(f"[{TEXT('camera')}, {TEXT('word')}]") == ["right", "reading"]
    assert not page.run("document.querySelector('.region img').checkVisibility()")
    hold(page, "")
    release(page, "status")
    page.wait("document.querySelector('.region img').naturalWidth > 0")
    assert page.run(TEXT("camera")) == "right"


def test_a_viewed_picture_and_what_became_of_its_label_are_of_the_verdict_that_is_named(serve, page):
    client = serve()
    wait_until(lambda: sum(bool(row.overlay) for row in client.running.journal.rows()) > 1)
    client.running.finish()
    log_in(page, client)
    page.wait("document.querySelectorAll('#rejects img[src^=blob]').length > 1")
    hold(page, r"\/api\/(pictures|labels)")
    page.run("document.querySelectorAll('#rejects button')[0].click()")
    page.run("document.getElementById('labeller-who').value = 'Ada'")
    page.run("document.querySelector('#labeller button[value=defect]').click()")
    page.wait("held.length === 2")
    hold(page, "")
    page.run("document.getElementById('viewer-close').click(); document.querySelectorAll('#rejects button')[1].click()")
    page.wait("document.getElementById('viewer-picture').naturalWidth > 0")
    picture = page.run("document.getElementById('viewer-picture').src")
    release(page, ".")
    assert page.run("document.getElementById('viewer-picture').src") == picture
    assert page.run(TEXT("labeller-result")) == ""


def test_a_threshold_is_tried_and_changed_for_the_place_that_is_named(two, page):
    log_in(page, two)
    page.wait("document.querySelectorAll('.change:not(:disabled)').length === 2")
    hold(page, r"\/api\/threshold")
    page.run("document.querySelectorAll('.change')[0].click(); document.getElementById('who').value = 'Ada'")
    page.run("document.getElementById('reason').value = 'a lamp'; document.getElementById('apply').click()")
    page.wait("held.length === 2")
    page.run("document.getElementById('cancel').click(); document.querySelectorAll('.change')[1].click()")
    page.wait("held.length === 3")
    page.run("held.slice(0, 2).forEach((one) => one.go())")
    time.sleep(0.3)
    assert page.run("document.getElementById('changer').open")
    assert page.run(TEXT("effect")) == ""
    page.run("held[2].go()")
    page.wait(f"{TEXT('effect')} !== ''")


def test_history_hides_what_was_found_for_other_filters(serve, page):
    client = serve()
    open_page(page, client, "/history")
    page.wait("document.querySelectorAll('.row').length > 0")
    hold(page, r"\/api\/history")
    choose(page, "decision", "fault")
    page.wait("held.length === 2")
    is_shown = "(one) => getComputedStyle(one).visibility === 'visible'"
    shown = f"[...document.querySelectorAll('.row, .tile')].filter({is_shown}).length"
    assert page.run(shown) == 0
    hold(page, "")
    release(page, ".")
    page.wait(f"{TEXT('state')} !== 'reading'")
    assert page.run(shown) == 4  # tiles
    assert page.run("document.getElementById('none').checkVisibility()")
