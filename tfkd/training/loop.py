"""Trains recognisers with Keras `fit`; teacher and student differ in config and data alone."""

from __future__ import annotations

import dataclasses
import functools
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import tensorflow as tf

from tfkd.config import SystemConfig, TrainingConfig, faults_of_training
from tfkd.data.audio_batches import audio_batches
from tfkd.data.sample_rates import check_rate
from tfkd.decoding.decoder import Decoder
from tfkd.decoding.defaults import resolved_without_ctc
from tfkd.decoding.run_writing import keep_parity_sample, save_description
from tfkd.decoding.runs import Run, load_run
from tfkd.errors import ConfigError, TrainingError
from tfkd.layers.model_size import check_trainable
from tfkd.models.recogniser import Recogniser
from tfkd.objectives import Survey
from tfkd.records import PSEUDO_LABELS, Store
from tfkd.storage.files import write_json
from tfkd.storage.markers import COMPLETE
from tfkd.text import FIRST_PIECE_ID, Tokenizer, vocab_size_of
from tfkd.training.batch_shapes import in_few_shapes
from tfkd.training.batches import TrainingEpochs
from tfkd.training.callbacks import (
    CHECKPOINTS,
    CurvesForTensorBoard,
    KeepProgress,
    StopOnNonFiniteLoss,
    ValidationErrorRate,
)
from tfkd.training.checkpoints import Progress, restore_checkpoint, state_of
from tfkd.training.ctc_lengths import report_unaligned
from tfkd.training.distribution import Replicas
from tfkd.training.dropped import report_dropped
from tfkd.training.identity import training_identity
from tfkd.training.initial import begin_from, shares_frontend
from tfkd.training.profiling import CHECKPOINTING, VALIDATION, Profile
from tfkd.training.run_folder import check_owner, claim, is_finished
from tfkd.training.sources import Source, sources_of, tokenizer_of
from tfkd.training.trainable import compile_for

TENSORBOARD = "tensorboard"
BEGUN_FROM = "begun_from.json"
_STATISTICS_BATCHES = 40
_LOG = logging.getLogger("tfkd")


@dataclass(frozen=True)
class _Inputs:
    """The inputs of one training."""

    system: SystemConfig
    sources: Sequence[Source]
    valid_store: Store
    out: Path
    replicas: Replicas
    profile: Profile | None
    initial: Run | None
    tokenizer: Tokenizer | None

    @property
    def training(self) -> TrainingConfig:
        return self.system.training

    @property
    def identity(self) -> dict[str, str]:
        """Digests of all inputs that the run depends on."""
        return training_identity(
            self.system, self.sources, self.valid_store, self.initial, self.tokenizer
        )


def train(
    system: SystemConfig,
    train_store: Store | Sequence[Store],
    valid_store: Store,
    out: str | Path,
    profile: Profile | None = None,
    *,
    shares: Sequence[float] | None = None,
    tokenizer: Tokenizer | None = None,
) -> Run | None:
    """Trains a recogniser, or continues where an earlier call was killed.

    With several stores, those of pseudo labels are learned with `training.objective`, and those of
    utterances from their transcripts. An utterance in two stores occurs twice an epoch, with the
    target of each.

    Args:
      system: model, tokenizer, training and decoding.
      train_store: utterances, or pseudo labels where the objective needs them; or several stores.
      valid_store: utterances with transcripts, decoded after each epoch.
      out: folder of the run; if it holds the finished run, that is returned.
      profile: measures how long each part of the training takes.
      shares: the share of each store in the loss, whatever its size, divided by their sum; by
        default each utterance counts alike.
      tokenizer: the units, for example of the teacher; by default a tokenizer is trained on the
        texts to be learned.
    Returns:
      The run; None for a worker other than the chief.
    Raises:
      CheckpointError: if `out` holds a run of other settings or data (it says which), or the run to
        begin from cannot be read.
      ConfigError: if the settings of several workers are wrong, a worker of the input service does
        not answer or lacks a store, the shares do not match the stores, XLA cannot compile matrix
        products in this precision, or the model exceeds the memory.
      LanguageModelError: if the language model that validation decodes with is missing.
      BusyError: if another process trains into `out`.
      RecordError: if a record can no longer be read, or a store has another sample rate than the
        model.
      TextError: if no utterance gives a target.
      TrainingError: if the validation data has no transcripts, the loss is not finite (it names the
        utterances), nearly every utterance is too short for CTC, another worker has ended, or
        workers have different data or settings.

    >>> system = tfkd.load_run("work/teacher").system
    >>> train, valid = tfkd.open_store("work/data/train"), tfkd.open_store("work/data/valid")
    >>> tfkd.train(system, train, valid, "work/teacher").tokenizer.kind  # already trained
    'characters'
    """
    check_system(system)
    out, replicas = Path(out), Replicas(system.training.distribution)
    if system.training.distribution == "multi_worker":
        _check_size(system)
    replicas.check_batch_size(system.training.batch_size)
    sources = sources_of(train_store, system.training, shares)
    for store in (*(source.store for source in sources), valid_store):
        check_rate(store, system.model.frontend.sample_rate_hz)
    initial = _initial_run(system)
    with replicas.folder(out) as folder, replicas.lost_worker_ends_training():
        _train(_Inputs(system, sources, valid_store, folder, replicas, profile, initial, tokenizer))
    return load_run(out) if replicas.is_chief else None


