"""Metadata of an exported .tflite: written at export, checked before the model is loaded.

The file is an ordinary TFLite model with a zip archive appended, as TFLite does for "associated
files". The archive's one member, `tfkd.json`, describes the model's input and output.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfkd.errors import CheckpointError
from tfkd.storage.json_files import parse_json

METADATA_NAME = "tfkd.json"
FORMAT = 1

# TFLite's flatbuffer identifier, which follows the four bytes of the root offset.
IDENTIFIER = slice(4, 8), b"TFL3"
# A fixed date, the oldest that zip can hold, so that the same model gives the same bytes.
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
# A vocabulary of 100,000 pieces takes 2 MB; a zip archive may unpack to a thousand times its size.
_MAX_METADATA_BYTES = 16 * 2**20
_RATES_HZ = range(1000, 655_351)
_MAX_SECONDS = 24 * 3600
_MAX_PADDED_SECONDS = 60
_MAX_HYPOTHESES = 64


@dataclass(frozen=True)
class DeviceMetadata:
    """The description of a model inside its .tflite.

    Attributes:
      sample_rate_hz: sample rate of the waveform that the model takes.
      min_samples: length of the shortest waveform; shorter ones are padded with zeros.
      max_samples: length of the longest waveform; that of every one if it equals `min_samples`.
      usual_samples: length that most utterances of its validation data do not exceed; longer
        recordings are cut into segments. Files of earlier versions have `max_samples`.
      pieces: text of each token id; "" for special tokens.
      eos_id: id that ends a hypothesis.
      pad_id: id that fills unused places of `token_ids`.
      beam_width: number of alive hypotheses in the search.
      num_hypotheses: K, the largest number of hypotheses that are returned.
      parameters: number of weights.
      quantisation: "float32", "float16" or "int8".
      model_sha256: hex digest of the Keras model that was exported.
    """

    sample_rate_hz: int
    min_samples: int
    max_samples: int
    usual_samples: int
    pieces: tuple[str, ...]
    eos_id: int
    pad_id: int
    beam_width: int
    num_hypotheses: int
    parameters: int
    quantisation: str
    model_sha256: str


def append_metadata(tflite_bytes: bytes, metadata: DeviceMetadata) -> bytes:
    """Appends metadata to a model, in place of any that it already has.

    Equal arguments give equal bytes. The metadata includes a digest of the graph, because an
    interpreter may crash on a damaged graph.

    Raises:
      CheckpointError: if `tflite_bytes` is not a TFLite model.
    """
    place, identifier = IDENTIFIER
    if tflite_bytes[place] != identifier:
        raise CheckpointError(
            "not a TFLite model", remedy="give the bytes that a converter of TFLite wrote"
        )
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
    """Reads and checks the metadata of a .tflite, without loading the model.

    Raises:
      CheckpointError: if the file is missing or damaged, or tfkd did not export it.

    >>> tfkd.device.read_metadata("work/export/model-float32.tflite").sample_rate_hz
    8000
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            head = file.read(IDENTIFIER[0].stop)
            if head[IDENTIFIER[0]] != IDENTIFIER[1]:
                raise foreign(path, "is not a TFLite model")
            with zipfile.ZipFile(file) as archive:
                content = _content(archive, path)
                graph_size = _graph_size(archive)
            metadata = _of_this_format(content, path)
            _check_graph(file, graph_size, content.get("tflite_sha256"), path)
    except IsADirectoryError as error:
        raise _folder(path) from error
    except OSError as error:
        raise CheckpointError(
            f"cannot read: {error.strerror or error}",
            path=path,
            remedy="check its path and permissions",
        ) from error
    except (zipfile.BadZipFile, zlib.error, KeyError, RuntimeError, EOFError) as error:
        raise foreign(path, "is a TFLite model without tfkd's metadata, or cut short") from error
    except ValueError as error:
        raise foreign(path, f"holds metadata that {error}") from error
    return metadata


def _folder(path: Path) -> CheckpointError:
    # The name of a run's model is written out, because its module needs Keras.
    if (path / "model.keras").is_file():
        remedy = f"make a .tflite of it with `tfkd export {path} --out FOLDER`"
        return CheckpointError("is a run, not a .tflite file", path=path, remedy=remedy)
    return CheckpointError("is a folder", path=path, remedy="give a .tflite file in it")


def foreign(path: Path, reason: str) -> CheckpointError:
    """Makes the error for a file that `tfkd export` did not write."""
    return CheckpointError(reason, path=path, remedy="make the file with `tfkd export`")


def parse_metadata(content: Any, path: Path) -> DeviceMetadata:
    """Checks metadata from untrusted JSON.

    Raises:
      CheckpointError: if a value is missing, has the wrong type, or is out of range.
    """
    if not isinstance(content, Mapping):
        raise foreign(path, "holds metadata that is not an object")
    content = {"usual_samples": content.get("max_samples"), **content}
    values: dict[str, Any] = {}
    for field in dataclasses.fields(DeviceMetadata):
        value = content.get(field.name)
        if not _has_type(value, str(field.type)):
            raise foreign(path, f"holds metadata with {field.name} = {repr(value)[:60]}")
        values[field.name] = tuple(value) if isinstance(value, list) else value
    metadata = DeviceMetadata(**values)
    for name, allowed in _ranges(metadata).items():
        if (number := getattr(metadata, name)) not in allowed:
            expected = f"{allowed[0]} to {allowed[-1]}" if allowed else "a token"
            raise foreign(path, f"holds metadata with {name} = {number}, not {expected}")
    return metadata


def _ranges(metadata: DeviceMetadata) -> dict[str, range]:
    """The allowed range of each number; later ranges depend on numbers that are checked earlier."""
    rate_hz, vocabulary = metadata.sample_rate_hz, len(metadata.pieces)
    return {
        "sample_rate_hz": _RATES_HZ,
        "max_samples": range(1, _MAX_SECONDS * rate_hz + 1),
        # Bounded, because shorter waveforms are padded to it, which takes memory.
        "min_samples": range(1, min(metadata.max_samples, _MAX_PADDED_SECONDS * rate_hz) + 1),
        "usual_samples": range(1, metadata.max_samples + 1),
        "eos_id": range(vocabulary),
        "pad_id": range(vocabulary),
        "beam_width": range(1, _MAX_HYPOTHESES + 1),
        "num_hypotheses": range(1, metadata.beam_width + 1),
        "parameters": range(1, 2**40),
    }


def _content(archive: zipfile.ZipFile, path: Path) -> dict[str, Any]:
    if archive.getinfo(METADATA_NAME).file_size > _MAX_METADATA_BYTES:
        raise foreign(path, f"holds more than {_MAX_METADATA_BYTES >> 20} MiB of metadata")
    content = parse_json(archive.read(METADATA_NAME))
    if not isinstance(content, dict):
        raise foreign(path, "holds metadata that is not an object")
    return content


def _graph_size(archive: zipfile.ZipFile) -> int:
    """The number of bytes before the archive that is appended to a model."""
    return min((member.header_offset for member in archive.infolist()), default=0)


def _of_this_format(content: dict[str, Any], path: Path) -> DeviceMetadata:
    if content.get("format") != FORMAT:
        raise CheckpointError(
            f"has metadata of format {repr(content.get('format'))[:60]}, this tfkd reads {FORMAT}",
            path=path,
            remedy="use the tfkd that exported it, or export again",
        )
    return parse_metadata(content, path)


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
