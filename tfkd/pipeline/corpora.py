"""The corpora of a run become stores; transcripts that nobody may learn from are set aside."""

from __future__ import annotations

import json
from pathlib import Path

from tfkd.config import PrepareConfig, RunConfig
from tfkd.corpora import Corpus, read_corpus
from tfkd.corpora.joining import join_corpora, without_transcripts
from tfkd.data.preparation import prepare, prepare_corpus
from tfkd.storage.files import write_text
from tfkd.storage.json_files import read_json_lines
from tfkd.text import normalise

TRAIN, VALID, TEST, TRAIN_ALL = "data/train", "data/valid", "data/test", "data/train-all"
_HIDDEN = "data/hidden.jsonl"


def prepared_stores(config: RunConfig) -> tuple[str, ...]:
    """Folders of the stores that `prepare_corpora` makes, below the work folder."""
    return (TRAIN, VALID, TEST) + ((TRAIN_ALL,) if "all" in config.baselines else ())


def prepare_corpora(config: RunConfig, work: Path) -> None:
    """Prepares every corpus of a run.

    `data/train` holds all audio to learn from, with the transcripts that may be learned from;
    `data/hidden.jsonl` the other transcripts that are known, to measure by; and `data/train-all`,
    for the baseline "all", the same audio with every transcript.

    Raises:
      ManifestError: if a corpus cannot be read, two of them share an id, or too much is unusable.
    """
    root = Path(config.data_dir)
    prepare(root / config.corpora.valid, work / VALID, config.prepare)
    prepare(root / config.corpora.test, work / TEST, config.prepare)
    every_transcript, usable = _training_corpora(config)
    prepare_corpus(usable, root, work / TRAIN, config.prepare)
    _write_hidden(every_transcript, usable, work / _HIDDEN, config.prepare)
    if "all" in config.baselines:
        prepare_corpus(every_transcript, root, work / TRAIN_ALL, config.prepare)


def hidden_transcripts(work: Path) -> dict[str, str]:
    """Transcripts that nobody may learn from, by utterance; as normalised as those of stores."""
    rows = read_json_lines(work / _HIDDEN, {"utterance_id": str, "text": str})
    return {row["utterance_id"]: row["text"] for row in rows}


def _training_corpora(config: RunConfig) -> tuple[Corpus, Corpus]:
    """All audio to learn from: with every transcript there is, and with those that may be used."""
    root, names = Path(config.data_dir), config.corpora
    train = {name: read_corpus(root / name) for name in names.train}
    untranscribed = {name: read_corpus(root / name) for name in names.untranscribed}
    usable = {
        **{
            name: without_transcripts(each, names.transcribed_share) for name, each in train.items()
        },
        **{name: without_transcripts(each) for name, each in untranscribed.items()},
    }
    return join_corpora({**train, **untranscribed}), join_corpora(usable)


def _write_hidden(every: Corpus, usable: Corpus, path: Path, config: PrepareConfig) -> None:
    is_hidden = {each.utterance_id for each in usable[0] if each.text is None}
    texts = {
        each.utterance_id: normalise(each.text, extra_characters=config.text.extra_characters)
        for each in every[0]
        if each.text is not None and each.utterance_id in is_hidden
    }
    rows = ({"utterance_id": name, "text": text} for name, text in texts.items() if text)
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
