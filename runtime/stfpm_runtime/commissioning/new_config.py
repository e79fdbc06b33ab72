"""`stfpm-inspect --init line3.toml`: asks what a line needs, and writes a configuration with comments.

Each answer is checked by the same rules as the file, and a wrong one is asked for again.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable
from pathlib import Path

from stfpm_runtime.errors import OptionError, OutputError
from stfpm_runtime.files import atomic_path
from stfpm_runtime.line.config.camera import CameraOptions, RegionOptions
from stfpm_runtime.line.config.toml_file import MistakeError

Ask = Callable[[str], str]
"""Asks a question and returns the answer, without spaces at its ends."""
TRIGGERS = ("continuous", "every", "http", "mqtt")
SAMPLE = 0.01


def write_config(path: Path, ask: Ask, say: Callable[[str], None]) -> None:
    """Ask for a line's configuration and write it.

    Raises OutputError where the file is there already, OptionError where the answers end too early.
    """
    if path.exists():
        raise OutputError(f"{path}: is there already; choose another name, or change it by hand")
    try:
        text = make_config(ask, say, path.parent)
    except EOFError:
        raise OptionError("the answers ended; nothing was written") from None
    with atomic_path(path, 0o600) as unfinished:  # it holds the dashboard's token
        unfinished.write_text(text, encoding="utf-8")
    say(f"{path} is written; next: stfpm-inspect --config {path} --check --preview preview")


def make_config(ask: Ask, say: Callable[[str], None], folder: Path) -> str:
    """Return the text of a configuration for that folder from the answers. Raises EOFError where there are no more."""

    def choose(question: str, default: str, check: Callable[[str], object]) -> str:
        while True:
            answer = ask(f"{question} [{default}]: " if default else f"{question}: ") or default
            try:
                check(answer)
                return answer
            except (MistakeError, ValueError) as mistake:
                say(f"  {mistake}")

    model = choose("The model file (.onnx or .engine)", "", _filled)
    name = choose("A name for the camera", "camera", lambda name: CameraOptions(name, "0"))
    source = choose("Its source: a number such as 0, an address (rtsp://, http://, aravis:), or a folder", "0",
                    lambda source: CameraOptions(name, source))  # fmt: skip
    is_folder = (folder / source).is_dir()
    watch = is_folder and _is_yes(choose("Judge pictures as they are written into that folder (y/n)", "y", _yes_or_no))
    region = choose("The part of the frame to judge: x, y, width, height in pixels, or all", "all", _region)
    trigger = choose(f"What asks for a verdict: {', '.join(TRIGGERS)}", "continuous", _one_of(TRIGGERS))
    every_ms = choose("Milliseconds between two verdicts", "500", _whole) if trigger == "every" else ""
    topic = choose("The topic of the triggers", "line/trigger", _filled) if trigger == "mqtt" else ""
    broker = choose("The MQTT broker's host" + ("" if trigger == "mqtt" else ", or none"),
                    "localhost" if trigger == "mqtt" else "none", _filled)  # fmt: skip
    webhook = choose("An address that gets each verdict by HTTP POST, or none", "none", _address)
    dashboard = _is_yes(choose("A dashboard in the browser (y/n)", "y", _yes_or_no))

    lines = [
        "# Paths are relative to this file's folder. docs/inspection.md explains all keys.",
        f"model = {_text(model)}",
        'journal = {path = "line.sqlite", keep_days = 365}',
        "",
        "[pictures]                       # of every part that does not pass",
        'folder = "pictures"',
        "quota_mb = 10000                 # the oldest are deleted beyond this",
        "",
        "[review]",
        f"sample = {SAMPLE}                    # pictures of 1% of the passed parts are kept, to look at them again",
        "",
        "[[camera]]",
        f"name = {_text(name)}",
        f"source = {_text(source)}",
        *(["watch = true"] if watch else []),
        f"trigger = {_text(trigger)}",
        *([f"every_ms = {every_ms}"] if every_ms else []),
        *([f"topic = {_text(topic)}"] if topic else []),
    ]
    if region != "all":
        lines += ["", "[[camera.region]]", 'name = "part"', f"rectangle = [{', '.join(map(str, _region(region)))}]"]
    if broker != "none":
        lines += ["", "[mqtt]", f"host = {_text(broker)}"]
    if webhook != "none":
        lines += ["", "[[webhook]]", f"url = {_text(webhook)}"]
    if dashboard or trigger == "http":
        lines += ["", "[dashboard]                      # http://127.0.0.1:8766/", 'listen = "127.0.0.1:8766"',
                  f'token = "{secrets.token_hex(16)}"   # changes need it; keep it secret']  # fmt: skip
    return "\n".join(lines) + "\n"


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)  # also how TOML writes a text


def _filled(answer: str) -> None:
    if not answer or not answer.isprintable():
        raise ValueError("expected an answer")


def _whole(answer: str) -> None:
    if not answer.isdecimal() or int(answer) < 1:
        raise ValueError(f"got {answer!r}; expected a whole number of 1 or more")


def _yes_or_no(answer: str) -> None:
    if answer.lower() not in ("y", "n", "yes", "no"):
        raise ValueError(f"got {answer!r}; expected y or n")


def _is_yes(answer: str) -> bool:
    return answer.lower().startswith("y")


def _one_of(choices: tuple[str, ...]) -> Callable[[str], object]:
    def check(answer: str) -> None:
        if answer not in choices:
            raise ValueError(f"got {answer!r}; expected one of {', '.join(choices)}")

    return check


def _address(answer: str) -> None:
    if answer != "none" and not re.fullmatch(r"https?://[!-~]+", answer):
        raise ValueError(f"got {answer!r}; expected an address that begins with http:// or https://, or none")


def _region(answer: str) -> tuple[int, ...]:
    """Return a rectangle; an empty tuple for the whole frame."""
    if answer == "all":
        return ()
    numbers = re.findall(r"-?\d+", answer)
    if len(numbers) != 4 or re.sub(r"[-\d\s,]", "", answer):
        raise ValueError(f"got {answer!r}; expected four whole numbers, say 400, 80, 512, 512, or all")
    x, y, width, height = map(int, numbers)
    RegionOptions("part", (x, y, width, height))
    return x, y, width, height
