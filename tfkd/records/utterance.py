"""The record of an utterance: its audio, id, speaker and reference transcript."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from tfkd.errors import RecordError, advising
from tfkd.records import fields
from tfkd.records.fields import INT64_MAX, Layout, encoding_faults, refuse
from tfkd.records.tf_example import Values, deserialise, serialise
from tfkd.storage.files import REDO

_FLAC_HEADER_BYTES = 42  # marker 4, block header 4, STREAMINFO 34


@dataclass(frozen=True)
class UtteranceRecord:
    """One utterance as a shard holds it.

    Attributes:
      utterance_id: unique in its store.
      audio: 16-bit mono FLAC of `num_samples` samples at `sample_rate_hz`.
      num_samples: samples of the audio.
      sample_rate_hz: rate of the audio.
      text: reference transcript; None if there is none.
      speaker: who speaks; None if that is not known.
    """

    utterance_id: str = field(metadata=fields.TEXT)
    audio: bytes = field(metadata=fields.BYTES)
    num_samples: int = field(metadata=fields.INTEGER)
    sample_rate_hz: int = field(metadata=fields.INTEGER)
    text: str | None = field(default=None, metadata=fields.TEXT)
    speaker: str | None = field(default=None, metadata=fields.TEXT)

    @property
    def utterance(self) -> UtteranceRecord:
        """The record itself: records of labels have an `utterance`, too."""
        return self

    @advising("leave the utterance out, or mend the program that made its record")
    def to_example_bytes(self) -> bytes:
        """Serialises as a tf.train.Example; equal records give equal bytes.

        Raises:
          RecordError: if a value is out of range or contradicts the header of the FLAC.
        """
        refuse(utterance_faults(self), self.utterance_id)
        return serialise(LAYOUT.values([self]), LAYOUT.features | LAYOUT.later_features)

    @classmethod
    @advising(REDO)
    def from_example_bytes(cls, data: bytes) -> UtteranceRecord:
        """Reads what `to_example_bytes` wrote.

        Raises:
          RecordError: if the bytes are anything else.
        """
        return utterance_of(deserialise(data, LAYOUT.features, LAYOUT.later_features))


# Names of the features.
UTTERANCE_ID = "utterance_id"
AUDIO = "audio"
NUM_SAMPLES = "num_samples"
SAMPLE_RATE_HZ = "sample_rate_hz"
TEXT = "text"
SPEAKER = "speaker"

LAYOUT = Layout(UtteranceRecord)
# These hold exactly one value; every other feature is a list, empty where nothing is known.
SINGLE_VALUES = LAYOUT.features.keys() - set(LAYOUT.optional)


def utterance_of(values: Values) -> UtteranceRecord:
    """Makes the utterance of a record's lists of values.

    Raises:
      RecordError: if a value is missing, out of range or contradicts the header of the FLAC.
    """
    # The one owner of these fields is the utterance, which has no tokens.
    for fault in LAYOUT.length_faults(values, [0]):
        raise RecordError(fault)
    (record,) = LAYOUT.records(values, [0])
    refuse(utterance_faults(record), record.utterance_id)
    return record


def utterance_faults(record: UtteranceRecord) -> Iterator[str]:
    """Yields the faults that keep an utterance from being written."""
    if not record.utterance_id:
        yield "its id is empty"
    for name in (UTTERANCE_ID, TEXT, SPEAKER):
        yield from encoding_faults(getattr(record, name), name)
    for name in (NUM_SAMPLES, SAMPLE_RATE_HZ):
        if not 0 < getattr(record, name) <= INT64_MAX:
            yield f"{name} is {getattr(record, name)}, not a positive 64-bit number"
    yield from _flac_faults(record)


def _flac_faults(record: UtteranceRecord) -> Iterator[str]:
    """Compares the record with its FLAC header, so that no reader meets another length or rate."""
    audio = record.audio
    if len(audio) < _FLAC_HEADER_BYTES or audio[:4] != b"fLaC" or audio[4] & 0x7F:
        yield "its audio is not FLAC"
        return
    # STREAMINFO: 20 bits rate, 3 bits channels - 1, 5 bits width - 1, 36 bits samples.
    packed = int.from_bytes(audio[18:26], "big")
    found = {
        "sample rate in Hz": packed >> 44,
        "number of channels": (packed >> 41 & 0x7) + 1,
        "bits a sample": (packed >> 36 & 0x1F) + 1,
        "number of samples": packed & 0xFFFFFFFFF,
    }
    expected = (record.sample_rate_hz, 1, 16, record.num_samples)
    for (name, value), wanted in zip(found.items(), expected, strict=True):
        if value != wanted:
            yield f"the {name} of its FLAC is {value}, not {wanted}"
