"""Reads the lines of a corpus's files, and sorts them into utterances and rejections."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import math
import os
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, cast
from urllib.parse import unquote

from tfkd.corpora.utterances import Corpus, Rejection, Utterance
from tfkd.errors import ManifestError
from tfkd.storage.files import contained_path

_GZIP = b"\x1f\x8b"
# No line of a manifest is longer; a file without line ends, such as audio, is one line.
_MAX_LINE_BYTES = 1 << 24
SIDES = {"A": 0, "LEFT": 0, "B": 1, "RIGHT": 1}
# A part of a file: its path, start and end in seconds, and channel.
_Place = tuple[Path, float | None, float | None, int | None]

_FILE_ADDRESS = "file://"
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
# What is not read among these is named for what it is when its audio is opened.
AUDIO_SUFFIXES = (
    ".flac", ".wav", ".ogg", ".opus", ".mp3", ".wave", ".oga", ".au", ".snd", ".caf", ".aif",
    ".aiff", ".aifc", ".w64", ".rf64", ".sph", ".nist", ".voc", ".m4a", ".m4b", ".mp4", ".aac",
    ".ac3", ".amr", ".3gp", ".wma", ".webm", ".mp2", ".mpga", ".mka", ".wv", ".ape", ".spx", ".tta",
)  # fmt: skip
# In ids and paths: control characters, line ends, and surrogates, which UTF-8 cannot hold.
_UNUSABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
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
        """The rejection of this line, or of the utterance that it describes."""
        return Rejection(
            utterance_id or f"{self.path.name}:{self.number}", reason, detail, self.source
        )

    def bad(self, error: ManifestError, utterance_id: str | None = None) -> Rejection:
        """The rejection of this line as one that cannot be parsed, with its id if it is known."""
        return self.rejection("bad_line", f"{error.message} ({error.remedy})", utterance_id)


def lines_of(path: Path) -> Iterator[Line]:
    """Yields the lines of a file, or of the file that a gzip file holds, that are not blank.

    Raises:
      ManifestError: if the file cannot be read, or a line is longer than 16 MiB.
    """
    try:
        with _opened(path) as file:
            for number in itertools.count(1):
                content = file.readline(_MAX_LINE_BYTES)
                if not content:
                    return
                if len(content) == _MAX_LINE_BYTES:
                    raise ManifestError(
                        f"line {number} is longer than {_MAX_LINE_BYTES} bytes",
                        path=path,
                        remedy="name a manifest: this looks like another kind of file",
                    )
                if content.strip():
                    yield Line(path, number, content.rstrip(b"\r\n"))
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ManifestError(
            f"cannot read: {reason}", path=path, remedy="check its permissions, or copy it again"
        ) from error


def content_of(path: Path, most: int) -> bytes | None:
    """Reads a file, or unpacks a gzip file; None if it holds more than `most` bytes.

    Raises:
      ManifestError: if the file cannot be read.
    """
    try:
        with _opened(path) as file:
            content = file.read(most + 1)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ManifestError(
            f"cannot read: {reason}", path=path, remedy="check its permissions, or copy it again"
        ) from error
    return content if len(content) <= most else None


def _opened(path: Path) -> IO[bytes]:
    with open(path, "rb") as file:
        is_packed = file.read(2) == _GZIP
    return cast(IO[bytes], gzip.open(path, "rb")) if is_packed else open(path, "rb")


def collect(
    lines: Iterable[Line],
    parse: Callable[[Line], Utterance | Rejection],
    root: Path | None = None,
) -> Corpus:
    """Parses each line into an utterance or a rejection.

    Args:
      parse: raises ManifestError for a bad line; an utterance whose id is "" gets one of its file:
        its name without the suffix or, where several files or parts would share that, its path
        from `root` and the part.
    """
    # A line is kept for its number, not for its content, which is as large as the manifest.
    parsed = [(replace(line, content=b""), _parsed(line, parse)) for line in lines]
    made = _made_ids([item for _, item in parsed if isinstance(item, Utterance)], root)
    utterances: dict[str, Utterance] = {}
    rejections: list[Rejection] = []
    for line, item in parsed:
        if isinstance(item, Utterance):
            utterance_id = item.utterance_id or made[_place(item)]
            if utterance_id in utterances:
                detail = f"the id {utterance_id} was used before (give each utterance its own)"
                item = line.rejection("duplicate_id", detail, utterance_id)
            else:
                utterances[utterance_id] = replace(item, utterance_id=utterance_id)
        if isinstance(item, Rejection):
            rejections.append(item)
    return list(utterances.values()), rejections


def _parsed(line: Line, parse: Callable[[Line], Utterance | Rejection]) -> Utterance | Rejection:
    try:
        item = parse(line)
        if isinstance(item, Utterance):
            check_id(item.utterance_id or item.audio.stem)
    except ManifestError as error:
        return line.bad(error)
    return item


def _place(utterance: Utterance) -> _Place:
    return utterance.audio, utterance.start_seconds, utterance.end_seconds, utterance.channel


def _made_ids(utterances: Iterable[Utterance], root: Path | None) -> dict[_Place, str]:
    """Makes an id for each part of a file that an utterance without an id consists of."""
    each_used = list(utterances)
    taken = {each.utterance_id for each in each_used}
    left = list(dict.fromkeys(_place(each) for each in each_used if not each.utterance_id))
    made: dict[_Place, str] = {}
    for name in (_stem, _path_and_part, _all_of):
        names = {place: name(place, root) for place in left}
        sharing = Counter(names.values())
        # The longest name is given to whatever is left.
        made |= {
            place: found
            for place, found in names.items()
            if name is _all_of or (sharing[found] == 1 and found not in taken)
        }
        left = [place for place in left if place not in made]
        taken |= set(made.values())
    return made


def _stem(place: _Place, root: Path | None) -> str:
    return place[0].stem


def _path_and_part(place: _Place, root: Path | None) -> str:
    path, start, end, channel = place
    span = "" if start is None and end is None else f"-{start or 0.0:.2f}"
    span += "" if end is None else f"-{end:.2f}"
    seen = _seen_from(root, path)
    name = seen.with_suffix("") if seen.name else seen  # The folder itself has no name.
    return str(name) + span + _channel_part(channel)


def _all_of(place: _Place, root: Path | None) -> str:
    path, start, end, channel = place
    span = "" if start is None and end is None else f"-{start or 0.0!r}"
    span += "" if end is None else f"-{end!r}"
    return str(_seen_from(root, path)) + span + _channel_part(channel)


def _channel_part(channel: int | None) -> str:
    return "" if channel is None else f"-channel{channel}"


def _seen_from(root: Path | None, path: Path) -> Path:
    if root is not None and path.is_relative_to(root):
        return path.relative_to(root)
    return path.relative_to(path.anchor)


def check_id(utterance_id: str) -> None:
    """Raises ManifestError for an id that could not be printed or stored."""
    if not utterance_id or _UNUSABLE.search(utterance_id):
        raise ManifestError(
            f"{utterance_id!r} is no usable id",
            remedy="give one, without line ends and control characters",
        )


def audio_path(directory: Path, name: str) -> Path:
    """Returns the path of an audio file that a line names."""
    if not name or _UNUSABLE.search(name):
        raise ManifestError(
            f"{name!r} is no usable path",
            remedy="name the audio file in UTF-8, without line ends and control characters",
        )
    if name.startswith(_FILE_ADDRESS):
        return contained_path(directory, unquote(name.removeprefix(_FILE_ADDRESS)))
    if _ADDRESS.match(name):
        raise ManifestError(f"{name} is an address, not a file", remedy="fetch it")
    return contained_path(directory, name)


def found_path(directory: Path, name: str, plain: str | None = None) -> Path:
    """Path of an audio file that lies where its line says, seen from one of two folders.

    Args:
      name: seen from `directory`.
      plain: seen from the working folder, which Kaldi and lhotse mean; None: as `name`.
    Returns:
      The first of the two that is there; if none is, that in `directory`.
    """
    path = audio_path(directory, name)
    if os.path.exists(path):
        return path
    for spelling in _spellings(name):
        if os.path.exists(other := audio_path(directory, spelling)):
            return other
    for spelling in _spellings(name if plain is None else plain):
        with contextlib.suppress(ManifestError):
            if os.path.exists(here := audio_path(Path.cwd(), spelling)):
                return here
    return path


def _spellings(name: str) -> dict[str, None]:
    """A name, and how other systems write it: macOS takes accents apart, Windows has its own /."""
    forms = (name, name.strip(), name.replace("\\", "/"))
    accents = (unicodedata.normalize(form, name) for form in ("NFC", "NFD"))
    return dict.fromkeys(each for each in (*forms, *accents) if each)


def audio_with_any_suffix(directory: Path, stem: str, usual: str) -> Path:
    """Finds the audio file of a name with any audio suffix; if missing, that of the usual one."""
    expected = audio_path(directory, stem + usual)
    if os.path.exists(expected):  # Path.exists raises for names that no file can have.
        return expected
    spellings = (spelling for each in AUDIO_SUFFIXES for spelling in (each, each.upper()))
    paths = (audio_path(directory, stem + suffix) for suffix in spellings)
    return next((path for path in paths if os.path.exists(path)), expected)


def first_word(line: Line) -> tuple[str, str]:
    """Splits a line into its first word and the rest."""
    # Not every Unicode space, as str.split would: transcripts may hold others.
    word, _, rest = line.text().strip(" \t").replace("\t", " ").partition(" ")
    return word, rest.strip(" ")


def parse_seconds(name: str, value: Any) -> float:
    """Reads a time or a duration; raises ManifestError for what is no number of seconds."""
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ManifestError(
            f"{name} {value!r} is not a number of seconds", remedy="write it like 2.5, from 0 on"
        )
    return seconds


def parse_channel(value: Any) -> int:
    """Reads a channel, counted from 0; raises ManifestError for what is none."""
    if isinstance(value, float) and value.is_integer():  # pandas makes floats of whole columns.
        value = int(value)
    text = str(value).strip()
    if text.upper() in SIDES:
        return SIDES[text.upper()]
    if isinstance(value, bool) or not text.isascii() or not text.isdigit():
        raise ManifestError(
            f"channel {value!r} is not a whole number from 0 on",
            remedy="count channels from 0, or call them A and B",
        )
    return int(text[:9])


def check_span(start: float | None, end: float | None) -> None:
    """Raises ManifestError for an utterance that ends, in seconds, before it starts."""
    if end is not None and end <= (start or 0.0):
        raise ManifestError(
            f"the utterance ends at {end:g} s, before it starts",
            remedy="give a time after its start, not a duration",
        )
