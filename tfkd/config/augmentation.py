"""The settings of what a student hears in place of clean audio."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tfkd.config.bounds import interval, number

Sound = Literal["white", "pink", "brown", "hum", "music", "babble"]
NonSpeech = Literal["silence", "white", "pink", "brown", "hum", "music", "babble"]

_LOUDEST_DB = 60


@dataclass(frozen=True)
class NoiseConfig:
    """Sounds on top of speech; see `tfkd.data.augmentation.sounds`.

    Attributes:
      share: of the examples.
      kinds: one of them is drawn for each of these.
      snr_db: power of the speech over that of the noise.
    """

    share: float = number(0.4, at_least=0, at_most=1)
    kinds: tuple[Sound, ...] = ("white", "pink", "brown", "hum", "music", "babble")
    snr_db: tuple[float, float] = interval((8.0, 40.0), at_least=-_LOUDEST_DB, at_most=120)


@dataclass(frozen=True)
class ReverberationConfig:
    """Synthetic rooms; see `tfkd.data.augmentation.reverberation`.

    Attributes:
      share: of the examples.
      t60_seconds: time in which the sound of the room falls by 60 dB.
      direct_to_reverberant_db: energy of the direct sound over that of the room.
    """

    share: float = number(0.2, at_least=0, at_most=1)
    t60_seconds: tuple[float, float] = interval((0.1, 0.6), at_least=0.01, at_most=5)
    direct_to_reverberant_db: tuple[float, float] = interval(
        (0.0, 20.0), at_least=-_LOUDEST_DB, at_most=_LOUDEST_DB
    )


@dataclass(frozen=True)
class SilenceConfig:
    """Silence and faint noise before and after the speech, as a device hears it.

    Attributes:
      share: of the examples; drawn for either side by itself.
      max_seconds: of one side; the seconds are this times the cube of a uniform number, so that
        short pauses are frequent and long ones are not rare.
      level_dbfs: root mean square of the faint noise that fills pauses; a quarter of them is
        digital zero instead.
    """

    share: float = number(0.3, at_least=0, at_most=1)
    max_seconds: float = number(10.0, at_least=0, at_most=60)
    level_dbfs: tuple[float, float] = interval((-90.0, -40.0), at_least=-120, at_most=0)


@dataclass(frozen=True)
class JoiningConfig:
    """Utterances that follow upon one another in one example, and their texts likewise.

    Attributes:
      share: of the utterances, to which others are joined until the example is as long as was
        drawn: `max_seconds` of all times the square of a uniform number.
      pause_seconds: between one and the next.
    """

    share: float = number(0.2, at_least=0, at_most=1)
    pause_seconds: tuple[float, float] = interval((0.0, 1.0), at_least=0, at_most=60)


@dataclass(frozen=True)
class NonSpeechConfig:
    """Examples without speech, whose transcript is empty.

    Attributes:
      share: how many there are in an epoch for each utterance of the corpus.
      kinds: one of them is drawn for each example; one that is named twice comes twice as often.
      seconds: length of an example.
    """

    share: float = number(0.2, at_least=0, at_most=1)
    kinds: tuple[NonSpeech, ...] = (
        "silence", "white", "pink", "brown", "hum", "music", "music", "babble", "babble", "babble"
    )  # fmt: skip
    seconds: tuple[float, float] = interval((0.3, 8.0), at_least=0.1, at_most=60)


@dataclass(frozen=True)
class AugmentationConfig:
    """What is done to the audio of training, and never to that of labelling.

    The defaults are for a recogniser that has to survive pauses, silence and noise; the figures are
    in docs/guide/robustness.md. Each part is off where its `share` is 0.

    Attributes:
      gain_db: louder or softer by so many decibels.
      max_seconds: silence and joined utterances make no example longer than this.
    """

    noise: NoiseConfig = field(default_factory=NoiseConfig)
    gain_db: tuple[float, float] = interval(
        (-12.0, 6.0), at_least=-_LOUDEST_DB, at_most=_LOUDEST_DB
    )
    reverberation: ReverberationConfig = field(default_factory=ReverberationConfig)
    silence: SilenceConfig = field(default_factory=SilenceConfig)
    joining: JoiningConfig = field(default_factory=JoiningConfig)
    non_speech: NonSpeechConfig = field(default_factory=NonSpeechConfig)
    max_seconds: float = number(30.0, above=0, at_most=600)

    @classmethod
    def off(cls) -> AugmentationConfig:
        """Settings that change nothing."""
        return cls(
            noise=NoiseConfig(share=0.0),
            gain_db=(0.0, 0.0),
            reverberation=ReverberationConfig(share=0.0),
            silence=SilenceConfig(share=0.0),
            joining=JoiningConfig(share=0.0),
            non_speech=NonSpeechConfig(share=0.0),
        )
