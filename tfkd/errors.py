"""Typed errors: one line that says what is wrong, where, and what to do about it."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Iterator
from pathlib import Path


class TfkdError(Exception):
    """Base of every error that a user can cause or fix; its text is one line.

    Args:
      message: what is wrong, without the location.
      path: the file or folder in question.
      utterance_id: the utterance in question.
      remedy: what the user can do.

    >>> print(TfkdError("is empty", path="a.wav", remedy="record it again"))
    a.wav: is empty (record it again)
    """

    def __init__(
        self,
        message: str,
        *,
        path: str | Path | None = None,
        utterance_id: str | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.path = path
        self.utterance_id = utterance_id
        self.remedy = remedy

    def __str__(self) -> str:
        where = "".join(
            f"{place}: "
            for place in (self.path, self.utterance_id and f"utterance {self.utterance_id}")
            if place
        )
        advice = f" ({self.remedy})" if self.remedy else ""
        line = " ".join(f"{where}{self.message}{advice}".split())
        # Names of files need not be UTF-8, but what is printed must be.
        return line.encode(errors="backslashreplace").decode()


@contextlib.contextmanager
def advising(remedy: str) -> Iterator[None]:
    """Gives the errors of a block a remedy, where they have none of their own.

    It decorates a function, too, all errors of which have one remedy.

    >>> with advising("copy the folder again"):
    ...     raise CheckpointError("is damaged", path="whisper")
    Traceback (most recent call last):
    tfkd.errors.CheckpointError: whisper: is damaged (copy the folder again)
    """
    try:
        yield
    except TfkdError as error:
        error.remedy = error.remedy or remedy
        raise


class ConfigError(TfkdError):
    """A setting is unknown, of the wrong type, or contradicts another."""


class ManifestError(TfkdError):
    """A corpus description (manifest, Kaldi directory, TSV, CSV) cannot be read."""


class AudioError(TfkdError):
    """Audio cannot be decoded, or is unusable."""


class TextError(TfkdError):
    """A transcript cannot be normalised or tokenised."""


class RecordError(TfkdError):
    """A store of TFRecord shards is incomplete, damaged, or made by another plan."""


class BusyError(RecordError):
    """Another process is writing into the folder."""


class ClusterError(TfkdError):
    """Workers on other machines or in other processes failed."""


class CheckpointError(TfkdError):
    """A run, checkpoint or model file is missing, damaged, or of another kind."""


class LanguageModelError(TfkdError):
    """A language model cannot be read, or has other units than the recogniser."""


class TrainingError(TfkdError):
    """Training cannot begin or continue, for example because the loss is not finite."""


class ExportError(TfkdError):
    """A model cannot be exported, or its export differs from Keras."""


def did_you_mean(name: str, valid: Iterable[str], *, count: int = 1) -> str | None:
    """Makes a remedy of the `count` names most similar to `name`; None if none is similar.

    >>> did_you_mean("beam_with", ["beam_width", "num_hypotheses"])
    "did you mean 'beam_width'?"
    """
    near = difflib.get_close_matches(name, valid, n=count, cutoff=0.5)
    return f"did you mean {' or '.join(map(repr, near))}?" if near else None
