"""The interface of an objective, and the arrays that it makes of a record.

An objective says three things: which arrays it makes of a record (`targets`), how batches pad them
(`signature`), and what a training step minimises (`loss`). Batches, padding, replicas and the step
read the signature, so a new objective is one class.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import tensorflow as tf

from tfkd.distillation.filters import Fault
from tfkd.errors import ConfigError, TextError
from tfkd.objectives.losses import SoftTargets, ctc, sequence_cross_entropy
from tfkd.records import Record, Store
from tfkd.text import PAD_ID, Tokenizer

if TYPE_CHECKING:
    from tfkd.models.recogniser import RecogniserOutput

TOKEN_IDS, WEIGHTS = "token_ids", "weights"
TOP_TOKEN_IDS, TOP_PROBS = "top_token_ids", "top_probs"
NO_REFERENCE = Fault("no_reference")
UNTOKENISABLE = Fault("untokenisable_text")


class Field(NamedTuple):
    """One array of the targets of an utterance, and of a batch, where a batch axis comes first.

    Attributes:
      dtype: a name that numpy and TensorFlow know.
      shape: of one utterance. The first axis is that of target sequences; None stands for the axis
        of tokens, which a batch pads to the longest in any of its fields.
      padding: the value that fills what an utterance leaves empty.
      is_weight: whether zeros in this field make an utterance count for nothing.
    """

    dtype: str
    shape: tuple[int | None, ...]
    padding: float
    is_weight: bool = False

    def fill(self, array: np.ndarray | None, num_tokens: int) -> np.ndarray:
        """The array of an utterance, or of nothing, in this shape with `num_tokens` tokens."""
        shape = tuple(num_tokens if size is None else size for size in self.shape)
        if array is not None and array.shape == shape:
            return array
        filled = np.full(shape, self.padding, self.dtype)
        if array is not None:
            filled[tuple(map(slice, array.shape))] = array
        return filled


Signature = Mapping[str, Field]
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Targets:
    """What one utterance is learned from.

    Attributes:
      arrays: an array for each field of the signature; no longer than this utterance needs.
      struck: what spoke against the hypotheses that were left out.
    """

    arrays: Arrays
    struck: tuple[Fault, ...] = ()


@dataclass(frozen=True)
class Dropped:
    """An utterance that gives no target.

    Attributes:
      faults: all that spoke against it, the best hypothesis first.
      struck: those of the faults that are of hypotheses, not of the reference.
    """

    utterance_id: str
    faults: tuple[Fault, ...]
    struck: tuple[Fault, ...] = ()

    def row(self) -> dict[str, Any]:
        """A line of dropped.jsonl: each reason once, with the value of the best it struck."""
        first: dict[str, Fault] = {}
        for fault in self.faults:
            first.setdefault(fault.reason, fault)
        return {"utterance_id": self.utterance_id, "reasons": [asdict(f) for f in first.values()]}


@dataclass(frozen=True, kw_only=True)
class Objective(abc.ABC):
    """What a recogniser learns from a record.

    A subclass says which weighted sequences a record gives. The loss over them is the same for all:
    `(1 - ctc_weight) * cross-entropy + ctc_weight * CTC`, Kim et al. 2017, arXiv:1609.06773, eq. 9.

    Attributes:
      label_smoothing: share of each target that is spread evenly over the tokens (0 to below 1).
      ctc_weight: share of CTC in the loss (0 to 1); above 0 the model needs a CTC head.
      token_temperature: evens out the posteriors that `word_kd` learns, on both sides.
      for_xla: whether CTC takes operations that XLA can compile; TensorFlow's own are faster.
    """

    name: ClassVar[str]
    # The scalars that `loss` gives, whose means `fit` shows.
    losses: ClassVar[tuple[str, ...]] = ("loss", "attention_loss", "ctc_loss")
    # Whether records without hypotheses, which no teacher has labelled, are of no use.
    needs_hypotheses: ClassVar[bool] = True

    label_smoothing: float = 0.1
    ctc_weight: float = 0.3
    token_temperature: float = 1.0
    for_xla: bool = False

    @property
    @abc.abstractmethod
    def signature(self) -> Signature:
        """The arrays of a batch that the loss reads, by name."""

    @abc.abstractmethod
    def targets(self, record: Record, tokenizer: Tokenizer) -> Targets | Dropped:
        """Chooses and weighs what is learned from one record; the weights sum to one.

        Raises:
          RecordError: if the record cannot hold what the objective needs, such as hypotheses.
        """

    @abc.abstractmethod
    def texts(self, record: Record) -> Iterable[str]:
        """The texts of a record from which a tokenizer is trained."""

    def tokenizer(self, store: Store) -> Tokenizer | None:
        """The units that the objective dictates where it learns from `store`; None: any will do.

        Raises:
          RecordError: if it dictates units and the store does not say which.
        """
        return None

    def loss(
        self, batch: Mapping[str, tf.Tensor], output: RecogniserOutput
    ) -> dict[str, tf.Tensor]:
        """The loss of a batch, and its parts.

        A batch whose rows are of several objectives may hold soft targets that this one does not
        know of; they are learned all the same.

        Inside a step of several replicas each gives the share of its rows: they add up to the loss
        of the global batch.

        Args:
          batch: the fields of `signature`, each with a batch axis in front.
          output: what the model makes of the batch, whose `token_ids` it was fed.
        Returns:
          A float32 scalar for each of `losses`.
        Raises:
          ConfigError: if CTC is to be learned and the model has no CTC head.
        """
        sequences, soft = (batch[TOKEN_IDS], batch[WEIGHTS]), None
        if TOP_PROBS in batch:
            soft = SoftTargets(batch[TOP_TOKEN_IDS], batch[TOP_PROBS])
        attention = alignment = tf.zeros([])
        if output.logits is not None:
            attention = sequence_cross_entropy(
                output.logits, *sequences, self.label_smoothing, soft, self.token_temperature
            )
        if self.ctc_weight:
            if output.ctc_logits is None:
                raise ConfigError(
                    f"the objective has ctc_weight={self.ctc_weight:g}, but the model no CTC head",
                    remedy="set ctc_weight to 0, or ctc: true in the model's config",
                )
            alignment = ctc(
                output.ctc_logits, output.encoded_lengths, *sequences, for_xla=self.for_xla
            )
        loss = (1 - self.ctc_weight) * attention + self.ctc_weight * alignment
        return {"loss": loss, "attention_loss": attention, "ctc_loss": alignment}


# What objectives share.


def sequence_signature(num_places: int) -> Signature:
    """The fields of K = `num_places` weighted sequences, of which some may stay empty."""
    return {
        TOKEN_IDS: Field("int32", (num_places, None), PAD_ID),
        WEIGHTS: Field("float32", (num_places,), 0.0, is_weight=True),
    }


def sequence_arrays(
    sequences: Sequence[Sequence[int]], weights: Sequence[float], num_places: int
) -> Arrays:
    """token_ids [K, U] and weights [K] of at most K sequences; empty places weigh nothing."""
    token_ids = np.full((num_places, max(map(len, sequences))), PAD_ID, np.int32)
    for place, sequence in enumerate(sequences):
        token_ids[place, : len(sequence)] = sequence
    padded = np.zeros(num_places, np.float32)
    padded[: len(weights)] = weights
    return {TOKEN_IDS: token_ids, WEIGHTS: padded}


def spelled(text: str, tokenizer: Tokenizer) -> tuple[int, ...] | None:
    """The ids of a text, EOS included; None if the tokenizer cannot spell it."""
    try:
        return (*tokenizer.encode(text), tokenizer.eos_id)
    except TextError:
        return None


def most_tokens(signature: Signature, utterances: Iterable[Arrays]) -> int:
    """Size of the axis of tokens that holds every array of some utterances."""
    return max(
        size
        for arrays in utterances
        for name, array in arrays.items()
        for size, expected in zip(array.shape, signature[name].shape)
        if expected is None
    )


def widest(signatures: Sequence[Signature]) -> Signature:
    """The signature of batches whose rows come from several objectives."""
    fields: dict[str, Field] = {}
    for signature in signatures:
        for name, field in signature.items():
            fields[name] = _wider(fields.get(name, field), field)
    return fields


def _wider(one: Field, other: Field) -> Field:
    sizes = [None if None in pair else max(pair) for pair in zip(one.shape, other.shape)]  # type: ignore[type-var]
    return one._replace(shape=tuple(sizes))
