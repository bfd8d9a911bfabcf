"""Reports the utterances that a training leaves out, because no store gives a target for them."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Sequence, Set
from pathlib import Path
from typing import Any

from tfkd.errors import TextError
from tfkd.objectives import Survey
from tfkd.objectives.objective import UNTOKENISABLE, Dropped
from tfkd.storage.files import write_json, write_text
from tfkd.text import Tokenizer
from tfkd.training.sources import Source

DROPPED = "dropped.jsonl"
_HYPOTHESES = "dropped_hypotheses.json"
_LOG = logging.getLogger("tfkd")


def report_dropped(
    sources: Sequence[Source], surveys: Sequence[Survey], tokenizer: Tokenizer, out: Path
) -> None:
    """Writes what is left out, with the reasons, into a run's folder, and logs how much it is.

    Args:
      surveys: of each source, with the tokenizer.
    """
    lost = lost_of(sources, surveys)
    rows: list[dict[str, Any]] = []
    dropped: list[tuple[Source, Dropped]] = []
    for source, found in zip(sources, surveys, strict=True):
        own = [each for each in found.dropped if each.utterance_id in lost]
        dropped += ((source, each) for each in own)
        # Several stores may hold the same id.
        place = {"store": str(source.store.name)} if len(surveys) > 1 else {}
        rows += ({**each.row(), **place} for each in own)
    write_text(out / DROPPED, "".join(json.dumps(row) + "\n" for row in rows))
    hypotheses = sum((Counter(found.dropped_hypotheses) for found in surveys), Counter())
    write_json(out / _HYPOTHESES, dict(hypotheses))
    if lost:
        _warn_of(lost, dropped, sources, tokenizer, out / DROPPED)


def lost_of(sources: Sequence[Source], surveys: Sequence[Survey]) -> set[str]:
    """Ids of the utterances that no store gives a target for."""
    dropped = [{each.utterance_id for each in found.dropped} for found in surveys]
    if len(sources) == 1:
        return dropped[0]
    learned: set[str] = set()
    for source, without in zip(sources, dropped, strict=True):
        learned |= {row["utterance_id"] for row in source.store.index} - without
    return set().union(*dropped) - learned


def _warn_of(
    lost: Set[str],
    dropped: Sequence[tuple[Source, Dropped]],
    sources: Sequence[Source],
    tokenizer: Tokenizer,
    path: Path,
) -> None:
    """Logs how many utterances are lost, why, and which characters the tokenizer lacks."""
    total = len({row["utterance_id"] for source in sources for row in source.store.index})
    reasons = Counter({each.utterance_id: each.faults[0].reason for _, each in dropped}.values())
    _LOG.warning(
        "%d of %d utterances give no target and are left out (%s); see %s",
        *(len(lost), total),
        ", ".join(f"{count} {reason}" for reason, count in reasons.most_common()),
        path,
    )
    for source, each in dropped:
        if UNTOKENISABLE in each.faults:
            _warn_of_characters(source, each.utterance_id, tokenizer)
            return


def _warn_of_characters(source: Source, utterance_id: str, tokenizer: Tokenizer) -> None:
    """Logs what a tokenizer lacks to spell the texts of an utterance."""
    for text in source.objective.texts(source.store.record(utterance_id)):
        try:
            tokenizer.encode(text)
        except TextError as error:
            _LOG.warning("for example %s: %s (%s)", utterance_id, error.message, error.remedy)
            return
