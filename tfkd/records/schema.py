"""The kinds of records, and the features of each kind's tf.train.Example.

`utterance` and `hypothesis` declare the fields, and `fields` how each is stored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tfkd.errors import advising
from tfkd.records import hypothesis, utterance
from tfkd.records.fields import refuse
from tfkd.records.hypothesis import (
    Hypothesis,
    hypotheses_faults,
    hypotheses_of,
    hypotheses_values,
)
from tfkd.records.tf_example import deserialise, serialise
from tfkd.records.utterance import UtteranceRecord, utterance_faults, utterance_of
from tfkd.storage.files import REDO

UTTERANCES = "utterances"
PSEUDO_LABELS = "pseudo_labels"
KINDS = (UTTERANCES, PSEUDO_LABELS)

# The type of list (bytes, int64 or float) of each feature, by name.
UTTERANCE_FEATURES: Mapping[str, str] = utterance.LAYOUT.features
PSEUDO_LABEL_FEATURES: Mapping[str, str] = {**UTTERANCE_FEATURES, **hypothesis.FEATURES}
# Features that only records with a value have.
LATER_FEATURES: Mapping[str, str] = {**utterance.LAYOUT.later_features, **hypothesis.LATER_FEATURES}


@dataclass(frozen=True)
class PseudoLabelRecord:
    """An utterance with the teacher's hypotheses, best first; at least one."""

    utterance: UtteranceRecord
    hypotheses: tuple[Hypothesis, ...]

    @property
    def utterance_id(self) -> str:
        """Id of the utterance."""
        return self.utterance.utterance_id

    @advising("leave the utterance out, or mend the teacher that labelled it")
    def to_example_bytes(self) -> bytes:
        """Serialises as a tf.train.Example; equal records give equal bytes.

        Raises:
          RecordError: if a value is out of range or not finite, or lengths disagree.
        """
        refuse(_pseudo_label_faults(self), self.utterance_id)
        values = utterance.LAYOUT.values([self.utterance]) | hypotheses_values(self.hypotheses)
        return serialise(values, {**PSEUDO_LABEL_FEATURES, **LATER_FEATURES})

    @classmethod
    @advising(REDO)
    def from_example_bytes(cls, data: bytes) -> PseudoLabelRecord:
        """Reads what `to_example_bytes` wrote; RecordError if it is anything else."""
        values = deserialise(data, PSEUDO_LABEL_FEATURES, LATER_FEATURES)
        of_utterance = utterance_of(values)
        hypotheses = hypotheses_of(values, of_utterance.utterance_id)
        record = cls(of_utterance, hypotheses)
        refuse(_pseudo_label_faults(record), record.utterance_id)
        return record


Record = UtteranceRecord | PseudoLabelRecord
RECORD_TYPES: Mapping[str, type[UtteranceRecord] | type[PseudoLabelRecord]] = {
    UTTERANCES: UtteranceRecord,
    PSEUDO_LABELS: PseudoLabelRecord,
}


def _pseudo_label_faults(record: PseudoLabelRecord) -> Iterator[str]:
    yield from utterance_faults(record.utterance)
    if not record.hypotheses:
        yield "it has no hypothesis"
    yield from hypotheses_faults(record.hypotheses)
