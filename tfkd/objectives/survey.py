"""Reads every record before a training, so that it can report what it drops or fail at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from tfkd.errors import TextError
from tfkd.objectives.objective import NO_REFERENCE, UNTOKENISABLE, Dropped, Objective, Targets
from tfkd.records import Record
from tfkd.text import Tokenizer


@dataclass(frozen=True)
class Survey:
    """The utterances and hypotheses that a training does not learn from.

    Attributes:
      dropped: the utterances without a target, with the reasons.
      dropped_hypotheses: the number of hypotheses that each reason removed, also from utterances
        that keep a target; a hypothesis with several reasons counts for each.
      empty_places: how many of the objective's places for target sequences every utterance leaves
        empty: it wants more hypotheses than there are, or a part of it lacks transcripts.
    """

    dropped: list[Dropped]
    dropped_hypotheses: dict[str, int]
    empty_places: int = 0


def _remedy(reasons: Mapping[str, int], objective: Objective) -> str | None:
    """What to do where no utterance gives a target."""
    most = max(reasons, key=reasons.__getitem__, default=None)
    if most == UNTOKENISABLE.reason:
        return "give the student a tokenizer that spells these texts, such as SentencePiece"
    if most == NO_REFERENCE.reason:
        is_of_labels = objective.needs_hypotheses
        return f"give {'labels of ' * is_of_labels}audio that has transcripts, or another objective"
    return None if most is None else "loosen objective.filters"


def survey(records: Iterable[Record], tokenizer: Tokenizer, objective: Objective) -> Survey:
    """Makes the targets of every record, and counts what gives none.

    Raises:
      RecordError: if a record lacks what the objective needs.
      TextError: if no utterance gives a target.
    """
    dropped: list[Dropped] = []
    dropped_hypotheses: Counter[str] = Counter()
    empty_places: set[int] = set()
    weights = [name for name, field in objective.signature.items() if field.is_weight]
    utterances = 0
    for record in records:
        result = objective.targets(record, tokenizer)
        utterances += 1
        if isinstance(result, Dropped):
            dropped.append(result)
        else:
            empty_places.add(_empty_places(result, weights))
        dropped_hypotheses.update(fault.reason for fault in result.hypothesis_faults)
    if len(dropped) == utterances:
        counts = Counter(reason["reason"] for each in dropped for reason in each.row()["reasons"])
        reasons = ", ".join(f"{count} {reason}" for reason, count in counts.items())
        raise TextError(
            f"no utterance gives a target for {objective.name}: {reasons or 'no data'}",
            remedy=_remedy(counts, objective),
        )
    return Survey(dropped, dict(dropped_hypotheses), min(empty_places))


def _empty_places(targets: Targets, weights: Iterable[str]) -> int:
    arrays = (targets.arrays[name] for name in weights)
    return min((array.size - np.count_nonzero(array) for array in arrays), default=0)
