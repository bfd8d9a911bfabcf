"""Runs an exported recogniser with numpy and a small interpreter: no TensorFlow."""

from tfkd.device.metadata import DeviceMetadata, read_metadata
from tfkd.device.recogniser import DeviceHypothesis, DeviceRecogniser, Transcription

__all__ = [
    "DeviceHypothesis",
    "DeviceMetadata",
    "DeviceRecogniser",
    "Transcription",
    "read_metadata",
]
