"""Which forms a run is exported to, and how far they may differ from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tfkd.config.bounds import number
from tfkd.config.decoding import WIDEST_BEAM

ExportFormat = Literal["savedmodel", "tflite-float32", "tflite-float16", "tflite-int8"]


@dataclass(frozen=True)
class ExportConfig:
    """Which forms are written, and how far a quantised one may drift.

    Attributes:
      formats: rows of the table in `tfkd.exporting.forms`.
      max_seconds: longest audio that a .tflite takes, and that any form is checked with.
      max_wer_change: how far WER may move from that of Keras, up or down, as a share.
      max_wer_to_keras: word errors against what Keras says, as a share: words that the form
        leaves out, adds or changes.
      max_log_prob_drift: mean difference of the log_prob of equal hypotheses, in nats.
      parity_utterances: recordings that every form is compared with Keras on.
    """

    formats: tuple[ExportFormat, ...] = ("savedmodel", "tflite-float32", "tflite-int8")
    beam_width: int = number(4, at_least=1, at_most=WIDEST_BEAM)
    num_hypotheses: int = number(1, at_least=1)
    max_seconds: float = number(30.0, at_least=0.01)
    max_wer_change: float = number(0.005, at_least=0)
    max_wer_to_keras: float = number(0.02, at_least=0, is_later=True)
    max_log_prob_drift: float = number(0.3, at_least=0, is_later=True)
    parity_utterances: int = number(50, at_least=1)
