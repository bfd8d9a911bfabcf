"""Shares of a batch hold its rows and nothing else; settings of workers are checked at the start.

That several devices train as one is proved in tests/reliability/test_distributed_training.py, which
needs processes of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tfkd.errors import ConfigError, TrainingError
from tfkd.layers.replicas import share_of_mean, sum_over_replicas
from tfkd.objectives.objective import sequence_signature
from tfkd.training import distribution
from tfkd.training.batch_shapes import in_few_shapes
from tfkd.training.distribution import Replicas, replica_shares

SIGNATURE = sequence_signature(2)
CLUSTER = {"worker": ["127.0.0.1:1", "127.0.0.1:2"]}


def global_batch(rows: int) -> dict[str, tf.Tensor]:
    numbers = tf.range(1, rows + 1)
    return {
        "utterance_id": tf.strings.as_string(numbers),
        "waveform": tf.cast(numbers, tf.float32)[:, None] * tf.ones([1, 3]),
        "num_samples": numbers,
        "token_ids": numbers[:, None, None] * tf.ones([1, 2, 4], tf.int32),
        "weights": tf.cast(numbers, tf.float32)[:, None] * tf.ones([1, 2]),
    }


@pytest.mark.parametrize("replicas", [1, 2, 3, 4])
@pytest.mark.parametrize("rows", [1, 2, 3, 7, 8])
def test_the_shares_of_a_batch_are_its_rows(rows, replicas):
    batches = tf.data.Dataset.from_tensors(global_batch(rows)).repeat(2)
    shares = list(replica_shares(batches, SIGNATURE, replicas, 0, replicas).as_numpy_iterator())
    assert len(shares) == 2 * replicas
    seen = []
    for share in shares[:replicas]:
        assert "utterance_id" not in share
        assert len({len(rows) for rows in share.values()}) == 1
        for waveform, samples, ids, weights in zip(
            share["waveform"],
            share["num_samples"],
            share["token_ids"],
            share["weights"],
            strict=True,
        ):
            # All of a row stays together, whether it counts or stands in.
            assert set(waveform) == {samples}
            assert set(ids.flat) == {samples}
            seen += [samples] * bool(weights.any())
            assert set(weights) in ({samples}, {0})
    assert sorted(seen) == list(range(1, rows + 1))
    assert {len(share["weights"]) for share in shares} == {-(-rows // replicas)}


def test_each_worker_cuts_its_own_shares():
    batches = tf.data.Dataset.from_tensors(global_batch(5)).repeat(2)
    every = list(replica_shares(batches, SIGNATURE, 4, 0, 4).as_numpy_iterator())
    second = list(replica_shares(batches, SIGNATURE, 4, 2, 2).as_numpy_iterator())
    for found, expected in zip(second, every[2:4] + every[6:8], strict=True):
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values)


def test_batches_in_few_shapes_hold_the_same_rows():
    rng = np.random.default_rng(0)
    batches = []
    for _ in range(40):
        rows, samples, tokens = (int(rng.integers(*ends)) for ends in ((1, 5), (900, 1100), (2, 9)))
        batches.append(
            {
                "waveform": tf.ones([rows, samples]),
                "num_samples": tf.fill([rows], samples),
                "token_ids": tf.fill([rows, 2, tokens], 7),
                "weights": tf.ones([rows, 2]),
            }
        )
    signature = {k: tf.TensorSpec([None] * v.shape.rank, v.dtype) for k, v in batches[0].items()}
    dataset = tf.data.Dataset.from_generator(lambda: iter(batches), output_signature=signature)
    shapes, before = set(), {tuple(batch["token_ids"].shape) + batch["waveform"].shape
                             for batch in batches}  # fmt: skip
    for found, batch in zip(in_few_shapes(dataset, 4, SIGNATURE), batches, strict=True):
        shapes.add(tuple(tuple(value.shape) for value in found.values()))
        rows, samples = batch["waveform"].shape
        assert found["waveform"].shape[0] == 4
        assert samples <= found["waveform"].shape[1] <= 1.15 * samples + 1
        for name, values in batch.items():
            same = found[name][tuple(slice(size) for size in values.shape)]
            np.testing.assert_array_equal(same, values)
            padding = tf.reduce_sum(found[name][:rows]) - tf.reduce_sum(values)
            assert int(padding) == 0
        assert not found["weights"][rows:].numpy().any()
    assert len(shapes) <= 15 < len(before)


def test_one_device_sees_batches_and_values_as_they_are():
    replicas = Replicas()
    batches = tf.data.Dataset.from_tensors(global_batch(3))
    assert replicas.batches(batches, SIGNATURE) is batches
    assert replicas.json_from_chief({"a": [1, "é"]}) == {"a": [1, "é"]}
    value = tf.constant(3.0)
    assert sum_over_replicas(value) is value
    assert float(share_of_mean(value, tf.constant(2.0))) == 1.5
    assert float(share_of_mean(value * 0, tf.constant(0.0))) == 0.0


ONE_STEP = """
import sys
import keras, numpy as np, tensorflow as tf, tfkd
if sys.argv[1] == "2":
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], two)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
else:
    strategy = tf.distribute.get_strategy()
