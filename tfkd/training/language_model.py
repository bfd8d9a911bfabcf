"""Trains recurrent language models with Keras `fit`."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tfkd.config import LanguageModelConfig, LanguageModelTrainingConfig, config_digest, to_yaml
from tfkd.data.audio_batches import without_autotuning
from tfkd.data.batch_plan import plan_batches, seed_of_pass
from tfkd.decoding.runs import CONFIG
from tfkd.distillation.units import units_sha256
from tfkd.language_models.rnn import RecurrentLanguageModel, load_recurrent_model
from tfkd.language_models.sentences import Sentences, read_sentences
from tfkd.layers.model_size import check_trainable
from tfkd.storage.files import write_json, write_text
from tfkd.storage.json_files import read_json_lines
from tfkd.storage.keras_files import write_model
from tfkd.storage.markers import COMPLETE, HISTORY
from tfkd.text import PAD_ID, Tokenizer
from tfkd.training.callbacks import CHECKPOINTS, KeepProgress, StopOnNonFiniteLoss
from tfkd.training.checkpoints import Progress, restore_checkpoint
from tfkd.training.optimizers import Adam
from tfkd.training.run_folder import claim, is_finished

_MONITOR = "val_perplexity"
_MAX_NATS = 700.0  # exp of a larger number overflows a float


@dataclass(frozen=True)
class LanguageModelSummary:
    """The result of a training.

    Attributes:
      parameters: number of weights.
      perplexity: of the validation text at the best epoch: exp of the mean cross-entropy in nats
        of a token, which is a unit or the end of a sentence.
      bits_per_token: the same cross-entropy in bits.
      sentences: number of sentences of the training text that were used.
      skipped: number of sentences of the training text that the tokenizer cannot spell.
      first_skipped: the first of these, and the characters in question; None if there is none.
    """

    parameters: int
    perplexity: float
    bits_per_token: float
    sentences: int
    skipped: int
    first_skipped: str | None


@keras.saving.register_keras_serializable("tfkd")
class TrainableLanguageModel(RecurrentLanguageModel):
    """A language model whose `fit` minimises the cross-entropy per token, in nats."""

    def build(self, input_shape=None) -> None:
        """Adds a metric of the mean over all tokens; the mean over batches would differ."""
        self.nats_per_token = keras.metrics.Mean("nats_per_token")
        super().build(input_shape)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Averages -log p over the tokens of y [B, U] int32, given y_pred [B, U, V], log-probs."""
        # Flatten, because the metric would otherwise average each sentence first.
        nats = tf.reshape(-tf.gather(y_pred, y, batch_dims=2), [-1])
        is_token = tf.cast(tf.reshape(tf.not_equal(y, PAD_ID), [-1]), nats.dtype)
        self.nats_per_token.update_state(nats, sample_weight=is_token)
        return tf.reduce_sum(nats * is_token) / tf.reduce_sum(is_token)


class Perplexity(keras.callbacks.Callback):
    """Adds perplexity and bits per token of training and validation to the logs of each epoch."""

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if logs is None:
            return
        for split in ("", "val_"):
            nats = logs[f"{split}nats_per_token"]
            logs[f"{split}perplexity"] = math.exp(min(nats, _MAX_NATS))
            logs[f"{split}bits_per_token"] = nats / math.log(2)


def train_language_model(
    config: LanguageModelConfig,
    tokenizer: Tokenizer,
    train_text: Sequence[str | Path],
    valid_text: Sequence[str | Path],
    out: str | Path,
) -> LanguageModelSummary:
    """Trains a language model, or continues where an earlier call was killed.

    Args:
      config: the model and its training.
      tokenizer: that of the recogniser whose search will use the model.
      train_text, valid_text: see `tfkd.language_models.sentences.read_sentences`.
      out: folder of the model; a finished one is returned as it is.
    Raises:
      CheckpointError: if `out` holds a model of other settings, units or text (it says which).
      RecordError: if another process trains into `out`.
      TextError: if a text cannot be read, or no sentence of it can be spelt.
      TrainingError: if the loss is not finite.
    """
    check_trainable(lambda: RecurrentLanguageModel(config.model, tokenizer.vocab_size))
    out = Path(out)
    sentences = read_sentences(train_text, tokenizer)
    valid = read_sentences(valid_text, tokenizer)
    identity = {
        "config": config_digest(config),
        "units": units_sha256(tokenizer),
        "train": sentences.sha256,
        "valid": valid.sha256,
    }
    if not is_finished(out, identity):
        with claim(out, identity, config):
            progress = _train(config, tokenizer, sentences, valid, out)
            write_json(out / COMPLETE, {**identity, "epochs": progress.epochs})
    history = list(read_json_lines(out / HISTORY, {_MONITOR: float, "val_bits_per_token": float}))
    best = history[Progress(history).best_epoch(_MONITOR)]
    return LanguageModelSummary(
        parameters=load_recurrent_model(out, tokenizer).count_params(),
        perplexity=best[_MONITOR],
        bits_per_token=best["val_bits_per_token"],
        sentences=len(sentences.token_ids),
        skipped=sentences.skipped,
        first_skipped=sentences.first_skipped,
    )


