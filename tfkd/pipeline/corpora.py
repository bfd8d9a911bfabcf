"""Prepares the corpora of `tfkd run` as stores, and sets hidden transcripts aside.

Hidden transcripts are known but not learned from: they measure how good the pseudo labels are.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
from collections.abc import Sequence
from pathlib import Path

from tfkd.config import PrepareConfig, RunConfig
from tfkd.corpora import Corpus, read_corpus
from tfkd.corpora.joining import (
    held_out_ids,
    join_corpora,
    measured_of,
    parted,
    shared_audio,
    without_transcripts,
)
from tfkd.corpora.pieces import Piece
from tfkd.data.preparation import cut_recordings, prepare_corpus
from tfkd.data.utterance_records import without_placeholder
from tfkd.errors import ManifestError, RecordError
from tfkd.records import Plan
from tfkd.storage.files import write_text
from tfkd.storage.json_files import read_json_lines
from tfkd.storage.markers import PLAN
from tfkd.text import transcript_of

TRAIN, VALID, TEST, TRAIN_ALL = "data/train", "data/valid", "data/test", "data/train-all"
_HIDDEN = "data/hidden.jsonl"
# Fewer recordings, held out whole, would be one or two voices.
_FEWEST_RECORDINGS = 3
# With fewer utterances of some words each, one word is about a point of WER.
_ENOUGH_TO_MEASURE = 30
_LOG = logging.getLogger("tfkd")


def prepared_stores(config: RunConfig) -> tuple[str, ...]:
    """Lists the stores that `prepare_corpora` writes, relative to the work folder."""
    return (VALID, TEST, TRAIN) + ((TRAIN_ALL,) if "all" in config.baselines else ())


def prepare_corpora(config: RunConfig, work: Path) -> None:
    """Prepares every corpus of a run.

    - `data/valid` and `data/test` hold what the config names, or what is held out of the training
      audio instead: whole speakers or recordings, or pieces of long ones where there are too few;
    - `data/train` holds all other training audio, with the transcripts that the job may learn from;
    - `data/hidden.jsonl` holds its other transcripts, which only measure the labels;
    - `data/train-all` holds the same audio with every transcript, for the baseline "all".

    Raises:
      ManifestError: if a corpus cannot be read, two corpora share an id, too large a share of one
        is unusable, or nothing is left for the baseline "all".
    """
    root, names = Path(config.data_dir), config.corpora
    named = {VALID: names.valid, TEST: names.test}
    given = {store: root / name for store, name in named.items() if name is not None}
    evaluated = {store: read_corpus(path, without=work) for store, path in given.items()}
    every_transcript, usable = _training_corpora(config)
    for store, corpus in evaluated.items():
        _warn_of_shared_audio(corpus, usable, given[store])
        prepare_corpus(corpus, given[store], work / store, config.prepare)
    missing = [store for store in named if store not in given]
    pieces: list[Piece] = []
    if missing and names.held_out_share * len(usable[0]) < _FEWEST_RECORDINGS:
        usable, pieces = cut_recordings(usable, config.prepare)
    chosen = _held_out(usable, config, [work / store for store in missing], is_cut=bool(pieces))
    # A transcript of a whole recording cannot be cut, so the whole is held out with its piece.
    whole = {piece.utterance_id: piece.source_id for piece in pieces}
    held_out = {}
    for store, ids in zip(missing, chosen, strict=True):
        part, usable = parted(usable, ids)
        measured = measured_of(part[0])
        held_out[store] = measured, part[1]
        _warn_of_held_out(store, len(ids), len(measured))
        _, every_transcript = parted(every_transcript, {whole.get(each, each) for each in ids})
    if pieces and "all" in config.baselines and not every_transcript[0]:
        raise ManifestError(
            "a part of every recording is held out, which leaves none for the baseline all",
            path=root,
            remedy="name corpora.valid and corpora.test, or leave all out of baselines",
        )
    prepare_corpus(usable, root, work / TRAIN, config.prepare, pieces=pieces)
    # What is unusable of so few has nothing to say about the corpus: the rest is held to the limit.
    unlimited = dataclasses.replace(config.prepare, max_rejected_share=1.0)
    for store, part in held_out.items():
        prepare_corpus(part, root, work / store, unlimited, pieces=pieces)
    _write_hidden(every_transcript, usable, work / _HIDDEN, config.prepare)
    if "all" in config.baselines:
        prepare_corpus(every_transcript, root, work / TRAIN_ALL, config.prepare)


def _warn_of_shared_audio(corpus: Corpus, usable: Corpus, path: Path) -> None:
    if shared := shared_audio(corpus, usable):
        _LOG.warning(
            "%s: %d of its utterances, for example %s, are learned from, too: figures of them "
            "say nothing of other audio",
            *(path, len(shared), shared[0]),
        )


def _warn_of_held_out(store: str, num_held_out: int, num_measured: int) -> None:
    """Logs how many held-out utterances measure nothing, and if those that do are few."""
    if num_measured < num_held_out:
        _LOG.warning(
            "%s: %d utterances without transcripts are left out of the training, because "
            "their speakers or recordings are held out",
            store,
            num_held_out - num_measured,
        )
    if num_measured < _ENOUGH_TO_MEASURE:
        _LOG.warning(
            "%s: %d utterances are held out, on which figures say little; raise "
            "corpora.held_out_share, or name corpora of your own",
            store,
            num_measured,
        )


def _held_out(
    usable: Corpus, config: RunConfig, stores: Sequence[Path], *, is_cut: bool
) -> list[set[str]]:
    """Chooses what each of some stores is to hold.

    Pieces are held out one by one, because they are of few recordings.
    """
    share = config.corpora.held_out_share
    # Earlier versions knew neither speakers nor recordings; their stores stay as they are.
    single = held_out_ids(usable, share, len(stores), is_grouped=False)
    if is_cut or [_planned_ids(store) for store in stores] == single:
        return single
    return held_out_ids(usable, share, len(stores))


def _planned_ids(store: Path) -> set[str]:
    """The utterances that a store was planned to hold; none if there is no readable plan."""
    try:
        return set(itertools.chain(*Plan.read(store / PLAN).shards))
    except RecordError:
        return set()


def hidden_transcripts(work: Path) -> dict[str, str]:
    """Reads the hidden transcripts, normalised as those of stores, by utterance id."""
    rows = read_json_lines(work / _HIDDEN, {"utterance_id": str, "text": str})
    return {row["utterance_id"]: row["text"] for row in rows}


def _training_corpora(config: RunConfig) -> tuple[Corpus, Corpus]:
    """Reads all training audio: with every transcript, and with those that may be learned from."""
    root, names = Path(config.data_dir), config.corpora

    def read(name: str) -> Corpus:
        utterances, rejections = read_corpus(root / name, without=config.work_dir)
        # Neither shares of transcripts nor what is held out count them.
        return [without_placeholder(each, config.prepare) for each in utterances], rejections

    train = {name: read(name) for name in names.train}
    untranscribed = {name: read(name) for name in names.untranscribed}
    usable = {
        **{
            name: without_transcripts(each, names.transcribed_share) for name, each in train.items()
        },
        **{name: without_transcripts(each) for name, each in untranscribed.items()},
    }
    return join_corpora({**train, **untranscribed}), join_corpora(usable)


def _write_hidden(every: Corpus, usable: Corpus, path: Path, config: PrepareConfig) -> None:
    is_hidden = {each.utterance_id for each in usable[0] if each.text is None}
    extra, tags = config.text.extra_characters, config.tags
    texts = {
        each.utterance_id: transcript_of(each.text, extra_characters=extra, tags=tags).text
        for each in every[0]
        if each.utterance_id in is_hidden
    }
    rows = ({"utterance_id": id_, "text": text} for id_, text in texts.items() if text is not None)
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
