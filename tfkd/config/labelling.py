"""Settings of labelling."""

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

# What names a Whisper as a teacher begins with; its folder follows.
WHISPER_PREFIX = "whisper:"


@dataclass(frozen=True)
class WhisperConfig:
    """Settings of a Whisper as the teacher.

    Attributes:
      language: code of the spoken language, such as "en"; null for the one that the folder names,
        or else the one that Whisper detects in each window of at most 30 s.
      task: "translate" gives English text for any language.
      numbers: "words" writes 21 as twenty one, "digits" as two one; "as_written" keeps 21.
      extra_characters: characters that labels keep beside letters, digits and apostrophes: those of
        `prepare.text`, which normalises the transcripts.
    """

    language: str | None = None
    task: Literal["transcribe", "translate"] = "transcribe"
    numbers: Literal["as_written", "words", "digits"] = "as_written"
    extra_characters: str = field(default="", metadata=LATER)


@dataclass(frozen=True)
class LabelConfig(SearchControls):
    """Settings of labelling, and of the teacher's search.

    Attributes:
      beam_width: number of alive hypotheses.
      num_hypotheses: number of hypotheses that are kept for each utterance.
      max_tokens, max_tokens_per_second: null for those of the teacher's own decoding.
      batch_size: number of utterances decoded together.
      top_m: number of the teacher's most probable tokens that are kept for each step of a
        hypothesis, for the objective `word_kd`.
      whisper: for teachers `whisper:FOLDER` only.
    """

    beam_width: int = number(8, at_least=1, at_most=WIDEST_BEAM)
    num_hypotheses: int = number(4, at_least=1)
    max_tokens: int | None = number(None, at_least=1, at_most=MOST_TOKENS)
    max_tokens_per_second: float | None = number(None, at_least=0.1)
    batch_size: int = number(16, at_least=1)
    top_m: int = number(0, at_least=0, is_later=True)
    fusion: FusionConfig = field(default_factory=FusionConfig)
    whisper: WhisperConfig = field(default_factory=WhisperConfig, metadata=LATER)

    def without_circumstances(self) -> LabelConfig:
        """Resets the setting that changes how labelling runs, but not what it finds."""
        return dataclasses.replace(self, batch_size=LabelConfig.batch_size)

    def decoding(self, teacher: DecodingConfig) -> DecodingConfig:
        """Returns the teacher's decoding settings, overridden by these."""
        shared = {f.name for f in dataclasses.fields(DecodingConfig)}
        if_any = {"max_tokens", "max_tokens_per_second"}
        own = {
            key: value
            for key, value in vars(self).items()
            if key in shared and not (key in if_any and value is None)
        }
        return dataclasses.replace(teacher, **own)
