"""How the beam search decodes, and which models join it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tfkd.config.bounds import number

# A step of the search costs as many decoder steps an utterance.
WIDEST_BEAM = 64
# A search holds arrays of as many steps.
MOST_TOKENS = 100_000


@dataclass(frozen=True)
class SearchControls:
    """Settings that steer a beam search beside its width; each is off by default.

    A hypothesis is ranked by its total, which is its log_prob and what scorers add to it. When it
    ends, or is cut off, its score is total / divisor + coverage_penalty * log_coverage.

    Attributes:
      normalisation: the divisor of the score: "gnmt" is Wu et al. 2016 (arXiv:1609.08144), eq. 14;
        "mean" is the number of tokens; null is "gnmt", but "mean" where a language model joins and
        no length penalty is chosen, since a language model alone makes hypotheses short.
      length_penalty: alpha of "gnmt"; at 0 the divisor is 1.
      coverage_penalty: beta of Wu et al. 2016, eq. 14-15, for encodings that got little attention.
      min_tokens: eos included; a hypothesis cannot end before.
      eos_threshold: gamma of Hannun et al. 2019 (arXiv:1904.02619): an end needs
        log p(eos) > gamma * log p(c) for the best other token c, both of the recogniser alone.
      no_repeat_ngram: no sequence of so many tokens comes twice in a hypothesis.
      temperature: divides the recogniser's logits in the ranking; log_prob stays what it is.
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
    """Further models whose log-probabilities join the ranking; the recogniser's weight is one.

    Attributes:
      lm: folder that `tfkd train-lm` wrote, or ARPA file over the tokenizer's units.
      lm_weight: of the language model; Gulcehre et al. 2015 (arXiv:1503.03535), section 4.1.
      ctc_weight: of the CTC prefix score; lambda / (1 - lambda) of Hori et al. 2017
        (arXiv:1706.02737), section 2.3. Null is `tfkd.decoding.defaults.CTC_WEIGHT` where the CTC
        head was trained, else 0; 0 leaves CTC out.
    """

    lm: str | None = None
    lm_weight: float = number(0.0, at_least=0)
    ctc_weight: float | None = number(None, at_least=0)


@dataclass(frozen=True)
class DecodingConfig(SearchControls):
    """Beam search, and how long its hypotheses may be.

    Attributes:
      max_tokens: most tokens of a hypothesis, eos included.
      max_tokens_per_second: a limit by the length of the audio besides.
    """

    beam_width: int = number(4, at_least=1, at_most=WIDEST_BEAM)
    num_hypotheses: int = number(1, at_least=1)
    max_tokens: int = number(200, at_least=1, at_most=MOST_TOKENS)
    max_tokens_per_second: float | None = number(None, at_least=0.1)
    fusion: FusionConfig = field(default_factory=FusionConfig)
