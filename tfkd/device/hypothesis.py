"""The hypotheses that an exported .tflite gives for an utterance."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DeviceHypothesis:
    """One hypothesis of the search.

    Attributes:
      text: the recognised words.
      token_ids: its tokens, with EOS at the end if the search reached it.
      log_prob: natural logarithm of its probability under the attention decoder alone, or under CTC
        where there is no other.
      score: the value that ranks hypotheses; see docs/guide/decoding.md.
      coverage: share of the encodings that received attention, 0 to 1. It tends to be lower for
        noise and unknown languages than for known speech, which log_prob is not; an application may
        reject hypotheses below a threshold of its own. None in files of earlier versions.
      finish_reason: "eos", or "max_steps" if it reached the length limit, so words may be missing.
        None if it was not asked for.
    """

    text: str
    token_ids: tuple[int, ...]
    log_prob: float
    score: float
    coverage: float | None = None
    finish_reason: str | None = None
