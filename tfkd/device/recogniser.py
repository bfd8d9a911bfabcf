"""Runs an exported .tflite recogniser with numpy and a TFLite runtime, without TensorFlow."""

from __future__ import annotations

import contextlib
import importlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfkd.audio.reading import read_audio
from tfkd.device.metadata import foreign, read_description
from tfkd.device.trial import try_in_child
from tfkd.errors import AudioError, CheckpointError, TfkdError
from tfkd.native_messages import without_native_messages
from tfkd.storage.known_files import is_known, remember
from tfkd.text import join_pieces

SIGNATURE = "serving_default"
OUTPUTS = ("token_ids", "num_tokens", "log_prob", "score")
# Files of earlier versions lack this output.
COVERAGE = "coverage"
# tflite-runtime is preferred, because it is a tenth of the size of ai-edge-litert.
RUNTIMES = ("tflite_runtime", "ai_edge_litert")


@dataclass(frozen=True)
class DeviceHypothesis:
    """One hypothesis of the search.

    Attributes:
      text: the recognised words.
      token_ids: its tokens, with EOS at the end if the search reached it.
      log_prob: natural logarithm of its probability under the attention decoder alone.
      score: the value that ranks hypotheses; see docs/guide/decoding.md.
      coverage: share of the encodings that received attention, 0 to 1. It tends to be lower for
        noise and unknown languages than for known speech, which log_prob is not; an application may
        reject hypotheses below a threshold of its own. None in files of earlier versions.
    """

    text: str
    token_ids: tuple[int, ...]
    log_prob: float
    score: float
    coverage: float | None = None


@dataclass(frozen=True)
class Transcription:
    """The recognised text of a recording.

    Attributes:
      text: of the best hypothesis, "" if there is none.
      hypotheses: best first.
      audio_seconds: duration of the recording.
      compute_seconds: wall time of the recognition, without reading the file; divided by
        `audio_seconds` it is the real-time factor.
    """

    text: str
    hypotheses: tuple[DeviceHypothesis, ...]
    audio_seconds: float
    compute_seconds: float


