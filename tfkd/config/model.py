"""Settings of a recogniser's model: frontend, encoder and decoder of any family.

A config file chooses a class by its `kind`; without one, the first class of a union is used. See
`tfkd.config.reading`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tfkd.config.bounds import LATER, number

# The highest sample rate of FLAC, the format of stored audio (RFC 9639, 9.1.2).
MOST_FLAC_HZ = 655_350
# Bounded, because building a model takes milliseconds a layer.
DEEPEST = 1000


@dataclass(frozen=True)
class FrontendConfig:
    """Log-mel filterbank inside the model."""

    sample_rate_hz: int = number(16000, at_least=1000, at_most=MOST_FLAC_HZ)
    num_mels: int = number(80, at_least=1, at_most=1024)
    window_ms: float = number(25.0, at_least=1, at_most=1000)
    hop_ms: float = number(10.0, at_least=1, at_most=1000)
    min_hz: float = number(20.0, at_least=0)
    max_hz: float = number(7600.0, above=0)
    delta_orders: int = number(0, at_least=0, at_most=2)
    kind: Literal["log_mel"] = field(default="log_mel", metadata=LATER)


@dataclass(frozen=True)
class StftConfig:
    """Magnitudes of a short-time Fourier transform that is as long as the window.

    A window of 20 ms at 16 kHz has 320 samples, so 161 bins.

    Attributes:
      log: whether the model reads the logarithm of the magnitudes.
    """

    kind: Literal["stft"] = "stft"
    sample_rate_hz: int = number(16000, at_least=1000, at_most=MOST_FLAC_HZ)
    window_ms: float = number(20.0, at_least=1, at_most=1000)
    hop_ms: float = number(10.0, at_least=1, at_most=1000)
    log: bool = True


@dataclass(frozen=True)
class RawWaveformConfig:
    """Convolutions over the waveform, learned with the model (Tjandra et al. 2017).

    Attributes:
      num_features: that the encoder reads, and log-mel bands that are predicted at first.
      filters, filter_ms: filters over the waveform, and their length.
      units: of the layer between the filters and the features.
      transfer_epochs: how often a part of the training set is gone through to learn to predict
        log-mel features, before all is learned end to end; 0 leaves that out.
    """

    kind: Literal["raw_waveform"] = "raw_waveform"
    sample_rate_hz: int = number(16000, at_least=1000, at_most=MOST_FLAC_HZ)
    num_features: int = number(80, at_least=1, at_most=1024)
    window_ms: float = number(25.0, at_least=1, at_most=1000)
    hop_ms: float = number(10.0, at_least=1, at_most=1000)
    filters: int = number(64, at_least=1)
    filter_ms: float = number(10.0, at_least=1, at_most=1000)
    units: int = number(128, at_least=1)
    transfer_epochs: int = number(10, at_least=0)


@dataclass(frozen=True)
class SpecAugmentConfig:
    """Masks on the features in training; Park et al. 2019 (arXiv:1904.08779).

    Attributes:
      frequency_masks, time_masks: number of masks of each kind.
      max_frequency_width: widest mask, in features.
      max_time_share: longest mask, as a share of the utterance.
    """

    frequency_masks: int = number(2, at_least=0)
    max_frequency_width: int = number(15, at_least=0)
    time_masks: int = number(2, at_least=0)
    max_time_share: float = number(0.05, at_least=0, at_most=1)


@dataclass(frozen=True)
class EncoderConfig:
    """Time reduction and bidirectional recurrent layers.

    `conv` halves time by convolutions before layer 1. `pyramid` joins pairs of frames once before
    layers 2, 3, ..., and before layer 1 as often as is still needed.

    Attributes:
      rank: of the kernels of the recurrent layers, which are held as two factors each (Prabhavalkar
        et al. 2016, arXiv:1603.08042); 0 leaves them whole.
    """

    reduction: Literal["pyramid", "conv"] = "conv"
    time_reduction: int = number(4, at_least=1, at_most=256)
    conv_units: int = number(128, at_least=1)
    cell: Literal["lstm", "gru"] = "lstm"
    layers: int = number(3, at_least=1, at_most=DEEPEST)
    units: int = number(256, at_least=1)
    dropout: float = number(0.0, at_least=0, below=1)
    kind: Literal["recurrent"] = field(default="recurrent", metadata=LATER)
    rank: int = number(0, at_least=0, is_later=True)


@dataclass(frozen=True)
class Conv2dRecurrentConfig:
    """Two-dimensional convolutions of stride 2 in time and frequency, then recurrent layers.

    Attributes:
      kernel_frames, kernel_bins: size of each kernel in time and in frequency.
      directions: whether the two directions of the last layer are summed or concatenated; between
        layers they are always concatenated.
      rank: see `EncoderConfig`.
    """

    kind: Literal["conv2d_recurrent"] = "conv2d_recurrent"
    convolutions: int = number(2, at_least=1, at_most=4)
    filters: int = number(32, at_least=1)
    kernel_frames: int = number(5, at_least=1)
    kernel_bins: int = number(8, at_least=1)
    cell: Literal["lstm", "gru"] = "gru"
    layers: int = number(3, at_least=1, at_most=DEEPEST)
    units: int = number(128, at_least=1)
    directions: Literal["summed", "concatenated"] = "summed"
    dropout: float = number(0.0, at_least=0, below=1)
    rank: int = number(0, at_least=0, is_later=True)


@dataclass(frozen=True)
class TransformerEncoderConfig:
    """Convolutions that halve time, then blocks of self-attention.

    Attributes:
      kind: a "conformer" also has convolution in its blocks, and two feed-forward layers in each.
      heads: number of attention heads; `units` / `heads` must be an even number.
    """

    kind: Literal["conformer", "transformer"] = "conformer"
    time_reduction: int = number(4, at_least=1, at_most=256)
    conv_units: int = number(128, at_least=1)
    layers: int = number(4, at_least=1, at_most=DEEPEST)
    units: int = number(144, at_least=2)
    heads: int = number(4, at_least=1)
    feed_forward_units: int = number(576, at_least=1)
    convolution_width: int = number(15, at_least=1)
    dropout: float = number(0.1, at_least=0, below=1)


@dataclass(frozen=True)
class ConvolutionalEncoderConfig:
    """Convolutions that halve time, then gated convolutions over `width` frames."""

    kind: Literal["convolutional"] = "convolutional"
    time_reduction: int = number(4, at_least=1, at_most=256)
    conv_units: int = number(128, at_least=1)
    layers: int = number(6, at_least=1, at_most=DEEPEST)
    units: int = number(128, at_least=2)
    width: int = number(5, at_least=1)
    dropout: float = number(0.1, at_least=0, below=1)


@dataclass(frozen=True)
class AttentionConfig:
    """Attention of recurrent decoders.

    "additive" is Bahdanau et al. 2015; "location" adds location filters, Chorowski et al. 2015.
    """

    kind: Literal["additive", "location"] = "additive"
    units: int = number(128, at_least=1)
    location_filters: int = number(10, at_least=1)
    location_width: int = number(31, at_least=1)


@dataclass(frozen=True)
class DecoderConfig:
    """A recurrent decoder with attention.

    Attributes:
      layers: number of recurrent layers. A single layer with input feeding and a teacher forcing
        rate of 1 has a custom gradient and trains faster.
      input_feeding: whether the first layer also reads the last context.
      teacher_forcing_rate: share of the training steps whose input is the token of the target; the
        input of the others is drawn from the model's prediction (Bengio et al. 2015,
        arXiv:1506.03099).
      rank: of the kernels that read the context and the state; see `EncoderConfig`.
    """

    cell: Literal["lstm", "gru"] = "lstm"
    units: int = number(256, at_least=1)
    embedding_units: int = number(64, at_least=1)
    dropout: float = number(0.0, at_least=0, below=1)
    layers: int = number(1, at_least=1, at_most=DEEPEST, is_later=True)
    input_feeding: bool = field(default=True, metadata=LATER)
    teacher_forcing_rate: float = number(1.0, at_least=0, at_most=1, is_later=True)
    kind: Literal["attention_rnn"] = field(default="attention_rnn", metadata=LATER)
    rank: int = number(0, at_least=0, is_later=True)


@dataclass(frozen=True)
class TransformerDecoderConfig:
    """A Transformer decoder: blocks of self-attention and attention to the encodings."""

    kind: Literal["transformer"] = "transformer"
    layers: int = number(2, at_least=1, at_most=DEEPEST)
    units: int = number(144, at_least=2)
    heads: int = number(4, at_least=1)
    feed_forward_units: int = number(576, at_least=1)
    dropout: float = number(0.1, at_least=0, below=1)


@dataclass(frozen=True)
class ConvolutionalDecoderConfig:
    """Causal gated convolutions over the last `width` tokens of each layer, with attention."""

    kind: Literal["convolutional"] = "convolutional"
    layers: int = number(3, at_least=1, at_most=DEEPEST)
    units: int = number(128, at_least=2)
    width: int = number(3, at_least=2)
    dropout: float = number(0.1, at_least=0, below=1)


@dataclass(frozen=True)
class NoDecoderConfig:
    """No decoder: the recogniser decodes with the CTC head alone."""

    kind: Literal["none"] = "none"


@dataclass(frozen=True)
class ModelConfig:
    """The architecture of a Recogniser, without its vocabulary.

    Attributes:
      attention: of recurrent decoders.
      ctc: whether the model has a CTC head.
    """

    frontend: FrontendConfig | StftConfig | RawWaveformConfig = field(
        default_factory=FrontendConfig
    )
    spec_augment: SpecAugmentConfig = field(default_factory=SpecAugmentConfig)
    encoder: (
        EncoderConfig
        | Conv2dRecurrentConfig
        | TransformerEncoderConfig
        | ConvolutionalEncoderConfig
    ) = field(default_factory=EncoderConfig)
    attention: AttentionConfig = field(default_factory=AttentionConfig)
    decoder: (
        DecoderConfig | TransformerDecoderConfig | ConvolutionalDecoderConfig | NoDecoderConfig
    ) = field(default_factory=DecoderConfig)
    ctc: bool = True
