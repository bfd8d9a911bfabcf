"""A training resumes from the newest checkpoint that is whole."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

from tfkd.errors import CheckpointError
from tfkd.storage.sealed_json import read_sealed, write_sealed
from tfkd.training.callbacks import KeepProgress
from tfkd.training.checkpoints import Progress, is_finite, restore_checkpoint, save_checkpoint


def compiled(units: int = 3) -> keras.Model:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(units)])
    model.compile(keras.optimizers.Adam(0.1), "mse", jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    return model


def variables_of(model: keras.Model) -> list[keras.Variable]:
    return [*model.variables, *model.optimizer.variables, *model.metrics_variables]


def set_state(model: keras.Model, value: float) -> None:
    """Gives weights, optimizer and metrics values that tell which checkpoint they come from."""
    for number, variable in enumerate(variables_of(model)):
        variable.assign(np.full(variable.shape, value + number))


def state_of(model: keras.Model) -> list[np.ndarray]:
    return [np.array(v) for v in variables_of(model)]


def progress_of(epochs: int) -> Progress:
    return Progress([{"loss": 1.0 / (n + 1), "val_wer": 0.5} for n in range(epochs)])


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Checkpoints of three epochs, of which the oldest is gone; state of epoch n is 100 n."""
    model = compiled()
    for epochs in (1, 2, 3):
        set_state(model, 100.0 * epochs)
        save_checkpoint(tmp_path, model, progress_of(epochs))
    return tmp_path


def restored_epochs(directory: Path) -> int:
    """Restores, and checks that weights, optimizer and progress are of the same epoch."""
    model, expected = compiled(), compiled()
    progress = restore_checkpoint(directory, model)
    set_state(expected, 100.0 * progress.epochs)
    assert progress == progress_of(progress.epochs)
    for found, wanted in zip(state_of(model), state_of(expected), strict=True):
        np.testing.assert_array_equal(found, wanted)
    return progress.epochs


def test_the_newest_is_restored_with_its_optimizer(directory):
    assert restored_epochs(directory) == 3


def test_two_are_kept(directory):
    assert sorted(p.name for p in directory.iterdir()) == ["epoch-00000002", "epoch-00000003"]


def test_what_is_no_checkpoint_stays_and_counts_for_nothing(directory):
    """Keras' ModelCheckpoint may write beside them, under names that begin alike."""
    (directory / "epoch-07").mkdir()
    (directory / "epoch-00000009.keras").write_text("weights")
    assert restored_epochs(directory) == 3
    model = compiled()
    save_checkpoint(directory, model, progress_of(4))
    names = ["epoch-00000003", "epoch-00000004", "epoch-00000009.keras", "epoch-07"]
    assert sorted(p.name for p in directory.iterdir()) == names


def cut_state(checkpoint: Path) -> None:
    state = checkpoint / "state.npz"
    state.write_bytes(state.read_bytes()[:-100])


