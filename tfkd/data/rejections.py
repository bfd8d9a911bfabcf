"""Says what of a corpus is unusable, and refuses one of which too much is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tfkd.config import PrepareConfig
from tfkd.corpora import Rejection, Utterance
from tfkd.errors import ManifestError
from tfkd.records.store import REJECTED

MEND = "mend them, or raise prepare.max_rejected_share (--max-rejected-share)"
NO_FILE = "no such file {} (relative paths are seen from the manifest, then the working folder)"
_NAMED_REJECTIONS = 3


def check_rejected_share(
    rejections: Sequence[Rejection],
    total: int,
    config: PrepareConfig,
    source: str | Path,
    out: str | Path | None = None,
    remedy: str = MEND,
) -> None:
    """Raises an error if too large a share of a corpus, or all of it, is unusable.

    Args:
      rejections: the unusable utterances.
      total: number of utterances of `source`, including the rejected ones.
      config: its `max_rejected_share` is the limit.
      source: name of the corpus in the error.
      out: the store whose `rejected.jsonl` lists the rejections, if there is one.
      remedy: advice in the error.
    Raises:
      ManifestError: if the share of rejections is above `config.max_rejected_share`.
    """
    if not total:
        raise ManifestError(
            "holds no utterances", path=source, remedy="check that this is the right file"
        )
    if len(rejections) < total and len(rejections) <= config.max_rejected_share * total:
        return
    listed = f"; all are in {Path(out) / REJECTED}" if out else ""
    raise ManifestError(
        f"{len(rejections)} of {total} utterances are unusable{described(rejections)}{listed}",
        path=source,
        remedy=remedy,
    )


def described(rejections: Sequence[Rejection]) -> str:
    """Counts rejections by reason, with the first of them as examples."""
    counts = Counter(rejection.reason for rejection in rejections).most_common()
    reasons = ", ".join(f"{count} {reason}" for reason, count in counts)
    examples = "; ".join(f"{r.utterance_id}: {r.detail}" for r in rejections[:_NAMED_REJECTIONS])
    return f" ({reasons}), for example {examples}"


def rejection_of(utterance: Utterance, reason: str, detail: str) -> Rejection:
    """Makes the rejection of an utterance."""
    return Rejection(utterance.utterance_id, reason, detail, str(utterance.audio))
