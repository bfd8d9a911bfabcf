"""Augments the audio that a student learns from: speed, pauses, joining, rooms, gain and noise.

Every random number depends on the seed, the epoch and the utterance alone. So a killed epoch
continues with the same audio, and workers on several machines agree without communication.
"""

from tfkd.data.augmentation.augmenter import Augmenter
from tfkd.data.augmentation.scenes import Scene, Scenes, num_without_speech
from tfkd.data.augmentation.speed import SpeedChange, draw_speed

__all__ = [
    "Augmenter",
    "Scene",
    "Scenes",
    "SpeedChange",
    "draw_speed",
    "num_without_speech",
]
