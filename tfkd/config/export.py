"""Settings of exports: their forms, and how far they may differ from Keras."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from tfkd.config.bounds import LATER, number
from tfkd.config.decoding import WIDEST_BEAM, DecodingConfig

# `tfkd.device` reads no metadata of longer audio.
LONGEST_SECONDS = 24 * 3600

ExportFormat = Literal["savedmodel", "tflite-float32", "tflite-float16", "tflite-int8"]


@dataclass(frozen=True)
class ExportConfig:
    """Settings of an export; the three limits apply to quantised forms.

    Attributes:
      formats: names of forms, rows of the table in `tfkd.exporting.forms`.
      beam_width, num_hypotheses: of the search in the forms; null for those of the run.
      max_seconds: duration of the longest audio that a .tflite takes, and of the parity check.
      fixed_length: whether a .tflite takes waveforms of `max_seconds` alone, padded, and beside
        them how many samples are not padding: for runtimes that need the shapes of all tensors
        beforehand, such as those of browsers.
      max_wer_change: largest difference from the WER of Keras, up or down, as a share.
      max_wer_to_keras: largest WER with Keras' hypotheses as references, as a share.
      max_log_prob_drift: largest mean difference of the log_prob of equal hypotheses, in nats.
      parity_utterances: number of recordings on which every form is compared with Keras.
    """

    formats: tuple[ExportFormat, ...] = ("savedmodel", "tflite-float32", "tflite-int8")
    beam_width: int | None = number(None, at_least=1, at_most=WIDEST_BEAM)
    num_hypotheses: int | None = number(None, at_least=1)
    max_seconds: float = number(30.0, at_least=0.01, at_most=LONGEST_SECONDS)
    fixed_length: bool = field(default=False, metadata=LATER)
    max_wer_change: float = number(0.005, at_least=0, at_most=1)
    max_wer_to_keras: float = number(0.02, at_least=0, at_most=1, is_later=True)
    max_log_prob_drift: float = number(0.3, at_least=0, is_later=True)
    parity_utterances: int = number(50, at_least=1)

    def decoding(self, run: DecodingConfig) -> DecodingConfig:
        """Returns the run's decoding settings, overridden by these."""
        return replace(
            run,
            beam_width=self.beam_width or run.beam_width,
            num_hypotheses=self.num_hypotheses or run.num_hypotheses,
        )
