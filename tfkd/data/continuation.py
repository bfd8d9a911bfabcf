"""Whether a store that was begun from other files, or files of another age, holds the same."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from tfkd.corpora import Rejection, Utterance
from tfkd.errors import RecordError
from tfkd.records import Plan, UtteranceRecord, is_store
from tfkd.records.shards import Sidecar, clean_rejection, ordered_records, sidecar_path
from tfkd.records.store import PLAN, shard_path

_LOG = logging.getLogger("tfkd")


def plan_to_continue(
    out: str | Path,
    plan: Plan,
    by_id: Mapping[str, Utterance],
    remake: Callable[[Utterance], UtteranceRecord | Rejection],
) -> Plan:
    """The plan to go on with in `out`: that which is there, if its work would come out the same.

    A store's identity holds the size and age of every file. Where those alone differ, as after a
    copy, every utterance of the finished shards is made again and compared.

    Raises:
      RecordError: names the first utterance that differs.
    """
    directory = Path(out)
    if not is_store(directory):
        return plan
    try:
        existing = Plan.read(directory / PLAN)
    except RecordError:
        return plan  # The writer says what is wrong with it.
    if existing == plan or replace(existing, sources=plan.sources) != plan:
        return plan
    _LOG.warning(
        "%s: the files of the corpus are not those, or not as old as those, that it was made of; "
        "comparing what it holds with what they hold now",
        directory,
    )
    for number in range(len(plan.shards)):
        _check_shard(shard_path(directory, existing, number), existing, number, by_id, remake)
    return existing


def _check_shard(
    path: Path,
    plan: Plan,
    number: int,
    by_id: Mapping[str, Utterance],
    remake: Callable[[Utterance], UtteranceRecord | Rejection],
) -> None:
    try:
        rejected = {each.utterance_id: each for each in Sidecar.read(sidecar_path(path)).rejections}
        kept = [each for each in plan.shards[number] if each not in rejected]
        records = {each.utterance_id: each for each in ordered_records(path, plan.kind, kept)}
    except RecordError:
        return  # A shard that is missing or damaged is written anew.
    for utterance_id in plan.shards[number]:
        made = remake(by_id[utterance_id])
        if isinstance(made, Rejection):
            made = clean_rejection(made)
        if made not in (records.get(utterance_id), rejected.get(utterance_id)):
            raise RecordError(
                "is not what this store holds: the corpus has changed since",
                path=path.parent.parent,
                utterance_id=utterance_id,
                remedy="choose another --out folder, or delete this one",
            )
