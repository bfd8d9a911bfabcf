"""Reports what is odd about recordings that preparation accepted, in the log and in a file."""

from __future__ import annotations

import json
import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tfkd.corpora import Utterance
from tfkd.storage.files import atomic_write
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

    def add(self, utterance_id: str, remarks: tuple[str, ...]) -> None:
        """Adds the remarks on one utterance, if there are any."""
        if remarks:
            self._rows[utterance_id] = remarks

    def save(self) -> None:
        """Adds the remarks to the list of the store, which keeps those of an earlier, killed run.

        Call it before a shard is finished: a rerun does not read its recordings again.
        """
        if self._path is None or not self._rows:
            return
        before = self._path.read_text("utf-8").splitlines() if self._path.exists() else []
        rows = [
            json.dumps({"utterance_id": key, "remark": remark}, ensure_ascii=False)
            for key, remarks in self._rows.items()
            for remark in remarks
        ]
        with atomic_write(self._path) as file:
            for row in sorted({*before, *rows}):
                file.write(row.encode(errors="backslashreplace") + b"\n")

    def report(self, source: str | Path) -> None:
        """Logs the number of remarks, and examples."""
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
