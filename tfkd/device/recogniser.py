"""Runs an exported .tflite recogniser with numpy and a small interpreter: no TensorFlow.

The file is an ordinary TFLite model with a zip archive appended, the convention of TFLite's
"associated files". Its one member, `tfkd.json`, says how to feed the model and read its output.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib
import io
import json
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfkd.audio.reading import read_audio
from tfkd.errors import AudioError, CheckpointError, TfkdError
from tfkd.storage.json_files import parse_json
from tfkd.text import join_pieces

METADATA_NAME = "tfkd.json"
FORMAT = 1
SIGNATURE = "serving_default"
OUTPUTS = ("token_ids", "num_tokens", "log_prob", "score")
# In this order: tflite-runtime is a tenth of the size of ai-edge-litert.
RUNTIMES = ("tflite_runtime", "ai_edge_litert")

# TFLite's flatbuffer identifier, which follows the four bytes of the root offset.
IDENTIFIER = slice(4, 8), b"TFL3"
# The oldest date that zip can hold: the same model must give the same bytes.
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class DeviceMetadata:
    """What travels inside the .tflite beside the graph.

    Attributes:
      sample_rate_hz: rate of the waveform that the model takes.
      min_samples: shortest waveform it takes; shorter ones are padded with zeros.
      max_samples: longest waveform it takes.
      pieces: surface form of each token id; "" for special tokens.
      eos_id: id that ends a hypothesis.
      pad_id: id that fills unused places of `token_ids`.
      beam_width: hypotheses kept alive in the search.
      num_hypotheses: K, the hypotheses that come out (at most).
      parameters: weights of the network.
      quantisation: "float32", "float16", "dynamic_int8" ...
      model_sha256: hex digest of the Keras model that was exported.
    """

    sample_rate_hz: int
    min_samples: int
    max_samples: int
    pieces: tuple[str, ...]
    eos_id: int
    pad_id: int
    beam_width: int
    num_hypotheses: int
    parameters: int
    quantisation: str
    model_sha256: str


@dataclass(frozen=True)
class DeviceHypothesis:
    """One candidate: `token_ids` include EOS if the search reached it; natural-log `log_prob`."""

    text: str
    token_ids: tuple[int, ...]
    log_prob: float
    score: float


@dataclass(frozen=True)
class Transcription:
    """What a recording says: `text` is that of the best hypothesis, "" if there is none."""

    text: str
    hypotheses: tuple[DeviceHypothesis, ...]
    audio_seconds: float
    compute_seconds: float


def append_metadata(tflite_bytes: bytes, metadata: DeviceMetadata) -> bytes:
    """Returns the model with its metadata at the end; metadata already there is replaced.

    Equal arguments give equal bytes. A digest of the graph is stored beside the metadata, because
    an interpreter may crash on a damaged graph instead of reporting it.

    Raises:
      CheckpointError: if `tflite_bytes` is not a TFLite model.
    """
    place, identifier = IDENTIFIER
    if tflite_bytes[place] != identifier:
        raise CheckpointError("not a TFLite model")
    graph = tflite_bytes
    with contextlib.suppress(zipfile.BadZipFile), zipfile.ZipFile(io.BytesIO(graph)) as archive:
        graph = graph[: _graph_size(archive)]
    content = {
        "format": FORMAT,
        "tflite_sha256": hashlib.sha256(graph).hexdigest(),
        **dataclasses.asdict(metadata),
    }
    member = zipfile.ZipInfo(METADATA_NAME, ZIP_EPOCH)
    file = io.BytesIO(graph)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(member, json.dumps(content, ensure_ascii=False, sort_keys=True))
    return file.getvalue()


def read_metadata(path: str | Path) -> DeviceMetadata:
    """Reads and checks what a .tflite says about itself, without loading the model.

    Raises:
      CheckpointError: if the file is missing, damaged, or not one that tfkd exported.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            head = file.read(IDENTIFIER[0].stop)
            if head[IDENTIFIER[0]] != IDENTIFIER[1]:
                raise _foreign(path, "is not a TFLite model")
            with zipfile.ZipFile(file) as archive:
                content = parse_json(archive.read(METADATA_NAME))
                graph_size = _graph_size(archive)
            metadata = _parse(content, path)
            _check_graph(file, graph_size, content.get("tflite_sha256"), path)
    except OSError as error:
        raise CheckpointError(f"cannot read: {error.strerror or error}", path=path) from error
    except (zipfile.BadZipFile, zlib.error, KeyError, RuntimeError, EOFError) as error:
        raise _foreign(path, "is a TFLite model without tfkd's metadata, or cut short") from error
    except ValueError as error:
        raise _foreign(path, f"holds metadata that {error}") from error
    return metadata


