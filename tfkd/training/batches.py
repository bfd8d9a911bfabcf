"""Makes the batches of a training: planned from lengths alone, loaded while the step computes."""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from tfkd.config import AugmentationConfig, TrainingConfig
from tfkd.data.audio_batches import without_autotuning
from tfkd.data.augmentation import (
    Augmenter,
    Scene,
    Scenes,
    SpeedChange,
    draw_speed,
    num_without_speech,
)
from tfkd.data.batch_plan import plan_batches, seed_of_pass
from tfkd.data.sample_rates import rate_of
from tfkd.errors import TrainingError
from tfkd.objectives.joining import empty_targets, join_targets
from tfkd.objectives.objective import (
    LOSS_FACTORS,
    Arrays,
    Field,
    Objective,
    most_tokens,
    widest,
)
from tfkd.records import Store
from tfkd.text import Tokenizer
from tfkd.training.examples import Examples, num_samples_of
from tfkd.training.sources import Source, paired_with, sources_of

if TYPE_CHECKING:
    from tfkd.training.input_service.client import InputService

# How many batches are loaded at the same time, and how many wait for the step.
_PARALLEL_BATCHES = 2
_BATCHES_AHEAD = 4
_FULL_SCALE = 2**15
# The field of a batch whose sources have shares of the loss.
_FACTORS = {LOSS_FACTORS: Field("float32", (), 1.0)}


