"""Training by Keras `fit`: teacher and student are the same code with another dataset."""

from __future__ import annotations

import dataclasses
import json
import logging
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfkd.config import SystemConfig, TrainingConfig, config_digest
from tfkd.data.audio_batches import audio_batches, spread_over_lengths
from tfkd.decoding.decoder import Decoder
from tfkd.decoding.runs import PARITY, Run, load_run, save_description
from tfkd.errors import ConfigError, TrainingError
from tfkd.models.interface import FrontendLayer
from tfkd.objectives.targets import Survey, survey
from tfkd.records import (
    PSEUDO_LABELS,
    UTTERANCES,
    Plan,
    PseudoLabelRecord,
    Store,
    StoreWriter,
)
from tfkd.storage.files import write_json, write_text
from tfkd.text import Tokenizer, train_tokenizer
from tfkd.training.batches import TrainingEpochs
from tfkd.training.callbacks import (
    CHECKPOINTS,
    CurvesForTensorBoard,
    KeepProgress,
    StopOnNonFiniteLoss,
    ValidationErrorRate,
)
from tfkd.training.checkpoints import Progress, restore_checkpoint, state_of
from tfkd.training.distribution import Replicas
from tfkd.training.padding import in_few_shapes
from tfkd.training.profiling import CHECKPOINTING, VALIDATION, Profile
from tfkd.training.run_folder import COMPLETE, claim, is_finished
from tfkd.training.trainable import TrainableRecogniser

TENSORBOARD = "tensorboard"
_STATISTICS_BATCHES = 40
_PARITY_UTTERANCES = 50
_LOG = logging.getLogger("tfkd")


def train(
    system: SystemConfig,
    train_store: Store,
    valid_store: Store,
    out: str | Path,
    profile: Profile | None = None,
) -> Run | None:
    """Trains one recogniser, or goes on where an earlier call was killed.

    Args:
      train_store: utterances, or pseudo labels where the objective is seq_kd.
      valid_store: utterances with transcripts, decoded after each epoch.
      out: folder of the run; a finished one is returned as it is.
      profile: is told where the time goes.
    Returns:
      The run; None for a worker other than the chief.
    Raises:
      CheckpointError: if `out` holds a run of other settings or data (it says which).
      ConfigError: if the settings of several workers are wrong, or XLA cannot compile the products
        of that precision.
      RecordError: if another process trains into `out`, or a record can no longer be read.
      TextError: if no utterance gives a target, or validation has no transcript.
      TrainingError: if the loss is not finite (it names the utterances), another worker is gone, or
        workers have different data or settings.
    """
    check_products(system.training)
    out, replicas = Path(out), Replicas(system.training.distribution)
    replicas.check_batch_size(system.training.batch_size)
    with replicas.folder(out) as folder, replicas.lost_worker_ends_training():
        _train(system, train_store, valid_store, folder, replicas, profile)
    return load_run(out) if replicas.is_chief else None


def check_products(training: TrainingConfig) -> None:
    """Raises ConfigError if XLA cannot compile the products of that precision here."""
    is_in_doubt = training.xla and training.precision == "mixed_bfloat16"
    if is_in_doubt and not tf.config.list_physical_devices("GPU"):
        raise ConfigError(
            "training.xla: XLA has no products in bfloat16 on a CPU",
            remedy="set training.precision or training.xla otherwise",
        )


def _train(
    system: SystemConfig,
    train_store: Store,
    valid_store: Store,
    out: Path,
    replicas: Replicas,
    profile: Profile | None,
) -> None:
    # How many devices there are may change when a training goes on.
    identity = {
        "config": config_digest(_on_one_device(system)),
        "train": train_store.sha256,
        "valid": valid_store.sha256,
    }
    if replicas.json_from_chief(identity) != identity:
        raise TrainingError("this worker has other settings or data than the chief")
    if replicas.json_from_chief(is_finished(out, identity)):
        return
    training = system.training
    tokenizer = _tokenizer(system, train_store)
    surveyed = survey(train_store.records(), tokenizer, training.objective)
    _check_references(valid_store)
    without = {each.utterance_id for each in surveyed.dropped}
    epochs = TrainingEpochs(train_store, tokenizer, training, without)
    with claim(out, identity, system):
        _describe(out, system, tokenizer, surveyed)
        if train_store.kind == PSEUDO_LABELS and training.objective.kind == "truth":
            _LOG.warning("%s: learns from the transcripts, not the pseudo labels (truth)", out)
        keep_parity_sample(valid_store, out / PARITY)
        progress = _learn(system, epochs, train_store, valid_store, out, replicas, profile)
        write_json(out / COMPLETE, {**identity, "epochs": progress.epochs})


