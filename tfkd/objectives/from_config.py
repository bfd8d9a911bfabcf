"""Makes the objective that a config describes.

What trains, labels or reads data asks the objective; only checks of settings look at its `kind`,
too.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from tfkd.config import ObjectiveConfig, TrainingConfig
from tfkd.objectives.mixture import Mixture
from tfkd.objectives.objective import Objective
from tfkd.objectives.sequence_kd import SequenceInterpolation, SequenceKD
from tfkd.objectives.truth import Truth
from tfkd.objectives.word_kd import WordKD


def make_objective(training: TrainingConfig) -> Objective:
    """Makes the objective of `training.objective`, with the loss settings of `training`.

    >>> from tfkd.config import TrainingConfig
    >>> tfkd.objectives.make_objective(TrainingConfig(ctc_weight=0.0)).name
    'truth'
    """
    return _objective(
        training.objective,
        label_smoothing=training.label_smoothing,
        ctc_weight=training.ctc_weight,
        token_temperature=training.objective.token_temperature,
    )


def distilled(
    objective: ObjectiveConfig, default: ObjectiveConfig | None = None
) -> ObjectiveConfig:
    """The settings with which pseudo labels are learned; `truth` does not learn them.

    Args:
      default: what stands in for `truth`; by default `seq_kd`, all else being equal.
    """
    if objective.kind != "truth":
        return objective
    return default or dataclasses.replace(objective, kind="seq_kd")


def undistilled(objective: ObjectiveConfig) -> ObjectiveConfig:
    """The settings with which transcripts are learned, all else being equal."""
    return dataclasses.replace(
        objective.of_labels,
        kind="truth",
        truth_audio=objective.truth_audio,
        share=objective.share,
        parts=(),
    )


def in_effect(objective: ObjectiveConfig) -> ObjectiveConfig:
    """Resets the settings that have no effect beside the others: equal results are equal trainings.

    >>> from tfkd.config import ObjectiveConfig
    >>> one = ObjectiveConfig(kind="seq_kd", num_hypotheses=1, weights="rank", temperature=2.0)
    >>> in_effect(one) == ObjectiveConfig(kind="seq_kd", num_hypotheses=1)
    True
    """
    parts = tuple(map(in_effect, objective.parts)) if objective.kind == "mixture" else ()
    names = _names_in_effect(objective)
    kept = {name: getattr(objective, name) for name in ("kind", "share", *names)}
    return ObjectiveConfig(parts=parts, **kept)


def _names_in_effect(objective: ObjectiveConfig) -> tuple[str, ...]:
    match objective.kind:
        case "mixture":
            return ("token_temperature",)
        case "truth":
            is_filtered = objective.truth_audio == "filtered"
            return ("truth_audio", "filters") if is_filtered else ()
        case "word_kd":
            own: tuple[str, ...] = ("choice", "top_m", "token_temperature")
        case "seq_kd":
            own = ("choice",)
        case "seq_inter":
            own = ()
    is_weighed = objective.num_hypotheses > 1
    is_tempered = is_weighed and objective.weights == "posterior"
    weights = ("weights",) if is_weighed else ()
    temperature = ("temperature",) if is_tempered else ()
    return (*own, "num_hypotheses", "filters", *weights, *temperature)


def _objective(config: ObjectiveConfig, **loss: Any) -> Objective:
    hypotheses: dict[str, Any] = {
        "num_hypotheses": config.num_hypotheses,
        "weights": config.weights,
        "temperature": config.temperature,
        "filters": config.filters,
        **loss,
    }
    match config.kind:
        case "seq_kd":
            return SequenceKD(choice=config.choice, **hypotheses)
        case "seq_inter":
            return SequenceInterpolation(**hypotheses)
        case "word_kd":
            return WordKD(choice=config.choice, top_m=config.top_m, **hypotheses)
        case "mixture":
            parts = tuple((part.share, _objective(part, **loss)) for part in config.parts)
            return Mixture(parts=parts, **loss)
        case "truth":
            # Uniform weights need no log_prob, and which hypotheses remain depends on no weight.
            filtered = SequenceKD(choice=config.choice, **{**hypotheses, "weights": "uniform"})
            is_filtered = config.truth_audio == "filtered"
            return Truth(only_where=filtered if is_filtered else None, **loss)
