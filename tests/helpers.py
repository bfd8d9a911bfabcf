"""Small recognisers and batches that several tests share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfkd.config import (
    AttentionConfig,
    DecoderConfig,
    EncoderConfig,
    FrontendConfig,
    ModelConfig,
    SpecAugmentConfig,
)
from tfkd.models.recogniser import Recogniser
from tfkd.text import EOS_ID, FIRST_PIECE_ID, PAD_ID, CharacterTokenizer

ALPHABET = " abcd"
VOCAB_SIZE = FIRST_PIECE_ID + len(ALPHABET)
# Windows of 200 samples every 80, so that a fraction of a second is enough for many frames.
FRONTEND = FrontendConfig(sample_rate_hz=8000, num_mels=8, max_hz=4000.0)


def tiny_config(
    *,
    cell: str = "lstm",
    attention: str = "additive",
    reduction: str = "conv",
    ctc: bool = True,
    delta_orders: int = 0,
) -> ModelConfig:
    """A model of some thousand weights that halves time twice."""
    return ModelConfig(
        frontend=FrontendConfig(
            sample_rate_hz=8000, num_mels=8, max_hz=4000.0, delta_orders=delta_orders
        ),
        spec_augment=SpecAugmentConfig(max_frequency_width=2),
        encoder=EncoderConfig(
            reduction=reduction,
            time_reduction=4,
            conv_units=7,
            cell=cell,
            layers=3 if reduction == "pyramid" else 2,
            units=5,
        ),
        attention=AttentionConfig(kind=attention, units=6, location_filters=3, location_width=5),
        decoder=DecoderConfig(cell=cell, units=9, embedding_units=4),
        ctc=ctc,
    )


def tokenizer() -> CharacterTokenizer:
    """The vocabulary of `tiny_config` models: 4 special tokens and 5 characters."""
    return CharacterTokenizer(ALPHABET)


def tiny_model(seed: int = 0, gain: float = 3.0, **combination) -> Recogniser:
    """A random Recogniser whose every weight matters; the greater `gain`, the surer it is."""
    model = Recogniser(tiny_config(**combination), VOCAB_SIZE)
    randomise(model.trainable_variables, seed=seed, gain=gain)
    rng = np.random.default_rng(seed)
    features = model.frontend.num_features
    # About where the log energies of `random_batch` lie.
    model.frontend.set_statistics(rng.normal(size=features), rng.uniform(2.0, 3.0, features))
    return model


def randomise(variables, *, seed: int = 0, gain: float = 1.0) -> None:
    """Draws matrices with a standard deviation of gain / sqrt(inputs), and vectors with 1/2."""
    rng = np.random.default_rng(seed)
    for variable in variables:
        deviation = gain / np.sqrt(np.prod(variable.shape[:-1]))
        value = rng.normal(size=variable.shape) * (deviation if len(variable.shape) > 1 else 0.5)
        # The scale of a normalisation starts at one; about zero it would hide its inputs.
        variable.assign(1 + np.abs(value) if variable.name == "gamma" else value)


@dataclass(frozen=True)
class Batch:
    """Utterances of different lengths with K hypotheses of U tokens each."""

    waveform: np.ndarray  # [B, N] float32, zero beyond each end
    num_samples: np.ndarray  # [B] int32
    token_ids: np.ndarray  # [B, K, U] int32, ending with eos, padded with pad

    def inputs(self) -> dict[str, tf.Tensor]:
        """What `Recogniser.call` reads."""
        return {name: tf.constant(value) for name, value in vars(self).items()}

    def row(self, index: int) -> Batch:
        """One utterance alone, without its padding."""
        end = self.num_samples[index]
        one = slice(index, index + 1)
        return Batch(self.waveform[one, :end], self.num_samples[one], self.token_ids[one])

    def padded(self, samples: int, value: float = 0.0) -> Batch:
        """The same batch with `samples` more samples of padding, and `value` in all of it."""
        waveform = np.pad(self.waveform, [(0, 0), (0, samples)])
        waveform[np.arange(waveform.shape[1]) >= self.num_samples[:, None]] = value
        return Batch(waveform, self.num_samples, self.token_ids)


def random_batch(
    seconds: tuple[float, ...] = (0.24, 0.13, 0.2), hypotheses: int = 1, seed: int = 0
) -> Batch:
    """Noise whose colour and loudness change over time, and random token sequences."""
    rng = np.random.default_rng(seed)
    num_samples = np.array([round(8000 * s) for s in seconds], np.int32)
    waveform = np.zeros((len(seconds), num_samples.max()), np.float32)
    for row, samples in enumerate(num_samples):
        waveform[row, :samples] = _sounds(rng, samples)
    return Batch(waveform, num_samples, random_token_ids(rng, len(seconds), hypotheses))


def _sounds(rng: np.random.Generator, samples: int) -> np.ndarray:
    seconds = np.arange(samples) / 8000
    tone = np.sin(2 * np.pi * rng.uniform(200, 3000) * seconds + rng.uniform(0, 6))
    loudness = np.abs(np.sin(2 * np.pi * rng.uniform(1, 4) * seconds))
    return (0.3 * loudness * tone + 0.05 * rng.normal(size=samples)).astype(np.float32)


def random_token_ids(
    rng: np.random.Generator, batch: int, hypotheses: int, longest: int = 6
) -> np.ndarray:
    """[B, K, longest] int32: pieces, then eos, then pad; the first has the full length."""
    token_ids = np.full((batch, hypotheses, longest), PAD_ID, np.int32)
    for index in np.ndindex(batch, hypotheses):
        pieces = longest - 1 if not any(index) else int(rng.integers(1, longest))
        token_ids[index][:pieces] = rng.integers(FIRST_PIECE_ID, VOCAB_SIZE, pieces)
        token_ids[index][pieces] = EOS_ID
    return token_ids
