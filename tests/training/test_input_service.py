"""Workers give the batches that the trainer would have made, and it goes on without them."""

from __future__ import annotations

import dataclasses
import logging
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from tfkd.config import AugmentationConfig, ObjectiveConfig, TrainingConfig
from tfkd.data.subsets import write_subset
from tfkd.errors import ConfigError
from tfkd.records import open_store
from tfkd.text import CharacterTokenizer
from tfkd.training.batches import TrainingEpochs
from tfkd.training.input_service import client
from tfkd.training.input_service.worker import serve
from tfkd.training.loop import train
from tfkd.training.sources import sources_of

TOKENIZER = CharacterTokenizer(" abdeikmosu")
HERE = TrainingConfig(
    batch_size=4, speed_factors=(0.9, 1.0, 1.1), augmentation=AugmentationConfig(), seed=3
)


def served(url: str, training: TrainingConfig = HERE) -> TrainingConfig:
    return dataclasses.replace(training, input_service=url)


def content_of(epochs: TrainingEpochs, epoch: int, first: int = 0) -> list[dict]:
    return list(epochs.batches(epoch, first).as_numpy_iterator())


def assert_equal(first: list[dict], second: list[dict]) -> None:
    assert len(first) == len(second) > 0
    for once, again in zip(first, second, strict=True):
        assert once.keys() == again.keys()
        for name in once:
            np.testing.assert_array_equal(once[name], again[name])


