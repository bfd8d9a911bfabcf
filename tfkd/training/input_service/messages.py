"""The messages between trainer and workers: JSON, and tensors serialised by TensorFlow."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import tempfile
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfkd import __version__
from tfkd.config import TrainingConfig, from_dict, to_dict
from tfkd.errors import ConfigError
from tfkd.storage.json_files import parse_json
from tfkd.text import Tokenizer, load_tokenizer
from tfkd.text.tokenizers import tokenizer_files
from tfkd.training.sources import Source

SERVICE = "tfkd.Input"
OPEN, BATCH = "Open", "Batch"
# A batch of long recordings exceeds gRPC's default limit of 4 MB for a message.
CHANNEL_OPTIONS = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))


@dataclasses.dataclass(frozen=True)
class TrainingDescription:
    """Everything that the batches of a training depend on; equal ones give equal batches.

    Attributes:
      training: its settings, without those of input service and devices.
      stores: sha256 of each store.
      shares: the share of each store in the loss; see `Source.share`.
      without: for each store, the ids of the utterances that give no target.
      tokenizer_files: the files that `load_tokenizer` reads, by name.
    """

    training: TrainingConfig
    stores: Sequence[str]
    shares: Sequence[float | None]
    without: Sequence[Collection[str]]
    tokenizer_files: dict[str, bytes]

    @classmethod
    def create(
        cls,
        training: TrainingConfig,
        sources: Sequence[Source],
        without: Sequence[Collection[str]],
        tokenizer: Tokenizer,
    ) -> TrainingDescription:
        """Describes a training."""
        with tempfile.TemporaryDirectory() as folder:
            tokenizer.save(folder)
            files = {path.name: path.read_bytes() for path in tokenizer_files(Path(folder))}
        return cls(
            training=dataclasses.replace(training, input_service=None, distribution="none"),
            stores=[source.store.sha256 for source in sources],
            shares=[source.share for source in sources],
            without=[frozenset(ids) for ids in without],
            tokenizer_files=files,
        )

    @classmethod
    def parse(cls, content: bytes) -> TrainingDescription:
        """Reads what `serialise` wrote, as strictly as a config file is read."""
        values = parse_json(content)
        if values["version"] != __version__:
            raise ConfigError(
                f"the worker runs tfkd {__version__}, the trainer tfkd {values['version']}",
                remedy="install the same version on both",
            )
        files = {Path(name).name: base64.b64decode(data) for name, data in values["files"].items()}
        return cls(
            training=from_dict(TrainingConfig, values["training"]),
            stores=values["stores"],
            shares=values["shares"],
            without=[frozenset(ids) for ids in values["without"]],
            tokenizer_files=files,
        )

    def serialise(self) -> bytes:
        """Serialises the description; equal ones give equal bytes."""
        files = {n: base64.b64encode(d).decode() for n, d in self.tokenizer_files.items()}
        values = {
            "version": __version__,
            "training": to_dict(self.training),
            "stores": self.stores,
            "shares": self.shares,
            "without": [sorted(ids) for ids in self.without],
            "files": files,
        }
        return json.dumps(values, sort_keys=True).encode()

    def tokenizer(self) -> Tokenizer:
        """Loads the tokenizer."""
        with tempfile.TemporaryDirectory() as folder:
            for name, content in self.tokenizer_files.items():
                (Path(folder) / name).write_bytes(content)
            return load_tokenizer(folder)


def key_of(serialised: bytes) -> str:
    """Computes the key of a description, by which trainer and worker refer to it."""
    return hashlib.sha256(serialised).hexdigest()


def batch_request(key: str, epoch: int, number: int) -> bytes:
    """Makes the request for batch `number` of an epoch."""
    return json.dumps({"job": key, "epoch": epoch, "number": number}).encode()


def parse_batch_request(content: bytes) -> tuple[str, int, int]:
    """Reads key, epoch and number from a `batch_request`."""
    values = parse_json(content)
    return str(values["job"]), int(values["epoch"]), int(values["number"])


def serialised_arrays(arrays: Iterable[np.ndarray]) -> bytes:
    """Serialises the arrays of a batch in one message.

    It is no stream, because a call for a stream may wait for ever, beyond its deadline, when the
    worker is stopped while it sends.
    """
    values = [tf.io.serialize_tensor(array).numpy() for array in arrays]
    return tf.train.BytesList(value=values).SerializeToString()


def parsed_arrays(message: bytes, dtypes: Sequence[tf.DType]) -> tuple[np.ndarray, ...]:
    """Reads the arrays of `serialised_arrays`, whose types must be `dtypes`."""
    values = tf.train.BytesList.FromString(message).value
    return tuple(
        tf.io.parse_tensor(value, dtype).numpy()
        for value, dtype in zip(values, dtypes, strict=True)
    )
