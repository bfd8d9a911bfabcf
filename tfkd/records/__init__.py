"""Stores of TFRecord shards: safe against crashes, and verified before use.

Read in this order: tfrecord (bytes of a file), tf_example (bytes of a record), fields, utterance
and hypothesis (the fields of records), schema (the kinds of records), plan (the shard of each
utterance), shards (one file and its sidecar), store (reading), random_access (reading in any
order), tfds (the description for TensorFlow Datasets), writer (writing).
"""

from tfkd.records.hypothesis import (
    FINISH_REASONS,
    OPTIONAL_VALUES,
    Hypothesis,
    hypotheses_faults,
)
from tfkd.records.plan import Plan
from tfkd.records.random_access import RandomAccess
from tfkd.records.schema import (
    KINDS,
    LATER_FEATURES,
    PSEUDO_LABEL_FEATURES,
    PSEUDO_LABELS,
    UTTERANCE_FEATURES,
    UTTERANCES,
    PseudoLabelRecord,
    Record,
)
from tfkd.records.store import Store, StoreSummary, is_store, open_store, open_verified
from tfkd.records.tfrecord import frame, masked_crc32c, read_records
from tfkd.records.utterance import (
    AUDIO,
    NUM_SAMPLES,
    SAMPLE_RATE_HZ,
    SPEAKER,
    TEXT,
    UTTERANCE_ID,
    UtteranceRecord,
)
from tfkd.records.writer import StoreWriter, is_finished, is_written, write_shard
from tfkd.storage.sealed_json import read_sealed, write_sealed

__all__ = [
    "AUDIO",
    "FINISH_REASONS",
    "KINDS",
    "NUM_SAMPLES",
    "OPTIONAL_VALUES",
    "LATER_FEATURES",
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
    "is_finished",
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
