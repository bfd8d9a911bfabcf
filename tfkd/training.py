"""Training by Keras `fit`: teacher and student are the same code with another dataset."""

from __future__ import annotations

import dataclasses
import json
import logging
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfkd.callbacks import (
    CHECKPOINTS,
    CurvesForTensorBoard,
    KeepProgress,
    StopOnNonFiniteLoss,
    ValidationErrorRate,
)
from tfkd.checkpoints import Progress, restore_checkpoint
from tfkd.config import SystemConfig, TrainingConfig, config_digest
from tfkd.datasets import audio_batches, spread_over_lengths
from tfkd.decoding import Decoder
from tfkd.epochs import TrainingEpochs
from tfkd.errors import CheckpointError, TrainingError
from tfkd.files import write_json, write_text
from tfkd.layers.frontend import LogMel
from tfkd.losses import ctc, sequence_cross_entropy
from tfkd.models import Recogniser
from tfkd.profiling import CHECKPOINTING, VALIDATION, Profile
from tfkd.records import (
    UTTERANCES,
    Plan,
    PseudoLabelRecord,
    Store,
    StoreWriter,
    UtteranceRecord,
)
from tfkd.runs import PARITY, Run, load_run, save_description
from tfkd.targets import Survey, survey
from tfkd.text import Tokenizer, train_tokenizer

COMPLETE = "complete.json"
TENSORBOARD = "tensorboard"
_STATISTICS_BATCHES = 40
_PARITY_UTTERANCES = 50
_LOG = logging.getLogger("tfkd")


@keras.saving.register_keras_serializable("tfkd")
class TrainableRecogniser(Recogniser):
    """A Recogniser whose `fit` minimises cross-entropy on weighted targets, and CTC beside it."""

    def build(self, input_shape=None) -> None:
        """Adds the parts of the loss, which `fit` shows, to the recogniser's weights."""
        self.attention_loss = keras.metrics.Mean("attention_loss")
        self.ctc_loss = keras.metrics.Mean("ctc_loss")
        super().build(input_shape)

    def configure(self, training: TrainingConfig, total_steps: int) -> None:
        """Compiles with Adam, clipping, and a linear warm-up into a cosine decay."""
        self.training_config = training
        warmup = min(training.warmup_steps, total_steps // 4)
        schedule = keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=training.learning_rate / 100,
            warmup_target=training.learning_rate,
            warmup_steps=max(1, warmup),
            decay_steps=max(1, total_steps - warmup),
            alpha=training.final_learning_rate / training.learning_rate,
        )
        clip = training.clip_norm or None
        # Shapes differ from batch to batch: XLA would compile each of them anew.
        self.compile(keras.optimizers.Adam(schedule, global_clipnorm=clip), jit_compile=False)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """(1 - c) cross-entropy + c CTC; Kim et al. 2017, arXiv:1609.06773, eq. 9."""
        share = self.training_config.ctc_weight
        attention = sequence_cross_entropy(
            y_pred.logits, x["token_ids"], x["weights"], self.training_config.label_smoothing
        )
        self.attention_loss.update_state(attention)
        if share == 0:
            return attention
        alignment = ctc(y_pred.ctc_logits, y_pred.encoded_lengths, x["token_ids"], x["weights"])
        self.ctc_loss.update_state(alignment)
        return (1 - share) * attention + share * alignment


