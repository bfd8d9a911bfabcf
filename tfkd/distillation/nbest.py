"""Reads n-best lists of any recogniser, in JSON Lines; the whole file is checked first.

Each line holds an utterance with its hypotheses, best first:

    {"utterance_id": "a1", "hypotheses": [{"text": "seven four", "log_prob": -1.5}, ...]}

A hypothesis is a text, or an object with fields of `tfkd.records.Hypothesis`; all but `text` may be
missing or null. Other keys of the line are ignored. As in manifests, the key of the id may also be
`id`, its value may be a whole number, and the file may begin with a byte order mark.
"""

from __future__ import annotations

import logging
import math
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from tfkd.errors import ManifestError, did_you_mean
from tfkd.records import Hypothesis, hypotheses_faults
from tfkd.records.plan import printable
from tfkd.storage.files import sha256
from tfkd.storage.json_files import parse_json, unique_fields
from tfkd.text import normalise, transcript_of

_LOG = logging.getLogger("tfkd")

# Probabilities of different texts add up to at most 1; a recogniser may have rounded them.
_MAX_TOTAL_PROBABILITY = 1.01
# The first bytes of files that are mistaken for n-best lists, their format and the remedy.
_OTHER_FORMATS = (
    ((b"[", b"\xef\xbb\xbf["), "a JSON array", "write a line for each entry: jq -c '.[]' FILE"),
    ((b"{\n", b"{\r\n"), "JSON over several lines", "write a line for each object: jq -c . FILE"),
    (b"\x1f\x8b", "a gzip file", "unpack it"),
    ((b"\xff\xfe", b"\xfe\xff"), "UTF-16", "convert it to UTF-8"),
)

Hypotheses = tuple[Hypothesis, ...]


@dataclass(frozen=True)
class NBestList:
    """An n-best list that `scan` has checked; its hypotheses stay on the disk until they are used.

    Attributes:
      sha256: of the file.
      extra_characters: kept by normalisation beside letters; see `tfkd.text.normalise`.
      tags: "drop" or "keep"; see `tfkd.text.without_tags`.
      offsets: the byte at which each utterance's line begins; None if it has no hypotheses.
    """

    path: Path
    sha256: str
    extra_characters: str
    tags: str
    offsets: Mapping[str, int | None]

    @classmethod
    def scan(cls, path: str | Path, extra_characters: str = "", *, tags: str = "drop") -> NBestList:
        """Reads and checks every line once.

        Logs a warning if log_prob does not look like a natural logarithm of a probability: if the
        probabilities of an utterance's hypotheses add up to more than one, or if in most utterances
        the first hypothesis is the least likely.

        Raises:
          ManifestError: if the file cannot be read, or a line is malformed, holds a number that is
            not finite, or repeats an utterance.
        """
        path = Path(path)
        offsets: dict[str, int | None] = {}
        doubts = _Doubts(extra_characters)
        try:
            _refuse_other_formats(path)
            digest = sha256(path)
            for number, (offset, line) in enumerate(_lines_of(path), start=1):
                if not line.strip():
                    continue
                try:
                    utterance_id, hypotheses = _parse(line, extra_characters, tags)
                    if utterance_id in offsets:
                        raise ValueError(f"utterance {utterance_id!r} is given twice")
                except ValueError as fault:
                    raise ManifestError(
                        printable(f"line {number}: {fault}"), path=path, remedy="correct the line"
                    ) from fault
                offsets[utterance_id] = offset if hypotheses else None
                doubts.see(hypotheses)
        except OSError as error:
            raise ManifestError(
                f"cannot read: {error.strerror or error}",
                path=path,
                remedy="check its path and permissions",
            ) from error
        doubts.warn(path)
        return cls(path, digest, extra_characters, tags, offsets)

    def has_hypotheses(self, utterance_id: str) -> bool:
        """Whether the list has hypotheses for an utterance."""
        return self.offsets.get(utterance_id) is not None

    def hypotheses(self, utterance_ids: Iterable[str]) -> Iterator[Hypotheses]:
        """Yields the hypotheses of each utterance in turn, best first; () where there are none.

        One that names speech without its words, such as [inaudible] or <unk>, is left out. A text
        without token_ids is normalised as transcripts are. One with token_ids is kept as it is,
        because the tokens spell it.

        Raises:
          ManifestError: if the file has changed since it was scanned.
        """
        with open(self.path, "rb") as file:
            for utterance_id in utterance_ids:
                offset = self.offsets.get(utterance_id)
                if offset is None:
                    yield ()
                    continue
                file.seek(offset)
                try:
                    found, hypotheses = _parse(file.readline(), self.extra_characters, self.tags)
                except ValueError:
                    found = None
                if found != utterance_id:
                    raise ManifestError(
                        "was changed while it was read",
                        path=self.path,
                        remedy="run the command again once the file is complete",
                    )
                yield hypotheses


