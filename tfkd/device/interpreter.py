"""Runs the graph of a .tflite in an interpreter of this process."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tfkd.device.hypothesis import DeviceHypothesis
from tfkd.device.metadata import DeviceMetadata, foreign
from tfkd.errors import CheckpointError, TextError, TfkdError
from tfkd.text import join_pieces

SIGNATURE = "serving_default"
OUTPUTS = ("token_ids", "num_tokens", "log_prob", "score")
# Only graphs of a fixed length have this input.
LENGTH = "num_samples"
# Files of earlier versions lack this output.
COVERAGE = "coverage"
# tflite-runtime is preferred, because it is a tenth of the size of ai-edge-litert.
RUNTIMES = ("tflite_runtime", "ai_edge_litert")


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


class LoadedModel:
    """A graph that was loaded into this process.

    The signature runner resizes the input and allocates tensors on each call, so no state is kept
    from one utterance to the next.

    Args:
      path: file made by `tfkd export`.
      metadata: its description.
      interpreter_class: from `find_runtime`.
      num_threads: number of threads of the interpreter.
    Raises:
      CheckpointError: if the interpreter refuses the graph, or it has another signature.
    """

    def __init__(
        self,
        path: Path,
        metadata: DeviceMetadata,
        interpreter_class: Callable[..., Any],
        num_threads: int,
    ) -> None:
        self._path, self._metadata = path, metadata
        self._num_threads, self._process = num_threads, os.getpid()
        with self._runtime_errors("load"):
            interpreter = interpreter_class(model_path=str(path), num_threads=num_threads)
            signature = interpreter.get_signature_list().get(SIGNATURE, {})
            inputs, outputs = set(signature.get("inputs", [])), signature.get("outputs", [])
            if inputs - {LENGTH} != {"waveform"} or not set(OUTPUTS).issubset(outputs):
                raise foreign(path, f"has no signature {SIGNATURE!r} from waveform to hypotheses")
            self._takes_length = LENGTH in inputs
            self._runner = interpreter.get_signature_runner(SIGNATURE)

    def recognise(self, waveform: np.ndarray) -> list[DeviceHypothesis]:
        """Maps a waveform, float32 [N], to its hypotheses, best first.

        A waveform that is shorter than the graph takes is padded with zeros. A graph of a fixed
        length is told how many samples are audio.

        Raises:
          CheckpointError: if the interpreter fails, or gives something other than hypotheses.
          TfkdError: in a forked process, if `num_threads` is above 1.
        """
        if self._num_threads > 1 and os.getpid() != self._process:
            raise TfkdError(
                "its threads are missing, because this process was forked after it was loaded",
                path=self._path,
                remedy="load it in each process, or use num_threads=1",
            )
        missing = max(0, self._metadata.min_samples - waveform.size)
        inputs = {"waveform": np.pad(waveform, (0, missing))[np.newaxis]}
        if self._takes_length:
            inputs[LENGTH] = np.array([waveform.size], np.int32)
        with self._runtime_errors("run"):
            outputs = self._runner(**inputs)
        return self._hypotheses(outputs)

    def _hypotheses(self, outputs: dict[str, np.ndarray]) -> list[DeviceHypothesis]:
        slots = outputs["num_tokens"].shape[-1:]
        shapes = {name: outputs[name].shape for name in (*OUTPUTS[1:], COVERAGE) if name in outputs}
        ids = outputs["token_ids"]
        if ids.shape[:-1] != (1, *slots) or set(shapes.values()) != {(1, *slots)}:
            raise foreign(self._path, f"gives token_ids {ids.shape} beside {shapes}")
        kinds = {name: outputs[name].dtype for name in OUTPUTS[:2]}
        if not all(np.issubdtype(kind, np.integer) for kind in kinds.values()):
            raise foreign(self._path, f"gives {kinds['token_ids']} as token_ids")
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
        try:
            text = join_pieces(self._metadata.pieces, ids)
        except TextError as error:
            raise foreign(self._path, f"gives a wrong token: {error.message}") from error
        return DeviceHypothesis(
            text=text,
            token_ids=ids,
            log_prob=float(log_prob),
            score=float(score),
            coverage=None if np.isnan(coverage) else float(coverage),
            finish_reason="eos" if ids[-1:] == (self._metadata.eos_id,) else "max_steps",
        )

    @contextlib.contextmanager
    def _runtime_errors(self, action: str) -> Iterator[None]:
        """Raises an interpreter's error as CheckpointError, in one line."""
        try:
            yield
        except (ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"cannot {action} the model: {error}",
                path=self._path,
                remedy="copy the file again, or make it with `tfkd export`",
            ) from error
