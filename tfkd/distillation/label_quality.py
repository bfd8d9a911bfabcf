"""How good pseudo labels are, where somebody knows what was said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tfkd.metrics import count_word_errors, rate_with_interval
from tfkd.records import PseudoLabelRecord, Store


@dataclass(frozen=True)
class LabelQuality:
    """Word errors of the labels of those utterances whose transcript is known.

    Attributes:
      utterances: how many these are.
      wer, wer_low, wer_high: of the teacher's best hypothesis, with its 95 % interval.
      oracle_wer, oracle_wer_low, oracle_wer_high: of the hypothesis nearest to the transcript.
    """

    utterances: int
    wer: float
    wer_low: float
    wer_high: float
    oracle_wer: float
    oracle_wer_low: float
    oracle_wer_high: float


def label_quality(labels: Store, references: Mapping[str, str]) -> LabelQuality | None:
    """Compares the hypotheses of a store with transcripts that are known elsewhere.

    Args:
      references: transcripts by utterance id; those of other utterances are left out.
    Returns:
      None if no utterance of the store has one.
    """
    best, nearest = [], []
    for record in labels.records():
        reference = references.get(record.utterance_id)
        if reference is None or not isinstance(record, PseudoLabelRecord):
            continue
        texts = [hypothesis.text for hypothesis in record.hypotheses]
        counts = count_word_errors([reference] * len(texts), texts)
        errors = counts[:, :3].sum(axis=1)
        best.append(counts[0])
        nearest.append(counts[errors.argmin()])
    if not best:
        return None
    wer, low, high = rate_with_interval(np.array(best))
    oracle, oracle_low, oracle_high = rate_with_interval(np.array(nearest))
    return LabelQuality(len(best), wer, low, high, oracle, oracle_low, oracle_high)