@dataclass
class _Doubts:
    """Counts the utterances whose log_probs cannot be log-probabilities of texts, best first.

    Attributes:
      extra_characters: kept by normalisation.
      several: number of utterances whose texts have several log_probs.
      ranked: number of utterances with several scores, or log_probs where scores are missing.
      not_normalised: number of texts, spelt by tokens, that normalisation would change.
      example: the last of them.
    """

    extra_characters: str
    several: int = 0
    above_one: int = 0
    ranked: int = 0
    worst_first: int = 0
    not_normalised: int = 0
    example: str = ""

    def see(self, hypotheses: Hypotheses) -> None:
        log_probs: dict[object, float] = {}
        for each in hypotheses:
            if each.log_prob is not None:
                known = log_probs.get((each.text, each.token_ids), -math.inf)
                log_probs[each.text, each.token_ids] = max(known, each.log_prob)
        values = list(log_probs.values())
        if len(values) > 1:
            self.several += 1
            self.above_one += sum(map(math.exp, values)) > _MAX_TOTAL_PROBABILITY
        scores = [each.score for each in hypotheses if each.score is not None]
        if len(scores) == len(hypotheses):
            values = scores
        if len(values) > 1:
            self.ranked += 1
            self.worst_first += values[0] < min(values[1:])
        # The texts of the others were normalised when they were read.
        for each in (each for each in hypotheses if each.token_ids):
            said = normalise(each.text, extra_characters=self.extra_characters)
            if said != " ".join(each.text.split()):
                self.not_normalised += 1
                self.example = each.text

    def warn(self, path: Path) -> None:
        if self.above_one:
            _LOG.warning(
                "%s: in %d of %d utterances the probabilities exp(log_prob) of different "
                "hypotheses add up to more than 1: is log_prob a mean a token, or of another "
                "base? Posterior weights would then be wrong; give such values as score",
                path,
                self.above_one,
                self.several,
            )
        if 2 * self.worst_first > self.ranked:
            _LOG.warning(
                "%s: in %d of %d utterances the first hypothesis is the least likely: is the "
                "list sorted worst first, or is log_prob or score a cost?",
                path,
                self.worst_first,
                self.ranked,
            )
        if self.not_normalised:
            _LOG.warning(
                "%s: the texts of %d hypotheses with token_ids are not normalised, such as %r, and "
                "are compared with transcripts as they are: leave out token_ids, or normalise them",
                path,
                self.not_normalised,
                self.example,
            )


def _refuse_other_formats(path: Path) -> None:
    with open(path, "rb") as file:
        start = file.read(64)
    for beginnings, name, remedy in _OTHER_FORMATS:
        if start.lstrip().startswith(beginnings):
            raise ManifestError(f"is {name}, not JSON Lines", path=path, remedy=remedy)


