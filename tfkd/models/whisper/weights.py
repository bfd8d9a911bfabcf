"""Sets the weights of a Whisper from the tensors of a folder; each tensor is used exactly once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from tfkd.errors import CheckpointError
from tfkd.models.whisper.decoder import DecoderLayer
from tfkd.models.whisper.encoder import Convolution, EncoderLayer
from tfkd.models.whisper.layers import FeedForward, Projection
from tfkd.models.whisper.model import Whisper
from tfkd.models.whisper.sizes import WhisperSizes


class Tensors:
    """The tensors of a folder by Hugging Face's names, in any number format; each is taken once."""

    def __init__(self, path: Path, values: dict[str, np.ndarray]) -> None:
        self._path, self._values = path, values

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def check_shapes(self, sizes: WhisperSizes) -> None:
        """Checks that tensors are of these sizes, before memory for such a model is allocated.

        Raises:
          CheckpointError: if a tensor that shows a size is missing or has another shape.
        """
        units = sizes.units
        first, last = f"{sizes.encoder_layers - 1}", f"{sizes.decoder_layers - 1}"
        wanted = {
            "encoder.conv1.weight": (units, sizes.num_mels, 3),
            "encoder.embed_positions.weight": (sizes.num_encodings, units),
            f"encoder.layers.{first}.fc1.weight": (sizes.encoder_inner_units, units),
            "decoder.embed_tokens.weight": (sizes.vocab_size, units),
            "decoder.embed_positions.weight": (sizes.max_positions, units),
            f"decoder.layers.{last}.fc1.weight": (sizes.decoder_inner_units, units),
        }
        for name, shape in wanted.items():
            if name not in self._values:
                raise self._missing(name)
            self._check_shape(name, self._values[name].shape, shape)

    def take(self, name: str) -> np.ndarray:
        """Removes a tensor and returns it as float32.

        Raises:
          CheckpointError: if it is missing, or was taken before.
        """
        if name not in self._values:
            raise self._missing(name)
        return self._values.pop(name).astype(np.float32)

    def assign(self, variable: keras.Variable, values: np.ndarray, name: str) -> None:
        """Sets a weight.

        Raises:
          CheckpointError: if the shape is another, or a value is not finite.
        """
        self._check_shape(name, values.shape, tuple(variable.shape))
        if not np.isfinite(values).all():
            raise CheckpointError(f"the weights {name} are not finite", path=self._path)
        variable.assign(values)

    def check_used_up(self) -> None:
        """Raises CheckpointError if a tensor was not taken: the model would lack a part."""
        if self._values:
            count, name = len(self._values), min(self._values)
            raise CheckpointError(
                f"{count} tensors are none of a Whisper's, for example {name}", path=self._path
            )

    def _missing(self, name: str) -> CheckpointError:
        return CheckpointError(f"the weights {name} are missing", path=self._path)

    def _check_shape(self, name: str, found: tuple[int, ...], wanted: tuple[int, ...]) -> None:
        if found != wanted:
            raise CheckpointError(
                f"the weights {name} have the shape {found}, not {wanted}", path=self._path
            )


def fill(model: Whisper, tensors: Tensors) -> None:
    """Sets every weight of the model.

    Raises:
      CheckpointError: if a tensor is missing, has another shape, is not finite, or is left over.
    """
    encoder, decoder = model.encoder, model.decoder
    _fill_convolution(encoder.first, tensors, "encoder.conv1")
    _fill_convolution(encoder.second, tensors, "encoder.conv2")
    _fill(encoder.positions, tensors, "encoder.embed_positions.weight")
    for number, layer in enumerate(encoder.layers):
        _fill_encoder_layer(layer, tensors, f"encoder.layers.{number}")
    _fill_norm(encoder.norm, tensors, "encoder.layer_norm")
    embedding = tensors.take("decoder.embed_tokens.weight")
    output = tensors.take("proj_out.weight") if "proj_out.weight" in tensors else embedding
    tensors.assign(decoder.embedding, embedding, "decoder.embed_tokens.weight")
    tensors.assign(decoder.output_kernel, output.T, "proj_out.weight")
    _fill(decoder.positions, tensors, "decoder.embed_positions.weight")
    for number, layer in enumerate(decoder.layers):
        _fill_decoder_layer(layer, tensors, f"decoder.layers.{number}")
    _fill_norm(decoder.norm, tensors, "decoder.layer_norm")
    tensors.check_used_up()


