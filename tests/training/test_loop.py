"""Training learns, survives a kill at any moment, and never goes on in a foreign folder."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tfkd.config import DecodingConfig, FusionConfig, SystemConfig, to_yaml
from tfkd.data.audio_batches import audio_batches
from tfkd.data.preparation import prepare
from tfkd.decoding.decoder import Decoder, decode_dataset
from tfkd.decoding.runs import PARITY, load_run
from tfkd.errors import CheckpointError, RecordError, TextError, TfkdError, TrainingError
from tfkd.metrics import score
from tfkd.models.frontend.log_mel import LogMel
from tfkd.models.recogniser import Recogniser
from tfkd.records import RandomAccess, open_store
from tfkd.records.plan import OTHER_FOLDER
from tfkd.storage.files import sha256
from tfkd.storage.locks import locked
from tfkd.storage.sealed_json import read_sealed, write_sealed
from tfkd.training import callbacks
from tfkd.training import loop as training
from tfkd.training.batches import TrainingEpochs
from tfkd.training.callbacks import ValidationErrorRate
from tfkd.training.checkpoints import restore_checkpoint
from tfkd.training.loop import train
from tfkd.training.optimizers import averaged_weights
from tfkd.training.sources import Source
from tfkd.training.trainable import compile_for

EPOCHS = 5
KILLED_IN_EPOCH = 3

# Kills itself in the middle of an epoch: nothing can be tidied up.
TRAIN_AND_DIE = """
import os, signal, sys
from tfkd.training import callbacks
from tfkd.training import loop as training
from tfkd.config import SystemConfig, from_dict
from tfkd.records import open_store
from tfkd.config.strict_yaml import read_yaml

config, train_dir, valid_dir, out, last_step = sys.argv[1:]

def die(self, batch, logs=None):
    if int(self.model.optimizer.iterations.numpy()) == int(last_step):
        os.kill(os.getpid(), signal.SIGKILL)

