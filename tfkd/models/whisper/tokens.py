"""The vocabulary of a Whisper: tokens of text, tokens of the prompt, and ids as text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tokenizers import Tokenizer

from tfkd.errors import ConfigError

START, END, NO_TIMESTAMPS = "<|startoftranscript|>", "<|endoftext|>", "<|notimestamps|>"
TASKS = {"transcribe": "<|transcribe|>", "translate": "<|translate|>"}
_LANGUAGE = re.compile(r"<\|([a-z]{2,3})\|>")


@dataclass(frozen=True)
class WhisperTokens:
    """The vocabulary of a Whisper.

    Attributes:
      tokenizer: maps ids to text.
      special: ids of the tokens between <| and |>, by name: all that are not text.
      languages: ids of the language tokens, by code ("en"); none in an English-only model.
      suppressed: ids that no transcript holds (symbols for noises and music), as the folder lists
        them.
      suppressed_first: ids that no transcript begins with (a space, the end).
      default_language: the code of the language that the folder names; None if it names none.
    """

    tokenizer: Tokenizer
    special: Mapping[str, int]
    languages: Mapping[str, int]
    suppressed: tuple[int, ...]
    suppressed_first: tuple[int, ...]
    default_language: str | None = None

    @property
    def start_id(self) -> int:
        """The first token of every prompt."""
        return self.special[START]

    @property
    def end_id(self) -> int:
        """The token that ends a transcript, and pads shorter ones."""
        return self.special[END]

    @property
    def is_multilingual(self) -> bool:
        """Whether prompts name a language and a task."""
        return bool(self.languages)

    def prompt_after_start(self, language: str | None, task: str) -> tuple[int, ...]:
        """The ids of the prompt after its first token.

        Args:
          language: a code; None leaves the language out, for a model that detects it.
          task: "transcribe" or "translate".
        Raises:
          ConfigError: if the model does not know the language, or cannot translate.
        """
        no_timestamps = self.special[NO_TIMESTAMPS]
        if not self.is_multilingual:
            if language not in (None, "en"):
                raise ConfigError(
                    f"labels.whisper.language: this model knows English only, not {language!r}",
                    remedy="leave it out, or take a multilingual Whisper",
                )
            if task != "transcribe":
                raise ConfigError(
                    "labels.whisper.task: this model knows English only, and cannot translate",
                    remedy='set it to "transcribe", or take a multilingual Whisper',
                )
            return (no_timestamps,)
        ids = (self.special[TASKS[task]], no_timestamps)
        return ids if language is None else (self.language_id(language), *ids)

    def language_id(self, language: str) -> int:
        """The id of the token of a language.

        Raises:
          ConfigError: if the model does not know the language.
        """
        if language not in self.languages:
            known = ", ".join(sorted(self.languages))
            raise ConfigError(
                f"labels.whisper.language: {language!r} is none of {known}",
                remedy="set it to one of these codes, or to null to detect the language",
            )
        return self.languages[language]

    def never_said(self, vocab_size: int) -> list[int]:
        """The ids that no transcript without timestamps holds, in rising order.

        These are the suppressed ones, the special ones other than the end, and those above the
        tokenizer's, which are the timestamps of folders that do not list them.
        """
        special = set(self.special.values()) | set(self.suppressed)
        above = range(self.tokenizer.get_vocab_size(with_added_tokens=True), vocab_size)
        return sorted((special | set(above)) - {self.end_id})

    def decode(self, token_ids: Iterable[int]) -> str:
        """The text of ids; special tokens are left out."""
        special = set(self.special.values())
        return self.tokenizer.decode([i for i in token_ids if i not in special]).strip()

    def piece(self, token_id: int) -> str:
        """The text of one token, white space included; a special one by its name."""
        return self.tokenizer.decode([token_id], skip_special_tokens=False)


def special_tokens(tokenizer: Tokenizer) -> dict[str, int]:
    """Ids of the tokens of a vocabulary that are written between <| and |>."""
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    return {
        text: i for text, i in vocabulary.items() if text.startswith("<|") and text.endswith("|>")
    }


def language_tokens(special: Mapping[str, int]) -> dict[str, int]:
    """The language tokens among special ones, by code."""
    found = ((_LANGUAGE.fullmatch(text), i) for text, i in special.items())
    return {match[1]: i for match, i in found if match}
