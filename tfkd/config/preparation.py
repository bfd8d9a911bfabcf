"""How transcripts and audio are prepared, and which units text is cut into."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tfkd.config.bounds import LATER, number
from tfkd.config.model import MOST_FLAC_HZ

ENGLISH_ALPHABET = " 'abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class TextConfig:
    """How transcripts are normalised; see `tfkd.text.normalise`."""

    extra_characters: str = ""


@dataclass(frozen=True)
class PrepareConfig:
    """Limits of the audio that `tfkd prepare` accepts, and how it is stored.

    Attributes:
      too_long: what becomes of audio above `max_seconds`: "split" cuts it in its pauses where it
        has no text, and rejects it where it has.
      tags: whether transcripts lose what stands in brackets for sounds and marks, such as [noise]
        and <COMMA>: see `tfkd.text.transcript_of`.
      allow_commands: whether commands of a Kaldi wav.scp may be run, where reading their file is
        not enough.
    """

    sample_rate_hz: int = number(16000, at_least=1000, at_most=MOST_FLAC_HZ)
    min_seconds: float = number(0.1, at_least=0)
    max_seconds: float = number(30.0, at_least=0.01)
    too_long: Literal["reject", "split"] = "reject"
    max_rejected_share: float = number(0.05, at_least=0, at_most=1)
    shard_size: int = number(512, at_least=1)
    text: TextConfig = field(default_factory=TextConfig)
    tags: Literal["drop", "keep"] = field(default="drop", metadata=LATER)
    allow_commands: bool = field(default=False, metadata=LATER)


@dataclass(frozen=True)
class TokenizerConfig:
    """Units of the output. `alphabet: null` learns the characters from the training text."""

    kind: Literal["characters", "sentencepiece"] = "characters"
    alphabet: str | None = ENGLISH_ALPHABET
    vocab_size: int | None = number(None, at_least=5, at_most=1_000_000)
    model_type: Literal["unigram", "bpe"] = "unigram"
