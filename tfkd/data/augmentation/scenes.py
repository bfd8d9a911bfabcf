"""Plans the examples of an epoch: which utterances each plays, and when, without loading audio."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tfkd.config import AugmentationConfig
from tfkd.data.augmentation.draws import Draws, hashes

_NOBODY = -1


class Scene(NamedTuple):
    """One example of an epoch.

    Attributes:
      places: the utterances that it plays one after the other; empty for an example without speech.
      starts: the sample at which each of them begins.
      num_samples: length of the example.
      key: 64-bit seed of its other random numbers.
    """

    places: tuple[int, ...]
    starts: tuple[int, ...]
    num_samples: int
    key: int


@dataclass(frozen=True)
class Scenes:
    """The examples of an epoch by their number, as arrays.

    Attributes:
      places: [E, J], the utterances of each; -1 for no further utterance.
      starts: [E, J], the first sample of each of them.
      num_samples: [E], the lengths of the examples.
      keys: [E] uint64.
    """

    places: np.ndarray
    starts: np.ndarray
    num_samples: np.ndarray
    keys: np.ndarray

    def __len__(self) -> int:
        return len(self.num_samples)

    def __getitem__(self, number: int) -> Scene:
        speakers = int(np.count_nonzero(self.places[number] != _NOBODY))
        return Scene(
            tuple(self.places[number, :speakers].tolist()),
            tuple(self.starts[number, :speakers].tolist()),
            int(self.num_samples[number]),
            int(self.keys[number]),
        )


def num_without_speech(config: AugmentationConfig, num_utterances: int) -> int:
    """Computes the number of examples without speech that an epoch has."""
    return round(config.non_speech.share * num_utterances)


def plan_scenes(
    config: AugmentationConfig,
    rate_hz: int,
    names: np.ndarray,
    num_samples: np.ndarray,
    seed: int,
    epoch: int,
) -> Scenes:
    """Plans the examples of an epoch: one for each utterance, then those without speech.

    The example of an utterance begins with that utterance. If it is joined, other utterances of the
    corpus follow after pauses, until a random length is reached; they also have examples of their
    own. Silence may come before and after.

    Args:
      config: which changes to make, and how often.
      rate_hz: sample rate.
      names: [N], the hashes of the utterances.
      num_samples: [N], their lengths at their speeds of this epoch.
      seed: of the training.
      epoch: number of the epoch.
    Returns:
      N + `num_without_speech(config, N)` scenes; their places are numbers of the N utterances.
    """
    draws = Draws(names, seed, epoch)
    longest = round(config.max_seconds * rate_hz)
    places, starts, ends = _joined(config, rate_hz, draws, num_samples, longest)
    room = np.maximum(longest - ends, 0)
    lead = np.minimum(_pause(config, rate_hz, draws, "before"), room)
    trail = np.minimum(_pause(config, rate_hz, draws, "after"), room - lead)
    spoken = Scenes(places, starts + lead[:, None], lead + ends + trail, draws.keys)
    return _together(spoken, _without_speech(config, rate_hz, len(names), seed, epoch))


def _joined(
    config: AugmentationConfig, rate_hz: int, draws: Draws, num_samples: np.ndarray, longest: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws places [N, J], starts [N, J] without leading silence, and ends [N]."""
    joining, count = config.joining, len(num_samples)
    places, starts, ends = [np.arange(count)], [np.zeros(count, np.int64)], num_samples.copy()
    wanted = longest * draws.uniform("joined length") ** 2
    goes_on = draws.happens("joining", joining.share)
    while goes_on.any():
        number = len(places)
        place = (draws.uniform(f"utterance {number}") * count).astype(np.int64)
        pause = _samples(draws.between(f"pause {number}", joining.pause_seconds), rate_hz)
        start = ends + pause
        goes_on = goes_on & (start + num_samples[place] <= longest)
        places.append(np.where(goes_on, place, _NOBODY))
        starts.append(start)
        ends = np.where(goes_on, start + num_samples[place], ends)
        goes_on = goes_on & (ends < wanted)
    return np.stack(places, 1), np.stack(starts, 1), ends


def _pause(config: AugmentationConfig, rate_hz: int, draws: Draws, side: str) -> np.ndarray:
    """Draws the samples [N] of silence on one side; short silences are much more frequent."""
    seconds = config.silence.max_seconds * draws.uniform(f"seconds {side}") ** 3
    return _samples(np.where(draws.happens(side, config.silence.share), seconds, 0.0), rate_hz)


def _without_speech(
    config: AugmentationConfig, rate_hz: int, num_utterances: int, seed: int, epoch: int
) -> Scenes:
    count = num_without_speech(config, num_utterances)
    draws = Draws(hashes(f"without speech {number}" for number in range(count)), seed, epoch)
    nobody = np.full((count, 1), _NOBODY)
    num_samples = _samples(draws.between("seconds", config.non_speech.seconds), rate_hz)
    return Scenes(nobody, np.zeros_like(nobody), num_samples, draws.keys)


def _together(first: Scenes, second: Scenes) -> Scenes:
    missing = [(0, 0), (0, first.places.shape[1] - second.places.shape[1])]
    places = np.pad(second.places, missing, constant_values=_NOBODY)
    return Scenes(
        np.concatenate([first.places, places]),
        np.concatenate([first.starts, np.pad(second.starts, missing)]),
        np.concatenate([first.num_samples, second.num_samples]),
        np.concatenate([first.keys, second.keys]),
    )


def _samples(seconds: np.ndarray, rate_hz: int) -> np.ndarray:
    return np.round(seconds * rate_hz).astype(np.int64)
