"""Pages and sentences about results: what won is said in plain words, and old results are read."""

from __future__ import annotations

import json
import os
import re
import shutil
import warnings
from pathlib import Path

import pytest

from tfkd import cli
from tfkd.pipeline.pooling import pooled
from tfkd.reporting.figures import _front, _label_heights, curves, pareto, save_figures
from tfkd.reporting.results import results_markdown, results_report, verdicts
from tfkd.reporting.sentences import comparison, path_from
from tfkd.reporting.sweeps import sweep_markdown, sweep_report, sweep_sentences, sweep_table

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


@pytest.mark.parametrize(
    ("p_value", "said"),
    [
        (2 / 10_001, "p < 0.0002"),
        (4 / 10_001, "p = 0.0004"),
        (2 / 1001, "p < 0.002"),  # of results that an earlier version wrote
        (0.002, "p = 0.002"),
        (0.0421, "p = 0.042"),
        (0.03125, "p = 0.031"),
    ],
)
def test_the_least_p_value_of_a_bootstrap_is_said_to_be_a_limit(p_value, said):
    difference = {"wer": -0.05, "low": -0.07, "high": -0.03, "p_value": p_value}
    assert f", {said})." in comparison("the student", "the rest", (0.1, 0.15), difference)


def test_the_best_of_several_wins_if_it_would_among_so_many():
    difference = {"wer": -0.05, "low": -0.07, "high": -0.03, "p_value": 0.02}
    alone = comparison("the student", "the rest", (0.1, 0.15), difference, [0.02])
    of_two = comparison("the student", "the rest", (0.1, 0.15), difference, [0.9, 0.02])
    of_three = comparison("the student", "the rest", (0.1, 0.15), difference, [0.9, 0.02, 0.3])
    assert alone == comparison("the student", "the rest", (0.1, 0.15), difference)
    assert of_two.startswith("The student beats the rest")
    assert of_two.endswith(", p = 0.020, corrected for 2 comparisons 0.040).")
    assert of_three.startswith("This test set cannot tell the student from the rest")
    assert of_three.endswith(", p = 0.020, corrected for 3 comparisons 0.060).")


def test_the_table_of_a_sweep_says_so_too():
    results = json.loads((RECIPES / "families.results.json").read_text())
    (row,) = (line for line in sweep_table(results).splitlines() if "BiLSTM + CTC" in line)
    assert " +1.02  < 0.002 " in row


def test_of_two_that_say_nothing_none_wins():
    difference = {"wer": -2.43, "low": -3.0, "high": -2.0, "p_value": 0.002}
    said = comparison("the student", "the teacher", (1.0, 3.43), difference)
    assert said.startswith("Neither the student nor the teacher has learned to listen")


