"""A profile says where all of the wall time went, and changes nothing of the training."""

from __future__ import annotations

import contextlib
import io
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml

from tfkd import cli
from tfkd.reporting.tables import profile_report
from tfkd.text import CharacterTokenizer
from tfkd.training.batches import TrainingEpochs
from tfkd.training.profiling import (
    BEFORE,
    CHECKPOINTING,
    FIRST_STEP,
    INPUT,
    OTHER,
    STEP,
    TRACE,
    VALIDATION,
    Profile,
)

SLOW_BATCH_SECONDS = 0.05
RATE_HZ = 8000
STEPS = 6


def ragged_batches(delay_seconds: float = 0.0) -> tf.data.Dataset:
    """Utterances of 300 and 500 samples, and one that stands in; a batch takes a while to make."""

    def make(number: tf.Tensor) -> dict[str, tf.Tensor]:
        tf.numpy_function(lambda: time.sleep(delay_seconds), [], [])
        return {
            "waveform": tf.ones([3, 500]),
            "num_samples": tf.constant([300, 500, 300]),
            "weights": tf.constant([[0.5, 0.5], [1.0, 0.0], [0.0, 0.0]]),
        }

    return tf.data.Dataset.range(STEPS).map(make)


class Mean(keras.Model):
    """The least that `fit` can train."""

    def build(self, input_shape=None) -> None:
        self.scale = self.add_weight(name="scale", shape=())

    def call(self, batch, training=False):
        return self.scale * tf.reduce_mean(batch["waveform"], 1)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return tf.reduce_mean(y_pred)


class Sleep(keras.callbacks.Callback):
    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        time.sleep(0.1)


@pytest.fixture
def model() -> keras.Model:
    model = Mean()
    model.build()
    model.compile("sgd", jit_compile=False)
    return model


def test_parts_add_up_to_the_wall_time_and_each_has_its_own(model):
    begun = time.perf_counter()
    profile = Profile()
    callbacks = [profile, profile.timing(Sleep(), VALIDATION)]
    time.sleep(0.1)
    for epoch in range(2):
        batches = profile.watch(ragged_batches(SLOW_BATCH_SECONDS))
        model.fit(
            batches, initial_epoch=epoch, epochs=epoch + 1, callbacks=callbacks, verbose=0,
            shuffle=False,
        )  # fmt: skip
    assert sum(profile.seconds.values()) == pytest.approx(profile.wall_seconds)
    assert profile.wall_seconds <= time.perf_counter() - begun
    assert all(seconds >= 0 for seconds in profile.seconds.values())
    # A sleep is never shorter than it was asked to be.
    assert profile.seconds[BEFORE] >= 0.1
    assert profile.seconds[INPUT] >= 2 * STEPS * SLOW_BATCH_SECONDS
    assert profile.seconds[VALIDATION] >= 2 * 0.1
    assert profile.seconds[FIRST_STEP] > 0
    assert profile.seconds[STEP] > 0
    assert profile.seconds[CHECKPOINTING] == profile.seconds[TRACE] == 0
    assert profile.steps == 2 * STEPS
    assert profile.utterances == 4 * STEPS
    assert profile.samples == 2 * STEPS * 1500
    assert profile.padding == pytest.approx(700 / 1500)


def test_watching_passes_every_batch_on(prepared, tiny_system):
    tokenizer = CharacterTokenizer(" abdeikmosu")
    batches = TrainingEpochs(prepared["train"], tokenizer, tiny_system.training).batches(0)
    watched = Profile().watch(batches)
    assert watched.cardinality() == batches.cardinality()
    assert watched.element_spec == batches.element_spec
    pairs = zip(batches.as_numpy_iterator(), watched.as_numpy_iterator(), strict=True)
    for expected, found in pairs:
        for name in expected:
            np.testing.assert_array_equal(found[name], expected[name])


def test_a_profile_writes_one_trace(model, tmp_path):
    profile = Profile(tmp_path)
    for _ in range(2):
        model.fit(profile.watch(ragged_batches()), callbacks=[profile], verbose=0, shuffle=False)
    (trace,) = tmp_path.rglob("*.xplane.pb")
    assert trace.stat().st_size > 0
    assert profile.seconds[TRACE] > 0


def test_a_report_names_all_parts():
    profile = Profile()
    profile.seconds = dict(
        zip(profile.seconds, [2.0, 1.0, 4.0, 1.0, 1.5, 0.25, 0.25, 0.0], strict=True)
    )
    profile.wall_seconds, profile.steps, profile.utterances = 10.0, 12, 48
    profile.samples, profile.padded_samples = 40 * RATE_HZ, 4 * RATE_HZ
    report = profile_report(profile, RATE_HZ)
    lines = [line.split("  ") for line in report.splitlines()]
    found = {line[0]: [cell.strip() for cell in line[1:] if cell.strip()] for line in lines[2:-1]}
    assert found == {
        BEFORE: ["2.00", "20.0"], INPUT: ["1.00", "10.0"], FIRST_STEP: ["4.00", "40.0"],
        STEP: ["1.00", "10.0"],
        VALIDATION: ["1.50", "15.0"], CHECKPOINTING: ["0.25", "2.5"], TRACE: ["0.25", "2.5"],
        OTHER: ["0.00", "0.0"], "in all": ["10.00", "100.0"],
    }  # fmt: skip
    assert "12 steps" in report
    assert "8.0 utterances and 6.0 seconds of audio a second; 10.0 % of the batches" in report


@pytest.fixture(scope="module")
def profiled(tmp_path_factory, tiny_settings, prepared) -> tuple[list[str], Path, str]:
    """`tfkd train --profile` of two quick epochs, its run, and what it printed."""
    settings = tiny_settings | {
        "model": {**tiny_settings["model"], "ctc": False},
        "training": {**tiny_settings["training"], "epochs": 2, "ctc_weight": 0.0},
    }
    directory = tmp_path_factory.mktemp("profiled")
    config, run = directory / "system.yaml", directory / "run"
    config.write_text(yaml.safe_dump(settings))
    stores = [str(prepared[split].directory) for split in ("train", "valid")]
    command = ["train", str(config), "--train", stores[0], "--valid", stores[1],
               "--out", str(run), "--profile"]  # fmt: skip
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        cli.main(command)
    return command, run, printed.getvalue()


@pytest.mark.slow
def test_the_command_line_prints_the_profile_and_keeps_the_trace(profiled):
    _, run, report = profiled
    assert "where the time went" in report
    for part in (
        BEFORE,
        INPUT,
        FIRST_STEP,
        STEP,
        VALIDATION,
        CHECKPOINTING,
        TRACE,
        OTHER,
        "in all",
    ):
        assert f"\n{part} " in report
    assert "12 steps" in report
    assert list((run / "tensorboard").rglob("*.xplane.pb"))


@pytest.mark.slow
def test_a_finished_run_is_not_profiled_again(profiled, capsys):
    command, _, _ = profiled
    cli.main(command)
    assert "nothing to profile" in capsys.readouterr().out


@pytest.mark.slow
def test_a_profile_does_not_change_what_is_learned(profiled, tmp_path):
    command, run, _ = profiled
    plain = [str(tmp_path) if word == str(run) else word for word in command]
    plain.remove("--profile")
    cli.main(plain)
    assert (tmp_path / "history.jsonl").read_text() == (run / "history.jsonl").read_text()
