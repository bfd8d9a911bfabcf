"""Writes and opens SavedModels, for servers: batches of any size and length, to text and scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfkd.config import ExportConfig
from tfkd.decoding.runs import Run
from tfkd.device.hypothesis import DeviceHypothesis
from tfkd.device.metadata import METADATA_NAME, DeviceMetadata, parse_metadata
from tfkd.device.recogniser import MAX_CHILD_BYTES
from tfkd.errors import CheckpointError, ExportError, advising
from tfkd.exporting.graph import decoder_for, metadata_of, outputs_of, tracked
from tfkd.exporting.interface import OpenForm
from tfkd.storage.files import directory_bytes, write_json
from tfkd.storage.json_files import parse_json

NAME = "savedmodel"
SIGNATURE = "serving_default"
_GRAPH = "saved_model.pb"
_OUTPUTS = {"text", "token_ids", "num_tokens", "log_prob", "score"}
_BATCH_SIZE = 16
_REMEDY = "copy the whole folder again, or make it with `tfkd export`"


def write_savedmodel(run: Run, directory: Path, config: ExportConfig, usual_seconds: float) -> None:
    """Writes frontend, encoder and search as one graph with the signature `serving_default`.

    The signature maps waveform [B, N] float32 in [-1, 1] and num_samples [B] int32, clipped to N,
    to text, token_ids, num_tokens, log_prob, score and coverage of the K hypotheses of each
    utterance, best first. B may be 0.
    """
    decoder = decoder_for(run, config)
    pieces = tf.constant(run.tokenizer.pieces)

    @tf.function(input_signature=decoder.decode.input_signature, autograph=False)
    def serve(waveform, num_samples):
        result = decoder.decode(waveform, num_samples)
        text = tf.strings.reduce_join(tf.gather(pieces, result.token_ids), -1)
        text = tf.strings.strip(tf.strings.regex_replace(text, " +", " "))
        return {"text": text, **outputs_of(result)}

    tf.saved_model.save(tracked(run), str(directory), signatures={SIGNATURE: serve})
    # A SavedModel takes audio of any length, even beside .tflite files of a fixed one.
    of_any_length = replace(config, fixed_length=False)
    metadata = metadata_of(run, of_any_length, "float32", usual_seconds)
    write_json(directory / METADATA_NAME, asdict(metadata))


def is_savedmodel(path: Path) -> bool:
    """Whether the path is the folder of any SavedModel."""
    return (path / _GRAPH).is_file()


@advising(_REMEDY)
def load_savedmodel(path: str | Path):
    """Loads the serving function of an exported SavedModel: (waveform, num_samples) to a dict.

    A SavedModel is a program: TensorFlow runs any code that it contains.

    Raises:
      ExportError: if tfkd did not export it.
    """
    try:
        serve = tf.saved_model.load(str(path)).signatures[SIGNATURE]
        _check_signature(serve.structured_input_signature[1], serve.structured_outputs)
    except Exception as error:  # A damaged file may raise any exception of TensorFlow.
        raise ExportError(f"not a SavedModel of tfkd: {str(error)[:300]}", path=path) from error
    return serve


def _check_signature(inputs: Mapping[str, tf.TensorSpec], outputs: Mapping[str, Any]) -> None:
    found = {name: (spec.dtype.name, spec.shape.rank) for name, spec in inputs.items()}
    if found != {"waveform": ("float32", 2), "num_samples": ("int32", 1)}:
        raise ValueError(f"it takes {found}, not waveform [B, N] and num_samples [B]")
    if missing := _OUTPUTS - set(outputs):
        raise ValueError(f"it does not give {', '.join(sorted(missing))}")


@advising(_REMEDY)
def open_savedmodel(
    path: Path, *, trusted: bool = False, max_memory_bytes: int = MAX_CHILD_BYTES
) -> OpenForm:
    """Opens a SavedModel that tfkd exported.

    Args:
      path: its folder.
      trusted, max_memory_bytes: without effect, because TensorFlow runs it in this process.
    Raises:
      CheckpointError: if its metadata is missing or invalid.
      ExportError: if its graph is damaged or not tfkd's.
    """
    metadata = _read_metadata(path)
    serve = load_savedmodel(path)

    @advising(_REMEDY)
    def decode(waveform: np.ndarray, num_samples: np.ndarray) -> list[list[DeviceHypothesis]]:
        try:
            found = serve(waveform=tf.constant(waveform), num_samples=tf.constant(num_samples))
        except tf.errors.OpError as error:
            raise CheckpointError(f"the model fails: {error.message[:300]}", path=path) from error
        arrays = {name: value.numpy() for name, value in found.items()}
        _check_shapes(arrays, len(waveform), path)
        return [_hypotheses({k: v[row] for k, v in arrays.items()}) for row in range(len(waveform))]

    return OpenForm(
        path=path,
        form=NAME,
        parameters=metadata.parameters,
        bytes=directory_bytes(path),
        sample_rate_hz=metadata.sample_rate_hz,
        pieces=metadata.pieces,
        batch_size=_BATCH_SIZE,
        max_samples=None,
        decode=decode,
    )


def _read_metadata(directory: Path) -> DeviceMetadata:
    path = directory / METADATA_NAME
    try:
        return parse_metadata(parse_json(path.read_bytes()), path)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"not a SavedModel of tfkd: {error}", path=directory) from error


def _check_shapes(arrays: Mapping[str, np.ndarray], batch: int, path: Path) -> None:
    """Raises CheckpointError unless each utterance has a row: missing ones would not be scored."""
    slots = arrays["num_tokens"].shape
    shapes = {name: value.shape for name, value in arrays.items()}
    per_token = shapes.pop("token_ids")
    if len(slots) != 2 or slots[0] != batch or per_token[:-1] != slots or len(per_token) != 3:
        raise CheckpointError(
            f"gives token_ids {per_token} and num_tokens {slots} for {batch} utterances", path=path
        )
    if wrong := {name: shape for name, shape in shapes.items() if shape != slots}:
        raise CheckpointError(f"gives {wrong} beside num_tokens {slots}", path=path)


def _hypotheses(row: Mapping[str, np.ndarray]) -> list[DeviceHypothesis]:
    coverage = row.get("coverage")
    return [
        DeviceHypothesis(
            text=row["text"][rank].decode(errors="replace"),
            token_ids=tuple(row["token_ids"][rank, :count].tolist()),
            log_prob=float(row["log_prob"][rank]),
            score=float(row["score"][rank]),
            coverage=None if coverage is None else float(coverage[rank]),
        )
        for rank, count in enumerate(row["num_tokens"].tolist())
        if count > 0
    ]
