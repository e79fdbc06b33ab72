"""`stfpm-study`: what it reads from journals and CSV files, what it refuses, and what it writes."""

from __future__ import annotations

import contextlib
import json
import re
import xml.etree.ElementTree as ET

import pytest

from stfpm_runtime.line.journal.labels import new_label, write_label
from stfpm_runtime.line.journal.writer import Journal
from stfpm_runtime.study.cli import main

from .line.test_journal import make_row

LINE = "line.sqlite"
PARTS = {"S1": (0.1, "good"), "S2": (0.2, "good"), "S10": (0.9, "defect"), "S11": (1.0, "defect")}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "parts.csv").write_text("part,reference\n" + "".join(f"{p},{r}\n" for p, (_, r) in PARTS.items()))
    return tmp_path


def write_journal(path, rows=(), trials=3, **changes):
    """Write trials of PARTS, whose scores rise by 0.01 with each trial, and then further rows."""
    with contextlib.closing(Journal(path)) as writer:
        for trial in range(trials):
            for part, (score, _) in reversed(PARTS.items()):
                decision = "reject" if score > 0.5 else "pass"
                writer.write(make_row(part=part, score=score + 0.01 * trial, decision=decision, **changes))
        for row in rows:
            writer.write(make_row(**row))


def run_json(capsys, *argv):
    assert main([*argv, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refusal(capsys, *argv) -> str:
    assert main([*argv]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_verdicts_of_a_journal_are_trials_and_scores_are_relative(here, capsys):
    write_journal(here / LINE, [{"part": ""}, {"part": "other"}])
    found = run_json(capsys, LINE, "--reference", "parts.csv")
    assert list(found["parts"]) == ["S1", "S2", "S10", "S11"]
    assert (found["appraisers"], found["trials"]) == (["line"], 3)
    with (here / "parts.csv").open("a") as file:
        file.write("S12,defect\n")
    assert "Parts of parts.csv that were never presented: S12." in run_json(
        capsys, LINE, "--reference", "parts.csv")["notes"]  # fmt: skip
    (one,) = found["agreement"]["appraisers"]
    assert (one["kappa_within"], one["kappa_reference"], one["grades"]["miss rate"]) == (1, 1, "acceptable")
    assert found["variation"]["components"]["EV"]["sd"] == pytest.approx(0.02)  # of 0, 0.01, 0.02 over 0.5
    assert found["notes"][0].endswith("that the reference does not name: 2.")


def test_separators_in_part_ids_are_written_out(here, capsys):
    write_journal(here / LINE, [{"part": "9\x1dA"}, {"part": "9\x1dA", "score": 0.9, "decision": "reject"}], trials=2)
    assert main([LINE]) == 0
    assert "9\\x1dA" in capsys.readouterr().out


def test_labels_are_the_reference_where_no_file_is_given(here, capsys):
    write_journal(here / LINE)
    for seq, value in ((1, "defect"), (2, "unclear"), (3, "good")):  # S11, S10, S2
        write_label(here / LINE, new_label(seq, value, "Ada"))
    found = run_json(capsys, LINE)
    assert found["parts"] == {"S1": "", "S2": "good", "S10": "", "S11": "defect"}
    assert found["notes"][0].endswith("compared with one another only: S1, S10.")
    write_label(here / LINE, new_label(5, "good", "Ada"))
    assert "part S11 is labelled good and defect" in refusal(capsys, LINE)


def test_labels_of_parts_without_an_id_are_no_reference(here, capsys):
    write_journal(here / LINE, [{"part": ""}, {"part": ""}])
    first = 3 * len(PARTS) + 1
    for seq, value in ((first, "good"), (first + 1, "defect")):
        write_label(here / LINE, new_label(seq, value, "Ada"))
    assert "" not in run_json(capsys, LINE)["parts"]


def test_regions_judge_a_part_together_or_each_for_itself(here, capsys):
    more = [{"part": part, "region": "lid", "score": 0.6, "decision": "reject"} for part in PARTS for _ in range(3)]
    write_journal(here / LINE, more)
    together = run_json(capsys, LINE, "--reference", "parts.csv")
    assert together["agreement"]["appraisers"][0]["false_alarms"]["count"] == 6
    apart = run_json(capsys, LINE, "--reference", "parts.csv", "--per-region")
    assert [one["false_alarms"]["count"] for one in apart["agreement"]["appraisers"]] == [0, 6]
    fault = {"region": "lid", "score": None, "decision": "fault"}
    write_journal(here / "fault.sqlite", [{"part": part, **fault} for part in PARTS for _ in range(3)])
    found = run_json(capsys, "fault.sqlite", "--reference", "parts.csv")
    assert (found["agreement"]["appraisers"][0]["faults"]["count"], found["variation"]) == (12, None)
    assert sorted(apart["appraisers"]) == ["line left/frame", "line left/lid"]


def test_persons_and_a_line_are_compared_and_the_report_is_one_file(here, capsys):
    write_journal(here / LINE)
    rows = [f"{part};Ada;{trial};{'reject' if part > 'S10' and part != 'S2' else 'pass'};\n"
            for part in PARTS for trial in (1, 2, 3)]  # fmt: skip
    (here / "ada.csv").write_text("part;appraiser;trial;decision;score\n" + "".join(rows), encoding="utf-8-sig")
    argv = [LINE, "ada.csv", "--reference", "parts.csv", "--html", "out/study.html", "--title", "Line <3>"]
    assert main(argv) == 0
    text = capsys.readouterr().out
    assert "4 parts (2 good, 2 defective), 3 trials by each of: line, Ada." in text
    assert "Ada: 1 of 2 defective parts passed in one trial or more" in text  # S10
    page = (here / "out/study.html").read_text(encoding="utf-8")
    assert page.count("Line &lt;3&gt;") == 2
    assert "<3>" not in page
    assert not any(word in page for word in ("<script", "<img", "src=", "href=", "url("))
    charts = [ET.fromstring(part.partition("</svg>")[0] + "</svg>")
              for part in ("<svg" + rest for rest in page.split("<svg")[1:])]  # fmt: skip
    assert len(charts) == 3
    marks = [one for one in charts[1].iter("{http://www.w3.org/2000/svg}rect") if one.get("width") == "5"]
    assert len(marks) == 12  # a mark for each score; Ada gave none


CSV_HEAD = "part,appraiser,trial,decision,score,reference\n"
BALANCED = CSV_HEAD + "1,A,1,pass,0.1,good\n1,A,2,pass,0.2,good\n2,A,1,reject,0.9,defect\n2,A,2,reject,0.8,defect\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            BALANCED + "3,A,1,pass,0.1,good\n",
            "got 1 of trials 1 to 2 of part 3, appraiser A; .* wrong are: 3; present these",
        ),
        (BALANCED + "3,B,1,pass,0.1,good\n", "not balanced"),
        (BALANCED + "2,A,2,pass,0.9,defect\n", "line 6: part 2, appraiser A, trial 2 was at .*line 5 already"),
        (BALANCED + "2,A,3,pass,0.9,good\n", "line 6: part 2 is good here and defect elsewhere"),
        (BALANCED + "3,A,1,ok,0.1,good\n", "line 6: got the decision 'ok'; expected pass, reject, fault"),
        (BALANCED + "3,A,1,pass,much,good\n", "line 6: got the score 'much'; expected a number"),
        (BALANCED + "3,A,1,pass,nan,good\n", "line 6: got the score 'nan'"),
        (BALANCED + "3,A,1,pass,1e200,good\n", "line 6: got the score '1e200'; expected a number"),
        (BALANCED + "3,A,1,,0.1,good\n", "line 6: part 3, appraiser A, trial 1 has no decision; expected one"),
        (BALANCED + f"{'9' * 5000},A,1,pass,0.1,good\n", "not balanced"),
        (BALANCED + "3,A,0,pass,1,good\n", "line 6: got the trial '0'; expected a whole number"),
        (BALANCED + "3,A,1,,,good\n", "line 6: part 3 has neither decision nor score"),
        (BALANCED + "3,A,1\n", "line 6: got 3 fields; expected 6"),
        (BALANCED + ",A,1,pass,1,good\n", "line 6: expected the name of a part"),
        (BALANCED + '3,"A,1\n', "line 6: cannot be read as CSV"),
        ("part,result\n1,pass\n", "line 1: got the columns 'part,result'; expected some of part,appraiser"),
        ("", "line 1: got the columns ''"),
        (CSV_HEAD + "1,A,1,pass,0.1,good\n", "parts in the study: 1; expected two or more"),
        (CSV_HEAD, "parts in the study: 0"),
        (b"\xff\xfe1", "neither a journal nor UTF-8 text"),
    ],
)
def test_a_csv_that_is_wrong_is_one_line_that_names_the_line(here, capsys, text, message):
    (here / "study.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    line = refusal(capsys, "study.csv", "--html", "study.html")
    assert re.search(message, line), line
    assert not (here / "study.html").exists()


def test_incomplete_parts_can_be_left_out_and_are_named(here, capsys):
    (here / "study.csv").write_text(BALANCED + "3,A,1,pass,0.1,good\n")
    found = run_json(capsys, "study.csv", "--only-complete")
    assert list(found["parts"]) == ["1", "2"]
    assert found["notes"] == ["Left out are parts without 2 trials of each appraiser: 3."]


def test_one_trial_and_missing_scores_are_named(here, capsys):
    (here / "one.csv").write_text("part,decision,score,reference\n1,pass,0.1,good\n2,reject,0.9,defect\n")
    found = run_json(capsys, "one.csv")
    assert (found["variation"], found["agreement"]["appraisers"][0]["kappa_within"]) == (None, None)
    assert "There is one trial only" in found["notes"][0]
    (here / "study.csv").write_text(BALANCED + "3,A,1,fault,,good\n3,A,2,pass,0.1,good\n")
    found = run_json(capsys, "study.csv")
    assert found["variation"]["parts"] == ["1", "2"]
    assert "A: 1 of 6 presentations are faults" in found["notes"][0]
    assert found["notes"][1].endswith("left out of the scores' variation: 3.")


def test_what_does_not_fit_together_is_refused(here, capsys):
    write_journal(here / LINE, [{"part": "S1", "threshold": 0.6}])
    assert "another threshold than verdict" in refusal(capsys, LINE, "--reference", "parts.csv")
    write_journal(here / "two.sqlite", [{"part": "S1", "region": "lid"}])
    assert "part S11 has unequal numbers of verdicts: 3 of left/frame, 0 of left/lid" in refusal(capsys, "two.sqlite")
    write_journal(here / "good.sqlite")
    (here / "study.csv").write_text(BALANCED)
    assert "expected --threshold" in refusal(capsys, "good.sqlite", "study.csv")
    assert "got --threshold 0" in refusal(capsys, "study.csv", "--threshold", "0")
    assert "has no verdicts" in refusal(capsys, "good.sqlite", "--until", "2020-01-01")
    assert "none.csv: cannot be read" in refusal(capsys, "none.csv")
    (here / "parts.csv").write_text("part,reference\nS1,good\nS1,defect\n")
    assert "parts.csv: line 3: part S1 is good before" in refusal(capsys, "good.sqlite", "--reference", "parts.csv")
