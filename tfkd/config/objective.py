"""What a student learns from labels, and which labels it leaves out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tfkd.config.bounds import LATER, number


@dataclass(frozen=True)
class FilterConfig:
    """Limits beyond which a hypothesis is not learned from; null is off.

    See `tfkd.distillation.filters`.
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
    """The targets that the decoder learns from, chosen while labels are read.

    See `tfkd.objectives` for what each kind learns.

    Attributes:
      truth_audio: what `truth` learns from of a store of labels: "all" that has a reference, or
        what is left of it after `filters`, as for `seq_kd`.
      top_m: of `word_kd`: how many tokens of each step it learns, of those that the labels keep.
      token_temperature: of `word_kd`: evens out the posteriors of teacher and student; of a
        mixture, that of the whole.
      parts: of a `mixture`: objectives, each with its `share`.
      share: of a part of a mixture; shares count over their sum.
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
