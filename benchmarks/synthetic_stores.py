"""Random teachers and stores of noise, for the benchmarks of labelling."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfkd.audio.flac import encode_flac
from tfkd.config import SystemConfig
from tfkd.decoding.run_writing import save_description, save_model
from tfkd.decoding.runs import MODEL, Run, load_run
from tfkd.environment import provenance
from tfkd.models.recogniser import Recogniser
from tfkd.records import UTTERANCES, Plan, Store, StoreWriter, UtteranceRecord, open_store
from tfkd.text import EOS_ID, CharacterTokenizer

# With the special tokens as many as the digits recipe has.
ALPHABET = "abcdefghijklmnopqrstuvwxyz"
_THREADS = ("intraop", "interop")
_UNLIKELY = -30.0


def random_teacher(system: SystemConfig, directory: Path, seed: int) -> Run:
    """A teacher of random weights that never ends a hypothesis: each search has max_tokens steps.

    Left alone, random weights would end at once, and the search would cost next to nothing.
    """
    keras.utils.set_random_seed(seed)
    tokenizer = CharacterTokenizer(ALPHABET)
    model = Recogniser(system.model, tokenizer.vocab_size)
    bias = np.zeros(tokenizer.vocab_size, np.float32)
    bias[EOS_ID] = _UNLIKELY
    model.decoder.output_bias.assign(bias)
    directory.mkdir(parents=True)
    save_description(directory, system, tokenizer)
    save_model(model, directory / MODEL)
    return load_run(directory)


def noise_store(
    directory: Path,
    *,
    utterances: int,
    seconds: tuple[float, float],
    sample_rate_hz: int,
    shard_size: int,
    seed: int,
) -> Store:
    """A finished store of white noise; lengths are drawn evenly between the two of `seconds`."""
    names = [f"noise-{number:07d}" for number in range(utterances)]
    plan = Plan.create(UTTERANCES, names, "", {}, shard_size)
    generator = np.random.default_rng(seed)

    def record(utterance_id: str) -> UtteranceRecord:
        num_samples = round(sample_rate_hz * generator.uniform(*seconds))
        waveform = (0.1 * generator.standard_normal(num_samples)).clip(-1, 1).astype(np.float32)
        audio = encode_flac(waveform, sample_rate_hz)
        return UtteranceRecord(utterance_id, audio, num_samples, sample_rate_hz, None, None)

    with StoreWriter(directory, plan) as writer:
        for number, planned in enumerate(plan.shards):
            writer.write_shard(number, map(record, planned))
        writer.complete()
    return open_store(directory)


def surroundings() -> dict[str, Any]:
    """What `provenance` tells, and what else decides how fast the machine was."""
    threads = {name: os.environ.get(f"TF_NUM_{name.upper()}_THREADS") for name in _THREADS}
    return {
        **provenance(),
        "tensorflow_threads": {name: value or "default" for name, value in threads.items()},
        "load_average": [round(load, 1) for load in os.getloadavg()],
    }
