"""Measures what each optimisation of the decoder's step saves, by undoing one at a time.

    python benchmarks/decoder_step.py

Times 100 steps of 16 utterances with 10 hypotheses each, over encodings of 10 s, on one thread,
variants in turn in one process. Figures are CPU milliseconds a step, and their ratio to the step
as it is.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import keras
import tensorflow as tf
import timed_process
from feature_recogniser import FeatureRecogniser
from sizes import BATCH, BEAM_WIDTH, FRAMES, SIZES, TOKENS, VOCABULARY
from tqdm import tqdm

from tfkd.environment import provenance
from tfkd.models.decoders.attention_rnn import AttentionDecoder, DecoderMemory, DecoderState
from tfkd.reporting.tables import table
from tfkd.storage.files import write_json

Run = Callable[[], tf.Tensor]
HYPOTHESES = BATCH * BEAM_WIDTH


def steps_of(
    decoder: AttentionDecoder,
    encoded: tf.Tensor,
    memory_of_step: Callable[[DecoderMemory, DecoderState], DecoderMemory] = lambda m, _: m,
    **compiling: bool,
) -> Run:
    """TOKENS greedy steps; memory_of_step says what a step makes of what is known before it."""

    @tf.function(autograph=False, **compiling)
    def run(encoded: tf.Tensor) -> tf.Tensor:
        memory = decoder.memory(encoded, tf.fill(encoded.shape[:1], encoded.shape[1]))

        def body(step, token_ids, state):
            logits, state = decoder.step(token_ids, state, memory_of_step(memory, state))
            return step + 1, tf.argmax(logits, -1, tf.int32), state

        first = tf.nest.map_structure(
            lambda x: tf.repeat(x, HYPOTHESES // encoded.shape[0], 0),
            decoder.initial_state(encoded, TOKENS),
        )
        loop = (0, tf.zeros([HYPOTHESES], tf.int32), first)
        return tf.while_loop(lambda step, *_: step < TOKENS, body, loop)[1]

    run.get_concrete_function(encoded)
    return lambda: run(encoded)


def variants(size: str) -> dict[str, Run]:
    """The step of SIZES[size] as it is, and with one trait undone at a time."""
    decoder = FeatureRecogniser(SIZES[size], VOCABULARY).decoder
    location = FeatureRecogniser(SIZES[size], VOCABULARY, "location").decoder
    gates = 4 * SIZES[size].decoder_units
    encoded = tf.random.normal([BATCH, FRAMES // 8, decoder.encoded_units], seed=0)
    tiled = tf.repeat(encoded, BEAM_WIDTH, 0)
    lengths = tf.fill([HYPOTHESES], tiled.shape[1])
    rows = tf.range(HYPOTHESES)

    def narrow(memory: DecoderMemory, _: DecoderState) -> DecoderMemory:
        kernel, tokens = memory.gate_kernel[:, :gates], memory.token_gates[:, :gates]
        return memory._replace(gate_kernel=kernel, token_gates=tokens)

    def gathered(memory: DecoderMemory, _: DecoderState) -> DecoderMemory:
        attention = memory.attention
        encoded, odds = (tf.gather(x, rows) for x in (attention.encoded, attention.odds))
        return memory._replace(attention=attention._replace(encoded=encoded, odds=odds))

    def by_tanh(memory: DecoderMemory, _: DecoderState) -> DecoderMemory:
        return memory._replace(attention=memory.attention._replace(odds=None))

    def projected(memory: DecoderMemory, state: DecoderState) -> DecoderMemory:
        values = memory.attention.encoded + 0.0 * state.hidden[0, 0]
        attention = decoder.attention.memory(values, lengths)
        return memory._replace(attention=attention)

    product = tf.matmul

    def spread(left: tf.Tensor, right: tf.Tensor, **options: bool) -> tf.Tensor:
        return left * right if left.shape[-1] == 1 else product(left, right, **options)

    with mock.patch("tensorflow.matmul", spread):
        broadcast = steps_of(decoder, encoded)
    with mock.patch("tfkd.layers.attention._GROUPS", 1):
        at_once = steps_of(decoder, encoded)
    return {
        "as it is": steps_of(decoder, encoded),
        "gate kernel not widened": steps_of(decoder, encoded, narrow),
        "energies by tanh": steps_of(decoder, encoded, by_tanh),
        "odds met by broadcasting": broadcast,
        "energies of all utterances at once": at_once,
        "encodings copied for each hypothesis": steps_of(decoder, tiled),
        "and gathered at each step": steps_of(decoder, tiled, gathered),
        "and keys computed at each step": steps_of(decoder, tiled, projected),
        "as it is, compiled by XLA": steps_of(decoder, encoded, jit_compile=True),
        "location-aware attention": steps_of(location, encoded),
    }


def measure(runs: dict[str, Run], rounds: int) -> dict[str, float]:
    """Median CPU milliseconds of a step, by variant."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for _ in tqdm(range(rounds), desc="rounds", disable=None):
        for name, run in runs.items():
            start = time.process_time()
            run().numpy()
            seconds[name].append(time.process_time() - start)
    return {name: 1000 * statistics.median(each) / TOKENS for name, each in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", default="benchmarks/results/decoder_step.json")
    options = parser.parse_args()
    timed_process.limit_threads(1)
    keras.utils.set_random_seed(0)
    results = {size: measure(variants(size), options.rounds) for size in SIZES}
    write_json(Path(options.out), {**provenance(), "cpu_milliseconds_a_step": results})
    for size, by_name in results.items():
        base = by_name["as it is"]
        rows = [[name, f"{ms:.2f}", f"{ms / base:.2f}"] for name, ms in by_name.items()]
        print(table([size, "CPU ms a step", "to as it is"], rows))


if __name__ == "__main__":
    main()
