"""Learns the teacher's posteriors token by token: word-level distillation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tfkd.decoding.posteriors import LEAST_LOG_PROB
from tfkd.distillation.units import units_of
from tfkd.errors import RecordError
from tfkd.objectives.objective import (
    TOP_PROBS,
    TOP_TOKEN_IDS,
    Arrays,
    Dropped,
    Field,
    Signature,
    Targets,
)
from tfkd.objectives.sequence_kd import Chosen, SequenceKD
from tfkd.records import Hypothesis, PseudoLabelRecord, Record, Store
from tfkd.text import PAD_ID, Tokenizer


@dataclass(frozen=True, kw_only=True)
class WordKD(SequenceKD):
    """Learns the teacher's posteriors over tokens at each step of its k best hypotheses.

    The loss is L_WORD-KD of Kim and Rush 2016, section 3.1, the cross-entropy with the teacher's
    posteriors, along the teacher's hypotheses instead of the transcript. Labels keep the M most
    probable tokens of each step (`tfkd label --top-m`), whose probabilities are divided by their
    sum. Hypotheses are chosen and weighted as in SequenceKD. Because the posteriors are over the
    teacher's tokens, the student uses the teacher's tokenizer.

    Attributes:
      top_m: M, at most as many as the labels keep; 1 learns the teacher's most probable token.
      token_temperature: T: the posteriors of teacher and student are raised to the power 1 / T and
        normalised, and the loss is multiplied by T squared (Hinton et al. 2015, section 2).

    >>> objective = tfkd.objectives.WordKD(num_hypotheses=2, top_m=4)
    >>> objective.signature["top_probs"].shape
    (2, None, 4)

    References:
      Kim and Rush 2016, "Sequence-level knowledge distillation", arXiv:1606.07947.
      Hinton, Vinyals and Dean 2015, "Distilling the knowledge in a neural network",
      arXiv:1503.02531.
    """

    name = "word_kd"
    top_m: int = 8

    @property
    def signature(self) -> Signature:
        shape = (self.num_hypotheses, None, self.top_m)
        return {
            **super().signature,
            TOP_TOKEN_IDS: Field("int32", shape, PAD_ID),
            TOP_PROBS: Field("float32", shape, 0.0),
        }

    def targets(self, record: Record, tokenizer: Tokenizer) -> Targets | Dropped:
        if isinstance(record, PseudoLabelRecord) and not record.hypotheses[0].top_token_ids:
            raise RecordError(
                "its hypotheses have no posteriors",
                utterance_id=record.utterance_id,
                remedy="label with tfkd label --top-m 8",
            )
        return super().targets(record, tokenizer)

    def tokenizer(self, store: Store) -> Tokenizer:
        return units_of(store)

    def _token_ids(self, hypothesis: Hypothesis, tokenizer: Tokenizer) -> tuple[int, ...] | None:
        return hypothesis.token_ids

    def _arrays(self, chosen: Sequence[Chosen]) -> Arrays:
        posteriors = self._posteriors([each.hypothesis for each in chosen])
        return {**super()._arrays(chosen), **posteriors}

    def _posteriors(self, hypotheses: Sequence[Hypothesis]) -> Arrays:
        """top_token_ids and top_probs [K, U, M]; places beyond the chosen ones are zero."""
        longest = max(each.num_tokens for each in hypotheses)
        shape = (self.num_hypotheses, longest, self.top_m)
        token_ids, probs = np.full(shape, PAD_ID, np.int32), np.zeros(shape, np.float32)
        for place, each in enumerate(hypotheses):
            kept = min(self.top_m, len(each.top_token_ids[0]))
            corner = (place, slice(each.num_tokens), slice(kept))
            log_probs = np.asarray(each.top_log_probs)[:, :kept]
            # The first column is the most probable token; subtracting it avoids overflow.
            masses = np.exp((log_probs - log_probs[:, :1]) / self.token_temperature)
            # Tokens that no model emits, such as padding, which a high temperature would revive.
            masses[log_probs <= LEAST_LOG_PROB] = 0.0
            token_ids[corner] = np.asarray(each.top_token_ids)[:, :kept]
            probs[corner] = masses / masses.sum(-1, keepdims=True)
        return {TOP_TOKEN_IDS: token_ids, TOP_PROBS: probs}
