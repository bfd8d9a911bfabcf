"""Reads the ARPA format of n-gram language models, as KenLM, SRILM and others write it."""

from __future__ import annotations

import gzip
import io
import itertools
import logging
import math
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, cast

from tfkd.errors import LanguageModelError

_LOG = logging.getLogger("tfkd")

# No more digits than a 64-bit number has: Python refuses to convert thousands of them.
_COUNT = re.compile(r"ngram\s+(\d{1,18})\s*=\s*(\d{1,18})$")
_HEADER = re.compile(r"\\(\d{1,18})-grams:$")
_NATURAL = math.log(10.0)
# Toolkits write this for a probability of zero.
_LEAST_LOG10 = -99.0

# A search takes a step of the graph for each order; toolkits stop at 6 to 9.
_HIGHEST_ORDER = 16
# The longest n-grams have about a hundred bytes. A compressed file of a few megabytes can unpack to
# one line, or to line ends alone, of gigabytes.
_LONGEST_LINE = 1 << 16
_MOST_BYTES = 1 << 29
_MOST_OTHER_LINES = 10_000

_GZIP = b"\x1f\x8b"
_UNPACK = "unpack it: .arpa and .arpa.gz are read"
_CORRECT = "correct the line, or write the model again"
# Characters of a line in an error.
_SHOWN = 80
_WRITE_TEXT = "give the ARPA file that it was made from"
# The first bytes of files that are taken for ARPA files -> what they are, and what to do.
_OTHER_FORMATS = {
    b"mmap lm http://kheafield.com/code": ("a KenLM binary", _WRITE_TEXT),
    b"SRILM_BINARY_NGRAM": ("an SRILM binary", "write it as text: ngram -lm FILE -write-lm OUT"),
    b"blmt": ("an IRSTLM binary", "write it as text: compile-lm --text=yes FILE OUT"),
    b"Qblmt": ("a quantised IRSTLM binary", _WRITE_TEXT),
    b"qARPA": ("a quantised IRSTLM file", _WRITE_TEXT),
    b"iARPA": ("an intermediate IRSTLM file", "write it as text: compile-lm --text=yes FILE OUT"),
    _GZIP: ("packed with gzip twice", "unpack it once"),
    b"BZh": ("a bzip2 file", _UNPACK),
    b"\xfd7zXZ\x00": ("an xz file", _UNPACK),
    b"\x28\xb5\x2f\xfd": ("a zstd file", _UNPACK),
    b"PK\x03\x04": ("a zip file", _UNPACK),
    b"\xff\xfe": ("a UTF-16 file", "convert it to UTF-8"),
    b"\xfe\xff": ("a UTF-16 file", "convert it to UTF-8"),
}

Lines = Iterator[tuple[int, str]]


class Entry(NamedTuple):
    """The values of one n-gram in an ARPA file, in natural logarithms."""

    log_prob: float  # of its last word after the others
    backoff: float  # added where a longer n-gram that begins with this one is not listed


class ArpaModel(NamedTuple):
    """The n-grams of an ARPA file."""

    order: int
    entries: dict[tuple[str, ...], Entry]


