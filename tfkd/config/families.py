"""The families of frontends, encoders and decoders beside the recurrent ones of `settings`.

Each class has a `kind`, by which a config file chooses it; see `tfkd.config.reading`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tfkd.config.bounds import number


@dataclass(frozen=True)
class StftConfig:
    """Magnitudes of the short-time Fourier transform, with bins as far apart as the window allows.

    A window of 20 ms at 16 kHz has 320 samples, and so 161 bins.

    Attributes:
      log: whether the model reads the logarithm of the magnitudes.
    """

    kind: Literal["stft"] = "stft"
    sample_rate_hz: int = number(16000, at_least=1000)
    window_ms: float = number(20.0, at_least=1)
    hop_ms: float = number(10.0, at_least=1)
    log: bool = True


@dataclass(frozen=True)
class Conv2dRecurrentConfig:
    """Two-dimensional convolutions of stride 2 in time and frequency, then a stacked recurrent net.

    Attributes:
      kernel_frames, kernel_bins: size of each kernel in time and in frequency.
      directions: whether the two directions of the last layer are summed or concatenated. Between
        layers they are concatenated, as in the stacked networks of the common libraries.
    """

    kind: Literal["conv2d_recurrent"] = "conv2d_recurrent"
    convolutions: int = number(2, at_least=1, at_most=4)
    filters: int = number(32, at_least=1)
    kernel_frames: int = number(5, at_least=1)
    kernel_bins: int = number(8, at_least=1)
    cell: Literal["lstm", "gru"] = "gru"
    layers: int = number(3, at_least=1)
    units: int = number(128, at_least=1)
    directions: Literal["summed", "concatenated"] = "summed"
    dropout: float = number(0.0, at_least=0, below=1)
