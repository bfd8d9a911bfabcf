"""What the decoder learns to say: weighted sequences, from the truth or from pseudo labels."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tfkd.config import ObjectiveConfig
from tfkd.errors import RecordError, TextError
from tfkd.records import Hypothesis, PseudoLabelRecord, Record, UtteranceRecord
from tfkd.text import Tokenizer


@dataclass(frozen=True)
class Targets:
    """Target sequences of one utterance, heaviest first; the weights sum to one.

    Attributes:
      token_ids: K sequences, each ending with eos.
      weights: K weights.
    """

    token_ids: tuple[tuple[int, ...], ...]
    weights: tuple[float, ...]


@dataclass(frozen=True)
class Dropped:
    """An utterance that gives no target, and why."""

    utterance_id: str
    reason: str


def targets_of(
    record: Record, tokenizer: Tokenizer, objective: ObjectiveConfig
) -> Targets | Dropped:
    """Chooses and weighs the targets of one record.

    `truth` takes the reference. `seq_kd` takes the teacher's best hypotheses, weighted evenly or
    by their posterior: softmax of log_prob / temperature over those kept (Mun'im et al. 2019,
    arXiv:1811.04531, section 3). Hypotheses with the same tokens are merged.

    Raises:
      RecordError: if `seq_kd` is asked of a record that holds no hypotheses, or posterior weights
        of hypotheses whose log_prob is unknown.
    """
    if objective.kind == "truth":
        return _truth(record, tokenizer)
    if not isinstance(record, PseudoLabelRecord):
        raise RecordError(
            "holds no hypotheses", utterance_id=record.utterance_id, remedy="run tfkd label first"
        )
    usable = [h for h in record.hypotheses if _is_usable(h, objective)]
    chosen = usable[: objective.num_hypotheses]
    masses: dict[tuple[int, ...], float] = {}
    for hypothesis, weight in zip(chosen, _weights(record, chosen, objective)):
        try:
            tokens = (*tokenizer.encode(hypothesis.text), tokenizer.eos_id)
        except TextError:
            # The student's units cannot spell what the teacher said.
            continue
        masses[tokens] = masses.get(tokens, 0.0) + weight
    if not masses:
        return Dropped(record.utterance_id, "no_usable_hypothesis")
    ranked = sorted(masses.items(), key=lambda item: -item[1])
    total = sum(masses.values())
    return Targets(tuple(t for t, _ in ranked), tuple(w / total for _, w in ranked))


def survey(
    records: Iterable[Record], tokenizer: Tokenizer, objective: ObjectiveConfig
) -> list[Dropped]:
    """Reads every record once before training, so that nothing fails or vanishes during it.

    Returns:
      The utterances that give no target.
    Raises:
      TextError: if no utterance gives a target.
    """
    results = [targets_of(record, tokenizer, objective) for record in records]
    dropped = [result for result in results if isinstance(result, Dropped)]
    if len(dropped) == len(results):
        counts = Counter(each.reason for each in dropped)
        reasons = ", ".join(f"{count} {reason}" for reason, count in counts.items())
        raise TextError(f"no utterance gives a target for {objective.kind}: {reasons or 'no data'}")
    return dropped


def _truth(record: Record, tokenizer: Tokenizer) -> Targets | Dropped:
    utterance = record if isinstance(record, UtteranceRecord) else record.utterance
    if not utterance.text:
        return Dropped(utterance.utterance_id, "no_reference")
    try:
        return Targets(((*tokenizer.encode(utterance.text), tokenizer.eos_id),), (1.0,))
    except TextError:
        return Dropped(utterance.utterance_id, "untokenisable_text")


def _is_usable(hypothesis: Hypothesis, objective: ObjectiveConfig) -> bool:
    # Another recogniser need not say why it ended: what is not known to be cut off is taken.
    return hypothesis.finish_reason != "max_steps" or not objective.drop_unfinished


def _weights(
    record: PseudoLabelRecord, chosen: Sequence[Hypothesis], objective: ObjectiveConfig
) -> list[float]:
    if not chosen or objective.weights == "uniform":
        return [1.0] * len(chosen)
    log_probs = [each.log_prob for each in chosen if each.log_prob is not None]
    if len(log_probs) < len(chosen):
        raise RecordError(
            "its hypotheses have no log_prob, which posterior weights need",
            utterance_id=record.utterance_id,
            remedy="set training.objective.weights to uniform",
        )
    best = max(log_probs)
    return [math.exp((log_prob - best) / objective.temperature) for log_prob in log_probs]
