"""The interface of an objective, and the arrays that it makes of a record.

An objective defines which arrays a record becomes (`targets`), their names, shapes and padding in a
batch (`signature`), and what a training step minimises (`loss`). Batching, padding, replicas and
the training step use these three alone, so a new objective is one class. Beside the fields of the
signature, a batch holds `loss_factors` where stores have shares of the loss; a class with a `loss`
of its own multiplies the loss of each example by them.
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
# In trainings over several stores with shares: what the loss of each example counts.
LOSS_FACTORS = "loss_factors"
TOP_TOKEN_IDS, TOP_PROBS = "top_token_ids", "top_probs"
NO_REFERENCE = Fault("no_reference")
UNTOKENISABLE = Fault("untokenisable_text")


class Field(NamedTuple):
    """Describes one array of the targets.

    Attributes:
      dtype: name of a dtype of both numpy and TensorFlow.
      shape: of one utterance; a batch has a batch axis in front. The first axis is that of target
        sequences. None stands for the axis of tokens, which all fields of a batch pad to the same
        length.
      padding: the value of empty places.
      is_weight: whether an utterance with zeros in this field counts for nothing.
    """

    dtype: str
    shape: tuple[int | None, ...]
    padding: float
    is_weight: bool = False

    def fill(self, array: np.ndarray | None, num_tokens: int) -> np.ndarray:
        """Pads an array to this shape, with `num_tokens` tokens; None becomes padding alone."""
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
    """The targets of one utterance.

    Attributes:
      arrays: an array for each field of the signature, not yet padded to the batch.
      hypothesis_faults: the reasons against the hypotheses that are not learned.
    """

    arrays: Arrays
    hypothesis_faults: tuple[Fault, ...] = ()


@dataclass(frozen=True)
class Dropped:
    """An utterance that gives no target.

    Attributes:
      faults: all reasons against it, those against the best hypothesis first.
      hypothesis_faults: those of the reasons that are about hypotheses, not about the reference.
    """

    utterance_id: str
    faults: tuple[Fault, ...]
    hypothesis_faults: tuple[Fault, ...] = ()

    def row(self) -> dict[str, Any]:
        """Makes a line of dropped.jsonl: each reason once, with the best hypothesis' value."""
        first: dict[str, Fault] = {}
        for fault in self.faults:
            first.setdefault(fault.reason, fault)
        return {"utterance_id": self.utterance_id, "reasons": [asdict(f) for f in first.values()]}


