"""Records: schema, framing, and stores that survive damage, crashes and full disks."""

from __future__ import annotations

import builtins
import dataclasses
import errno
import json
import math
import os
import random
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from forks import Worker, fork_worker, write_messages_to

from tfkd import records
from tfkd.corpora import Rejection
from tfkd.errors import RecordError
from tfkd.records import (
    Hypothesis,
    Plan,
    PseudoLabelRecord,
    RandomAccess,
    StoreWriter,
    UtteranceRecord,
    frame,
    open_store,
    read_records,
)

RATE_HZ = 16000
IDS = [f"speaker-{number:02d}" for number in range(7)]
BAD_ID = IDS[3]
SHARD_SIZE = 3


def flac(num_samples: int, *, rate_hz: int = RATE_HZ, channels: int = 1, bits: int = 16) -> bytes:
    """A FLAC header and a payload: records never decode the frames."""
    packed = rate_hz << 44 | (channels - 1) << 41 | (bits - 1) << 36 | num_samples
    stream_info = bytes(10) + packed.to_bytes(8, "big") + bytes(16)
    return b"fLaC\x80\x00\x00\x22" + stream_info + bytes(num_samples % 23)


def utterance(utterance_id: str = "a", **changes: object) -> UtteranceRecord:
    number = sum(utterance_id.encode(errors="replace"))
    values = {
        "utterance_id": utterance_id,
        "audio": flac(1600 + number),
        "num_samples": 1600 + number,
        "sample_rate_hz": RATE_HZ,
        "text": f"text of {utterance_id}",
        "speaker": None,
    }
    return UtteranceRecord(**(values | changes))


def hypothesis(**changes: object) -> Hypothesis:
    values = {
        "text": "hällo",
        "token_ids": (7, 5, 3),
        "log_prob": -1.5,
        "score": -0.5,
        "token_log_probs": (-0.5, -0.75, -0.25),
        "token_seconds": (0.25, 0.5, 0.75),
        "finish_reason": "eos",
        "coverage": 0.875,
    }
    return Hypothesis(**(values | changes))


def pseudo_label(utterance_id: str = "a") -> PseudoLabelRecord:
    second = hypothesis(
        text="",
        token_ids=(9,),
        token_log_probs=(-4.0,),
        token_seconds=(1.0,),
        finish_reason="max_steps",
        score=-4.0,
    )
    return PseudoLabelRecord(utterance(utterance_id), (hypothesis(), second))


def rejection(utterance_id: str = BAD_ID) -> Rejection:
    return Rejection(utterance_id, "silent", "all samples are zero", "manifest.jsonl:4")


def plan_of(kind: str = "utterances", *, digest: str = "d" * 64, ids: list[str] = IDS) -> Plan:
    return Plan.create(kind, reversed(ids), digest, {"manifest": "e" * 64}, SHARD_SIZE)


def fill(directory: Path, plan: Plan, *, pause_seconds: float = 0.0) -> records.StoreSummary:
    """What a command does: writes what is pending, rejects BAD_ID, completes."""
    make = {"utterances": utterance, "pseudo_labels": pseudo_label}[plan.kind]
    with StoreWriter(directory, plan) as writer:
        for number in writer.pending_shards():
            rejected: list[Rejection] = []

            def made(number: int = number, rejected: list[Rejection] = rejected) -> Iterator:
                for utterance_id in plan.shards[number]:
                    time.sleep(pause_seconds)
                    if utterance_id == BAD_ID:
                        rejected.append(rejection())
                    else:
                        yield make(utterance_id)

            writer.write_shard(number, made(), rejected)
        return writer.complete([rejection("never-planned")])


