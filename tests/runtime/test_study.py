"""A study's figures against published worked examples."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import f as f_distribution

from stfpm_runtime.binomial import highest_rate, parts_to_prove, plan_proof, probability_at_most
from stfpm_runtime.study.agreement import analyse_agreement, cohen_kappa, fleiss_kappa
from stfpm_runtime.study.presentations import Presentation, new_study
from stfpm_runtime.study.report import Result, notes, to_words
from stfpm_runtime.study.variation import analyse_variation, components_of, f_p_value


def numbers(text: str) -> np.ndarray:
    return np.array([float(word) for word in text.split()])


GOOD, DEFECT = "111 111 111 1", "000 000 000 0"
UNEQUAL = {
    6: "110 110 100 1", 7: "111 111 101 1", 12: "000 000 010 0", 14: "110 111 100 1", 21: "110 101 010 1",
    22: "001 010 110 0", 26: "010 000 001 0", 30: "000 001 000 0", 34: "001 001 011 0", 36: "110 111 101 1",
    43: "101 111 110 1",
}  # fmt: skip
DEFECTS = {3, 4, 5, 9, 25, 37, 39, 42, 45, 48, 50}
ATTRIBUTES = {part: UNEQUAL.get(part, DEFECT if part in DEFECTS else GOOD) for part in range(1, 51)}
"""AIAG's attribute study, 50 parts: three trials of A, B and C, and the reference; 1 is a good part."""

SCORES = numbers("""
    0.29 -0.56 1.34 0.47 -0.80 0.02 0.59 -0.31 2.26 -1.36  0.41 -0.68 1.17 0.50 -0.92 -0.11 0.75 -0.20 1.99 -1.25
    0.64 -0.58 1.27 0.64 -0.84 -0.21 0.66 -0.17 2.01 -1.31  0.08 -0.47 1.19 0.01 -0.56 -0.20 0.47 -0.63 1.80 -1.68
    0.25 -1.22 0.94 1.03 -1.20 0.22 0.55 0.08 2.12 -1.62  0.07 -0.68 1.34 0.20 -1.28 0.06 0.83 -0.34 2.19 -1.50
    0.04 -1.38 0.88 0.14 -1.46 -0.29 0.02 -0.46 1.77 -1.49  -0.11 -1.13 1.09 0.20 -1.07 -0.67 0.01 -0.56 1.45 -1.77
    -0.15 -0.96 0.67 0.11 -1.45 -0.49 0.21 -0.49 1.87 -2.16
""").reshape(3, 3, 10).transpose(0, 2, 1)  # fmt: skip
"""AIAG's study of repeatability and reproducibility, [appraisers, parts, trials]."""
IMPEDANCE = numbers("""
    37 38 37 41 41 40 41 42 41  42 41 43 42 42 42 43 42 43  30 31 31 31 31 31 29 30 28  42 43 42 43 43 43 42 42 42
    28 30 29 29 30 29 31 29 29  42 42 43 45 45 45 44 46 45  25 26 27 28 28 30 29 27 27  40 40 40 43 42 42 43 43 41
    25 25 25 27 29 28 26 26 26  35 34 34 35 35 34 35 34 35
""").reshape(10, 3, 3).transpose(1, 0, 2)  # fmt: skip
"""Thermal impedance, Houf and Berman (1988), as in Montgomery's text books; the interaction is significant."""


def attributes(decisions=("reject", "pass")) -> list[Presentation]:
    return [
        Presentation(str(part), name, trial, decisions[int(texts[index][trial - 1])], None,
                     "good" if texts[3] == "1" else "defect", "")
        for part, text in ATTRIBUTES.items() for texts in [text.split()]
        for index, name in enumerate("ABC") for trial in (1, 2, 3)
    ]  # fmt: skip


def scored(scores, decision="", reference="") -> list[Presentation]:
    return [Presentation(f"P{part}", "ABC"[who], trial + 1, decision, value, reference, "")
            for (who, part, trial), value in np.ndenumerate(scores)]  # fmt: skip


