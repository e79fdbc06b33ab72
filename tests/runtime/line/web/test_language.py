"""Each language has every text of the pages, and no other."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from importlib import resources
from typing import get_args

import pytest

from stfpm_edge.pictures.synthetic_defects import KINDS
from stfpm_runtime.line.journal.labels import Value
from stfpm_runtime.line.journal.models.states import State
from stfpm_runtime.line.models.recipes import status as recipes
from stfpm_runtime.line.web.api.fields import Decision
from stfpm_runtime.line.web.views.faults import ADVICE, OTHER_ADVICE

STATIC = resources.files("stfpm_runtime.line.web") / "static"
LANGUAGES = sorted(file.name for file in STATIC.iterdir() if file.name.endswith(".json"))
FOR_PROGRAMMERS = ("api.html", "api.js")
CAMERA_STATES = {"opening", "opened", "lost", "regained", "frozen", "thawed"}
NOT_SHOWN = {"b", "bad", "failing", "rectangle", "span", "tr", "none", "ok", "overlay", "quiet", "state", "warning"}
"""Names of elements and classes in scripts."""
ATTRIBUTES = {"aria-label", "alt", "title", "placeholder"}


class Texts(HTMLParser):
    """Collects what people read of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found |= {value for name, value in attrs if name in ATTRIBUTES and value}

    def handle_data(self, data: str) -> None:
        if re.search(r"[^\W\d_]", data):
            self.found.add(data.strip())


def texts_of_pages() -> set[str]:
    """Return the texts in pages and scripts. In a script, `t(...)` has its texts in double quotes."""
    found = Texts()
    for file in STATIC.iterdir():
        if file.name.endswith(".html") and file.name not in FOR_PROGRAMMERS:
            found.feed(file.read_text())
    scripts = "\n".join(
        file.read_text()
        for file in STATIC.iterdir()
        if file.name.endswith(".js") and file.name not in (*FOR_PROGRAMMERS, "uplot.js")
    )
    calls = re.findall(r"""\bt\(((?:"[^"\n]*"|[^;"\n]|\n)*)""", scripts)
    quoted = set(re.findall(r'"([^"\n]*)"', "\n".join(calls)))
    words = re.findall(r"""(?:const words|badge\(\$\("state"\), t)(?:"[^"\n]*"|[^;"\n]|\n)*""", scripts)
    quoted |= {text for part in words for text in re.findall(r'"([^"\n]*)"', part)}
    return found.found | {text for text in quoted if re.search(r"[^\W\d_]", text)}


def test_there_are_languages_beside_english():
    assert "de.json" in LANGUAGES


@pytest.mark.parametrize("name", LANGUAGES)
def test_a_language_has_every_text_and_no_other(name):
    catalogue = json.loads((STATIC / name).read_text())
    words = (Decision, State, recipes.State, Value)
    dynamic = {*(word for one in words for word in get_args(one)), *CAMERA_STATES, "new", OTHER_ADVICE}
    dynamic |= {advice for _, advice in ADVICE} | set(KINDS)
    pages = texts_of_pages()
    assert sorted((pages | dynamic) - NOT_SHOWN - set(catalogue)) == []
    assert sorted(set(catalogue) - pages - dynamic) == []
    for text, translated in catalogue.items():
        assert translated.count("{}") == text.count("{}"), text
