"""Continues a store although its corpus was copied, after checking that the content is the same."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tfkd.audio.flac import decode_flac
from tfkd.corpora import Rejection, Utterance
from tfkd.errors import RecordError
from tfkd.progress import progress_bar
from tfkd.records import Plan, UtteranceRecord, is_store
from tfkd.records.plan import OTHER_FOLDER
from tfkd.records.schema import Record
from tfkd.records.shards import Sidecar, ordered_records, sidecar_path
from tfkd.records.store import shard_path
from tfkd.storage.files import write_json
from tfkd.storage.json_files import parse_json
from tfkd.storage.markers import PLAN

_LOG = logging.getLogger("tfkd")
# The source of a plan that describes the files of the corpus.
CORPUS = "corpus"
SAME_CORPORA = "same_corpora.json"


def plan_to_continue(
    out: str | Path,
    plan: Plan,
    by_id: Mapping[str, Utterance],
    remake: Callable[[Sequence[Utterance]], Iterable[UtteranceRecord | Rejection]],
) -> Plan:
    """Chooses the plan to continue in `out`: the existing one, if its content would be the same.

    A store's identity includes the size and modification time of every file. If only these differ,
    as after a copy, every utterance of the finished shards is prepared again and compared, once:
    the folder then lists the copy among the corpora that hold the same.

    Args:
      out: folder of the store.
      plan: the plan of the corpus as it is now.
      by_id: its utterances.
      remake: prepares utterances, in their order.
    Raises:
      RecordError: if an utterance differs; it names the first.
    """
    directory = Path(out)
    if not is_store(directory):
        return plan
    try:
        existing = Plan.read(directory / PLAN)
    except RecordError:
        return plan  # The writer reads it again and reports what is wrong.
    if is_of_same_corpus(directory, existing, plan):
        return existing
    if replace(existing, sources=plan.sources) != plan:
        return plan
    _LOG.warning(
        "%s: size or modification time of files of the corpus have changed since this store was "
        "made; comparing the content of the files with that of the store",
        directory,
    )
    for number in progress_bar(range(len(plan.shards)), desc="compare", unit="shard"):
        path = shard_path(directory, existing, number)
        there = _content(path, existing, number)
        # A missing or damaged shard needs no comparison, because it is written again.
        own = [by_id[utterance_id] for utterance_id in plan.shards[number]] if there else []
        for made in remake(own):
            if not _is_same(there[made.utterance_id], _content_of(made)):
                raise RecordError(
                    "has changed in the corpus since this store was made",
                    path=directory,
                    utterance_id=made.utterance_id,
                    remedy=OTHER_FOLDER,
                )
    write_json(directory / SAME_CORPORA, [*_same_corpora(directory), plan.sources[CORPUS]])
    return existing


def is_of_same_corpus(directory: Path, existing: Plan, plan: Plan) -> bool:
    """Whether the plan of a store is the given one, or that of a corpus found to hold the same."""
    is_known = plan.sources[CORPUS] in _same_corpora(directory)
    return existing == plan or (is_known and replace(existing, sources=plan.sources) == plan)


def _same_corpora(directory: Path) -> list[str]:
    """The digests of the corpora whose content was compared; none if the list is damaged."""
    try:
        found = parse_json((directory / SAME_CORPORA).read_bytes())
    except (OSError, ValueError):
        return []  # They are compared again.
    return found if isinstance(found, list) else []


def _is_same(there: Record | str, made: Record | str) -> bool:
    """Whether two records are equal but for how their samples are encoded and rounded.

    Encoded audio names the version of its encoder, and a decoder of MP3 rounds otherwise where it
    began elsewhere.
    """
    if isinstance(there, UtteranceRecord) and isinstance(made, UtteranceRecord):
        if replace(there, audio=made.audio) != made:
            return False
        if there.audio == made.audio:
            return True
        one, other = (decode_flac(each.audio, "int16").astype(np.int32) for each in (there, made))
        return one.shape == other.shape and np.abs(one - other).max() <= 1
    return there == made


def _content(path: Path, plan: Plan, number: int) -> dict[str, Record | str]:
    """Maps each utterance of a finished shard to its record, or to the reason of its rejection."""
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
