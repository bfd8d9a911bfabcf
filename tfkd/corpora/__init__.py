"""Readers of corpora: each turns a layout of files into utterances.

Nothing is lost without a word: a line becomes an utterance or a rejection. Audio is not opened.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tfkd.corpora.jsonl import read_jsonl
from tfkd.corpora.kaldi import read_kaldi
from tfkd.corpora.published import (
    read_commonvoice,
    read_librispeech,
    read_ljspeech,
    transcript_files,
)
from tfkd.corpora.utterances import Corpus, Rejection, Utterance
from tfkd.errors import ManifestError

__all__ = ["FORMATS", "Corpus", "Rejection", "Utterance", "read_corpus"]

FORMATS = ("auto", "jsonl", "kaldi", "librispeech", "commonvoice", "ljspeech")


def read_corpus(path: str | Path, format: str = "auto") -> Corpus:
    """Reads a corpus.

    Formats:
      jsonl: one object a line: `audio` or `audio_filepath` (relative to the manifest);
        `utterance_id` or `id` (default: name of the audio file without its suffix), `text`,
        `speaker`; `start_seconds` (NeMo: `offset`) with `end_seconds`, or with
        `duration_seconds` (NeMo: `duration`).
      kaldi: directory with wav.scp (plain paths, relative to the directory), text, segments,
        utt2spk; all but wav.scp may be absent.
      librispeech: tree with *.trans.txt beside the audio.
      commonvoice: TSV with the columns path and sentence, beside the folder clips.
      ljspeech: metadata.csv (id|text|normalised text) beside the folder wavs.

    Args:
      path: the manifest, TSV, CSV, or directory.
      format: one of `FORMATS`; "auto" tells it from the names of the files.
    Returns:
      Utterances in the order of the corpus, their ids unique; and rejections: bad_line for what
      cannot be parsed, duplicate_id for every further use of an id, empty_transcript for what
      a Kaldi `text` leaves out.
    Raises:
      ManifestError: if there is no such corpus, nothing is in it, or its layout is not supported.
    """
    path = Path(path)
    if format not in FORMATS:
        remedy = f"use one of {', '.join(FORMATS)}"
        raise ManifestError(f"unknown corpus format {format!r}", path=path, remedy=remedy)
    if not path.exists():
        raise ManifestError("no such file or folder", path=path, remedy="correct the path")
    if format == "auto":
        format = _detect_format(path)
    utterances, rejections = _READERS[format](path)
    if not utterances and not rejections:
        raise ManifestError(f"no utterances in this {format} corpus", path=path)
    return utterances, rejections


def _detect_format(path: Path) -> str:
    if path.is_file():
        by_suffix = {".jsonl": "jsonl", ".json": "jsonl", ".tsv": "commonvoice", ".csv": "ljspeech"}
        if path.suffix.lower() in by_suffix:
            return by_suffix[path.suffix.lower()]
    elif (path / "wav.scp").exists():
        return "kaldi"
    elif (path / "metadata.csv").exists():
        return "ljspeech"
    elif next(transcript_files(path), None) is not None:
        return "librispeech"
    raise ManifestError(
        "cannot tell the format of this corpus",
        path=path,
        remedy="name a manifest (.jsonl), TSV or corpus folder, or give its format",
    )


_READERS: dict[str, Callable[[Path], Corpus]] = {
    "jsonl": read_jsonl,
    "kaldi": read_kaldi,
    "librispeech": read_librispeech,
    "commonvoice": read_commonvoice,
    "ljspeech": read_ljspeech,
}