def _lines_of(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yields each line and the byte at which it begins."""
    offset = 0
    with open(path, "rb") as file:
        for line in file:
            yield offset, line
            offset += len(line)


# Reading of one line. A ValueError says what is wrong; the caller adds the line's number.


def _parse(line: bytes, extra_characters: str, tags: str) -> tuple[str, Hypotheses]:
    row = parse_json(
        line.decode("utf-8-sig"), parse_constant=_refuse_constant, object_pairs_hook=unique_fields
    )
    utterance_id = _utterance_id(row)
    if not isinstance(row.get("hypotheses"), list):
        raise ValueError(f"has no list of hypotheses, only {', '.join(row)}")
    hypotheses = []
    for rank, value in enumerate(row["hypotheses"]):
        if value in row["hypotheses"][:rank]:  # A repetition, which is no more probable for it.
            continue
        try:
            hypothesis = _hypothesis(value, extra_characters, tags)
        except ValueError as fault:
            raise ValueError(f"hypothesis {rank}: {fault}") from fault
        if hypothesis is not None:
            hypotheses.append(hypothesis)
    contradiction = next(hypotheses_faults(hypotheses), None)
    if contradiction is not None:
        raise ValueError(contradiction)
    return utterance_id, tuple(hypotheses)


def _utterance_id(row: Any) -> str:
    """The id of a line; a whole number is read as in a manifest."""
    if isinstance(row, dict):
        value = row.get("utterance_id")
        value = row.get("id") if value is None else value
        if isinstance(value, str) or _is_whole_number(value):
            return str(value)
    raise ValueError("is not an object with an utterance_id")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a finite number")


def _hypothesis(value: Any, extra_characters: str, tags: str) -> Hypothesis | None:
    """Reads a hypothesis; None if it says that something was said, but not what."""
    if isinstance(value, str):
        value = {"text": value}
    if not isinstance(value, dict):
        raise ValueError("is neither a text nor an object")
    known: dict[str, Any] = {n: entry for n, entry in value.items() if entry not in (None, [])}
    for name, entry in known.items():
        if name not in _FIELDS:
            raise ValueError(f"unknown field {name!r}, {_advice(name)}")
        expected, is_expected = _FIELDS[name]
        if not is_expected(entry):
            raise ValueError(f"{name} is not {expected}")
    if "text" not in known:
        raise ValueError("has no text")
    if "token_ids" not in known:
        said = transcript_of(
            known["text"], extra_characters=extra_characters, tags=tags, is_written_by_model=True
        )
        if said.text is None:
            return None
        known["text"] = said.text
    return Hypothesis(**{name: _as_tuples(entry) for name, entry in known.items()})


def _as_tuples(value: Any) -> Any:
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value


def _advice(name: str) -> str:
    """Says how to write the value of an unknown field, without renaming it to another meaning."""
    for known in _FIELDS:
        if known.replace("_", "") == name.lower().replace("_", ""):
            return f"did you mean {known!r}?"
    for words, advice in _FOREIGN:
        if any(word in name.lower() for word in words):
            return advice
    return did_you_mean(name, _FIELDS) or f"known are {', '.join(_FIELDS)}"


# Parts of other recognisers' field names, and how to convert their values; the first match counts.
_FOREIGN = (
    (
        ("avg", "mean"),
        "a mean is no log_prob: multiply it by the number of tokens",
    ),
    (("log10",), "log_prob is a natural logarithm: multiply it by 2.302585"),
    (("cost", "nll", "loss", "neg"), "a cost is no log_prob: give its negative as log_prob"),
    (("am_", "lm_", "acoustic", "graph"), "a part is no score: give the sum as score"),
    (
        ("log",),
        "did you mean 'log_prob', a natural logarithm of the whole text?",
    ),
    (("prob", "conf", "posterior"), "give its natural logarithm as log_prob"),
    (("transcript", "sentence", "hyp"), "did you mean 'text'?"),
)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_whole_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _are_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_number, value))


def _are_whole_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_whole_number, value))


def _are_rows_of_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(map(_are_numbers, value))


def _are_rows_of_whole_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(map(_are_whole_numbers, value))


# The type of a field of a hypothesis -> how JSON writes it.
_FORMS: Mapping[Any, tuple[str, Callable[[Any], bool]]] = {
    str: ("a text", _is_text),
    float: ("a number", _is_number),
    tuple[int, ...]: ("a list of whole numbers", _are_whole_numbers),
    tuple[float, ...]: ("a list of numbers", _are_numbers),
    tuple[tuple[int, ...], ...]: ("a list of lists of whole numbers", _are_rows_of_whole_numbers),
    tuple[tuple[float, ...], ...]: ("a list of lists of numbers", _are_rows_of_numbers),
}


def _form(annotation: Any) -> tuple[str, Callable[[Any], bool]]:
    """How JSON writes a field of this type, or of this type and None."""
    if annotation in _FORMS:
        return _FORMS[annotation]
    (known,) = set(typing.get_args(annotation)) - {type(None)}
    return _FORMS[known]


_FIELDS = {name: _form(each) for name, each in typing.get_type_hints(Hypothesis).items()}
