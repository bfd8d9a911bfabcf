"""Frontends: waveform to features, inside the model. See `tfkd.models.interface`."""

from __future__ import annotations

from tfkd.config import FrontendConfig
from tfkd.models.frontend.log_mel import LogMel
from tfkd.models.interface import FrontendLayer

_LAYERS = {FrontendConfig: LogMel}


def make_frontend(config: FrontendConfig, **kwargs) -> FrontendLayer:
    """The frontend that `config.kind` names.

    Args:
      kwargs: those of every Keras layer, such as `name` and `dtype`.
    """
    return _LAYERS[type(config)](config, **kwargs)
