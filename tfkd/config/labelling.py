"""How a teacher labels."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

from tfkd.config.bounds import LATER, number
from tfkd.config.decoding import (
    MOST_TOKENS,
    WIDEST_BEAM,
    DecodingConfig,
    FusionConfig,
    SearchControls,
)


@dataclass(frozen=True)
class WhisperConfig:
    """What a Whisper is asked for, and how its transcripts become labels.

    Attributes:
      language: code of the language that is spoken, as "en"; null for the one that the folder
        names, or else for what Whisper hears in each utterance.
      task: "translate" writes English whatever is spoken.
      numbers: "words" writes 21 as twenty one, "digits" as two one; "as_written" leaves it.
    """

    language: str | None = None
    task: Literal["transcribe", "translate"] = "transcribe"
    numbers: Literal["as_written", "words", "digits"] = "as_written"


@dataclass(frozen=True)
class LabelConfig(SearchControls):
    """How the teacher labels.

    Attributes:
      max_tokens, max_tokens_per_second: null for what the teacher itself decodes with.
      top_m: how many of the teacher's most probable tokens are kept at each step of a hypothesis,
        for the objective `word_kd`.
      whisper: for a teacher of `whisper:FOLDER` alone.
    """

    beam_width: int = number(8, at_least=1, at_most=WIDEST_BEAM)
    num_hypotheses: int = number(4, at_least=1)
    max_tokens: int | None = number(None, at_least=1, at_most=MOST_TOKENS)
    max_tokens_per_second: float | None = number(None, at_least=0.1)
    batch_size: int = number(16, at_least=1)
    top_m: int = number(0, at_least=0, is_later=True)
    fusion: FusionConfig = field(default_factory=FusionConfig)
    whisper: WhisperConfig = field(default_factory=WhisperConfig, metadata=LATER)

    def decoding(self, teacher: DecodingConfig) -> DecodingConfig:
        """The teacher's decoding with these settings."""
        shared = {f.name for f in dataclasses.fields(DecodingConfig)}
        if_any = {"max_tokens", "max_tokens_per_second"}
        own = {
            key: value
            for key, value in vars(self).items()
            if key in shared and not (key in if_any and value is None)
        }
        return dataclasses.replace(teacher, **own)