def test_a_sentence_for_each_rival_with_the_baseline_before_the_teacher():
    rates = {"teacher": 0.12, "student-truth": 0.22, "student-seq_kd": 0.11}
    clear = {"low": -0.2, "high": -0.001, "p_value": 0.01}
    results = {
        "systems": {name: {"wer": rate, "words": 9} for name, rate in rates.items()},
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


def test_a_teacher_of_another_kind_is_compared_by_its_labels_of_the_test_set():
    results = {
        "systems": {"student-seq_kd": {"wer": 0.11, "words": 9}},
        "student": "student-seq_kd",
        "differences": {"teacher": {"wer": 0.06, "low": 0.01, "high": 0.1, "p_value": 0.01}},
        "labels": {"labels": None, "labels-test": {"utterances": 9, "wer": 0.05, "oracle_wer": 0}},
    }
    first, second = verdicts(results)
    assert "does worse than the teacher: 11.00 against 5.00 %" in first
    assert second.startswith("The labels of 9 utterances of the test set (labels-test) have 5.00 %")


def test_without_a_word_in_the_test_set_there_are_no_rates():
    run = json.loads((RECIPES / "barista-whisper.results.json").read_text())
    sweep = json.loads((RECIPES / "families.results.json").read_text())
    for system in run["systems"].values():
        system.update(words=0, wer=3.0)
    for row in sweep["rows"].values():
        row.update(wer=3.0)
        row["export"]["wer"] = 3.0
        row["seeds"][0]["words"] = 0
    run["labels"]["labels-test"]["wer"] = 3.0
    sweep["labels"]["labels-test"] = {"utterances": 9, "wer": 3.0, "oracle_wer": 3.0}
    for report in (results_report(run), sweep_report(sweep)):
        assert "there are no rates, only insertions" in report
        assert "% word errors" not in report
        assert "300.00" not in report


def test_a_sweep_without_a_finished_student_says_nothing_of_words():
    results = json.loads((RECIPES / "families.results.json").read_text())
    results["rows"] = {}
    assert "there are no rates" not in "".join(sweep_sentences(results))


def test_a_teacher_of_another_kind_has_a_row_of_the_wer_of_its_labels():
    results = json.loads((RECIPES / "barista-whisper.results.json").read_text())
    for text in (results_report(results), results_markdown(results, "Orders", "results.json")):
        lines = text.splitlines()
        (place,) = (n for n, line in enumerate(lines) if line.startswith("teacher"))
        assert lines[place].split() == ["teacher", "(its", "labels)", "2.73", *["-"] * 9]
        assert lines[place + 1].startswith("student-seq_kd")


def test_the_sentence_of_a_sweep_shows_the_seeds_that_it_compares():
    """While others are missing, the mean of a whole row is of other trainings."""
    results = json.loads((RECIPES / "digits-untranscribed.results.json").read_text())
    best, truth = results["rows"]["k 4, generation 2"], results["rows"]["truth"]
    del best["seeds"][1:]
    best["seeds"][0]["wer"], truth["seeds"][0]["wer"] = 0.0125, 0.0475
    assert any("1.25 against 4.75 %" in sentence for sentence in sweep_sentences(results))


def test_a_sweep_says_that_it_compares_the_seeds_of_both_only_where_these_differ():
    results = json.loads((RECIPES / "digits-untranscribed.results.json").read_text())
    said = "the difference is over the seeds that both have."
    assert said not in "".join(sweep_sentences(results))
    del results["rows"]["k 4"]["seeds"][2]
    assert [line.endswith(said) for line in sweep_sentences(results)].count(True) == 1


def test_a_sweep_has_that_row_too():
    results = json.loads((RECIPES / "barista-synthetic-and-whisper.results.json").read_text())
    _, _, teacher, best, _ = sweep_table(results).splitlines()
    assert teacher.split() == ["teacher", "(its", "labels)", "-", "2.73", *["-"] * 9]
    assert best.startswith("k 4 ")


def test_results_of_the_first_versions_still_make_a_page():
    """Written before runs compared the student with more than one system."""
    results = {
        **json.loads((RECIPES / "digits.results.json").read_text()),
        "seq_kd_minus_truth": {"wer": 0.0136, "wer_low": 0.0074, "wer_high": 0.0203},
    }
    for key in ("differences", "training_data", "labels", "student"):
        results.pop(key, None)
    page = results_markdown(results, "Digits", "results.json")
    assert "does worse than the same student on the transcripts" in page
    assert "(+1.36 points, 95 % interval +0.74 to +2.03)" in page


def test_a_page_says_where_its_results_lie(tmp_path):
    results, page = tmp_path / "work" / "results.json", tmp_path / "pages" / "digits.md"
    results.parent.mkdir()
    shutil.copy(RECIPES / "digits.results.json", results)
    cli.main(["report", str(results), "--title", "Digits", "--out", str(page)])
    assert "from the results of a run, `../work/results.json`." in page.read_text()


def test_a_page_of_a_sweep_that_goes_into_a_pipe_has_no_figures_and_nothing_after_it(capsys):
    reader, writer = os.pipe()
    results = str(RECIPES / "digits-untranscribed.results.json")
    cli.main(["report", results, "--title", "Digits", "--out", f"/dev/fd/{writer}"])
    os.close(writer)
    with open(reader) as pipe:
        page = pipe.read()
    assert page.startswith("# Digits\n")
    assert ".svg" not in page
    assert capsys.readouterr().out == ""


def test_each_sentence_of_a_page_is_an_item_of_a_list():
    run = json.loads((RECIPES / "barista-whisper.results.json").read_text())
    sweep = json.loads((RECIPES / "families.results.json").read_text())
    for page, sentences in (
        (results_markdown(run, "Orders", "results.json"), [*verdicts(run)]),
        (sweep_markdown(sweep, "Families", ["results.json"], {}), [*sweep_sentences(sweep)]),
    ):
        assert len(sentences) > 2
        assert "\n\n" + "".join(f"- {each}\n" for each in sentences) + "\n" in page


def test_stages_without_a_time_are_named_beside_the_sum_of_the_others():
    results = json.loads((RECIPES / "digits.results.json").read_text())
    assert "export 0.3; together 17.6." in results_markdown(results, "Digits", "results.json")
    results["stage_seconds"].update({"teacher": None, "student-seq_kd": None})
    page = results_markdown(results, "Digits", "results.json")
    (line,) = (line for line in page.splitlines() if line.startswith("Wall time"))
    assert "prepare 0.1, label 0.2, student-truth 5.0, export 0.3; together 5.6" in line
    assert line.endswith(": teacher, student-seq_kd.")


def test_a_title_shows_as_it_is_given():
    results = json.loads((RECIPES / "digits.results.json").read_text())
    sweep = json.loads((RECIPES / "digits-untranscribed.results.json").read_text())
    title, shown = "Digits <b>&| [k_1](*) `\\#", r"# Digits \<b\>\&\| \[k\_1\](\*) \`\\\#"
    assert results_markdown(results, title, "results.json").splitlines()[0] == shown
    assert sweep_markdown(sweep, title, ["results.json"], {}).splitlines()[0] == shown


def test_results_that_only_the_root_connects_with_the_page_are_named_without_a_path():
    assert path_from("/home/me/pages", "/data/work/results.json") == "results.json"


def test_the_front_holds_no_student_that_another_one_beats_in_both():
    points = [(1.0, 9.0), (2.0, 5.0), (2.5, 7.0), (3.0, 5.0), (4.0, 2.0)]
    assert _front(points) == [(1.0, 9.0), (2.0, 5.0), (4.0, 2.0)]


@pytest.fixture
def exported() -> dict:
    """Results of a sweep in which one of three students has an export."""
    results = json.loads((RECIPES / "digits-untranscribed.results.json").read_text())
    results["config"]["sweep"]["export"] = "tflite-int8"
    figures = {"wer": 0.0125, "wer_low": 0.01, "wer_high": 0.02, "bytes": 345_678, "rtf": 0.0321}
    for name, row in results["rows"].items():
        row["export"] = {"form": "tflite-int8", **figures} if name == "k 4" else None
    return results


def test_the_table_of_a_sweep_has_the_exports_beside_their_students(exported):
    header, _, teacher, *rows = sweep_table(exported).splitlines()
    assert header.endswith("export WER %  export size  export RTF")
    ends = {row.split("  ")[0]: row.split()[-4:] for row in rows}
    assert ends["k 4"] == ["1.25", "346", "kB", "0.0321"]
    assert ends["truth"][1:] == teacher.split()[-3:] == ["-"] * 3


def test_the_minutes_of_training_are_the_mean_over_the_seeds(exported):
    assert "minutes" not in sweep_table(exported)  # of results of an earlier version
    for seconds, seed in zip((60, 120, 240), exported["rows"]["k 4"]["seeds"], strict=True):
        seed["training_seconds"] = seconds
    exported["rows"]["truth"]["seeds"][0]["training_seconds"] = 60
    header, _, teacher, *rows = sweep_table(exported).splitlines()
    end = header.index("minutes") + len("minutes")
    minutes = {row.split("  ")[0]: row[:end].split()[-1] for row in (teacher, *rows)}
    assert minutes == {"teacher": "-", "k 4": "2.3", "k 4, generation 2": "-", "truth": "-"}


def test_a_page_says_what_was_exported_and_what_is_missing(exported):
    *_, what, missing = sweep_sentences(exported)
    assert what.startswith("Students are exported as tflite-int8. ")
    assert missing.endswith(": truth, k 4, generation 2.")
    for row in exported["rows"].values():
        row["export"] = exported["rows"]["k 4"]["export"]
    page = sweep_markdown(exported, "Digits", ["results.json"], {})
    assert "No export" not in page
    assert "tflite-int8; each export gave what Keras gives" in page
    exported["failed"] = {"truth-seed-0": "differs from Keras"}
    assert not any("each export gave" in sentence for sentence in sweep_sentences(exported))


@pytest.mark.parametrize(
    ("page", "compared"),
    [("digits-untranscribed", "The best student on labels (k 4, generation 2) beats"),
     ("families", "The best other student (BiLSTM + CTC) does worse than its baseline")],
)  # fmt: skip
def test_where_the_baseline_learns_labels_it_is_not_set_apart_by_that(page, compared):
    results = json.loads((RECIPES / f"{page}.results.json").read_text())
    assert any(sentence.startswith(compared) for sentence in sweep_sentences(results))


def test_exports_have_a_figure_of_their_speed(exported, tmp_path):
    pytest.importorskip("matplotlib")
    names = save_figures(exported, tmp_path / "digits.md")
    assert names["Word errors against speed of the exports"] == "digits.speed.svg"
    assert (tmp_path / "digits.speed.svg").exists()


def test_labels_of_about_one_cost_are_set_apart():
    costs, rates = {"a": 1.0, "b": 1.1, "c": 9.0}, {"a": 5.0, "b": 5.1, "c": 5.2}
    assert _label_heights(costs, rates, gap=1.0) == {"a": 5.0, "b": 6.0, "c": 5.2}


def test_every_label_of_a_crowd_lies_within_the_axes(exported):
    pytest.importorskip("matplotlib")
    row = exported["rows"]["k 4"] | {"wer": 0.05, "wer_low": 0.05, "wer_high": 0.05}
    exported["rows"] = {f"k {count}": {**row} for count in range(1, 12)}
    axes = pareto(exported).axes[0]
    heights = [label.xy[1] for label in axes.texts]
    assert len(heights) == 12  # with the teacher
    assert max(heights) < axes.get_ylim()[1]


def test_a_page_says_what_students_are_compared_with(exported):
    same = "against the baseline of the same size (truth), which takes as many optimizer steps"
    assert same in sweep_markdown(exported, "Digits", ["results.json"], {})
    exported["rows"]["k 4"]["parameters"] += 1
    page = sweep_markdown(exported, "Digits", ["results.json"], {})
    assert "against the baseline (truth), which takes as many optimizer steps" in page
    results = json.loads((RECIPES / "families.results.json").read_text())
    page = sweep_markdown(results, "Families", ["results.json"], {})
    assert "optimizer steps" not in page


def test_the_speed_of_a_row_is_that_of_its_fastest_seed(exported):
    """Other work makes a model slower, and never faster."""
    for rtf, seed in zip((0.009, 0.001, 0.002), exported["rows"]["k 4"]["seeds"], strict=True):
        seed["rtf"] = rtf
    (row,) = (line for line in sweep_table(exported).splitlines() if line.startswith("k 4  "))
    assert "0.0010" in row.split()


def test_no_error_at_all_has_a_place_in_the_figures(exported, tmp_path):
    pytest.importorskip("matplotlib")
    exported["rows"]["k 4"]["seeds"][0]["validation_curve"] = [0.5, 0.01, 0.0, 0.02, 0.0]
    for row in (exported["teacher"], *exported["rows"].values()):
        row |= {"wer": 0.0, "wer_low": 0.0, "wer_high": 0.0}
    axes = curves(exported).axes[0]
    (line,) = (line for line in axes.lines if line.get_label() == "k 4")
    least = min(rate for rate in line.get_ydata() if rate > 0)
    assert list(line.get_ydata())[2] == list(line.get_ydata())[4] == least
    assert axes.get_ylim()[0] < least
    assert f"({least:.2g}: no error)" in axes.get_ylabel()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_figures(exported, tmp_path / "page.md")


# Of forms that `tfkd report` does not write.
OTHER_RESULTS = ("families-repeated", "whisper")
PAGES: dict[str, list[Path]] = {}
for path in sorted(RECIPES.glob("*.results.json")):
    PAGES.setdefault(path.name.split(".")[0], []).append(path)


@pytest.mark.parametrize("name", sorted(PAGES.keys() - {*OTHER_RESULTS}))
def test_a_published_page_is_what_its_results_give(name):
    parts = {path: json.loads(path.read_text()) for path in PAGES[name]}
    results = pooled(parts) if len(parts) > 1 else parts[PAGES[name][0]]
    page = (RECIPES / f"{name}.md").read_text()
    title = page.splitlines()[0].removeprefix("# ")
    if "rows" not in results:
        assert page == results_markdown(results, title, PAGES[name][0].name)
        return
    drawn = re.findall(r"!\[(.+)\]\((.+)\)", page)
    assert all((RECIPES / file).exists() for _, file in drawn)
    names = [path.name for path in parts]
    assert page == sweep_markdown(results, title, names, dict(drawn))
