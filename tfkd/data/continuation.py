"""Whether a store that was begun from other files, or files of another age, holds the same."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from tfkd.corpora import Rejection, Utterance
from tfkd.errors import RecordError
from tfkd.records import Plan, UtteranceRecord, is_store
from tfkd.records.plan import OTHER_FOLDER
from tfkd.records.schema import Record
from tfkd.records.shards import Sidecar, ordered_records, sidecar_path
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
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for number in tqdm(range(len(plan.shards)), desc="compare", unit="shard", disable=None):
            path = shard_path(directory, existing, number)
            there = _content(path, existing, number)
            # A shard that is missing or damaged is written anew.
            own = [by_id[utterance_id] for utterance_id in plan.shards[number]] if there else []
            for made in pool.map(remake, own):
                if there[made.utterance_id] != _content_of(made):
                    raise RecordError(
                        "is not what this store holds: the corpus has changed since",
                        path=directory,
                        utterance_id=made.utterance_id,
                        remedy=OTHER_FOLDER,
                    )
    return existing


def _content(path: Path, plan: Plan, number: int) -> dict[str, Record | str]:
    """Each utterance of a finished shard, as its record or the reason of its rejection."""
    try:
        rejected = {
            each.utterance_id: each.reason for each in Sidecar.read(sidecar_path(path)).rejections
        }
        kept = [each for each in plan.shards[number] if each not in rejected]
        records = {each.utterance_id: each for each in ordered_records(path, plan.kind, kept)}
    except RecordError:
        return {}
    return {**rejected, **records}


def _content_of(made: UtteranceRecord | Rejection) -> Record | str:
    return made.reason if isinstance(made, Rejection) else made
