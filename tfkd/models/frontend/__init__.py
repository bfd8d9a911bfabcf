"""Frontends: waveform to features, inside the model. See `tfkd.models.interface`."""

from __future__ import annotations

from collections.abc import Callable

from tfkd.config import FrontendConfig, ModelConfig, RawWaveformConfig, StftConfig
from tfkd.models.frontend.log_mel import LogMel
from tfkd.models.frontend.raw_waveform import RawWaveform
from tfkd.models.frontend.stft import Stft
from tfkd.models.interface import FrontendLayer

_LAYERS: dict[type, Callable[..., FrontendLayer]] = {
    FrontendConfig: LogMel,
    StftConfig: Stft,
    RawWaveformConfig: RawWaveform,
}


def make_frontend(config: ModelConfig, **kwargs) -> FrontendLayer:
    """Makes the frontend that `config.frontend.kind` names.

    Args:
      kwargs: arguments of every Keras layer, such as `name` and `dtype`.
    """
    return _LAYERS[type(config.frontend)](config.frontend, **kwargs)
