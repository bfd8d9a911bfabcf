"""Prepares a corpus of any layout as a store of checked utterances at the model's sample rate."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tfkd.config import PrepareConfig, config_digest, overrides_of, to_dict
from tfkd.corpora import Corpus, Rejection, Utterance, read_corpus
from tfkd.corpora.pieces import Piece
from tfkd.corpora.splitting import piece_of, split_long
from tfkd.data.continuation import (
    CORPUS,
    SAME_CORPORA,
    is_of_same_corpus,
    plan_to_continue,
)
from tfkd.data.rejections import MEND, NO_FILE, check_rejected_share, rejection_of
from tfkd.data.remarks import REMARKS, Remarks, warn_of_texts
from tfkd.data.utterance_records import records_of, without_placeholder
from tfkd.errors import RecordError
from tfkd.progress import progress_bar
from tfkd.records import (
    UTTERANCES,
    Plan,
    StoreSummary,
    StoreWriter,
    UtteranceRecord,
    is_finished,
    open_store,
)
from tfkd.storage.files import remove_unfinished, sha256_of_text
from tfkd.storage.markers import PLAN

_LOG = logging.getLogger("tfkd")
_MEND_OR_PREPARE = "mend them, or tfkd prepare them with a larger --max-rejected-share"
_ALLOW = "prepare.allow_commands (--allow-commands) runs it"
_ALLOW_AND_PREPARE = "tfkd prepare --allow-commands runs it; give the folder that it writes"


def prepare(
    source: str | Path,
    out: str | Path,
    config: PrepareConfig,
    *,
    corpus_format: str = "auto",
) -> StoreSummary:
    """Decodes, checks, resamples and normalises a corpus into a store of utterances.

    Unusable utterances are listed with the reason in `rejected.jsonl` of the store. A rerun
    continues where an earlier one was killed.

    With `config.too_long` "split", long recordings without text are cut into several utterances:
    `tfkd.corpora.splitting.split_long` describes their ids, and `pieces.jsonl` of the store lists
    their places in the recordings.

    Args:
      source: any corpus that `tfkd.corpora.read_corpus` reads: a manifest or table, a folder of
        recordings, or one of the published layouts.
      out: folder of the store.
      config: sample rate, limits and text normalisation.
      corpus_format: one of `tfkd.corpora.FORMATS`; "auto" detects it.
    Returns:
      How many utterances were kept and rejected.
    Raises:
      ManifestError: if the corpus cannot be read, or a larger share of it than
        `config.max_rejected_share` is unusable.
      RecordError: if `out` holds another store, or cannot be written.

    >>> _ = open("orders.jsonl", "w").write('{"audio": "order.wav", "text": "se"}')
    >>> tfkd.prepare("orders.jsonl", "work/orders", tfkd.config.PrepareConfig()).records
    1
    """
    corpus = read_corpus(source, corpus_format, without=out)
    return prepare_corpus(corpus, source, out, config)


def cut_recordings(corpus: Corpus, config: PrepareConfig) -> tuple[Corpus, list[Piece]]:
    """Cuts the long recordings without text of a corpus, as `prepare` does it.

    Returns:
      The corpus with pieces in their place, and where these come from.
    """
    utterances, rejections = _usable(corpus, config, _ALLOW)
    utterances, pieces = _split(utterances, config)
    return (utterances, rejections), pieces


def prepare_corpus(
    corpus: Corpus,
    source: str | Path,
    out: str | Path,
    config: PrepareConfig,
    *,
    pieces: Iterable[Piece] = (),
    is_kept: bool = True,
) -> StoreSummary:
    """Prepares utterances that are already read from a corpus; see `prepare`.

    Args:
      source: name of the corpus in errors.
      pieces: the origins of utterances that `cut_recordings` made; those of others are left out.
      is_kept: whether the store remains after the command, so that errors may refer to it.
    """
    listed, remedy = (out, MEND) if is_kept else (None, _MEND_OR_PREPARE)
    utterances, rejections = _usable(corpus, config, _ALLOW if is_kept else _ALLOW_AND_PREPARE)
    total = len(utterances) + len(rejections)
    unusable = [*rejections, *filter(None, map(_missing, utterances))]
    check_rejected_share(unusable, total, config, source, remedy=remedy)
    warn_of_texts(source, utterances, config.text.extra_characters, config.tags)
    utterances, cut = _split_as_before(utterances, config, out) or _split(utterances, config)
    total = len(utterances) + len(rejections)
    by_id = {utterance.utterance_id: utterance for utterance in utterances}
    cut = [*(piece for piece in pieces if piece.utterance_id in by_id), *cut]
    plan = _plan(utterances, config)
    remarks = Remarks(listed)
    plan = plan_to_continue(out, plan, by_id, lambda own: records_of(own, config, Remarks()))
    with StoreWriter(out, plan) as writer:
        remove_unfinished(Path(out), (REMARKS, SAME_CORPORA))
        pending = writer.pending_shards()
        count = sum(len(plan.shards[number]) for number in pending)
        with progress_bar(total=count, desc=f"prepare {Path(out).name}", unit="utt") as bar:
            for number in pending:
                refused: list[Rejection] = []
                own = [by_id[utterance_id] for utterance_id in plan.shards[number]]
                results = records_of(own, config, remarks)
                writer.write_shard(number, _accepted(results, refused, remarks, bar), refused)
        if writer.is_complete:  # What is refused now leaves it as it is.
            check_rejected_share(writer.rejections(rejections), total, config, source, None, remedy)
        else:
            remarks.report(source)
            all_refused = writer.write_rejections(rejections)
            check_rejected_share(all_refused, total, config, source, listed, remedy)
        return writer.complete(rejections, cut)


def is_prepared(out: str | Path, config: PrepareConfig) -> bool:
    """Whether `out` holds a finished store of these settings; reads neither corpus nor shards.

    Raises:
      RecordError: if it holds a store of other settings, which `prepare` would refuse.
    """
    try:
        existing = Plan.read(Path(out) / PLAN)
    except RecordError:  # There is none, or `prepare` writes it again.
        return False
    return is_finished(out, dataclasses.replace(existing, **_identity(config)))


def _identity(config: PrepareConfig) -> dict[str, Any]:
    """What a plan says of the settings."""
    content = _of_the_content(config)
    return {"digest": config_digest(content), "settings": tuple(overrides_of(to_dict(content)))}


def _accepted(
    results: Iterable[UtteranceRecord | Rejection],
    refused: list[Rejection],
    remarks: Remarks,
    bar: tqdm,
) -> Iterator[UtteranceRecord]:
    """Yields the records of a shard; fills `refused` and saves `remarks` before it is finished."""
    for result in results:
        bar.update()
        if isinstance(result, Rejection):
            refused.append(result)
        else:
            yield result
    remarks.save()


def _usable(corpus: Corpus, config: PrepareConfig, advice: str) -> Corpus:
    """Removes texts that are placeholders, and commands that may not be run."""
    utterances: list[Utterance] = []
    rejections = list(corpus[1])
    for utterance in corpus[0]:
        command = utterance.command
        if command is not None and command.is_needed and not config.allow_commands:
            detail = f"its audio is the output of a command: {command} ({advice})"
            rejections.append(rejection_of(utterance, "needs_command", detail))
            continue
        utterance = without_placeholder(utterance, config)
        if not config.allow_commands:
            utterance = dataclasses.replace(utterance, command=None)
        utterances.append(utterance)
    return utterances, rejections


def _split(
    utterances: list[Utterance], config: PrepareConfig
) -> tuple[list[Utterance], list[Piece]]:
    if config.too_long == "reject":
        return utterances, []
    return split_long(
        utterances,
        sample_rate_hz=config.sample_rate_hz,
        max_seconds=config.max_seconds,
        piece_seconds=config.piece_seconds,
        workers=os.cpu_count() or 1,
    )


def _split_as_before(
    whole: list[Utterance], config: PrepareConfig, out: str | Path
) -> tuple[list[Utterance], list[Piece]] | None:
    """Finds the pieces that a finished store of this corpus was made of, without reading audio.

    Returns:
      What `_split` returned then; None if there is no such store, or it is of other files.
    """
    if config.too_long == "reject" or not is_prepared(out, config):
        return None
    store, pieces_of = open_store(out), defaultdict(list)
    for piece in store.pieces:
        pieces_of[piece.source_id].append(piece)
    utterances: list[Utterance] = []
    cut: list[Piece] = []
    for utterance in whole:
        own = pieces_of[utterance.utterance_id] if utterance.text is None else []
        own = [dataclasses.replace(piece, source=str(utterance.audio)) for piece in own]
        utterances += [piece_of(utterance, piece) for piece in own] or [utterance]
        cut += own
    is_same = is_of_same_corpus(store.directory, store.plan, _plan(utterances, config))
    return (utterances, cut) if is_same else None


def _plan(utterances: Sequence[Utterance], config: PrepareConfig) -> Plan:
    return Plan.create(
        UTTERANCES,
        [utterance.utterance_id for utterance in utterances],
        sources={CORPUS: _corpus_identity(utterances)},
        shard_size=config.shard_size,
        **_identity(config),
    )


def _missing(utterance: Utterance) -> Rejection | None:
    if os.path.exists(utterance.audio):  # Path.exists raises for names that no file can have.
        return None
    return rejection_of(utterance, "missing_file", NO_FILE.format(utterance.audio))


def _of_the_content(config: PrepareConfig) -> PrepareConfig:
    """The settings that a store depends on: all but `max_rejected_share`."""
    default = PrepareConfig().max_rejected_share
    return dataclasses.replace(config, max_rejected_share=default)


def _corpus_identity(utterances: Sequence[Utterance]) -> str:
    """Digest of all utterances, with the size and modification time of their files.

    The modification time stands for the content, which would take too long to read. If it alone has
    changed, `plan_to_continue` compares the contents.
    """
    rows = []
    for utterance in utterances:
        try:
            status = utterance.audio.stat()
            file = [status.st_size, status.st_mtime_ns]
        except OSError:
            file = []
        rows.append(
            [
                utterance.utterance_id,
                utterance.audio.name,
                utterance.text,
                utterance.speaker,
                utterance.start_seconds,
                utterance.end_seconds,
                # Leave these out if unused, so that stores of earlier versions keep their digest.
                *([f"channel {utterance.channel}"] if utterance.channel is not None else []),
                *([str(utterance.command)] if utterance.command else []),
                *file,
            ]
        )
    return sha256_of_text(json.dumps(sorted(rows, key=lambda row: row[0])))
