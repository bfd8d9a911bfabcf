"""Reads corpora: each layout of files has a reader that returns utterances.

Each line becomes an utterance or a rejection, so none is lost silently. Audio is not opened.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tfkd.audio.signatures import signature_of
from tfkd.corpora.jsonl import read_jsonl
from tfkd.corpora.kaldi import WAV_SCP, read_kaldi
from tfkd.corpora.published import (
    has_bars,
    read_commonvoice,
    read_librispeech,
    read_ljspeech,
    transcript_files,
)
from tfkd.corpora.recordings import has_recordings, read_recordings
from tfkd.corpora.tables import has_columns, read_table
from tfkd.corpora.trees import files_in
from tfkd.corpora.utterances import Corpus, Rejection, Utterance
from tfkd.errors import ManifestError

__all__ = ["FORMATS", "Corpus", "Rejection", "Utterance", "read_corpus"]

_NAME = "name a manifest (.jsonl), TSV or corpus folder, or give its format"
FORMATS = (
    "auto", "jsonl", "kaldi", "librispeech", "commonvoice", "ljspeech", "table", "recordings"
)  # fmt: skip
_MANIFESTS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv")
_ENDS = ("", ".gz")  # As they are, or packed.


def read_corpus(
    path: str | Path, format: str = "auto", *, without: str | Path | None = None
) -> Corpus:
    """Reads a corpus.

    Formats:
      jsonl: one object a line, or an array of objects, or SpeechBrain's object of objects; cuts of
        lhotse. Fields: `audio`, `utterance_id`, `text`, `speaker`, `channel` (from 0);
        `start_seconds` with `end_seconds` or `duration_seconds`; and the names that NeMo, lhotse,
        Hugging Face, SpeechBrain and Common Voice have for these (`tfkd.corpora.fields`). Without
        an id: the name of the file or, where lines share that, its path and the part.
      kaldi: directory with wav.scp (paths, or commands of known programs), text, segments (with
        a channel, too), utt2spk, reco2file_and_channel; all but wav.scp may be absent, and text may
        leave utterances out.
      librispeech: tree with *.trans.txt beside the audio.
      commonvoice: TSV with the columns path and sentence, beside the folder clips; and, if somebody
        added them, other fields of jsonl.
      ljspeech: metadata.csv (id|text|normalised text) beside the folder wavs.
      table: CSV or TSV whose first line names columns as the fields of jsonl.
      recordings: folder of audio files, in folders of their own or not, without any transcript.

    Paths are relative to the manifest or, if nothing is there, to the working folder. Manifests may
    be packed by gzip.

    Args:
      path: the manifest, TSV, CSV, or directory.
      format: one of `FORMATS`; "auto" tells it from the names of the files.
      without: a folder in which recordings are not looked for, such as the one that is written to.
    Returns:
      Utterances in the order of the corpus, their ids unique; and rejections: bad_line for what
      cannot be parsed, duplicate_id for every further use of an id.
    Raises:
      ManifestError: if there is no such corpus, nothing is in it, or its layout is not supported.
    """
    path, own = Path(path), None if without is None else Path(without)
    if format not in FORMATS:
        remedy = f"use one of {', '.join(FORMATS)}"
        raise ManifestError(f"unknown corpus format {format!r}", path=path, remedy=remedy)
    try:
        if not path.exists():
            raise ManifestError("no such file or folder", path=path, remedy="correct the path")
        if format == "auto":
            format = _detect_format(path, own)
        if format == "recordings":
            utterances, rejections = read_recordings(path, own)
        else:
            utterances, rejections = _READERS[format](path)
    except OSError as error:
        raise ManifestError(
            f"cannot read: {error.strerror or error}",
            path=error.filename or path,
            remedy="check its path and permissions",
        ) from error
    if not utterances and not rejections:
        raise ManifestError(
            f"no utterances in this {format} corpus", path=path, remedy="correct the path or format"
        )
    return utterances, rejections


def _detect_format(path: Path, without: Path | None) -> str:
    if path.is_file():
        suffix = Path(path.name.lower().removesuffix(".gz")).suffix
        if suffix in (".jsonl", ".json", ".ndjson"):
            return "jsonl"
        if suffix == ".tsv":
            names = ("sentence", "client_id")
            is_of_mozilla = any(has_columns(path, "path", name) for name in names)
            return "commonvoice" if is_of_mozilla else "table"
        if suffix == ".csv":
            return _format_of_csv(path)
        return _format_of_content(path)
    if (path / WAV_SCP).exists():
        return "kaldi"
    if (path / "metadata.jsonl").exists():
        return "jsonl"
    if (path / "metadata.csv").exists():
        return _format_of_csv(path / "metadata.csv")
    if next(transcript_files(path), None) is not None:
        return "librispeech"
    if has_recordings(path, without):
        _refuse_manifests(path, without)
        return "recordings"
    if not any(path.iterdir()):
        remedy = "correct the path, or put the audio there"
        raise ManifestError("is an empty folder", path=path, remedy=remedy)
    raise ManifestError("cannot tell the format of this corpus", path=path, remedy=_NAME)


def _format_of_csv(path: Path) -> str:
    """A table, unless it is LJSpeech's, which has no header and bars between its columns."""
    return "ljspeech" if has_bars(path) and not has_columns(path) else "table"


def _refuse_manifests(folder: Path, without: Path | None) -> None:
    """Raises ManifestError for a folder whose audio may have transcripts in a file beside it."""
    # Other files in JSON are often about one recording each, of which `read_recordings` warns.
    kinds = (*(f"{kind}{end}" for kind in _MANIFESTS for end in _ENDS), WAV_SCP)
    found = (
        each.relative_to(folder)
        for each in files_in(folder, kinds, without)
        if each.parent == folder or not each.name.lower().endswith(".json")
    )
    names = sorted(map(str, found))
    if names:
        raise ManifestError(
            f"holds {', '.join(names[:3])} beside audio",
            path=folder,
            remedy="name the manifest or the Kaldi folder, or a folder that holds audio alone",
        )


def _format_of_content(path: Path) -> str:
    """The format of a file whose name tells nothing."""
    with open(path, "rb") as file:
        head = file.read(512)
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"[")):
        return "jsonl"
    signature = signature_of(head)
    if signature is not None and signature.what != "text":
        raise ManifestError(
            f"no manifest, but {signature.what}",
            path=path,
            remedy=signature.remedy,
        )
    if has_columns(path):
        return "table"
    raise ManifestError("cannot tell the format of this corpus", path=path, remedy=_NAME)


_READERS: dict[str, Callable[[Path], Corpus]] = {
    "jsonl": read_jsonl,
    "kaldi": read_kaldi,
    "librispeech": read_librispeech,
    "commonvoice": read_commonvoice,
    "ljspeech": read_ljspeech,
    "table": read_table,
}