def read_arpa(path: str | Path, *, most_ngrams: int) -> ArpaModel:
    """Reads an ARPA file, plain or compressed with gzip, whatever its name.

    The format gives back-off weights to no n-gram of the highest order. Files that were cut from a
    model of a higher order keep them there; they are left out, with a warning.

    Raises:
      LanguageModelError: if it is missing, is not such a file, is cut short, announces more than
        `most_ngrams`, or unpacks to more than any such file holds.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file, _unpacked(file) as text:
            _refuse_other_formats(text, path)
            return _read(_lines_of(text, path, most_ngrams), path, most_ngrams)
    except UnicodeDecodeError as error:
        raise LanguageModelError(
            f"is not UTF-8 text: {error}", path=path, remedy="convert it, or give the ARPA file"
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        raise LanguageModelError(
            f"cannot read the language model: {error}",
            path=path,
            remedy="check its permissions, or copy it again",
        ) from error


def _refuse_other_formats(file: io.BufferedReader, path: Path) -> None:
    start = file.peek(max(map(len, _OTHER_FORMATS)))
    for prefix, (name, remedy) in _OTHER_FORMATS.items():
        if start.startswith(prefix):
            raise LanguageModelError(f"is {name}, not an ARPA file", path=path, remedy=remedy)


def _unpacked(file: io.BufferedReader) -> io.BufferedReader:
    """Returns the file, or what a gzip file holds."""
    is_packed = file.peek(len(_GZIP)).startswith(_GZIP)
    return io.BufferedReader(cast(io.RawIOBase, gzip.GzipFile(fileobj=file))) if is_packed else file


def _lines_of(file: io.BufferedReader, path: Path, most_ngrams: int) -> Lines:
    """Yields number and content of the lines that are not blank, within the limits above."""
    num_bytes = 0
    for number in itertools.count(1):
        line = file.readline(_LONGEST_LINE + 1)
        num_bytes += len(line)
        if not line:
            return
        if len(line) > _LONGEST_LINE:
            raise _far_too_large(f"line {number} has more than {_LONGEST_LINE:,} bytes", path)
        if number > most_ngrams + _MOST_OTHER_LINES or num_bytes > _MOST_BYTES:
            raise _far_too_large(f"has more than {number - 1:,} lines or {num_bytes:,} bytes", path)
        text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip(" \t\r\n")
        if text:
            yield number, text


def _far_too_large(what: str, path: Path) -> LanguageModelError:
    return LanguageModelError(
        f"is no ARPA file that can be read: {what}", path=path, remedy="give a smaller ARPA file"
    )


def _read(lines: Lines, path: Path, most_ngrams: int) -> ArpaModel:
    counts, rest = _read_counts(lines, path)
    if sum(counts.values()) > most_ngrams:
        raise LanguageModelError(
            f"holds {sum(counts.values()):,} n-grams, more than {most_ngrams:,}",
            path=path,
            remedy="prune it (lmplz --prune 0 1 2), or lower its order",
        )
    entries, found = _read_entries(rest, counts, path)
    if found != counts:
        raise LanguageModelError(
            f"announces {counts} n-grams by order, but holds {found}",
            path=path,
            remedy="it was cut short or edited: write it again",
        )
    order = max((order for order, count in counts.items() if count), default=1)
    return ArpaModel(order, _without_last_backoffs(entries, order, path))


def _read_counts(lines: Lines, path: Path) -> tuple[dict[int, int], Lines]:
    """Reads the \\data\\ section; returns its counts, and the lines from the first after it.

    Whatever stands before the section is a comment.
    """
    counts: dict[int, int] = {}
    rest: Iterable[tuple[int, str]] = ()
    for _, line in lines:
        if line == "\\data\\":
            break
    for number, line in lines:
        if not (count := _COUNT.match(line)):
            rest = [(number, line)]
            break
        counts[int(count[1])] = int(count[2])
        if len(counts) > _HIGHEST_ORDER:
            raise LanguageModelError(
                f"its order is above {_HIGHEST_ORDER}, the highest that a search can join",
                path=path,
                remedy="lower its order",
            )
    if not counts or sorted(counts) != list(range(1, len(counts) + 1)):
        raise LanguageModelError(
            "is not an ARPA file: no \\data\\ section that counts its n-grams",
            path=path,
            remedy="give a text ARPA file (lmplz --arpa)",
        )
    return counts, itertools.chain(rest, lines)


def _read_entries(
    lines: Lines, counts: dict[int, int], path: Path
) -> tuple[dict[tuple[str, ...], Entry], dict[int, int]]:
    """Reads the n-grams up to \\end\\, or to one more than announced; also counts each order."""
    entries: dict[tuple[str, ...], Entry] = {}
    found = dict.fromkeys(counts, 0)
    order = 0
    for number, line in lines:
        if line == "\\end\\":
            break
        if header := _HEADER.match(line):
            order = int(header[1])
            if order not in counts:
                raise LanguageModelError(
                    f"line {number}: {order}-grams are not in \\data\\",
                    path=path,
                    remedy="count them there",
                )
            continue
        ngram, entry = _read_entry(line, order, f"line {number}", path)
        if fault := _fault(ngram, entries):
            raise LanguageModelError(
                f"line {number}: {line[:_SHOWN]!r}{fault}", path=path, remedy=_CORRECT
            )
        entries[ngram] = entry
        found[order] += 1
        if found[order] > counts[order]:
            break
    return entries, found


def _fault(ngram: tuple[str, ...], entries: dict[tuple[str, ...], Entry]) -> str:
    """Describes the fault of an n-gram that follows the earlier ones; empty if it has none."""
    if ngram in entries:
        return " occurs twice"
    strange = [word for word in ngram if (word,) not in entries] if len(ngram) > 1 else []
    return f": {strange[0]!r} is no unigram" if strange else ""


def _read_entry(line: str, order: int, at: str, path: Path) -> tuple[tuple[str, ...], Entry]:
    fields = [field for field in line.replace("\t", " ").split(" ") if field]
    try:
        if order == 0 or len(fields) not in (order + 1, order + 2):
            raise ValueError("wrong number of fields")
        log10 = max(float(fields[0]), _LEAST_LOG10)
        backoff10 = max(float(fields[-1]), _LEAST_LOG10) if len(fields) > order + 1 else 0.0
        if not log10 <= 0 or not math.isfinite(backoff10):
            raise ValueError("not a logarithm of a probability")
    except ValueError as error:
        raise LanguageModelError(
            f"{at}: {line[:_SHOWN]!r}: {error}", path=path, remedy=_CORRECT
        ) from error
    return tuple(fields[1 : order + 1]), Entry(log10 * _NATURAL, backoff10 * _NATURAL)


def _without_last_backoffs(
    entries: dict[tuple[str, ...], Entry], order: int, path: Path
) -> dict[tuple[str, ...], Entry]:
    last = [ngram for ngram, entry in entries.items() if len(ngram) == order and entry.backoff]
    if last:
        _LOG.warning(
            "%s: leaves out the back-off weights of %d %d-grams: none are longer in this file",
            path,
            len(last),
            order,
        )
        entries.update((ngram, entries[ngram]._replace(backoff=0.0)) for ngram in last)
    return entries
