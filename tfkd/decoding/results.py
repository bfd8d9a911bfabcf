"""Converts results of the search to numpy arrays, records and words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfkd.beam_search import BeamResult
from tfkd.records import Hypothesis
from tfkd.text import Tokenizer


class Decoded(NamedTuple):
    """The k best hypotheses of one utterance.

    Attributes:
      reference: the transcript, if there is one.
      num_samples: of the waveform.
      texts: of the hypotheses, best first.
      result: numpy arrays without the batch axis, token_ids [K, U], log_prob [K], ...; places
        without a hypothesis are left out.
    """

    utterance_id: str
    reference: str | None
    num_samples: int
    texts: tuple[str, ...]
    result: BeamResult

    @property
    def best_text(self) -> str:
        """The text of the best hypothesis; empty if there is none."""
        return self.texts[0] if self.texts else ""


def decoded_batch(
    result: BeamResult, tokenizer: Tokenizer, batch: Mapping[str, tf.Tensor]
) -> Iterator[Decoded]:
    """Splits the result of a batch of `tfkd.data.audio_batches.audio_batches` into utterances."""
    texts, has_text = batch["text"].numpy(), batch["has_text"].numpy()
    references = [
        text.decode() if known else None for text, known in zip(texts, has_text, strict=True)
    ]
    ids, num_samples = batch["utterance_id"].numpy(), batch["num_samples"].numpy()
    yield from unbatch(result, tokenizer, ids, references, num_samples)


def unbatch(
    result: BeamResult,
    tokenizer: Tokenizer,
    utterance_ids: Sequence[bytes],
    references: Sequence[str | None],
    num_samples: Sequence[int],
) -> Iterator[Decoded]:
    """Splits the result of a batch into its utterances."""
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
    """Converts the k best of one utterance to records.

    Args:
      frame_seconds: seconds between two encodings of the recogniser.
    """
    result = decoded.result
    return tuple(
        Hypothesis(
            text=text,
            token_ids=tuple(result.token_ids[rank, :length].tolist()),
            log_prob=float(result.log_prob[rank]),
            total=float(result.total[rank]),
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
    """Yields the words of a hypothesis, with the places of their first and last token.

    A token that ends one word and begins the next belongs to both.

    Args:
      token_ids: may hold special tokens, which belong to no word.
      pieces: text of each token, "" for special ones; a space ends a word.

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
