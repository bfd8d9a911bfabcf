"""Stores of which one file is mutated, and stores of mutated labels, read for a filter report."""

from __future__ import annotations

import functools
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
from mutation import mutate
from test_records import hypothesis, rejection

from tfkd.audio.flac import encode_flac
from tfkd.config import FilterConfig
from tfkd.corpora.pieces import Piece
from tfkd.distillation.filter_page import filter_page
from tfkd.distillation.filter_report import report_filters
from tfkd.records import (
    PSEUDO_LABELS,
    Plan,
    PseudoLabelRecord,
    StoreWriter,
    UtteranceRecord,
    open_store,
)

RATE_HZ = 8000
_FILTERS = FilterConfig(
    max_repeats=2,
    max_compression_ratio=2.0,
    min_characters_per_second=1.0,
    max_characters_per_second=30.0,
    min_mean_log_prob=-2.0,
    min_coverage=0.5,
    max_backward_share=0.3,
    max_disagreement=0.5,
    max_wer=0.5,
)
_WORDS = [
    b'"',
    b"{",
    b"}",
    b"[" * 3000,
    b"null",
    b"9" * 5000,
    b"NaN",
    b"1e999",
    b"../",
    b"\n",
    b"-1",
]
_WORDS += [b"\x0a", b"\x12", b"\xff" * 9 + b"\x01", b"\x00\x00\xc0\x7f", b"\xff\xff\x7f\x7f"]
_WORDS += [b"\xed\xa0\x80", b"\xe2\x80\xa8", b"<script>", b"shards", b"train", b"int16"]
_LARGEST = float(np.finfo(np.float32).max)
_TINY = float(np.finfo(np.float32).smallest_subnormal)
_NUMBERS = (None, 0.0, -0.0, 1.0, -1.0, _TINY, -_TINY, _LARGEST, -_LARGEST)
_LISTS = ((), (0.0,) * 3, (_LARGEST,) * 3, (-_LARGEST,) * 3, (_LARGEST, -_LARGEST, _TINY))
_ODD_VALUES = {
    "text": ("", " ", "x", "one " * 300, "<script>", "\u2028", "\u00df\u0130"),
    "token_ids": ((), (0, 0, 0), (2**63 - 1,) * 3, (7, 5, 3)),
    "token_log_probs": _LISTS,
    "token_seconds": _LISTS,
    "log_prob": _NUMBERS,
    "score": _NUMBERS,
    "coverage": _NUMBERS,
    "finish_reason": (None, "eos", "max_steps"),
}


def _label(utterance_id: str) -> PseudoLabelRecord:
    waveform = np.linspace(-0.5, 0.5, RATE_HZ // 10, dtype=np.float32)
    audio = encode_flac(waveform, RATE_HZ)
    best = hypothesis(text="one two two two two", token_seconds=(0.01, 0.09, 0.05))
    second = hypothesis(text="one two", finish_reason="max_steps", coverage=0.2, log_prob=-3.0)
    utterance = UtteranceRecord(utterance_id, audio, waveform.size, RATE_HZ, "one two", None)
    return PseudoLabelRecord(utterance, (best, second))


def _write(directory: Path, labels: list[PseudoLabelRecord]) -> None:
    ids = [label.utterance_id for label in labels]
    plan = Plan.create(PSEUDO_LABELS, ids, "d" * 64, {"teacher": "e" * 64}, 1)
    by_id = {label.utterance_id: label for label in labels}
    pieces = [Piece(ids[0], "a", "a.wav", 0.0, 0.1)]
    with StoreWriter(directory, plan) as writer:
        for number, (utterance_id,) in enumerate(plan.shards):
            writer.write_shard(number, [by_id[utterance_id]])
        writer.complete([rejection("never-planned")], pieces)


@functools.cache
def _whole(scratch: Path) -> Path:
    _write(scratch / "whole", [_label("a-0001"), _label("b")])
    return scratch / "whole"


@functools.cache
def _payloads() -> list[bytes]:
    return [_label(name).to_example_bytes() for name in ("a-0001", "b")]


def _read(directory: Path) -> None:
    """What `tfkd filter-report` does with a store, every filter in use; and what else is there."""
    store = open_store(directory, kind=PSEUDO_LABELS)
    store.verify()
    names = (row["utterance_id"] for row in store.index)
    assert all(store.record(name).utterance_id == name for name in names)
    assert len(store.rejections) == len(store.pieces) == 1
    report = report_filters(store, _FILTERS, examples_per_reason=1)
    filter_page(report, None).encode()


def _with_odd_values(generator: np.random.Generator) -> PseudoLabelRecord:
    """A label of which one to three values are at the ends of what they may be."""
    label = _label("a-0001")
    hypotheses = list(label.hypotheses)
    for _ in range(generator.integers(1, 4)):
        name = list(_ODD_VALUES)[generator.integers(len(_ODD_VALUES))]
        value = _ODD_VALUES[name][generator.integers(len(_ODD_VALUES[name]))]
        ranks = [generator.integers(2)] if generator.integers(2) else [0, 1]
        for rank in ranks:
            hypotheses[rank] = replace(hypotheses[rank], **{name: value})
    names = ("a-0001", "\n", "<b>&amp;", "\u2028", "../x", "a" * 5000)
    utterance = replace(
        label.utterance,
        utterance_id=names[generator.integers(len(names))],
        text=(None, "", "one two", "x " * 300)[generator.integers(4)],
    )
    return PseudoLabelRecord(utterance, tuple(hypotheses))


def case(generator: np.random.Generator, scratch: Path) -> None:
    if generator.integers(4):
        _damaged_file(generator, _whole(scratch))
    else:
        _odd_label(generator, scratch / "odd")


def _damaged_file(generator: np.random.Generator, directory: Path) -> None:
    files = sorted(path for path in directory.rglob("*") if path.is_file() and path.stat().st_size)
    path = files[generator.integers(len(files))]
    content = path.read_bytes()
    path.write_bytes(mutate([content], _WORDS, generator))
    try:
        _read(directory)
    finally:
        path.write_bytes(content)


def _odd_label(generator: np.random.Generator, directory: Path) -> None:
    """A store as whole as any, whose label is within what a record may hold."""
    if generator.integers(2):
        label = PseudoLabelRecord.from_example_bytes(mutate(_payloads(), _WORDS, generator))
    else:
        label = _with_odd_values(generator)
    try:
        _write(directory, [label])
        _read(directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
