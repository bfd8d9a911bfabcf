"""Settings of the beam search, and of the models that it combines."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tfkd.config.bounds import number

# Bounded, because the time of a step grows with the width of the beam.
WIDEST_BEAM = 64
# Bounded, because a search allocates arrays for this many steps.
MOST_TOKENS = 100_000


@dataclass(frozen=True)
class SearchControls:
    """Settings of a beam search in addition to its width; each is off by default.

    Unfinished hypotheses are ranked by their total, the sum of log_prob and of weighted scorers. A
    hypothesis that ends has the score total / divisor + coverage_penalty * log_coverage.

    Attributes:
      normalisation: the divisor of the score: "gnmt" is Wu et al. 2016 (arXiv:1609.08144), eq. 14;
        "mean" is the number of tokens. Null is "gnmt", or "mean" with a language model and no
        length penalty, because a language model makes hypotheses too short.
      length_penalty: alpha of "gnmt"; at 0 the divisor is 1.
      coverage_penalty: beta of Wu et al. 2016, eq. 14-15, for encodings with little attention.
      min_tokens: the least number of tokens of a hypothesis, eos included.
      eos_threshold: gamma of Hannun et al. 2019 (arXiv:1904.02619): a hypothesis may end if
        log p(eos) > gamma * log p(c) for the best other token c, under the recogniser alone.
      no_repeat_ngram: no sequence of this many tokens may occur twice in a hypothesis; 0 is off.
      temperature: divides the recogniser's logits in the ranking; log_prob does not change.
    """

    normalisation: Literal["gnmt", "mean"] | None = None
    length_penalty: float = number(0.0, at_least=0)
    coverage_penalty: float = number(0.0, at_least=0)
    min_tokens: int = number(1, at_least=1)
    eos_threshold: float | None = number(None, at_least=0)
    no_repeat_ngram: int = number(0, at_least=0)
    temperature: float = number(1.0, at_least=1e-3)


@dataclass(frozen=True)
class FusionConfig:
    """Models whose weighted log-probabilities are added to the recogniser's, whose weight is one.

    Attributes:
      lm: folder that `tfkd train-lm` wrote, or ARPA file over the tokenizer's units.
      lm_weight: weight of the language model; Gulcehre et al. 2015 (arXiv:1503.03535), section 4.1.
      ctc_weight: weight of the CTC prefix score; lambda / (1 - lambda) of Hori et al. 2017
        (arXiv:1706.02737), section 2.3. Null is `tfkd.decoding.defaults.CTC_WEIGHT` if the CTC
        head was trained, else 0; 0 turns CTC off.
    """

    lm: str | None = None
    lm_weight: float = number(0.0, at_least=0)
    ctc_weight: float | None = number(None, at_least=0)


@dataclass(frozen=True)
class DecodingConfig(SearchControls):
    """Settings of the beam search of a recogniser.

    Attributes:
      beam_width: number of alive hypotheses.
      num_hypotheses: number of hypotheses that are returned.
      max_tokens: largest number of tokens of a hypothesis, eos included.
      max_tokens_per_second: an additional limit by the duration of the audio.
    """

    beam_width: int = number(4, at_least=1, at_most=WIDEST_BEAM)
    num_hypotheses: int = number(1, at_least=1)
    max_tokens: int = number(200, at_least=1, at_most=MOST_TOKENS)
    max_tokens_per_second: float | None = number(None, at_least=0.1)
    fusion: FusionConfig = field(default_factory=FusionConfig)
