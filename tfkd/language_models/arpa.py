"""Reads the ARPA format of n-gram language models, as KenLM, SRILM and others write it."""

from __future__ import annotations

import gzip
import math
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TextIO

from tfkd.errors import LanguageModelError

# No more digits than a 64-bit number has: Python refuses to convert thousands of them.
_COUNT = re.compile(r"ngram\s+(\d{1,18})\s*=\s*(\d{1,18})$")
_HEADER = re.compile(r"\\(\d{1,18})-grams:$")
_NATURAL = math.log(10.0)
# What toolkits write for a probability of zero.
_LEAST_LOG10 = -99.0


class Entry(NamedTuple):
    """What an ARPA file says of one n-gram, in natural logarithms."""

    log_prob: float  # of its last word after the others
    backoff: float  # added where a longer n-gram that begins with this one is not listed


class ArpaModel(NamedTuple):
    """The n-grams of an ARPA file."""

    order: int
    entries: dict[tuple[str, ...], Entry]


def read_arpa(path: str | Path, *, most_ngrams: int) -> ArpaModel:
    """Reads an ARPA file, compressed where its name ends in .gz.

    Raises:
      LanguageModelError: if it is missing, is not such a file, is cut short, or announces more
        than `most_ngrams`.
    """
    path = Path(path)
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8") as file:
            return _read(file, path, most_ngrams)
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise LanguageModelError(f"cannot read the language model: {error}", path=path) from error


def _read(file: TextIO, path: Path, most_ngrams: int) -> ArpaModel:
    lines = enumerate((line.strip(" \t\r\n") for line in file), 1)
    counts = _read_counts(lines, path)
    if sum(counts.values()) > most_ngrams:
        raise LanguageModelError(
            f"holds {sum(counts.values()):,} n-grams, more than {most_ngrams:,}",
            path=path,
            remedy="prune it (lmplz --prune 0 1 2), or lower its order",
        )
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
                    f"line {number}: {order}-grams are not in \\data\\", path=path
                )
        elif line:
            ngram, entry = _read_entry(line, order, f"line {number}", path)
            if fault := _fault(ngram, entries):
                raise LanguageModelError(f"line {number}: {line!r}{fault}", path=path)
            entries[ngram] = entry
            found[order] += 1
            if found[order] > counts[order]:
                break
    if found != counts:
        raise LanguageModelError(
            f"announces {counts} n-grams by order, holds {found}",
            path=path,
            remedy="it was cut short or edited: write it again",
        )
    return ArpaModel(max(counts), entries)


def _read_counts(lines: Iterator[tuple[int, str]], path: Path) -> dict[int, int]:
    """The \\data\\ section, up to the empty line after it; what stands before it is a comment."""
    counts: dict[int, int] = {}
    for _, line in lines:
        if line == "\\data\\":
            break
    for _, line in lines:
        if not (count := _COUNT.match(line)):
            break
        counts[int(count[1])] = int(count[2])
    if not counts or sorted(counts) != list(range(1, len(counts) + 1)):
        raise LanguageModelError(
            "is not an ARPA file: no \\data\\ section that counts its n-grams",
            path=path,
            remedy="give a text ARPA file (lmplz --arpa), not a binary one",
        )
    return counts


def _fault(ngram: tuple[str, ...], entries: dict[tuple[str, ...], Entry]) -> str:
    """What is wrong with an n-gram after the earlier ones; empty if nothing."""
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
        raise LanguageModelError(f"{at}: {line!r}: {error}", path=path) from error
    return tuple(fields[1 : order + 1]), Entry(log10 * _NATURAL, backoff10 * _NATURAL)
