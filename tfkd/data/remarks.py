"""Reports what is odd about recordings that preparation accepted, in the log and in a file."""

from __future__ import annotations

import json
import logging
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tfkd.corpora import Utterance
from tfkd.storage.files import atomic_write, writing
from tfkd.storage.json_files import read_json_lines
from tfkd.text import transcript_of

REMARKS = "remarks.jsonl"
_LOG = logging.getLogger("tfkd")
_NAMED = 3
_NAMED_IN_TEXTS = 8
# Decoders write this in place of bytes that they cannot read.
_LOST = "\ufffd"
_PERCENT_TAG = re.compile(r"%(?=[^\W\d])")  # of %HESITATION
# People say these, beside the signs of currencies; normalisation drops them.
_SAID = frozenset("%\u2030&@\xa7+=\xb0\xd7\xf7")


class Remarks:
    """Collects remarks on recordings that were used although something is odd.

    Args:
      store: folder whose `remarks.jsonl` lists them; None for no list.
    """

    def __init__(self, store: str | Path | None = None) -> None:
        self._path = None if store is None else Path(store) / REMARKS
        self._rows: dict[str, tuple[str, ...]] = {}
        self._num_saved = 0

    def add(self, utterance_id: str, remarks: tuple[str, ...]) -> None:
        """Adds the remarks on one utterance, if there are any."""
        if remarks:
            self._rows[utterance_id] = remarks

    def save(self) -> None:
        """Appends the remarks that are new to the list of the store.

        Call it before a shard is finished: a rerun after a kill does not read its recordings again.
        """
        rows = [*self._rows.items()][self._num_saved :]
        if self._path is None or not rows:
            return
        self._num_saved = len(self._rows)
        with writing(self._path), open(self._path, "ab") as file:
            file.write(b"\n" if file.tell() else b"")  # Ends what a kill cut off.
            for utterance_id, remarks in rows:
                for remark in remarks:
                    row = {"utterance_id": utterance_id, "remark": remark}
                    line = json.dumps(row, ensure_ascii=False)
                    file.write(line.encode(errors="backslashreplace") + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def report(self, source: str | Path) -> None:
        """Logs the number of remarks, and examples; sorts the list of the store.

        They are all that the list holds, those before a kill, too.
        """
        self._sort()
        if not self._rows:
            return
        listed = "" if self._path is None else f"; all are in {self._path}"
        found: dict[str, list[str]] = {}
        for utterance_id in sorted(self._rows):
            for remark in self._rows[utterance_id]:
                found.setdefault(remark, []).append(utterance_id)
        # Python's sort is stable: of remarks on as many utterances, the first named come first.
        most_common = sorted(found.items(), key=lambda item: -len(item[1]))[:_NAMED]
        examples = [f"{ids[0]}{_and_others(ids[1:])}: {remark}" for remark, ids in most_common]
        _LOG.warning(
            "%s: %d utterances were used although something is odd, for example %s%s",
            *(source, len(self._rows), " | ".join(examples), listed),
        )

    def _sort(self) -> None:
        """Writes the list of the store in order, each remark once, without what a kill cut off."""
        if self._path is None or not self._path.exists():
            return
        lines = {line for line in self._path.read_bytes().splitlines() if line.endswith(b"}")}
        with atomic_write(self._path) as file:
            file.writelines(line + b"\n" for line in sorted(lines))
        self._rows = {}
        for row in read_json_lines(self._path, {"utterance_id": str, "remark": str}):
            known = self._rows.get(row["utterance_id"], ())
            self._rows[row["utterance_id"]] = (*known, row["remark"])


def warn_of_texts(
    source: str | Path, utterances: Iterable[Utterance], extra_characters: str, tags: str
) -> None:
    """Logs how many transcripts have tags, symbols, digits or lost characters, or are missing."""
    found: Counter[str] = Counter()
    symbols: Counter[str] = Counter()
    with_tags = with_symbols = with_digits = with_losses = without_text = total = 0
    for utterance in utterances:
        transcript = transcript_of(utterance.text, extra_characters=extra_characters, tags=tags)
        found.update(transcript.tags)
        with_tags += bool(transcript.tags)
        dropped = _said_symbols(utterance.text or "") - set(extra_characters)
        symbols.update(dropped)
        with_symbols += bool(dropped)
        with_digits += any(map(str.isdigit, transcript.text or ""))
        with_losses += _LOST in (utterance.text or "")
        without_text += transcript.text is None
        total += 1
    remarks = [
        (
            with_tags,
            f"have tags, which are removed: {_most_common(found)} (prepare.tags=keep keeps the "
            "words in them)",
        ),
        (
            with_symbols,
            f"have symbols that are said and are dropped: {_most_common(symbols)} (write them as "
            "words, or keep them by prepare.text.extra_characters)",
        ),
        (
            with_digits,
            "have digits, which stay as they are: write numbers as words where labels have words "
            "(labels.whisper.numbers)",
        ),
        (
            with_losses,
            "hold U+FFFD, where a character was lost in another encoding: write them again as "
            "UTF-8",
        ),
    ]
    for count, remark in remarks:
        if count:
            _LOG.warning("%s: %d of %d transcripts %s", source, count, total, remark)
    if 0 < without_text < total:
        _LOG.warning("%s: %d of %d utterances have no transcript", source, without_text, total)


def _and_others(ids: list[str]) -> str:
    return f" and {len(ids)} other{'s' * (len(ids) > 1)}" if ids else ""


def _most_common(found: Counter[str]) -> str:
    return ", ".join(f"{each} ({n} x)" for each, n in found.most_common(_NAMED_IN_TEXTS))


def _said_symbols(text: str) -> set[str]:
    symbols = set(_PERCENT_TAG.sub("", text))
    return {each for each in symbols if each in _SAID or unicodedata.category(each) == "Sc"}