class DeviceRecogniser:
    """A loaded .tflite recogniser.

    Args:
      path: file made by `tfkd export`.
      num_threads: threads of the interpreter.
      runtime: one of `RUNTIMES`; None takes the first that is installed.
    Attributes:
      metadata: DeviceMetadata of the file.
      runtime: name of the runtime in use.
    Raises:
      CheckpointError: if the file is missing, damaged, or not one that tfkd exported.
      TfkdError: if no runtime is installed.
    """

    def __init__(
        self, path: str | Path, num_threads: int = 1, *, runtime: str | None = None
    ) -> None:
        self.path = Path(path)
        self.metadata = read_metadata(self.path)
        self.runtime, interpreter_class = find_runtime((runtime,) if runtime else RUNTIMES)
        self._run = _load(self.path, interpreter_class, num_threads)

    def transcribe_waveform(self, waveform: np.ndarray) -> list[DeviceHypothesis]:
        """Recognises one utterance.

        Args:
          waveform: float32 [N] in [-1, 1] at `metadata.sample_rate_hz`. Fewer than
            `metadata.min_samples` are padded with zeros.
        Returns:
          Hypotheses, best first: at most `metadata.num_hypotheses`, none if the search found none.
        Raises:
          AudioError: if the waveform is empty, too long, not finite, or not of shape [N].
          CheckpointError: if the model fails.
        """
        outputs = self._run(self._checked(waveform)[np.newaxis])
        slots = zip(*(outputs[name][0] for name in OUTPUTS))
        return [
            self._hypothesis(token_ids[:num_tokens], log_prob, score)
            for token_ids, num_tokens, log_prob, score in slots
            if num_tokens > 0 and score > -np.inf
        ]

    def transcribe_file(self, path: str | Path) -> Transcription:
        """Reads a recording (resampled to the model's rate) and recognises it.

        `audio_seconds` is its length and `compute_seconds` the wall time of the recognition alone,
        so their ratio is the real-time factor.

        Raises:
          AudioError: as `transcribe_waveform`, or if the file cannot be decoded.
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

    def _hypothesis(self, token_ids: np.ndarray, log_prob: Any, score: Any) -> DeviceHypothesis:
        ids = tuple(token_ids.tolist())
        text = join_pieces(self.metadata.pieces, ids)
        return DeviceHypothesis(text, ids, float(log_prob), float(score))

    def _checked(self, waveform: np.ndarray) -> np.ndarray:
        """The waveform as float32 [N], at least `min_samples` long."""
        waveform = np.asarray(waveform)
        if waveform.ndim != 1 or not np.issubdtype(waveform.dtype, np.floating):
            raise AudioError(
                f"the waveform is {waveform.dtype} {waveform.shape}, not float32 [samples]",
                remedy="average the channels and scale to [-1, 1]",
            )
        if waveform.size == 0:
            raise AudioError("the waveform is empty")
        if waveform.size > self.metadata.max_samples:
            seconds = self.metadata.max_samples / self.metadata.sample_rate_hz
            raise AudioError(
                f"{waveform.size / self.metadata.sample_rate_hz:.2f} s is longer than the model "
                f"takes ({seconds:.2f} s)",
                remedy="split the recording",
            )
        if not np.isfinite(waveform).all():
            raise AudioError("the waveform holds NaN or infinite samples")
        missing = max(0, self.metadata.min_samples - waveform.size)
        return np.pad(waveform.astype(np.float32), (0, missing))


def _foreign(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(reason, path=path, remedy="make the file with `tfkd export`")


def _graph_size(archive: zipfile.ZipFile) -> int:
    """Bytes before the archive that is appended to a model."""
    return min((member.header_offset for member in archive.infolist()), default=0)


def _parse(content: Any, path: Path) -> DeviceMetadata:
    if not isinstance(content, Mapping):
        raise _foreign(path, "holds metadata that is not an object")
    if content.get("format") != FORMAT:
        raise CheckpointError(
            f"has metadata of format {content.get('format')!r}, this tfkd reads {FORMAT}",
            path=path,
            remedy="use the tfkd that exported it, or export again",
        )
    values: dict[str, Any] = {}
    for field in dataclasses.fields(DeviceMetadata):
        value = content.get(field.name)
        if not _has_type(value, str(field.type)):
            raise _foreign(path, f"holds metadata with {field.name} = {value!r}")
        values[field.name] = tuple(value) if isinstance(value, list) else value
    return DeviceMetadata(**values)


def _has_type(value: Any, annotation: str) -> bool:
    if annotation == "tuple[str, ...]":
        return isinstance(value, list) and all(isinstance(each, str) for each in value)
    return type(value).__name__ == annotation


def _check_graph(file: io.BufferedReader, size: int, expected: Any, path: Path) -> None:
    file.seek(0)
    digest = hashlib.sha256()
    while size > 0 and (block := file.read(min(size, 1 << 20))):
        digest.update(block)
        size -= len(block)
    if digest.hexdigest() != expected:
        raise CheckpointError(
            "is damaged: its graph differs from what was exported",
            path=path,
            remedy="copy or export it again",
        )


def find_runtime(names: tuple[str, ...]) -> tuple[str, Callable[..., Any]]:
    """Name and Interpreter class of the first runtime that can be imported."""
    for name in names:
        if name == "tflite_runtime" and np.lib.NumpyVersion(np.__version__) >= "2.0.0":
            continue  # It was built for an older one, and would end in an error of the interpreter.
        with contextlib.suppress(ImportError):
            return name, importlib.import_module(f"{name}.interpreter").Interpreter
    raise TfkdError(
        f"no TFLite runtime is installed (tried {', '.join(names)})",
        remedy="pip install 'numpy<2' tflite-runtime, or ai-edge-litert",
    )


@contextlib.contextmanager
def _runtime_errors(path: Path, action: str) -> Iterator[None]:
    """Turns what the interpreters raise into one line; their messages span several."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        raise CheckpointError(f"cannot {action} the model: {error}", path=path) from error


def _load(
    path: Path, interpreter_class: Callable[..., Any], num_threads: int
) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Adapter over the runtimes: a function from waveform [1, N] to outputs by name.

    The signature runner resizes the input and allocates anew on each call, so state of one
    utterance cannot reach the next.
    """
    with _runtime_errors(path, "load"):
        interpreter = interpreter_class(model_path=str(path), num_threads=num_threads)
        signature = interpreter.get_signature_list().get(SIGNATURE, {})
        inputs, outputs = signature.get("inputs"), signature.get("outputs", [])
        if inputs != ["waveform"] or not set(OUTPUTS).issubset(outputs):
            raise _foreign(path, f"has no signature {SIGNATURE!r} from waveform to hypotheses")
        runner = interpreter.get_signature_runner(SIGNATURE)

    def run(waveform: np.ndarray) -> dict[str, np.ndarray]:
        with _runtime_errors(path, "run"):
            return runner(waveform=waveform)

    return run
