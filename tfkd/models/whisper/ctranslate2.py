"""Reads Whisper folders as CTranslate2 converts them: model.bin, in any of its number formats."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path

import ml_dtypes
import numpy as np

from tfkd.errors import CheckpointError
from tfkd.models.whisper.sizes import WhisperSizes
from tfkd.models.whisper.weights import Tensors

WEIGHTS, CONFIG = "model.bin", "config.json"

# Version 6 is what CTranslate2 has written since 2021.
_VERSION = 6
_TYPES = (np.float32, np.int8, np.int16, np.int32, np.float16, ml_dtypes.bfloat16)

# A layer of CTranslate2 -> the same of Hugging Face, whose names `weights` knows.
_LAYERS = {
    "self_attention/layer_norm": "self_attn_layer_norm",
    "attention/layer_norm": "encoder_attn_layer_norm",
    "ffn/layer_norm": "final_layer_norm",
    "ffn/linear_0": "fc1",
    "ffn/linear_1": "fc2",
    "self_attention/linear_1": "self_attn.out_proj",
    "attention/linear_0": "encoder_attn.q_proj",
    "attention/linear_2": "encoder_attn.out_proj",
}
# Layers that CTranslate2 joined: their outputs stand one after another.
_JOINED = {
    "self_attention/linear_0": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attention/linear_1": ("encoder_attn.k_proj", "encoder_attn.v_proj"),
}
_OTHERS = {
    "encoder/conv1": "encoder.conv1",
    "encoder/conv2": "encoder.conv2",
    "encoder/layer_norm": "encoder.layer_norm",
    "decoder/layer_norm": "decoder.layer_norm",
    "encoder/position_encodings/encodings": "encoder.embed_positions.weight",
    "decoder/position_encodings/encodings": "decoder.embed_positions.weight",
    "decoder/embeddings": "decoder.embed_tokens",
    "decoder/projection": "proj_out",
}
_PARTS = {"weight": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}


def read_model(path: Path) -> tuple[WhisperSizes, Tensors]:
    """Reads the sizes and the tensors of a model.bin, under the names of Hugging Face.

    Raises:
      CheckpointError: if the file is damaged, or holds another kind of model.
    """
    try:
        arrays = dict(_Reader(path.read_bytes(), path).arrays())
        sizes = _sizes(arrays)
        return sizes, Tensors(path, dict(_renamed(arrays)))
    except (struct.error, ValueError, IndexError, KeyError, UnicodeDecodeError, OSError) as error:
        raise CheckpointError(
            f"is damaged, or no Whisper of CTranslate2 ({error})",
            path=path,
            remedy="copy it again",
        ) from error


class _Reader:
    """Reads the variables of a binary model one after another."""

    def __init__(self, data: bytes, path: Path) -> None:
        self._data, self._path, self._at = data, path, 0

    def arrays(self) -> Iterator[tuple[str, np.ndarray]]:
        version = self._number("I")
        if version != _VERSION:
            raise CheckpointError(
                f"its format has version {version}, not {_VERSION}",
                path=self._path,
                remedy="convert the model again with a current CTranslate2",
            )
        kind = self._text()
        if kind != "WhisperSpec":
            raise CheckpointError(f"holds a {kind}, not a Whisper", path=self._path)
        self._number("I")  # the revision of WhisperSpec; the names tell all that differs
        for _ in range(self._number("I")):
            name = self._text()
            shape = [self._number("I") for _ in range(self._number("B"))]
            yield name, self._array(_TYPES[self._number("B")], shape)
        for _ in range(self._number("I")):
            self._text(), self._text()  # another name of a variable; a Whisper's is its embedding's
        if self._at != len(self._data):
            raise CheckpointError(
                "ends too early, or goes on after its end", path=self._path, remedy="copy it again"
            )

    def _number(self, form: str) -> int:
        (value,) = struct.unpack_from(f"<{form}", self._data, self._at)
        self._at += struct.calcsize(form)
        return value

    def _text(self) -> str:
        length = self._number("H")  # a zero at the end included
        raw = self._data[self._at : self._at + length - 1]
        self._at += length
        return raw.decode()

    def _array(self, kind: type, shape: list[int]) -> np.ndarray:
        num_bytes = self._number("I")
        count = num_bytes // np.dtype(kind).itemsize
        array: np.ndarray = np.frombuffer(self._data, kind, count, self._at).reshape(shape)
        self._at += num_bytes
        return array


def _sizes(arrays: dict[str, np.ndarray]) -> WhisperSizes:
    units, num_mels, _ = arrays["encoder/conv1/weight"].shape
    return WhisperSizes(
        num_mels=num_mels,
        units=units,
        vocab_size=len(arrays["decoder/embeddings/weight"]),
        encoder_layers=_count_layers(arrays, "encoder"),
        encoder_heads=int(arrays["encoder/num_heads"]),
        encoder_inner_units=len(arrays["encoder/layer_0/ffn/linear_0/weight"]),
        decoder_layers=_count_layers(arrays, "decoder"),
        decoder_heads=int(arrays["decoder/num_heads"]),
        decoder_inner_units=len(arrays["decoder/layer_0/ffn/linear_0/weight"]),
        num_encodings=len(arrays["encoder/position_encodings/encodings"]),
        max_positions=len(arrays["decoder/position_encodings/encodings"]),
    )


def _count_layers(arrays: dict[str, np.ndarray], side: str) -> int:
    names = (re.match(rf"{side}/layer_(\d+)/", name) for name in arrays)
    return len({match[1] for match in names if match})


def _renamed(arrays: dict[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """Weights under Hugging Face's names; scalars, which are settings, are left out."""
    for name, array in arrays.items():
        if array.ndim == 0 or name.endswith("_scale") or name == "decoder/alignment_heads":
            continue
        values = _unscaled(array, arrays.get(f"{name}_scale"))
        layer, _, part = name.rpartition("/")
        in_layer = re.fullmatch(r"(\w+)/layer_(\d+)/(.+)", layer)
        if name in _OTHERS:
            yield _OTHERS[name], values
        elif in_layer is None:
            yield f"{_OTHERS[layer]}.{_PARTS[part]}", values
        else:
            side, number, inner = in_layer.groups()
            names = _JOINED.get(inner) or (_LAYERS[inner],)
            for own, own_values in zip(names, np.split(values, len(names)), strict=True):
                yield f"{side}.layers.{number}.{own}.{_PARTS[part]}", own_values


def _unscaled(array: np.ndarray, scale: np.ndarray | None) -> np.ndarray:
    """Divides quantised rows by their scales; other arrays stay in their number format."""
    if scale is None:
        return array
    return array.astype(np.float32) / scale.reshape([-1] + [1] * (array.ndim - 1))
