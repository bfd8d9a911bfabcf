"""Pages and sentences about results: what won is said in plain words, and old results are read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tfkd.reporting.figures import _front
from tfkd.reporting.results import comparison, results_markdown, verdicts

RECIPES = Path(__file__).parents[2] / "docs" / "recipes"


@pytest.mark.parametrize(
    ("difference", "start"),
    [
        (
            {"wer": -0.05, "low": -0.07, "high": -0.03, "p_value": 0.002},
            "The student beats the rest: ",
        ),
        (
            {"wer": 0.05, "low": 0.03, "high": 0.07, "p_value": 0.002},
            "The student does worse than ",
        ),
        (
            {"wer": -0.01, "low": -0.03, "high": 0.01, "p_value": 0.3},
            "This test set cannot tell the ",
        ),
        ({"wer": -0.01, "low": -0.02, "high": -0.005}, "The student beats the rest: "),
    ],
)
def test_what_won_is_said_in_words(difference, start):
    said = comparison("the student", "the rest", (0.1, 0.15), difference)
    assert said.startswith(start)
    assert "10.00 against 15.00 % word errors" in said
    assert f"{100 * difference['wer']:+.2f} points" in said


def test_a_sentence_for_each_rival_with_the_baseline_before_the_teacher():
    rates = {"teacher": 0.12, "student-truth": 0.22, "student-seq_kd": 0.11}
    clear = {"low": -0.2, "high": -0.001, "p_value": 0.01}
    results = {
        "systems": {name: {"wer": rate} for name, rate in rates.items()},
        "student": "student-seq_kd",
        "differences": {
            "teacher": {"wer": -0.01, **clear},
            "student-truth": {"wer": -0.11, **clear},
        },
        "training_data": {"utterances": 10, "hours": 1.0, "transcribed_utterances": 2,
                          "transcribed_hours": 0.25},
        "labels": {"labels": {"utterances": 8, "wer": 0.05, "oracle_wer": 0.02}, "labels-2": None},
    }  # fmt: skip
    first, second, third, fourth = verdicts(results)
    assert first == "2 of 10 utterances to learn from have a transcript (0.25 of 1.00 h)."
    assert "beats the same student on the transcripts: 11.00 against 22.00 %" in second
    assert "beats the teacher: 11.00 against 12.00 %" in third
    assert "have 5.00 % WER, the best of each list of hypotheses 2.00 %" in fourth


def test_results_of_the_first_versions_still_make_a_page():
    """Written before runs compared the student with more than one system."""
    results = {
        **json.loads((RECIPES / "digits.results.json").read_text()),
        "seq_kd_minus_truth": {"wer": 0.0136, "wer_low": 0.0074, "wer_high": 0.0203},
    }
    for key in ("differences", "training_data", "labels", "student"):
        results.pop(key, None)
    page = results_markdown(results, "Digits")
    assert "does worse than the same student on the transcripts" in page
    assert "(+1.36 points, 95 % interval +0.74 to +2.03)" in page


def test_the_front_holds_no_student_that_another_one_beats_in_both():
    points = [(1.0, 9.0), (2.0, 5.0), (2.5, 7.0), (3.0, 5.0), (4.0, 2.0)]
    assert _front(points) == [(1.0, 9.0), (2.0, 5.0), (4.0, 2.0)]