callbacks.KeepProgress.on_train_batch_end = die
system = from_dict(SystemConfig, read_yaml(config))
training.train(system, open_store(train_dir), open_store(valid_dir), out)
"""


def history_of(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]


def content_of(directory: Path) -> dict[str, tuple[str, int]]:
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {str(path): (sha256(path), path.stat().st_mtime_ns) for path in files}


def altered(system: SystemConfig, **changes) -> SystemConfig:
    return dataclasses.replace(system, training=dataclasses.replace(system.training, **changes))


def refuse(*arguments, **settings):
    raise AssertionError("this must not be called")


@pytest.fixture
def teacher_copy(teacher, tmp_path) -> Path:
    return shutil.copytree(teacher.directory, tmp_path / "teacher")


@pytest.fixture(scope="module")
def short_system(tiny_system) -> SystemConfig:
    """Few epochs, and no CTC, whose gradient takes seconds to trace."""
    model = dataclasses.replace(tiny_system.model, ctc=False)
    system = dataclasses.replace(tiny_system, model=model)
    return altered(system, epochs=EPOCHS, ctc_weight=0.0, average_share=0.1)


# --- learning


def test_the_tiny_teacher_learns_its_words(teacher):
    history = history_of(teacher.directory)
    assert len(history) == teacher.system.training.epochs
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]
    assert min(row["val_wer"] for row in history) <= 0.35


def test_the_model_on_disk_is_that_of_the_best_epoch(teacher, prepared):
    history = history_of(teacher.directory)
    best = min(row["val_wer"] for row in history)
    assert best < history[0]["val_wer"]
    greedy = DecodingConfig(beam_width=1, max_tokens=14)
    decoder = Decoder(teacher.model, teacher.tokenizer, greedy)
    decoded = list(decode_dataset(decoder, audio_batches(prepared["valid"], 4)))
    found = score([d.reference for d in decoded], [d.best_text for d in decoded])
    assert found.wer == pytest.approx(best)


def test_features_are_normalised_by_the_training_set(teacher, prepared):
    frontend = teacher.model.frontend
    # In batches of one; frames that reach beyond the end of the utterance do not count.
    outputs = [
        frontend(batch["waveform"], batch["num_samples"])
        for batch in audio_batches(prepared["train"], 1)
    ]
    inside = [log_mel[0, : num_frames[0]].numpy() for log_mel, num_frames in outputs]
    spread = np.concatenate(inside).std(0)
    np.testing.assert_allclose(np.concatenate(inside).mean(0), 0, atol=1e-3)
    # Bands that hardly vary are not blown up to one.
    assert spread.max() == pytest.approx(1, abs=1e-3)
    again = LogMel(frontend.config)
    again.build()
    again.adapt(audio_batches(prepared["train"], 1))
    np.testing.assert_allclose(again.mean, frontend.mean, rtol=1e-5)
    np.testing.assert_allclose(again.scale, frontend.scale, rtol=1e-3)


@pytest.fixture(scope="module")
def stopped(short_system, prepared, tmp_path_factory) -> tuple[list[float], int]:
    """The error rates of a training that stops early, and how often its step was traced."""
    rates, traces = iter([0.5, 0.4, 0.4, 0.45, 0.1]), []
    real = Recogniser.train_step

    def measure(self, epoch, logs):
        logs["val_wer"] = next(rates)

    def traced(self, batch):
        traces.append(batch)
        return real(self, batch)

    out = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ValidationErrorRate, "on_epoch_end", measure)
        patch.setattr(Recogniser, "train_step", traced)
        train(altered(short_system, patience=2), prepared["train"], prepared["valid"], out)
    return [row["val_wer"] for row in history_of(out)], len(traces)


@pytest.mark.slow
def test_training_stops_when_the_error_rate_stops_falling(stopped):
    # Two epochs after the best one, which is the second; an equal one is no improvement.
    assert stopped[0] == [0.5, 0.4, 0.4, 0.45]


@pytest.mark.slow
def test_the_step_is_traced_once_and_not_in_each_epoch(stopped):
    assert stopped[1] == 1


def test_utterances_without_a_target_are_named(tmp_path, speak, prepare_config, prepared,
                                               tiny_system, monkeypatch, caplog):  # fmt: skip
    rows = [{"audio": "a.wav", "text": "ba"}, {"audio": "b.wav"}, {"audio": "c.wav", "text": "xyz"}]
    for seed, row in enumerate(rows):
        speak(tmp_path / row["audio"], "ba", seed)
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prepare(tmp_path / "m.jsonl", tmp_path / "store", prepare_config)
    monkeypatch.setattr(training, "_fit", refuse)
    with pytest.raises(AssertionError, match="must not be called"):
        train(tiny_system, open_store(tmp_path / "store"), prepared["valid"], tmp_path / "run")
    dropped = (tmp_path / "run" / "dropped.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in dropped] == [
        {"utterance_id": name, "reasons": [{"reason": reason, "value": None, "threshold": None}]}
        for name, reason in [("b", "no_reference"), ("c", "untokenisable_text")]
    ]
    assert "2 of 3 utterances give no target and are left out (1 no_reference, 1 un" in caplog.text
    assert "for example c: characters not in the vocabulary: 'x' 'y' 'z' in 'xyz'" in caplog.text


def test_data_without_transcripts_is_refused(tmp_path, speak, prepare_config, prepared,
                                             tiny_system):  # fmt: skip
    speak(tmp_path / "a.wav", "ba")
    (tmp_path / "m.jsonl").write_text('{"audio": "a.wav"}\n')
    prepare(tmp_path / "m.jsonl", tmp_path / "store", prepare_config)
    mute = open_store(tmp_path / "store")
    with pytest.raises(TrainingError, match="the validation data has no transcripts"):
        train(tiny_system, prepared["train"], mute, tmp_path / "run")
    with pytest.raises(TextError, match="no utterance gives a target"):
        train(tiny_system, mute, prepared["valid"], tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_validation_data_without_some_transcripts_are_named(tmp_path, speak, prepare_config,
                                                            prepared, tiny_system, monkeypatch,
                                                            caplog):  # fmt: skip
    rows = [{"audio": "a.wav", "text": "ba"}, {"audio": "b.wav"}, {"audio": "c.wav", "text": ""}]
    for row in rows:
        speak(tmp_path / row["audio"], "ba")
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prepare(tmp_path / "m.jsonl", tmp_path / "store", prepare_config)
    monkeypatch.setattr(training, "_fit", refuse)
    with pytest.raises(AssertionError, match="must not be called"):
        train(tiny_system, prepared["train"], open_store(tmp_path / "store"), tmp_path / "run")
    assert "1 of 3 utterances have no transcript and count for nothing, the first being b" in (
        caplog.text
    )


def test_a_run_keeps_utterances_to_check_its_exports_with(teacher, prepared):
    kept = open_store(teacher.directory / PARITY)
    kept.verify(deep=True)
    assert list(kept.records()) == list(prepared["valid"].records())


# --- a folder and its run


def test_a_finished_run_is_returned_without_work(teacher, prepared, tiny_system, monkeypatch):
    before = content_of(teacher.directory)
    monkeypatch.setattr(training, "_fit", refuse)
    monkeypatch.setattr(Source, "survey", refuse)
    again = train(tiny_system, prepared["train"], prepared["valid"], teacher.directory)
    assert again.sha256 == teacher.sha256
    assert content_of(teacher.directory) == before


def test_a_run_that_lacks_only_its_marker_is_not_trained_again(
    teacher_copy, teacher, prepared, tiny_system, monkeypatch
):
    (teacher_copy / "complete.json").unlink()
    monkeypatch.setattr(training, "_fit", refuse)
    again = train(tiny_system, prepared["train"], prepared["valid"], teacher_copy)
    assert again.sha256 == teacher.sha256
    marker = json.loads((teacher_copy / "complete.json").read_text())
    assert marker["epochs"] == tiny_system.training.epochs


def test_a_folder_of_data_is_no_place_for_a_run(tmp_path, prepared, tiny_system):
    data = shutil.copytree(prepared["valid"].directory, tmp_path / "data")
    before = content_of(data)
    with pytest.raises(CheckpointError, match="holds prepared audio or pseudo labels"):
        train(tiny_system, prepared["train"], prepared["valid"], data)
    assert {path: content_of(data)[path] for path in before} == before


@pytest.mark.slow
def test_a_record_that_cannot_be_read_any_more_is_named(
    tmp_path, prepared, short_system, monkeypatch
):
    real = RandomAccess.__getitem__

    def fail(self, place):
        if self.store.index[place]["utterance_id"] == "train-07":
            raise RecordError("the disk is gone", utterance_id="train-07")
        return real(self, place)

    monkeypatch.setattr(RandomAccess, "__getitem__", fail)
    with pytest.raises(RecordError, match="train-07.*the disk is gone"):
        train(short_system, prepared["train"], prepared["valid"], tmp_path)


@pytest.mark.parametrize("is_finished", [True, False], ids=["finished", "unfinished"])
@pytest.mark.parametrize("difference", ["config", "training data", "validation data"])
def test_a_folder_of_another_run_is_refused(
    teacher_copy, prepared, tiny_system, monkeypatch, difference, is_finished
):
    if not is_finished:
        (teacher_copy / "complete.json").unlink()
    before = content_of(teacher_copy)
    monkeypatch.setattr(training, "_fit", refuse)
    is_config = difference == "config"
    system = altered(tiny_system, learning_rate=2e-2) if is_config else tiny_system
    train_store = prepared["test" if difference == "training data" else "train"]
    valid_store = prepared["test" if difference == "validation data" else "valid"]
    what = "there training.learning_rate=0.015; here training.learning_rate=0.02"
    what = what if is_config else f"other {difference}"
    message = f"holds a run of other settings or data: {what} ({OTHER_FOLDER})"
    with pytest.raises(CheckpointError, match=re.escape(message)):
        train(system, train_store, valid_store, teacher_copy)
    assert content_of(teacher_copy) == before


def test_another_run_is_refused_before_its_settings_were_written(
    teacher_copy, prepared, tiny_system
):
    for name in ("complete.json", "config.yaml"):
        (teacher_copy / name).unlink()
    with pytest.raises(CheckpointError, match=r"settings or data: other settings \(choose"):
        train(altered(tiny_system, seed=5), prepared["train"], prepared["valid"], teacher_copy)


def test_a_training_does_not_go_on_with_another_language_model(
    tmp_path, prepared, tiny_system, monkeypatch
):
    """Validation decodes with it, and decides which epoch is the best."""
    lm, out = tmp_path / "lm.arpa", tmp_path / "run"
    fusion = FusionConfig(lm=str(lm), lm_weight=0.3)
    decoding = dataclasses.replace(tiny_system.decoding, fusion=fusion)
    system = dataclasses.replace(tiny_system, decoding=decoding)
    monkeypatch.setattr(training, "_learn", refuse)
    for content, error, message in (
        ("one", AssertionError, "must not be called"),
        ("one", AssertionError, "must not be called"),
        ("two", CheckpointError, "settings or data: other language model"),
    ):
        lm.write_text(content)
        with pytest.raises(error, match=message):
            train(system, prepared["train"], prepared["valid"], out)


def test_two_trainings_into_one_folder_do_not_mix(tmp_path, prepared, tiny_system, monkeypatch):
    out = tmp_path / "run"
    monkeypatch.setattr(training, "_fit", refuse)
    with locked(out), pytest.raises(RecordError, match=f"{out}: another process is writing here"):
        train(tiny_system, prepared["train"], prepared["valid"], out)
    assert [path.name for path in out.iterdir()] == [".lock"]


@pytest.mark.parametrize("name", ["model.keras", "config.yaml"])
def test_a_folder_that_lacks_a_file_is_no_run(teacher_copy, name):
    (teacher_copy / name).unlink()
    with pytest.raises(CheckpointError, match=f"is not a finished run: {name} is missing"):
        load_run(teacher_copy)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  beam_width:", "  beam_with:", r"unknown key 'decoding.beam_with' \(did you mean"),
        ("beam_width: 2", "beam_width: wide", "decoding.beam_width: expected int, got 'wide'"),
        ("decoding:", "decoding: [", "not valid YAML"),
        ("decoding:", "decodings:", r"decoding is missing \(.*or complete the file if you changed"),
        ("num_mels: 20", "num_mels: 21", "another model than the model.keras .* or undo the chan"),
    ],
)
def test_a_config_that_was_changed_by_hand_is_named(teacher_copy, old, new, message):
    config = teacher_copy / "config.yaml"
    assert old in (text := config.read_text())
    config.write_text(text.replace(old, new))
    with pytest.raises(TfkdError, match=f"config.yaml: .*{message}") as error:
        load_run(teacher_copy)
    assert error.value.remedy
    config.write_text(text.rstrip("\n"))
    with pytest.raises(CheckpointError, match="config.yaml: was cut short: its last line has no"):
        load_run(teacher_copy)


def test_a_damaged_model_is_named(teacher_copy):
    model = teacher_copy / "model.keras"
    model.write_bytes(model.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="model.keras: is not a .keras file, or is damaged"):
        load_run(teacher_copy)


# --- kill -9


@pytest.fixture(scope="module")
def epochs(short_system, prepared, teacher) -> TrainingEpochs:
    return TrainingEpochs(prepared["train"], teacher.tokenizer, short_system.training)


@pytest.fixture(scope="module")
def killed(short_system, prepared, epochs, tmp_path_factory) -> Path:
    """A run whose process was killed in the middle of its third epoch."""
    directory = tmp_path_factory.mktemp("killed")
    config, out = directory / "system.yaml", directory / "run"
    config.write_text(to_yaml(short_system))
    last_step = steps_after(epochs, KILLED_IN_EPOCH - 1) + epochs.num_batches // 2
    stores = [str(prepared[split].directory) for split in ("train", "valid")]
    done = subprocess.run(
        [sys.executable, "-c", TRAIN_AND_DIE, config, *stores, out, str(last_step)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    return out


def steps_after(epochs: TrainingEpochs, count: int) -> int:
    """Batches in the first `count` epochs, counted by reading them."""
    return sum(1 for epoch in range(count) for _ in epochs.batches(epoch))


@pytest.fixture
def killed_copy(killed, tmp_path) -> Path:
    return shutil.copytree(killed, tmp_path / "run")


@pytest.mark.slow
def test_a_killed_run_is_not_taken_for_a_finished_one(killed):
    assert not (killed / "complete.json").exists()
    assert len(history_of(killed)) == KILLED_IN_EPOCH - 1
    newest = max(path.name for path in (killed / "checkpoints").iterdir())
    assert newest == f"epoch-{KILLED_IN_EPOCH - 1:08d}"


@pytest.mark.slow
def test_resuming_goes_on_exactly_where_the_checkpoint_was(
    killed_copy, short_system, prepared, epochs, monkeypatch
):
    before = history_of(killed_copy)
    steps: dict[int, int] = {}
    real = callbacks.save_checkpoint

    def noting(directory, model, progress):
        steps[progress.epochs] = int(model.optimizer.iterations.numpy())
        real(directory, model, progress)

    monkeypatch.setattr(callbacks, "save_checkpoint", noting)
    train(short_system, prepared["train"], prepared["valid"], killed_copy)
    # The killed epoch is done anew: none is lost, none counts twice.
    assert steps == {n: steps_after(epochs, n) for n in range(KILLED_IN_EPOCH, EPOCHS + 1)}
    history = history_of(killed_copy)
    assert history[: KILLED_IN_EPOCH - 1] == before
    assert len(history) == EPOCHS
    assert history[KILLED_IN_EPOCH - 1]["loss"] < before[0]["loss"]
    assert json.loads((killed_copy / "complete.json").read_text())["epochs"] == EPOCHS


@pytest.mark.slow
def test_an_epoch_resumes_in_its_middle_and_its_means_are_those_of_an_unbroken_one(
    short_system, prepared, epochs, tmp_path, monkeypatch, eagerly
):
    system = altered(short_system, epochs=2, checkpoint_minutes=0.0)
    train(system, prepared["train"], prepared["valid"], tmp_path / "unbroken")

    class Killed(Exception):
        pass

    real = callbacks.save_checkpoint

    def die_after_the_third(directory, model, progress):
        real(directory, model, progress)
        if progress.batches == 3:
            raise Killed

    monkeypatch.setattr(callbacks, "save_checkpoint", die_after_the_third)
    for _ in range(2):
        with pytest.raises(Killed):
            train(system, prepared["train"], prepared["valid"], tmp_path / "broken")
    monkeypatch.setattr(callbacks, "save_checkpoint", real)
    train(system, prepared["train"], prepared["valid"], tmp_path / "broken")
    unbroken, broken = (history_of(tmp_path / name) for name in ("unbroken", "broken"))
    assert len(unbroken) == len(broken) == 2
    for expected, found in zip(unbroken, broken, strict=True):
        assert found == pytest.approx(expected, rel=1e-4)
    model = Recogniser(system.model, load_run(tmp_path / "broken").tokenizer.vocab_size)
    compile_for(model, system.training, 1)
    restore_checkpoint(tmp_path / "broken" / "checkpoints", model)
    assert int(model.optimizer.iterations.numpy()) == steps_after(epochs, 2)


@pytest.mark.parametrize("lost", ["model.keras", "history.jsonl"])
def test_what_follows_a_checkpoint_is_made_up_for(teacher_copy, teacher, prepared, tiny_system,
                                                  monkeypatch, lost):  # fmt: skip
    """A kill just after the last checkpoint leaves the model and history of the epoch before."""
    history = history_of(teacher_copy)
    checkpoint = max((teacher_copy / "checkpoints").iterdir())
    progress = read_sealed(checkpoint / "progress.json")
    progress["history"][-1]["val_wer"] = -1.0  # so that the last epoch is the best
    write_sealed(checkpoint / "progress.json", progress)
    (teacher_copy / "complete.json").unlink()
    lines = (teacher_copy / "history.jsonl").read_text().splitlines(keepends=True)
    (teacher_copy / "history.jsonl").write_text("".join(lines[:-1]))
    if lost == "model.keras":
        (teacher_copy / "model.keras").unlink()
    monkeypatch.setattr(training, "_fit", refuse)
    run = train(tiny_system, prepared["train"], prepared["valid"], teacher_copy)
    assert [row["loss"] for row in history_of(teacher_copy)] == [row["loss"] for row in history]
    newest = Recogniser(tiny_system.model, run.tokenizer.vocab_size)
    compile_for(newest, tiny_system.training, 1)
    restore_checkpoint(teacher_copy / "checkpoints", newest)
    for found, expected in zip(run.model.get_weights(), newest.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.slow
def test_what_is_kept_are_the_averages_that_were_validated(tmp_path, short_system, prepared):
    run = train(short_system, prepared["train"], prepared["valid"], tmp_path)
    model = Recogniser(short_system.model, run.tokenizer.vocab_size)
    compile_for(model, short_system.training, 1)
    progress = restore_checkpoint(tmp_path / "checkpoints", model)
    assert progress.is_best("val_wer")  # so that the checkpoint is that of the kept model
    with averaged_weights(model):
        averages = model.get_weights()
    for kept, average in zip(run.model.get_weights(), averages, strict=True):
        np.testing.assert_array_equal(kept, average)
    assert any(np.any(a != b) for a, b in zip(averages, model.get_weights(), strict=True))
    decoding = DecodingConfig(beam_width=1, max_tokens=short_system.decoding.max_tokens)
    measured = ValidationErrorRate(Decoder(run.model, run.tokenizer, decoding), prepared["valid"])
    assert measured.measure() == pytest.approx(progress.history[-1]["val_wer"])


# --- the loss


def test_the_loss_is_the_stated_mix(tiny_system, prepared, teacher):
    """(1 - c) cross-entropy + c CTC."""
    model = Recogniser(tiny_system.model, teacher.tokenizer.vocab_size)
    compile_for(model, tiny_system.training, 10)
    epochs = TrainingEpochs(prepared["valid"], teacher.tokenizer, tiny_system.training)
    (batch,) = epochs.batches(0).take(1)
    losses = {k: float(v) for k, v in model.objective.loss(batch, model(batch)).items()}
    parts = losses["attention_loss"], losses["ctc_loss"]
    assert losses["loss"] == pytest.approx(0.7 * parts[0] + 0.3 * parts[1], rel=1e-5)
    assert parts[0] != pytest.approx(parts[1])
