"""A recogniser and beam search as one tf.function, and decoding of a dataset with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfkd.beam_search import BeamResult, Readout, beam_search
from tfkd.models import Recogniser
from tfkd.text import Tokenizer


class Decoder:
    """Batched k-best decoding from waveforms.

    Args:
      model: the recogniser; its current weights are used at each call.
      beam_width, num_hypotheses, max_tokens, alpha: see `tfkd.beam_search.beam_search`.
      batch_size: static batch size, which TFLite needs; None leaves it open.
    """

    def __init__(
        self,
        model: Recogniser,
        tokenizer: Tokenizer,
        *,
        beam_width: int,
        num_hypotheses: int,
        max_tokens: int,
        alpha: float = 0.0,
        batch_size: int | None = None,
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.beam_width, self.num_hypotheses = beam_width, num_hypotheses
        self.max_tokens, self.alpha = max_tokens, alpha
        self._batch_size = batch_size
        self.decode = tf.function(
            self._decode,
            input_signature=[
                tf.TensorSpec([batch_size, None], tf.float32, name="waveform"),
                tf.TensorSpec([batch_size], tf.int32, name="num_samples"),
            ],
            autograph=False,
        )

    def _decode(self, waveform: tf.Tensor, num_samples: tf.Tensor) -> BeamResult:
        encoded, encoded_lengths = self.model.encode(waveform, num_samples)
        memory, state = self.model.initial_state(encoded, encoded_lengths)

        def readout(state) -> Readout:
            """Where each hypothesis looked, and the share of the encodings that got attention."""
            attended = tf.minimum(state.attention_sum, 1.0)
            attended = tf.reshape(attended, [-1, self.beam_width, tf.shape(attended)[-1]])
            lengths = tf.expand_dims(tf.cast(tf.maximum(encoded_lengths, 1), tf.float32), 1)
            covered = tf.reshape(tf.reduce_sum(attended, -1) / lengths, [-1])
            return Readout(state.peak_frame, covered)

        return beam_search(
            lambda token_ids, state: self.model.step(token_ids, state, memory),
            state,
            batch_size=self._batch_size or tf.shape(waveform)[0],
            beam_width=self.beam_width,
            num_hypotheses=self.num_hypotheses,
            max_tokens=self.max_tokens,
            sos_id=self.tokenizer.sos_id,
            eos_id=self.tokenizer.eos_id,
            pad_id=self.tokenizer.pad_id,
            alpha=self.alpha,
            readout=readout,
        )


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
            tokenizer.decode(ids[:n].tolist()) for ids, n in zip(own.token_ids, own.num_tokens)
        )
        yield Decoded(utterance_id.decode(), references[row], int(num_samples[row]), texts, own)


def decode_dataset(decoder: Decoder, batches: Iterable[dict]) -> Iterator[Decoded]:
    """Decodes batches of `tfkd.datasets.audio_batches`, utterance by utterance."""
    for batch in batches:
        result = decoder.decode(batch["waveform"], batch["num_samples"])
        has_text = batch["has_text"].numpy()
        texts = [t.decode() for t in batch["text"].numpy()]
        yield from unbatch(
            result,
            decoder.tokenizer,
            batch["utterance_id"].numpy(),
            [text if known else None for text, known in zip(texts, has_text)],
            batch["num_samples"].numpy(),
        )
