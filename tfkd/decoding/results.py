"""What the search found for each utterance, as numpy arrays and as records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from tfkd.beam_search import BeamResult
from tfkd.records import Hypothesis
from tfkd.text import Tokenizer


class Decoded(NamedTuple):
    """The k best of one utterance as numpy arrays; empty places are left out."""

    utterance_id: str
    reference: str | None
    num_samples: int
    texts: tuple[str, ...]
    result: BeamResult  # of this utterance: token_ids [K, U], log_prob [K], ...

    @property
    def best_text(self) -> str:
        """The best hypothesis; empty where the search found none."""
        return self.texts[0] if self.texts else ""


def unbatch(
    result: BeamResult,
    tokenizer: Tokenizer,
    utterance_ids: Sequence[bytes],
    references: Sequence[str | None],
    num_samples: Sequence[int],
) -> Iterator[Decoded]:
    """Cuts a batch's result into utterances."""
    arrays = BeamResult(*(np.asarray(x) for x in result))
    for row, utterance_id in enumerate(utterance_ids):
        count = int((arrays.num_tokens[row] > 0).sum())
        own = BeamResult(*(x[row, :count] for x in arrays))
        texts = tuple(
            tokenizer.decode(ids[:n].tolist())
            for ids, n in zip(own.token_ids, own.num_tokens, strict=True)
        )
        yield Decoded(utterance_id.decode(), references[row], int(num_samples[row]), texts, own)


def hypotheses_of(decoded: Decoded, frame_seconds: float) -> tuple[Hypothesis, ...]:
    """The k best of one utterance as they are kept; frame_seconds is that of the recogniser."""
    result = decoded.result
    return tuple(
        Hypothesis(
            text=text,
            token_ids=tuple(result.token_ids[rank, :length].tolist()),
            log_prob=float(result.log_prob[rank]),
            score=float(result.score[rank]),
            token_log_probs=tuple(result.token_log_probs[rank, :length].tolist()),
            token_seconds=tuple((result.frames[rank, :length] * frame_seconds).tolist()),
            finish_reason="eos" if result.is_finished[rank] else "max_steps",
            coverage=float(result.coverage[rank]),
        )
        for rank, (text, length) in enumerate(
            zip(decoded.texts, result.num_tokens.tolist(), strict=True)
        )
    )


def word_spans(token_ids: Sequence[int], pieces: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    """The words of a hypothesis, with the places of their first and last token.

    A token that ends one word and begins the next belongs to both.

    Args:
      token_ids: special tokens may be among them; they belong to no word.
      pieces: surface form of each token; a space ends a word.

    >>> list(word_spans([2, 3, 4, 1], ["", "", " on", "e", " two"]))
    [('one', 0, 1), ('two', 2, 2)]
    """
    text, first, last = "", 0, 0
    for place, token in enumerate(token_ids):
        for character in pieces[token]:
            if character != " ":
                first = first if text else place
                text, last = text + character, place
            elif text:
                yield text, first, last
                text = ""
    if text:
        yield text, first, last