def is_trained(
    system: SystemConfig,
    train_store: Store | Sequence[Store],
    valid_store: Store,
    out: str | Path,
    *,
    shares: Sequence[float] | None = None,
    tokenizer: Tokenizer | None = None,
) -> bool:
    """Whether `out` holds the finished run that `train` would return for the same arguments.

    Raises:
      CheckpointError: if `train` would refuse `out`, which holds a run of other settings or data.
    """
    out, sources = Path(out), sources_of(train_store, system.training, shares)
    identity = training_identity(system, sources, valid_store, _initial_run(system), tokenizer)
    if is_finished(out, identity):
        return True
    check_owner(out, identity, system)
    return False


def _initial_run(system: SystemConfig) -> Run | None:
    begun_from = system.training.initial.run
    return load_run(begun_from) if begun_from is not None else None


def check_system(system: SystemConfig) -> None:
    """Raises ConfigError if this machine could not train the system, before any work is done.

    Where the size of the vocabulary depends on the training text, the smallest one is assumed.
    """
    for key, fault in faults_of_training(system):
        raise ConfigError(f"{key}: {fault}", remedy="change it")
    check_products(system.training)
    # Building a model would prevent workers from connecting; `train` checks it after they have.
    if system.training.distribution != "multi_worker":
        _check_size(system)


def _check_size(system: SystemConfig) -> None:
    size = vocab_size_of(system.tokenizer) or FIRST_PIECE_ID
    check_trainable(lambda: Recogniser(system.model, size))


def check_products(training: TrainingConfig) -> None:
    """Raises ConfigError if XLA cannot compile matrix products in this precision here."""
    is_in_doubt = training.xla and training.precision == "mixed_bfloat16"
    if is_in_doubt and not tf.config.list_physical_devices("GPU"):
        raise ConfigError(
            "training.xla: XLA cannot multiply bfloat16 matrices on a CPU",
            remedy="set training.xla to false, or training.precision to float32",
        )


def _train(inputs: _Inputs) -> None:
    replicas, identity = inputs.replicas, inputs.identity
    if replicas.json_from_chief(identity) != identity:
        raise TrainingError(
            "this worker has other settings or data than the chief",
            remedy="start all workers with the same config and the same stores",
        )
    if replicas.json_from_chief(is_finished(inputs.out, identity)):
        return
    if inputs.training.input_service is not None:
        _check_workers(inputs.training.input_service)
    check_owner(inputs.out, identity, inputs.system)
    tokenizer = tokenizer_of(
        inputs.sources,
        inputs.system.tokenizer,
        initial=inputs.initial,
        given=inputs.tokenizer,
        out=inputs.out,
    )
    surveys = [source.survey(tokenizer) for source in inputs.sources]
    _check_references(inputs.valid_store)
    without = [{each.utterance_id for each in found.dropped} for found in surveys]
    epochs = TrainingEpochs(inputs.sources, tokenizer, inputs.training, without)
    with claim(inputs.out, identity, inputs.system):
        _describe(inputs, tokenizer, surveys)
        keep_parity_sample(inputs.out, inputs.valid_store)
        progress = _learn(inputs, epochs)
        extent = {"epochs": progress.epochs, "seconds": progress.seconds}
        write_json(inputs.out / COMPLETE, {**identity, **extent})


def _check_workers(url: str) -> None:
    """Asks the workers before all data is read, which may take long."""
    from tfkd.training.input_service.client import InputService

    InputService(url).check()


