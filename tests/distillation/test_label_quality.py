"""The word errors of pseudo labels against transcripts that lie elsewhere."""

from __future__ import annotations

import pytest

from tfkd.distillation.label_quality import errors_of_best, label_quality
from tfkd.metrics import rate_with_interval


def test_labels_are_measured_by_the_best_and_by_the_nearest_hypothesis(labels):
    records = list(labels.records())
    nearest = {each.utterance_id: each.hypotheses[-1].text for each in records}
    quality = label_quality(labels, nearest)
    words = sum(len(text.split()) for text in nearest.values())
    # An oracle of the last hypotheses finds them; the best ones differ from them.
    assert quality.utterances == len(records)
    assert quality.oracle_wer == 0.0
    assert quality.wer * words == pytest.approx(round(quality.wer * words))
    assert quality.wer_low <= quality.wer <= quality.wer_high
    best = {each.utterance_id: each.hypotheses[0].text for each in records[:3]}
    quality = label_quality(labels, best)
    assert (quality.utterances, quality.wer, quality.oracle_wer) == (3, 0.0, 0.0)


def test_labels_without_any_transcript_are_not_measured(labels):
    assert label_quality(labels, {}) is None
    assert label_quality(labels, {"elsewhere": "ba"}) is None


def test_errors_of_the_best_hypotheses_are_in_the_order_of_the_references(labels):
    """An utterance without labels lacks each of its words."""
    first, second, *_ = labels.records()
    right, wrong = first.hypotheses[0].text, f"{second.hypotheses[0].text} never"
    references = {second.utterance_id: wrong, "elsewhere": "ba di", first.utterance_id: right}
    errors = errors_of_best(labels, references)[:, :3].sum(axis=1)
    assert errors.tolist() == [1, 2, 0]


def test_labels_of_a_whole_test_set_are_measured_as_they_are_compared(labels):
    record = next(labels.records())
    references = {record.utterance_id: record.hypotheses[0].text, "elsewhere": "ba di"}
    quality = label_quality(labels, references, is_scored_whole=True)
    wer, low, high = rate_with_interval(errors_of_best(labels, references))
    assert quality.utterances == 2
    assert (quality.wer, quality.wer_low, quality.wer_high) == (wer, low, high)
    assert wer > 0
