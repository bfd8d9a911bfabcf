"""A Keras model whose `compile` takes an objective, and whose `fit` minimises its loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, Protocol

import keras
import tensorflow as tf

from tfkd.errors import TrainingError
from tfkd.layers.replicas import sum_over_replicas

_OBJECTIVE = "compile(optimizer, objective=tfkd.objectives.SequenceKD(num_hypotheses=4))"
_BATCHES = "fit(tfkd.batches(store, tokenizer, objective), epochs=20)"
_MEASURE = "tfkd.callbacks.ValidationErrorRate(decoder, store).measure()"
# Dtype and number of axes of what every recogniser reads.
_AUDIO = {"waveform": (tf.float32, 2), "num_samples": (tf.int32, 1)}


class ObjectiveLike(Protocol):
    """The part of an objective that a model uses; see `tfkd.objectives.Objective`."""

    @property
    def losses(self) -> tuple[str, ...]: ...

    @property
    def signature(self) -> Mapping[str, Any]: ...

    def loss(self, batch: Mapping[str, tf.Tensor], output: Any) -> dict[str, tf.Tensor]: ...


class _Means:
    """Running means of the losses of an epoch.

    The metrics are created outside of any tf.distribute strategy, so that reading them does not
    involve other workers, and held by this object, so that Keras does not track them as weights.
    """

    def __init__(self, *names: str) -> None:
        self.metrics = [keras.metrics.Mean(name) for name in names]

    def update(self, values: dict[str, tf.Tensor]) -> None:
        for metric in self.metrics:
            metric.update_state(values[metric.name])


class ObjectiveModel(keras.Model):
    """A model whose `fit` minimises the loss of an objective.

    It has a training step of its own, because that of Keras fails with several workers
    (docs/decisions/0015-distribution.md).
    """

    precision = "float32"  # Keras dtype policy of the layers that compute in 16 bits, if any do
    objective: Any = None  # an ObjectiveLike once the model is compiled
    optimizer: Any
    means = _Means()
    _fields: Sequence[str] = ()
    _dtypes: Mapping[str, tf.DType] = {}
    train_function: Callable[[Any], dict[str, tf.Tensor]] | None

    def compile(
        self,
        optimizer: str | keras.optimizers.Optimizer = "adam",
        objective: ObjectiveLike | None = None,
        *,
        jit_compile: bool = False,
        **kwargs: Any,
    ) -> None:
        """Configures training by `fit`.

        Args:
          optimizer: a Keras optimizer, or its name.
          objective: chooses targets and computes the loss; see `tfkd.objectives`.
          jit_compile: whether XLA compiles the step, once for each shape of a batch.
          kwargs: other arguments of `keras.Model.compile`, except losses and metrics.
        Raises:
          TrainingError: if the objective is not an instance of one, or a Keras loss, metrics or
            several steps for each execution are given.
        """
        for name in ("loss", "metrics", "weighted_metrics", "loss_weights"):
            if kwargs.get(name) is not None:
                raise TrainingError(
                    f"compile was given {name}, but a recogniser is trained with an objective",
                    remedy=f"call {_OBJECTIVE}",
                )
        if kwargs.get("steps_per_execution", 1) != 1:
            raise TrainingError(
                "steps_per_execution is not 1, but a recogniser is trained step by step",
                remedy="leave it out",
            )
        if isinstance(objective, type):
            raise TrainingError(
                f"the objective is the class {objective.__name__}",
                remedy=f"give an instance: {objective.__name__}()",
            )
        if objective is not None and not hasattr(objective, "signature"):
            raise TrainingError(
                f"the objective is a {type(objective).__name__}", remedy=f"call {_OBJECTIVE}"
            )
        super().compile(optimizer, jit_compile=jit_compile, **kwargs)
        # Keras looks at the policy of the model, which is always float32.
        is_scaled = isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer)
        if (
            self.precision == "mixed_float16"
            and not is_scaled
            and kwargs.get("auto_scale_loss", True)
        ):
            with self.distribute_strategy.scope():
                self.optimizer = keras.optimizers.LossScaleOptimizer(self.optimizer)
        if not self.optimizer.built:
            with self.distribute_strategy.scope():
                self.optimizer.build(self.trainable_variables)
        # `train_step` sums the gradients over replicas, before any clipping; Keras would again.
        for each in (self.optimizer, getattr(self.optimizer, "inner_optimizer", None)):
            if each is not None:
                each._all_reduce_sum_gradients = list
        self.objective = objective
        self.means = _Means(*objective.losses) if objective is not None else _Means()

    def get_compile_config(self) -> None:
        """Returns None: objectives are not saved, so a loaded model must be compiled again."""

    def compile_from_config(self, config: dict) -> None:
        """Does nothing, because `get_compile_config` saves nothing."""

    def fit(self, x: Any = None, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """Trains on batches, as `keras.Model.fit` does.

        Args:
          x: `tf.data.Dataset` of batches, as `tfkd.batches` makes them: waveform [B, N] float32,
            num_samples [B] int32 and the fields of the objective's signature. Wider or narrower
            dtypes of the same kind are cast, such as token_ids of int64.
          args, kwargs: other arguments of `keras.Model.fit`, except `validation_data`: the callback
            `tfkd.callbacks.ValidationErrorRate` validates by decoding.
        Raises:
          TrainingError: if the model has no objective, the batches lack a field or have one of
            another kind, or `validation_data` is given.
        """
        if self.objective is None:
            raise TrainingError("the model has no objective", remedy=f"call {_OBJECTIVE} first")
        fields = _AUDIO | {
            name: (tf.as_dtype(field.dtype), 1 + len(field.shape))
            for name, field in self.objective.signature.items()
        }
        spec: Any = getattr(x, "element_spec", None)
        if fault := _fault(spec, fields):
            raise TrainingError(fault, remedy=f"call {_BATCHES}")
        if kwargs.get("validation_data") is not None:
            raise TrainingError(
                "a recogniser is validated by decoding, not by validation_data",
                remedy="add tfkd.callbacks.ValidationErrorRate to the callbacks",
            )
        # Leave out utterance ids, because accelerators cannot hold strings.
        self._fields = tuple(
            name for name, each in spec.items() if getattr(each, "dtype", None) != tf.string
        )
        self._dtypes = {name: dtype for name, (dtype, _) in fields.items()}
        return super().fit(x, *args, **{"shuffle": False, **kwargs})

    def evaluate(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuses, because a recogniser is evaluated by decoding.

        Raises:
          TrainingError: names the call that decodes.
        """
        raise TrainingError("a recogniser is evaluated by decoding", remedy=f"call {_MEASURE}")

    test_on_batch = evaluate

    def train_on_batch(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuses, because `fit` alone prepares a training step.

        Raises:
          TrainingError: names the call that trains.
        """
        raise TrainingError("a recogniser is trained by fit alone", remedy=f"call {_BATCHES}")

    @property
    def metrics(self) -> list[keras.Metric]:
        """Running means of the loss and its parts, which `fit` shows."""
        return self.means.metrics

    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Runs one step on this replica's rows of a batch; returns the losses of the whole batch.

        The loss is NaN if the gradient is not finite.
        """
        batch = {
            name: tf.cast(each, self._dtypes.get(name, each.dtype)) for name, each in batch.items()
        }
        with tf.GradientTape() as tape:
            losses = self.objective.loss(batch, self(batch, training=True))
            loss = self.optimizer.scale_loss(losses["loss"])
        variables = [variable.value for variable in self.trainable_variables]
        # Unused heads get zero gradients, so that replicas can be summed.
        gradients = tape.gradient(
            loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        gradients, losses = sum_over_replicas(gradients), sum_over_replicas(losses)
        self.optimizer.apply(gradients, self.trainable_variables)
        # A scaled loss skips steps whose gradient is not finite.
        if not isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
            is_finite = tf.math.is_finite(tf.linalg.global_norm(gradients))
            losses["loss"] = tf.where(is_finite, losses["loss"], math.nan)
        return losses

    def make_train_function(self, force: bool = False) -> None:
        """Makes the function of a step once, although `fit` is called for each epoch."""
        if self.train_function is not None and not force:
            return
        strategy = self.distribute_strategy
        step = self.train_step
        if self.jit_compile:
            step = tf.function(step, jit_compile=True)

        def train_function(iterator) -> dict[str, tf.Tensor]:
            batch = next(iterator)
            batch = {name: batch[name] for name in self._fields}
            # At the end of the data nothing may count, also what does not depend on the batch.
            with tf.control_dependencies(
                tf.nest.flatten(strategy.experimental_local_results(batch))
            ):
                losses = strategy.run(step, args=(batch,))
                self.means.update(
                    {k: strategy.experimental_local_results(v)[0] for k, v in losses.items()}
                )
                return self.get_metrics_result()

        if not self.run_eagerly:
            train_function = tf.function(train_function, reduce_retracing=True)
        self.train_function = train_function

    def _maybe_symbolic_build(self, iterator=None, data_batch=None) -> None:
        """Does nothing, because every weight exists; Keras would trace a step on a batch for it."""


def _fault(spec: Any, fields: Mapping[str, tuple[tf.DType, int]]) -> str | None:
    """Says why a step cannot read batches of this `element_spec`; None if it can."""
    if spec is None:
        return "fit was given no batches"
    if not isinstance(spec, Mapping):
        return f"a batch is a {type(spec).__name__}, not a dict of {', '.join(fields)}"
    if missing := [name for name in fields if name not in spec]:
        return f"the batches lack {', '.join(missing)}"
    for name, (dtype, num_axes) in fields.items():
        found = spec[name]
        if isinstance(found, tf.RaggedTensorSpec | tf.SparseTensorSpec):
            return f"{name} is a {type(found).__name__}, not a tensor"
        # Those of several replicas have another spec.
        if not isinstance(found, tf.TensorSpec):
            continue
        # Integers are no samples in [-1, 1), and fractions no token ids, so neither is cast.
        if found.dtype.is_integer != dtype.is_integer or found.dtype.is_floating != (
            dtype.is_floating
        ):
            return f"{name} is {found.dtype.name}, not {dtype.name}"
        if found.shape.rank not in (None, num_axes):
            return f"{name} has {found.shape.rank} axes, not {num_axes}"
    return None
