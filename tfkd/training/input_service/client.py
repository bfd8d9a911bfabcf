"""The trainer's side of the input service."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

import grpc
import numpy as np
import tensorflow as tf

from tfkd.config import input_workers
from tfkd.errors import ConfigError
from tfkd.training.input_service.messages import (
    BATCH,
    CHANNEL_OPTIONS,
    OPEN,
    SERVICE,
    TrainingDescription,
    batch_request,
    key_of,
    parsed_arrays,
)

Arrays = tuple[np.ndarray, ...]
Loader = Callable[[int], Arrays]

# How long a worker may take for its first word, for the opening of stores, and for one batch.
_CONNECT_SECONDS, _OPEN_SECONDS, _BATCH_SECONDS = 10.0, 600.0, 60.0
# A worker that failed is left alone for so long; then it may have been started again.
_REST_SECONDS = 20.0
# Batches that a worker makes or sends while another one of it is on its way.
_BATCHES_A_WORKER = 2
_LOG = logging.getLogger("tfkd")


class InputService:
    """Gets the batches of a training from workers; see `tfkd serve-input`.

    Batch n comes from worker n modulo their number. If that one fails, the next is asked, and
    finally this process makes the batch. So failing workers neither end nor change a training.

    Args:
      url: the value of `training.input_service`: `grpc://HOST:PORT,HOST:PORT`.
    """

    def __init__(self, url: str) -> None:
        self._workers = [_Worker(address) for address in input_workers(url)]

    @property
    def batches_at_once(self) -> int:
        """Number of batches to request at the same time, so that no worker waits."""
        return _BATCHES_A_WORKER * len(self._workers)

    def check(self) -> None:
        """Raises ConfigError, with the remedy, if a worker does not answer."""
        for worker in self._workers:
            worker.check()

    def open(self, description: TrainingDescription) -> None:
        """Sends the workers the description of a training.

        Raises:
          ConfigError: if a worker does not answer, or refuses, for example because it lacks a
            store.
        """
        for worker in self._workers:
            worker.open(description.serialise())

    def loader(self, epoch: int, dtypes: Sequence[tf.DType], own: Loader) -> Loader:
        """Returns a function that gets batch n of an epoch, as arrays of `dtypes`.

        Args:
          own: makes a batch in this process.
        """

        def load(number: int) -> Arrays:
            first = number % len(self._workers)
            for worker in (*self._workers[first:], *self._workers[:first]):
                if (batch := worker.batch(epoch, number, dtypes)) is not None:
                    return batch
            return own(number)

        return load


class _Worker:
    """The connection to one worker."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._channel = grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
        self._open = self._channel.unary_unary(f"/{SERVICE}/{OPEN}")
        self._batch = self._channel.unary_unary(f"/{SERVICE}/{BATCH}")
        self._description = b""
        self._rests_until = 0.0

    def check(self) -> None:
        try:
            grpc.channel_ready_future(self._channel).result(_CONNECT_SECONDS)
        except grpc.FutureTimeoutError as error:
            raise ConfigError(
                f"training.input_service: no worker answers at {self._address}",
                remedy=f"there: tfkd serve-input --data STORE --listen {self._address}",
            ) from error

    def open(self, description: bytes) -> None:
        self._description = description
        # After failed attempts gRPC refuses calls for a while, even if the worker is there again.
        self.check()
        try:
            self._open(description, timeout=_OPEN_SECONDS)
        except grpc.RpcError as error:
            raise ConfigError(
                f"training.input_service: {self._address} refuses: {error.details()}",
                remedy="mend that there, or leave this worker out",
            ) from error

    def batch(self, epoch: int, number: int, dtypes: Sequence[tf.DType]) -> Arrays | None:
        """Gets a batch; returns None if the worker fails."""
        if time.monotonic() < self._rests_until:
            return None
        request = batch_request(key_of(self._description), epoch, number)
        try:
            return parsed_arrays(self._message(request), dtypes)
        except (grpc.RpcError, ConfigError) as error:
            reason = error.details() if isinstance(error, grpc.RpcError) else str(error)
            self._rests_until = time.monotonic() + _REST_SECONDS
            _LOG.warning(
                "input worker %s failed, so another one makes its batches: %s",
                self._address,
                reason,
            )
            return None

    def _message(self, request: bytes) -> bytes:
        try:
            return self._batch(request, timeout=_BATCH_SECONDS)
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.NOT_FOUND:
                raise
        # The worker was restarted, or has served other trainings since.
        self.open(self._description)
        return self._batch(request, timeout=_BATCH_SECONDS)
