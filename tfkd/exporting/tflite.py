"""Writes and opens .tflite files, for devices: one utterance at a time, built-in operators only.

The conversion runs in a child process with a memory limit, because the converter may crash or
allocate memory without end.
"""

from __future__ import annotations

import functools
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfkd.config import ExportConfig
from tfkd.decoding.runs import Run
from tfkd.device.child_processes import child_command
from tfkd.device.hypothesis import DeviceHypothesis
from tfkd.device.metadata import append_metadata
from tfkd.device.recogniser import MAX_CHILD_BYTES, DeviceRecogniser
from tfkd.errors import ExportError, advising
from tfkd.exporting.graph import decoder_for, metadata_of, outputs_of, tracked
from tfkd.exporting.interface import OpenForm, Write

_PREFIX = "tflite-"
_SUFFIX = ".tflite"
_CHILD_SECONDS = 900


def file_name(form: str) -> str:
    """Returns the name of a form's file, such as model-int8.tflite."""
    return f"model-{_quantisation(form)}{_SUFFIX}"


def _quantisation(form: str) -> str:
    return form.removeprefix(_PREFIX)


def writer(form: str) -> Write:
    """Returns the function that writes a form; see `write_tflite`."""
    return functools.partial(write_tflite, form)


def write_tflite(
    form: str, run: Run, path: Path, config: ExportConfig, usual_seconds: float
) -> None:
    """Writes frontend, encoder and search as one graph, followed by the metadata.

    The signature `serving_default` maps waveform [1, N] float32 in [-1, 1] to token_ids,
    num_tokens, log_prob, score and coverage of the K hypotheses, best first. With
    `config.fixed_length`, N is fixed, and num_samples [1] int32 says how much of it is audio.

    Raises:
      ExportError: if the converter refuses the graph, crashes or does not end.
    """
    metadata = metadata_of(run, config, _quantisation(form), usual_seconds)
    decoder = decoder_for(run, config, batch_size=1)
    length = metadata.max_samples if config.fixed_length else None
    waveform_spec = tf.TensorSpec([1, length], tf.float32, name="waveform")
    length_spec = tf.TensorSpec([1], tf.int32, name="num_samples")

    def serve(waveform, num_samples=None):
        if num_samples is None:
            num_samples = tf.shape(waveform)[1:2]
        return outputs_of(decoder.decode(waveform, num_samples))

    specs = [waveform_spec, length_spec] if config.fixed_length else [waveform_spec]
    graph = tf.function(serve, input_signature=specs, autograph=False)
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        source, target = Path(scratch) / "savedmodel", Path(scratch) / path.name
        tf.saved_model.save(tracked(run), str(source), signatures={"serving_default": graph})
        convert_in_child(source, target, form)
        path.write_bytes(append_metadata(target.read_bytes(), metadata))


@advising("leave the form out of export.formats, or report it with the run")
def convert_in_child(source: Path, target: Path, form: str) -> None:
    """Converts a SavedModel to a .tflite in a child process.

    Raises:
      ExportError: if the conversion fails, with the last error in the converter's log.
    """
    log = target.with_suffix(".log")
    # Not by multiprocessing, which would run a caller's script once more.
    arguments = (source, target, _quantisation(form))
    command = child_command("tfkd.exporting.conversion", "convert", *arguments)
    try:
        with open(log, "wb") as file:
            child = subprocess.run(
                command, stdout=file, stderr=subprocess.STDOUT, timeout=_CHILD_SECONDS
            )
    except subprocess.TimeoutExpired as error:
        raise ExportError(f"{form}: the converter did not end in {_CHILD_SECONDS} s") from error
    if child.returncode or not target.exists():
        lines = log.read_text(errors="replace").split("\n")
        no_reason = "no error in the converter's log"
        reason = next((line for line in reversed(lines) if "rror" in line), no_reason)
        raise ExportError(
            f"{form}: the converter ended with exit code {child.returncode}: {reason[:500]}"
        )


def is_tflite(path: Path) -> bool:
    """Whether the file's name ends with .tflite."""
    return path.suffix == _SUFFIX


def open_tflite(
    path: Path, *, trusted: bool = False, max_memory_bytes: int = MAX_CHILD_BYTES
) -> OpenForm:
    """Opens a .tflite that tfkd exported.

    Args:
      path: the file.
      trusted, max_memory_bytes: see `DeviceRecogniser`.
    Raises:
      CheckpointError: if it is damaged, or tfkd did not export it.
    """
    recogniser = DeviceRecogniser(path, trusted=trusted, max_memory_bytes=max_memory_bytes)
    metadata = recogniser.metadata

    def decode(waveform: np.ndarray, num_samples: np.ndarray) -> list[list[DeviceHypothesis]]:
        rows = zip(waveform, num_samples, strict=True)
        return [recogniser.transcribe_waveform(row[:count]) for row, count in rows]

    return OpenForm(
        path=path,
        form=f"{_PREFIX}{metadata.quantisation}",
        parameters=metadata.parameters,
        bytes=path.stat().st_size,
        sample_rate_hz=metadata.sample_rate_hz,
        pieces=metadata.pieces,
        batch_size=1,
        max_samples=metadata.max_samples,
        decode=decode,
    )
