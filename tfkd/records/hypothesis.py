"""The fields of a hypothesis, and their checks, which apply to writing and reading."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tfkd.records import fields
from tfkd.records.fields import INT64_MAX, Layout, encoding_faults, is_known, refuse
from tfkd.records.tf_example import Values

NUM_TOKENS = "hypotheses/num_tokens"
TOKEN_IDS = "hypotheses/token_ids"
FINISH_REASONS = ("eos", "max_steps")

_FLOAT32_MAX = 3.4028234663852886e38
# Rounded sums of logarithms may exceed zero by this much.
_ROUNDING = 1e-3
_NO_LOG_PROB = "but the natural logarithm of a probability is at most 0: a cost has the other sign"
_UINT16_MAX, _FLOAT16_MAX = 2**16 - 1, 65504.0


@dataclass(frozen=True)
class Hypothesis:
    """One hypothesis of a teacher. Floats are stored as float32.

    All fields but the text may be unknown, as for hypotheses of another recogniser: None, or an
    empty tuple. A field must be known for all hypotheses of an utterance, or for none.

    Attributes:
      text: the words.
      token_ids: [num_tokens], including the EOS if `finish_reason` is "eos".
      log_prob: natural logarithm of the probability of the whole sequence, EOS included.
      score: the value that ranked it (length-normalised, with further terms).
      token_log_probs: [num_tokens], natural logarithms.
      token_seconds: [num_tokens], the time in the audio with most attention for each token.
      finish_reason: "eos", or "max_steps" if it reached the length limit.
      coverage: share of the encodings that received attention.
      written: the text as the teacher wrote it, if it was normalised for the label.
      top_token_ids: [num_tokens][M], the M most probable tokens of each step.
      top_log_probs: [num_tokens][M], their natural logarithms, stored as float16.
      total: what the search sums: log_prob (at its temperature), and weighted those of CTC and
        language model.
    """

    text: str = field(metadata=fields.TEXT)
    token_ids: tuple[int, ...] = field(default=(), metadata=fields.TOKEN_INTEGERS)
    log_prob: float | None = field(default=None, metadata=fields.NUMBER)
    score: float | None = field(default=None, metadata=fields.NUMBER)
    token_log_probs: tuple[float, ...] = field(default=(), metadata=fields.TOKEN_NUMBERS)
    token_seconds: tuple[float, ...] = field(default=(), metadata=fields.TOKEN_NUMBERS)
    finish_reason: str | None = field(default=None, metadata=fields.TEXT)
    coverage: float | None = field(default=None, metadata=fields.NUMBER)
    written: str | None = field(default=None, metadata=fields.TEXT | fields.LATER)
    top_token_ids: tuple[tuple[int, ...], ...] = field(
        default=(), metadata=fields.TOP_UINT16 | fields.LATER
    )
    top_log_probs: tuple[tuple[float, ...], ...] = field(
        default=(), metadata=fields.TOP_FLOAT16 | fields.LATER
    )
    total: float | None = field(default=None, metadata=fields.NUMBER | fields.LATER)

    @property
    def num_tokens(self) -> int:
        """Length of the sequence, EOS included; 0 if the tokens are unknown."""
        return len(self.token_ids)


LAYOUT = Layout(Hypothesis, prefix="hypotheses/")
# Fields that may be unknown.
OPTIONAL_VALUES = LAYOUT.optional
# The lengths of the hypotheses are a feature of their own, which splits the flat lists of tokens.
FEATURES = LAYOUT.features | {NUM_TOKENS: "int64"}
LATER_FEATURES = LAYOUT.later_features


def hypotheses_values(hypotheses: Sequence[Hypothesis]) -> Values:
    """Converts hypotheses to lists of values by feature."""
    return LAYOUT.values(hypotheses) | {NUM_TOKENS: [each.num_tokens for each in hypotheses]}


def hypotheses_of(values: Values, utterance_id: str) -> tuple[Hypothesis, ...]:
    """Converts lists of values by feature to hypotheses.

    Raises:
      RecordError: if the lengths of the lists contradict each other.
    """
    refuse(_length_faults(values), utterance_id)
    return tuple(LAYOUT.records(values, values[NUM_TOKENS]))


def hypotheses_faults(hypotheses: Sequence[Hypothesis]) -> Iterator[str]:
    """Yields a message for each reason why the hypotheses of an utterance cannot be stored."""
    for rank, hypothesis in enumerate(hypotheses):
        for fault in _hypothesis_faults(hypothesis):
            yield f"hypothesis {rank}: {fault}"
    for name in OPTIONAL_VALUES:
        unknown = sum(not is_known(getattr(each, name)) for each in hypotheses)
        if 0 < unknown < len(hypotheses):
            yield f"{name} is missing in {unknown} of {len(hypotheses)} hypotheses"


def _hypothesis_faults(hypothesis: Hypothesis) -> Iterator[str]:
    for name in ("text", "written"):
        yield from encoding_faults(getattr(hypothesis, name), name)
    for name in ("token_log_probs", "token_seconds"):
        found = len(getattr(hypothesis, name))
        if found not in (0, len(hypothesis.token_ids)):
            yield f"{len(hypothesis.token_ids)} token_ids but {found} {name}"
    ids = hypothesis.token_ids or (0,)
    if not (min(ids) >= 0 and max(ids) <= INT64_MAX):
        yield "a token id is negative or too large"
    yield from _posterior_faults(hypothesis)
    if hypothesis.finish_reason not in (None, *FINISH_REASONS):
        yield f"finish_reason is {hypothesis.finish_reason!r}, not {' or '.join(FINISH_REASONS)}"
    yield from _float_faults(hypothesis)


def _posterior_faults(hypothesis: Hypothesis) -> Iterator[str]:
    ids, log_probs = hypothesis.top_token_ids, hypothesis.top_log_probs
    if not ids and not log_probs:
        return
    widths = {len(row) for row in (*ids, *log_probs)}
    if {len(ids), len(log_probs)} != {len(hypothesis.token_ids)} or len(widths) != 1:
        yield "top_token_ids and top_log_probs are not M numbers for each of its tokens"
    if any(not 0 <= token <= _UINT16_MAX for row in ids for token in row):
        yield f"one of top_token_ids is not between 0 and {_UINT16_MAX}"
    if any(not -_FLOAT16_MAX <= value <= 0 for row in log_probs for value in row):
        yield f"one of top_log_probs is not between -{_FLOAT16_MAX:g} and 0"


def _float_faults(hypothesis: Hypothesis) -> Iterator[str]:
    for name in ("log_prob", "total", "score", "coverage"):
        value = getattr(hypothesis, name)
        if value is not None and not _is_float32(value):
            yield f"{name} is {value}, not a finite float32"
    if hypothesis.log_prob is not None and hypothesis.log_prob > _ROUNDING:
        yield f"log_prob is {hypothesis.log_prob}, {_NO_LOG_PROB}"
    if hypothesis.token_log_probs and max(hypothesis.token_log_probs) > _ROUNDING:
        yield f"one of token_log_probs is {max(hypothesis.token_log_probs)}, {_NO_LOG_PROB}"
    for name in ("token_log_probs", "token_seconds"):
        values = getattr(hypothesis, name)
        # Compare all at once: a call for each value would be slow, and a store has hundreds.
        if not all(-_FLOAT32_MAX <= value <= _FLOAT32_MAX for value in values):
            step = [_is_float32(value) for value in values].index(False)
            yield f"{name}[{step}] is {values[step]}, not a finite float32"


def _is_float32(value: float) -> bool:
    # NaN fails this too, and so does a number that is infinite as float32.
    return -_FLOAT32_MAX <= value <= _FLOAT32_MAX


def _length_faults(values: Values) -> Iterator[str]:
    """Contradictions between the flattened lists of a pseudo-label Example."""
    num_tokens = values[NUM_TOKENS]
    if any(count < 0 for count in num_tokens):
        yield f"feature {NUM_TOKENS} holds a negative number"
    yield from LAYOUT.length_faults(values, num_tokens)
    # The field is optional, but where it is unknown there are no tokens to count.
    if not values[TOKEN_IDS] and sum(num_tokens):
        yield f"feature {TOKEN_IDS} holds 0 values, not {sum(num_tokens)}"
