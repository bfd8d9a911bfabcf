"""Decoding a long corpus holds no more memory at its end than after its first batches."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import numpy as np
import tensorflow as tf
from helpers import random_batch, tiny_model, tokenizer
from proof import SEED, Proof

from tfkd.config import DecodingConfig
from tfkd.decoding.decoder import Decoder

_WARM_UP = 50
# Above what an allocator keeps back; in the full run, a result of each batch that stays would cost
# more. The short one only shows that the test runs.
_TOLERATED_BYTES = 24 * 2**20


def test_memory_is_flat_over_ragged_batches(proof: Proof) -> None:
    decoder = Decoder(
        tiny_model(), tokenizer(), DecodingConfig(beam_width=4, num_hypotheses=4, max_tokens=8)
    )
    rng = np.random.default_rng(SEED)
    batches = [random_batch(tuple(rng.uniform(0.02, 0.3, size))) for size in range(1, 9)]
    count = proof.count(fast=100, full=10_000)
    for number in range(_WARM_UP):
        _decode(decoder, batches[number % 8])
    before = _resident_bytes()
    for number in range(count):
        _decode(decoder, batches[number % 8])
    growth = _resident_bytes() - before
    assert growth < _TOLERATED_BYTES
    assert decoder.decode.experimental_get_tracing_count() == 1
    proof.report("memory of decoding", batches=count, growth_bytes=growth)


def _decode(decoder: Decoder, batch) -> None:
    decoder.decode(tf.constant(batch.waveform), tf.constant(batch.num_samples))


def _resident_bytes() -> int:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
