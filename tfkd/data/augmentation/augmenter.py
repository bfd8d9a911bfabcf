"""Makes the waveform of each example of an epoch."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from tfkd.config import AugmentationConfig, Sound
from tfkd.data.augmentation.draws import hashes
from tfkd.data.augmentation.reverberation import impulse_response, reverberate
from tfkd.data.augmentation.scenes import Scene, Scenes, plan_scenes
from tfkd.data.augmentation.sounds import Speech, at_level, power, sound

# Levels of examples without speech: from a quiet room to a loud device nearby.
_NON_SPEECH_DBFS = (-70.0, -12.0)
# This share of the pauses is digital zero, as with a muted microphone or synthesised speech.
_DIGITAL_ZERO_SHARE = 0.25
_COLOURS: tuple[Sound, ...] = ("white", "pink", "brown")


class Augmenter:
    """Plans the examples of each epoch and makes their waveforms.

    The order of the steps is that of the sound: utterances and pauses, reverberation, gain, faint
    recording noise in the pauses, and additive noise.

    Args:
      config: which changes to make, and how often.
      rate_hz: sample rate of the waveforms.
      utterance_ids: the N utterances of the corpus.
      seed: of the training.
    """

    def __init__(
        self,
        config: AugmentationConfig,
        rate_hz: int,
        utterance_ids: Sequence[str],
        seed: int,
    ) -> None:
        self.config, self.rate_hz, self.seed = config, rate_hz, seed
        self._names = hashes(utterance_ids)

    def of_epoch(self, epoch: int) -> Augmenter:
        """Returns what augments an epoch: in the first `clean_epochs`, it leaves speech unchanged.

        These have the same examples without speech as all others.
        """
        if epoch >= self.config.clean_epochs:
            return self
        clean = copy.copy(self)
        clean.config = dataclasses.replace(
            AugmentationConfig.off(), non_speech=self.config.non_speech
        )
        return clean

    def plan(self, epoch: int, num_samples: np.ndarray) -> Scenes:
        """Plans the examples [E] of an epoch; see `plan_scenes`.

        Args:
          epoch: number of the epoch.
          num_samples: [N], lengths of the utterances at their speeds of this epoch.
        """
        return plan_scenes(self.config, self.rate_hz, self._names, num_samples, self.seed, epoch)

    def waveform(self, scene: Scene, utterance: Callable[[int], np.ndarray]) -> np.ndarray:
        """Makes the waveform [num_samples] float32 of an example.

        Args:
          scene: the plan of the example.
          utterance: maps a place to the utterance's waveform, of the length that was planned.
        """
        generator = np.random.Generator(np.random.PCG64(scene.key))

        def speech(generator: np.random.Generator) -> np.ndarray:
            return utterance(int(generator.integers(len(self._names))))

        if not scene.places:
            return self._without_speech(scene.num_samples, generator, speech)
        waveform = np.zeros(scene.num_samples, np.float32)
        is_speech = np.zeros(scene.num_samples, bool)
        for place, start in zip(scene.places, scene.starts, strict=True):
            spoken = utterance(place)
            waveform[start : start + spoken.size] = spoken
            is_speech[start : start + spoken.size] = True
        speech_power = power(waveform[is_speech])
        waveform = self._in_a_room(waveform, generator)
        gain_db = generator.uniform(*self.config.gain_db)
        waveform = at_level(waveform, gain_db) if gain_db else waveform
        self._fill_pauses(waveform, ~is_speech, generator)
        noise_db = 10 * np.log10(speech_power) + gain_db if speech_power > 0 else -np.inf
        waveform = self._with_noise(waveform, noise_db, generator, speech)
        return np.clip(waveform, -1.0, 1.0, out=waveform)

    def _without_speech(
        self, num_samples: int, generator: np.random.Generator, speech: Speech
    ) -> np.ndarray:
        kind = generator.choice(self.config.non_speech.kinds)
        level_db = generator.uniform(*_NON_SPEECH_DBFS)
        if kind == "silence":
            waveform = np.zeros(num_samples, np.float32)
            self._fill_pauses(waveform, np.ones(num_samples, bool), generator)
        else:
            heard = sound(kind, num_samples, self.rate_hz, generator, speech)
            waveform = at_level(self._in_a_room(heard, generator), level_db)
        return np.clip(waveform, -1.0, 1.0, out=waveform)

    def _in_a_room(self, waveform: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        room = self.config.reverberation
        if not generator.random() < room.share:
            return waveform
        t60_seconds = generator.uniform(*room.t60_seconds)
        direct_db = generator.uniform(*room.direct_to_reverberant_db)
        response = impulse_response(t60_seconds, direct_db, self.rate_hz, generator)
        return reverberate(waveform, response)

    def _fill_pauses(
        self, waveform: np.ndarray, is_pause: np.ndarray, generator: np.random.Generator
    ) -> None:
        """Adds faint recording noise to the pauses, or leaves them digital zero."""
        level_db = generator.uniform(*self.config.silence.level_dbfs)
        colour = generator.choice(_COLOURS)
        if generator.random() < _DIGITAL_ZERO_SHARE or not is_pause.any():
            return
        noise = sound(colour, waveform.size, self.rate_hz, generator, _nobody)
        waveform[is_pause] += at_level(noise[is_pause], level_db)

    def _with_noise(
        self,
        waveform: np.ndarray,
        speech_db: float,
        generator: np.random.Generator,
        speech: Speech,
    ) -> np.ndarray:
        noise = self.config.noise
        if not generator.random() < noise.share:
            return waveform
        kind = generator.choice(noise.kinds)
        level_db = speech_db - generator.uniform(*noise.snr_db)
        heard = sound(kind, waveform.size, self.rate_hz, generator, speech)
        return waveform + at_level(heard, level_db)


def _nobody(generator: np.random.Generator) -> np.ndarray:
    return np.zeros(0, np.float32)
