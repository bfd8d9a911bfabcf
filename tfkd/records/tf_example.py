"""Converts lists of values to the bytes of a tf.train.Example, and back.

TensorFlow is imported only when a record is converted, because `tfkd --help` imports this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfkd.errors import RecordError

Values = dict[str, list[Any]]


def serialise(values: Values, features: Mapping[str, str]) -> bytes:
    """Serialises `values`; equal values give equal bytes.

    Args:
      values: the list of each feature, by name.
      features: the type of each list: bytes, int64 or float.
    """
    import tensorflow as tf

    example = tf.train.Example()
    for name in values:
        value_list = getattr(example.features.feature[name], f"{features[name]}_list")
        value_list.SetInParent()  # An empty list is a feature too.
        value_list.value.extend(values[name])
    # Without this option, protobuf may write the entries of a map in any order.
    serialised: bytes = example.SerializeToString(deterministic=True)
    return serialised


def deserialise(data: bytes, features: Mapping[str, str], optional: Mapping[str, str]) -> Values:
    """Reads what `serialise` wrote.

    Args:
      features: required features, with the types of their lists.
      optional: features that may be missing.
    Raises:
      RecordError: if a feature is missing, unknown, or of another type.
    """
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    try:
        example = tf.train.Example.FromString(data)
    except DecodeError as error:
        raise RecordError("a record is not a tf.train.Example") from error
    found = example.features.feature
    features = {**features, **{name: optional[name] for name in optional if name in found}}
    missing, unknown = sorted(set(features) - set(found)), sorted(set(found) - set(features))
    if missing or unknown:
        raise RecordError(
            f"a record of another kind: missing features {missing}, unknown features {unknown}"
        )
    for name, list_type in features.items():
        if found[name].WhichOneof("kind") != f"{list_type}_list":
            raise RecordError(f"feature {name} is not of type {list_type}")
    return {
        name: list(getattr(found[name], f"{list_type}_list").value)
        for name, list_type in features.items()
    }