def _train(
    config: LanguageModelConfig,
    tokenizer: Tokenizer,
    sentences: Sentences,
    valid: Sentences,
    out: Path,
) -> Progress:
    """Trains to the end, from the newest checkpoint in `out` if there is one."""
    training = config.training
    write_text(out / CONFIG, to_yaml(config))
    tokenizer.save(out)
    keras.utils.set_random_seed(training.seed)
    model = TrainableLanguageModel(config.model, tokenizer.vocab_size)
    clip = training.clip_norm or None
    # Without XLA: it would compile the step again for the shape of every batch.
    optimizer = Adam(training.learning_rate, global_clipnorm=clip)
    model.compile(optimizer, jit_compile=False)
    progress = restore_checkpoint(out / CHECKPOINTS, model)
    keeper = KeepProgress(
        out, progress, training.checkpoint_minutes, monitor=_MONITOR, save=_save_weights
    )
    keeper.resume(model)
    _fit(model, training, tokenizer, sentences, valid, keeper)
    return progress


def sentence_batches(
    sentences: Sentences, tokenizer: Tokenizer, batch_size: int, *, seed: int = 0, first: int = 0
) -> tf.data.Dataset:
    """Makes batches of sentences of similar length, in an order that the seed determines.

    Args:
      first: number of the first batch that is returned, to continue in the middle of an epoch.
    Returns:
      Dataset of inputs [B, U] int32, beginning with sos, and targets [B, U], ending with eos; both
      are padded with pad.
    """
    inputs = _ragged([(tokenizer.sos_id, *ids) for ids in sentences.token_ids])
    targets = _ragged([(*ids, tokenizer.eos_id) for ids in sentences.token_ids])
    plan = plan_batches(inputs.row_lengths().numpy(), batch_size, np.random.default_rng(seed))
    places = tf.RaggedTensor.from_row_lengths(np.concatenate(plan), [len(each) for each in plan])

    def pick(batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tuple(tf.gather(rows, batch).to_tensor(PAD_ID) for rows in (inputs, targets))

    batches = tf.data.Dataset.from_tensor_slices(places[first:]).map(pick).prefetch(4)
    return without_autotuning(batches)


def _ragged(rows: Sequence[Sequence[int]]) -> tf.RaggedTensor:
    # tf.ragged.constant is many times slower.
    flat = np.fromiter(itertools.chain.from_iterable(rows), np.int32)
    return tf.RaggedTensor.from_row_lengths(flat, [len(row) for row in rows])


def _fit(
    model: TrainableLanguageModel,
    training: LanguageModelTrainingConfig,
    tokenizer: Tokenizer,
    sentences: Sentences,
    valid: Sentences,
    keeper: KeepProgress,
) -> None:
    progress = keeper.progress
    validation = sentence_batches(valid, tokenizer, training.batch_size)
    steps_per_epoch = math.ceil(len(sentences.token_ids) / training.batch_size)
    stopper = StopOnNonFiniteLoss(progress, steps_per_epoch, lambda _, batch: f"batch {batch}")
    while progress.epochs < training.epochs and not progress.has_stalled(
        training.patience, _MONITOR
    ):
        epoch = progress.epochs
        batches = sentence_batches(
            sentences,
            tokenizer,
            training.batch_size,
            seed=seed_of_pass(training.seed, epoch),
            first=progress.batches,
        )
        # Call `fit` once an epoch, because each epoch has batches of its own.
        callbacks = keras.callbacks.CallbackList(
            [stopper, Perplexity(), keeper],
            add_history=True,
            add_progbar=True,
            model=model,
            verbose=1 if sys.stdout.isatty() else 2,
            epochs=training.epochs,
            steps=int(batches.cardinality()),
        )
        model.fit(
            batches,
            validation_data=validation,
            initial_epoch=epoch,
            epochs=epoch + 1,
            shuffle=False,
            callbacks=callbacks,
        )


def _save_weights(model: RecurrentLanguageModel, path: Path) -> None:
    """Writes the model without its optimizer and metrics."""
    bare = RecurrentLanguageModel(model.config, model.vocab_size)
    bare.set_weights([variable.numpy() for variable in model.trainable_variables])
    write_model(bare, path)
