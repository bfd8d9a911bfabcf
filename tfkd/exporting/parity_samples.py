"""Makes the waveforms on which exported forms are compared with Keras.

On real validation utterances a recogniser is confident, and a small error of an export changes
nothing. It shows where several sentences are about equally likely; so exports are also compared on
noise, silence, reversed speech and several speakers at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tfkd.config import ExportConfig
from tfkd.data.audio_batches import audio_batches, spread_over_lengths
from tfkd.data.sample_rates import check_rate
from tfkd.device.hypothesis import DeviceHypothesis
from tfkd.errors import ExportError
from tfkd.exporting.interface import Decode
from tfkd.records import Store

# Root mean squares: -60 dBFS is a quiet room, -20 dBFS as loud as speech.
_HISS, _NOISE = 1e-3, 0.1
_OF_EACH_KIND = 3
_PAUSE_SECONDS = 0.5
# Shorter than a word, than a frame's surroundings, and than any speech (`decoding.audible`).
_SNIPPETS_MS = (80, 60, 40, 10)
_INT16_SCALE = 32768.0


@dataclass(frozen=True)
class Sample:
    """One waveform and Keras' hypotheses for it.

    Attributes:
      name: id of the utterance, or a description of the artificial waveform.
      waveform: [N] float32.
      reference: the transcript; None for artificial waveforms and untranscribed utterances.
      is_real: whether it is a recording.
      keras: the hypotheses of Keras, best first.
    """

    name: str
    waveform: np.ndarray
    reference: str | None
    is_real: bool
    keras: Sequence[DeviceHypothesis]


def parity_samples(store: Store, rate_hz: int, config: ExportConfig, keras: Decode) -> list[Sample]:
    """Selects `config.parity_utterances` of many lengths, and makes artificial waveforms of them.

    Args:
      store: real utterances.
      rate_hz: the sample rate that they must have.
      config: number of utterances, and the longest that the forms take.
      keras: decodes with Keras.
    Raises:
      ExportError: if no utterance has a length that the forms take.
      RecordError: if they have another sample rate.
    """
    check_rate(store, rate_hz)
    comparable = [row for row in store.index if row["num_samples"] / rate_hz <= config.max_seconds]
    wanted = spread_over_lengths(comparable, config.parity_utterances)
    samples = []
    for batch in audio_batches(store, 1):
        name = batch["utterance_id"][0].numpy().decode()
        if name in wanted:
            waveform = batch["waveform"][0].numpy()
            text = batch["text"][0].numpy().decode() if batch["has_text"][0] else None
            samples.append(Sample(name, waveform, text, True, ask(keras, waveform)))
    if not samples:
        raise ExportError(
            f"parity needs an utterance of at most {config.max_seconds:g} s",
            path=store.directory,
            remedy="give --parity-data with such utterances",
        )
    longest = round(config.max_seconds * rate_hz)
    for name, waveform in _made(samples, rate_hz):
        waveform = waveform[:longest].astype(np.float32)
        samples.append(Sample(name, waveform, None, False, ask(keras, waveform)))
    return samples


def ask(decode: Decode, waveform: np.ndarray) -> Sequence[DeviceHypothesis]:
    """Decodes one waveform [N]."""
    (hypotheses,) = decode(waveform[np.newaxis], np.array([waveform.size], np.int32))
    return hypotheses


def _made(real: Sequence[Sample], rate_hz: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yields artificial waveforms with their names; the same for the same utterances."""
    generator = np.random.default_rng(0)

    def noise(loudness: float, samples: int) -> np.ndarray:
        return loudness * generator.standard_normal(samples)

    yield "silence", np.zeros(rate_hz)
    yield "hiss", noise(_HISS, rate_hz)
    yield "noise", noise(_NOISE, 2 * rate_hz)
    pause = round(_PAUSE_SECONDS * rate_hz)
    # Utterances of different lengths; the second of a pair differs if there are at least two.
    picks = np.unique(np.linspace(0, len(real) - 1, _OF_EACH_KIND).round().astype(int))
    for place, pick in enumerate(picks):
        one, other = real[pick], real[picks[(place + 1) % len(picks)]]
        name, waveform, second = one.name, one.waveform, other.waveform
        yield f"{name} backwards", waveform[::-1]
        yield f"{name} in noise", waveform + noise(waveform.std(), waveform.size)
        yield f"{name} after a pause", np.concatenate([noise(_HISS, 3 * pause), waveform])
        together = min(waveform.size, second.size)
        yield f"{name} and {other.name} at once", waveform[:together] + second[:together]
        yield (
            f"{name} and {other.name} joined",
            np.concatenate([waveform, noise(_HISS, pause), second]),
        )
    loudest = np.abs(real[0].waveform).argmax()
    for milliseconds in _SNIPPETS_MS:
        snippet = real[0].waveform[loudest:][: round(milliseconds / 1000 * rate_hz)]
        yield f"{milliseconds} ms", snippet
    yield "an offset", np.full(rate_hz // 100, real[0].waveform[loudest])
    yield "unscaled int16", _INT16_SCALE * real[0].waveform
