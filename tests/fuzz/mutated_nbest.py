"""Mutated n-best lists of another recogniser, made to records."""

from __future__ import annotations

import copy
import functools
import json
import math
from pathlib import Path

import numpy as np
from mutation import mutate
from test_records import utterance

from tfkd.distillation.nbest import NBestList
from tfkd.records import PseudoLabelRecord

_FULL = {
    "text": "Seven, fo\u00fcr",
    "token_ids": [7, 5, 3],
    "log_prob": -1.5,
    "score": -0.5,
    "token_log_probs": [-0.5, -0.75, -0.25],
    "token_seconds": [0.25, 0.5, 0.75],
    "finish_reason": "eos",
    "coverage": 0.875,
}
_ROWS = [
    {"utterance_id": "a", "hypotheses": [_FULL, {**_FULL, "finish_reason": "max_steps"}]},
    {"utterance_id": "b", "hypotheses": ["nine", {"text": "no", "log_prob": None}], "text": "x"},
    {"utterance_id": "c", "hypotheses": []},
]
# Values that JSON can hold and a record cannot, or only in some places.
_ODD_VALUES = [
    None, True, 0, -1, 3, 1.5, 1e39, 2**63, 10**400, math.nan, -math.inf, "", "x", "eos", "\ud800",
    "\u2028", " \u00df", [], [[]], [None], [0.25], [7, 5, 3], [-1], [2**64], ["x"], {},
    {"text": "x"},
]  # fmt: skip
_WORDS = [
    b"\n", b"\r", b"{", b"}", b"[" * 3000, b"9" * 5000, b"1e999", b"-1e39", b"NaN", b"-Infinity",
    b"null", b"true", b"1.5", b'"', b"\\ud800", b"\xff\xfe", b"\xef\xbb\xbf", b"\xe2\x80\xa8",
    b'"id": 7', b'"log_prob": 12.5', b'"prob": 0.5', b'"avg_logprob": -1', b"\x1f\x8b",
    b'"hypotheses": ["x"]', b'"utterance_id": "a"', b"18446744073709551616", b"[]", b"{}", b",",
    "\u00df\u0130\ufb01".encode(),
]  # fmt: skip


@functools.cache
def _lists() -> list[bytes]:
    rows = [json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in _ROWS]
    return [b"".join(rows), *rows]


def _odd_line(generator: np.random.Generator) -> bytes:
    """One or two values of a sound line are others."""
    row = copy.deepcopy(_ROWS[0])
    for _ in range(generator.integers(1, 3)):
        hypothesis = row["hypotheses"][generator.integers(2)]
        target = hypothesis if generator.integers(8) else row
        name = list(target)[generator.integers(len(target))]
        target[name] = _ODD_VALUES[generator.integers(len(_ODD_VALUES))]
        if target is row:
            break
    return json.dumps(row).encode() + b"\n"


def case(generator: np.random.Generator, scratch: Path) -> None:
    """What `tfkd jsonl-to-labels` does with a list."""
    path = scratch / "nbest.jsonl"
    odd = generator.integers(2)
    path.write_bytes(_odd_line(generator) if odd else mutate(_lists(), _WORDS, generator))
    nbest = NBestList.scan(path)
    ids = list(nbest.offsets)
    for _, hypotheses in zip(ids, nbest.hypotheses(ids), strict=True):
        if hypotheses:
            PseudoLabelRecord(utterance("a"), hypotheses).to_example_bytes()