def train(
    system: SystemConfig,
    train_store: Store,
    valid_store: Store,
    out: str | Path,
    profile: Profile | None = None,
) -> Run:
    """Trains one recogniser, or goes on where an earlier call was killed.

    Args:
      train_store: utterances, or pseudo labels where the objective is seq_kd.
      valid_store: utterances with transcripts, decoded after each epoch.
      out: folder of the run; a finished one is returned as it is.
      profile: is told where the time goes.
    Raises:
      CheckpointError: if `out` holds a run of other settings or data.
      TextError: if no utterance gives a target, or validation has no transcript.
      TrainingError: if the loss is not finite; it names the utterances.
    """
    out = Path(out)
    identity = {
        "config": config_digest(system),
        "train": train_store.sha256,
        "valid": valid_store.sha256,
    }
    if is_finished(out, identity):
        return load_run(out)
    training = system.training
    tokenizer = _tokenizer(system, train_store)
    surveyed = survey(train_store.records(), tokenizer, training.objective)
    _check_references(valid_store)
    _begin(out, identity, system, tokenizer, surveyed)
    keep_parity_sample(valid_store, out / PARITY)

    keras.utils.set_random_seed(training.seed)
    model = TrainableRecogniser(system.model, tokenizer.vocab_size)
    without = {each.utterance_id for each in surveyed.dropped}
    epochs = TrainingEpochs(train_store, tokenizer, training, without)
    model.configure(training, epochs.total_batches)
    progress = restore_checkpoint(out / CHECKPOINTS, model)
    if progress == Progress():
        model.frontend.adapt(*feature_statistics(model.frontend, train_store))
    keeper = KeepProgress(out, progress, training.checkpoint_minutes)
    keeper.resume(model)
    if not _has_ended(progress, training):
        decoding = dataclasses.replace(
            system.decoding, beam_width=training.validation_beam_width, num_hypotheses=1
        )
        decoder = Decoder(model, tokenizer, decoding)
        validation = ValidationErrorRate(decoder, valid_store, training.batch_size)
        _fit(model, training, epochs, validation, keeper, profile)
    write_json(out / COMPLETE, {**identity, "epochs": progress.epochs})
    return load_run(out)


def _fit(
    model: TrainableRecogniser,
    training: TrainingConfig,
    epochs: TrainingEpochs,
    validation: ValidationErrorRate,
    keeper: KeepProgress,
    profile: Profile | None,
) -> None:
    progress = keeper.progress
    curves = CurvesForTensorBoard(keeper.out / TENSORBOARD)
    callbacks: list[keras.callbacks.Callback] = [validation, keeper, curves]
    if profile is not None:
        timed = profile.timing(validation, VALIDATION), profile.timing(keeper, CHECKPOINTING)
        callbacks = [profile, *timed, curves]
    while not _has_ended(progress, training):
        epoch = progress.epochs
        batches = epochs.batches(epoch, progress.batches)
        # One call an epoch, because each has batches of its own.
        model.fit(
            batches if profile is None else profile.watch(batches),
            initial_epoch=epoch,
            epochs=epoch + 1,
            shuffle=False,
            callbacks=keras.callbacks.CallbackList(
                [StopOnNonFiniteLoss(batches), *callbacks],
                add_history=True,
                add_progbar=True,
                model=model,
                verbose=1 if sys.stdout.isatty() else 2,
                epochs=training.epochs,
                steps=int(batches.cardinality()),
            ),
        )


def feature_statistics(frontend: LogMel, store: Store) -> tuple[np.ndarray, np.ndarray]:
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
    sample = spread_over_lengths(valid_store, _PARITY_UTTERANCES)
    plan = Plan.create(
        UTTERANCES, sample, "parity sample", {"valid": valid_store.sha256}, len(sample)
    )
    with StoreWriter(out, plan) as writer:
        for number in writer.pending_shards():
            records = (r if isinstance(r, UtteranceRecord) else r.utterance
                       for r in valid_store.records() if r.utterance_id in sample)  # fmt: skip
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


def _begin(
    out: Path, identity: dict[str, str], system: SystemConfig, tokenizer: Tokenizer,
    surveyed: Survey,
) -> None:  # fmt: skip
    claim(out, identity)
    save_description(out, system, tokenizer)
    write_text(out / "dropped.jsonl", _json_lines([each.row() for each in surveyed.dropped]))
    write_json(out / "dropped_hypotheses.json", surveyed.dropped_hypotheses)
    if surveyed.dropped:
        _LOG.warning(
            "%d utterances give no target; %s", len(surveyed.dropped), out / "dropped.jsonl"
        )


def claim(out: Path, identity: dict[str, str]) -> None:
    """Takes `out` for one training.

    Raises:
      CheckpointError: if it belongs to another.
    """
    path = out / "identity.json"
    if path.exists() and json.loads(path.read_text()) != identity:
        raise CheckpointError(
            "holds a run of other settings or data", path=out, remedy="choose another --out"
        )
    write_json(path, identity)


def is_finished(out: Path, identity: dict[str, str]) -> bool:
    """Whether `out` holds the finished training of this identity."""
    marker = out / COMPLETE
    if not marker.exists():
        return False
    content = json.loads(marker.read_text())
    return all(content.get(key) == value for key, value in identity.items())


def _has_ended(progress: Progress, training: TrainingConfig) -> bool:
    return progress.epochs >= training.epochs or progress.has_stalled(training.patience)


def _json_lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)
