"""The same figures as words, Markdown and a page."""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import pytest

from made_up_runs import latency, model, report
from stfpm_bench.report.charts import charts
from stfpm_bench.report.page import to_html
from stfpm_bench.report.report_tables import reader_notes, sections
from stfpm_bench.report.text import print_report, to_markdown
from stfpm_bench.results import Accuracy

VOID = {"meta"}


class Page(HTMLParser):
    """Checks that tags are nested well, and collects what is referred to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.references += [value for name, value in attributes if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def two():
    fast = model("a <b> & c", latency=latency(p50=5.0, p99=6.0))
    return report(fast, model("slow"), noise=("it hums",), interrupted=True)


def test_page_needs_nothing_from_elsewhere_and_escapes_names(two):
    page = Page()
    page.feed(to_html(two))
    assert page.open == []
    assert page.references == []
    assert not {"script", "link", "img"} & page.tags
    assert "@import" not in to_html(two)
    assert "a &lt;b&gt; &amp; c" in to_html(two)
    assert "<b> &" not in to_html(two)
    assert "Too noisy to trust: it hums." in to_html(two)
    assert "Interrupted: what is missing was not measured." in to_html(two)


def test_each_chart_is_sound_xml_with_a_mark_for_each_model(two):
    found = charts(two)
    assert [chart.title for chart in found] == [
        "Latency: its distribution", "Accuracy against latency", "Latency against batch", "Parity",
    ]  # fmt: skip
    for chart in found:
        root = ElementTree.fromstring(chart.svg)
        ids = [element.get("id") for element in root.iter()]
        assert {"model-0", "model-1"} <= set(ids), chart.title
        assert {"a <b> & c", "slow"} <= {element.text for element in root.iter()}, chart.title


def test_charts_of_equal_runs_are_equal_texts(two):
    assert charts(two) == charts(two)


def test_charts_without_enough_measurements_are_left_out():
    bare = model(throughput=(), accuracy=None, parity=None, roofline=None)
    assert [chart.title for chart in charts(report(bare))] == ["Latency: its distribution"]
    nothing = dataclasses.replace(bare, latency=None, idle=(), cold_start=None)
    assert charts(report(nothing)) == []
    assert "<figure>" not in to_html(report(nothing))


def test_tables_hold_the_measurements(two):
    tables = {section.title: (section.headings, section.rows) for section in sections(two)}
    headings, rows = tables["From frame to decision"]
    assert headings == ["", "a <b> & c", "slow"]
    assert ["p50, ms", "5.0", "10.0"] in rows
    assert ["± ms", "0.10", "0.10"] in rows
    assert ["frames/s (at batch)", "110 (4)", "110 (4)"] in rows
    assert ["cold start, s", "0.30", "0.30"] in rows
    assert ["after 1 s idle, ms", "13.0", "13.0"] in rows
    assert ["memory, MB", "120", "120"] in rows
    assert not any(row[0].startswith(("GPU", "energy")) for row in rows), "not measured"
    assert ["PRO", "0.9600", "0.9600"] in tables["Parity and accuracy"][1]
    assert tables["Where a frame's time goes, medians in ms"][1][1] == ["slow", "0.70", "9.00", "0.10"]
    (roofline,) = {rows[0][-1] for title, (_, rows) in tables.items() if "limit: " in title}
    assert roofline == "50%"


def test_reader_notes_name_noise_time_limits_and_lost_parity():
    slow = dataclasses.replace(latency(width=1.0), stopped_by="time limit")
    parity = dataclasses.replace(model().parity, holds=False, map_max_error=0.5)
    accuracy = Accuracy("bottle", 2, 0, None, None, None, None, 1, ("no labelled defects",))
    lines = reader_notes(report(model(latency=slow, parity=parity, accuracy=accuracy, notes=("random weights",))))
    assert lines == [
        "bottle: its map is 0.5 away from golden file's, 0.0001 is allowed.",
        "The time limit ended it, with each p50 known to: bottle 10.0%.",
        "bottle: random weights.",
        "bottle: no labelled defects.",
    ]
    assert reader_notes(report()) == []


def test_markdown_and_terminal_say_the_same(two, capsys):
    text = to_markdown(two)
    print_report(two)
    out = capsys.readouterr().out
    for words in (
        "Too noisy to trust: it hums.",
        "From frame to decision",
        "Where a frame's time goes",
        "2 cores of a pro",
    ):
        assert words in text
        assert words in out
    assert "| p50, ms | 5.0 | 10.0 |" in text
    assert "p50, ms" in out
