"""The graph reader gives what the stores hold, and works where tfkd is not installed."""

from __future__ import annotations

import io
import itertools
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tensorflow as tf

from tfkd.data import graph_reader
from tfkd.data.graph_reader import read_store_in_graph
from tfkd.records import Store

try:
    graph_reader._kernels()
except RuntimeError as error:
    KERNELS = str(error)
else:
    KERNELS = ""
needs_kernels = pytest.mark.skipif(bool(KERNELS), reason=KERNELS)

# Runs a copy of the module in a process that cannot import tfkd.
ALONE = """
import sys
sys.modules["tfkd"] = None
sys.path.insert(0, sys.argv[1])
import tensorflow as tf
import graph_reader
"""


@pytest.fixture
def alone(tmp_path) -> Callable[..., subprocess.Popen]:
    """Starts Python code in a process without tfkd, beside a copy of the module."""
    shutil.copy(graph_reader.__file__, tmp_path)

    def start(code: str, *arguments: str) -> subprocess.Popen:
        command = [sys.executable, "-c", ALONE + code, tmp_path, *arguments]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    return start


def samples_of(audio: bytes) -> np.ndarray:
    return soundfile.read(io.BytesIO(audio), dtype="float32")[0]


def texts(values: list[str | None]) -> list[bytes]:
    return [value.encode() for value in values if value is not None]


@needs_kernels
def test_every_utterance_in_order_and_bit_by_bit(prepared):
    store = prepared["train"]
    dataset = read_store_in_graph(store.directory)
    assert int(dataset.cardinality()) == store.summary.records
    for found, record in zip(dataset.as_numpy_iterator(), store.records(), strict=True):
        assert found["utterance_id"] == record.utterance_id.encode()
        assert found["num_samples"] == record.num_samples
        assert found["sample_rate_hz"] == record.sample_rate_hz
        assert found["text"] == (record.text or "").encode()
        assert found["has_text"] == (record.text is not None)
        assert found["speaker"] == (record.speaker or "").encode()
        np.testing.assert_array_equal(found["waveform"], samples_of(record.audio))


@needs_kernels
def test_every_value_of_every_hypothesis(labels):
    for found, record in zip(read_store_in_graph(labels.directory), labels.records(), strict=True):
        hypotheses = found["hypotheses"]
        for name in ("text", "finish_reason"):
            expected = texts([getattr(each, name) for each in record.hypotheses])
            assert hypotheses[name].numpy().tolist() == expected
        for name in ("num_tokens", "log_prob", "score", "coverage"):
            expected = [getattr(each, name) for each in record.hypotheses]
            assert hypotheses[name].numpy().tolist() == [x for x in expected if x is not None]
        for name in ("token_ids", "token_log_probs", "token_seconds"):
            expected = [list(getattr(each, name)) for each in record.hypotheses]
            assert hypotheses[name].to_list() == expected


@needs_kernels
def test_another_rate_keeps_the_pitch(prepared):
    store = prepared["train"]
    for found, record in zip(
        read_store_in_graph(store.directory, sample_rate_hz=16000).take(4),
        itertools.islice(store.records(), 4),
        strict=True,
    ):
        assert found["sample_rate_hz"] == 16000
        assert abs(int(found["num_samples"]) - 2 * record.num_samples) <= 2
        before, after = (np.abs(np.fft.rfft(w)) for w in (samples_of(record.audio),
                                                          found["waveform"].numpy()))  # fmt: skip
        peaks = before.argmax() / record.num_samples, after.argmax() / len(found["waveform"])
        assert peaks[0] * record.sample_rate_hz == pytest.approx(peaks[1] * 16000, abs=5)


@needs_kernels
def test_no_operation_of_the_graph_is_python(labels):
    graph = tf.compat.v1.GraphDef()
    dataset = read_store_in_graph(labels.directory, sample_rate_hz=16000)
    graph.ParseFromString(dataset._as_serialized_graph().numpy())
    ops = {node.op for nodes in (graph.node, *(f.node_def for f in graph.library.function))
           for node in nodes}  # fmt: skip
    assert any("DecodeFlac" in op for op in ops)
    assert not [op for op in ops if "Py" in op]


@needs_kernels
def test_a_missing_record_is_an_error_at_the_end(prepared, tmp_path):
    store = Path(shutil.copytree(prepared["train"].directory, tmp_path / "store"))
    shard = sorted((store / "shards").glob("*.tfrecord"))[2]
    first = next(iter(tf.data.TFRecordDataset(str(shard)))).numpy()
    with tf.io.TFRecordWriter(str(shard)) as writer:
        writer.write(first)
    with pytest.raises(tf.errors.FailedPreconditionError):
        list(read_store_in_graph(store))


def test_an_unfinished_store_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(graph_reader, "_kernels", lambda: (None, None))
    with pytest.raises(FileNotFoundError, match="no finished store"):
        read_store_in_graph(tmp_path)


def test_where_kernels_do_not_run_the_error_says_what_is_needed(prepared, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_io", None)
    with pytest.raises(RuntimeError, match=r"TensorFlow 2\.16 and 2\.17 alone: pip install"):
        read_store_in_graph(prepared["train"].directory)


# --- without tfkd


@pytest.mark.slow
@needs_kernels
def test_what_a_process_without_tfkd_saves_is_loaded_here(alone, labels, tmp_path):
    code = "graph_reader.read_store_in_graph(sys.argv[2]).save(sys.argv[3])"
    assert alone(code, str(labels.directory), str(tmp_path / "saved")).wait(timeout=120) == 0
    loaded = tf.data.Dataset.load(str(tmp_path / "saved"))
    for found, record in zip(loaded, labels.records(), strict=True):
        np.testing.assert_array_equal(found["waveform"], samples_of(record.utterance.audio))
        assert found["hypotheses"]["token_ids"].to_list() == [
            list(each.token_ids) for each in record.hypotheses
        ]


# A worker of a tf.data service: it knows TensorFlow and its I/O, and runs the graphs that come.
WORKER = """
graph_reader._kernels()
config = tf.data.experimental.service.WorkerConfig(
    dispatcher_address=sys.argv[2],
    worker_address="localhost:" + sys.argv[3],
    port=int(sys.argv[3]),
)
worker = tf.data.experimental.service.WorkerServer(config)
print("ready", flush=True)
sys.stdin.read()
"""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


@pytest.fixture
def service(alone) -> Iterator[str]:
    """Address of a tf.data service with two workers, each in a process without tfkd.

    Its workers share the data out in the order in which they are named.
    """
    ports = [free_port(), free_port()]
    config = tf.data.experimental.service.DispatcherConfig(
        worker_addresses=[f"localhost:{port}" for port in ports], work_dir=None
    )
    dispatcher = tf.data.experimental.service.DispatchServer(config)
    address = dispatcher.target.removeprefix("grpc://")
    workers = [alone(WORKER, address, str(port)) for port in ports]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"
    yield dispatcher.target
    for worker in workers:
        worker.communicate()
    del dispatcher


@needs_kernels
def test_workers_of_a_service_read_every_utterance_once(service, prepared):
    store: Store = prepared["train"]
    local = read_store_in_graph(store.directory)
    distribute = tf.data.experimental.service.distribute(
        tf.data.experimental.service.ShardingPolicy.DATA, service=service
    )
    expected = {each["utterance_id"]: each["waveform"] for each in local.as_numpy_iterator()}
    found = list(local.apply(distribute).as_numpy_iterator())
    assert sorted(each["utterance_id"] for each in found) == sorted(expected)
    for each in found:
        np.testing.assert_array_equal(each["waveform"], expected[each["utterance_id"]])
