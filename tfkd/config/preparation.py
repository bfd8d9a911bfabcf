"""Settings of preparation and of the tokenizer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tfkd.config.bounds import LATER, number
from tfkd.config.model import MOST_FLAC_HZ

ENGLISH_ALPHABET = " 'abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class TextConfig:
    """Settings of the normalisation of transcripts; see `tfkd.text.normalise`.

    Attributes:
      extra_characters: characters to keep beside letters, digits and apostrophes.
    """

    extra_characters: str = ""


@dataclass(frozen=True)
class PrepareConfig:
    """Settings of `tfkd prepare`: limits of the audio, and how it is stored.

    Attributes:
      sample_rate_hz: rate to which audio is resampled.
      min_seconds, max_seconds: shortest and longest utterance.
      too_long: what happens to audio above `max_seconds`: "reject" rejects it; "split" cuts
        recordings without text in their pauses, and rejects those with text.
      piece_seconds: the longest piece of a recording that is cut; then all that are more than a
        quarter longer are. As long as the utterances that the teacher knows; null for
        `max_seconds`.
      max_rejected_share: if a larger share of the utterances is unusable, preparation fails.
      shard_size: number of utterances in a shard.
      tags: "drop" removes tags of sounds and marks, such as [noise] and <COMMA>, from transcripts;
        see `tfkd.text.transcript_of`.
      allow_commands: whether commands of a Kaldi wav.scp may be run if reading their file is not
        enough.
    """

    sample_rate_hz: int = number(16000, at_least=1000, at_most=MOST_FLAC_HZ)
    min_seconds: float = number(0.1, at_least=0)
    max_seconds: float = number(30.0, at_least=0.01)
    too_long: Literal["reject", "split"] = "reject"
    piece_seconds: float | None = number(None, at_least=0.1, is_later=True)
    max_rejected_share: float = number(0.05, at_least=0, at_most=1)
    shard_size: int = number(512, at_least=1)
    text: TextConfig = field(default_factory=TextConfig)
    tags: Literal["drop", "keep"] = field(default="drop", metadata=LATER)
    allow_commands: bool = field(default=False, metadata=LATER)


@dataclass(frozen=True)
class TokenizerConfig:
    """Settings of the tokenizer, the units of the output.

    Attributes:
      alphabet: of `characters`; null for the characters of the training text.
      vocab_size, model_type: of `sentencepiece`.
    """

    kind: Literal["characters", "sentencepiece"] = "characters"
    alphabet: str | None = ENGLISH_ALPHABET
    vocab_size: int | None = number(None, at_least=5, at_most=1_000_000)
    model_type: Literal["unigram", "bpe"] = "unigram"
