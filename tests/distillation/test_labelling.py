"""Labelled + rejected = manifest, after any crash, and with the same bytes."""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tensorflow as tf

from tfkd.audio.segments import LONGEST_WHOLE
from tfkd.config import AugmentationConfig, LabelConfig, to_yaml
from tfkd.data.audio_batches import audio_batches
from tfkd.data.given_audio import utterance_store
from tfkd.data.preparation import prepare
from tfkd.decoding.decoder import decode_dataset
from tfkd.distillation import labelling
from tfkd.distillation.labelling import (
    ShardLabeller,
    label,
    label_batches,
    warn_of_long_audio,
)
from tfkd.distillation.teachers import RunTeacher
from tfkd.errors import RecordError
from tfkd.records import PSEUDO_LABELS, Hypothesis, PseudoLabelRecord, Store, open_store
from tfkd.storage.files import sha256

KILLED_IN_SHARD = 2

# Kills itself between two records of a shard: the shard's temporary file stays behind.
LABEL_AND_DIE = """
import os, signal, sys
from tfkd.distillation import labelling
from tfkd.config import LabelConfig, from_dict
from tfkd.records import open_store
from tfkd.decoding.runs import load_run
from tfkd.config.strict_yaml import read_yaml

run, data, out, config, shard = sys.argv[1:]
real = labelling._records

def dying(store, path, *arguments):
    for number, record in enumerate(real(store, path, *arguments)):
        if path == store.shard_paths[int(shard)] and number == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        yield record

labelling._records = dying
labelling.label(load_run(run), open_store(data), out, from_dict(LabelConfig, read_yaml(config)))
"""


def refuse(*arguments, **settings):
    raise AssertionError("this must not be called")


def shard_digests(store: Store) -> list[str]:
    return [sha256(path) for path in store.shard_paths]


