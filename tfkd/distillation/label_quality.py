"""Measures the word errors of pseudo labels against transcripts that the student does not see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tfkd.metrics import count_word_errors, rate_with_interval
from tfkd.records import PseudoLabelRecord, Store

# The labels of the test set, in the work folder and in results.
TEST_LABELS = "labels-test"


@dataclass(frozen=True)
class LabelQuality:
    """Word error rates of pseudo labels, over the utterances whose transcript is known.

    Attributes:
      utterances: number of these utterances.
      wer, wer_low, wer_high: of the teacher's best hypothesis, as a share, with its 95 % interval.
      oracle_wer, oracle_wer_low, oracle_wer_high: of the hypothesis with the fewest errors.
    """

    utterances: int
    wer: float
    wer_low: float
    wer_high: float
    oracle_wer: float
    oracle_wer_low: float
    oracle_wer_high: float


def label_quality(
    labels: Store, references: Mapping[str, str], *, is_scored_whole: bool = False
) -> LabelQuality | None:
    """Compares the hypotheses of a store with transcripts from another source.

    Args:
      references: transcripts by utterance id.
      is_scored_whole: whether references of utterances that `labels` lacks are compared with no
        word, as `errors_of_best` does it; otherwise they are ignored.
    Returns:
      The error rates; None if no utterance of the store has a reference.
    """
    best, nearest = [], []
    unlabelled = set(references)

    def compare(utterance_id: str, texts: list[str]) -> None:
        unlabelled.discard(utterance_id)
        counts = count_word_errors([references[utterance_id]] * len(texts), texts)
        best.append(counts[0])
        nearest.append(counts[counts[:, :3].sum(axis=1).argmin()])

    for record in labels.records():
        if isinstance(record, PseudoLabelRecord) and record.utterance_id in references:
            compare(record.utterance_id, [each.text for each in record.hypotheses])
    for utterance_id in sorted(unlabelled) if is_scored_whole else ():
        compare(utterance_id, [""])
    if not best:
        return None
    wer, low, high = rate_with_interval(np.array(best))
    oracle, oracle_low, oracle_high = rate_with_interval(np.array(nearest))
    return LabelQuality(len(best), wer, low, high, oracle, oracle_low, oracle_high)


def errors_of_best(labels: Store, references: Mapping[str, str]) -> np.ndarray:
    """Counts the word errors of the teacher's best hypotheses, int64 [U, 4].

    Args:
      references: transcripts by utterance id; one that `labels` lacks is compared with no word.
    Returns:
      The counts of `tfkd.metrics.count_word_errors`, in the order of the references.
    """
    records = (each for each in labels.records() if isinstance(each, PseudoLabelRecord))
    best = {each.utterance_id: each.hypotheses[0].text for each in records}
    hypotheses = [best.get(utterance_id, "") for utterance_id in references]
    return count_word_errors(list(references.values()), hypotheses)
