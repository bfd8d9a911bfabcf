"""Measures the error rates, size and speed of a run or of an exported form."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfkd.data.audio_batches import audio_batches
from tfkd.data.sample_rates import check_rate
from tfkd.errors import CheckpointError, TfkdError
from tfkd.exporting.interface import OpenForm
from tfkd.metrics import score
from tfkd.progress import progress_bar
from tfkd.records import Store

Batch = dict[str, np.ndarray]

_NAMED_UTTERANCES = 3
_GIVE_TRANSCRIPTS = "give data with transcripts to measure error rates"
_LOG = logging.getLogger("tfkd")


@dataclass(frozen=True)
class Evaluation:
    """The figures of one model on one store; `tfkd evaluate --json` writes them.

    Attributes:
      model: path of the file or folder.
      form: "keras", or the name of an export form.
      wer: word errors / words of the references, a share; see `tfkd.metrics.ErrorRate`.
      wer_low, wer_high: its 95 % bootstrap interval over utterances.
      cer: character errors / characters of the references, a share.
      insertions, deletions, substitutions, words: counts over all utterances.
      utterances: number of scored utterances; one with an empty reference adds insertions alone.
      without_transcript: number of utterances that were decoded, but have no transcript.
      too_long: number of utterances that were skipped, being longer than the model takes.
      silent: number of scored utterances whose transcript is empty, because nothing is said.
      silent_with_words: number of these in which the model heard words.
      parameters: number of weights.
      bytes: size of the model on disk.
      rtf: real-time factor: wall seconds of decoding a second of audio, in batches of `batch_size`.
        The first batch is decoded once before, so that tracing does not count.
      batch_size: number of utterances decoded together.
      audio_seconds: duration of the decoded audio.
    """

    model: str
    form: str
    wer: float
    wer_low: float
    wer_high: float
    cer: float
    insertions: int
    deletions: int
    substitutions: int
    words: int
    utterances: int
    without_transcript: int
    too_long: int
    silent: int
    silent_with_words: int
    parameters: int
    bytes: int
    rtf: float
    batch_size: int
    audio_seconds: float


@dataclass(frozen=True)
class Recognition:
    """The reference and the best hypothesis of one utterance."""

    utterance_id: str
    reference: str
    hypothesis: str


@dataclass
class _Decoded:
    """The results of the utterances that are decoded so far."""

    transcripts: list[Recognition] = field(default_factory=list)
    without_transcript: int = 0
    too_long: list[str] = field(default_factory=list)
    audio_samples: int = 0
    compute_seconds: float = 0.0


def check_transcripts(store: Store, remedy: str = _GIVE_TRANSCRIPTS) -> None:
    """Raises TfkdError with a remedy if no utterance has a transcript."""
    if all(row.get("text") is None for row in store.index):
        raise TfkdError(
            "no utterance has a transcript",
            path=store.directory,
            remedy=remedy,
        )


def evaluate(recogniser: OpenForm, store: Store) -> tuple[Evaluation, list[Recognition]]:
    """Decodes the utterances of a store and scores those that have a transcript.

    An empty transcript means that nothing was said: recognised words count as insertions. Logs a
    warning that names utterances which are too long for the model.

    Args:
      recogniser: from `open_model`.
      store: utterances at its sample rate.
    Returns:
      The figures, and the transcripts of the scored utterances, in the order of the store.
    Raises:
      TfkdError: if no utterance has a transcript, or all are too long.
      RecordError: if they have another sample rate.
      CheckpointError: if the model fails or crashes; it names the utterance.

    >>> store = tfkd.open_store("work/data/test")
    >>> model = tfkd.open_model("work/export/model-float32.tflite")
    >>> figures, transcripts = tfkd.evaluate(model, store)
    >>> figures.utterances == len(transcripts)
    True
    """
    check_rate(store, recogniser.sample_rate_hz)
    check_transcripts(store)
    decoded = _decode(recogniser, store)
    _warn(decoded, recogniser)
    transcripts = decoded.transcripts
    if not transcripts:
        raise TfkdError(
            "every utterance with a transcript is longer than the model takes",
            path=store.directory,
            remedy="export with a larger export.max_seconds, or split the recordings",
        )
    rate = score([t.reference for t in transcripts], [t.hypothesis for t in transcripts])
    silent = [t for t in transcripts if not t.reference.split()]
    audio_seconds = decoded.audio_samples / recogniser.sample_rate_hz
    evaluation = Evaluation(
        model=str(recogniser.path),
        form=recogniser.form,
        without_transcript=decoded.without_transcript,
        too_long=len(decoded.too_long),
        silent=len(silent),
        silent_with_words=sum(bool(t.hypothesis.split()) for t in silent),
        parameters=recogniser.parameters,
        bytes=recogniser.bytes,
        rtf=decoded.compute_seconds / audio_seconds,
        batch_size=recogniser.batch_size,
        audio_seconds=audio_seconds,
        **asdict(rate),
    )
    # Decoding goes by length.
    places = {row["utterance_id"]: place for place, row in enumerate(store.index)}
    return evaluation, sorted(transcripts, key=lambda each: places[each.utterance_id])


def _decode(recogniser: OpenForm, store: Store) -> _Decoded:
    decoded = _Decoded()
    batches = audio_batches(store, recogniser.batch_size)
    _warm_up(recogniser, batches)
    with progress_bar(total=len(store.index), desc="evaluate", unit="utt") as bar:
        for batch in batches:
            bar.update(len(batch["num_samples"]))
            usable = _usable(batch, recogniser, decoded)
            if len(usable["num_samples"]):
                start = time.perf_counter()
                texts = _best_texts(recogniser, usable)
                decoded.compute_seconds += time.perf_counter() - start
                decoded.audio_samples += int(usable["num_samples"].sum())
                decoded.transcripts.extend(_transcripts(usable, texts))
                decoded.without_transcript += int((~usable["has_text"]).sum())
    return decoded


def _usable(batch: dict[str, tf.Tensor], recogniser: OpenForm, decoded: _Decoded) -> Batch:
    """Selects the utterances of a batch that are not too long, and notes the others."""
    arrays = {name: value.numpy() for name, value in batch.items()}
    if recogniser.max_samples is None:
        return arrays
    fits = arrays["num_samples"] <= recogniser.max_samples
    decoded.too_long += [name.decode() for name in arrays["utterance_id"][~fits]]
    return {name: value[fits] for name, value in arrays.items()}


def _warm_up(recogniser: OpenForm, batches: tf.data.Dataset) -> None:
    for batch in batches.take(1):
        usable = _usable(batch, recogniser, _Decoded())
        if len(usable["num_samples"]):
            _best_texts(recogniser, usable)


def _best_texts(recogniser: OpenForm, batch: Batch) -> list[str]:
    try:
        rows = recogniser.decode(batch["waveform"], batch["num_samples"])
    except CheckpointError as error:
        first, *others = batch["utterance_id"]
        named = first.decode() + (f" or one of {len(others)} others" if others else "")
        raise CheckpointError(
            error.message, path=error.path, utterance_id=named, remedy=error.remedy
        ) from error
    return [hypotheses[0].text if hypotheses else "" for hypotheses in rows]


def _transcripts(batch: Batch, texts: Sequence[str]) -> Iterator[Recognition]:
    rows = zip(batch["utterance_id"], batch["text"], batch["has_text"], texts, strict=True)
    for utterance_id, reference, has_text, text in rows:
        if has_text:
            yield Recognition(utterance_id.decode(), reference.decode(), text)


def _warn(decoded: _Decoded, recogniser: OpenForm) -> None:
    if decoded.too_long and recogniser.max_samples is not None:
        named = ", ".join(decoded.too_long[:_NAMED_UTTERANCES])
        more = len(decoded.too_long) - _NAMED_UTTERANCES
        _LOG.warning(
            "%s: %d utterances are not scored, being longer than the %.2f s that the model takes: "
            "%s%s",
            Path(recogniser.path),
            len(decoded.too_long),
            recogniser.max_samples / recogniser.sample_rate_hz,
            named,
            f" and {more} more" if more > 0 else "",
        )