def _fill_encoder_layer(layer: EncoderLayer, tensors: Tensors, at: str) -> None:
    _fill_norm(layer.norm, tensors, f"{at}.self_attn_layer_norm")
    _fill_joined(layer.query_key_value, tensors, f"{at}.self_attn", "qkv")
    _fill_joined(layer.output_projection, tensors, f"{at}.self_attn", ["out"])
    _fill_feed_forward(layer.feed_forward, tensors, at)


def _fill_decoder_layer(layer: DecoderLayer, tensors: Tensors, at: str) -> None:
    _fill_norm(layer.norm, tensors, f"{at}.self_attn_layer_norm")
    _fill_joined(layer.query_key_value, tensors, f"{at}.self_attn", "qkv")
    _fill_joined(layer.output_projection, tensors, f"{at}.self_attn", ["out"])
    _fill_norm(layer.across_norm, tensors, f"{at}.encoder_attn_layer_norm")
    _fill_joined(layer.across_query, tensors, f"{at}.encoder_attn", "q")
    _fill_joined(layer.across_key_value, tensors, f"{at}.encoder_attn", "kv")
    _fill_joined(layer.across_output, tensors, f"{at}.encoder_attn", ["out"])
    _fill_feed_forward(layer.feed_forward, tensors, at)


def _fill_feed_forward(layer: FeedForward, tensors: Tensors, at: str) -> None:
    _fill_norm(layer.norm, tensors, f"{at}.final_layer_norm")
    for projection, name in ((layer.inner, "fc1"), (layer.outer, "fc2")):
        tensors.assign(projection.kernel, tensors.take(f"{at}.{name}.weight").T, f"{at}.{name}")
        _fill(projection.bias, tensors, f"{at}.{name}.bias")


def _fill_joined(layer: Projection, tensors: Tensors, at: str, parts: Sequence[str]) -> None:
    """Projections q, k, v or out of an attention, side by side in one kernel."""
    kernels = [tensors.take(f"{at}.{part}_proj.weight") for part in parts]
    biases = [
        _bias(tensors, f"{at}.{part}_proj", len(kernel))
        for part, kernel in zip(parts, kernels, strict=True)
    ]
    tensors.assign(layer.kernel, np.concatenate(kernels).T, f"{at}.{parts[0]}_proj")
    tensors.assign(layer.bias, np.concatenate(biases), f"{at}.{parts[0]}_proj")


def _bias(tensors: Tensors, at: str, units: int) -> np.ndarray:
    """A bias; that of keys is zeros, since it adds the same to every score of a softmax."""
    name = f"{at}.bias"
    is_of_keys = at.endswith("k_proj") and name not in tensors
    return np.zeros(units, np.float32) if is_of_keys else tensors.take(name)


def _fill_convolution(layer: Convolution, tensors: Tensors, at: str) -> None:
    kernel = tensors.take(f"{at}.weight").transpose(2, 1, 0)
    tensors.assign(layer.kernel, kernel, f"{at}.weight")
    _fill(layer.bias, tensors, f"{at}.bias")


def _fill_norm(layer: keras.layers.LayerNormalization, tensors: Tensors, at: str) -> None:
    _fill(layer.gamma, tensors, f"{at}.weight")
    _fill(layer.beta, tensors, f"{at}.bias")


def _fill(variable: keras.Variable, tensors: Tensors, name: str) -> None:
    tensors.assign(variable, tensors.take(name), name)
