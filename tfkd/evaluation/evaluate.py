"""Error rates, sizes and speed of a recogniser in any of its forms."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import tensorflow as tf
from tqdm import tqdm

from tfkd.data.audio_batches import audio_batches
from tfkd.decoding.decoder import Decoder
from tfkd.decoding.results import unbatch
from tfkd.decoding.runs import MODEL, load_run
from tfkd.device.recogniser import DeviceRecogniser
from tfkd.errors import CheckpointError, ConfigError, TfkdError
from tfkd.exporting.export import load_savedmodel
from tfkd.metrics import score
from tfkd.records import Store
from tfkd.storage.files import directory_bytes

Batch = dict[str, tf.Tensor]


@dataclass(frozen=True)
class Evaluation:
    """What `tfkd evaluate --json` holds; error rates are shares, not per cent.

    Attributes:
      wer_low, wer_high: 95 % bootstrap interval over utterances.
      rtf: seconds of computing per second of audio, in batches of `batch_size`; the first batch of
        each shape, which may include tracing, is decoded once before the clock starts.
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
    parameters: int
    bytes: int
    rtf: float
    batch_size: int
    audio_seconds: float


@dataclass(frozen=True)
class Transcript:
    """One utterance's reference and best hypothesis."""

    utterance_id: str
    reference: str
    hypothesis: str


@dataclass(frozen=True)
class OpenModel:
    """A recogniser in one of its forms, reduced to what evaluation needs.

    Attributes:
      pieces: what its tokens stand for.
      transcribe: the best hypothesis of each utterance of a batch.
    """

    path: Path
    form: str
    parameters: int
    bytes: int
    sample_rate_hz: int
    pieces: tuple[str, ...]
    batch_size: int
    transcribe: Callable[[Batch], list[str]]


def check_transcripts(store: Store) -> None:
    """Raises TfkdError if there is nothing to measure by."""
    if not any(row.get("text") for row in store.index):
        raise TfkdError("no utterance has a transcript", path=store.directory)


def evaluate(recogniser: OpenModel, store: Store) -> tuple[Evaluation, list[Transcript]]:
    """Decodes every utterance of `store` that has a transcript, and scores the best hypotheses.

    Raises:
      TfkdError: if no utterance has a transcript.
    """
    check_transcripts(store)
    transcripts: list[Transcript] = []
    compute_seconds = 0.0
    audio_samples = 0
    batches = audio_batches(store, recogniser.batch_size)
    _warm_up(recogniser, batches)
    with tqdm(total=len(store.index), desc="evaluate", unit="utt", disable=None) as bar:
        for batch in batches:
            start = time.perf_counter()
            texts = recogniser.transcribe(batch)
            compute_seconds += time.perf_counter() - start
            audio_samples += int(tf.reduce_sum(batch["num_samples"]))
            transcripts.extend(_transcripts(batch, texts))
            bar.update(len(texts))
    rate = score([t.reference for t in transcripts], [t.hypothesis for t in transcripts])
    audio_seconds = audio_samples / recogniser.sample_rate_hz
    evaluation = Evaluation(
        model=str(recogniser.path),
        form=recogniser.form,
        parameters=recogniser.parameters,
        bytes=recogniser.bytes,
        rtf=compute_seconds / audio_seconds,
        batch_size=recogniser.batch_size,
        audio_seconds=audio_seconds,
        **asdict(rate),
    )
    return evaluation, transcripts


def _warm_up(recogniser: OpenModel, batches: tf.data.Dataset) -> None:
    for batch in batches.take(1):
        recogniser.transcribe(batch)


def _transcripts(batch: Batch, texts: list[str]) -> Iterator[Transcript]:
    ids, references = batch["utterance_id"].numpy(), batch["text"].numpy()
    for utterance_id, reference, has_text, text in zip(
        ids, references, batch["has_text"].numpy(), texts
    ):
        if has_text:
            yield Transcript(utterance_id.decode(), reference.decode(), text)


def open_model(path: str | Path, overrides: Sequence[str] = ()) -> OpenModel:
    """Opens a recogniser of any form.

    Args:
      path: folder of a run, folder of a SavedModel, or .tflite file.
      overrides: `key=value` settings of the decoding of a run.
    Raises:
      CheckpointError: if `path` is none of these.
      ConfigError: if an override does not fit, or `path` is an exported form.
    """
    model = Path(path)
    if (model / MODEL).is_file():
        return _open_run(model, overrides)
    if overrides:
        raise ConfigError(
            "the search of an exported form cannot be changed",
            path=model,
            remedy="export again with other settings",
        )
    if model.suffix == ".tflite":
        return _open_tflite(model)
    if (model / "saved_model.pb").is_file():
        return _open_savedmodel(model)
    raise CheckpointError(
        "is neither the folder of a run, nor a SavedModel, nor a .tflite file", path=model
    )


def _open_run(directory: Path, overrides: Sequence[str]) -> OpenModel:
    run = load_run(directory).with_decoding(overrides)
    decoder = Decoder(run.model, run.tokenizer, run.system.decoding)

    def transcribe(batch: Batch) -> list[str]:
        result = decoder.decode(batch["waveform"], batch["num_samples"])
        ids = batch["utterance_id"].numpy()
        decoded = unbatch(
            result, run.tokenizer, ids, [None] * len(ids), batch["num_samples"].numpy()
        )
        return [each.best_text for each in decoded]

    return OpenModel(
        path=directory,
        form="keras",
        parameters=run.model.count_params(),
        bytes=directory_bytes(directory / MODEL),
        sample_rate_hz=run.system.model.frontend.sample_rate_hz,
        pieces=run.tokenizer.pieces,
        batch_size=run.system.training.batch_size,
        transcribe=transcribe,
    )


def _open_savedmodel(directory: Path) -> OpenModel:
    try:
        metadata = json.loads((directory / "tfkd.json").read_text())
        parameters, rate_hz = metadata["parameters"], metadata["sample_rate_hz"]
        pieces = tuple(metadata["pieces"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise CheckpointError(f"not a SavedModel of tfkd: {error}", path=directory) from error
    serve = load_savedmodel(directory)

    def transcribe(batch: Batch) -> list[str]:
        result = serve(waveform=batch["waveform"], num_samples=batch["num_samples"])
        return [text.decode() for text in result["text"][:, 0].numpy()]

    return OpenModel(
        path=directory,
        form="savedmodel",
        parameters=parameters,
        bytes=directory_bytes(directory),
        sample_rate_hz=rate_hz,
        pieces=pieces,
        batch_size=16,
        transcribe=transcribe,
    )


def _open_tflite(path: Path) -> OpenModel:
    recogniser = DeviceRecogniser(path)

    def transcribe(batch: Batch) -> list[str]:
        hypotheses = recogniser.transcribe_waveform(batch["waveform"][0].numpy())
        return [hypotheses[0].text if hypotheses else ""]

    return OpenModel(
        path=path,
        form=f"tflite-{recogniser.metadata.quantisation}",
        parameters=recogniser.metadata.parameters,
        bytes=path.stat().st_size,
        sample_rate_hz=recogniser.metadata.sample_rate_hz,
        pieces=recogniser.metadata.pieces,
        batch_size=1,
        transcribe=transcribe,
    )
