"""Recognisers for servers (SavedModel) and devices (.tflite), gated by parity with Keras.

A conversion runs in a child process with a memory limit, because the converter can abort or grow
without bound, and every file is decoded on real utterances before it gets its name.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfkd.config import ExportConfig, FusionConfig
from tfkd.data.audio_batches import audio_batches, spread_over_lengths
from tfkd.decoding.decoder import Decoder, decode_dataset
from tfkd.decoding.results import Decoded
from tfkd.decoding.runs import Run
from tfkd.device.recogniser import DeviceMetadata, DeviceRecogniser, append_metadata
from tfkd.errors import ExportError
from tfkd.metrics import score
from tfkd.records import Store
from tfkd.storage.files import atomic_directory, atomic_write, directory_bytes, write_json

REPORT = "parity.json"
_CHILD_MEMORY_BYTES = 16 * 2**30
_CHILD_SECONDS = 900
_MIN_SECONDS = 0.1


@dataclass(frozen=True)
class Exported:
    """One exported form and how it compares with Keras.

    Attributes:
      identical: share of the parity utterances with the same best token ids as Keras.
      wer_change: WER minus that of Keras on the parity utterances; the reference of one without a
        transcript is what Keras says.
    """

    format: str
    path: str
    bytes: int
    identical: float
    wer_change: float
    utterances: int


def export(run: Run, out: str | Path, config: ExportConfig, parity_store: Store) -> list[Exported]:
    """Writes each form of `config.formats`, if it says what Keras says.

    float32 forms must give the token ids of Keras on every parity utterance; quantised ones may
    change WER by `config.max_wer_change` at most.

    Args:
      parity_store: real utterances; `config.parity_utterances` of them are decoded by each form,
        spread over the range of lengths.
    Raises:
      ExportError: if a form cannot be converted, or fails its gate.
    """
    out = Path(out)
    utterances = _parity_utterances(run, parity_store, config)
    reports = [_export_one(run, out, form, config, utterances) for form in config.formats]
    write_json(out / REPORT, [asdict(report) for report in reports])
    return reports


def decoder_for(run: Run, config: ExportConfig, batch_size: int | None = None) -> Decoder:
    """The search that goes into the exported forms."""
    decoding = replace(
        run.system.decoding,
        beam_width=config.beam_width,
        num_hypotheses=config.num_hypotheses,
        fusion=FusionConfig(),  # A device has no room for a language model beside the student.
    )
    return Decoder(run.model, run.tokenizer, decoding, batch_size=batch_size)


def load_savedmodel(path: str | Path):
    """The serving function of an exported SavedModel: (waveform, num_samples) to a dict."""
    try:
        return tf.saved_model.load(str(path)).signatures["serving_default"]
    except (OSError, ValueError, LookupError, tf.errors.OpError) as error:
        raise ExportError(f"not a SavedModel of tfkd: {error}", path=path) from error


@dataclass(frozen=True)
class _Parity:
    """One utterance and what Keras says of it."""

    waveform: np.ndarray
    keras: Decoded


def _parity_utterances(run: Run, store: Store, config: ExportConfig) -> list[_Parity]:
    rate_hz = run.system.model.frontend.sample_rate_hz
    # A device pads what is shorter, and refuses what is longer.
    comparable = [
        row
        for row in store.index
        if _MIN_SECONDS <= row["num_samples"] / rate_hz <= config.max_seconds
    ]
    wanted = spread_over_lengths(comparable, config.parity_utterances)
    decoder = decoder_for(run, config)
    chosen = []
    for batch in audio_batches(store, 1):
        if batch["utterance_id"][0].numpy().decode() in wanted:
            decoded = next(decode_dataset(decoder, [batch]))
            chosen.append(_Parity(batch["waveform"][0].numpy(), decoded))
    if not chosen:
        raise ExportError(
            f"parity needs an utterance of {_MIN_SECONDS:g} to {config.max_seconds:g} s",
            path=store.directory,
        )
    return chosen


def _export_one(
    run: Run, out: Path, form: str, config: ExportConfig, utterances: Sequence[_Parity]
) -> Exported:
    """Writes one form beside its final place, checks it, and only then moves it there."""
    name = "savedmodel" if form == "savedmodel" else f"model-{form.removeprefix('tflite-')}.tflite"
    if form == "savedmodel":
        with atomic_directory(out / name) as temporary:
            _write_savedmodel(run, temporary, config)
            report = _check(form, temporary, utterances, config, _savedmodel_ids(temporary))
    else:
        with tempfile.TemporaryDirectory() as scratch:
            temporary = Path(scratch) / name
            temporary.write_bytes(_tflite_bytes(run, form, config))
            report = _check(form, temporary, utterances, config, _tflite_ids(temporary))
            with atomic_write(out / name) as file:
                file.write(temporary.read_bytes())
    return Exported(**{**asdict(report), "path": name, "bytes": directory_bytes(out / name)})


def _write_savedmodel(run: Run, directory: Path, config: ExportConfig) -> None:
    decoder = decoder_for(run, config)
    pieces = tf.constant(run.tokenizer.pieces)

    @tf.function(input_signature=decoder.decode.input_signature, autograph=False)
    def serve(waveform, num_samples):
        result = decoder.decode(waveform, num_samples)
        text = tf.strings.reduce_join(tf.gather(pieces, result.token_ids), -1)
        text = tf.strings.strip(tf.strings.regex_replace(text, " +", " "))
        return {
            "text": text,
            "token_ids": result.token_ids,
            "num_tokens": result.num_tokens,
            "log_prob": result.log_prob,
            "score": result.score,
        }

    module = _module(run)
    tf.saved_model.save(module, str(directory), signatures={"serving_default": serve})
    write_json(directory / "tfkd.json", asdict(_metadata(run, config, "float32")))


def _module(run: Run) -> tf.Module:
    """A module that tracks the weights: the exporter aborts on variables that nothing tracks."""
    module = tf.Module()
    module.weights = [variable.value for variable in run.model.variables]
    return module


def _tflite_bytes(run: Run, form: str, config: ExportConfig) -> bytes:
    decoder = decoder_for(run, config, batch_size=1)

    @tf.function(
        input_signature=[tf.TensorSpec([1, None], tf.float32, name="waveform")], autograph=False
    )
    def serve(waveform):
        result = decoder.decode(waveform, tf.shape(waveform)[1:2])
        return {
            "token_ids": result.token_ids,
            "num_tokens": result.num_tokens,
            "log_prob": result.log_prob,
            "score": result.score,
        }

    with tempfile.TemporaryDirectory() as scratch:
        source, target = Path(scratch) / "savedmodel", Path(scratch) / "model.tflite"
        tf.saved_model.save(_module(run), str(source), signatures={"serving_default": serve})
        _convert_in_child(source, target, form)
        quantisation = form.removeprefix("tflite-")
        return append_metadata(target.read_bytes(), _metadata(run, config, quantisation))


def _convert_in_child(source: Path, target: Path, form: str) -> None:
    context = multiprocessing.get_context("spawn")
    log = target.with_suffix(".log")
    child = context.Process(target=_convert, args=(str(source), str(target), form, str(log)))
    child.start()
    child.join(_CHILD_SECONDS)
    if child.is_alive():
        child.kill()
        child.join()
        raise ExportError(f"{form}: the converter did not end in {_CHILD_SECONDS} s")
    if child.exitcode or not target.exists():
        said = log.read_text(errors="replace").split("\n") if log.exists() else []
        reason = next((line for line in reversed(said) if "rror" in line), "it said nothing")
        raise ExportError(
            f"{form}: the converter ended with exit code {child.exitcode}: {reason[:500]}"
        )


def _convert(source: str, target: str, form: str, log: str) -> None:
    """Runs in the child, whose chatter goes to `log`."""
    resource.setrlimit(resource.RLIMIT_AS, (_CHILD_MEMORY_BYTES, _CHILD_MEMORY_BYTES))
    with open(log, "wb") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    converter = tf.lite.TFLiteConverter.from_saved_model(source)
    # Built-in operators only: conversion fails if anything needs Flex or a custom operator.
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if form != "tflite-float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if form == "tflite-float16":
        converter.target_spec.supported_types = [tf.float16]
    Path(target).write_bytes(converter.convert())


def _metadata(run: Run, config: ExportConfig, quantisation: str) -> DeviceMetadata:
    rate_hz = run.system.model.frontend.sample_rate_hz
    return DeviceMetadata(
        sample_rate_hz=rate_hz,
        min_samples=round(_MIN_SECONDS * rate_hz),
        max_samples=round(config.max_seconds * rate_hz),
        pieces=run.tokenizer.pieces,
        eos_id=run.tokenizer.eos_id,
        pad_id=run.tokenizer.pad_id,
        beam_width=config.beam_width,
        num_hypotheses=config.num_hypotheses,
        parameters=run.model.count_params(),
        quantisation=quantisation,
        model_sha256=run.sha256,
    )


def _savedmodel_ids(path: Path):
    serve = load_savedmodel(path)

    def best(waveform: np.ndarray) -> tuple[list[int], str]:
        result = serve(
            waveform=tf.constant(waveform[None]), num_samples=tf.constant([len(waveform)])
        )
        count = int(result["num_tokens"][0, 0])
        text = result["text"][0, 0].numpy().decode()
        return result["token_ids"][0, 0, :count].numpy().tolist(), text

    return best


def _tflite_ids(path: Path):
    recogniser = DeviceRecogniser(path)

    def best(waveform: np.ndarray) -> tuple[list[int], str]:
        hypotheses = recogniser.transcribe_waveform(waveform)
        return (list(hypotheses[0].token_ids), hypotheses[0].text) if hypotheses else ([], "")

    return best


def _check(form: str, path: Path, utterances: Sequence[_Parity], config: ExportConfig, best):
    """Decodes the parity utterances with the exported form.

    Raises:
      ExportError: if a float32 form differs at all, or a quantised one by too much.
    """
    outputs = [best(utterance.waveform) for utterance in utterances]
    # State that outlives a call would show at the second one.
    if best(utterances[0].waveform) != outputs[0]:
        raise ExportError(f"{form}: the same waveform gives another result the second time")
    expected = [_best_ids(utterance.keras) for utterance in utterances]
    differing = [
        utterance.keras.utterance_id
        for utterance, ids, (found, _) in zip(utterances, expected, outputs)
        if found != ids
    ]
    change = _wer_change(utterances, [text for _, text in outputs])
    is_quantised = form in ("tflite-float16", "tflite-int8")
    if differing and not is_quantised:
        raise ExportError(
            f"{form} differs from Keras on {len(differing)} of {len(utterances)} utterances",
            utterance_id=differing[0],
        )
    if is_quantised and change > config.max_wer_change:
        raise ExportError(
            f"{form} raises WER by {change:.2%}, more than {config.max_wer_change:.2%}",
            remedy="raise export.max_wer_change, or leave the form out",
        )
    identical = 1 - len(differing) / len(utterances)
    return Exported(form, str(path), 0, identical, change, len(utterances))


def _best_ids(decoded: Decoded) -> list[int]:
    if not decoded.texts:
        return []
    return decoded.result.token_ids[0, : decoded.result.num_tokens[0]].tolist()


def _wer_change(utterances: Sequence[_Parity], texts: Sequence[str]) -> float:
    """WER of `texts` minus that of Keras, whose text is the reference where there is no other."""
    keras_texts = [utterance.keras.best_text for utterance in utterances]
    references = [
        utterance.keras.reference or text for utterance, text in zip(utterances, keras_texts)
    ]
    return score(references, texts, samples=1).wer - score(references, keras_texts, samples=1).wer