def test_attribute_study_of_the_aiag_manual():
    found = analyse_agreement(new_study(attributes()))
    tables = {"".join(pair.names): (pair.table[1][1], pair.table[1][0], pair.table[0][1], pair.table[0][0])
              for pair in found.pairs}  # fmt: skip
    assert tables == {"AB": (44, 6, 3, 97), "AC": (43, 7, 8, 92), "BC": (42, 5, 9, 94)}
    assert [f"{pair.kappa:.2f}" for pair in found.pairs] == ["0.86", "0.78", "0.79"]
    assert [f"{one.kappa_reference:.2f}" for one in found.appraisers] == ["0.88", "0.92", "0.77"]
    text = to_words(Result("", (), new_study(attributes()), found, None))
    effectiveness = "84.0% (42 of 50", "90.0% (45 of 50", "80.0% (40 of 50"
    wrong = "6.3% (3 of 48", "12.5% (6 of 48", "4.9% (5 of 102", "2.0% (2 of 102", "8.8% (9 of 102"
    assert [printed for printed in (*effectiveness, *wrong) if printed not in text] == []
    limits = [(f"{one.effectiveness.low:.0%}", f"{one.effectiveness.high:.0%}") for one in found.appraisers]
    assert limits == [("71%", "93%"), ("78%", "97%"), ("66%", "90%")]
    assert f"{found.all_right.share:.0%}" == "78%"
    assert [one.grades["effectiveness"] for one in found.appraisers] == ["marginal", "acceptable", "marginal"]
    assert {one.grade for one in found.appraisers} == {"not acceptable"}


def test_kappa_of_a_published_example_of_14_raters_and_its_limits():
    counts = numbers("""0 0 0 0 14  0 2 6 4 2  0 0 3 5 6  0 3 9 2 0  2 2 8 1 1  7 7 0 0 0  3 2 6 3 0  2 5 3 2 2
                      6 5 2 1 0  0 2 2 3 7""").reshape(10, 5)  # fmt: skip
    assert f"{fleiss_kappa(counts):.3f}" == "0.210"  # Wikipedia, Fleiss' kappa: 10 subjects, 5 categories
    assert fleiss_kappa(np.array([[3, 0], [3, 0]])) is None
    assert fleiss_kappa(np.array([[3, 0], [0, 3]])) == 1
    assert f"{cohen_kappa(np.array([[20, 5], [10, 15]])):.2f}" == "0.40"  # po 0.70, pe 0.50
    assert cohen_kappa(np.array([[9, 0], [0, 0]])) is None
    assert cohen_kappa(np.zeros((2, 2), int)) is None


def test_repeatability_and_reproducibility_of_the_aiag_manual():
    found = analyse_variation(new_study(scored(SCORES)), None)
    sd = {name: f"{one.sd:.6f}" for name, one in found.components.items()}
    assert (sd["EV"], sd["AV"], sd["INT"], sd["PV"]) == ("0.199933", "0.226838", "0.000000", "1.042327")
    # The manual prints 0.302373; the root of the sum of its own EV² and AV² is 0.302372.
    assert found.components["GRR"].sd == pytest.approx(0.302373, abs=2e-6)
    assert f"{found.components['TV'].sd:.3f}" == "1.085"
    percents = [f"{100 * found.components[name].of_total:.1f}" for name in ("EV", "AV", "GRR", "PV")]
    assert percents == ["18.4", "20.9", "27.9", "96.0"]
    assert [f"{100 * found.components[name].contribution:.1f}" for name in ("EV", "AV", "GRR", "PV")] == [
        "3.4", "4.4", "7.8", "92.2"]  # fmt: skip
    assert found.pooled
    assert found.categories == 4
    assert found.grade == "marginal"
    rows = {one.name: (one.df, f"{one.ss:.4f}", f"{one.ms:.5f}") for one in found.sources}
    assert rows == {
        "appraiser": (2, "3.1673", "1.58363"), "part": (9, "88.3619", "9.81799"),
        "appraiser x part": (18, "0.3590", "0.01994"), "repeatability": (60, "2.7589", "0.04598"),
    }  # fmt: skip


