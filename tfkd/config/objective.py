"""Settings of the training objective, and of the filters of labels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tfkd.config.bounds import LATER, number


@dataclass(frozen=True)
class FilterConfig:
    """Limits of the hypotheses that a student learns; null is off.

    docs/guide/filters.md describes each; `tfkd.distillation.filters` computes the measures.
    """

    drop_unfinished: bool = True
    max_repeats: int | None = number(None, at_least=1)
    max_compression_ratio: float | None = number(None, at_least=0)
    min_characters_per_second: float | None = number(None, at_least=0)
    max_characters_per_second: float | None = number(None, at_least=0)
    min_mean_log_prob: float | None = number(None, at_most=0)
    min_coverage: float | None = number(None, at_least=0, at_most=1)
    max_backward_share: float | None = number(None, at_least=0, at_most=1)
    backward_tolerance_seconds: float = number(0.2, at_least=0)
    max_disagreement: float | None = number(None, at_least=0)
    max_wer: float | None = number(None, at_least=0)


@dataclass(frozen=True)
class ObjectiveConfig:
    """Settings of the targets, which are chosen when labels are read.

    `tfkd.objectives` describes the kinds; `tfkd.objectives.sequence_kd.SequenceKD` the settings of
    the choice and the weights of hypotheses.

    Attributes:
      truth_audio: the utterances of a store of labels that `truth` learns from: "all" with a
        reference, or those for which `filters` keep a hypothesis, as for `seq_kd`.
      top_m: number of tokens of each step that `word_kd` learns, of those in the labels.
      token_temperature: temperature of the posteriors of teacher and student in `word_kd`; a
        mixture uses its own for all parts.
      parts: the objectives of a `mixture`.
      share: share of a part in its mixture; shares are divided by their sum.
    """

    kind: Literal["truth", "seq_kd", "seq_inter", "word_kd", "mixture"] = "truth"
    num_hypotheses: int = number(1, at_least=1)
    choice: Literal["best", "nearest_to_reference"] = "best"
    weights: Literal["uniform", "posterior", "rank"] = "posterior"
    temperature: float = number(1.0, at_least=1e-3)
    truth_audio: Literal["all", "filtered"] = "all"
    filters: FilterConfig = field(default_factory=FilterConfig)
    top_m: int = number(8, at_least=1, is_later=True)
    token_temperature: float = number(1.0, at_least=1e-3, is_later=True)
    parts: tuple[ObjectiveConfig, ...] = field(default=(), metadata=LATER)
    share: float = number(1.0, above=0, is_later=True)

    @property
    def of_labels(self) -> ObjectiveConfig:
        """The settings that choose and filter hypotheses.

        A mixture has none of its own: those of its first part that learns labels, also where a
        baseline changes no more than its kind to `truth`.
        """
        parts = self.parts if self.kind in ("mixture", "truth") else ()
        return next((part for part in parts if part.kind != "truth"), self)
