"""Settings of training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tfkd.config.augmentation import AugmentationConfig
from tfkd.config.bounds import LATER, number
from tfkd.config.decoding import WIDEST_BEAM
from tfkd.config.objective import ObjectiveConfig


@dataclass(frozen=True)
class InitialConfig:
    """Settings of the initial weights.

    Attributes:
      run: folder of a run whose weights are copied where their shapes match, and whose tokenizer is
        kept if it has the same settings; null for random weights.
      layers: what a stack with fewer layers takes of a deeper one: evenly spread layers, or the
        means of neighbouring layers.
    """

    run: str | None = None
    layers: Literal["spread", "average"] = "spread"


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of the training of a teacher or a student.

    Attributes:
      epochs: after each, the model is validated, and the best one is kept.
      passes_per_epoch: how often an epoch goes through the data; with little data, more than one
        saves the time of many validations.
      clip_norm: global norm to which gradients are clipped; 0 is off.
      average_share: share of the steps so far, the latest ones, over which the weights that are
        validated and kept are averaged; 0 keeps those of the last step. See
        docs/guide/training.md.
      label_smoothing: share of each target that is spread over the other tokens.
      ctc_weight: share of CTC in the loss.
      speed_factors: speeds at which an utterance may be played; each pass draws one of them.
      patience: number of epochs without a lower validation WER after which training ends.
      checkpoint_minutes: time between checkpoints within an epoch; 0 writes one after every batch.
      validation_beam_width: width of the search that validates each epoch.
      distribution: devices that share each batch: all of this machine (mirrored), or those of the
        machines that TF_CONFIG names (multi_worker); see docs/guide/training.md.
      precision: of the computations of encoder and decoder; weights, losses and saved files are
        float32.
      xla: whether XLA compiles the steps, once for each shape of a batch.
      augmentation: null for the original audio; `{}` for the defaults of AugmentationConfig, which
        help a recogniser to cope with pauses, silence and noise.
      input_service: workers that make the batches, as grpc://HOST:PORT,HOST:PORT; null for none.
      schedule: "cosine" warms up linearly and then falls to `final_learning_rate`; "exponential"
        multiplies by `epoch_decay` after each epoch. See `tfkd.training.schedules`.
    """

    epochs: int = number(30, at_least=1)
    passes_per_epoch: int = number(1, at_least=1, is_later=True)
    batch_size: int = number(16, at_least=1)
    learning_rate: float = number(1e-3, above=0)
    final_learning_rate: float = number(1e-5, at_least=0)
    warmup_steps: int = number(200, at_least=0)
    clip_norm: float = number(5.0, at_least=0)
    average_share: float = number(0.0, at_least=0, below=1, is_later=True)
    label_smoothing: float = number(0.1, at_least=0, below=1)
    ctc_weight: float = number(0.3, at_least=0, at_most=1)
    speed_factors: tuple[float, ...] = number((0.9, 1.0, 1.1), at_least=0.5, at_most=2)
    patience: int = number(8, at_least=1)
    checkpoint_minutes: float = number(15.0, at_least=0)
    validation_beam_width: int = number(1, at_least=1, at_most=WIDEST_BEAM)
    seed: int = number(0, at_least=0)
    distribution: Literal["none", "mirrored", "multi_worker"] = "none"
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32"
    xla: bool = False
    schedule: Literal["cosine", "exponential"] = field(default="cosine", metadata=LATER)
    epoch_decay: float = number(0.99, above=0, at_most=1, is_later=True)
    initial: InitialConfig = field(default_factory=InitialConfig, metadata=LATER)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    augmentation: AugmentationConfig | None = field(default=None, metadata=LATER)
    input_service: str | None = field(default=None, metadata=LATER)
