"""The worker of the input service: makes the batches that trainers request."""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Generic, TypeVar

import grpc

from tfkd.errors import ConfigError, RecordError, TfkdError
from tfkd.records import Store, open_store
from tfkd.training.batches import TrainingEpochs
from tfkd.training.input_service.messages import (
    BATCH,
    CHANNEL_OPTIONS,
    OPEN,
    SERVICE,
    TrainingDescription,
    key_of,
    parse_batch_request,
    serialised_arrays,
)
from tfkd.training.sources import sources_of

# Batches that are made at the same time: one decodes while the other has Python's lock.
_THREADS = 2
# Number of trainings, and of epochs of each, whose plans are kept: for several trainers, and for
# the end of one epoch and the beginning of the next.
_TRAININGS, _EPOCHS = 2, 2
_LOG = logging.getLogger("tfkd")
T = TypeVar("T")


def serve(data: Sequence[str | Path], address: str) -> tuple[grpc.Server, int]:
    """Starts a server that makes batches of stores.

    The stores need not exist yet, but must when a training begins.

    Args:
      data: folders of the stores.
      address: HOST:PORT to listen on; with port 0 the system chooses one. Anybody who can connect
        can read the audio, so use it in a trusted network only.
    Returns:
      The server, which runs until its `stop`, and its port.
    Raises:
      ConfigError: if the address cannot be used.
    """
    handlers = _Handlers(data)
    server = grpc.server(
        ThreadPoolExecutor(_THREADS), options=(*CHANNEL_OPTIONS, ("grpc.so_reuseport", 0))
    )
    methods = {
        OPEN: grpc.unary_unary_rpc_method_handler(handlers.open),
        BATCH: grpc.unary_unary_rpc_method_handler(handlers.batch),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise ConfigError(
            f"cannot listen on {address}", remedy="choose an address of this machine, a free port"
        ) from error
    server.start()
    return server, port


class _Handlers:
    """Answers requests, several at the same time."""

    def __init__(self, data: Sequence[str | Path]) -> None:
        self._data = [Path(each) for each in data]
        self._trainings: _Latest[TrainingEpochs] = _Latest(_TRAININGS)
        self._plans: _Latest[Callable[[int], Iterable]] = _Latest(_TRAININGS * _EPOCHS)

    def open(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        """Prepares a training; a repeated request takes no time."""
        try:
            self._trainings.get(
                key_of(request), lambda: self._epochs_of(TrainingDescription.parse(request))
            )
        except (TfkdError, ValueError, KeyError) as error:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        return b""

    def batch(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        """Makes one batch."""
        key, epoch, number = parse_batch_request(request)
        epochs = self._trainings.find(key)
        if epochs is None:
            context.abort(grpc.StatusCode.NOT_FOUND, "this worker does not know the training")
            return b""  # abort has raised
        load = self._plans.get(f"{key} {epoch}", lambda: epochs.loader(epoch))
        try:
            return serialised_arrays(load(number))
        except TfkdError as error:
            context.abort(grpc.StatusCode.DATA_LOSS, str(error))
        return b""

    def _epochs_of(self, description: TrainingDescription) -> TrainingEpochs:
        stores = self._stores()
        missing = [sha256 for sha256 in description.stores if sha256 not in stores]
        if missing:
            there = ", ".join(str(store.directory) for store in stores.values()) or "none"
            raise ConfigError(
                f"the worker has {there}, but no store with sha256 {missing[0]}",
                remedy="start it with --data for each store of the training",
            )
        found = sources_of([stores[sha256] for sha256 in description.stores], description.training)
        sources = [
            dataclasses.replace(source, share=share)
            for source, share in zip(found, description.shares, strict=True)
        ]
        return TrainingEpochs(
            sources, description.tokenizer(), description.training, description.without
        )

    def _stores(self) -> dict[str, Store]:
        """Opens the stores that exist now, by sha256."""
        stores = {}
        for folder in self._data:
            try:
                store = open_store(folder)
            except RecordError as error:
                _LOG.warning("left out: %s", error)
            else:
                stores[store.sha256] = store
        return stores


class _Latest(Generic[T]):
    """A cache of the values that were requested last, each made once.

    Args:
      size: number of values that are kept.
    """

    def __init__(self, size: int) -> None:
        self._size, self._lock = size, threading.Lock()
        self._values: OrderedDict[str, T] = OrderedDict()

    def find(self, key: str) -> T | None:
        """Returns the value of a key, or None."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def get(self, key: str, make: Callable[[], T]) -> T:
        """Returns the value of a key, and makes it if needed; other threads wait meanwhile."""
        with self._lock:
            if key not in self._values:
                self._values[key] = make()
                while len(self._values) > self._size:
                    self._values.popitem(last=False)
            self._values.move_to_end(key)
            return self._values[key]