def contents(directory: Path) -> dict[str, bytes]:
    files = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished store that tests compare with and must not change."""
    directory = tmp_path_factory.mktemp("unbroken") / "store"
    fill(directory, plan_of())
    return directory


@pytest.fixture
def store_directory(tmp_path: Path) -> Path:
    """A finished store that a test may damage."""
    directory = tmp_path / "store"
    fill(directory, plan_of())
    return directory


# Schema


@pytest.mark.parametrize(
    "record",
    [
        utterance(),
        utterance("ünïcode / id", text=None, speaker="s\n"),
        utterance(text="", speaker="x"),
        pseudo_label(),
    ],
)
def test_round_trip(record: UtteranceRecord | PseudoLabelRecord) -> None:
    data = record.to_example_bytes()
    assert type(record).from_example_bytes(data) == record
    assert record.to_example_bytes() == data


def test_features_are_serialised_in_sorted_order() -> None:
    """A map of protobuf has no order of its own; shards must be the same bytes in every process."""
    data = pseudo_label().to_example_bytes()
    keys = [bytes([len(name)]) + name.encode() for name in sorted(records.PSEUDO_LABEL_FEATURES)]
    positions = [data.index(b"\x0a" + key) for key in keys]
    assert positions == sorted(positions)


def test_floats_are_kept_as_float32() -> None:
    record = PseudoLabelRecord(utterance(), (hypothesis(score=-0.1),))
    read = PseudoLabelRecord.from_example_bytes(record.to_example_bytes())
    assert read.hypotheses[0].score == float(np.float32(-0.1))


def test_numpy_scalars_are_taken() -> None:
    numbers = hypothesis(
        token_ids=tuple(np.array([7, 5, 3], np.int32)),
        token_log_probs=tuple(np.array([-0.5, -0.75, -0.25], np.float32)),
        log_prob=np.float32(-1.5),
    )
    data = PseudoLabelRecord(utterance(), (numbers,)).to_example_bytes()
    assert data == PseudoLabelRecord(utterance(), (hypothesis(),)).to_example_bytes()


def test_tensorflow_parses_the_declared_features() -> None:
    types = {"bytes": tf.string, "int64": tf.int64, "float": tf.float32}
    features = {
        name: tf.io.RaggedFeature(types[list_type])
        for name, list_type in records.PSEUDO_LABEL_FEATURES.items()
    }
    parsed = tf.io.parse_single_example(pseudo_label().to_example_bytes(), features)
    assert parsed["hypotheses/num_tokens"].numpy().tolist() == [3, 1]
    assert parsed["hypotheses/token_ids"].numpy().tolist() == [7, 5, 3, 9]
    assert parsed[records.SPEAKER].shape == (0,)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"utterance_id": ""}, "id is empty"),
        ({"utterance_id": "\udc80"}, "UTF-8"),
        ({"text": "\udc80"}, "text holds characters"),
        ({"num_samples": 0}, "num_samples is 0"),
        ({"num_samples": 2**63}, "64-bit"),
        ({"num_samples": 1600}, "number of samples of its FLAC is 1697, not 1600"),
        ({"sample_rate_hz": 8000}, "sample rate in Hz of its FLAC is 16000, not 8000"),
        ({"sample_rate_hz": -1}, "not a positive"),
        ({"audio": b"RIFF" + bytes(60)}, "not FLAC"),
        ({"audio": b""}, "not FLAC"),
        ({"audio": flac(1697, channels=2)}, "number of channels"),
        ({"audio": flac(1697, bits=24)}, "bits a sample"),
    ],
)
def test_bad_utterance_is_refused(changes: dict, words: str) -> None:
    with pytest.raises(RecordError, match=words) as raised:
        utterance(**changes).to_example_bytes()
    str(raised.value).encode()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"token_ids": ()}, "0 token_ids but 3 token_log_probs"),
        ({"token_ids": (1, 2)}, "2 token_ids but 3 token_log_probs"),
        ({"token_seconds": (1.0,)}, "3 token_ids but 1 token_seconds"),
        ({"token_seconds": (0.0, 0.0, float("inf"))}, r"token_seconds\[2\] is inf"),
        ({"token_ids": (1, -2, 3)}, "token id"),
        ({"token_ids": (1, 2**63, 3)}, "token id"),
        ({"log_prob": float("nan")}, "log_prob is nan"),
        ({"score": float("-inf")}, "score is -inf"),
        ({"score": -1e39}, "not a finite float32"),
        ({"coverage": float("inf")}, "coverage is inf"),
        ({"token_log_probs": (0.0, float("nan"), 0.0)}, r"token_log_probs\[1\]"),
        ({"finish_reason": "bored"}, "finish_reason is 'bored'"),
        ({"text": "\udc80"}, "UTF-8"),
    ],
)
def test_bad_hypothesis_is_refused(changes: dict, words: str) -> None:
    record = PseudoLabelRecord(utterance(), (hypothesis(), hypothesis(**changes)))
    with pytest.raises(RecordError, match=f"utterance a: hypothesis 1: .*{words}"):
        record.to_example_bytes()


UNKNOWN = {
    "token_ids": (),
    "log_prob": None,
    "score": None,
    "token_log_probs": (),
    "token_seconds": (),
    "finish_reason": None,
    "coverage": None,
    "written": None,
    "top_token_ids": (),
    "top_log_probs": (),
    "total": None,
}
# Those whose features are there in every record, known or not.
ALWAYS = [
    name
    for name in records.OPTIONAL_VALUES
    if f"hypotheses/{name}" in records.PSEUDO_LABEL_FEATURES
]


def test_the_optional_values_are_all_but_the_text() -> None:
    names = [field.name for field in dataclasses.fields(Hypothesis)]
    assert sorted(records.OPTIONAL_VALUES) == sorted(UNKNOWN) == sorted(set(names) - {"text"})
    assert Hypothesis("a") == hypothesis(text="a", **UNKNOWN)


@pytest.mark.parametrize(
    "unknown",
    [
        *({name: UNKNOWN[name]} for name in ALWAYS if name != "token_ids"),
        {name: UNKNOWN[name] for name in ("token_ids", "token_log_probs", "token_seconds")},
        UNKNOWN,
    ],
    ids=lambda unknown: "+".join(unknown),
)
def test_what_is_unknown_is_an_empty_list(unknown: dict) -> None:
    record = PseudoLabelRecord(
        utterance(), (hypothesis(**unknown), hypothesis(**{"text": "b", **unknown}))
    )
    data = record.to_example_bytes()
    assert PseudoLabelRecord.from_example_bytes(data) == record
    features = tf.train.Example.FromString(data).features.feature
    for name in ALWAYS:
        list_type = records.PSEUDO_LABEL_FEATURES[f"hypotheses/{name}"]
        stored = getattr(features[f"hypotheses/{name}"], f"{list_type}_list").value
        assert (len(stored) == 0) == (name in unknown)
    num_tokens = list(features["hypotheses/num_tokens"].int64_list.value)
    assert num_tokens == ([0, 0] if "token_ids" in unknown else [3, 3])


@pytest.mark.parametrize("name", [n for n in ALWAYS if n != "token_ids"])
def test_what_is_known_of_some_hypotheses_only_is_refused(name: str) -> None:
    partly = (hypothesis(), hypothesis(**{name: UNKNOWN[name]}), hypothesis())
    with pytest.raises(RecordError, match=f"{name} is missing in 1 of 3 hypotheses"):
        PseudoLabelRecord(utterance(), partly).to_example_bytes()


POSTERIORS = {
    "top_token_ids": ((7, 1), (5, 65535), (3, 0)),
    "top_log_probs": ((-0.5, -1.5), (-0.75, -65504.0), (-0.25, -3.140625)),
}


def test_posteriors_come_back_and_leave_other_records_as_they_were() -> None:
    record = PseudoLabelRecord(utterance(), (hypothesis(**POSTERIORS),))
    data = record.to_example_bytes()
    assert PseudoLabelRecord.from_example_bytes(data) == record
    features = tf.train.Example.FromString(data).features.feature
    (ids,) = features["hypotheses/top_token_ids"].bytes_list.value
    (log_probs,) = features["hypotheses/top_log_probs"].bytes_list.value
    assert np.frombuffer(ids, "<u2").reshape(3, 2).tolist() == [[7, 1], [5, 65535], [3, 0]]
    found = np.frombuffer(log_probs, "<f2").reshape(3, 2)
    assert found.tolist() == [list(row) for row in POSTERIORS["top_log_probs"]]
    bare = tf.train.Example.FromString(pseudo_label().to_example_bytes()).features.feature
    assert not set(records.LATER_FEATURES) & set(bare)


def test_the_total_of_a_search_comes_back():
    record = PseudoLabelRecord(utterance(), (hypothesis(total=-2.5), hypothesis(total=-3.0)))
    assert PseudoLabelRecord.from_example_bytes(record.to_example_bytes()) == record
    with pytest.raises(RecordError, match="total is nan, not a finite float32"):
        PseudoLabelRecord(utterance(), (hypothesis(total=float("nan")),)).to_example_bytes()


def test_what_a_teacher_wrote_stands_beside_its_text():
    written = hypothesis(written="Seven, four!")
    record = PseudoLabelRecord(utterance(), (written,))
    features = tf.train.Example.FromString(record.to_example_bytes()).features.feature
    assert features["hypotheses/written"].bytes_list.value == [b"Seven, four!"]
    assert PseudoLabelRecord.from_example_bytes(record.to_example_bytes()) == record
    both = PseudoLabelRecord(utterance(), (written, hypothesis()))
    with pytest.raises(RecordError, match="written is missing in 1 of 2 hypotheses"):
        both.to_example_bytes()
    bare = PseudoLabelRecord(utterance(), (hypothesis(),)).to_example_bytes()
    assert "hypotheses/written" not in tf.train.Example.FromString(bare).features.feature


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"top_log_probs": ()}, "not M numbers for each"),
        ({"top_token_ids": POSTERIORS["top_token_ids"][:2]}, "not M numbers for each"),
        ({"top_token_ids": ((7,), (5, 6), (3, 0))}, "not M numbers for each"),
        ({"top_token_ids": ((7, 65536), (5, 6), (3, 0))}, "not between 0 and 65535"),
        ({"top_log_probs": ((-0.5, 0.5), (-1.0, -2.0), (-1.0, -2.0))}, "not between -65504 and 0"),
        ({"top_log_probs": ((-0.5, math.nan), (-1.0, -2.0), (-1.0, -2.0))}, "not between -65504"),
    ],
)
def test_faulty_posteriors_are_refused(changes: dict, words: str) -> None:
    faulty = hypothesis(**{**POSTERIORS, **changes})
    with pytest.raises(RecordError, match=words):
        PseudoLabelRecord(utterance(), (faulty,)).to_example_bytes()


def test_posteriors_of_some_hypotheses_only_are_refused() -> None:
    partly = (hypothesis(**POSTERIORS), hypothesis())
    with pytest.raises(RecordError, match="top_token_ids is missing in 1 of 2 hypotheses"):
        PseudoLabelRecord(utterance(), partly).to_example_bytes()


def test_posteriors_that_were_cut_are_refused() -> None:
    data = PseudoLabelRecord(utterance(), (hypothesis(**POSTERIORS),)).to_example_bytes()
    example = tf.train.Example.FromString(data)
    stored = example.features.feature["hypotheses/top_log_probs"].bytes_list
    stored.value[0] = stored.value[0][:-1]
    with pytest.raises(RecordError, match="11 bytes of posteriors do not fit 3 tokens"):
        PseudoLabelRecord.from_example_bytes(example.SerializeToString())


def test_pseudo_label_without_hypothesis_is_refused() -> None:
    with pytest.raises(RecordError, match="no hypothesis"):
        PseudoLabelRecord(utterance(), ()).to_example_bytes()


def changed_example(change: Callable[[tf.train.Example], object]) -> bytes:
    example = tf.train.Example.FromString(pseudo_label().to_example_bytes())
    change(example)
    return example.SerializeToString()


def features_of(example: tf.train.Example, name: str) -> tf.train.Feature:
    return example.features.feature[name]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda e: e.features.feature.pop("text"), r"missing features \['text'\]"),
        (lambda e: features_of(e, "odd").int64_list.value.append(1), r"unknown features \['odd'\]"),
        (lambda e: features_of(e, "text").int64_list.value.append(1), "not of type bytes"),
        (lambda e: features_of(e, "text").bytes_list.value.append(b""), "holds 2 values, not 1"),
        (lambda e: features_of(e, "audio").bytes_list.value.pop(), "holds 0 values, not 1"),
        (
            lambda e: features_of(e, "utterance_id").bytes_list.value.__setitem__(0, b"\xff"),
            "not UTF-8",
        ),
        (
            lambda e: features_of(e, "hypotheses/num_tokens").int64_list.value.__setitem__(0, 4),
            "holds 4 values, not 5",
        ),
        (
            lambda e: features_of(e, "hypotheses/num_tokens").int64_list.value.__setitem__(0, -3),
            "holds a negative number",
        ),
        (
            lambda e: features_of(e, "hypotheses/score").float_list.value.append(0),
            "holds 3 values, not 2",
        ),
        (
            lambda e: features_of(e, "hypotheses/coverage").float_list.value.pop(),
            "holds 1 values, not 2",
        ),
        (
            lambda e: features_of(e, "hypotheses/token_seconds").float_list.value.pop(),
            "holds 3 values, not 4",
        ),
        (
            lambda e: features_of(e, "hypotheses/score").float_list.value.__setitem__(
                0, float("nan")
            ),
            "score is nan",
        ),
    ],
)
def test_inconsistent_example_is_refused(change: Callable, words: str) -> None:
    with pytest.raises(RecordError, match=words):
        PseudoLabelRecord.from_example_bytes(changed_example(change))


def test_another_kind_is_refused() -> None:
    with pytest.raises(RecordError, match="another kind"):
        UtteranceRecord.from_example_bytes(pseudo_label().to_example_bytes())
    with pytest.raises(RecordError, match="another kind"):
        PseudoLabelRecord.from_example_bytes(utterance().to_example_bytes())


def test_mutated_examples_raise_nothing_but_record_errors() -> None:
    generator = random.Random(1)
    original = pseudo_label().to_example_bytes()
    for _ in range(1500):
        data = bytearray(original)
        for _ in range(generator.randint(1, 4)):
            data[generator.randrange(len(data))] = generator.randrange(256)
        try:
            PseudoLabelRecord.from_example_bytes(bytes(data[: generator.choice([-1, len(data)])]))
        except RecordError as error:
            str(error).encode()


# Framing


def write_framed(path: Path, payloads: list[bytes]) -> Path:
    path.write_bytes(b"".join(map(records.frame, payloads)))
    return path


def test_masked_crc_of_a_known_value() -> None:
    crc = 0xE3069283  # crc32c("123456789"), RFC 3720
    rotated = (crc >> 15 | crc << 17) & 0xFFFFFFFF
    assert records.masked_crc32c(b"123456789") == (rotated + 0xA282EAD8) % 2**32


PAYLOADS = [b"", b"x", bytes(range(256)) * 5, "ä".encode()]


def test_tensorflow_reads_what_we_write(tmp_path: Path) -> None:
    path = write_framed(tmp_path / "ours", PAYLOADS)
    assert list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator()) == PAYLOADS


def test_we_read_what_tensorflow_writes(tmp_path: Path) -> None:
    path = tmp_path / "theirs"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for payload in PAYLOADS:
            writer.write(payload)
    assert list(read_records(path)) == PAYLOADS
    assert path.read_bytes() == write_framed(tmp_path / "ours", PAYLOADS).read_bytes()


def test_a_cut_file_is_refused_or_short_at_a_boundary(tmp_path: Path) -> None:
    path = write_framed(tmp_path / "cut", [b"one", b"three"])
    whole, boundary = path.read_bytes(), len(records.frame(b"one"))
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        if length in (0, boundary):
            assert len(list(read_records(path))) == (length > 0)
            continue
        with pytest.raises(RecordError, match="damaged record . at byte"):
            list(read_records(path))


def test_a_header_of_2_to_the_40_bytes_costs_no_memory(tmp_path: Path) -> None:
    length = struct.pack("<Q", 2**40)
    path = tmp_path / "huge"
    path.write_bytes(length + struct.pack("<I", records.masked_crc32c(length)) + bytes(100))
    # 2^40 bytes cannot be had here: an attempt would be a MemoryError.
    with pytest.raises(RecordError, match="declares 1099511627776 bytes"):
        list(read_records(path))
    path.write_bytes(length + bytes(100))
    with pytest.raises(RecordError, match="checksum of its length"):
        list(read_records(path))


def test_random_bytes_raise_record_errors(tmp_path: Path) -> None:
    generator = random.Random(2)
    for _ in range(200):
        path = tmp_path / "random"
        path.write_bytes(generator.randbytes(generator.randint(1, 60)))
        with pytest.raises(RecordError):
            list(read_records(path))


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()])
def test_unreadable_file_is_named(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "shard")
    with pytest.raises(RecordError, match="shard: cannot read"):
        list(read_records(tmp_path / "shard"))


# Plan


def test_plan_does_not_depend_on_order() -> None:
    plan = plan_of()
    assert plan.shards == (tuple(IDS[:3]), tuple(IDS[3:6]), tuple(IDS[6:]))
    assert plan.sha256 == Plan.create("utterances", IDS, "d" * 64, plan.sources, 3).sha256
    assert plan.shard_name(1) == "utterances-00001-of-00003.tfrecord"
    assert plan.num_utterances == len(IDS)


def test_plan_refuses_bad_ids_and_arguments() -> None:
    with pytest.raises(RecordError, match="utterance b: its id is given twice"):
        plan_of(ids=["b", "a", "b"])
    for bad in ("", "\udc80"):
        with pytest.raises(RecordError, match="is empty or is not UTF-8"):
            plan_of(ids=["a", bad])
    with pytest.raises(ValueError, match="kind"):
        plan_of("tables")
    with pytest.raises(ValueError, match="shard_size"):
        Plan.create("utterances", [], "", {}, 0)


# Stores


@pytest.mark.parametrize("kind", records.KINDS)
def test_store_round_trip(tmp_path: Path, kind: str) -> None:
    summary = fill(tmp_path / "store", plan_of(kind))
    store = open_store(tmp_path / "store", kind=kind)
    store.verify(deep=True)
    kept = [utterance_id for utterance_id in IDS if utterance_id != BAD_ID]
    make = utterance if kind == "utterances" else pseudo_label
    assert list(store.records()) == [make(utterance_id) for utterance_id in kept]
    assert [row["utterance_id"] for row in store.index] == kept
    assert [each.utterance_id for each in store.rejections] == ["never-planned", BAD_ID]
    assert (summary.records, summary.rejected, summary.rejected_before_planning) == (6, 1, 1)
    assert summary.records + summary.rejected == store.plan.num_utterances
    assert store.summary == summary
    assert store.kind == kind
    assert store.sha256 == summary.sha256


def test_index_rows(tmp_path: Path) -> None:
    fill(tmp_path, plan_of("pseudo_labels"))
    assert open_store(tmp_path).index[0] == {
        "utterance_id": IDS[0],
        "shard": "pseudo_labels-00000-of-00003.tfrecord",
        "num_samples": utterance(IDS[0]).num_samples,
        "duration_seconds": utterance(IDS[0]).num_samples / RATE_HZ,
        "text": f"text of {IDS[0]}",
        "hypothesis": "hällo",
        "score": -0.5,
    }


def test_tensorflow_reads_a_store(unbroken: Path) -> None:
    store = open_store(unbroken)
    payloads = tf.data.TFRecordDataset([str(path) for path in store.shard_paths])
    read = [UtteranceRecord.from_example_bytes(each) for each in payloads.as_numpy_iterator()]
    assert read == list(store.records())


def test_empty_and_wholly_rejected_stores(tmp_path: Path) -> None:
    assert fill(tmp_path / "empty", plan_of(ids=[])).records == 0
    assert fill(tmp_path / "rejected", plan_of(ids=[BAD_ID])).rejected == 1
    for name in ("empty", "rejected"):
        store = open_store(tmp_path / name)
        store.verify()
        assert list(store.records()) == []


def test_identity_is_of_the_content_not_of_the_plan(tmp_path: Path, unbroken: Path) -> None:
    fill(tmp_path / "other digest", plan_of(digest="f" * 64))
    assert open_store(tmp_path / "other digest").sha256 == open_store(unbroken).sha256
    fill(tmp_path / "other ids", plan_of(ids=IDS[1:]))
    assert open_store(tmp_path / "other ids").sha256 != open_store(unbroken).sha256


def test_rejections_of_any_bytes_are_written(tmp_path: Path) -> None:
    odd = Rejection("\udcff", "bad_line", "text \udc80", "manifest\udc81")
    with StoreWriter(tmp_path, plan_of(ids=[])) as writer:
        writer.complete([odd])
    assert open_store(tmp_path).rejections[0].detail == r"text \udc80"


def test_records_are_read_in_any_order(unbroken: Path) -> None:
    store = open_store(unbroken)
    access, expected = RandomAccess(store), list(store.records())
    assert len(access) == len(expected) == len(store.index)
    for place in [*reversed(range(len(expected))), 0, 2]:
        assert access[place] == expected[place]


def test_random_access_finds_damage(store_directory: Path) -> None:
    store = open_store(store_directory)
    access = RandomAccess(store)
    path = store.shard_paths[0]
    whole = path.read_bytes()
    path.write_bytes(whole[:-10] + bytes([whole[-10] ^ 1]) + whole[-9:])
    with pytest.raises(RecordError, match="damaged record 2 at byte .* content disagrees"):
        access[2]
    assert access[0].utterance_id == store.index[0]["utterance_id"]
    path.write_bytes(frame(utterance("stranger").to_example_bytes()))
    with pytest.raises(RecordError, match=f"stranger: found where utterance {IDS[0]}"):
        access[0]
    path.write_bytes(frame(b"no example"))
    with pytest.raises(RecordError, match=f"{path}: .* is not a tf.train.Example .run the command"):
        access[0]
    with pytest.raises(RecordError, match="holds 1 records, not 3"):
        RandomAccess(store)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RecordError, match="more than the file holds"):
        RandomAccess(store)


def test_another_kind_of_store_is_refused(unbroken: Path) -> None:
    with pytest.raises(RecordError, match="store of utterances, not of pseudo_labels"):
        open_store(unbroken, kind="pseudo_labels")


def test_missing_and_unfinished_stores_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="is not a store"):
        open_store(tmp_path / "nothing")
    with StoreWriter(tmp_path / "begun", plan_of()):
        pass
    with pytest.raises(RecordError, match="is not complete"):
        open_store(tmp_path / "begun")


@pytest.mark.parametrize(
    ("made", "rejected", "words"),
    [
        (IDS[:2], [], f"utterance {IDS[2]}: is missing at the end"),
        (IDS[:4], [], f"utterance {IDS[3]}: is found where the end of the shard"),
        ([IDS[1], IDS[0], IDS[2]], [], f"{IDS[1]}: is found where utterance {IDS[0]}"),
        (IDS[:3], [IDS[0]], f"{IDS[0]}: is found where utterance {IDS[1]}"),
        (IDS[:3], [IDS[5]], f"{IDS[5]}: is rejected in shard 0, but is not planned there"),
    ],
)
def test_shard_must_hold_what_is_planned(
    tmp_path: Path, made: list[str], rejected: list[str], words: str
) -> None:
    with StoreWriter(tmp_path, plan_of()) as writer:
        with pytest.raises(RecordError, match=words) as raised:
            writer.write_shard(0, map(utterance, made), map(rejection, rejected))
        assert raised.value.path == tmp_path / "shards" / writer.plan.shard_name(0)
        assert writer.pending_shards() == [0, 1, 2]
        assert list((tmp_path / "shards").iterdir()) == []
        with pytest.raises(RecordError, match="3 of 3 shards are still to be written"):
            writer.complete()


def test_writer_refuses_wrong_types_numbers_and_failing_sources(tmp_path: Path) -> None:
    def failing() -> Iterator[UtteranceRecord]:
        yield utterance(IDS[0])
        raise FileNotFoundError(errno.ENOENT, "gone", "clip.wav")

    with StoreWriter(tmp_path, plan_of()) as writer:
        with pytest.raises(RecordError, match="PseudoLabelRecord is not for a store of utteran"):
            writer.write_shard(0, [pseudo_label(IDS[0])])
        with pytest.raises(RecordError, match="cannot make the records of it: .*clip.wav"):
            writer.write_shard(0, failing())
        for number in (-1, 3):
            with pytest.raises(ValueError, match="is not one of 3"):
                writer.write_shard(number, [])


# Another plan, another writer


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"digest": "f" * 64}, "config digest is dddddddddddd there and ffffffffffff here"),
        ({"sources": {"manifest": "0" * 64}}, "source manifest is eeeeeeeeeeee there and 0000"),
        ({"sources": {"manifest": "e" * 64, "teacher": "1"}}, "source teacher is nothing there"),
        ({"kind": "pseudo_labels"}, "kind is utterances there and pseudo_label"),
        ({"shards": (tuple(IDS),)}, "division into shards"),
    ],
)
def test_another_plan_is_refused(unbroken: Path, changes: dict, words: str) -> None:
    before = contents(unbroken)
    with pytest.raises(RecordError, match=f"{words}.*--out"):
        StoreWriter(unbroken, dataclasses.replace(plan_of(), **changes))
    assert contents(unbroken) == before
    StoreWriter(unbroken, plan_of()).close()


def test_what_differs_between_settings_is_named_where_the_store_has_them(tmp_path: Path) -> None:
    plan = dataclasses.replace(plan_of(), settings=("beam_width=8", "top_m=0"))
    StoreWriter(tmp_path / "store", plan).close()
    wider = dataclasses.replace(plan, digest="f" * 64, settings=("beam_width=9", "top_m=0"))
    with pytest.raises(RecordError, match="its settings are beam_width=8 there and beam_width=9 h"):
        StoreWriter(tmp_path / "store", wider)
    # The digest alone decides whether a plan is another one.
    StoreWriter(tmp_path / "store", dataclasses.replace(plan, settings=("x=1",))).close()
    with pytest.raises(RecordError, match="config digest is dddd"):
        StoreWriter(tmp_path / "store", dataclasses.replace(plan, digest="f" * 64))


@pytest.mark.parametrize("damage", ["lost", "changed", "cut"])
def test_a_plan_that_is_lost_or_damaged_is_written_again(store_directory: Path, damage) -> None:
    plan = store_directory / "plan.json"
    before, content = contents(store_directory), plan.read_bytes()
    spoilt = {"changed": content.replace(b"u", b"v", 1), "cut": content[:20]}
    plan.unlink() if damage == "lost" else plan.write_bytes(spoilt[damage])
    other = dataclasses.replace(plan_of(), digest="f" * 64)
    with pytest.raises(RecordError, match="another --out"):
        StoreWriter(store_directory, other)
    with StoreWriter(store_directory, plan_of()) as writer:
        assert writer.pending_shards() == []
    assert contents(store_directory) == before


def test_a_finished_run_is_no_place_for_a_store(tmp_path: Path) -> None:
    (tmp_path / "complete.json").write_text("{}")
    with pytest.raises(RecordError, match="holds other files, such as complete.json"):
        StoreWriter(tmp_path, plan_of())
    assert (tmp_path / "complete.json").read_text() == "{}"


def test_store_of_another_format_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tfkd.records.plan.FORMAT", 0)
    fill(tmp_path, plan_of())
    monkeypatch.undo()
    with pytest.raises(RecordError, match="format 0; this version of tfkd reads 2"):
        open_store(tmp_path)


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RecordError, match="file"):
        StoreWriter(tmp_path / "file", plan_of())


LOCKING_CHILD = """
import sys
from tfkd.records import Plan, StoreWriter
with StoreWriter(sys.argv[1], Plan.create("utterances", ["a"], "", {}, 1)):
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_second_writer_is_refused_at_once(tmp_path: Path) -> None:
    plan = Plan.create("utterances", ["a"], "", {}, 1)
    child = subprocess.Popen(
        [sys.executable, "-c", LOCKING_CHILD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(records.__file__).parents[2],
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"locked\n"
        begin = time.monotonic()
        with pytest.raises(RecordError, match="another process is writing here"):
            StoreWriter(tmp_path, plan)
        assert time.monotonic() - begin < 1
    finally:
        child.kill()
        child.communicate()
    with StoreWriter(tmp_path, plan) as writer:
        assert writer.pending_shards() == [0]


def test_importing_records_does_not_import_tensorflow() -> None:
    code = "import sys, tfkd.records; sys.exit('tensorflow' in sys.modules)"
    root = Path(records.__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)


# Damage


def assert_damage_is_found_and_mended(directory: Path, unbroken: Path) -> None:
    """The reader refuses the store, and a rerun restores it."""
    with pytest.raises(RecordError):
        open_store(directory).verify(deep=True)
    fill(directory, plan_of())
    assert contents(directory) == contents(unbroken)


def test_a_shard_cut_at_every_byte_is_detected(store_directory: Path) -> None:
    store = open_store(store_directory)
    path = store.shard_paths[0]
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(RecordError, match=rf"has {length} bytes, not {len(whole)}"):
            open_store(store_directory)
        # Without the marker's sizes, too: framing and planned ids suffice.
        with pytest.raises(RecordError):
            list(store.records())


def test_random_bit_flips_are_all_detected(store_directory: Path) -> None:
    generator = random.Random(3)
    store = open_store(store_directory)
    wholes = {path: path.read_bytes() for path in store.shard_paths}
    for _ in range(400):
        path = generator.choice(store.shard_paths)
        data = bytearray(wholes[path])
        data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
        path.write_bytes(data)
        with pytest.raises(RecordError, match=path.name):
            store.verify(deep=True)
        with pytest.raises(RecordError, match=path.name):
            list(store.records())
        path.write_bytes(wholes[path])
    store.verify(deep=True)


@pytest.mark.parametrize(
    "pattern",
    [
        *("plan.json", "index.jsonl", "rejected.jsonl", "features.json", "dataset_info.json"),
        *("complete.json", "shards/*-00001-*.json"),
    ],
)
def test_changed_small_files_are_detected(store_directory: Path, pattern: str) -> None:
    generator = random.Random(4)
    (path,) = store_directory.glob(pattern)
    whole = path.read_bytes()
    for _ in range(60):
        data = bytearray(whole)
        data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
        path.write_bytes(data)
        if pattern in ("plan.json", "complete.json") and same_json(data, whole):
            continue  # White space: these two are sealed by content.
        with pytest.raises(RecordError, match=r"\.json"):
            open_store(store_directory)


@pytest.mark.parametrize(
    "pattern", ["plan.json", "complete.json", "index.jsonl", "shards/*-00001-*.json"]
)
def test_json_nested_deeply_is_refused(store_directory: Path, pattern: str) -> None:
    (path,) = store_directory.glob(pattern)
    path.write_bytes(b"[" * 100_000)
    with pytest.raises(RecordError):
        open_store(store_directory).verify()


def same_json(one: bytes, other: bytes) -> bool:
    try:
        return json.loads(one) == json.loads(other)
    except ValueError:
        return False


def swap_contents(first: Path, second: Path) -> None:
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)


def test_swapped_shards_are_detected(store_directory: Path, unbroken: Path) -> None:
    store = open_store(store_directory)
    first, second, _ = store.shard_paths
    swap_contents(first, second)
    # With their sidecars they agree, but neither is where the plan has it.
    swap_contents(first.with_name(first.name + ".json"), second.with_name(second.name + ".json"))
    assert_damage_is_found_and_mended(store_directory, unbroken)


def test_swapped_shards_of_one_size_are_detected(tmp_path: Path) -> None:
    plan = Plan.create("utterances", ["ad", "bc"], "", {}, 1)  # Equal sums give equal sizes.
    fill(tmp_path, plan)
    store = open_store(tmp_path)
    first, second = store.shard_paths
    assert first.stat().st_size == second.stat().st_size
    swap_contents(first, second)
    open_store(tmp_path)  # Shards are only weighed here.
    with pytest.raises(RecordError, match="found where utterance ad was planned"):
        store.verify(deep=True)
    with pytest.raises(RecordError, match="found where utterance ad was planned"):
        list(store.records())


def test_another_valid_shard_in_its_place_is_detected(store_directory: Path) -> None:
    """Same ids, same size, sound framing: only the sidecar knows better."""
    store = open_store(store_directory)
    path = store.shard_paths[2]
    changed = utterance(IDS[6], text="TEXT" + f"text of {IDS[6]}"[4:])
    write_framed(path, [changed.to_example_bytes()])
    open_store(store_directory)
    with pytest.raises(RecordError, match="is not what its sidecar describes"):
        store.verify(deep=True)
    with StoreWriter(store_directory, plan_of()) as writer:
        assert writer.pending_shards() == [2]


@pytest.mark.parametrize("suffix", ["", ".json"])
def test_lost_files_are_detected_and_made_again(
    store_directory: Path, unbroken: Path, suffix: str
) -> None:
    path = open_store(store_directory).shard_paths[1]
    path.with_name(path.name + suffix).unlink()
    assert_damage_is_found_and_mended(store_directory, unbroken)


def test_leftovers_of_killed_writers_are_removed(store_directory: Path, unbroken: Path) -> None:
    names = [".plan.json.x1.tmp", f"shards/.{plan_of().shard_name(0)}.x2.tmp"]
    for name in names:
        (store_directory / name).write_bytes(b"half")
    (store_directory / ".mine.tmp").write_bytes(b"not ours")
    fill(store_directory, plan_of())
    (store_directory / ".mine.tmp").unlink()
    assert contents(store_directory) == contents(unbroken)


def test_a_store_being_rewritten_is_not_complete(store_directory: Path) -> None:
    with StoreWriter(store_directory, plan_of()) as writer:
        writer.write_shard(2, [utterance(IDS[6])])
        with pytest.raises(RecordError, match="is not complete"):
            open_store(store_directory)
        writer.complete([rejection("never-planned")])
    open_store(store_directory).verify()


# Crashes


def assert_rerun_is_identical(directory: Path, unbroken: Path) -> None:
    summary = fill(directory, plan_of())
    assert contents(directory) == contents(unbroken)
    assert summary.records + summary.rejected == plan_of().num_utterances
    open_store(directory).verify(deep=True)


def fill_slowly(directory: Path, messages: Path, sender: Connection) -> None:
    """Announces its start; the pauses alone last 0.14 s, however fast the disk is."""
    write_messages_to(messages)
    sender.send(1)
    fill(directory, plan_of(), pause_seconds=0.02)


@pytest.mark.slow
def test_kill_9_at_random_moments(fork_server: None, tmp_path: Path, unbroken: Path) -> None:
    generator = random.Random(5)
    killed = 0
    for attempt in range(12):
        directory = tmp_path / str(attempt)
        writer = fork_worker(fill_slowly, directory, messages=tmp_path / "messages.txt")
        writer.kill_after(1, generator.uniform(0.0, 0.12))
        killed += was_killed(writer)
        assert_rerun_is_identical(directory, unbroken)
    assert killed >= 6


def was_killed(writer: Worker) -> bool:
    """Whether SIGKILL ended the process; any other end than success is a failure."""
    code = writer.wait()
    assert code in (0, -signal.SIGKILL), writer.messages.read_text()
    return code != 0


class Operations:
    """Counts writes, fsyncs and renames, and lets `at` happen at the n-th."""

    def __init__(self, number: int, at: Callable[[], object]) -> None:
        self.left = number
        self.at = at
        self.happened = False

    def before(self, call: Callable) -> Callable:
        def counted(*args: object, **kwargs: object) -> object:
            self.left -= 1
            if self.left == 0:
                self.happened = True
                self.at()
            return call(*args, **kwargs)

        return counted

    def install(self, patch: pytest.MonkeyPatch) -> None:
        opened = builtins.open

        def counting_file(path: object, mode: str = "r", *args: object, **kwargs: object) -> object:
            file = opened(path, mode, *args, **kwargs)
            if "x" in mode:
                file.write = self.before(file.write)
            return file

        patch.setattr(builtins, "open", counting_file)
        patch.setattr(os, "fsync", self.before(os.fsync))
        patch.setattr(Path, "replace", self.before(Path.replace))


def fill_until(number: int, directory: Path, messages: Path, _: Connection) -> None:
    """Is killed before the operation of that number, if there are so many."""
    write_messages_to(messages)
    kill = Operations(number, lambda: os.kill(os.getpid(), signal.SIGKILL))
    kill.install(pytest.MonkeyPatch())
    fill(directory, plan_of())


@pytest.mark.slow
def test_kill_9_before_every_operation(fork_server: None, tmp_path: Path, unbroken: Path) -> None:
    for number in range(1, 500):
        directory = tmp_path / str(number)
        writer = fork_worker(fill_until, number, directory, messages=tmp_path / "messages.txt")
        killed = was_killed(writer)
        assert_rerun_is_identical(directory, unbroken)
        if not killed:
            break
    assert 30 < number < 500


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_disk_fault_at_every_operation(tmp_path: Path, unbroken: Path, code: int) -> None:
    def fail() -> None:
        raise OSError(code, os.strerror(code))

    for number in range(1, 500):
        directory = tmp_path / str(number)
        fault = Operations(number, fail)
        with pytest.MonkeyPatch.context() as patch:
            fault.install(patch)
            check_that_a_fault_is_reported(directory, code, fault)
        assert_rerun_is_identical(directory, unbroken)
        if not fault.happened:
            break
    assert 30 < number < 500


def check_that_a_fault_is_reported(directory: Path, code: int, fault: Operations) -> None:
    error = None
    try:
        fill(directory, plan_of())
    except RecordError as raised:
        error = raised
    assert fault.happened == (error is not None)
    if error is not None:
        assert os.strerror(code) in str(error)
        assert Path(str(error.path)).is_relative_to(directory)
        assert not list(directory.rglob("*.tmp"))


def test_opening_a_store_loads_no_audio_reader_and_no_tensorflow(prepared):
    """A machine that only lists or verifies stores needs neither."""
    program = """
import sys
from tfkd.records import open_store
store = open_store(sys.argv[1])
assert store.index and store.rejections is not None and store.pieces == []
loaded = {name for name in sys.modules}
print(sorted(loaded & {"tfkd.audio.reading", "soundfile", "tensorflow", "numpy"}))
"""
    directory = prepared["train"].directory
    done = subprocess.run(
        [sys.executable, "-c", program, directory], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
