"""Says before a training which utterances its CTC loss would leave out."""

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

# The utterances that CTC cannot align, in the folder of a run.
UNALIGNED = "unaligned.jsonl"
# A model of which CTC sees less learns to emit blanks alone.
_MOST_UNALIGNED = 0.9


def report_unaligned(
    sources: Sequence[Source], tokenizer: Tokenizer, model: Recogniser, out: Path
) -> None:
    """Names the utterances that have more labels than encodings, in a warning and in a file.

    They are learned by attention all the same. Lengths are those of the audio as it is: speed
    perturbation makes some shorter.

    Raises:
      TrainingError: if nearly all of them do, so that CTC would learn nothing but blanks.
    """
    found: list[Unaligned] = []
    for source in sources:
        text = "hypothesis" if source.objective.needs_hypotheses else "text"
        index = source.store.index
        found += unaligned(index, _num_encodings(source.store, model), tokenizer, text=text)
    if not found:
        return
    utterances = sum(len(source.store.index) for source in sources)
    example = found[0]
    what = (
        f"{len(found)} of {utterances} utterances have more labels than the encoder has frames "
        f"for them, for example {example.utterance_id}: {example.needed} and {example.encodings}"
    )
    remedy = "lower model.encoder.time_reduction, or choose longer units"
    if len(found) > _MOST_UNALIGNED * utterances:
        raise TrainingError(
            f"{what}; CTC would learn nothing", remedy=f"{remedy}, or set training.ctc_weight to 0"
        )
    lines = (json.dumps(asdict(each), ensure_ascii=False) for each in found)
    write_text(out / UNALIGNED, "".join(f"{line}\n" for line in lines))
    _LOG.warning("%s; the CTC loss leaves them out, see %s (%s)", what, out / UNALIGNED, remedy)


def _num_encodings(store: Store, model: Recogniser) -> np.ndarray:
    """How many encodings each utterance of a store gets, in the order of its index."""
    num_samples = np.array([row["num_samples"] for row in store.index], np.int32)
    frames = np.asarray(model.frontend.num_frames(num_samples))
    return -(-frames // model.encoder.time_reduction)
