"""Runs an exported recogniser on a device, with numpy and a TFLite runtime, without TensorFlow."""

from tfkd.device.metadata import DeviceMetadata, read_metadata
from tfkd.device.recogniser import DeviceHypothesis, DeviceRecogniser, Transcription

__all__ = [
    "DeviceHypothesis",
    "DeviceMetadata",
    "DeviceRecogniser",
    "Transcription",
    "read_metadata",
]
