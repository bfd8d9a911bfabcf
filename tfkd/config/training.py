"""How a recogniser is trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tfkd.config.augmentation import AugmentationConfig
from tfkd.config.bounds import LATER, number
from tfkd.config.decoding import WIDEST_BEAM
from tfkd.config.objective import ObjectiveConfig


@dataclass(frozen=True)
class InitialConfig:
    """What a training begins from.

    Attributes:
      run: folder of a run whose weights are taken wherever their shapes allow, and whose units, if
        the settings of the tokenizer are the same; null begins at random.
      layers: what a shallower stack takes of a deeper one: evenly spread layers, or the means of
        neighbours.
    """

    run: str | None = None
    layers: Literal["spread", "average"] = "spread"


@dataclass(frozen=True)
class TrainingConfig:
    """Teacher and student are trained by the same code with these settings.

    `checkpoint_minutes` is how long after the last checkpoint an unfinished epoch gets another; 0
    writes one after every batch.

    Attributes:
      distribution: devices that share each batch: all of this machine (mirrored), or those of the
        machines that TF_CONFIG names (multi_worker); see docs/guide/training.md.
      precision: in which numbers encoder and decoder compute; weights, losses and what is saved
        are float32.
      xla: whether steps are compiled, once for each shape of a batch.
      augmentation: what else than clean audio is heard: null is that alone, and `{}` what is best
        known for a recogniser that has to survive pauses, silence and noise.
      input_service: workers that make the batches, as grpc://HOST:PORT,HOST:PORT; null is none.
      schedule: "cosine" goes from a linear warm-up to `final_learning_rate`; "exponential"
        multiplies by `epoch_decay` after each epoch. See `tfkd.training.schedules`.
    """

    epochs: int = number(30, at_least=1)
    batch_size: int = number(16, at_least=1)
    learning_rate: float = number(1e-3, above=0)
    final_learning_rate: float = number(1e-5, at_least=0)
    warmup_steps: int = number(200, at_least=0)
    clip_norm: float = number(5.0, at_least=0)
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
