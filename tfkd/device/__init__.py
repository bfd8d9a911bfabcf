"""Runs an exported recogniser on a device, with numpy and a TFLite runtime, without TensorFlow."""

from tfkd.audio.segments import Segment
from tfkd.device.hypothesis import DeviceHypothesis
from tfkd.device.metadata import DeviceMetadata, read_metadata
from tfkd.device.recogniser import DeviceRecogniser, Transcription

__all__ = [
    "DeviceHypothesis",
    "DeviceMetadata",
    "DeviceRecogniser",
    "Segment",
    "Transcription",
    "read_metadata",
]
