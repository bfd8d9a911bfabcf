"""Lines of a corpus's files, what stands in them, and how each comes to one of two lists."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfkd.corpora.utterances import Corpus, Rejection, Utterance
from tfkd.errors import ManifestError
from tfkd.storage.files import contained_path

_AUDIO_SUFFIXES = (".flac", ".wav", ".ogg", ".opus", ".mp3")
# In ids and paths: control characters, line ends, and surrogates, which UTF-8 cannot hold.
_UNUSABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True)
class Line:
    """One line of a file that is not blank, without its end."""

    path: Path
    number: int
    content: bytes

    @property
    def source(self) -> str:
        """File and number of the line."""
        return f"{self.path}:{self.number}"

    def text(self) -> str:
        """The line as text.

        Raises:
          ManifestError: if it is not UTF-8.
        """
        try:
            return self.content.decode("utf-8-sig" if self.number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise ManifestError("the line is not UTF-8", remedy="convert the file") from error

    def rejection(self, reason: str, detail: str, utterance_id: str | None = None) -> Rejection:
        """This line, or the utterance that it should have been, as one that is not used."""
        return Rejection(
            utterance_id or f"{self.path.name}:{self.number}", reason, detail, self.source
        )

    def bad(self, error: ManifestError) -> Rejection:
        """This line as one that cannot be parsed."""
        advice = f" ({error.remedy})" if error.remedy else ""
        return self.rejection("bad_line", f"{error.message}{advice}")


def lines_of(path: Path) -> Iterator[Line]:
    """The lines of a file that are not blank.

    Raises:
      ManifestError: if the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            for number, content in enumerate(file, 1):
                if content.strip():
                    yield Line(path, number, content.rstrip(b"\r\n"))
    except OSError as error:
        raise ManifestError(f"cannot read: {error.strerror or error}", path=path) from error


def collect(lines: Iterable[Line], parse: Callable[[Line], Utterance | Rejection]) -> Corpus:
    """Parses each line into one of the two lists; `parse` raises ManifestError for a bad line."""
    utterances: dict[str, Utterance] = {}
    rejections: list[Rejection] = []
    for line in lines:
        try:
            parsed = parse(line)
            if isinstance(parsed, Utterance):
                _check_id(parsed.utterance_id)
        except ManifestError as error:
            parsed = line.bad(error)
        if isinstance(parsed, Utterance) and parsed.utterance_id in utterances:
            detail = f"id {parsed.utterance_id} is used before"
            parsed = line.rejection("duplicate_id", detail, parsed.utterance_id)
        if isinstance(parsed, Rejection):
            rejections.append(parsed)
        else:
            utterances[parsed.utterance_id] = parsed
    return list(utterances.values()), rejections


def _check_id(utterance_id: str) -> None:
    if not utterance_id or _UNUSABLE.search(utterance_id):
        raise ManifestError(f"{utterance_id!r} is no usable id")


def audio_path(directory: Path, name: str) -> Path:
    """Path of an audio file that a line names."""
    if not name or _UNUSABLE.search(name):
        raise ManifestError(f"{name!r} is no usable path")
    return contained_path(directory, name)


def audio_with_any_suffix(directory: Path, stem: str, usual: str) -> Path:
    """The audio file of that name, whatever it was converted to; if missing, the usual one."""
    suffixes = (usual, *(suffix for suffix in _AUDIO_SUFFIXES if suffix != usual))
    paths = [audio_path(directory, stem + suffix) for suffix in suffixes]
    # Path.exists raises for names that no file can have.
    return next((path for path in paths if os.path.exists(path)), paths[0])


def first_word(line: Line) -> tuple[str, str]:
    """The first word of a line, and what follows it."""
    # Not every Unicode space, as str.split would: transcripts may hold others.
    word, _, rest = line.text().strip(" \t").replace("\t", " ").partition(" ")
    return word, rest.strip(" ")


def parse_seconds(name: str, value: Any) -> float:
    """A time or a duration; raises ManifestError for what is no number of seconds."""
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ManifestError(f"{name} {value!r} is not a number of seconds")
    return seconds


def check_span(start: float | None, end: float | None) -> None:
    """Raises ManifestError for an utterance that ends, in seconds, before it starts."""
    if end is not None and end <= (start or 0.0):
        raise ManifestError(f"the utterance ends at {end:g} s, before it starts")
