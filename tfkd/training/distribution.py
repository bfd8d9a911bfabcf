"""Trains on several devices or machines with `tf.distribute`, with the same steps as on one device.

Each replica computes the loss of its rows of the global batch: local sums divided by global
denominators. So the gradients of all replicas add up to that of a single device; they are clipped
after they are added. The chief, which is the first worker, alone reads and writes the run and sends
its state to the others, so workers need no shared folder for it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from tfkd.errors import ConfigError, TrainingError
from tfkd.layers.replicas import sum_over_replicas
from tfkd.objectives import Signature
from tfkd.storage.json_files import parse_json
from tfkd.training.batch_shapes import Batch, filled

Distribution = Literal["none", "mirrored", "multi_worker"]
_JOBS = {"chief", "worker"}
_ADDRESS = re.compile(r"\S+:\d+")
_EXAMPLE = (
    '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'
)


def replica_shares(
    batches: tf.data.Dataset,
    signature: Signature,
    replicas: int,
    first: int = 0,
    count: int = 1,
) -> tf.data.Dataset:
    """Splits each global batch into parts with equally many rows, one for each replica.

    Row r goes to replica r % replicas; missing rows are added with weight zero.

    Args:
      batches: dataset of waveform [B, N], num_samples [B] and the fields of `signature`.
      signature: the fields of a batch that the objectives define.
      replicas: number of all replicas.
      first, count: the replicas whose parts are returned: first, ..., first + count - 1.
    Returns:
      Dataset of the same fields with ceil(B / replicas) rows, `count` elements for each batch.
    """

    def cut(batch: Batch) -> tf.data.Dataset:
        rows = filled(batch, -tf.shape(batch["num_samples"])[0] % replicas, signature)
        return tf.data.Dataset.from_tensor_slices(
            {
                name: tf.stack([values[first + n :: replicas] for n in range(count)])
                for name, values in rows.items()
            }
        )

    return batches.flat_map(cut)


class Replicas:
    """The devices that train one model together.

    Args:
      distribution: "none" for one device; "mirrored" for all GPUs of this machine; "multi_worker"
        for several processes. The last reads TensorFlow's environment variable TF_CONFIG, waits
        for the other workers, and must come before TensorFlow's first operation.
    Attributes:
      is_chief: whether this process reads and writes the run.
      count: number of replicas.
    Raises:
      ConfigError: if TF_CONFIG is missing or wrong.
      TrainingError: if the workers cannot connect, or TensorFlow was already in use.
    """

    def __init__(self, distribution: Distribution = "none") -> None:
        self.is_chief = distribution != "multi_worker" or _is_chief()
        try:
            self.strategy = _strategy(distribution)
        except RuntimeError as error:  # "Collective ops must be configured at program startup"
            raise TrainingError(
                f"the workers cannot join: {error}", remedy="start tfkd train in its own process"
            ) from error
        except tf.errors.OpError as error:
            raise TrainingError(
                f"the workers cannot join: {_first_line(error.message)}",
                remedy="check TF_CONFIG and that its port is free; then start all workers again",
            ) from error
        self.count: int = self.strategy.num_replicas_in_sync
        self._share = tf.function(
            lambda values: self.strategy.run(_from_first_replica, args=(values,)),
            input_signature=[tf.TensorSpec([None], tf.float64)],
        )

    def scope(self):
        """The context in which a model and its optimizer must be created."""
        if self.count == 1:
            return contextlib.nullcontext()
        return self.strategy.scope()

    def check_batch_size(self, batch_size: int) -> None:
        """Raises ConfigError unless a batch has a row for each replica."""
        if batch_size < self.count:
            raise ConfigError(
                f"training.batch_size: {batch_size} is below the number of replicas, {self.count}",
                remedy="raise it, or train on fewer devices",
            )

    def batches(
        self,
        batches: tf.data.Dataset,
        signature: Signature,
        watch: Callable[[tf.data.Dataset], tf.data.Dataset] | None = None,
    ) -> tf.data.Dataset:
        """Splits global batches among the replicas, for `fit`.

        Args:
          batches: global batches, which every worker makes alike.
          signature: the fields of a batch that the objectives define.
          watch: wraps the batches of this worker just before the step, to time them.
        """
        if self.count == 1:
            return watch(batches) if watch else batches

        def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
            count = self.count // context.num_input_pipelines
            first = context.input_pipeline_id * count
            shares = replica_shares(batches, signature, self.count, first, count).prefetch(
                2 * count
            )
            return watch(shares) if watch else shares

        # Fetching ahead would hide from `watch` how long the step waits.
        options = tf.distribute.InputOptions(experimental_fetch_to_device=watch is None)
        return self.strategy.distribute_datasets_from_function(of_worker, options)

    @contextlib.contextmanager
    def folder(self, out: Path) -> Iterator[Path]:
        """Gives the chief `out`, and other workers a temporary folder."""
        if self.is_chief:
            yield out
        else:
            with tempfile.TemporaryDirectory() as scratch:
                yield Path(scratch)

    def from_chief(self, values: np.ndarray) -> np.ndarray:
        """Returns the chief's values on every worker; all must pass an array of the same shape.

        They are sent as float64, which holds float32 and integers below 2^53 exactly.
        """
        if self.count == 1:
            return values

        shared = self._share(tf.constant(values.reshape(-1), tf.float64))
        local = self.strategy.experimental_local_results(shared)[0]
        return local.numpy().reshape(values.shape)

    def json_from_chief(self, value: Any) -> Any:
        """Returns the chief's value, of any type that JSON holds, on every worker."""
        content = np.frombuffer(json.dumps(value).encode(), np.uint8)
        length = int(self.from_chief(np.array(len(content))))
        mine = content if self.is_chief else np.zeros(length)
        return parse_json(self.from_chief(mine).astype(np.uint8).tobytes())

    def take_chiefs(self, variables: Sequence[keras.Variable]) -> None:
        """Sets variables to the values that they have on the chief."""
        if self.count == 1:
            return
        flat = np.concatenate([np.asarray(v).reshape(-1).astype(np.float64) for v in variables])
        sizes = [int(np.prod(v.shape)) for v in variables]
        parts = np.split(self.from_chief(flat), np.cumsum(sizes)[:-1])
        for variable, part in zip(variables, parts, strict=True):
            variable.assign(part.reshape(variable.shape))

    @contextlib.contextmanager
    def lost_worker_ends_training(self) -> Iterator[None]:
        """Raises TrainingError when TensorFlow reports that another worker has ended."""
        try:
            yield
        except tf.errors.UnavailableError as error:
            _, _, reason = error.message.rpartition("Collective ops is aborted by: ")
            raise TrainingError(
                f"another worker is gone: {_first_line(reason)}",
                remedy="start all workers again: training goes on from the last checkpoint",
            ) from error


