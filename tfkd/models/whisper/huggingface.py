"""Reads Whisper folders as Hugging Face saves them: config.json and safetensors, no pickle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from tfkd.errors import CheckpointError
from tfkd.models.whisper.sizes import WhisperSizes
from tfkd.models.whisper.weights import Tensors
from tfkd.storage.json_files import read_json_object

CONFIG, GENERATION = "config.json", "generation_config.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights; none if the folder is not of this layout.

    Raises:
      CheckpointError: if the index is damaged, or a file that it names is missing.
    """
    index = folder / INDEX
    if not index.is_file():
        return [folder / WEIGHTS] if (folder / WEIGHTS).is_file() else []
    names = sorted(set(read_json(index).get("weight_map", {}).values()))
    for name in names:
        # A name of an index must not lead out of the folder.
        if Path(name).name != name or not (folder / name).is_file():
            raise CheckpointError(
                f"{INDEX} names {name!r}, which is missing",
                path=folder,
                remedy="copy the folder again",
            )
    if not names:
        raise CheckpointError("names no file of weights", path=index)
    return [folder / name for name in names]


def read_tensors(files: list[Path]) -> Tensors:
    """Reads every tensor of the files, by name without the prefix "model."."""
    return Tensors(files[0].parent, dict(_tensors(files)))


def _tensors(files: list[Path]) -> Iterator[tuple[str, np.ndarray]]:
    for path in files:
        try:
            with safe_open(path, framework="np") as file:
                for name in file.keys():  # noqa: SIM118 (it is no mapping)
                    yield name.removeprefix("model."), file.get_tensor(name)
        except (SafetensorError, OSError, ValueError, TypeError) as error:
            raise CheckpointError(
                f"is no readable safetensors file ({error})",
                path=path,
                remedy="copy it again",
            ) from error


def read_sizes(folder: Path) -> WhisperSizes:
    """Reads the sizes from config.json.

    Raises:
      CheckpointError: if it is damaged, or describes another kind of model.
    """
    path = folder / CONFIG
    config = read_json(path)
    if config.get("model_type") != "whisper":
        raise CheckpointError(f"model_type is {config.get('model_type')!r}, not whisper", path=path)
    if config.get("activation_function", "gelu") != "gelu" or config.get("scale_embedding"):
        raise CheckpointError(
            "its activation_function or its scale_embedding is not that of a Whisper", path=path
        )
    try:
        return WhisperSizes(
            num_mels=int(config.get("num_mel_bins", 80)),
            units=int(config["d_model"]),
            vocab_size=int(config["vocab_size"]),
            encoder_layers=int(config["encoder_layers"]),
            encoder_heads=int(config["encoder_attention_heads"]),
            encoder_inner_units=int(config["encoder_ffn_dim"]),
            decoder_layers=int(config["decoder_layers"]),
            decoder_heads=int(config["decoder_attention_heads"]),
            decoder_inner_units=int(config["decoder_ffn_dim"]),
            num_encodings=int(config.get("max_source_positions", 1500)),
            max_positions=int(config.get("max_target_positions", 448)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"a size is missing or no number: {error}", path=path, remedy="copy the folder again"
        ) from error


def read_generation(folder: Path) -> Mapping[str, Any]:
    """Reads the settings of decoding; older folders keep them in config.json."""
    path = folder / GENERATION
    return read_json(path if path.is_file() else folder / CONFIG)


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
      CheckpointError: if the file is missing or holds anything else.
    """
    return read_json_object(path, remedy="copy the folder again", error=CheckpointError)
