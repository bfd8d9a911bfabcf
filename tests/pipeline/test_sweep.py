"""A grid of students: what is in it, that it goes on, that processes share it, what comes out."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tfkd import cli
from tfkd.cli.exit_codes import EXIT_FAILED
from tfkd.config import (
    RunConfig,
    SweepConfig,
    SystemConfig,
    config_digest,
    from_dict,
    load_run_config,
    with_overrides,
)
from tfkd.decoding.runs import load_run
from tfkd.errors import ConfigError, ExportError, TrainingError
from tfkd.metrics import score
from tfkd.pipeline.corpora import prepare_corpora
from tfkd.pipeline.evaluations import provenance_of
from tfkd.pipeline.grid import cells_of
from tfkd.pipeline.learning import with_objective
from tfkd.pipeline.pooling import pooled
from tfkd.pipeline.sweep import Sweep
from tfkd.pipeline.sweep_rows import summarised
from tfkd.records.transcripts import transcribed_rows
from tfkd.reporting.sweeps import sweep_markdown
from tfkd.storage.locks import locked
from tfkd.training import loop
from tfkd.training.identity import without_circumstances

HYPOTHESES = "student.training.objective.num_hypotheses"
WIDTH = "labels.beam_width"


@pytest.fixture(scope="module")
def settings(tiny_corpus, tiny_settings, teacher, tmp_path_factory) -> dict:
    """A run config whose teacher is trained already and whose students learn for one epoch."""
    student = {
        **tiny_settings,
        "model": {**tiny_settings["model"], "ctc": False},
        "training": {**tiny_settings["training"], "epochs": 1, "ctc_weight": 0},
    }
    return {
        "data_dir": str(tiny_corpus),
        "work_dir": str(tmp_path_factory.mktemp("sweep") / "work"),
        "corpora": {"transcribed_share": 0.5},
        "prepare": {"sample_rate_hz": 8000, "max_seconds": 5},
        "teacher": str(teacher.directory),
        "labels": {"beam_width": 3, "num_hypotheses": 2},
        "student": student,
        "export": {"max_seconds": 5},
        "sweep": {"seeds": [0, 1], "grid": [{HYPOTHESES: [2]}, {HYPOTHESES: [1], WIDTH: [2]}]},
    }


@pytest.fixture
def config(settings) -> RunConfig:
    return from_dict(RunConfig, settings)


def with_sweep(config: RunConfig, **changes) -> RunConfig:
    return dataclasses.replace(config, sweep=SweepConfig(**changes))


def larger(student: SystemConfig) -> SystemConfig:
    """A student with another encoder."""
    return with_overrides(student, ["model.encoder.units=28"])


def test_the_grid_is_every_combination_with_the_baseline_first(config):
    grid = ({HYPOTHESES: (1, 2), "student.training.batch_size": (4, 8)}, {HYPOTHESES: (1,)})
    assert config.student.training.batch_size == 4  # so the second mapping asks for nothing new
    cells = cells_of(with_sweep(config, grid=grid, seeds=(5, 7)))
    assert [cell.row for cell in cells[:6]] == [
        *("batch_size 4, truth", "batch_size 8, truth"),
        *("k 1, batch_size 4", "k 1, batch_size 8"),
        *("k 2, batch_size 4", "k 2, batch_size 8"),
    ]
    assert [cell.seed for cell in cells] == [5] * 6 + [7] * 6
    assert len({cell.name for cell in cells}) == 12
    assert cells[0].config.student.training.objective.kind == "truth"
    # A config that does not say so distils all the same.
    labelled = [cells[place].config.student.training for place in (2, 3, 4, 5)]
    assert {training.objective.kind for training in labelled} == {"seq_kd"}
    assert [training.batch_size for training in labelled] == [4, 8, 4, 8]


def test_settings_that_come_to_the_same_are_one_student(config):
    weights, temperature = (f"student.training.objective.{n}" for n in ("weights", "temperature"))
    every_weight = ("uniform", "rank", "posterior")
    grid = ({HYPOTHESES: (1, 2), weights: every_weight, temperature: (1.0, 2.0)},)
    rows = [cell.row for cell in cells_of(with_sweep(config, grid=grid, seeds=(0,)))]
    assert rows == [
        "truth",
        "k 1, weights uniform, temperature 1.0",
        *(f"k 2, weights {each}, temperature 1.0" for each in every_weight),
        "k 2, weights posterior, temperature 2.0",
    ]


def test_a_baseline_is_trained_as_the_student_that_is_compared_with_it(config):
    grid = ({"student.training.epochs": (10, 60), HYPOTHESES: (1, 2)},)
    cells = {cell.row: cell for cell in cells_of(with_sweep(config, grid=grid))}
    assert {row: cell.baseline for row, cell in cells.items() if "k " in row} == {
        f"epochs {n}, k {k}": f"epochs {n}, truth" for n in (10, 60) for k in (1, 2)
    }
    for n in (10, 60):
        assert cells[f"epochs {n}, truth"].config.student.training.epochs == n


def test_other_shares_of_transcripts_take_as_many_steps(config, tmp_path):
    """Of 24 utterances 12 have a transcript, which are learned beside the labels or are not."""
    grid = ({HYPOTHESES: (1,), "transcript_share": (0, 0.5)}, {HYPOTHESES: (1,)})
    student = with_overrides(config.student, ["training.epochs=20"])
    config = dataclasses.replace(config, student=student, work_dir=str(tmp_path))
    sweep = Sweep(with_sweep(config, grid=grid))
    prepare_corpora(config, tmp_path)
    (tmp_path / "labels").symlink_to(tmp_path / "data" / "train")
    planned = {cell.row: sweep._plan(cell)[0].training for cell in sweep.cells}
    steps = {row: each.passes_per_epoch * each.epochs for row, each in planned.items()}
    assert steps["k 1"] == steps["k 1, transcript_share 0.5"] == 20  # passes of 9 batches
    assert steps["k 1, transcript_share 0"] == 30  # of 6


def test_a_variant_changes_settings_together_and_has_a_baseline_of_its_own(config):
    sizes = {"small": {"student.model.encoder.units": 8, "student.model.decoder.units": 12}}
    grid = ({HYPOTHESES: (2,)}, {"variant": ("small",), HYPOTHESES: (2,)})
    cells = {cell.row: cell for cell in cells_of(with_sweep(config, grid=grid, variants=sizes))}
    assert {row: cell.baseline for row, cell in cells.items()} == {
        "truth": "truth",
        "k 2": "truth",
        "small, truth": "small, truth",
        "small, k 2": "small, truth",
    }
    for row, cell in cells.items():
        model, given = cell.config.student.model, config.student.model
        is_small = row.startswith("small")
        assert model.encoder.units == (8 if is_small else given.encoder.units)
        assert model.decoder.units == (12 if is_small else given.decoder.units)


def test_each_size_of_the_grid_has_a_baseline_of_its_own(config):
    grid = ({"student.model.encoder.units": (8, 12), HYPOTHESES: (1, 2)},)
    cells = cells_of(with_sweep(config, grid=grid))
    assert {cell.row: cell.baseline for cell in cells} == {
        "units 8, truth": "units 8, truth",
        "units 12, truth": "units 12, truth",
        **{f"units {n}, k {k}": f"units {n}, truth" for n in (8, 12) for k in (1, 2)},
    }
    assert [cell.config.student.model.encoder.units for cell in cells[:2]] == [8, 12]


def test_a_baseline_that_learns_labels_is_one_for_all_sizes(config):
    """It is the student that all others are measured by."""
    baseline = {"student.training.objective.kind": "seq_kd", HYPOTHESES: 2}
    grid = ({"student.model.encoder.units": (8, 12), HYPOTHESES: (2,)},)
    cells = cells_of(with_sweep(config, grid=grid, baseline=baseline))
    assert [(cell.row, cell.baseline) for cell in cells] == [
        *(("seq_kd, k 2", "seq_kd, k 2"), ("units 8, k 2", "seq_kd, k 2")),
        ("units 12, k 2", "seq_kd, k 2"),
    ]


def test_variants_that_change_no_more_than_the_objective_share_a_baseline(config):
    parts = [{"kind": "truth"}, {"kind": "seq_kd", "num_hypotheses": 2}]
    objective = "student.training.objective."
    mixture = {f"{objective}kind": "mixture", f"{objective}parts": parts}
    grid = ({HYPOTHESES: (2,)}, {"variant": ("mixture",)})
    cells = cells_of(with_sweep(config, grid=grid, variants={"mixture": mixture}))
    assert [(cell.row, cell.baseline) for cell in cells] == [
        *(("truth", "truth"), ("k 2", "truth"), ("mixture", "truth")),
    ]
    assert [part.kind for part in cells[2].config.student.training.objective.parts] == [
        *("truth", "seq_kd"),
    ]
    alone = cells_of(with_sweep(config, grid=grid[1:], variants={"mixture": mixture}))
    assert [(cell.row, cell.baseline) for cell in alone] == [
        *(("truth", "truth"), ("mixture", "truth")),
    ]


def test_other_labels_do_not_make_another_baseline(config):
    word_kd = {"labels.top_m": 3, "student.training.objective.kind": "word_kd"}
    grid = ({HYPOTHESES: (2,), WIDTH: (3, 4)}, {"variant": ("word KD",)})
    cells = cells_of(with_sweep(config, grid=grid, variants={"word KD": word_kd}))
    rows = ("truth", "k 2, beam 3", "k 2, beam 4", "word KD")
    assert {cell.row: cell.baseline for cell in cells} == dict.fromkeys(rows, "truth")
    assert [cell.config.labels.top_m for cell in cells] == [0, 0, 0, 3]


def test_the_share_of_the_transcripts_can_be_varied_and_does_not_concern_the_baseline(config):
    grid = ({HYPOTHESES: (1,), "transcript_share": (0, 0.5)}, {HYPOTHESES: (1,)})
    cells = cells_of(with_sweep(config, grid=grid))
    assert [(cell.row, cell.baseline, cell.config.transcript_share) for cell in cells] == [
        ("truth", "truth", None),
        ("k 1, transcript_share 0", "truth", 0),
        ("k 1, transcript_share 0.5", "truth", 0.5),
        ("k 1", "truth", None),
    ]
    sweep = Sweep(config)
    folders = [sweep.folder(cell).name for cell in cells]
    assert [folders[0], folders[3]] == ["student-truth", "student-seq_kd"]
    assert len(set(folders)) == 4


def test_each_baseline_has_a_twin_that_knows_every_transcript(config, tmp_path):
    variants = {"tiny": {"student.model.encoder.units": 8}}
    grid = ({"variant": ("tiny",), HYPOTHESES: (1, 2)}, {HYPOTHESES: (2,)})
    corpora = dataclasses.replace(config.corpora, transcribed_share=0.25)
    config = dataclasses.replace(
        config, baselines=("transcribed", "all"), work_dir=str(tmp_path), corpora=corpora
    )
    sweep = Sweep(with_sweep(config, grid=grid, variants=variants))
    cells = {cell.row: cell for cell in sweep.cells}
    twins = {f"{row} of all audio": row for row in ("tiny, truth", "truth")}
    assert {row: cell.baseline for row, cell in cells.items() if cell.knows_all} == twins
    assert list(cells)[-2:] == [*twins]
    for twin, row in twins.items():
        assert cells[twin].config == cells[row].config
        assert not cells[twin].is_name(cells[row].name)
        assert not cells[row].is_name(cells[twin].name)
    assert sweep.folder(cells["truth of all audio"]) == tmp_path / "student-truth-all"
    prepare_corpora(config, tmp_path)
    (tmp_path / "labels").symlink_to(tmp_path / "data" / "train")
    plans = {row: sweep._plan(cells[row]) for row in ("truth of all audio", "truth", "k 2")}
    known = {row: len(transcribed_rows(learned.labels)) for row, (_, learned) in plans.items()}
    assert known == {"truth of all audio": 24, "truth": 6, "k 2": 6}
    # Passes of 6, 2 and 8 batches: the student on labels learns the transcripts beside them.
    trained = {row: system.training for row, (system, _) in plans.items()}
    passes = {row: each.passes_per_epoch for row, each in trained.items()}
    assert passes == {"truth of all audio": 1, "truth": 4, "k 2": 1}


def test_without_transcripts_to_learn_from_all_of_them_are_known_nonetheless(config):
    corpora = dataclasses.replace(config.corpora, train=(), untranscribed=("train.jsonl",))
    hidden = dataclasses.replace(config, corpora=corpora, baselines=("all",))
    cells = cells_of(with_sweep(hidden, grid=({HYPOTHESES: (2,)},)))
    assert {cell.row: cell.baseline for cell in cells} == {"k 2": "", "truth of all audio": ""}


def test_without_transcripts_there_is_no_baseline(config):
    corpora = dataclasses.replace(config.corpora, train=(), untranscribed=("train.jsonl",))
    cells = cells_of(dataclasses.replace(config, corpora=corpora))
    assert {(cell.row, cell.baseline) for cell in cells} == {("k 2", ""), ("k 1, beam 2", "")}


def test_without_transcripts_a_student_on_labels_can_be_the_baseline(config):
    corpora = dataclasses.replace(config.corpora, train=(), untranscribed=("train.jsonl",))
    untranscribed = dataclasses.replace(config, corpora=corpora)
    sweep = {"grid": ({HYPOTHESES: (1,)},), "baseline": {HYPOTHESES: 2}}
    cells = cells_of(with_sweep(untranscribed, **sweep))
    assert {cell.row: cell.baseline for cell in cells} == {"k 2": "k 2", "k 1": "k 2"}


def test_a_student_that_varies_nothing_has_a_name(config):
    """A table names it, and a baseline of that name is one."""
    sweep = {"grid": ({HYPOTHESES: (2,)},), "baseline": {}}
    cells = cells_of(with_sweep(config, **sweep))
    assert {cell.row: cell.baseline for cell in cells} == {"student": "student", "k 2": "student"}


def test_students_whose_rows_end_differently_have_folders_of_their_own(config):
    long = {
        f"student.training.{name}": (1,)
        for name in ("checkpoint_minutes", "warmup_steps", "patience")
    }
    grid = ({**long, HYPOTHESES: (1, 2), "generation": (1, 2)}, {HYPOTHESES: (1,)})
    later = dataclasses.replace(config, generations=2)
    cells = cells_of(with_sweep(later, grid=grid, seeds=(0, 1)))
    assert max(len(cell.row) for cell in cells) > 60
    assert {cell.generation for cell in cells} == {1, 2}
    assert len({cell.name for cell in cells}) == len(cells)


def test_settings_are_called_by_as_little_as_tells_them_apart(config):
    grid = (
        {"labels.batch_size": (2,), "student.training.batch_size": (2,)},
        {"student.training.epochs": (1,), "labels.beam_width": (2,)},
    )
    assert [cell.row for cell in cells_of(with_sweep(config, grid=grid))] == [
        *("training.batch_size 2, truth", "epochs 1, truth"),
        *("labels.batch_size 2, training.batch_size 2", "epochs 1, beam 2"),
    ]


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ((), "sweep.grid: is empty"),
        (({HYPOTHESES: (3,)},), "labels hold 2 hypotheses"),
        (({"student.training.epoch": (3,)},), "unknown key 'student.training.epoch'"),
        (({"teacher.training.epochs": (3,)},), "teacher.training.epochs cannot be varied"),
        (({"student.training.seed": (3,)},), "student.training.seed cannot be varied"),
        (({"generation": (2,)},), "there is no generation 2, only 1"),
        (({"generation": (1.0,)},), "there is no generation 1.0, only 1"),
        (({"variant": ("tiny",)},), "there is no variant 'tiny'"),
        (({"student": ({"model": {"ctc": False}},)},), "there is no student {'model'"),
        (({"student": ("teacher",)},), "'teacher' is the name of two rows"),
        (({"student": ("two",)}, {"variant": ("two",)}), "'two, truth' is the name of two rows"),
        (({"variant": ("inline",)},), "there is no student {'model'"),
    ],
)
def test_a_grid_that_cannot_be_tried_is_refused_at_once(config, grid, message):
    other = larger(config.student)
    students = {"teacher": other, "two": other}
    variants = {
        "two": {"student.training.epochs": 1},
        "inline": {"student": {"model": {"ctc": False}}},
    }
    with pytest.raises(ConfigError, match=message):
        cells_of(with_sweep(config, grid=grid, students=students, variants=variants))


def test_a_variant_can_choose_the_student_and_the_generation(config):
    job = dataclasses.replace(config, generations=2)
    other = larger(config.student)
    variants = {"second": {"generation": 2}, "other": {"student": "large", HYPOTHESES: 1}}
    grid = ({"variant": ("second",)}, {"variant": ("other",), HYPOTHESES: (2,)})
    sweep = with_sweep(job, grid=grid, variants=variants, students={"large": other})
    cells = {cell.row: cell for cell in cells_of(sweep)}
    assert {row: cell.baseline for row, cell in cells.items()} == {
        "truth": "truth",  # It learns no labels, so the generation does not concern it.
        "second": "truth",
        "other, truth": "other, truth",
        "other, k 2": "other, truth",
    }
    assert [cell.generation for cell in cells.values()] == [1, 1, 2, 1]
    learned = cells["other, k 2"].config.student
    assert learned.model == other.model
    assert learned.training.objective.num_hypotheses == 2  # what stands beside the variant counts


def test_the_truth_of_all_audio_and_of_filtered_audio_are_two_students(config):
    filtered = dataclasses.replace(config.student.training.objective, truth_audio="filtered")
    job = dataclasses.replace(config, student=with_objective(config.student, filtered))
    audio = "student.training.objective.truth_audio"
    grid = ({"student.training.objective.kind": ("truth",), audio: ("all", "filtered")},)
    cells = cells_of(with_sweep(job, grid=grid, baseline={}))
    assert {cell.config.student.training.objective.truth_audio for cell in cells[1:]} == {
        *("all", "filtered"),
    }


def test_a_student_that_the_job_trains_too_is_trained_once(config):
    """It lies where `tfkd run` looks for it, so either command finds it done."""
    sweep = Sweep(config)
    names = {(cell.row, cell.seed): sweep.folder(cell).name for cell in sweep.cells}
    assert names["truth", 0] == "student-truth"
    assert names["truth", 1].startswith("truth-seed-1-")
    job = dataclasses.replace(config, sweep=SweepConfig(grid=({HYPOTHESES: (1,)},)))
    (cell,) = [each for each in cells_of(job) if each.row != "truth"]
    assert Sweep(job).folder(cell).name == "student-seq_kd"


@pytest.fixture(scope="module")
def swept(settings, tmp_path_factory) -> tuple[Path, str]:
    """The work folder after `tfkd sweep`, and what it printed."""
    import tensorflow as tf

    path = tmp_path_factory.mktemp("config") / "run.json"
    path.write_text(json.dumps(settings))
    printed = io.StringIO()
    tf.config.run_functions_eagerly(True)  # Tracing graphs is most of so short a training.
    try:
        with contextlib.redirect_stdout(printed):
            cli.main(["sweep", str(path)])
    finally:
        tf.config.run_functions_eagerly(False)
    return Path(settings["work_dir"]), printed.getvalue()


def test_a_sweep_measures_every_student_and_compares_it_with_the_baseline(swept):
    work, printed = swept
    results = json.loads((work / "sweep" / "results.json").read_text())
    assert list(results["rows"]) == ["truth", "k 2", "k 1, beam 2"]
    assert results["baselines"] == ["truth"]
    assert results["unfinished"] == []
    for name, row in results["rows"].items():
        rates = [seed["wer"] for seed in row["seeds"]]
        assert [seed["seed"] for seed in row["seeds"]] == [0, 1]
        assert row["wer"] == pytest.approx(sum(rates) / 2)
        assert row["wer_deviation"] == pytest.approx(abs(rates[0] - rates[1]) / 2**0.5)
        assert row["difference"]["wer"] == pytest.approx(
            row["wer"] - results["rows"]["truth"]["wer"]
        )
        assert 0 < row["difference"]["p_value"] <= 1
        curves = [seed["validation_curve"] for seed in row["seeds"]]
        assert {len(curve) for curve in curves} == {1}
        assert all(seed["training_seconds"] > 0 for seed in row["seeds"])
        trained = [load_run(work / seed["folder"]).system.training for seed in row["seeds"]]
        # The baseline has 11 transcripts, the others these and 24 labels: as many steps.
        assert {each.passes_per_epoch for each in trained} == {3 if name == "truth" else 1}
        assert f"\n{name}  " in printed
    assert results["rows"]["k 1, beam 2"]["labels"].startswith("sweep/labels-")
    data = results["training_data"]
    assert (data["utterances"], data["transcribed_utterances"]) == (24, 11)
    assert results["labels"]["labels"]["utterances"] == 13


def test_figures_of_a_sweep_are_those_of_its_transcripts(swept):
    work, _ = swept
    results = json.loads((work / "sweep" / "results.json").read_text())
    for row in results["rows"].values():
        for seed in row["seeds"]:
            folder = work / seed["folder"]
            transcripts = [
                path
                for path in (work / "sweep" / "transcripts").iterdir()
                if folder.name in path.name or folder.name == "student-truth"
                and path.name.startswith("truth-seed-0")
            ]  # fmt: skip
            (path,) = transcripts
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            pairs = [row["reference"] for row in rows], [row["hypothesis"] for row in rows]
            assert score(*pairs).wer == pytest.approx(seed["wer"])


def refuse(*arguments, **settings):
    raise AssertionError("this must not be called")


def test_a_second_sweep_trains_nothing_and_finds_the_same(swept, config, monkeypatch):
    work, _ = swept
    before = json.loads((work / "sweep" / "results.json").read_text())
    monkeypatch.setattr(loop, "_fit", refuse)
    monkeypatch.setattr("tfkd.pipeline.evaluations.evaluate", refuse)
    after = Sweep(config).run(lambda line: None)
    assert after == before


def test_a_grid_that_varies_more_finds_the_students_of_an_earlier_one(swept, config):
    grid = ({WIDTH: (3, 2), HYPOTHESES: (1,)}, {WIDTH: (2,), HYPOTHESES: (2,), "generation": (2,)})
    later = Sweep(with_sweep(dataclasses.replace(config, generations=2), grid=grid, seeds=(1,)))
    folders = {cell.row: later.folder(cell) for cell in later.cells}
    (earlier,) = (swept[0] / "sweep").glob("k-1--beam-2-seed-1-*")
    assert folders.pop("beam 2, k 1") == earlier
    # The other students are new; labels of another generation make another student.
    assert {row for row, folder in folders.items() if folder.exists()} == {"truth"}


def test_names_of_a_student_hold_what_it_learns_and_not_where(config):
    grid = ({HYPOTHESES: (1,)}, {HYPOTHESES: (1,), "generation": (2,)})
    job = with_sweep(dataclasses.replace(config, generations=2), grid=grid)
    _, first, second = cells_of(job)
    of_earlier_version = second.name.removesuffix("-generation-2")
    names = [first.name, second.name, of_earlier_version]
    assert list(map(first.is_name, names)) == [True, False, False]
    assert list(map(second.is_name, names)) == [False, True, True]
    elsewhere = with_overrides(job, ["student.training.distribution=mirrored"])
    assert [cell.name for cell in cells_of(elsewhere)] == [cell.name for cell in cells_of(job)]
    digest = config_digest(cells_of(elsewhere)[1].config.student, elsewhere.labels)[:8]
    assert cells_of(elsewhere)[1].is_name(f"k-1-seed-0-{digest}")  # of an earlier version, too


def test_a_sweep_goes_on_with_labels_of_other_batches(swept, config, monkeypatch):
    before = json.loads((swept[0] / "sweep" / "results.json").read_text())
    monkeypatch.setattr(loop, "_fit", refuse)
    smaller = Sweep(with_overrides(config, ["labels.batch_size=1"]))
    results = smaller.run(lambda line: None)
    assert (results["unfinished"], results["failed"]) == ([], {})
    assert results["rows"] == before["rows"]


def test_what_earlier_versions_named_after_batches_of_labels_is_found(
    swept, config, tmp_path, monkeypatch
):
    shutil.copytree(swept[0], work := tmp_path / "work")
    job = with_overrides(config, [f"work_dir={work}", "labels.batch_size=3"])
    student = next(cell for cell in cells_of(job) if WIDTH in cell.settings)
    digests = [
        config_digest(without_circumstances(student.config.student), student.config.labels)[:8],
        config_digest(student.config.labels)[:8],
    ]
    trained = Sweep(job).folder(student)
    trained = trained.rename(trained.with_name(f"k-1--beam-2-seed-0-{digests[0]}"))
    (labels,) = (work / "sweep").glob("labels-*")
    labels = labels.rename(labels.with_name(f"labels-{digests[1]}"))
    monkeypatch.setattr(loop, "_fit", refuse)
    sweep = Sweep(job)
    results = sweep.run(lambda line: None)
    assert (results["unfinished"], results["failed"]) == ([], {})
    assert sweep.folder(student) == trained
    assert results["rows"][student.row]["labels"] == f"sweep/{labels.name}"
    assert [*(work / "sweep").glob("labels-*")] == [labels]


def test_results_name_each_machine_that_measured_a_student(swept):
    systems = json.loads((swept[0] / "sweep" / "systems.json").read_text())
    results = json.loads((swept[0] / "sweep" / "results.json").read_text())
    assert {each["hardware"] for each in systems.values()} == {results["hardware"]}
    first, *others = systems.values()
    both = provenance_of([first | {"hardware": "elsewhere"}, *others])["hardware"]
    assert both == f"RTF of several machines: elsewhere / {results['hardware']}"
    without = {key: value for key, value in first.items() if key != "hardware"}
    assert provenance_of([without])["hardware"] == provenance_of([])["hardware"]


def test_a_student_that_another_process_trains_is_left_to_it(swept, config, monkeypatch):
    more = dataclasses.replace(config.sweep, seeds=(0, 1, 2))
    sweep = Sweep(dataclasses.replace(config, sweep=more))
    monkeypatch.setattr(loop, "_fit", refuse)
    said = []
    new = [cell for cell in sweep.cells if cell.seed == 2]
    with locked(sweep.folder(new[0])), locked(sweep.folder(new[1])), locked(sweep.folder(new[2])):
        results = sweep.run(said.append)
    assert said.count("  is being trained by another process") == 3
    assert results["unfinished"] == [cell.name for cell in new]
    assert [len(row["seeds"]) for row in results["rows"].values()] == [2, 2, 2]


def test_a_process_that_leaves_students_to_another_one_does_not_end_as_if_all_were_done(
    swept, settings, tmp_path, monkeypatch, capsys
):
    work, path = tmp_path / "work", tmp_path / "run.json"
    shutil.copytree(swept[0], work)
    grid = {"seeds": [0, 3], "grid": [{HYPOTHESES: [2]}]}
    path.write_text(json.dumps({**settings, "work_dir": str(work), "sweep": grid}))
    monkeypatch.setattr(loop, "_fit", refuse)
    sweep = Sweep(load_run_config(path))
    busy = [cell for cell in sweep.cells if cell.seed == 3]
    with contextlib.ExitStack() as held:
        for cell in busy:
            held.enter_context(locked(sweep.folder(cell)))
        with pytest.raises(SystemExit) as ended:
            cli.main(["sweep", str(path)])
    assert ended.value.code == EXIT_FAILED
    names = ", ".join(cell.name for cell in busy)
    said = capsys.readouterr().out
    assert f"Not finished yet: {names}." in said
    assert "The same command goes on" in said


def test_a_student_that_cannot_be_trained_leaves_the_others_alone(
    swept, settings, tmp_path, monkeypatch, capsys
):
    work = tmp_path / "work"
    shutil.copytree(swept[0], work)
    impossible = "student.training.objective.filters.min_mean_log_prob"
    grid = [{HYPOTHESES: [2]}, {impossible: [0]}, {HYPOTHESES: [1], WIDTH: [2]}]
    path = tmp_path / "run.json"
    path.write_text(json.dumps({**settings, "work_dir": str(work), "sweep": {"grid": grid}}))
    monkeypatch.setattr(loop, "_fit", refuse)
    with pytest.raises(SystemExit) as ended:
        cli.main(["sweep", str(path)])
    assert ended.value.code == EXIT_FAILED
    results = json.loads((work / "sweep" / "results.json").read_text())
    assert list(results["rows"]) == ["truth", "k 2", "k 1, beam 2"]
    ((name, reason),) = results["failed"].items()
    assert results["unfinished"] == [name]
    assert "no utterance gives a target" in reason
    printed = capsys.readouterr().out
    assert f"{name} failed: {reason}" in printed
    assert "Not finished yet" not in printed


def test_students_of_other_settings_or_damaged_ones_are_in_no_table(
    swept, config, tmp_path, monkeypatch
):
    """Those that `tfkd run` trains, too, have one folder for all settings."""
    work = tmp_path / "work"
    shutil.copytree(swept[0], work)
    monkeypatch.setattr(loop, "_fit", refuse)
    moved = dataclasses.replace(config, work_dir=str(work))
    sweep = Sweep(moved)
    damaged = sweep.cells[-1]
    (sweep.folder(damaged) / "model.keras").unlink()
    results = sweep.run(lambda line: None)
    assert [*results["failed"]] == results["unfinished"] == [damaged.name]
    # The baseline has a seed more, which is not compared.
    (one,), (other, _) = (results["rows"][row]["seeds"] for row in (damaged.row, damaged.baseline))
    difference = results["rows"][damaged.row]["difference"]
    assert difference["wer"] == pytest.approx(one["wer"] - other["wer"])

    monkeypatch.setattr(loop, "_fit", cannot_train)
    training = dataclasses.replace(moved.student.training, batch_size=3)
    changed = dataclasses.replace(moved.student, training=training)
    one_seed = dataclasses.replace(moved.sweep, seeds=(0,), grid=({HYPOTHESES: (2,)},))
    results = Sweep(dataclasses.replace(moved, student=changed, sweep=one_seed)).run(
        lambda line: None
    )
    assert results["rows"] == {}
    of_truth, of_labels = results["failed"].values()
    assert "training.batch_size=3" in of_truth
    assert "cannot be trained here" in of_labels


@pytest.mark.slow
def test_two_sweeps_of_one_folder_wait_for_each_other(swept, settings, tmp_path):
    """What both would write, labels that are there and the results, is no reason to give up."""
    path, work = tmp_path / "run.json", tmp_path / "work"
    shutil.copytree(swept[0], work)
    path.write_text(json.dumps({**settings, "work_dir": str(work)}))
    command = [sys.executable, "-m", "tfkd", "sweep", str(path)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    held = contextlib.ExitStack()
    held.enter_context(locked(work / "sweep" / "locks" / "labels"))
    with subprocess.Popen(command, **pipes) as one, subprocess.Popen(command, **pipes) as other:
        for process in (one, other):
            assert any("waits until another process" in line for line in process.stdout)
        held.close()
        said = [process.communicate()[0] for process in (one, other)]
    assert (one.returncode, other.returncode) == (0, 0), said


def test_students_whose_labels_another_process_makes_come_last(swept, config, tmp_path, eagerly):
    """Nothing else waits for the teacher of a later generation, which may take hours."""
    folder = shutil.copytree(swept[0], tmp_path / "work")
    config = dataclasses.replace(config, work_dir=str(folder), generations=2)
    grid = ({HYPOTHESES: (2,), "generation": (2, 1)},)
    sweep = Sweep(with_sweep(config, grid=grid, seeds=(0, 1)))
    assert [cell.generation for cell in sweep.cells] == [1, 2, 1] * 2
    said: list[str] = []
    held = contextlib.ExitStack()

    def announce(line: str) -> None:
        said.append(line)
        if line.startswith("[1/6]"):
            held.enter_context(locked(folder / "sweep" / "locks" / "labels"))
        if line.startswith("[6/6]"):
            held.close()

    results = sweep.run(announce)
    numbers = [line.split("/")[0] for line in said if "/6]" in line]
    assert numbers == ["[1", "[2", "[3", "[4", "[5", "[6", "[2", "[5"]
    assert said.count("  its labels are being made by another process") == 2
    assert not results["unfinished"]
    assert not results["failed"]
    (second,) = [row for row in results["rows"].values() if row["labels"] == "labels-2"]
    assert len(second["seeds"]) == 2


def test_a_sweep_exports_each_student_once_and_measures_the_export(
    swept, config, tmp_path, monkeypatch
):
    work = tmp_path / "work"
    shutil.copytree(swept[0], work)
    only = {"grid": ({HYPOTHESES: (2,)},), "baseline": {HYPOTHESES: 2}, "export": "tflite-float32"}
    sweep = Sweep(with_sweep(dataclasses.replace(config, work_dir=str(work)), **only))
    (cell,) = sweep.cells
    assert states_of_students(sweep) == ["to be exported"]
    monkeypatch.setattr(loop, "_fit", refuse)
    said: list[str] = []
    with monkeypatch.context() as patched:
        patched.setattr("tfkd.pipeline.exports.export", fail)
        assert sweep.run(said.append)["rows"]["k 2"]["export"] is None
    assert "  failed: differs from Keras" in said
    row = sweep.run(said.append)["rows"]["k 2"]
    assert states_of_students(sweep) == ["done"]
    (file,) = work.glob("sweep/exports/*/*.tflite")
    assert (row["export"]["form"], row["export"]["bytes"]) == (
        *("tflite-float32", file.stat().st_size),
    )
    assert row["export"]["wer"] == pytest.approx(row["wer"])
    monkeypatch.setattr("tfkd.pipeline.exports.export", refuse)
    monkeypatch.setattr("tfkd.pipeline.evaluations.evaluate", refuse)
    assert sweep.run(said.append)["rows"]["k 2"] == row


def fail(*arguments, **settings):
    raise ExportError("differs from Keras")


def states_of_students(sweep: Sweep) -> list[str]:
    _, states = sweep.states()
    return [state.words for state in states.values()]


def test_a_page_of_a_sweep_has_its_table_and_its_figures(swept, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    page = tmp_path / "pages" / "tones.md"
    results = swept[0] / "sweep" / "results.json"
    cli.main(["report", str(results), "--title", "Tones", "--out", str(page)])
    text = page.read_text()
    assert "best student on labels (k " in text
    for name in ("tones.pareto", "tones.curves"):
        assert f"({name}.svg)" in text
        assert (page.parent / f"{name}.svg").read_text().startswith("<?xml")
        assert (page.parent / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_the_student_that_knows_every_transcript_is_told_apart(swept, config, tmp_path):
    """It is in the table, and is no student on labels that could win."""
    folder = shutil.copytree(swept[0], tmp_path / "work")
    config = dataclasses.replace(config, work_dir=str(folder), baselines=("transcribed", "all"))
    results = Sweep(with_sweep(config, grid=({HYPOTHESES: (2,)},))).run(print)
    assert list(results["rows"]) == ["truth", "k 2", "truth of all audio"]
    of_all = results["rows"]["truth of all audio"]
    assert of_all["seeds"][0]["folder"] == "student-truth-all"
    assert load_run(folder / "student-truth-all").system.training.passes_per_epoch == 2
    assert "wer" in of_all["difference"]
    rows = {**results["rows"], "truth of all audio": {**of_all, "wer": 0.0123}}
    page = sweep_markdown({**results, "rows": rows}, "Tones", ["results.json"], {})
    assert "the best student on labels (k 2)" in page
    assert "told every transcript (truth of all audio), makes 1.23 % word errors" in page


def part_of(results: dict, path: Path, *seeds: int) -> Path:
    """Writes the results as if a sweep had had these seeds alone."""
    rows = {
        name: {
            **{key: row[key] for key in ("settings", "baseline", "labels")},
            "seeds": [each for each in row["seeds"] if each["seed"] in seeds],
        }
        for name, row in results["rows"].items()
    }
    rows = summarised(rows, results["test"]["words"], None)
    sweep = {**results["config"]["sweep"], "seeds": [*seeds]}
    config = {**results["config"], "sweep": sweep}
    path.write_text(json.dumps({**results, "rows": rows, "config": config}))
    return path


@pytest.fixture
def whole(swept) -> dict:
    """Results of two seeds; other tests ask the sweep of this folder for more."""
    results = json.loads((swept[0] / "sweep" / "results.json").read_text())
    sweep = {**results["config"]["sweep"], "seeds": [0, 1]}
    return {**results, "config": {**results["config"], "sweep": sweep}}


@pytest.fixture
def parts(whole, tmp_path) -> list[Path]:
    """Results of two machines with a seed each."""
    return [part_of(whole, tmp_path / f"seed-{seed}.json", seed) for seed in (1, 0)]


def changed(path: Path, **changes) -> Path:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return path


def test_seeds_of_two_machines_are_pooled_into_the_table_of_one(whole, parts):
    first, second = ({path: json.loads(path.read_text())} for path in parts)
    assert pooled({**first, **second}) == whole


def test_a_student_of_one_grid_alone_is_compared_over_its_own_seeds(parts):
    first, second = (json.loads(path.read_text()) for path in parts)
    (missing, row) = second["rows"].popitem()
    own = first["rows"][missing]
    second["config"]["sweep"]["grid"] = first["config"]["sweep"]["grid"][:1]
    results = pooled({parts[0]: first, parts[1]: second})
    assert [seed["seed"] for seed in results["rows"][missing]["seeds"]] == [1]
    assert results["rows"][missing]["difference"] == own["difference"]
    assert results["config"]["sweep"]["grid"] == first["config"]["sweep"]["grid"]
    other = {**row, "settings": {**row["settings"], WIDTH: 7}}
    second["rows"][missing] = other
    with pytest.raises(ConfigError, match=f"has other settings of {missing} than"):
        pooled({parts[0]: first, parts[1]: second})


def test_figures_of_two_teachers_are_their_means(whole, parts, tmp_path):
    pytest.importorskip("matplotlib")
    words = [int(each) for each in whole["test"]["words"].split()]
    teachers = [
        {
            **whole["teacher"],
            "identity": name,
            "wer": rate,
            "word_errors": " ".join(map(str, errors)),
        }
        for name, rate, errors in (("one", 0.0, [0] * len(words)), ("other", 1.0, words))
    ]
    qualities = [{**whole["labels"]["labels"], "wer": rate} for rate in (0.01, 0.03)]
    for path, teacher, quality in zip(parts, teachers, qualities, strict=True):
        changed(path, teacher=teacher, labels={"labels": quality}, hardware=teacher["identity"])
    page = tmp_path / "page.md"
    cli.main(["report", *map(str, parts), "--title", "Tones", "--out", str(page)])
    text = page.read_text()
    assert "from the results of 2 sweeps, `seed-1.json`, `seed-0.json`." in text
    (line,) = (line for line in text.splitlines() if line.startswith("teacher "))
    assert line.split()[1:4] == ["2", "50.00", "70.71"]
    assert f"of {qualities[0]['utterances']} utterances" in text
    assert "have 2.00 % WER" in text
    assert "; one / other; " in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test": {"sha256": "other", "words": ""}}, "is of another test set than"),
        ({"training_data": {}}, "is of other training data than"),
        ({"rows": None}, "seed-0.json: holds seed 1, as another"),
        ({"config": None}, r"is of other settings \(labels.beam_width=2, labels.beam_width=3\)"),
    ],
)
def test_sweeps_that_differ_in_more_than_their_seeds_are_not_pooled(parts, changes, message):
    first, second = (json.loads(path.read_text()) for path in parts)
    if "rows" in changes:
        changes = {"rows": first["rows"]}
    if "config" in changes:
        labels = {**second["config"]["labels"], "beam_width": 2}
        changes = {"config": {**second["config"], "labels": labels}}
    with pytest.raises(ConfigError, match=message):
        pooled({parts[0]: first, parts[1]: {**second, **changes}})


def test_results_without_errors_of_utterances_are_not_pooled(parts):
    first, second = (json.loads(path.read_text()) for path in parts)
    del second["test"]
    with pytest.raises(ConfigError, match=r"an earlier version wrote it \(run tfkd sweep again"):
        pooled({parts[0]: first, parts[1]: second})
    del second["rows"]
    with pytest.raises(ConfigError, match="holds no results of a sweep"):
        pooled({parts[0]: first, parts[1]: second})


def test_a_page_without_a_baseline_compares_with_none(swept):
    results = json.loads((swept[0] / "sweep" / "results.json").read_text())
    rows = {name: {**row, "baseline": ""} for name, row in results["rows"].items()}
    for row in rows.values():
        del row["difference"]
    page = sweep_markdown({**results, "rows": rows, "baselines": []}, "Tones", ["results.json"], {})
    assert "the interval is of the mean" in page
    assert "()" not in page
    assert "baseline of" not in page


def test_a_dry_run_of_a_sweep_says_what_is_done(swept, settings, tmp_path, capsys):
    path = tmp_path / "run.json"
    path.write_text(json.dumps(settings))
    cli.main(["sweep", str(path), "--dry-run", "--set", "sweep.seeds=[0, 3]"])
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row.count(" done ") for row in rows] == [1, 1, 1, 0, 0, 0]
    assert [row.count(" to do ") for row in rows] == [0, 0, 0, 1, 1, 1]


def test_a_dry_run_of_a_sweep_refuses_what_the_sweep_would_refuse(
    swept, settings, tmp_path, capsys, monkeypatch
):
    """The students of the job have one folder for all settings; others have their own."""
    work, path = tmp_path / "work", tmp_path / "run.json"
    shutil.copytree(swept[0], work)
    path.write_text(json.dumps({**settings, "work_dir": str(work)}))
    monkeypatch.setattr(loop, "_fit", refuse)
    batches = ["--set", "student.training.batch_size=3", "--set", "sweep.seeds=[0]"]
    with pytest.raises(SystemExit) as ended:
        cli.main(["sweep", str(path), *batches, "--dry-run"])
    assert ended.value.code == EXIT_FAILED
    _, _, *rows, said = capsys.readouterr().out.splitlines()
    assert [row.count(" refused ") for row in rows] == [1, 0, 0]
    assert [row.count(" to do ") for row in rows] == [0, 1, 1]
    monkeypatch.setattr(loop, "_fit", cannot_train)
    with pytest.raises(SystemExit):
        cli.main(["sweep", str(path), *batches])
    assert said.replace("will fail", "failed") in capsys.readouterr().out.splitlines()
    with pytest.raises(SystemExit):
        cli.main(["sweep", str(path), "--dry-run", "--set", "labels.beam_width=4"])
    printed = capsys.readouterr()
    assert "beam_width=3 there" in printed.err
    assert " done " not in printed.out


def cannot_train(*arguments):
    raise TrainingError("cannot be trained here")
