"""A tiny model of each family, for the tests that all of them must pass."""

from __future__ import annotations

import dataclasses

import numpy as np
from helpers import VOCAB_SIZE, randomise

from tfkd import config
from tfkd.models.recogniser import Recogniser

_MEL = config.FrontendConfig(sample_rate_hz=8000, num_mels=8, max_hz=4000.0)
_RECURRENT = config.EncoderConfig(time_reduction=4, conv_units=7, layers=1, units=5)
_CONV2D = config.Conv2dRecurrentConfig(
    convolutions=2, filters=3, kernel_frames=5, kernel_bins=8, layers=2, units=5
)
_PLAIN = config.ModelConfig(
    frontend=_MEL,
    spec_augment=config.SpecAugmentConfig(max_frequency_width=2),
    encoder=_RECURRENT,
    attention=config.AttentionConfig(
        kind="location", units=6, location_filters=8, location_width=5
    ),
    ctc=False,
)
_CONFORMER = config.TransformerEncoderConfig(
    conv_units=7,
    layers=2,
    units=8,
    heads=2,
    feed_forward_units=12,
    convolution_width=5,
    dropout=0.0,
)
_TRANSFORMER = config.TransformerDecoderConfig(
    layers=2, units=8, heads=2, feed_forward_units=12, dropout=0.0
)
_RNN = config.DecoderConfig(cell="gru", units=9, embedding_units=4)

FAMILIES: dict[str, config.ModelConfig] = {
    "paper": dataclasses.replace(
        _PLAIN,
        frontend=config.StftConfig(sample_rate_hz=8000),
        encoder=_CONV2D,
        decoder=dataclasses.replace(_RNN, layers=2, input_feeding=False, teacher_forcing_rate=0.4),
    ),
    "deep-lstm-decoder": dataclasses.replace(
        _PLAIN,
        encoder=dataclasses.replace(_RECURRENT, cell="gru"),
        decoder=dataclasses.replace(_RNN, cell="lstm", layers=2),
        ctc=True,
    ),
    "low-rank": dataclasses.replace(
        _PLAIN,
        encoder=dataclasses.replace(_RECURRENT, layers=2, rank=3),
        decoder=dataclasses.replace(_RNN, rank=4),
        ctc=True,
    ),
    "raw-waveform": dataclasses.replace(
        _PLAIN,
        frontend=config.RawWaveformConfig(sample_rate_hz=8000, num_features=8, filters=9, units=7),
        decoder=_RNN,
    ),
    "concatenated": dataclasses.replace(
        _PLAIN,
        frontend=config.StftConfig(sample_rate_hz=8000, window_ms=32.0, log=False),
        encoder=dataclasses.replace(_CONV2D, cell="lstm", directions="concatenated"),
        decoder=_RNN,
    ),
    "conformer-transformer": dataclasses.replace(
        _PLAIN, encoder=_CONFORMER, decoder=_TRANSFORMER, ctc=True
    ),
    "transformer-rnn": dataclasses.replace(
        _PLAIN, encoder=dataclasses.replace(_CONFORMER, kind="transformer"), decoder=_RNN
    ),
    "convolutional": dataclasses.replace(
        _PLAIN,
        encoder=config.ConvolutionalEncoderConfig(
            conv_units=7, layers=2, units=8, width=3, dropout=0.0
        ),
        decoder=config.ConvolutionalDecoderConfig(layers=2, units=6, width=3, dropout=0.0),
    ),
    "ctc": dataclasses.replace(
        _PLAIN,
        encoder=dataclasses.replace(_RECURRENT, time_reduction=2),
        decoder=config.NoDecoderConfig(),
        ctc=True,
    ),
}
# Every cell with every attention, reduction of time and order of deltas that a recurrent model has.
_TWO_LAYERS = dataclasses.replace(_RECURRENT, layers=2)
_GRU = dataclasses.replace(_TWO_LAYERS, cell="gru")
_LSTM_DECODER = dataclasses.replace(_RNN, cell="lstm")
_ADDITIVE = dataclasses.replace(_PLAIN.attention, kind="additive")
FAMILIES |= {
    "lstm-additive-conv": dataclasses.replace(
        _PLAIN, encoder=_TWO_LAYERS, attention=_ADDITIVE, decoder=_LSTM_DECODER, ctc=True
    ),
    "gru-location-conv": dataclasses.replace(_PLAIN, encoder=_GRU, decoder=_RNN),
    "lstm-location-pyramid": dataclasses.replace(
        _PLAIN,
        encoder=dataclasses.replace(_RECURRENT, reduction="pyramid", layers=3),
        decoder=_LSTM_DECODER,
    ),
    "gru-additive-pyramid-deltas": dataclasses.replace(
        _PLAIN,
        frontend=dataclasses.replace(_MEL, delta_orders=2),
        encoder=dataclasses.replace(_GRU, reduction="pyramid", layers=3),
        attention=_ADDITIVE,
        decoder=_RNN,
        ctc=True,
    ),
}
WITH_DECODER = [name for name, family in FAMILIES.items() if family.decoder.kind != "none"]


def family_model(name: str, seed: int = 0, gain: float = 2.0) -> Recogniser:
    """A random Recogniser of a family whose every weight matters."""
    model = Recogniser(FAMILIES[name], VOCAB_SIZE)
    randomise(model.trainable_variables, seed=seed, gain=gain)
    rng = np.random.default_rng(seed)
    features = model.frontend.num_features
    model.frontend.set_statistics(rng.normal(size=features), rng.uniform(2.0, 3.0, features))
    return model
