"""Typed errors: one line that says what is wrong, where, and what to do about it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class TfkdError(Exception):
    """Base of every error that a user can cause or mend.

    Args:
      message: what is wrong, without the location.
      path: the file or folder it is about.
      utterance_id: the utterance it is about.
      remedy: what the user can do.
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
        return " ".join(f"{where}{self.message}{advice}".split())


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
    """Workers on other machines or in other processes could not do their share."""


class CheckpointError(TfkdError):
    """A run, checkpoint or model file is missing, damaged, or of another kind."""


class LanguageModelError(TfkdError):
    """A language model cannot be read, or is not of the recogniser's units."""


class TrainingError(TfkdError):
    """Training cannot go on, for example because the loss is not finite."""


class ExportError(TfkdError):
    """A model cannot be exported, or its export does not say what Keras says."""


def did_you_mean(name: str, valid: Iterable[str], *, count: int = 1) -> str | None:
    """A remedy that gives the `count` names nearest to `name`; None if none is like it."""
    near = difflib.get_close_matches(name, valid, n=count, cutoff=0.5)
    return f"did you mean {' or '.join(map(repr, near))}?" if near else None