def flip_a_bit(checkpoint: Path) -> None:
    state = checkpoint / "state.npz"
    content = bytearray(state.read_bytes())
    content[len(content) // 2] ^= 1
    state.write_bytes(content)


def lose_state(checkpoint: Path) -> None:
    (checkpoint / "state.npz").unlink()


def lose_progress(checkpoint: Path) -> None:
    (checkpoint / "progress.json").unlink()


def cut_progress(checkpoint: Path) -> None:
    progress = checkpoint / "progress.json"
    progress.write_text(progress.read_text()[:-10])


def change_progress(checkpoint: Path) -> None:
    progress = checkpoint / "progress.json"
    progress.write_text(progress.read_text().replace('"val_wer": 0.5', '"val_wer": 0.4'))


def empty_progress(checkpoint: Path) -> None:
    (checkpoint / "progress.json").write_bytes(b"")


def foreign_progress(checkpoint: Path) -> None:
    (checkpoint / "progress.json").write_text(json.dumps(["something", "else"]))


def nest_progress(checkpoint: Path) -> None:
    (checkpoint / "progress.json").write_bytes(b"[" * 100_000)


DAMAGES = [
    nest_progress,
    cut_state,
    flip_a_bit,
    lose_state,
    lose_progress,
    cut_progress,
    change_progress,
    empty_progress,
    foreign_progress,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_gives_way_to_the_older(directory, damage: Callable, caplog):
    damage(directory / "epoch-00000003")
    assert restored_epochs(directory) == 2
    assert [Path(record.args[0]).name for record in caplog.records] == ["epoch-00000003"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_training_starts_anew_where_all_are_damaged(directory, damage: Callable):
    for checkpoint in directory.iterdir():
        damage(checkpoint)
    model = compiled()
    before = [np.array(v) for v in model.variables]
    assert restore_checkpoint(directory, model) == Progress()
    for found, wanted in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("damaged", [1, 2])
def test_damaged_ones_do_not_take_the_place_of_those_that_follow(directory, damaged):
    for checkpoint in sorted(directory.iterdir())[-damaged:]:
        cut_state(checkpoint)
    model = compiled()
    progress = restore_checkpoint(directory, model)
    for _ in range(2):
        progress.batches += 1
        save_checkpoint(directory, model, progress)
        assert restore_checkpoint(directory, compiled()) == progress
    assert len(list(directory.iterdir())) == 2


def test_what_a_killed_writer_did_not_come_to_remove_is_removed(directory):
    older = directory / "epoch-00000001"
    shutil.copytree(directory / "epoch-00000002", older)
    assert restored_epochs(directory) == 3
    assert not older.exists()


def test_what_a_killed_writer_left_does_not_disturb(directory):
    leftover = directory / ".epoch-00000004.abcdefgh.tmp"
    leftover.mkdir()
    (leftover / "state.npz").write_bytes(b"half")
    assert restored_epochs(directory) == 3
    assert not leftover.exists()


@pytest.mark.parametrize("batches", [9, 10, 123_456])
def test_an_unfinished_epoch_is_newer_than_its_beginning(directory, batches):
    model = compiled()
    set_state(model, 350.0)
    save_checkpoint(directory, model, Progress(progress_of(3).history, batches - 1))
    save_checkpoint(directory, model, Progress(progress_of(3).history, batches))
    restored = compiled()
    progress = restore_checkpoint(directory, restored)
    assert (progress.epochs, progress.batches) == (3, batches)
    for found, wanted in zip(state_of(restored), state_of(model), strict=True):
        np.testing.assert_array_equal(found, wanted)
    set_state(model, 400.0)
    save_checkpoint(directory, model, progress_of(4))
    assert restored_epochs(directory) == 4


def test_ten_thousand_epochs_are_more_than_9999(directory):
    model = compiled()
    for epochs in (9_999, 10_000):
        set_state(model, 100.0 * epochs)
        save_checkpoint(directory, model, progress_of(epochs))
    assert restored_epochs(directory) == 10_000


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_any_number_that_is_not_finite_is_found(value):
    count = len(variables_of(compiled()))
    for number in range(count):
        model = compiled()
        assert is_finite(model)
        variable = variables_of(model)[number]
        if np.issubdtype(np.array(variable).dtype, np.floating):
            variable.assign(np.full(variable.shape, value))
            assert not is_finite(model)


def test_without_checkpoints_training_starts_anew(tmp_path):
    assert restore_checkpoint(tmp_path / "none", compiled()) == Progress()


def test_the_time_of_a_training_is_the_sum_of_its_sittings(tmp_path, monkeypatch):
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    for sitting, seconds in enumerate((10.0, 40.0)):
        model = compiled()
        progress = restore_checkpoint(tmp_path / "checkpoints", model)
        keeper = KeepProgress(tmp_path, progress, 60, save=lambda model, path: None)
        keeper.set_model(model)
        now += seconds
        keeper.on_epoch_end(sitting, {"val_wer": 0.5})
        now += 500.0  # killed: this is lost
    assert restore_checkpoint(tmp_path / "checkpoints", compiled()).seconds == 50.0


def test_the_time_is_unknown_where_an_earlier_version_trained_the_first_epochs(directory):
    path = directory / "epoch-00000003" / "progress.json"
    content = {key: value for key, value in read_sealed(path).items() if key != "seconds"}
    write_sealed(path, content)
    model = compiled()
    progress = restore_checkpoint(directory, model)
    keeper = KeepProgress(directory, progress, 60, save=lambda model, path: None)
    keeper.set_model(model)
    keeper.on_epoch_end(3, {"val_wer": 0.5})
    restored = restore_checkpoint(directory / "checkpoints", compiled())
    assert (restored.epochs, restored.seconds) == (4, None)


def test_a_checkpoint_of_another_model_is_refused(directory):
    with pytest.raises(CheckpointError, match="epoch-00000003: belongs to a model with"):
        restore_checkpoint(directory, compiled(units=4))


def test_the_same_epoch_again_replaces_its_checkpoint(directory):
    model = compiled()
    set_state(model, 300.0)
    save_checkpoint(directory, model, progress_of(3))
    assert restored_epochs(directory) == 3
    assert len(list(directory.iterdir())) == 2


def test_the_best_epoch_is_the_latest_of_equals():
    progress = Progress([{"val_wer": wer} for wer in (0.5, 0.2, 0.3, 0.2)])
    assert progress.best_epoch("val_wer") == 3
    assert Progress().best_epoch("val_wer") == -1


def test_only_the_end_of_the_best_epoch_is_the_best():
    rows = [{"val_wer": wer} for wer in (0.5, 0.2, 0.3, 0.2)]
    is_best = [Progress(rows[:n]).is_best("val_wer") for n in range(5)]
    assert is_best == [False, True, True, False, True]
    assert not Progress(rows[:2], batches=1).is_best("val_wer")


def test_stalling_counts_epochs_after_the_best():
    progress = Progress([{"val_wer": wer} for wer in (0.5, 0.2, 0.3, 0.2)])
    assert progress.has_stalled(2)
    assert not progress.has_stalled(3)
    assert not Progress().has_stalled(1)
