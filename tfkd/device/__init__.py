"""Runs an exported recogniser with numpy and a small interpreter: no TensorFlow."""

from tfkd.device.recogniser import DeviceRecogniser

__all__ = ["DeviceRecogniser"]
