"""The hypotheses that an exported .tflite gives for an utterance."""

from __future__ import annotations

from dataclasses import dataclass, field

from tfkd.text import EOS_ID


@dataclass(frozen=True)
class DeviceHypothesis:
    """One hypothesis of the search.

    Attributes:
      text: the recognised words.
      token_ids: its tokens, with EOS at the end if the search reached it.
      log_prob: natural logarithm of its probability under the attention decoder alone.
      score: the value that ranks hypotheses; see docs/guide/decoding.md.
      coverage: share of the encodings that received attention, 0 to 1. It tends to be lower for
        noise and unknown languages than for known speech, which log_prob is not; an application may
        reject hypotheses below a threshold of its own. None in files of earlier versions.
      finish_reason: "eos", or "max_steps" if it reached the length limit, so words may be missing.
    """

    text: str
    token_ids: tuple[int, ...]
    log_prob: float
    score: float
    coverage: float | None = None
    finish_reason: str = field(init=False)

    def __post_init__(self) -> None:
        has_ended = self.token_ids[-1:] == (EOS_ID,)
        object.__setattr__(self, "finish_reason", "eos" if has_ended else "max_steps")
