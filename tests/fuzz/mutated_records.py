"""Mutated records of both kinds, and mutated shards of them."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
from mutation import mutate
from test_records import pseudo_label, utterance

from tfkd.records import PSEUDO_LABELS, UTTERANCES, frame, read_records
from tfkd.records.schema import RECORD_TYPES

# Tags and lengths of protobuf, NaN and infinity as float32, and groups nested deeply.
_WORDS = [b"\x0a", b"\x12", b"\xff" * 9 + b"\x01", b"\x80\x80\x80\x80\x10", b"\x0b" * 400]
_WORDS += [b"\x00\x00\xc0\x7f", b"\x00\x00\x80\xff", b"utterance_id", b"hypotheses/num_tokens"]


@functools.cache
def _records(kind: str) -> list[bytes]:
    make = {UTTERANCES: utterance, PSEUDO_LABELS: pseudo_label}[kind]
    return [make(name).to_example_bytes() for name in ("a", "b")]


def case(generator: np.random.Generator, scratch: Path) -> None:
    """Reads a shard whose records are damaged, half of the time in spite of sound checksums."""
    kind = generator.choice([UTTERANCES, PSEUDO_LABELS])
    path = scratch / "shard"
    if generator.integers(2):
        path.write_bytes(frame(mutate(_records(kind), _WORDS, generator)))
    else:
        path.write_bytes(mutate([b"".join(map(frame, _records(kind)))], _WORDS, generator))
    for payload in read_records(path):
        RECORD_TYPES[kind].from_example_bytes(payload)
