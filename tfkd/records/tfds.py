"""Describes a finished store for TensorFlow Datasets, whose `builder_from_directory` then reads it.

The two files are the JSON form of the protocol buffers that TensorFlow Datasets 4 writes beside its
shards; writing them does not need that package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tfkd.records.plan import FORMAT, Plan
from tfkd.records.schema import (
    LATER_FEATURES,
    PSEUDO_LABEL_FEATURES,
    PSEUDO_LABELS,
    UTTERANCE_FEATURES,
    UTTERANCES,
)
from tfkd.records.tfrecord import FRAME_BYTES
from tfkd.records.utterance import AUDIO, SINGLE_VALUES
from tfkd.storage.markers import SHARDS

FEATURES = "features.json"
DATASET_INFO = "dataset_info.json"

# A store is a single split; this is the usual name of one.
_SPLIT = "train"
# A feature that a record lacks is read as an empty list.
_FEATURES_OF: Mapping[str, Mapping[str, str]] = {
    UTTERANCES: UTTERANCE_FEATURES,
    PSEUDO_LABELS: {**PSEUDO_LABEL_FEATURES, **LATER_FEATURES},
}
_DTYPES = {"bytes": "string", "int64": "int64", "float": "float32"}
_CLASSES = "tensorflow_datasets.core.features."
_Json = dict[str, Any]


def features_json(kind: str) -> _Json:
    """Makes the content of features.json: names, types and shapes of the features of a kind."""
    tree: _Json = {}
    for name, list_type in _FEATURES_OF[kind].items():
        *groups, leaf = name.split("/")
        branch = tree
        for group in groups:
            branch = branch.setdefault(group, {})
        branch[leaf] = _leaf(name, list_type)
    return _group(tree)


def dataset_info_json(plan: Plan, shards: Sequence[_Json]) -> _Json:
    """Makes the content of dataset_info.json: the shards and their lengths.

    Args:
      plan: of the store.
      shards: the row of each shard in the completion marker, with records and size_bytes.
    """
    lengths = [shard["records"] for shard in shards]
    size_bytes = sum(shard["size_bytes"] for shard in shards)
    split = {
        "name": _SPLIT,
        "filepathTemplate": SHARDS + "/{DATASET}-{SHARD_X_OF_Y}.{FILEFORMAT}",
        "shardLengths": list(map(str, lengths)),
        "numBytes": str(size_bytes - FRAME_BYTES * sum(lengths)),
    }
    # The name is the DATASET of the template: see Plan.shard_name.
    return {
        "name": plan.kind,
        "version": f"{FORMAT}.0.0",
        "fileFormat": "tfrecord",
        "splits": [split],
    }


def _group(tree: Mapping[str, _Json]) -> _Json:
    """A FeaturesDict of features, and of further groups: these have no class yet."""
    features = {
        name: value if "pythonClassName" in value else _group(value) for name, value in tree.items()
    }
    return _feature("features_dict.FeaturesDict", "featuresDict", {"features": features})


def _leaf(name: str, list_type: str) -> _Json:
    if name == AUDIO:
        # TensorFlow Datasets decodes it when it is read, which needs tensorflow-io.
        audio = {
            "shape": {"dimensions": ["-1"]},
            "dtype": "int16",
            "fileFormat": "flac",
            "encoding": "none",
            "lazyDecode": True,
        }
        return _feature("audio_feature.Audio", "audio", audio)
    tensor = {"shape": {}, "dtype": _DTYPES[list_type], "encoding": "none"}
    single = _feature("tensor_feature.Tensor", "tensor", tensor)
    if name in SINGLE_VALUES:
        return single
    sequence = {"feature": single, "length": "-1"}
    return _feature("sequence_feature.Sequence", "sequence", sequence)


def _feature(class_name: str, field: str, content: _Json) -> _Json:
    return {"pythonClassName": _CLASSES + class_name, field: content}