class DeviceRecogniser:
    """Recognises speech with an exported .tflite file.

    Threads may share one recogniser; their calls run one after another. If `num_threads` is above
    1, a forked process must load its own, because fork does not copy the interpreter's threads.

    A file that this machine has neither exported nor run before is first tried in a child process,
    because an interpreter may crash on a damaged or malicious graph. That takes about half a
    second, once for each file.

    Args:
      path: file made by `tfkd export`.
      num_threads: number of threads of the interpreter.
      runtime: one of `RUNTIMES`; None takes the first that is installed.
      trusted: skips the trial, for applications that ship the file themselves.
    Attributes:
      metadata: DeviceMetadata of the file.
      runtime: name of the runtime in use.
    Raises:
      CheckpointError: if the file is missing or damaged, or tfkd did not export it.
      TfkdError: if no runtime is installed, or `num_threads` is below 1.

    >>> recogniser = tfkd.DeviceRecogniser("work/export/model-float32.tflite")
    >>> recogniser.transcribe_file("order.wav").text
    'se'
    """

    def __init__(
        self,
        path: str | Path,
        num_threads: int = 1,
        *,
        runtime: str | None = None,
        trusted: bool = False,
    ) -> None:
        if num_threads < 1:
            raise TfkdError(f"num_threads is {num_threads}", remedy="use at least one thread")
        self.path = Path(path)
        self.metadata, graph_sha256 = read_description(self.path)
        self.runtime, interpreter_class = find_runtime((runtime,) if runtime else RUNTIMES)
        if not trusted and not is_known(graph_sha256):
            try_in_child(self.path, self.runtime, self.metadata)
            remember(graph_sha256)
        self._num_threads, self._process, self._lock = num_threads, os.getpid(), threading.Lock()
        self._run = _load(self.path, interpreter_class, num_threads)
        with without_native_messages():  # LiteRT greets when it first allocates its tensors.
            self._run(np.zeros([1, self.metadata.min_samples], np.float32))

    def transcribe_waveform(self, waveform: np.ndarray) -> list[DeviceHypothesis]:
        """Recognises one utterance.

        Args:
          waveform: float32 [N] in [-1, 1] at `metadata.sample_rate_hz`. Waveforms shorter than
            `metadata.min_samples` are padded with zeros.
        Returns:
          At most `metadata.num_hypotheses` hypotheses, best first; none if no speech was found.
        Raises:
          AudioError: if the waveform is empty, too long, not finite, or not of shape [N].
          CheckpointError: if the interpreter fails.
          TfkdError: in a forked process, if `num_threads` is above 1.
        """
        if self._num_threads > 1 and os.getpid() != self._process:
            raise TfkdError(
                "its threads are missing, because this process was forked after it was loaded",
                path=self.path,
                remedy="load it in each process, or use num_threads=1",
            )
        checked = self._checked(waveform)[np.newaxis]
        with self._lock:
            outputs = self._run(checked)
        return self._hypotheses(outputs)

    def transcribe_file(self, path: str | Path) -> Transcription:
        """Reads an audio file, resamples it to the model's rate and recognises it.

        Raises:
          AudioError: if the file cannot be decoded, or is too long.
          CheckpointError: if the interpreter fails.
        """
        rate_hz = self.metadata.sample_rate_hz
        max_seconds = self.metadata.max_samples / rate_hz
        waveform = read_audio(path, sample_rate_hz=rate_hz, max_seconds=max_seconds)
        start = time.perf_counter()
        try:
            hypotheses = tuple(self.transcribe_waveform(waveform))
        except AudioError as error:
            raise AudioError(error.message, path=path, remedy=error.remedy) from error
        return Transcription(
            text=hypotheses[0].text if hypotheses else "",
            hypotheses=hypotheses,
            audio_seconds=waveform.size / rate_hz,
            compute_seconds=time.perf_counter() - start,
        )

    def _hypotheses(self, outputs: dict[str, np.ndarray]) -> list[DeviceHypothesis]:
        token_ids = outputs["token_ids"]
        slots = outputs["num_tokens"].shape[-1:]
        shapes = {name: outputs[name].shape for name in (*OUTPUTS[1:], COVERAGE) if name in outputs}
        if token_ids.shape[:-1] != (1, *slots) or set(shapes.values()) != {(1, *slots)}:
            raise CheckpointError(
                f"gives token_ids {token_ids.shape} beside {shapes}", path=self.path
            )
        coverage = outputs.get(COVERAGE, np.full((1, *slots), np.nan))
        rows = zip(*(outputs[name][0] for name in OUTPUTS), coverage[0], strict=True)
        return [
            self._hypothesis(ids[:num_tokens], log_prob, score, covered)
            for ids, num_tokens, log_prob, score, covered in rows
            if num_tokens > 0 and score > -np.inf
        ]

    def _hypothesis(
        self, token_ids: np.ndarray, log_prob: Any, score: Any, coverage: Any
    ) -> DeviceHypothesis:
        ids = tuple(token_ids.tolist())
        return DeviceHypothesis(
            text=join_pieces(self.metadata.pieces, ids),
            token_ids=ids,
            log_prob=float(log_prob),
            score=float(score),
            coverage=None if np.isnan(coverage) else float(coverage),
        )

    def _checked(self, waveform: np.ndarray) -> np.ndarray:
        """The waveform as float32 [N], at least `min_samples` long."""
        waveform = np.asarray(waveform)
        if waveform.ndim != 1 or not np.issubdtype(waveform.dtype, np.floating):
            raise AudioError(
                f"the waveform is {waveform.dtype} {waveform.shape}, not float32 [samples]",
                remedy="average the channels and scale to [-1, 1]",
            )
        if waveform.size == 0:
            raise AudioError("the waveform is empty", remedy="pass at least one sample")
        if waveform.size > self.metadata.max_samples:
            seconds = self.metadata.max_samples / self.metadata.sample_rate_hz
            raise AudioError(
                f"{waveform.size / self.metadata.sample_rate_hz:.2f} s is longer than the model "
                f"takes ({seconds:.2f} s)",
                remedy="split the recording",
            )
        if not np.isfinite(waveform).all():
            raise AudioError(
                "the waveform holds NaN or infinite samples", remedy="check how it was recorded"
            )
        missing = max(0, self.metadata.min_samples - waveform.size)
        return np.pad(waveform.astype(np.float32), (0, missing))


def find_runtime(names: tuple[str, ...]) -> tuple[str, Callable[..., Any]]:
    """Imports the first runtime that is installed; returns its name and Interpreter class.

    Raises:
      TfkdError: if none is installed.
    """
    for name in names:
        if name == "tflite_runtime" and np.lib.NumpyVersion(np.__version__) >= "2.0.0":
            continue  # It was built for numpy 1: its interpreter fails with numpy 2.
        with contextlib.suppress(ImportError):
            return name, importlib.import_module(f"{name}.interpreter").Interpreter
    raise TfkdError(
        f"no TFLite runtime is installed (tried {', '.join(names)})",
        remedy="pip install 'numpy<2' tflite-runtime, or ai-edge-litert",
    )


@contextlib.contextmanager
def _runtime_errors(path: Path, action: str) -> Iterator[None]:
    """Raises an interpreter's error as CheckpointError, in one line."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        raise CheckpointError(f"cannot {action} the model: {error}", path=path) from error


def _load(
    path: Path, interpreter_class: Callable[..., Any], num_threads: int
) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Loads the graph and returns a function from waveform [1, N] to the outputs by name.

    The signature runner resizes the input and allocates tensors on each call, so no state is kept
    from one utterance to the next.
    """
    with _runtime_errors(path, "load"):
        interpreter = interpreter_class(model_path=str(path), num_threads=num_threads)
        signature = interpreter.get_signature_list().get(SIGNATURE, {})
        inputs, outputs = signature.get("inputs"), signature.get("outputs", [])
        if inputs != ["waveform"] or not set(OUTPUTS).issubset(outputs):
            raise foreign(path, f"has no signature {SIGNATURE!r} from waveform to hypotheses")
        runner = interpreter.get_signature_runner(SIGNATURE)

    def run(waveform: np.ndarray) -> dict[str, np.ndarray]:
        with _runtime_errors(path, "run"):
            return runner(waveform=waveform)

    return run
