"""The configs of the recipes: each can be read, and fits corpora of the form that it is for."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tfkd.config import SystemConfig, load_run_config, load_system_config, load_system_configs
from tfkd.errors import ConfigError
from tfkd.pipeline.corpora import hidden_transcripts, prepare_corpora
from tfkd.pipeline.grid import cells_of
from tfkd.records import open_store

CONFIGS = Path(__file__).parents[2] / "configs"
SWEEPS = ("digits", "digits-paper", "barista", "barista-paper", "wsj", "librispeech")


@pytest.mark.parametrize("name", SWEEPS)
def test_the_grid_of_a_recipe_compares_every_student_with_the_truth(name):
    cells = cells_of(load_run_config(CONFIGS / f"{name}.yaml"))
    kinds = {cell.row: cell.config.student.training.objective.kind for cell in cells}
    assert {kinds[cell.baseline] for cell in cells} == {"truth"}
    assert len(kinds) > 2


def test_the_recipe_of_the_paper_has_the_sizes_of_its_table():
    config = load_run_config(CONFIGS / "wsj.yaml")
    assert isinstance(config.teacher, SystemConfig)
    cells = {cell.row: cell.config.student.model for cell in cells_of(config)}
    mid = load_system_config(CONFIGS / "paper" / "student-mid.yaml", "student")
    assert cells["mid, k 5, beam 10"] == mid.model
    small = load_system_config(CONFIGS / "paper" / "student-small.yaml", "student")
    assert cells["k 5, beam 10"] == small.model
    assert config.teacher == load_system_configs(CONFIGS / "wsj.yaml")["teacher"]


def test_a_system_in_a_file_of_its_own_takes_overrides():
    config = load_run_config(CONFIGS / "wsj.yaml", ["teacher.training.epochs=3"])
    assert isinstance(config.teacher, SystemConfig)
    assert config.teacher.training.epochs == 3
    assert config.teacher.training.epoch_decay == 0.99


def test_the_families_learn_what_the_digits_students_learn_and_differ_in_their_models():
    families, digits = (
        load_run_config(CONFIGS / f"{name}.yaml") for name in ("families", "digits")
    )
    for section in ("corpora", "prepare", "teacher", "labels", "baselines"):
        assert getattr(families, section) == getattr(digits, section), section
    cells = cells_of(families)
    assert [cell.row for cell in cells] == list(families.sweep.students)
    assert {cell.baseline for cell in cells} == {"BiLSTM + LSTM"}
    models = [cell.config.student.model for cell in cells]
    files = sorted((CONFIGS / "families").glob("*.yaml"))
    assert len(models) == len(files)
    assert all(load_system_config(file, "student").model in models for file in files)
    lengths = {
        (each.epochs, each.patience, each.batch_size, each.objective)
        for each in (cell.config.student.training for cell in cells)
    }
    assert len(lengths) == 1


def test_a_student_of_a_file_is_another_one_once_the_file_is_changed(tmp_path):
    shutil.copy(CONFIGS / "families.yaml", tmp_path)
    shutil.copy(CONFIGS / "digits.yaml", tmp_path)
    shutil.copytree(CONFIGS / "families", tmp_path / "families")

    def names() -> dict[str, str]:
        cells = cells_of(load_run_config(tmp_path / "families.yaml"))
        return {cell.row: cell.name for cell in cells}

    before, file = names(), tmp_path / "families" / "conformer.yaml"
    file.write_text(file.read_text().replace("heads: 4", "heads: 2"))
    changed = {row for row, name in names().items() if name != before[row]}
    assert changed == {"Conformer + Transformer"}


def test_settings_of_a_grid_change_a_student_of_a_file_in_either_order():
    k = "student.training.objective.num_hypotheses"
    grid = f"[{{{k}: [2], student: [low rank]}}, {{student: [low rank], {k}: [2]}}]"
    config = load_run_config(CONFIGS / "families.yaml", [f"sweep.grid={grid}"])
    _, *cells = cells_of(config)
    assert [cell.row for cell in cells] == ["k 2, low rank"]
    student = cells[0].config.student
    assert student.training.objective.num_hypotheses == 2
    assert student.model == config.sweep.students["low rank"].model


def test_a_student_on_transcripts_is_the_default_baseline_of_each_student():
    overrides = ["sweep.baseline={student.training.objective.kind: truth}",
                 "baselines=[transcribed]",
                 "sweep.grid=[{student: [low rank, Transformer]}]"]  # fmt: skip
    cells = {
        cell.row: cell for cell in cells_of(load_run_config(CONFIGS / "families.yaml", overrides))
    }
    assert {row: cell.baseline for row, cell in cells.items()} == {
        "low rank": "low rank, truth",
        "low rank, truth": "low rank, truth",
        "Transformer": "Transformer, truth",
        "Transformer, truth": "Transformer, truth",
    }
    truth = cells["Transformer, truth"].config.student
    assert truth.training.objective.kind == "truth"
    assert truth.model == cells["Transformer"].config.student.model


def test_a_student_without_a_name_is_refused_with_the_nearest_one():
    config = load_run_config(CONFIGS / "families.yaml", ["sweep.grid=[{student: [Transformed]}]"])
    with pytest.raises(ConfigError, match="no student 'Transformed'") as caught:
        cells_of(config)
    assert "Transformer" in str(caught.value)


def test_wsj_is_prepared_from_directories_as_kaldi_makes_them(tmp_path, speak):
    for split in ("train_si284", "test_dev93", "test_eval92"):
        directory = tmp_path / split
        directory.mkdir()
        ids = [f"{split}-{number}" for number in range(3)]
        for number, name in enumerate(ids):
            speak(directory / f"{name}.wav", "ba di", seed=number)
        (directory / "wav.scp").write_text("".join(f"{name} {name}.wav\n" for name in ids))
        (directory / "text").write_text("".join(f"{name} MR. BA DI\n" for name in ids))
        (directory / "utt2spk").write_text("".join(f"{name} {name}\n" for name in ids))
    config = load_run_config(CONFIGS / "wsj.yaml", [f"data_dir={tmp_path}"])
    prepare_corpora(config, tmp_path / "work")
    store = open_store(tmp_path / "work" / "data" / "train")
    assert [row["text"] for row in store.index] == ["mr. ba di"] * 3


def test_librispeech_is_prepared_from_its_tree_with_most_of_it_untranscribed(tmp_path, speak):
    parts = ("train-clean-100", "train-clean-360", "train-other-500", "dev-clean", "test-clean")
    for number, part in enumerate(parts):
        directory = tmp_path / part / "1" / "2"
        directory.mkdir(parents=True)
        speak(directory / f"1-{number}-0000.flac", "ba di")
        (directory / f"1-{number}.trans.txt").write_text(f"1-{number}-0000 BA DI\n")
    config = load_run_config(CONFIGS / "librispeech.yaml", [f"data_dir={tmp_path}"])
    prepare_corpora(config, tmp_path / "work")
    rows = open_store(tmp_path / "work" / "data" / "train").index
    assert {row["utterance_id"]: row.get("text") for row in rows} == {
        "1-0-0000": "ba di",
        "1-1-0000": None,
        "1-2-0000": None,
    }
    assert hidden_transcripts(tmp_path / "work") == {"1-1-0000": "ba di", "1-2-0000": "ba di"}
