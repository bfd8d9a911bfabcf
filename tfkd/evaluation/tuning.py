"""Chooses decoding settings by the word error rate on a validation set."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import tensorflow as tf

from tfkd.config import DecodingConfig, FusionConfig, with_overrides
from tfkd.data.audio_batches import audio_batches
from tfkd.decoding.decoder import Decoder, FusionWeights
from tfkd.decoding.defaults import resolved
from tfkd.decoding.results import decoded_batch
from tfkd.decoding.runs import Run
from tfkd.evaluation.evaluate import check_transcripts
from tfkd.metrics import ErrorRate, score
from tfkd.progress import progress_bar
from tfkd.records import Store


@dataclass(frozen=True)
class Trial:
    """One combination of settings and its error rate.

    Attributes:
      overrides: "key=value" each, as `Run.with_decoding` takes them.
    """

    overrides: tuple[str, ...]
    rate: ErrorRate


def tune(run: Run, store: Store, grid: Mapping[str, Sequence[str]]) -> list[Trial]:
    """Decodes `store` with every combination of the grid.

    Args:
      run: its decoding settings apply to everything that is not in the grid.
      store: utterances with transcripts.
      grid: the values to try of each setting, as YAML, by its key, such as "fusion.lm_weight".
    Returns:
      The trials, lowest WER first. At equal WER the earlier in the grid comes first, so a setting
      that does not help keeps the value that was named first.
    Raises:
      ConfigError: if a setting is unknown, or a combination invalid; before anything is decoded.
      TfkdError: if no utterance has a transcript.
    """
    check_transcripts(store)
    # Check all of them before the first is decoded.
    combinations = combinations_of(run, grid)
    overrides, configs = [*combinations], [*combinations.values()]
    batches = audio_batches(store, run.system.training.batch_size)
    trials: list[Trial | None] = [None] * len(configs)
    with progress_bar(total=len(configs), desc="tune", unit="setting") as bar:
        for places in _alike(configs):
            decoder = Decoder(run.model, run.tokenizer, _with_most(configs, places))
            search = _search(decoder)
            for place in places:
                rate = _error_rate(decoder, search, configs[place].fusion, batches)
                trials[place] = Trial(overrides[place], rate)
                bar.update()
    return sorted(filter(None, trials), key=lambda trial: trial.rate.wer)


def combinations_of(
    run: Run, grid: Mapping[str, Sequence[str]]
) -> dict[tuple[str, ...], DecodingConfig]:
    """The settings of each combination of a grid, by its overrides.

    Raises:
      ConfigError: if a setting is unknown, or a combination invalid.
    """
    return {
        overrides: resolved(with_overrides(run.system.decoding, overrides), run.system)
        for values in itertools.product(*grid.values())
        for overrides in [tuple(f"{key}={value}" for key, value in zip(grid, values, strict=True))]
    }


def _alike(configs: Sequence[DecodingConfig]) -> Iterator[list[int]]:
    """Groups the places of configs that differ in fusion weights alone.

    The weights are tensors in the search, so a group needs one trace.
    """
    groups: dict[DecodingConfig, list[int]] = {}
    for place, config in enumerate(configs):
        fusion = dataclasses.replace(config.fusion, lm_weight=0.0, ctc_weight=0.0)
        groups.setdefault(dataclasses.replace(config, fusion=fusion), []).append(place)
    yield from groups.values()


def _with_most(configs: Sequence[DecodingConfig], places: Sequence[int]) -> DecodingConfig:
    """One of the configs with the largest weight of each scorer, 0 if none of them uses it."""
    fusions = [configs[place].fusion for place in places]
    fusion = dataclasses.replace(
        fusions[0],
        lm_weight=max(fusion.lm_weight for fusion in fusions),
        ctc_weight=max(fusion.ctc_weight or 0.0 for fusion in fusions),
    )
    return dataclasses.replace(configs[places[0]], fusion=fusion)


def _search(decoder: Decoder) -> tf.types.experimental.PolymorphicFunction:
    """Traces a function (waveform, num_samples, lm_weight, ctc_weight) -> BeamResult."""
    most = decoder.config.fusion

    def search(waveform, num_samples, lm_weight, ctc_weight):
        weights = FusionWeights(
            lm_weight if most.lm_weight else 0.0, ctc_weight if most.ctc_weight else 0.0
        )
        return decoder.search(waveform, num_samples, weights)

    signature = [
        tf.TensorSpec([None, None], tf.float32),
        tf.TensorSpec([None], tf.int32),
        tf.TensorSpec([], tf.float32),
        tf.TensorSpec([], tf.float32),
    ]
    return tf.function(search, input_signature=signature, autograph=False)


def _error_rate(decoder: Decoder, search, fusion: FusionConfig, batches) -> ErrorRate:
    references, hypotheses = [], []
    weights = tf.constant(fusion.lm_weight), tf.constant(fusion.ctc_weight or 0.0)
    for batch in batches:
        result = search(batch["waveform"], batch["num_samples"], *weights)
        for each in decoded_batch(result, decoder.tokenizer, batch):
            if each.reference is not None:
                references.append(each.reference)
                hypotheses.append(each.best_text)
    return score(references, hypotheses)