keras.utils.set_random_seed(0)
objective = tfkd.objectives.Truth(ctc_weight=0.0)
small = {"encoder": {"layers": 1, "units": 8, "dropout": 0.0}, "ctc": False,
         "decoder": {"units": 8, "embedding_units": 4, "dropout": 0.0},
         "spec_augment": {"frequency_masks": 0, "time_masks": 0}}
with strategy.scope():
    model = tfkd.Recogniser({"frontend": {"max_hz": 7000.0}, **small}, 7)
    model.compile(keras.optimizers.SGD(0.1), objective=objective)
waveform = np.random.default_rng(0).normal(size=(4, 8000)).astype("float32") / 10
batch = {"waveform": waveform, "num_samples": np.full(4, 8000, "int32"),
         "token_ids": np.tile(np.array([4, 5, 3], "int32"), (4, 1, 1)),
         "weights": np.ones((4, 1), "float32")}
model.fit(tf.data.Dataset.from_tensors(batch).repeat(3), verbose=0)
print("weights", *(repr(float(np.abs(weight).sum())) for weight in model.get_weights()))
"""


@pytest.mark.slow
def test_any_optimizer_steps_on_two_devices_as_on_one():
    def weights_after_a_step(devices: int) -> list[float]:
        done = subprocess.run(
            [sys.executable, "-c", ONE_STEP, str(devices)],
            capture_output=True,
            text=True,
            check=True,
        )
        (line,) = [line for line in done.stdout.splitlines() if line.startswith("weights")]
        return [float(each) for each in line.split()[1:]]

    assert weights_after_a_step(2) == pytest.approx(weights_after_a_step(1), rel=1e-4)


def test_a_batch_with_fewer_rows_than_replicas_is_refused():
    replicas = Replicas()
    replicas.count = 3
    replicas.check_batch_size(3)
    with pytest.raises(ConfigError, match="batch_size: 2 is below the number of replicas, 3"):
        replicas.check_batch_size(2)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "multi_worker needs TF_CONFIG"),
        ("{", "not as TensorFlow has it"),
        ("[]", "not as TensorFlow has it"),
        (json.dumps({"cluster": CLUSTER}), "KeyError.*task"),
        (json.dumps({"cluster": CLUSTER, "task": {"type": "worker", "index": 2}}), "has index 2"),
        (json.dumps({"cluster": CLUSTER, "task": {"type": "chief", "index": 0}}), "KeyError"),
        (
            json.dumps({"cluster": {"worker": ["host"]}, "task": {"type": "worker", "index": 0}}),
            "'host' is not host:port",
        ),
        (
            json.dumps({"cluster": {"ps": ["h:1"]}, "task": {"type": "ps", "index": 0}}),
            "jobs other than chief and worker",
        ),
    ],
)
def test_a_wrong_tf_config_is_named_before_anything_waits(monkeypatch, content, expected):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if content is not None:
        monkeypatch.setenv("TF_CONFIG", content)
    with pytest.raises(ConfigError, match=expected) as caught:
        Replicas("multi_worker")
    assert '"index": 0' in str(caught.value)
    assert "\n" not in str(caught.value)


def test_workers_cannot_join_once_tensorflow_is_in_use(monkeypatch):
    tf.zeros([1])
    task = {"type": "worker", "index": 0}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": CLUSTER, "task": task}))
    with pytest.raises(TrainingError, match="cannot join.*process"):
        Replicas("multi_worker")


def test_why_workers_cannot_join_is_one_line(monkeypatch):
    def fail(distribution):
        raise tf.errors.UnknownError(None, None, "Could not start gRPC server\nand a trace")

    monkeypatch.setattr(distribution, "_strategy", fail)
    task = {"type": "worker", "index": 0}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": CLUSTER, "task": task}))
    with pytest.raises(TrainingError) as caught:
        Replicas("multi_worker")
    assert str(caught.value) == (
        "the workers cannot join: Could not start gRPC server "
        "(check TF_CONFIG and that its port is free; then start all workers again)"
    )


def test_what_tensorflow_says_of_a_lost_worker_is_one_line():
    said = "Graph\nCollective ops is aborted by: task:1 heartbeat timeout\nThe error could be"
    with (
        pytest.raises(TrainingError) as caught,
        Replicas().lost_worker_ends_training(),
    ):
        raise tf.errors.UnavailableError(None, None, said)
    assert str(caught.value) == (
        "another worker is gone: task:1 heartbeat timeout "
        "(start all workers again: training goes on from the last checkpoint)"
    )