def _first_line(message: str) -> str:
    return message.partition("\n")[0][:200]


def _from_first_replica(values: tf.Tensor) -> tf.Tensor:
    """Returns the values of replica 0, which belongs to the chief, on all replicas."""
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    return sum_over_replicas(tf.where(tf.equal(replica, 0), values, tf.zeros_like(values)))


def _strategy(distribution: Distribution) -> tf.distribute.Strategy:
    match distribution:
        case "mirrored":
            return tf.distribute.MirroredStrategy()
        case "multi_worker":
            return tf.distribute.MultiWorkerMirroredStrategy()
    return tf.distribute.get_strategy()


def _is_chief() -> bool:
    """Whether TF_CONFIG makes this process the first worker."""
    content = os.environ.get("TF_CONFIG")
    if not content:
        raise ConfigError("multi_worker needs TF_CONFIG", remedy=f"for example {_EXAMPLE}")
    try:
        settings = parse_json(content)
        cluster, task = settings["cluster"], settings["task"]
        kind, index = task["type"], int(task["index"])
        if set(cluster) - _JOBS:
            raise ValueError(f"jobs other than {' and '.join(sorted(_JOBS))}")
        if not 0 <= index < len(cluster[kind]):
            raise ValueError(f"no {kind} has index {index}")
        for address in itertools.chain(*cluster.values()):
            if not _ADDRESS.fullmatch(address):
                raise ValueError(f"{address!r} is not host:port")
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"TF_CONFIG is not as TensorFlow has it: {error!r}", remedy=f"for example {_EXAMPLE}"
        ) from error
    return kind == "chief" or ("chief" not in cluster and index == 0)