def _learn(inputs: _Inputs, epochs: TrainingEpochs) -> Progress:
    """Trains to the end, from the newest checkpoint in the folder if there is one."""
    system, training, replicas = inputs.system, inputs.training, inputs.replicas
    tokenizer = epochs.tokenizer
    keras.utils.set_random_seed(training.seed)
    with replicas.scope():
        model = Recogniser(system.model, tokenizer.vocab_size, precision=training.precision)
    compile_for(model, training, epochs.total_batches)
    progress = restore_checkpoint(inputs.out / CHECKPOINTS, model)
    if progress == Progress() and training.ctc_weight:
        report_unaligned(inputs.sources, tokenizer, model, inputs.out)
    if progress == Progress() and replicas.is_chief:
        _begin(inputs, model, tokenizer)
    progress = Progress(**replicas.json_from_chief(asdict(progress)))
    replicas.take_chiefs(state_of(model))
    keeper = KeepProgress(inputs.out, progress, training.checkpoint_minutes)
    keeper.resume(model)
    if not _has_ended(progress, training):
        decoding = dataclasses.replace(
            system.decoding, beam_width=training.validation_beam_width, num_hypotheses=1
        )
        decoder = Decoder(model, tokenizer, resolved_without_ctc(decoding, system))
        validation = ValidationErrorRate(decoder, inputs.valid_store, training.batch_size, replicas)
        _fit(inputs, model, epochs, validation, keeper)
    return progress


def _begin(inputs: _Inputs, model: Recogniser, tokenizer: Tokenizer) -> None:
    """Sets the feature statistics of a new model, and the weights that it begins with."""
    if inputs.initial is None or not shares_frontend(model, inputs.initial):
        model.frontend.adapt(_audio_of(inputs.sources))
    if inputs.initial is not None:
        taken = begin_from(model, tokenizer, inputs.initial, inputs.training.initial.layers)
        write_json(inputs.out / BEGUN_FROM, {"run": str(inputs.initial.directory), **asdict(taken)})
        _LOG.warning(
            "%s: takes %.0f %% of its initial weights from %s",
            inputs.out,
            100 * taken.share,
            inputs.initial.directory,
        )


def _fit(
    inputs: _Inputs,
    model: Recogniser,
    epochs: TrainingEpochs,
    validation: ValidationErrorRate,
    keeper: KeepProgress,
) -> None:
    training, profile, progress = inputs.training, inputs.profile, keeper.progress
    curves = CurvesForTensorBoard(inputs.out / TENSORBOARD)
    stopper = StopOnNonFiniteLoss(
        progress,
        epochs.num_batches,
        lambda *place: "utterances " + ", ".join(epochs.utterance_ids(*place)),
    )
    callbacks: list[keras.callbacks.Callback] = [stopper, validation, keeper, curves]
    if profile is not None:
        profile.trace_directory = inputs.out / TENSORBOARD
        timed = profile.timing(validation, VALIDATION), profile.timing(keeper, CHECKPOINTING)
        callbacks = [stopper, profile, *timed, curves]
    while not _has_ended(progress, training):
        epoch = progress.epochs
        batches = epochs.batches(epoch, progress.batches)
        steps = int(batches.cardinality())
        if training.xla:
            batches = in_few_shapes(batches, training.batch_size, epochs.signature)
        # Call `fit` once an epoch, because each epoch has batches of its own.
        with epochs.loading_errors():
            model.fit(
                inputs.replicas.batches(batches, epochs.signature, profile and profile.watch),
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


def _audio_of(sources: Sequence[Source]) -> tf.data.Dataset:
    """The batches from which the frontend computes the feature statistics."""
    each = -(-_STATISTICS_BATCHES // len(sources))
    parts = [audio_batches(source.store, 16).take(each) for source in sources]
    return functools.reduce(tf.data.Dataset.concatenate, parts)


def _check_references(valid_store: Store) -> None:
    if not any(row.get("text") for row in valid_store.index):
        raise TrainingError(
            "the validation data has no transcripts",
            path=valid_store.name,
            remedy="give --valid a small set with transcripts: they decide when training stops",
        )
    missing = [row["utterance_id"] for row in valid_store.index if row.get("text") is None]
    if missing:
        _LOG.warning(
            "%s: %d of %d utterances have no transcript and count for nothing, the first being %s",
            valid_store.name,
            len(missing),
            len(valid_store.index),
            missing[0],
        )


def _describe(inputs: _Inputs, tokenizer: Tokenizer, surveys: Sequence[Survey]) -> None:
    """Writes the run's config and tokenizer, and the utterances that give no target."""
    save_description(inputs.out, inputs.system, tokenizer)
    for source in inputs.sources:
        if source.store.kind == PSEUDO_LABELS and not source.objective.needs_hypotheses:
            _LOG.warning(
                "%s: the training learns its transcripts, not its pseudo labels (objective %s)",
                source.store.name,
                source.objective.name,
            )
    report_dropped(inputs.sources, surveys, tokenizer, inputs.out)


def _has_ended(progress: Progress, training: TrainingConfig) -> bool:
    return progress.epochs >= training.epochs or progress.has_stalled(training.patience)
