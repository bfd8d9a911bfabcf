"""Learns from transcripts: ordinary supervised training."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tfkd.objectives.objective import (
    NO_REFERENCE,
    UNTOKENISABLE,
    Dropped,
    Objective,
    Signature,
    Targets,
    sequence_arrays,
    sequence_signature,
    spelled,
)
from tfkd.records import Record
from tfkd.text import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Truth(Objective):
    """Learns the transcript of each utterance by cross-entropy (Kim and Rush 2016, eq. 3).

    Attributes:
      only_where: another objective; utterances for which it has no target are dropped, so that
        trainings with either objective see the same audio.

    >>> objective = tfkd.objectives.Truth(ctc_weight=0.0)
    >>> sorted(objective.signature)
    ['token_ids', 'weights']

    References:
      Kim and Rush 2016, "Sequence-level knowledge distillation", arXiv:1606.07947.
    """

    name = "truth"
    needs_hypotheses = False
    only_where: Objective | None = None

    @property
    def reads_hypotheses(self) -> bool:
        return self.only_where is not None

    @property
    def signature(self) -> Signature:
        return sequence_signature(1)

    def targets(self, record: Record, tokenizer: Tokenizer) -> Targets | Dropped:
        if self.only_where is not None:
            others = self.only_where.targets(record, tokenizer)
            if isinstance(others, Dropped):
                return Dropped(others.utterance_id, others.faults)
        text = record.utterance.text
        # An empty transcript is a target, too: the model learns to emit EOS alone.
        if text is None:
            return Dropped(record.utterance_id, (NO_REFERENCE,))
        sequence = spelled(text, tokenizer)
        if sequence is None:
            return Dropped(record.utterance_id, (UNTOKENISABLE,))
        return Targets(sequence_arrays([sequence], [1.0], 1))

    def texts(self, record: Record) -> Iterable[str]:
        text = record.utterance.text
        return [text] if text else []
