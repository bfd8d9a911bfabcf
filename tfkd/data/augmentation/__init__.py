"""What a student hears in place of the clean audio that its teacher labelled.

Every draw depends on the seed, the epoch and the utterance alone. A killed epoch therefore goes on
with the same audio, and replicas on several machines agree without talking to each other.
"""

from tfkd.data.augmentation.augmenter import Augmenter
from tfkd.data.augmentation.scenes import Scene, Scenes
from tfkd.data.augmentation.speed import SpeedChange, draw_speed

__all__ = ["Augmenter", "Scene", "Scenes", "SpeedChange", "draw_speed"]
