"""The recognisers and the batch of the training and decoding benchmarks."""

from __future__ import annotations

from dataclasses import dataclass

MELS = 80
BATCH = 16
FRAMES = 1000  # 10 s
TOKENS = 100
VOCABULARY = 32
PAD_ID, EOS_ID, SOS_ID = 0, 1, 2
BEAM_WIDTH = 10


@dataclass(frozen=True)
class Sizes:
    """Pyramid of bidirectional LSTM layers, additive attention, LSTM speller with input feeding.

    Pairs of frames are joined `joins[i]` times before layer i; together they divide time by 8.
    """

    joins: tuple[int, ...]
    units: int
    attention_units: int
    decoder_units: int
    embedding_units: int


SIZES = {
    "teacher": Sizes((1, 1, 1), 256, 256, 512, 128),
    "student": Sizes((2, 1), 96, 96, 160, 64),
}
