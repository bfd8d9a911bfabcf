"""Loads language models for shallow fusion; a search needs only their `Scorer`."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import tensorflow as tf

from tfkd.beam_search import Scorer
from tfkd.errors import LanguageModelError
from tfkd.language_models.ngram import load_ngram_model
from tfkd.language_models.rnn import load_recurrent_model
from tfkd.storage.files import sha256
from tfkd.storage.keras_files import MODEL
from tfkd.text import Tokenizer


class LanguageModel(Protocol):
    """The interface of a language model: a search needs its scorer."""

    def scorer(self, weight: float | tf.Tensor, batch_size: int | tf.Tensor) -> Scorer:
        """Returns what a beam search over `batch_size` utterances needs of the model."""
        ...


def load_language_model(path: str | Path, tokenizer: Tokenizer) -> LanguageModel:
    """Reads a language model over the units of `tokenizer`.

    Args:
      path: folder that `tfkd train-lm` wrote, or ARPA file (also .gz).
    Raises:
      LanguageModelError: if it is neither, is damaged, or is of other units.
    """
    path = _checked(path)
    if path.is_dir():
        return load_recurrent_model(path, tokenizer)
    return load_ngram_model(path, tokenizer)


def language_model_sha256(path: str | Path) -> str:
    """Returns the sha256 of the file of a language model, which identifies it.

    Raises:
      LanguageModelError: if there is none.
    """
    path = _checked(path)
    return sha256(path / MODEL if path.is_dir() else path)


def _checked(path: str | Path) -> Path:
    path = Path(path)
    if not path.exists():
        raise LanguageModelError(
            "no such language model",
            path=path,
            remedy="give the folder that tfkd train-lm wrote, or an ARPA file",
        )
    if path.is_dir() and not (path / MODEL).is_file():
        raise LanguageModelError(
            f"holds no language model: {MODEL} is missing",
            path=path,
            remedy="give the folder that tfkd train-lm wrote, or an ARPA file",
        )
    return path
