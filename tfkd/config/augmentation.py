"""Settings of the augmentation of training audio."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tfkd.config.bounds import interval, number

Sound = Literal["white", "pink", "brown", "hum", "music", "babble"]
NonSpeech = Literal["silence", "white", "pink", "brown", "hum", "music", "babble"]

_LOUDEST_DB = 60


@dataclass(frozen=True)
class NoiseConfig:
    """Noise that is added to speech; see `tfkd.data.augmentation.sounds`.

    Attributes:
      share: share of the examples that get noise.
      kinds: one of them is drawn for each such example.
      snr_db: range of the ratio of speech power to noise power.
    """

    share: float = number(0.4, at_least=0, at_most=1)
    kinds: tuple[Sound, ...] = ("white", "pink", "brown", "hum", "music", "babble")
    snr_db: tuple[float, float] = interval((8.0, 40.0), at_least=-_LOUDEST_DB, at_most=120)


@dataclass(frozen=True)
class ReverberationConfig:
    """Reverberation of synthetic rooms; see `tfkd.data.augmentation.reverberation`.

    Attributes:
      share: share of the examples that get reverberation.
      t60_seconds: range of the time in which the reverberation decays by 60 dB.
      direct_to_reverberant_db: range of the ratio of direct energy to reverberant energy.
    """

    share: float = number(0.2, at_least=0, at_most=1)
    t60_seconds: tuple[float, float] = interval((0.1, 0.6), at_least=0.01, at_most=5)
    direct_to_reverberant_db: tuple[float, float] = interval(
        (0.0, 20.0), at_least=-_LOUDEST_DB, at_most=_LOUDEST_DB
    )


@dataclass(frozen=True)
class SilenceConfig:
    """Silence and faint noise before and after the speech, as in recordings of a device.

    Attributes:
      share: probability of silence, drawn for each side separately.
      max_seconds: longest silence of a side; the duration is this times the cube of a uniform
        random number, so that most silences are short and some are long.
      level_dbfs: range of the root mean square of the faint noise in pauses; a quarter of the
        examples has digital zero there instead.
    """

    share: float = number(0.3, at_least=0, at_most=1)
    max_seconds: float = number(10.0, at_least=0, at_most=60)
    level_dbfs: tuple[float, float] = interval((-90.0, -40.0), at_least=-120, at_most=0)


@dataclass(frozen=True)
class JoiningConfig:
    """Joining of several utterances, and of their texts, to one example.

    Attributes:
      share: share of the utterances to which others are joined, until the example has a random
        length: `AugmentationConfig.max_seconds` times the square of a uniform random number.
      pause_seconds: range of the pause between two utterances.
    """

    share: float = number(0.4, at_least=0, at_most=1)
    pause_seconds: tuple[float, float] = interval((0.0, 1.0), at_least=0, at_most=60)


@dataclass(frozen=True)
class NonSpeechConfig:
    """Examples without speech, whose transcript is empty.

    Attributes:
      share: number of such examples in an epoch for each utterance of the corpus.
      kinds: one of them is drawn for each example; a kind that is listed twice is twice as likely.
      seconds: range of the duration of an example.
    """

    share: float = number(0.4, at_least=0, at_most=1)
    kinds: tuple[NonSpeech, ...] = (
        "silence", "white", "pink", "brown", "hum", "music", "music", "babble", "babble", "babble"
    )  # fmt: skip
    seconds: tuple[float, float] = interval((0.3, 8.0), at_least=0.1, at_most=60)


@dataclass(frozen=True)
class AugmentationConfig:
    """Augmentation of the training audio; labelling always uses the original audio.

    The defaults are for a recogniser that must cope with pauses, silence and noise; see
    docs/guide/robustness.md. A part is off if its `share` is 0.

    Attributes:
      gain_db: range of the change of loudness.
      max_seconds: silence and joining make no example longer than this.
      clean_epochs: number of epochs with the audio as it is, before the changes begin. A model with
        random weights that hears noise and rooms may fail to find out what is said where.
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
    clean_epochs: int = number(0, at_least=0, is_later=True)

    @classmethod
    def off(cls) -> AugmentationConfig:
        """Makes settings that leave the audio unchanged."""
        return cls(
            noise=NoiseConfig(share=0.0),
            gain_db=(0.0, 0.0),
            reverberation=ReverberationConfig(share=0.0),
            silence=SilenceConfig(share=0.0),
            joining=JoiningConfig(share=0.0),
            non_speech=NonSpeechConfig(share=0.0),
        )
