"""Which utterances CTC cannot align: counted by lengths, and held against the loss itself."""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging

import numpy as np
import pytest
import tensorflow as tf

from tfkd.config import PrepareConfig, from_dict, to_dict
from tfkd.data.preparation import prepare
from tfkd.errors import TrainingError
from tfkd.models.recogniser import Recogniser
from tfkd.objectives import Truth
from tfkd.objectives.alignment import Unaligned, encodings_needed, unaligned
from tfkd.objectives.losses import ctc
from tfkd.records import open_store
from tfkd.text import EOS_ID, PAD_ID, CharacterTokenizer
from tfkd.training.ctc_lengths import UNALIGNED, report_unaligned
from tfkd.training.sources import Source

TOKENIZER = CharacterTokenizer(" ab")
A = TOKENIZER.encode("a")[0]


def is_aligned(labels: tuple[int, ...], steps: int) -> bool:
    """Whether the loss sees this sequence: it counts as zero where there is no alignment."""
    token_ids = np.full((1, 1, len(labels) + 1), PAD_ID, np.int32)
    token_ids[0, 0] = (*labels, EOS_ID)
    logits = tf.zeros([1, max(steps, 1), TOKENIZER.vocab_size])
    return bool(ctc(logits, tf.constant([steps]), tf.constant(token_ids), tf.ones([1, 1])) > 0)


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_what_is_needed_is_what_the_loss_needs(length):
    for labels in itertools.product((A, A + 1), repeat=length):
        needed = encodings_needed(labels)
        assert is_aligned(labels, needed)
        assert not is_aligned(labels, needed - 1)


def test_rows_that_need_more_than_there_is_are_named():
    rows = [
        {"utterance_id": "fits", "text": "ab ba"},
        {"utterance_id": "short", "text": "aab"},
        {"utterance_id": "no text", "text": None},
        {"utterance_id": "unspelt", "text": "xyz xyz"},
        {"utterance_id": "silent", "text": ""},
    ]
    assert unaligned(rows, [5, 3, 0, 1, 0], TOKENIZER) == [Unaligned("short", 4, 3)]
    with pytest.raises(ValueError, match="shorter"):
        unaligned(rows, [5], TOKENIZER)


@pytest.fixture
def model_of(tiny_system, teacher):
    def make(time_reduction: int) -> Recogniser:
        config = dataclasses.replace(
            tiny_system.model,
            encoder=from_dict(
                type(tiny_system.model.encoder),
                {**to_dict(tiny_system.model.encoder), "time_reduction": time_reduction},
            ),
        )
        return Recogniser(config, teacher.tokenizer.vocab_size)

    return make


@pytest.mark.parametrize("time_reduction", [4, 8])
def test_the_lengths_are_those_of_the_encoder(
    model_of, teacher, prepared, tmp_path, caplog, time_reduction
):
    """Of the real model's encodings, the count names exactly those that are too few."""
    model, store = model_of(time_reduction), prepared["train"]
    lengths = {}
    for record in store.records():
        samples = tf.zeros([1, record.num_samples]), tf.constant([record.num_samples])
        lengths[record.utterance_id] = int(model.encode(*samples)[1][0])
    needed = {
        row["utterance_id"]: encodings_needed(teacher.tokenizer.encode(row["text"]))
        for row in store.index
    }
    expected = {each for each in needed if needed[each] > lengths[each]}
    assert len(expected) < 0.9 * len(needed)
    assert expected or time_reduction < 8
    with caplog.at_level(logging.WARNING, "tfkd"):
        report_unaligned([Source(store, Truth())], teacher.tokenizer, model, tmp_path)
    lines = (tmp_path / UNALIGNED).read_text().splitlines() if expected else []
    rows = [json.loads(line) for line in lines]
    assert {row["utterance_id"] for row in rows} == expected
    assert all(row["encodings"] == lengths[row["utterance_id"]] for row in rows)
    said = f"{len(expected)} of {len(needed)} utterances have more labels than encoder"
    assert (said in caplog.text) == bool(expected)


def test_a_reduction_that_leaves_ctc_nothing_is_refused(model_of, teacher, prepared, tmp_path):
    sources = [Source(prepared["train"], Truth())]
    with pytest.raises(
        TrainingError, match=r"24 of 24 .* \(lower the time_reduction of model\.encoder"
    ):
        report_unaligned(sources, teacher.tokenizer, model_of(64), tmp_path)


def test_audio_without_transcripts_hides_none_that_ctc_cannot_align(
    model_of, teacher, prepared, tiny_corpus, tmp_path
):
    """A tenth of the audio may be all that has transcripts."""
    rows = [json.loads(line) for line in (tiny_corpus / "train.jsonl").read_text().splitlines()]
    for row in rows:
        row["audio"] = str(tiny_corpus / row["audio"])
        if row["utterance_id"] not in ("train-00", "train-01"):
            del row["text"]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = PrepareConfig(sample_rate_hz=8000, max_rejected_share=0.5)
    prepare(tmp_path / "train.jsonl", tmp_path / "store", config)
    sources = [Source(open_store(tmp_path / "store"), Truth())]
    with pytest.raises(TrainingError, match="2 of 2 utterances have more labels than encoder"):
        report_unaligned(sources, teacher.tokenizer, model_of(64), tmp_path)
