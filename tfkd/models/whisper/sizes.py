"""How large a Whisper is: read from its folder, not from the name of a size."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class WhisperSizes:
    """Shapes of a Whisper's weights.

    Attributes:
      num_mels: 80 or 128.
      units: width of encoder and decoder.
      num_encodings: 1500, of 20 ms each.
      max_positions: tokens that the decoder has positions for, those of the prompt included.
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
