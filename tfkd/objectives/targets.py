"""What the decoder learns to say: weighted sequences, from the truth or from pseudo labels.

Everything here is decided while reading: how many hypotheses, their weights, filters and choice are
settings of training, so labels are decoded once and serve many students.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from tfkd.config import ObjectiveConfig
from tfkd.distillation.filters import Fault, judge, known_log_probs, posterior
from tfkd.errors import RecordError, TextError
from tfkd.metrics import word_error_rate
from tfkd.records import Hypothesis, PseudoLabelRecord, Record
from tfkd.text import Tokenizer

_NO_REFERENCE = Fault("no_reference")
_UNTOKENISABLE = Fault("untokenisable_text")


@dataclass(frozen=True)
class Targets:
    """Target sequences of one utterance, heaviest first; the weights sum to one.

    Attributes:
      token_ids: K sequences, each ending with eos.
      weights: K weights.
      faults: what spoke against other hypotheses of the utterance.
    """

    token_ids: tuple[tuple[int, ...], ...]
    weights: tuple[float, ...]
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True)
class Dropped:
    """An utterance that gives no target, and all that spoke against it, best hypothesis first."""

    utterance_id: str
    faults: tuple[Fault, ...]

    def row(self) -> dict[str, Any]:
        """A line of dropped.jsonl: each reason once, with the value of the best it struck."""
        first: dict[str, Fault] = {}
        for fault in self.faults:
            first.setdefault(fault.reason, fault)
        return {"utterance_id": self.utterance_id, "reasons": [asdict(f) for f in first.values()]}


@dataclass(frozen=True)
class Survey:
    """What training leaves out.

    Attributes:
      dropped_hypotheses: how many hypotheses each reason struck, those of utterances that still
        give a target included; one with several reasons counts for each.
    """

    dropped: list[Dropped]
    dropped_hypotheses: dict[str, int]


def targets_of(
    record: Record, tokenizer: Tokenizer, objective: ObjectiveConfig
) -> Targets | Dropped:
    """Chooses and weighs the targets of one record.

    `truth` takes the reference; with `truth_audio` "filtered", only of utterances of which `seq_kd`
    with the same settings takes a hypothesis. `seq_kd` takes the first `num_hypotheses` of those
    that `filters.judge` keeps and the tokenizer can spell, in the teacher's order or from the
    nearest to the reference on, and weighs them over their sum:

    - `posterior`: softmax of log_prob / temperature (Mun'im et al. 2019, arXiv:1811.04531,
      section 3);
    - `rank`: 1 / rank, from 1 on: for lists whose probabilities are unknown or badly calibrated;
    - `uniform`: 1.

    The nearest one alone is sequence-level interpolation of Kim and Rush 2016, arXiv:1606.07947,
    section 3.3, with word edits in the place of BLEU.

    Raises:
      RecordError: if `seq_kd` or "filtered" is asked of a record that holds no hypotheses, or
        `posterior` of hypotheses without log_prob.
    """
    if objective.kind == "truth" and objective.truth_audio == "all":
        return _truth(record, tokenizer)
    if not isinstance(record, PseudoLabelRecord):
        raise RecordError(
            "holds no hypotheses", utterance_id=record.utterance_id, remedy="run tfkd label first"
        )
    spelled, faults = _usable(record, tokenizer, objective)
    chosen = spelled[: objective.num_hypotheses]
    if not chosen:
        return Dropped(record.utterance_id, faults)
    if objective.kind == "truth":
        return _truth(record, tokenizer)
    weights = _weights([each.hypothesis for each in chosen], objective, record.utterance_id)
    ranked = sorted(zip(weights, chosen), key=lambda item: -item[0])
    return Targets(
        tuple(each.token_ids for _, each in ranked), tuple(weight for weight, _ in ranked), faults
    )


def survey(records: Iterable[Record], tokenizer: Tokenizer, objective: ObjectiveConfig) -> Survey:
    """Reads every record once before training, so that nothing fails or vanishes during it.

    Raises:
      TextError: if no utterance gives a target.
    """
    dropped: list[Dropped] = []
    struck: Counter[str] = Counter()
    utterances = 0
    for record in records:
        result = targets_of(record, tokenizer, objective)
        utterances += 1
        if isinstance(result, Dropped):
            dropped.append(result)
        if objective.kind != "truth":
            struck.update(fault.reason for fault in result.faults)
    if len(dropped) == utterances:
        counts = Counter(reason["reason"] for each in dropped for reason in each.row()["reasons"])
        reasons = ", ".join(f"{count} {reason}" for reason, count in counts.items())
        raise TextError(
            f"no utterance gives a target for {objective.kind}: {reasons or 'no data'}",
            remedy="loosen objective.filters" if struck else None,
        )
    return Survey(dropped, dict(struck))


def _truth(record: Record, tokenizer: Tokenizer) -> Targets | Dropped:
    utterance = record.utterance
    if not utterance.text:
        return Dropped(utterance.utterance_id, (_NO_REFERENCE,))
    try:
        return Targets(((*tokenizer.encode(utterance.text), tokenizer.eos_id),), (1.0,))
    except TextError:
        return Dropped(utterance.utterance_id, (_UNTOKENISABLE,))


class _Spelled(NamedTuple):
    """A hypothesis in the student's units."""

    hypothesis: Hypothesis
    token_ids: tuple[int, ...]


def _usable(
    record: PseudoLabelRecord, tokenizer: Tokenizer, objective: ObjectiveConfig
) -> tuple[list[_Spelled], tuple[Fault, ...]]:
    """The hypotheses that may be chosen, in the order of choice, and what struck the others."""
    needs_reference = objective.choice == "nearest_to_reference"
    reference = record.utterance.text
    usable: list[_Spelled] = []
    struck: list[Fault] = []
    for hypothesis, faults in judge(record, objective.filters):
        if needs_reference and not reference:
            faults = (*faults, _NO_REFERENCE)
        try:
            token_ids = (*tokenizer.encode(hypothesis.text), tokenizer.eos_id)
        except TextError:
            # The student's units cannot spell what the teacher said.
            faults = (*faults, _UNTOKENISABLE)
        if faults:
            struck.extend(faults)
        else:
            usable.append(_Spelled(hypothesis, token_ids))
    if needs_reference:
        # Stable: of equally near ones the teacher's better comes first.
        usable.sort(key=lambda each: word_error_rate(reference or "", each.hypothesis.text))
    return usable, tuple(struck)


def _weights(
    hypotheses: Sequence[Hypothesis], objective: ObjectiveConfig, utterance_id: str
) -> list[float]:
    count = len(hypotheses)
    if objective.weights == "uniform":
        return [1 / count] * count
    if objective.weights == "rank":
        total = sum(1 / rank for rank in range(1, count + 1))
        return [1 / rank / total for rank in range(1, count + 1)]
    log_probs = known_log_probs(hypotheses)
    if log_probs is None:
        raise RecordError(
            "its hypotheses have no log_prob, which posterior weights need",
            utterance_id=utterance_id,
            remedy="set training.objective.weights to uniform or rank",
        )
    return posterior(log_probs, objective.temperature)