def _learn(
    system: SystemConfig,
    epochs: TrainingEpochs,
    train_store: Store,
    valid_store: Store,
    out: Path,
    replicas: Replicas,
    profile: Profile | None,
) -> Progress:
    """Trains from the newest checkpoint in `out`, or anew, to the end."""
    training, tokenizer = system.training, epochs.tokenizer
    keras.utils.set_random_seed(training.seed)
    with replicas.scope():
        model = TrainableRecogniser(
            system.model, tokenizer.vocab_size, precision=training.precision
        )
    model.configure(training, epochs.total_batches)
    progress = restore_checkpoint(out / CHECKPOINTS, model)
    if progress == Progress() and replicas.is_chief:
        model.frontend.adapt(*feature_statistics(model.frontend, train_store))
    progress = Progress(**replicas.json_from_chief(asdict(progress)))
    replicas.take_chiefs(state_of(model))
    keeper = KeepProgress(out, progress, training.checkpoint_minutes)
    keeper.resume(model)
    if not _has_ended(progress, training):
        decoding = dataclasses.replace(
            system.decoding, beam_width=training.validation_beam_width, num_hypotheses=1
        )
        decoder = Decoder(model, tokenizer, decoding)
        validation = ValidationErrorRate(decoder, valid_store, training.batch_size, replicas)
        _fit(model, training, epochs, validation, keeper, replicas, profile)
    return progress


def _fit(
    model: TrainableRecogniser,
    training: TrainingConfig,
    epochs: TrainingEpochs,
    validation: ValidationErrorRate,
    keeper: KeepProgress,
    replicas: Replicas,
    profile: Profile | None,
) -> None:
    progress = keeper.progress
    curves = CurvesForTensorBoard(keeper.out / TENSORBOARD)
    stopper = StopOnNonFiniteLoss(
        progress,
        epochs.num_batches,
        lambda *place: "utterances " + ", ".join(epochs.utterance_ids(*place)),
    )
    callbacks: list[keras.callbacks.Callback] = [stopper, validation, keeper, curves]
    if profile is not None:
        profile.trace_directory = keeper.out / TENSORBOARD
        timed = profile.timing(validation, VALIDATION), profile.timing(keeper, CHECKPOINTING)
        callbacks = [stopper, profile, *timed, curves]
    while not _has_ended(progress, training):
        epoch = progress.epochs
        batches = epochs.batches(epoch, progress.batches)
        steps = int(batches.cardinality())
        inputs = in_few_shapes(batches, training.batch_size) if training.xla else batches
        # One call an epoch, because each has batches of its own.
        with epochs.own_errors():
            model.fit(
                replicas.batches(inputs, profile and profile.watch),
                steps_per_epoch=steps,
                initial_epoch=epoch,
                epochs=epoch + 1,
                shuffle=False,
                callbacks=keras.callbacks.CallbackList(
                    callbacks,
                    add_history=True,
                    add_progbar=True,
                    model=model,
                    verbose=1 if sys.stdout.isatty() else 2,
                    epochs=training.epochs,
                    steps=steps,
                ),
            )


def feature_statistics(frontend: FrontendLayer, store: Store) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation [M] of the features before normalisation."""
    count = 0
    total, squares = np.zeros(frontend.num_features), np.zeros(frontend.num_features)
    for batch in audio_batches(store, 16).take(_STATISTICS_BATCHES):
        num_frames = frontend.num_frames(batch["num_samples"])
        features = frontend.features(batch["waveform"], num_frames)
        inside = tf.boolean_mask(features, tf.sequence_mask(num_frames, tf.shape(features)[1]))
        values = inside.numpy().astype(np.float64)
        count += len(values)
        total += values.sum(0)
        squares += np.square(values).sum(0)
    mean = total / count
    return mean, np.sqrt(np.maximum(squares / count - np.square(mean), 0))


def keep_parity_sample(valid_store: Store, out: Path) -> None:
    """Keeps some validation utterances of many lengths in the run, for its exports to be checked.

    They travel with the run, so that it can be exported where the corpus is not.
    """
    sample = spread_over_lengths(valid_store.index, _PARITY_UTTERANCES)
    plan = Plan.create(
        UTTERANCES, sample, "parity sample", {"valid": valid_store.sha256}, len(sample)
    )
    with StoreWriter(out, plan) as writer:
        for number in writer.pending_shards():
            records = (r.utterance for r in valid_store.records() if r.utterance_id in sample)
            writer.write_shard(number, records)
        writer.complete()


def _tokenizer(system: SystemConfig, store: Store) -> Tokenizer:
    if system.training.objective.kind == "truth":
        texts = [row["text"] for row in store.index if row.get("text")]
    else:
        labels = (r for r in store.records() if isinstance(r, PseudoLabelRecord))
        texts = [hypothesis.text for label in labels for hypothesis in label.hypotheses]
    return train_tokenizer(texts, system.tokenizer)


def _check_references(valid_store: Store) -> None:
    if not any(row.get("text") for row in valid_store.index):
        raise TrainingError(
            "the validation data has no transcripts",
            path=valid_store.directory,
            remedy="early stopping needs the truth of a small set",
        )


def _describe(out: Path, system: SystemConfig, tokenizer: Tokenizer, surveyed: Survey) -> None:
    """Writes what the run is made with, and what gives no target."""
    save_description(out, system, tokenizer)
    write_text(out / "dropped.jsonl", _json_lines([each.row() for each in surveyed.dropped]))
    write_json(out / "dropped_hypotheses.json", surveyed.dropped_hypotheses)
    if surveyed.dropped:
        _LOG.warning(
            "%d utterances give no target; %s", len(surveyed.dropped), out / "dropped.jsonl"
        )


def _on_one_device(system: SystemConfig) -> SystemConfig:
    training = dataclasses.replace(system.training, distribution="none")
    return dataclasses.replace(system, training=training)


def _has_ended(progress: Progress, training: TrainingConfig) -> bool:
    return progress.epochs >= training.epochs or progress.has_stalled(training.patience)


def _json_lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)
