"""Proposes a student: the teacher's architecture, made narrower until it fits a budget.

Costs are computed from the config; nothing is trained and no data is read.
"""

from __future__ import annotations

import bisect
import dataclasses
import functools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from tfkd.config import SystemConfig, with_overrides
from tfkd.errors import ConfigError
from tfkd.models.recogniser import Recogniser

# Settings of width, which are scaled. Depth, kernel sizes and rates stay those of the teacher.
_WIDTHS = ("units", "conv_units", "embedding_units", "feed_forward_units", "filters")
_DROPOUTS = ("dropout",)
# Widths are multiples of this, which vector instructions need, and of twice the attention heads.
_MULTIPLE = 4
# The widths of a student are those of its teacher times a multiple of one over this.
_STEPS = 1000
# Size of an int8 .tflite beyond one byte a weight, by kind of encoder: operators, scales, biases,
# the filterbank. From the exports in docs/recipes/families.results.json.
_GRAPH_BYTES = {"convolutional": 180_000, "conformer": 290_000, "transformer": 265_000}
_GRAPH_BYTES_OF_OTHERS = 210_000
# Decoder steps a second of speech at normal speed, with subword units.
_TOKENS_PER_SECOND = 4.0
# A second of audio takes as long as so many multiply-adds of `measured_macs_per_second` at any
# width, and as this many for each of the model's own. Chosen for the ten families of
# docs/recipes/families.results.json, on a machine that did 1.2e10 a second, and for their teacher,
# whose .tflite was measured once by hand.
_KERAS_MACS = 17e6, 0.3
_TFLITE_MACS = 60e6, 1.9
_TIMED_SIZE, _TIMED_SECONDS, _TIMES = 256, 0.02, 5


@dataclass(frozen=True)
class Proposal:
    """A config and the estimated cost of its model.

    Attributes:
      parameters: number of weights, exact.
      int8_bytes: estimated size of the int8 .tflite, within a tenth.
      rtf: estimated real-time factor of the run on one thread of this machine, in batches.
      tflite_rtf: that of the .tflite, one utterance after another. Both within a half where no
        other work disturbs.
    """

    system: SystemConfig
    parameters: int
    int8_bytes: int
    rtf: float
    tflite_rtf: float


def narrowed(teacher: SystemConfig, width: float) -> SystemConfig:
    """Multiplies all widths, ranks and dropout rates of a teacher by `width`.

    A smaller network overfits less, so it needs less dropout. The objective becomes seq_kd.

    >>> system = tfkd.load_run("work/teacher").system
    >>> system.model.encoder.units, narrowed(system, 0.5).model.encoder.units
    (24, 12)
    """
    changes = list(_scaled(teacher.model, width, "model"))
    changes += ["training.objective.kind=seq_kd", "training.objective.num_hypotheses=4"]
    return with_overrides(teacher, changes)


def fit_student(
    teacher: SystemConfig, vocab_size: int, cost: Callable[[Proposal], float], budget: float
) -> Proposal:
    """Finds the widest student, by `narrowed`, whose cost is within a budget.

    Args:
      teacher: config of the teacher.
      vocab_size: size of the student's vocabulary.
      cost: the cost of a proposal that is limited, such as its number of parameters.
      budget: the largest cost.
    Raises:
      ConfigError: if even the narrowest student exceeds the budget, or none is smaller than the
        teacher.
    """
    macs_per_second = measured_macs_per_second()

    @functools.cache
    def proposal(step: int) -> Proposal:
        return proposed(narrowed(teacher, step / _STEPS), vocab_size, macs_per_second)

    too_wide = bisect.bisect_right(range(1, _STEPS), budget, key=lambda step: cost(proposal(step)))
    if not too_wide:
        raise ConfigError(
            "even the narrowest student of this architecture exceeds the budget",
            remedy="give a teacher with fewer layers, or a larger budget",
        )
    student = proposal(too_wide)
    if student.parameters >= Recogniser(teacher.model, vocab_size).count_params():
        raise ConfigError("the teacher itself is within the budget", remedy="give a smaller budget")
    return student


def proposed(system: SystemConfig, vocab_size: int, macs_per_second: float) -> Proposal:
    """Estimates the cost of a recogniser with this config."""
    model = Recogniser(system.model, vocab_size)
    parameters = model.count_params()
    encoded_per_second = 1 / model.frame_seconds
    steps_per_second = _TOKENS_PER_SECOND * system.decoding.beam_width
    # CTC alone has no decoder layer; its search has no weights.
    has_decoder = isinstance(model.decoder, keras.layers.Layer)
    decoder_weights = _num_weights(model.decoder) if has_decoder else 0
    work = _num_weights(model.encoder) * encoded_per_second + decoder_weights * steps_per_second
    return Proposal(
        system=system,
        parameters=parameters,
        int8_bytes=parameters + _GRAPH_BYTES.get(system.model.encoder.kind, _GRAPH_BYTES_OF_OTHERS),
        rtf=_rtf(*_KERAS_MACS, work, macs_per_second),
        tflite_rtf=_rtf(*_TFLITE_MACS, work, macs_per_second),
    )


def _rtf(fixed: float, each: float, macs: float, macs_per_second: float) -> float:
    return (fixed + each * macs) / macs_per_second


def _num_weights(layer: keras.layers.Layer) -> int:
    return sum(math.prod(variable.shape) for variable in layer.variables)


def measured_macs_per_second() -> float:
    """Measures the multiply-adds a second of matrix-vector products on this machine.

    The fastest of several times counts, in processor time, so that other work disturbs little.
    """
    matrix = np.ones((_TIMED_SIZE, _TIMED_SIZE), np.float32)
    vector = np.ones(_TIMED_SIZE, np.float32)

    def measured() -> float:
        products, start = 0, time.thread_time()
        while (elapsed := time.thread_time() - start) < _TIMED_SECONDS:
            matrix @ vector
            products += 1
        return products * matrix.size / elapsed

    return max(measured() for _ in range(_TIMES))


def _scaled(config: Any, factor: float, at: str) -> list[str]:
    """The `key=value` overrides that scale the widths and dropouts of a model config."""
    multiple = math.lcm(_MULTIPLE, 2 * getattr(config, "heads", 1))
    changes = []
    for field in dataclasses.fields(config):
        value, key = getattr(config, field.name), f"{at}.{field.name}"
        if dataclasses.is_dataclass(value):
            changes += _scaled(value, factor, key)
        elif field.name in _WIDTHS and value is not None:
            width = multiple * max(1, round(factor * value / multiple))
            changes.append(f"{key}={width}")
        elif field.name == "rank" and value:
            changes.append(f"{key}={max(1, round(factor * value))}")
        elif field.name in _DROPOUTS:
            changes.append(f"{key}={round(factor * value, 2)}")
    return changes