def content_of(directory: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


# --- what is written


def test_labelled_and_rejected_together_are_the_manifest(labels, tiny_corpus):
    lines = (tiny_corpus / "train.jsonl").read_text().splitlines()
    manifest = [json.loads(line)["utterance_id"] for line in lines]
    labelled = [row["utterance_id"] for row in labels.index]
    rejected = [rejection.utterance_id for rejection in labels.rejections]
    assert rejected == ["train-lost"]
    assert sorted(labelled + rejected) == sorted(manifest)
    summary = labels.summary
    assert summary.records == len(labelled)
    assert summary.records + summary.rejected + summary.rejected_before_planning == len(manifest)


def test_labels_hold_the_utterances_as_they_were(labels, prepared):
    labels.verify(deep=True)
    assert labels.kind == PSEUDO_LABELS
    found = [record.utterance for record in labels.records()]
    assert found == list(prepared["train"].records())


def test_hypotheses_are_those_of_the_search(labels, prepared, teacher, label_config):
    records = {record.utterance_id: record for record in labels.records()}
    # Alone, so that neither the batch nor its padding can matter.
    decoding = label_config.decoding(teacher.system.decoding)
    decoder = teacher.decoder(decoding)
    for decoded in decode_dataset(decoder, audio_batches(prepared["train"], 1).take(6)):
        hypotheses = records[decoded.utterance_id].hypotheses
        assert [h.text for h in hypotheses] == list(decoded.texts)
        np.testing.assert_allclose(
            [h.log_prob for h in hypotheses], decoded.result.log_prob, atol=1e-4
        )


def test_log_probs_are_what_teacher_forcing_gives(labels, prepared, teacher):
    (batch,) = audio_batches(prepared["train"], 1).take(1)
    name = batch["utterance_id"][0].numpy().decode()
    (record,) = [r for r in labels.records() if r.utterance_id == name]
    for hypothesis in record.hypotheses:
        token_ids = tf.constant([[hypothesis.token_ids]])
        logits = teacher.model({**batch, "token_ids": token_ids}).logits
        log_probs = tf.gather(tf.nn.log_softmax(logits), token_ids, batch_dims=3)[0, 0].numpy()
        np.testing.assert_allclose(hypothesis.token_log_probs, log_probs, atol=1e-4)
        assert hypothesis.log_prob == pytest.approx(log_probs.sum(), abs=1e-4)


def test_hypotheses_are_ranked_and_say_why_they_ended(labels, teacher):
    eos_id = teacher.tokenizer.eos_id
    for record in labels.records():
        assert isinstance(record, PseudoLabelRecord)
        assert 1 <= len(record.hypotheses) <= 2
        scores = [h.score for h in record.hypotheses]
        assert scores == sorted(scores, reverse=True)
        for hypothesis in record.hypotheses:
            is_ended = hypothesis.token_ids[-1] == eos_id
            assert hypothesis.finish_reason == ("eos" if is_ended else "max_steps")
            assert teacher.tokenizer.decode(hypothesis.token_ids) == hypothesis.text
            assert 0 < hypothesis.coverage <= 1
            assert min(hypothesis.token_seconds) >= 0
            seconds = record.utterance.num_samples / record.utterance.sample_rate_hz
            assert max(hypothesis.token_seconds) <= seconds


def test_an_utterance_without_hypotheses_is_rejected_by_name(
    teacher, prepared, label_config, tmp_path, monkeypatch
):
    def deaf(labeller, batches) -> Iterator[tuple[str, tuple[Hypothesis, ...]]]:
        for utterance_id, hypotheses in label_batches(labeller, batches):
            yield utterance_id, () if utterance_id == "train-05" else hypotheses

    monkeypatch.setattr(labelling, "label_batches", deaf)
    store = prepared["train"]
    summary = label(teacher, store, tmp_path / "labels", label_config)
    assert (summary.records, summary.rejected, summary.rejected_before_planning) == (23, 1, 1)
    found = open_store(tmp_path / "labels")
    assert {r.utterance_id: r.reason for r in found.rejections} == {
        "train-lost": "missing_file",
        "train-05": "no_hypothesis",
    }
    planned = {row["utterance_id"] for row in store.index}
    assert {row["utterance_id"] for row in found.index} == planned - {"train-05"}


@pytest.fixture(scope="module")
def labeller(teacher, prepared, label_config) -> ShardLabeller:
    """Its first use traces the search, which the others reuse."""
    return ShardLabeller(teacher, prepared["train"], label_config)


def test_a_shard_is_written_while_the_next_is_decoded(labeller):
    decoded: list[str] = []
    third_is_begun = threading.Event()

    def write(number, records, rejections):
        if number == 1:
            # Were this thread that of the search, it would wait for ever.
            assert third_is_begun.wait(timeout=60)
        assert [record.utterance_id for record in records] == list(labeller.plan.shards[number])

    for utterance_id in labeller.label(range(len(labeller.plan.shards)), write):
        decoded.append(utterance_id)
        if utterance_id in labeller.plan.shards[2]:
            third_is_begun.set()
    assert sorted(decoded) == sorted(name for shard in labeller.plan.shards for name in shard)


def test_a_shard_that_cannot_be_written_stops_the_search(labeller):
    decoded: list[str] = []

    def write(number, records, rejections):
        raise RecordError("cannot write: disk full")

    with pytest.raises(RecordError, match="disk full"):
        decoded.extend(labeller.label(range(len(labeller.plan.shards)), write))
    assert set(decoded) <= {name for shard in labeller.plan.shards[:2] for name in shard}


def test_the_last_shard_too_reports_that_it_cannot_be_written(labeller):

    def write(number, records, rejections):
        raise RecordError("cannot write: disk full")

    with pytest.raises(RecordError, match="disk full"):
        list(labeller.label([len(labeller.plan.shards) - 1], write))


# --- crashes, reruns, other folders


@pytest.fixture(scope="module")
def killed(teacher, prepared, label_config, tmp_path_factory) -> Path:
    """Labels whose writer was killed in the middle of the third of six shards."""
    directory = tmp_path_factory.mktemp("killed")
    config, out = directory / "labels.yaml", directory / "labels"
    config.write_text(to_yaml(label_config))
    arguments = [teacher.directory, prepared["train"].directory, out, config, KILLED_IN_SHARD]
    done = subprocess.run(
        [sys.executable, "-c", LABEL_AND_DIE, *map(str, arguments)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    return out


def test_a_killed_store_cannot_be_read(killed):
    with pytest.raises(RecordError, match="is not complete.*again: it continues where it stopped"):
        open_store(killed)


def test_resuming_gives_the_bytes_of_an_unbroken_run(
    killed, teacher, prepared, labels, label_config, tmp_path, monkeypatch
):
    out = shutil.copytree(killed, tmp_path / "labels")
    assert list(out.rglob("*.tmp"))
    asked: list[int] = []

    def noting(store, batch_size, *, shards):
        asked.extend(shards)
        return audio_batches(store, batch_size, shards=shards)

    monkeypatch.setattr(labelling, "audio_batches", noting)
    summary = label(teacher, prepared["train"], out, label_config)
    # What was done is kept: only the broken shard and those after it are decoded.
    assert asked == list(range(KILLED_IN_SHARD, len(labels.plan.shards)))
    resumed = open_store(out)
    resumed.verify(deep=True)
    assert shard_digests(resumed) == shard_digests(labels)
    assert summary == labels.summary
    assert not list(out.rglob("*.tmp"))


def test_labelling_goes_on_in_other_batches(killed, teacher, prepared, label_config, tmp_path):
    """As where the first command ran out of memory."""
    out = shutil.copytree(killed, tmp_path / "labels")
    smaller = dataclasses.replace(label_config, batch_size=label_config.batch_size - 1)
    kept = {path.name: path.read_bytes() for path in (out / "shards").glob("*.tfrecord")}
    assert len(kept) == KILLED_IN_SHARD
    label(teacher, prepared["train"], out, smaller)
    assert kept.items() <= {p.name: p.read_bytes() for p in (out / "shards").iterdir()}.items()
    for config in (smaller, label_config):
        assert labelling.is_labelled(teacher, prepared["train"], out, config)


def test_a_rerun_decodes_nothing_and_changes_nothing(
    teacher, prepared, labels, label_config, monkeypatch
):
    before = content_of(labels.directory)
    monkeypatch.setattr(labelling, "label_batches", refuse)
    assert label(teacher, prepared["train"], labels.directory, label_config) == labels.summary
    assert content_of(labels.directory) == before


def test_a_damaged_shard_alone_is_labelled_again(
    teacher, prepared, labels, label_config, tmp_path, monkeypatch
):
    out = shutil.copytree(labels.directory, tmp_path / "labels")
    damaged = open_store(out).shard_paths[4]
    damaged.write_bytes(damaged.read_bytes()[:-3])
    asked: list[int] = []

    def noting(store, batch_size, *, shards):
        asked.extend(shards)
        return audio_batches(store, batch_size, shards=shards)

    monkeypatch.setattr(labelling, "audio_batches", noting)
    label(teacher, prepared["train"], out, label_config)
    assert asked == [4]
    assert shard_digests(open_store(out)) == shard_digests(labels)


def test_labels_of_another_teacher_are_refused(
    teacher, prepared, labels, label_config, monkeypatch
):
    other = dataclasses.replace(teacher, sha256="0" * 64)
    refused_by("source teacher is", other, prepared["train"], labels, label_config, monkeypatch)


def test_labels_of_other_settings_are_refused(teacher, prepared, labels, label_config, monkeypatch):
    other = dataclasses.replace(label_config, beam_width=4)
    differing = "its settings are beam_width=3 there and beam_width=4 here"
    refused_by(differing, teacher, prepared["train"], labels, other, monkeypatch)


def test_labels_by_other_limits_of_the_teacher_are_refused(
    teacher, prepared, labels, label_config, monkeypatch
):
    other = teacher.with_decoding(["max_tokens=7"])
    refused_by("config digest is", other, prepared["train"], labels, label_config, monkeypatch)


def test_labels_of_other_data_are_refused(teacher, prepared, labels, label_config, monkeypatch):
    refused_by("source utterances is", teacher, prepared["test"], labels, label_config, monkeypatch)


def refused_by(message, run, store: Store, labels: Store, config: LabelConfig, monkeypatch) -> None:
    before = content_of(labels.directory)
    monkeypatch.setattr(labelling, "label_batches", refuse)
    with pytest.raises(RecordError, match=f"{message}.*another --out") as raised:
        label(run, store, labels.directory, config)
    assert "\n" not in str(raised.value)
    assert content_of(labels.directory) == before


# --- audio that is longer than what the teacher knows


@pytest.fixture
def talk(speak, tmp_path, rate_hz) -> Path:
    """A manifest of two recordings, one ten times as long as the teacher's utterances."""
    speech, _ = soundfile.read(speak(tmp_path / "short.wav", "ba di"))
    soundfile.write(tmp_path / "talk.wav", np.resize(speech, 6 * rate_hz), rate_hz)
    manifest = tmp_path / "talk.jsonl"
    manifest.write_text("".join(f'{{"audio": "{name}.wav"}}\n' for name in ("short", "talk")))
    return manifest


def test_audio_that_the_teacher_cannot_follow_is_named(
    teacher, talk, prepare_config, label_config, tmp_path, monkeypatch, caplog
):
    prepare(talk, tmp_path / "data", prepare_config)
    monkeypatch.setattr(labelling, "label_store", lambda labeller, out: None)
    label(teacher, open_store(tmp_path / "data"), tmp_path / "labels", label_config)
    assert "1 of 2 utterances are much longer than the 0.6 s that the teacher knows" in caplog.text
    assert "for example talk, so their labels may lack words" in caplog.text


def test_of_audio_like_the_teachers_own_nothing_is_said(teacher, prepared, caplog):
    warn_of_long_audio(RunTeacher(teacher), prepared["train"])
    assert not [record for record in caplog.records if record.name == "tfkd"]


def test_a_teacher_that_heard_joined_utterances_knows_longer_ones(teacher):
    assert RunTeacher(teacher).usual_seconds == teacher.usual_seconds
    heard = dataclasses.replace(teacher.system.training, augmentation=AugmentationConfig())
    noisy = dataclasses.replace(teacher, system=dataclasses.replace(teacher.system, training=heard))
    assert RunTeacher(noisy).usual_seconds == heard.augmentation.max_seconds == 30


def test_a_corpus_for_a_teacher_is_cut_to_what_it_knows(teacher, talk):
    config = RunTeacher(teacher).preparation
    with utterance_store(talk, config) as store:
        lengths = {row["utterance_id"]: row["num_samples"] / 8000 for row in store.index}
    assert lengths.pop("short") <= LONGEST_WHOLE * teacher.usual_seconds
    assert len(lengths) > 9
    assert max(lengths.values()) <= teacher.usual_seconds
    assert sum(lengths.values()) == pytest.approx(6.0)
