"""Training steps on batches of noise that take turns in one process, and their relative times."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tfkd.config import SystemConfig
from tfkd.malloc import share_one_heap
from tfkd.models.recogniser import Recogniser
from tfkd.objectives import Objective
from tfkd.text import EOS_ID
from tfkd.training.trainable import compile_for

_STEPS = 10_000  # of the whole training; no schedule is at its end


class Batch(NamedTuple):
    """What each step learns: utterances, their length, the length of their hypotheses."""

    utterances: int
    seconds: float
    tokens: int
    vocabulary: int


def use_one_thread() -> None:
    """Holds TensorFlow to one thread, and to one heap as tfkd's commands do."""
    share_one_heap()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def step_of(
    system: SystemConfig, like: Batch, num_hypotheses: int, objective: Objective | None = None
) -> Callable[[], np.ndarray]:
    """A function that does one step of a training with a model and a batch of its own.

    Args:
      objective: that of the system by default.
    """
    keras.utils.set_random_seed(0)
    model = Recogniser(system.model, like.vocabulary)
    compile_for(model, system.training, _STEPS, objective)
    rng = np.random.default_rng(0)
    num_samples = round(like.seconds * system.model.frontend.sample_rate_hz)
    token_ids = rng.integers(4, like.vocabulary, (like.utterances, num_hypotheses, like.tokens))
    token_ids[..., -1] = EOS_ID
    waveform = 0.1 * rng.normal(size=(like.utterances, num_samples))
    batch = {
        "waveform": tf.constant(waveform, tf.float32),
        "num_samples": tf.fill([like.utterances], num_samples),
        "token_ids": tf.constant(token_ids, tf.int32),
        "weights": tf.fill([like.utterances, num_hypotheses], 1.0 / num_hypotheses),
    }
    spec = {name: tf.TensorSpec([None] * x.shape.rank, x.dtype) for name, x in batch.items()}
    spec["token_ids"] = tf.TensorSpec([None, num_hypotheses, None], tf.int32)
    spec["weights"] = tf.TensorSpec([None, num_hypotheses], tf.float32)
    step = tf.function(model.train_step, input_signature=[spec])
    return lambda: step(batch)["loss"].numpy()


def taking_turns(steps: Mapping[Hashable, Callable[[], object]], rounds: int) -> dict[str, dict]:
    """CPU and wall seconds of each step, and the ratio of its CPU seconds to those of the first."""
    for step in steps.values():
        step()  # traces
    runs: dict[Hashable, list[tuple[float, float]]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            wall, cpu = time.perf_counter(), time.process_time()
            step()
            runs[name].append((time.process_time() - cpu, time.perf_counter() - wall))
    first = next(iter(runs.values()))
    return {
        str(name): {
            "median_cpu_seconds": statistics.median(cpu for cpu, _ in own),
            "median_wall_seconds": statistics.median(wall for _, wall in own),
            "ratio": statistics.median(a[0] / b[0] for a, b in zip(own, first, strict=True)),
            "runs": [{"cpu_seconds": cpu, "wall_seconds": wall} for cpu, wall in own],
        }
        for name, own in runs.items()
    }