def test_significant_interaction_is_a_component():
    sources, pooled, variances = components_of(IMPEDANCE)
    assert [f"{one.ms:.4f}" for one in sources] == ["19.6333", "437.3284", "2.6951", "0.5111"]
    assert not pooled
    printed = {name: f"{variances[name]:.4f}" for name in ("PV", "AV", "INT", "EV")}
    assert printed == {"PV": "48.2926", "AV": "0.5646", "INT": "0.7280", "EV": "0.5111"}


def test_p_values_agree_with_scipy():
    for f, above, below in ((0.434, 18, 60), (5.27, 18, 60), (1.0, 1, 1), (4.2, 1, 30), (0.01, 2, 5), (1.1, 49, 2000)):
        assert f_p_value(f, above, below) == pytest.approx(f_distribution.sf(f, above, below), abs=1e-7)


def test_one_appraiser_has_repeatability_alone_and_a_zone_around_the_threshold():
    scores = np.array([[[0.2, 0.4], [0.3, 0.3], [0.95, 0.95], [1.9, 2.1]]])  # squared deviations: 0.02, 0, 0, 0.02
    found = analyse_variation(new_study(scored(scores, reference="good")), 1.0)
    assert found.components["EV"].sd == found.components["GRR"].sd == pytest.approx(0.1)
    assert [one.name for one in found.shown] == ["EV", "GRR", "PV", "TV"]
    assert (found.threshold.low, found.threshold.high) == pytest.approx((0.7, 1.3))
    assert found.threshold.between == 1
    assert found.threshold.of_tolerance == pytest.approx(0.3 / (1 - 3.55 / 4))


def test_equal_scores_leave_no_limit_to_the_categories_and_are_named():
    study = new_study(scored(np.array([[[0.2, 0.2], [0.5, 0.5]]])))
    found = analyse_variation(study, None)
    assert (found.components["GRR"].sd, found.categories, found.identical) == (0, None, True)
    assert "same score to the last digit" in " ".join(notes(Result("", (), study, None, found)))


def test_a_fault_is_neither_pass_nor_miss_nor_right():
    rows = [Presentation(part, "line", trial, decision, None, reference, "")
            for part, reference, decisions in (("1", "defect", ("fault", "reject")), ("2", "good", ("pass", "fault")),
                                               ("3", "good", ("pass", "pass")))
            for trial, decision in enumerate(decisions, 1)]  # fmt: skip
    (one,) = analyse_agreement(new_study(rows)).appraisers
    counts = [(rate.count, rate.of) for rate in (one.misses, one.false_alarms, one.faults, one.effectiveness)]
    assert counts == [(0, 2), (0, 4), (2, 6), (1, 3)]
    # reference by decision: good 3 pass 1 fault, defect 1 reject 1 fault: po 4/6, pe (4 x 3 + 2 x 1) / 36
    assert one.kappa_reference == pytest.approx((4 / 6 - 14 / 36) / (1 - 14 / 36))


def test_decisions_that_are_all_alike_have_no_kappa_and_the_report_says_so():
    study = new_study(attributes(("pass", "pass")))
    found = analyse_agreement(study)
    assert {one.kappa_within for one in found.appraisers} == {pair.kappa for pair in found.pairs} == {None}
    assert found.appraisers[0].kappa_reference == 0  # no better than chance
    assert "all decisions are alike" in " ".join(notes(Result("", (), study, found, None)))


def test_how_many_parts_prove_a_rate():
    assert parts_to_prove(0.02) == 149  # the least n with 0.98**n <= 0.05
    assert 0.98**149 <= 0.05 < 0.98**148
    assert parts_to_prove(0.02, 1) == 236
    assert parts_to_prove(0.05) == 59
    assert highest_rate(0, 149) == pytest.approx(1 - math.exp(math.log(0.05) / 149))
    n, k = plan_proof(0.02, 0.01)
    assert highest_rate(k, n) <= 0.02 < highest_rate(k + 1, n)
    assert probability_at_most(k, n, 0.01) >= 0.8 > probability_at_most(k - 1, parts_to_prove(0.02, k - 1), 0.01)
