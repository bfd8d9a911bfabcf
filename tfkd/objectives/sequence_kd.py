"""Learns the teacher's k best hypotheses: sequence-level distillation and interpolation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from tfkd.config import FilterConfig, ObjectiveConfig, from_dict
from tfkd.distillation.filters import Fault, judge, log_masses, posterior
from tfkd.errors import RecordError
from tfkd.metrics import word_error_rate
from tfkd.objectives.objective import (
    NO_REFERENCE,
    UNTOKENISABLE,
    Arrays,
    Dropped,
    Objective,
    Signature,
    Targets,
    sequence_arrays,
    sequence_signature,
    spelled,
)
from tfkd.records import Hypothesis, PseudoLabelRecord, Record
from tfkd.text import Tokenizer


class Chosen(NamedTuple):
    """A hypothesis that is learned from, in the student's units."""

    hypothesis: Hypothesis
    token_ids: tuple[int, ...]
    weight: float


@dataclass(frozen=True, kw_only=True)
class SequenceKD(Objective):
    """Learns the k best hypotheses of a teacher, each with a weight.

    The loss is the cross-entropy with the teacher's distribution over sequences, approximated by
    its k best: Kim and Rush 2016, eq. 8, with k = 1; Mun'im et al. 2019, eq. 8, with larger k.

    Attributes:
      num_hypotheses: k: how many of the hypotheses that `filters` keeps and the tokenizer can spell
        are learned.
      choice: which are taken: those of highest score ("best"), or those with the fewest word errors
        against the transcript ("nearest_to_reference").
      weights: of the chosen hypotheses, divided by their sum: "posterior" is the softmax of
        total / temperature (Mun'im et al. 2019, section 3; the total of the teacher's search holds
        CTC and language model), or of log_prob / temperature where labels have no total; "rank" is
        1 / rank, which needs neither, and "uniform" is 1.
      temperature: of the posterior; above 1 it makes the weights more equal.
      filters: limits that a hypothesis must meet; see `tfkd.distillation.filters`.

    >>> objective = tfkd.objectives.SequenceKD(num_hypotheses=4, weights="rank")
    >>> objective.signature["token_ids"].shape
    (4, None)

    Raises:
      ConfigError: if a value is out of its range.

    References:
      Kim and Rush 2016, "Sequence-level knowledge distillation", arXiv:1606.07947.
      Mun'im, Inoue and Shinoda 2019, "Sequence-level knowledge distillation for model compression
      of attention-based sequence-to-sequence speech recognition", arXiv:1811.04531.
    """

    name = "seq_kd"
    num_hypotheses: int = 1
    choice: Literal["best", "nearest_to_reference"] = "best"
    weights: Literal["uniform", "posterior", "rank"] = "posterior"
    temperature: float = 1.0
    filters: FilterConfig = field(default_factory=FilterConfig)

    def __post_init__(self) -> None:
        # ObjectiveConfig holds the bounds of these settings; building one checks them.
        names = ("num_hypotheses", "choice", "weights", "temperature")
        settings = {name: getattr(self, name) for name in names}
        from_dict(ObjectiveConfig, settings, at=type(self).__name__)

    @property
    def signature(self) -> Signature:
        return sequence_signature(self.num_hypotheses)

    @property
    def needs_transcript(self) -> bool:
        return self.choice == "nearest_to_reference"

    def targets(self, record: Record, tokenizer: Tokenizer) -> Targets | Dropped:
        chosen, faults = self.chosen(record, tokenizer)
        if not chosen:
            return Dropped(record.utterance_id, faults, faults)
        return Targets(self._arrays(chosen), faults)

    def texts(self, record: Record) -> Iterable[str]:
        if not isinstance(record, PseudoLabelRecord):
            return []
        return [hypothesis.text for hypothesis in record.hypotheses]

    def _arrays(self, chosen: Sequence[Chosen]) -> Arrays:
        sequences, weights = [c.token_ids for c in chosen], [c.weight for c in chosen]
        return sequence_arrays(sequences, weights, self.num_hypotheses)

    def chosen(
        self, record: Record, tokenizer: Tokenizer
    ) -> tuple[list[Chosen], tuple[Fault, ...]]:
        """Returns the hypotheses to learn, heaviest first, and the reasons against the others.

        Raises:
          RecordError: if the record holds no hypotheses, or they have no log_prob and `weights` is
            "posterior".
        """
        if not isinstance(record, PseudoLabelRecord):
            raise RecordError(
                "holds no hypotheses",
                utterance_id=record.utterance_id,
                remedy="run tfkd label first",
            )
        usable, faults = self._usable(record, tokenizer)
        first = usable[: self.num_hypotheses]
        if not first:
            return [], faults
        weights = self._weights([hypothesis for hypothesis, _ in first], record.utterance_id)
        chosen = [Chosen(*each, weight) for each, weight in zip(first, weights, strict=True)]
        return sorted(chosen, key=lambda each: -each.weight), faults

    def _usable(
        self, record: PseudoLabelRecord, tokenizer: Tokenizer
    ) -> tuple[list[tuple[Hypothesis, tuple[int, ...]]], tuple[Fault, ...]]:
        """The hypotheses without faults, in the order of `choice`, and the faults of the others."""
        reference = record.utterance.text
        usable: list[tuple[Hypothesis, tuple[int, ...]]] = []
        of_others: list[Fault] = []
        for hypothesis, faults in judge(record, self.filters):
            if self.needs_transcript and reference is None:
                faults = (*faults, NO_REFERENCE)
            token_ids = self._token_ids(hypothesis, tokenizer)
            if token_ids is None:
                faults = (*faults, UNTOKENISABLE)
            if faults or token_ids is None:
                of_others.extend(faults)
            else:
                usable.append((hypothesis, token_ids))
        if self.needs_transcript:
            # The sort is stable: among equal error rates the teacher's order holds.
            usable.sort(key=lambda each: word_error_rate(reference or "", each[0].text))
        return usable, tuple(of_others)

    def _token_ids(self, hypothesis: Hypothesis, tokenizer: Tokenizer) -> tuple[int, ...] | None:
        """The target sequence; the student may have other units than its teacher."""
        return spelled(hypothesis.text, tokenizer)

    def _weights(self, hypotheses: Sequence[Hypothesis], utterance_id: str) -> list[float]:
        count = len(hypotheses)
        # A single hypothesis has all the weight, whether its log_prob is known or not.
        if self.weights == "uniform" or count == 1:
            return [1 / count] * count
        if self.weights == "rank":
            total = sum(1 / rank for rank in range(1, count + 1))
            return [1 / rank / total for rank in range(1, count + 1)]
        logs = log_masses(hypotheses)
        if logs is None:
            raise RecordError(
                "its hypotheses have no log_prob, which posterior weights need",
                utterance_id=utterance_id,
                remedy="set training.objective.weights to uniform or rank",
            )
        return posterior(logs, self.temperature)


@dataclass(frozen=True, kw_only=True)
class SequenceInterpolation(SequenceKD):
    """Learns the teacher's hypotheses that have the fewest word errors against the transcript.

    With one hypothesis this is the approximation of sequence-level interpolation by Kim and Rush
    2016, eq. 9, with word errors in place of BLEU. Utterances without a transcript are dropped.

    >>> tfkd.objectives.SequenceInterpolation().choice
    'nearest_to_reference'

    References:
      Kim and Rush 2016, "Sequence-level knowledge distillation", arXiv:1606.07947, section 3.3.
    """

    name = "seq_inter"
    choice: Literal["best", "nearest_to_reference"] = "nearest_to_reference"
