"""Settings of a recurrent language model and its training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tfkd.config.bounds import number
from tfkd.config.model import DEEPEST


@dataclass(frozen=True)
class RecurrentConfig:
    """The architecture of a recurrent language model, without its vocabulary."""

    cell: Literal["lstm", "gru"] = "lstm"
    layers: int = number(1, at_least=1, at_most=DEEPEST)
    units: int = number(256, at_least=1)
    embedding_units: int = number(64, at_least=1)
    dropout: float = number(0.0, at_least=0, below=1)


@dataclass(frozen=True)
class LanguageModelTrainingConfig:
    """Settings of `tfkd train-lm`.

    Attributes:
      patience: number of epochs without a lower perplexity after which training ends.
      checkpoint_minutes: time between checkpoints within an epoch.
    """

    epochs: int = number(20, at_least=1)
    batch_size: int = number(32, at_least=1)
    learning_rate: float = number(2e-3, above=0)
    clip_norm: float = number(5.0, at_least=0)
    patience: int = number(3, at_least=1)
    checkpoint_minutes: float = number(10.0, at_least=0)
    seed: int = number(0, at_least=0)


@dataclass(frozen=True)
class LanguageModelConfig:
    """One language model; its tokenizer is that of the recogniser that uses it."""

    model: RecurrentConfig = field(default_factory=RecurrentConfig)
    training: LanguageModelTrainingConfig = field(default_factory=LanguageModelTrainingConfig)