class TrainingEpochs:
    """Makes the batches of every epoch; they depend on the settings and the epoch's number alone.

    Args:
      data: utterances, or pseudo labels where the objective needs them; or the sources of a
        training over several stores.
      tokenizer: the units of the model.
      training: batch size, speeds, augmentation and seed.
      without: for each source, the ids of the utterances that give no target; by default, a survey
        finds them.

    Attributes:
      signature: the fields of a batch that the objectives define.
      fields: type and shape of every field of a batch, in the order of its arrays.

    Raises:
      ConfigError: if a worker of `training.input_service` cannot be reached, or lacks a store.
    """

    def __init__(
        self,
        data: Store | Sequence[Source],
        tokenizer: Tokenizer,
        training: TrainingConfig,
        without: Sequence[Collection[str]] | None = None,
    ) -> None:
        sources = sources_of(data, training) if isinstance(data, Store) else data
        if without is None:
            surveys = [source.survey(tokenizer) for source in sources]
            without = [{each.utterance_id for each in found.dropped} for found in surveys]
        self.training, self.tokenizer = training, tokenizer
        self.signature = {
            **widest([source.objective.signature for source in sources]),
            **({} if all(source.share is None for source in sources) else _FACTORS),
        }
        self._examples = Examples(sources, tokenizer)
        self._utterance_ids = [row["utterance_id"] for s in sources for row in s.store.index]
        self._counts = Counter(self._utterance_ids)
        self._num_samples = np.array(num_samples_of(sources))
        is_used = [
            [row["utterance_id"] not in dropped for row in source.store.index]
            for source, dropped in zip(sources, without, strict=True)
        ]
        # Distinct keys let an utterance in several stores get a speed of its own from each.
        self._keys = [
            name if not number else f"{name}\n{number}"
            for number, source in enumerate(sources)
            for name in (row["utterance_id"] for row in source.store.index)
        ]
        self._places = np.flatnonzero(list(itertools.chain(*is_used)))
        self._factors = _factors_of(sources, list(map(sum, is_used)))
        longest = int(self._num_samples.max())
        self.fields: dict[str, tuple[tf.DType, list[int | None]]] = {
            "utterance_id": (tf.string, [None]),
            "waveform": (tf.float32, [None, None]),
            "num_samples": (tf.int32, [None]),
            **{n: (tf.as_dtype(f.dtype), [None, *f.shape]) for n, f in self.signature.items()},
        }
        self._error: Exception | None = None
        self._speeds = [SpeedChange(factor, longest) for factor in training.speed_factors]
        self._augmenter = Augmenter(
            training.augmentation or AugmentationConfig.off(),
            rate_of(sources[0].store),
            [self._keys[place] for place in self._places],
            training.seed,
        )
        self._service: InputService | None = None
        if training.input_service is not None:
            # gRPC is loaded where it is used alone.
            from tfkd.training.input_service.client import InputService
            from tfkd.training.input_service.messages import TrainingDescription

            self._service = InputService(training.input_service)
            description = TrainingDescription.create(training, sources, without, tokenizer)
            self._service.open(description)

    @property
    def num_batches(self) -> int:
        """Number of batches of an epoch, the same for all epochs."""
        return self.training.passes_per_epoch * self._batches_per_pass

    @property
    def total_batches(self) -> int:
        """Number of batches, and so of optimizer steps, of the whole training."""
        return self.training.epochs * self.num_batches

    def batches(self, epoch: int, first: int = 0) -> tf.data.Dataset:
        """Makes the batches of one epoch in random order, beginning with batch `first`.

        Every utterance occurs once in each pass, changed as `training.augmentation` says; that
        setting may also add examples without speech. An epoch has the same batches each time that
        it is read, so a killed training can continue in the middle of one; batches before `first`
        are not loaded.

        Returns:
          Dataset of utterance_id [B] string, waveform [B, N] float32, num_samples [B] int32, and
          the fields of `signature`, each with a batch axis in front.
        """
        dtypes, shapes = zip(*self.fields.values(), strict=True)
        found, at_once = self.loader(epoch), _PARALLEL_BATCHES
        if self._service is not None:
            found = self._service.loader(epoch, dtypes, found)
            at_once = self._service.batches_at_once

        def load(number: np.int64) -> tuple[np.ndarray, ...]:
            try:
                return found(int(number))
            except Exception as error:
                self._error = error
                raise

        def load_tensors(number: tf.Tensor) -> dict[str, tf.Tensor]:
            arrays = tf.numpy_function(load, [number], dtypes)
            return dict(zip(self.fields, map(tf.ensure_shape, arrays, shapes), strict=True))

        numbers = tf.data.Dataset.range(first, self.num_batches)
        dataset = numbers.map(load_tensors, num_parallel_calls=at_once, deterministic=True)
        return without_autotuning(dataset.prefetch(max(_BATCHES_AHEAD, at_once)))

    def loader(self, epoch: int) -> Callable[[int], tuple[np.ndarray, ...]]:
        """Returns a function that loads batch n of an epoch, as arrays in the order of `fields`.

        Several threads may call it.
        """
        first, size = epoch * self.training.passes_per_epoch, self._batches_per_pass
        loaders = [self._loader_of_pass(first + n) for n in range(self.training.passes_per_epoch)]
        return lambda number: loaders[number // size](number % size)

    def in_turn(self, first_epoch: int = 0) -> tf.data.Dataset:
        """Makes a dataset that gives the next epoch's batches each time that it is read."""
        epochs = itertools.count(first_epoch)

        def next_epoch() -> Iterator[dict[str, np.ndarray]]:
            with self.loading_errors():
                yield from self.batches(next(epochs)).as_numpy_iterator()

        spec = self.batches(first_epoch).element_spec
        dataset = tf.data.Dataset.from_generator(next_epoch, output_signature=spec)
        counted = dataset.apply(tf.data.experimental.assert_cardinality(self.num_batches))
        return without_autotuning(counted)

    @contextlib.contextmanager
    def loading_errors(self) -> Iterator[None]:
        """Raises the original error of loading a batch instead of TensorFlow's wrapped one."""
        try:
            yield
        except tf.errors.OpError:
            if self._error is None:
                raise
            raise self._error from None

    def utterance_ids(self, epoch: int, batch: int) -> list[str]:
        """Names the utterances of a batch, without loading it.

        Args:
          epoch: number of the epoch, from 0.
          batch: number of the batch in it, from 0.
        Returns:
          The ids; one that several stores hold is followed by its store.
        """
        passes, number = divmod(batch, self._batches_per_pass)
        number_of_pass = epoch * self.training.passes_per_epoch + passes
        scenes = self._scenes(number_of_pass, self._speeds_of(number_of_pass))
        examples = self._plan(number_of_pass, scenes)[number]
        return [_example_name(scenes[each], self._full_name) for each in examples]

    @property
    def _batches_per_pass(self) -> int:
        return batches_per_pass(len(self._places), self.training)

    def _loader_of_pass(self, number: int) -> Callable[[int], tuple[np.ndarray, ...]]:
        augmenter, speeds = self._augmenter_of(number), self._speeds_of(number)
        scenes = self._scenes(number, speeds)
        planned = self._plan(number, scenes)
        return lambda batch: self._load(
            [scenes[each] for each in planned[batch]], augmenter, speeds
        )

    def _full_name(self, number: int) -> str:
        place = self._places[number]
        name = self._utterance_ids[place]
        store = self._examples.sources[self._examples.source_number(place)].store
        return f"{name} of {store.directory}" if self._counts[name] > 1 else name

    def _augmenter_of(self, number_of_pass: int) -> Augmenter:
        return self._augmenter.of_epoch(number_of_pass // self.training.passes_per_epoch)

    def _speeds_of(self, number_of_pass: int) -> list[SpeedChange]:
        """The speed of each utterance of the stores in a pass."""
        seed = seed_of_pass(self.training.seed, number_of_pass)
        drawn = draw_speed(self._keys, self.training.speed_factors, seed)
        return [self._speeds[number] for number in drawn]

    def _short_name(self, number: int) -> str:
        return self._utterance_ids[self._places[number]]

    def _scenes(self, number_of_pass: int, speeds: Sequence[SpeedChange]) -> Scenes:
        """The examples of a pass; their places count the utterances that give a target."""
        places = self._places.tolist()
        lengths = [speeds[each].length(self._num_samples[each]) for each in places]
        return self._augmenter_of(number_of_pass).plan(number_of_pass, np.array(lengths))

    def _plan(self, number_of_pass: int, scenes: Scenes) -> list[np.ndarray]:
        """The numbers of the examples of each batch of a pass."""
        generator = np.random.default_rng(seed_of_pass(self.training.seed, number_of_pass))
        return plan_batches(scenes.num_samples, self.training.batch_size, generator)

    def _load(
        self, scenes: Sequence[Scene], augmenter: Augmenter, speeds: Sequence[SpeedChange]
    ) -> tuple[np.ndarray, ...]:
        num_samples = [scene.num_samples for scene in scenes]
        waveform = np.zeros((len(scenes), max(num_samples)), np.float32)
        for row, scene in zip(waveform, scenes, strict=True):
            row[: scene.num_samples] = augmenter.waveform(
                scene, lambda number: self._played(self._places[number], speeds)
            )
        return (
            np.array([_example_name(scene, self._short_name).encode() for scene in scenes], object),
            waveform,
            np.array(num_samples, np.int32),
            *self._arrays_of(scenes),
        )

    def _played(self, place: int, speeds: Sequence[SpeedChange]) -> np.ndarray:
        """The waveform [N] float32 of the utterance at a place, played at its speed."""
        return speeds[place](self._examples[place].waveform * np.float32(1 / _FULL_SCALE))

    def _arrays_of(self, scenes: Sequence[Scene]) -> list[np.ndarray]:
        """The fields of the signature, in its order."""
        targets = [self._targets_of(scene) for scene in scenes]
        if LOSS_FACTORS in self.signature:
            factors = map(self._factor_of, scenes)
            targets = [
                {**each, LOSS_FACTORS: factor}
                for each, factor in zip(targets, factors, strict=True)
            ]
        longest = most_tokens(self.signature, targets)
        return [
            np.stack([field.fill(each.get(name), longest) for each in targets])
            for name, field in self.signature.items()
        ]

    def _targets_of(self, scene: Scene) -> Arrays:
        if not scene.places:
            return empty_targets(self.tokenizer)
        parts = [self._examples[self._places[number]].arrays for number in scene.places]
        return join_targets(parts, self.signature, self.tokenizer)

    def _factor_of(self, scene: Scene) -> np.ndarray:
        """The factor of the example's loss: that of the source of its first utterance."""
        if not scene.places:
            return np.ones([], np.float32)
        return self._factors[self._examples.source_number(self._places[scene.places[0]])]


def batches(
    data: Store | Sequence[Store],
    tokenizer: Tokenizer,
    objective: Objective,
    *,
    shares: Sequence[float] | None = None,
    batch_size: int = 16,
    speed_factors: Sequence[float] = (1.0,),
    augmentation: AugmentationConfig | None = None,
    seed: int = 0,
    first_epoch: int = 0,
) -> tf.data.Dataset:
    """Makes batches for `model.fit`: the next epoch's each time that they are read.

    The batches of an epoch depend on the seed and the epoch's number alone. Utterances without a
    target are left out; `tfkd.objectives.survey` names them.

    Args:
      data: a store of utterances, or of pseudo labels where the objective needs them; or several
        stores, of which those of utterances are learned from their transcripts.
      tokenizer: the units of the model.
      objective: the one that the model is compiled with.
      shares: the share of each of several stores in the loss, whatever its size; by default each
        utterance counts alike.
      batch_size: examples in a batch.
      speed_factors: speeds at which an utterance may be played; each epoch draws one of them.
      augmentation: settings of noise, pauses, reverberation and joined utterances; none by default.
      seed: of the order, the speeds and the augmentation.
      first_epoch: number of the first epoch that is read, to resume a training.
    Returns:
      Dataset of utterance_id [B] string, waveform [B, N] float32 in [-1, 1], num_samples [B] int32
      and the fields of the objective's signature, each with a batch axis in front.
    Raises:
      ConfigError: if `shares` do not match the stores.
      RecordError: if a record is damaged or lacks what the objective needs.
      TextError: if no utterance gives a target.
      TrainingError: if a store is given twice, none holds the pseudo labels that the objective
        learns from, or these are of another tokenizer, which matters to `WordKD`.

    >>> run, labels = tfkd.load_run("work/teacher"), tfkd.open_store("work/labels")
    >>> objective = tfkd.objectives.SequenceKD(num_hypotheses=2)
    >>> batch = next(iter(tfkd.batches(labels, run.tokenizer, objective, batch_size=4)))
    >>> batch["token_ids"].shape[:2]
    TensorShape([4, 2])
    """
    training = TrainingConfig(
        batch_size=batch_size,
        speed_factors=tuple(speed_factors),
        augmentation=augmentation,
        seed=seed,
    )
    sources = paired_with(objective, data, shares)
    for source in sources:
        own = source.objective.tokenizer(source.store)
        if own is not None and own.pieces != tokenizer.pieces:
            raise TrainingError(
                f"{source.objective.name} learns token ids of another tokenizer than the given one",
                path=source.store.directory,
                remedy="give the teacher's tokenizer, which its labels hold",
            )
    return TrainingEpochs(sources, tokenizer, training).in_turn(first_epoch)


def batches_per_pass(num_utterances: int, training: TrainingConfig) -> int:
    """Computes the number of batches of a pass through some utterances; the last may be small."""
    augmentation = training.augmentation or AugmentationConfig.off()
    num_examples = num_utterances + num_without_speech(augmentation, num_utterances)
    return -(-num_examples // training.batch_size)


def _example_name(scene: Scene, name_of: Callable[[int], str]) -> str:
    """Names an example by the utterances that it plays one after the other."""
    return " + ".join(map(name_of, scene.places)) or "(an example without speech)"


def _factors_of(sources: Sequence[Source], counts: Sequence[int]) -> list[np.ndarray]:
    """The factor that gives each source its share of the loss, whatever its size."""
    return [
        np.array(1 if source.share is None else source.share * sum(counts) / count, np.float32)
        for source, count in zip(sources, counts, strict=True)
    ]
