"""Names of the files by which a folder says what it was made of, and that it is whole."""

from __future__ import annotations

import logging
from pathlib import Path

_LOG = logging.getLogger("tfkd")

# Written first into a store: the utterances that each of its shards is to hold.
PLAN = "plan.json"
# The folder of these shards, beside it.
SHARDS = "shards"
# Written last: a folder that holds it holds all that it is to hold.
COMPLETE = "complete.json"
# Digests of what the content was made of: with the same ones it need not be made again.
IDENTITY = "identity.json"
# Written by a training after each epoch; a model that Keras trained has none.
HISTORY = "history.jsonl"


def warn_of_unfinished(directory: Path) -> None:
    """Warns if a folder holds the best model so far of a training that has not ended."""
    if (directory / HISTORY).exists() and not (directory / COMPLETE).exists():
        _LOG.warning(
            "%s: its training has not ended, so its model may become better: run the command that "
            "wrote it again",
            directory,
        )
