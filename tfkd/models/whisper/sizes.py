"""The sizes of a Whisper, which are read from its folder and not from a name such as "small"."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class WhisperSizes:
    """Shapes of a Whisper's weights.

    Attributes:
      num_mels: mel bands of the frontend, 80 or 128.
      units: width of encoder and decoder.
      vocab_size: tokens of the output layer, those of languages and timestamps included.
      encoder_layers: layers of the encoder.
      encoder_heads: attention heads of an encoder layer.
      encoder_inner_units: width inside the feed-forward part of an encoder layer.
      decoder_layers: layers of the decoder.
      decoder_heads: attention heads of a decoder layer.
      decoder_inner_units: width inside the feed-forward part of a decoder layer.
      num_encodings: encodings of a window, 1500 of 20 ms each.
      max_positions: the most tokens of a transcript, those of the prompt included.
    """

    num_mels: int
    units: int
    vocab_size: int
    encoder_layers: int
    encoder_heads: int
    encoder_inner_units: int
    decoder_layers: int
    decoder_heads: int
    decoder_inner_units: int
    num_encodings: int = 1500
    max_positions: int = 448