@dataclass(frozen=True, kw_only=True)
class Objective(abc.ABC):
    """Turns records into weighted target sequences, and computes the loss over them.

    A subclass chooses the sequences and their weights. The loss is the same for all:
    `(1 - ctc_weight) * cross-entropy + ctc_weight * CTC` (Kim et al. 2017, arXiv:1609.06773, eq.
    9).

    Attributes:
      label_smoothing: share of each target that is spread evenly over the tokens (0 to below 1).
      ctc_weight: share of CTC in the loss (0 to 1); above 0 the model needs a CTC head.
      token_temperature: temperature of the posteriors of teacher and student in `word_kd`.
    """

    name: ClassVar[str]
    # The scalars that `loss` returns; `fit` shows their means.
    losses: ClassVar[tuple[str, ...]] = ("loss", "attention_loss", "ctc_loss")
    # Whether it learns from hypotheses, so from records of pseudo labels only.
    needs_hypotheses: ClassVar[bool] = True

    label_smoothing: float = 0.1
    ctc_weight: float = 0.3
    token_temperature: float = 1.0

    @property
    def reads_hypotheses(self) -> bool:
        """Whether what it learns, or from which audio, depends on a teacher's hypotheses."""
        return self.needs_hypotheses

    @property
    def needs_transcript(self) -> bool:
        """Whether an utterance without a transcript gives no target."""
        return not self.needs_hypotheses

    @property
    @abc.abstractmethod
    def signature(self) -> Signature:
        """The fields of a batch that the loss reads, by name."""

    @abc.abstractmethod
    def targets(self, record: Record, tokenizer: Tokenizer) -> Targets | Dropped:
        """Makes the targets of one record; the weights of its sequences sum to one.

        Raises:
          RecordError: if the record lacks what the objective needs, such as hypotheses.
        """

    @abc.abstractmethod
    def texts(self, record: Record) -> Iterable[str]:
        """Returns the texts of a record that train the tokenizer."""

    def tokenizer(self, store: Store) -> Tokenizer | None:
        """Returns the tokenizer that the student must use to learn from `store`; None: any will do.

        Raises:
          RecordError: if the objective needs the tokenizer of the labels and the store has none.
        """
        return None

    def loss(
        self, batch: Mapping[str, tf.Tensor], output: RecogniserOutput
    ) -> dict[str, tf.Tensor]:
        """Computes the loss of a batch, and its parts.

        In a training with several objectives, a batch may hold soft targets of another one; they
        are learned, too. With several replicas, each returns the contribution of its rows; the
        contributions add up to the loss of the global batch.

        Args:
          batch: the fields of `signature`, each with a batch axis in front; and loss_factors [B]
            float32, where stores have shares of the loss.
          output: the model's output for the batch, given the batch's `token_ids`.
        Returns:
          A float32 scalar for each of `losses`, in nats per token.
        Raises:
          ConfigError: if `ctc_weight` is above 0 and the model has no CTC head.
        """
        sequences, soft = (batch[TOKEN_IDS], batch[WEIGHTS]), None
        factors = batch.get(LOSS_FACTORS)
        if TOP_PROBS in batch:
            soft = SoftTargets(batch[TOP_TOKEN_IDS], batch[TOP_PROBS])
        attention = alignment = tf.zeros([])
        if output.logits is not None:
            attention = sequence_cross_entropy(
                output.logits,
                *sequences,
                self.label_smoothing,
                soft,
                self.token_temperature,
                factors,
            )
        if self.ctc_weight:
            if output.ctc_logits is None:
                raise ConfigError(
                    f"the objective has ctc_weight={self.ctc_weight:g}, but the model no CTC head",
                    remedy="set ctc_weight to 0, or ctc: true in the model's config",
                )
            alignment = ctc(output.ctc_logits, output.encoded_lengths, *sequences, factors)
        loss = (1 - self.ctc_weight) * attention + self.ctc_weight * alignment
        return {"loss": loss, "attention_loss": attention, "ctc_loss": alignment}


# Functions that objectives share.


def sequence_signature(num_places: int) -> Signature:
    """Describes the fields of K = `num_places` weighted sequences, some of which may be empty."""
    return {
        TOKEN_IDS: Field("int32", (num_places, None), PAD_ID),
        WEIGHTS: Field("float32", (num_places,), 0.0, is_weight=True),
    }


def sequence_arrays(
    sequences: Sequence[Sequence[int]], weights: Sequence[float], num_places: int
) -> Arrays:
    """Makes token_ids [K, U] and weights [K] of at most K sequences; the others weigh nothing."""
    token_ids = np.full((num_places, max(map(len, sequences))), PAD_ID, np.int32)
    for place, sequence in enumerate(sequences):
        token_ids[place, : len(sequence)] = sequence
    padded = np.zeros(num_places, np.float32)
    padded[: len(weights)] = weights
    return {TOKEN_IDS: token_ids, WEIGHTS: padded}


def spelled(text: str, tokenizer: Tokenizer) -> tuple[int, ...] | None:
    """Encodes a text, EOS included; returns None if the tokenizer cannot spell it."""
    try:
        return (*tokenizer.encode(text), tokenizer.eos_id)
    except TextError:
        return None


def most_tokens(signature: Signature, utterances: Iterable[Arrays]) -> int:
    """Computes the length of the axis of tokens that holds all arrays of these utterances."""
    return max(
        size
        for arrays in utterances
        for name, array in arrays.items()
        for size, expected in zip(array.shape, signature[name].shape, strict=True)
        if expected is None
    )


def widest(signatures: Sequence[Signature]) -> Signature:
    """Makes the signature of batches that mix rows of several objectives."""
    fields: dict[str, Field] = {}
    for signature in signatures:
        for name, field in signature.items():
            fields[name] = wider(fields.get(name, field), field)
    return fields


def wider(one: Field, other: Field) -> Field:
    """Makes the field that holds arrays of both; None stands for any size."""
    pairs = zip(one.shape, other.shape, strict=True)
    return one._replace(
        shape=tuple(None if a is None or b is None else max(a, b) for a, b in pairs)
    )
