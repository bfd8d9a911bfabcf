"""Runs TFLite's converter: in a child process of `tfkd.exporting.tflite`, which may crash."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf

from tfkd.device.child_processes import limit_memory

MAX_CONVERTER_BYTES = 16 * 2**30


def convert(source: str, target: str, quantisation: str) -> None:
    """Converts a SavedModel to a .tflite file of built-in operators.

    Args:
      source: folder of the SavedModel.
      target: file to write.
      quantisation: float32, float16 or int8.
    """
    limit_memory(MAX_CONVERTER_BYTES)
    converter = tf.lite.TFLiteConverter.from_saved_model(source)
    # Built-in operators only: conversion fails if anything needs Flex or a custom operator.
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if quantisation != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantisation == "float16":
        converter.target_spec.supported_types = [tf.float16]
    Path(target).write_bytes(converter.convert())
