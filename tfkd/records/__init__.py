"""Stores of TFRecord shards: one schema a kind, written crash-safe, verified before use.

Read in this order: framing (bytes of a file), examples (bytes of a record), schema (one record),
plan (which utterance goes where), shards (one file and its sidecar), store (reading), access
(reading in any order), layout (how TensorFlow Datasets reads it), writer (writing).
"""

from tfkd.records.plan import Plan
from tfkd.records.random_access import RandomAccess
from tfkd.records.schema import (
    AUDIO,
    FINISH_REASONS,
    HYPOTHESES_COVERAGE,
    HYPOTHESES_FINISH_REASON,
    HYPOTHESES_LOG_PROB,
    HYPOTHESES_NUM_TOKENS,
    HYPOTHESES_SCORE,
    HYPOTHESES_TEXT,
    HYPOTHESES_TOKEN_IDS,
    HYPOTHESES_TOKEN_LOG_PROBS,
    HYPOTHESES_TOKEN_SECONDS,
    KINDS,
    NUM_SAMPLES,
    OPTIONAL_VALUES,
    PSEUDO_LABEL_FEATURES,
    PSEUDO_LABELS,
    SAMPLE_RATE_HZ,
    SPEAKER,
    TEXT,
    UTTERANCE_FEATURES,
    UTTERANCE_ID,
    UTTERANCES,
    Hypothesis,
    PseudoLabelRecord,
    Record,
    UtteranceRecord,
    hypotheses_faults,
)
from tfkd.records.store import Store, StoreSummary, is_store, open_store, open_verified
from tfkd.records.tfrecord import frame, masked_crc32c, read_records
from tfkd.records.writer import StoreWriter, is_written, write_shard
from tfkd.storage.sealed_json import read_sealed, write_sealed

__all__ = [
    "AUDIO",
    "FINISH_REASONS",
    "HYPOTHESES_COVERAGE",
    "HYPOTHESES_FINISH_REASON",
    "HYPOTHESES_LOG_PROB",
    "HYPOTHESES_NUM_TOKENS",
    "HYPOTHESES_SCORE",
    "HYPOTHESES_TEXT",
    "HYPOTHESES_TOKEN_IDS",
    "HYPOTHESES_TOKEN_LOG_PROBS",
    "HYPOTHESES_TOKEN_SECONDS",
    "KINDS",
    "NUM_SAMPLES",
    "OPTIONAL_VALUES",
    "PSEUDO_LABELS",
    "PSEUDO_LABEL_FEATURES",
    "SAMPLE_RATE_HZ",
    "SPEAKER",
    "TEXT",
    "UTTERANCES",
    "UTTERANCE_FEATURES",
    "UTTERANCE_ID",
    "Hypothesis",
    "Plan",
    "PseudoLabelRecord",
    "RandomAccess",
    "Record",
    "Store",
    "StoreSummary",
    "StoreWriter",
    "UtteranceRecord",
    "frame",
    "hypotheses_faults",
    "is_store",
    "is_written",
    "masked_crc32c",
    "open_store",
    "open_verified",
    "read_records",
    "read_sealed",
    "write_sealed",
    "write_shard",
]
