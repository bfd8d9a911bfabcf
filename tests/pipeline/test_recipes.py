"""The configs of the recipes: each can be read, and fits corpora of the form that it is for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tfkd.config import SystemConfig, load_run_config, load_system_config, load_system_configs
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