class LocalWorker:
    """A worker in this process, which counts the batches that it gave."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self._server, self.port = serve([folder], f"localhost:{port}")
        self.url = f"grpc://localhost:{self.port}"

    def stop(self) -> None:
        self._server.stop(None).wait()


@pytest.fixture
def worker(prepared) -> Iterator[LocalWorker]:
    worker = LocalWorker(prepared["train"].directory)
    yield worker
    worker.stop()


@pytest.fixture
def given(monkeypatch) -> list[int]:
    """The numbers of the batches that came from workers."""
    numbers: list[int] = []
    real = client._Worker.batch

    def batch(self, epoch, number, dtypes):
        arrays = real(self, epoch, number, dtypes)
        if arrays is not None:
            numbers.append(number)
        return arrays

    monkeypatch.setattr(client._Worker, "batch", batch)
    return numbers


@pytest.mark.slow
def test_two_processes_give_the_same_batches_in_the_same_order(prepared, labels, given, caplog):
    stores = [prepared["train"], labels]
    command = [sys.executable, "-m", "tfkd", "serve-input", "--listen", "localhost:0"]
    for store in stores:
        command += ["--data", str(store.directory)]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        addresses = [w.stdout.readline().partition(" at ")[2].partition(",")[0] for w in workers]
        training = dataclasses.replace(
            HERE, objective=ObjectiveConfig(kind="seq_kd", num_hypotheses=2)
        )
        # The share of a store changes what its targets weigh.
        local, remote = (
            TrainingEpochs(sources_of(stores, each, [0.3, 0.7]), TOKENIZER, each)
            for each in (training, served("grpc://" + ",".join(addresses), training))
        )
        for epoch in range(2):
            assert_equal(content_of(remote, epoch), content_of(local, epoch))
        assert_equal(content_of(remote, 1, first=5), content_of(local, 1, first=5))
        assert len(given) == 3 * local.num_batches - 5
        assert not caplog.records
        workers[0].kill()
        assert_equal(content_of(remote, 2), content_of(local, 2))
        assert "another one makes" in caplog.text
        assert len(given) == 4 * local.num_batches - 5
    finally:
        for process in workers:
            process.kill()
            process.communicate()


def test_without_any_worker_left_the_trainer_makes_its_batches(prepared, worker, given, caplog):
    local = TrainingEpochs(prepared["train"], TOKENIZER, HERE)
    remote = TrainingEpochs(prepared["train"], TOKENIZER, served(worker.url))
    batches = remote.batches(0).as_numpy_iterator()
    first = next(batches)
    worker.stop()
    with caplog.at_level(logging.WARNING):
        assert_equal([first, *batches], content_of(local, 0))
    assert 0 < len(given) <= local.num_batches
    assert f"localhost:{worker.port}" in caplog.text


@pytest.mark.slow
def test_a_worker_that_is_stopped_while_it_sends_keeps_nobody_waiting(prepared):
    """A stream of arrays waited for ever after about one stop in fifteen."""
    for _ in range(25):
        worker = LocalWorker(prepared["train"].directory)
        remote = TrainingEpochs(prepared["train"], TOKENIZER, served(worker.url))
        batches = remote.batches(0).as_numpy_iterator()
        next(batches)
        worker.stop()
        assert len(list(batches)) == remote.num_batches - 1


def test_a_worker_that_was_started_again_is_told_again(prepared, worker, given, monkeypatch):
    monkeypatch.setattr(client, "_REST_SECONDS", 0.0)
    remote = TrainingEpochs(prepared["train"], TOKENIZER, served(worker.url))
    expected = content_of(TrainingEpochs(prepared["train"], TOKENIZER, HERE), 1)
    content_of(remote, 0)
    worker.stop()
    given.clear()
    again = LocalWorker(prepared["train"].directory, worker.port)
    assert_equal(content_of(remote, 1), expected)
    again.stop()
    assert given


def test_a_worker_serves_several_trainings_and_forgets_the_oldest(prepared, worker, given):
    trainings = [dataclasses.replace(HERE, seed=seed) for seed in range(4)]
    remote = [
        TrainingEpochs(prepared["train"], TOKENIZER, served(worker.url, each)) for each in trainings
    ]
    for each, training in zip(remote, trainings, strict=True):
        local = TrainingEpochs(prepared["train"], TOKENIZER, training)
        assert_equal(content_of(each, 0), content_of(local, 0))
    assert len(given) == sum(each.num_batches for each in remote)


def test_a_damaged_record_is_named_by_the_trainer_itself(prepared, worker, monkeypatch):
    remote = TrainingEpochs(prepared["train"], TOKENIZER, served(worker.url))
    monkeypatch.setattr(TrainingEpochs, "_load", None)  # of the worker, too: it is in this process
    with pytest.raises(TypeError), remote.loading_errors():
        content_of(remote, 0)


# --- misuse ends before the training


def test_a_worker_that_does_not_answer_is_an_error_with_its_command(
    tiny_system, prepared, tmp_path, monkeypatch
):
    monkeypatch.setattr(client, "_CONNECT_SECONDS", 0.2)
    with socket.socket() as closed:
        closed.bind(("localhost", 0))
        address = f"localhost:{closed.getsockname()[1]}"
        system = dataclasses.replace(
            tiny_system, training=served(f"grpc://{address}", tiny_system.training)
        )
        with pytest.raises(ConfigError, match=f"tfkd serve-input --data STORE --listen {address}"):
            train(system, prepared["train"], prepared["valid"], tmp_path / "run")


def test_a_worker_without_the_store_is_an_error_that_says_so(prepared, worker, tmp_path):
    ids = [row["utterance_id"] for row in prepared["train"].index][:8]
    write_subset(prepared["train"], ids, tmp_path / "part", digest="", source="train")
    with pytest.raises(ConfigError, match="but no store with sha256"):
        TrainingEpochs(open_store(tmp_path / "part"), TOKENIZER, served(worker.url))


def test_a_store_may_come_after_the_worker(prepared, tmp_path):
    worker = LocalWorker(tmp_path / "part")
    ids = [row["utterance_id"] for row in prepared["train"].index][:8]
    write_subset(prepared["train"], ids, tmp_path / "part", digest="", source="train")
    store = open_store(tmp_path / "part")
    remote = TrainingEpochs(store, TOKENIZER, served(worker.url))
    assert_equal(content_of(remote, 0), content_of(TrainingEpochs(store, TOKENIZER, HERE), 0))
    worker.stop()


def test_a_worker_of_another_version_is_refused(prepared, worker, monkeypatch):
    from tfkd.training.input_service import messages

    real = messages.TrainingDescription.serialise
    monkeypatch.setattr(
        messages.TrainingDescription,
        "serialise",
        lambda self: real(self).replace(b'"version": "', b'"version": "9'),
    )
    with pytest.raises(ConfigError, match=r"the trainer tfkd 9.* \(install the same version"):
        TrainingEpochs(prepared["train"], TOKENIZER, served(worker.url))


def test_nonsense_is_answered_and_harms_nobody(prepared, worker):
    channel = grpc.insecure_channel(f"localhost:{worker.port}")
    for method, content in (("Open", b"{}"), ("Open", b"\xff"), ("Batch", b"[]")):
        with pytest.raises(grpc.RpcError):
            channel.unary_unary(f"/tfkd.Input/{method}")(content, timeout=20)
    assert_equal(
        content_of(TrainingEpochs(prepared["train"], TOKENIZER, served(worker.url)), 0),
        content_of(TrainingEpochs(prepared["train"], TOKENIZER, HERE), 0),
    )


def test_an_address_that_cannot_be_listened_on_is_an_error(prepared, worker):
    with pytest.raises(ConfigError, match="cannot listen on"):
        serve([prepared["train"].directory], f"localhost:{worker.port}")


def test_who_makes_the_batches_is_not_part_of_a_runs_identity(teacher, tiny_system, prepared):
    system = dataclasses.replace(
        tiny_system, training=served("grpc://localhost:1", tiny_system.training)
    )
    # It is finished, so nobody is asked.
    assert train(system, prepared["train"], prepared["valid"], teacher.directory) is not None
