"""Reports before a training which utterances its CTC loss will leave out."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from tfkd.errors import TrainingError
from tfkd.models.recogniser import Recogniser
from tfkd.objectives.alignment import Unaligned, unaligned
from tfkd.records import Store
from tfkd.storage.files import write_text
from tfkd.text import Tokenizer
from tfkd.training.sources import Source

_LOG = logging.getLogger("tfkd")

# The list of utterances that CTC cannot align, in the folder of a run.
UNALIGNED = "unaligned.jsonl"
# If CTC leaves out a larger share of the utterances, it learns to emit blanks alone.
_MAX_UNALIGNED_SHARE = 0.9


def report_unaligned(
    sources: Sequence[Source], tokenizer: Tokenizer, model: Recogniser, out: Path
) -> None:
    """Lists the utterances that have more labels than encodings, in a warning and in a file.

    The attention loss still learns from them. The lengths are those of the original audio; speed
    perturbation makes some utterances shorter.

    Raises:
      TrainingError: if they are more than 90 % of all, so that CTC would learn blanks alone.
    """
    found: list[Unaligned] = []
    utterances = 0
    for source in sources:
        text = "hypothesis" if source.objective.needs_hypotheses else "text"
        index = source.store.index
        found += unaligned(index, _num_encodings(source.store, model), tokenizer, text=text)
        utterances += sum(row.get(text) is not None for row in index)
    if not found:
        return
    example = found[0]
    what = (
        f"{len(found)} of {utterances} utterances have more labels than encoder frames, for "
        f"example {example.utterance_id}: CTC needs {example.needed}, the encoder gives "
        f"{example.encodings}"
    )
    remedy = (
        "lower the time_reduction of model.encoder, or its convolutions, or choose longer units"
    )
    if len(found) > _MAX_UNALIGNED_SHARE * utterances:
        raise TrainingError(
            f"{what}; CTC would learn nothing",
            remedy=remedy,
        )
    lines = (json.dumps(asdict(each), ensure_ascii=False) for each in found)
    write_text(out / UNALIGNED, "".join(f"{line}\n" for line in lines))
    _LOG.warning("%s; the CTC loss leaves them out, see %s (%s)", what, out / UNALIGNED, remedy)


def _num_encodings(store: Store, model: Recogniser) -> np.ndarray:
    """The number of encodings of each utterance, in the order of the store's index."""
    num_samples = np.array([row["num_samples"] for row in store.index], np.int32)
    frames = np.asarray(model.frontend.num_frames(num_samples))
    return -(-frames // model.encoder.time_reduction)
