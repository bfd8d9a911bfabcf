"""Reads every record once before training, so that nothing fails or vanishes during it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from tfkd.errors import TextError
from tfkd.objectives.objective import Dropped, Objective
from tfkd.records import Record
from tfkd.text import Tokenizer


@dataclass(frozen=True)
class Survey:
    """What training leaves out.

    Attributes:
      dropped_hypotheses: how many hypotheses each reason struck, those of utterances that still
        give a target included; one with several reasons counts for each.
    """

    dropped: list[Dropped]
    dropped_hypotheses: dict[str, int]


def survey(records: Iterable[Record], tokenizer: Tokenizer, objective: Objective) -> Survey:
    """Asks an objective for the targets of every record.

    Raises:
      RecordError: if a record cannot hold what the objective needs.
      TextError: if no utterance gives a target.
    """
    dropped: list[Dropped] = []
    struck: Counter[str] = Counter()
    utterances = 0
    for record in records:
        result = objective.targets(record, tokenizer)
        utterances += 1
        if isinstance(result, Dropped):
            dropped.append(result)
        struck.update(fault.reason for fault in result.struck)
    if len(dropped) == utterances:
        counts = Counter(reason["reason"] for each in dropped for reason in each.row()["reasons"])
        reasons = ", ".join(f"{count} {reason}" for reason, count in counts.items())
        raise TextError(
            f"no utterance gives a target for {objective.name}: {reasons or 'no data'}",
            remedy="loosen objective.filters" if struck else None,
        )
    return Survey(dropped, dict(struck))
