"""The one tf.train.Example layout of each kind of shard, checked when written and when read."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from tfkd.errors import RecordError
from tfkd.records.tf_example import Values, deserialise, serialise

UTTERANCES = "utterances"
PSEUDO_LABELS = "pseudo_labels"
KINDS = (UTTERANCES, PSEUDO_LABELS)

UTTERANCE_ID = "utterance_id"
AUDIO = "audio"
NUM_SAMPLES = "num_samples"
SAMPLE_RATE_HZ = "sample_rate_hz"
TEXT = "text"
SPEAKER = "speaker"
HYPOTHESES_TEXT = "hypotheses/text"
HYPOTHESES_TOKEN_IDS = "hypotheses/token_ids"
HYPOTHESES_NUM_TOKENS = "hypotheses/num_tokens"
HYPOTHESES_LOG_PROB = "hypotheses/log_prob"
HYPOTHESES_SCORE = "hypotheses/score"
HYPOTHESES_TOKEN_LOG_PROBS = "hypotheses/token_log_probs"
HYPOTHESES_TOKEN_SECONDS = "hypotheses/token_seconds"
HYPOTHESES_FINISH_REASON = "hypotheses/finish_reason"
HYPOTHESES_COVERAGE = "hypotheses/coverage"
HYPOTHESES_WRITTEN = "hypotheses/written"
HYPOTHESES_TOP_TOKEN_IDS = "hypotheses/top_token_ids"
HYPOTHESES_TOP_LOG_PROBS = "hypotheses/top_log_probs"

# Name of each feature -> which list of tf.train.Feature holds it.
UTTERANCE_FEATURES: Mapping[str, str] = {
    UTTERANCE_ID: "bytes",
    AUDIO: "bytes",
    NUM_SAMPLES: "int64",
    SAMPLE_RATE_HZ: "int64",
    TEXT: "bytes",
    SPEAKER: "bytes",
}
PSEUDO_LABEL_FEATURES: Mapping[str, str] = {
    **UTTERANCE_FEATURES,
    HYPOTHESES_TEXT: "bytes",
    HYPOTHESES_TOKEN_IDS: "int64",
    HYPOTHESES_NUM_TOKENS: "int64",
    HYPOTHESES_LOG_PROB: "float",
    HYPOTHESES_SCORE: "float",
    HYPOTHESES_TOKEN_LOG_PROBS: "float",
    HYPOTHESES_TOKEN_SECONDS: "float",
    HYPOTHESES_FINISH_REASON: "bytes",
    HYPOTHESES_COVERAGE: "float",
}
# Only records that know posteriors have these features, so that all others keep their bytes. One
# value a hypothesis: [num_tokens, M] little-endian uint16 and float16.
POSTERIOR_FEATURES: Mapping[str, str] = {
    HYPOTHESES_TOP_TOKEN_IDS: "bytes",
    HYPOTHESES_TOP_LOG_PROBS: "bytes",
}
# Likewise for records whose teacher writes otherwise than labels are stored.
WRITTEN_FEATURES: Mapping[str, str] = {HYPOTHESES_WRITTEN: "bytes"}
# These hold exactly one value; every other feature is a list, empty where nothing is known.
SINGLE_VALUES = frozenset({UTTERANCE_ID, AUDIO, NUM_SAMPLES, SAMPLE_RATE_HZ})
FINISH_REASONS = ("eos", "max_steps")
# Other recognisers may leave these unknown.
OPTIONAL_VALUES = (
    *("token_ids", "log_prob", "score", "token_log_probs", "token_seconds"),
    *("finish_reason", "coverage", "written", "top_token_ids", "top_log_probs"),
)

_BY_HYPOTHESIS = (*POSTERIOR_FEATURES, *WRITTEN_FEATURES)

_FLOAT32_MAX = 3.4028234663852886e38
_INT64_MAX = 2**63 - 1
# Sums of logarithms that others rounded may exceed zero by this much.
_ROUNDING = 1e-3
_NO_LOG_PROB = "but the natural logarithm of a probability is at most 0: a cost has the other sign"
_UINT16_MAX, _FLOAT16_MAX = 2**16 - 1, 65504.0
_FLAC_HEADER_BYTES = 42  # marker 4, block header 4, STREAMINFO 34

# Field of a hypothesis, its feature, and the code of `struct` for its numbers.
_POSTERIORS = (
    ("top_token_ids", HYPOTHESES_TOP_TOKEN_IDS, "H"),
    ("top_log_probs", HYPOTHESES_TOP_LOG_PROBS, "e"),
)

Item = TypeVar("Item")


@dataclass(frozen=True)
class UtteranceRecord:
    """One utterance as it lies in a shard.

    Attributes:
      audio: 16-bit mono FLAC of `num_samples` samples at `sample_rate_hz`.
      text: reference transcript, or None where there is none.
    """

    utterance_id: str
    audio: bytes
    num_samples: int
    sample_rate_hz: int
    text: str | None = None
    speaker: str | None = None

    @property
    def utterance(self) -> UtteranceRecord:
        """Itself, so that readers of either kind of record ask for `record.utterance`."""
        return self

    def to_example_bytes(self) -> bytes:
        """Serialises as a tf.train.Example; equal records give equal bytes.

        Raises:
          RecordError: if a value is out of range or contradicts the header of the FLAC.
        """
        _refuse(_utterance_faults(self), self.utterance_id)
        return serialise(_utterance_values(self), UTTERANCE_FEATURES)

    @classmethod
    def from_example_bytes(cls, data: bytes) -> UtteranceRecord:
        """Reads what `to_example_bytes` wrote; RecordError if it is anything else."""
        return _utterance_of(deserialise(data, UTTERANCE_FEATURES))


@dataclass(frozen=True)
class Hypothesis:
    """One sequence that the teacher proposes. Floats are stored as float32.

    All but the text may be unknown, for the hypotheses of another recogniser: None, or an empty
    tuple. What is known of one hypothesis of an utterance must be known of all.

    Attributes:
      token_ids: [num_tokens], the EOS included where `finish_reason` is "eos".
      log_prob: natural-log probability of the whole sequence, EOS included.
      score: value that ranked it (length-normalised, with further terms).
      token_log_probs: [num_tokens] natural logs.
      token_seconds: [num_tokens] where in the audio attention looked most for each token.
      finish_reason: "eos" or "max_steps".
      coverage: share of the encoder's frames that attention looked at.
      written: the text as the teacher wrote it, where that was brought into the form of labels.
      top_token_ids: [num_tokens][M] the M most probable tokens of each step.
      top_log_probs: [num_tokens][M] their natural logs, stored as float16.
    """

    text: str
    token_ids: tuple[int, ...] = ()
    log_prob: float | None = None
    score: float | None = None
    token_log_probs: tuple[float, ...] = ()
    token_seconds: tuple[float, ...] = ()
    finish_reason: str | None = None
    coverage: float | None = None
    written: str | None = None
    top_token_ids: tuple[tuple[int, ...], ...] = ()
    top_log_probs: tuple[tuple[float, ...], ...] = ()

    @property
    def num_tokens(self) -> int:
        """Length of the sequence, EOS included; 0 where the tokens are unknown."""
        return len(self.token_ids)


@dataclass(frozen=True)
class PseudoLabelRecord:
    """An utterance with the teacher's hypotheses, best first; at least one."""

    utterance: UtteranceRecord
    hypotheses: tuple[Hypothesis, ...]

    @property
    def utterance_id(self) -> str:
        """Id of the utterance."""
        return self.utterance.utterance_id

    def to_example_bytes(self) -> bytes:
        """Serialises as a tf.train.Example; equal records give equal bytes.

        Raises:
          RecordError: if a value is out of range, not finite, or lengths disagree.
        """
        _refuse(_pseudo_label_faults(self), self.utterance_id)
        values = _utterance_values(self.utterance) | _hypotheses_values(self)
        features = {**PSEUDO_LABEL_FEATURES}
        if any(each.top_token_ids for each in self.hypotheses):
            values |= _posterior_values(self)
            features |= POSTERIOR_FEATURES
        if any(each.written is not None for each in self.hypotheses):
            values[HYPOTHESES_WRITTEN] = [(each.written or "").encode() for each in self.hypotheses]
            features |= WRITTEN_FEATURES
        return serialise(values, features)

    @classmethod
    def from_example_bytes(cls, data: bytes) -> PseudoLabelRecord:
        """Reads what `to_example_bytes` wrote; RecordError if it is anything else."""
        values = deserialise(data, PSEUDO_LABEL_FEATURES, POSTERIOR_FEATURES, WRITTEN_FEATURES)
        utterance = _utterance_of(values)
        record = cls(utterance, tuple(_hypotheses_of(values, utterance.utterance_id)))
        _refuse(_pseudo_label_faults(record), record.utterance_id)
        return record


Record = UtteranceRecord | PseudoLabelRecord
RECORD_TYPES: Mapping[str, type[UtteranceRecord] | type[PseudoLabelRecord]] = {
    UTTERANCES: UtteranceRecord,
    PSEUDO_LABELS: PseudoLabelRecord,
}


# Record -> lists of values, and back.


def _utterance_values(record: UtteranceRecord) -> Values:
    optional = {TEXT: record.text, SPEAKER: record.speaker}
    return {
        UTTERANCE_ID: [record.utterance_id.encode()],
        AUDIO: [record.audio],
        NUM_SAMPLES: [int(record.num_samples)],
        SAMPLE_RATE_HZ: [int(record.sample_rate_hz)],
        **{name: [] if text is None else [text.encode()] for name, text in optional.items()},
    }


def _utterance_of(values: Values) -> UtteranceRecord:
    utterance_id = _decode(_only(values, UTTERANCE_ID), UTTERANCE_ID)
    record = UtteranceRecord(
        utterance_id=utterance_id,
        audio=_only(values, AUDIO),
        num_samples=_only(values, NUM_SAMPLES),
        sample_rate_hz=_only(values, SAMPLE_RATE_HZ),
        text=_optional_text(values, TEXT),
        speaker=_optional_text(values, SPEAKER),
    )
    _refuse(_utterance_faults(record), utterance_id)
    return record


def _hypotheses_values(record: PseudoLabelRecord) -> Values:
    hypotheses = record.hypotheses

    def known(name: str) -> list[Any]:
        return [value for each in hypotheses if (value := getattr(each, name)) is not None]

    def flat(name: str) -> Iterator[Any]:
        return itertools.chain.from_iterable(getattr(each, name) for each in hypotheses)

    return {
        HYPOTHESES_TEXT: [each.text.encode() for each in hypotheses],
        HYPOTHESES_TOKEN_IDS: list(map(int, flat("token_ids"))),
        HYPOTHESES_NUM_TOKENS: [each.num_tokens for each in hypotheses],
        HYPOTHESES_LOG_PROB: list(map(float, known("log_prob"))),
        HYPOTHESES_SCORE: list(map(float, known("score"))),
        HYPOTHESES_TOKEN_LOG_PROBS: list(map(float, flat("token_log_probs"))),
        HYPOTHESES_TOKEN_SECONDS: list(map(float, flat("token_seconds"))),
        HYPOTHESES_FINISH_REASON: list(map(str.encode, known("finish_reason"))),
        HYPOTHESES_COVERAGE: list(map(float, known("coverage"))),
    }


def _posterior_values(record: PseudoLabelRecord) -> Values:
    return {
        HYPOTHESES_TOP_TOKEN_IDS: [_packed(each.top_token_ids, "H") for each in record.hypotheses],
        HYPOTHESES_TOP_LOG_PROBS: [_packed(each.top_log_probs, "e") for each in record.hypotheses],
    }


def _packed(rows: Sequence[Sequence[Any]], code: str) -> bytes:
    """Rows of numbers as two bytes each, little-endian; `code` is that of `struct`."""
    flat = list(itertools.chain.from_iterable(rows))
    return struct.pack(f"<{len(flat)}{code}", *flat)


def _unpacked(data: bytes, num_rows: int, code: str) -> tuple[tuple[Any, ...], ...]:
    width = len(data) // 2 // max(num_rows, 1)
    if len(data) != 2 * width * num_rows:
        raise RecordError(f"{len(data)} bytes of posteriors do not fit {num_rows} tokens")
    flat = struct.unpack(f"<{width * num_rows}{code}", data)
    return tuple(_split(flat, [width] * num_rows))


def _hypotheses_of(values: Values, utterance_id: str) -> Iterator[Hypothesis]:
    _refuse(_length_faults(values), utterance_id)
    num_tokens = values[HYPOTHESES_NUM_TOKENS]
    unknown = [None] * len(num_tokens)
    reasons = [
        _decode(reason, HYPOTHESES_FINISH_REASON) for reason in values[HYPOTHESES_FINISH_REASON]
    ]
    columns: dict[str, Sequence[Any]] = {
        "text": [_decode(text, HYPOTHESES_TEXT) for text in values[HYPOTHESES_TEXT]],
        "token_ids": _split(values[HYPOTHESES_TOKEN_IDS], num_tokens),
        "log_prob": values[HYPOTHESES_LOG_PROB] or unknown,
        "score": values[HYPOTHESES_SCORE] or unknown,
        "token_log_probs": _split(values[HYPOTHESES_TOKEN_LOG_PROBS], num_tokens),
        "token_seconds": _split(values[HYPOTHESES_TOKEN_SECONDS], num_tokens),
        "finish_reason": reasons or unknown,
        "coverage": values[HYPOTHESES_COVERAGE] or unknown,
    }
    if written := values.get(HYPOTHESES_WRITTEN):
        columns["written"] = [_decode(text, HYPOTHESES_WRITTEN) for text in written]
    for name, feature, code in _POSTERIORS:
        if stored := values.get(feature):
            columns[name] = [_unpacked(data, n, code) for data, n in zip(stored, num_tokens)]
    for row in zip(*columns.values()):
        yield Hypothesis(**dict(zip(columns, row)))


def _split(flat: Sequence[Item], lengths: Iterable[int]) -> list[tuple[Item, ...]]:
    parts, start = [], 0
    for length in lengths:
        parts.append(tuple(flat[start : start + length]))
        start += length
    return parts


def _only(values: Values, name: str) -> Any:
    if len(values[name]) != 1:
        raise RecordError(f"feature {name} holds {len(values[name])} values, not one")
    return values[name][0]


def _optional_text(values: Values, name: str) -> str | None:
    return _decode(_only(values, name), name) if values[name] else None


def _decode(raw: bytes, name: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise RecordError(f"feature {name} is not UTF-8") from error


# Checks: each yields the faults of a record, and the first is raised.


def _refuse(faults: Iterator[str], utterance_id: str) -> None:
    fault = next(faults, None)
    if fault is not None:
        # An id that cannot be encoded could not be printed either.
        raise RecordError(fault, utterance_id=utterance_id.encode(errors="replace").decode())


def _utterance_faults(record: UtteranceRecord) -> Iterator[str]:
    if not record.utterance_id:
        yield "its id is empty"
    for name in (UTTERANCE_ID, TEXT, SPEAKER):
        yield from _encoding_faults(getattr(record, name) or "", name)
    for name in (NUM_SAMPLES, SAMPLE_RATE_HZ):
        if not 0 < getattr(record, name) <= _INT64_MAX:
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
    for (name, value), wanted in zip(found.items(), expected):
        if value != wanted:
            yield f"the {name} of its FLAC is {value}, not {wanted}"


def _pseudo_label_faults(record: PseudoLabelRecord) -> Iterator[str]:
    yield from _utterance_faults(record.utterance)
    if not record.hypotheses:
        yield "it has no hypothesis"
    yield from hypotheses_faults(record.hypotheses)


def hypotheses_faults(hypotheses: Sequence[Hypothesis]) -> Iterator[str]:
    """Yields the faults that keep the hypotheses of an utterance from being written."""
    for rank, hypothesis in enumerate(hypotheses):
        for fault in _hypothesis_faults(hypothesis):
            yield f"hypothesis {rank}: {fault}"
    for name in OPTIONAL_VALUES:
        unknown = sum(_is_unknown(getattr(each, name)) for each in hypotheses)
        if 0 < unknown < len(hypotheses):
            yield f"{name} is missing in {unknown} of {len(hypotheses)} hypotheses"


def _is_unknown(value: Any) -> bool:
    return value is None or (isinstance(value, tuple) and not value)


def _hypothesis_faults(hypothesis: Hypothesis) -> Iterator[str]:
    yield from _encoding_faults(hypothesis.text, "text")
    yield from _encoding_faults(hypothesis.written or "", "written")
    for name in ("token_log_probs", "token_seconds"):
        found = len(getattr(hypothesis, name))
        if found not in (0, len(hypothesis.token_ids)):
            yield f"{len(hypothesis.token_ids)} token_ids but {found} {name}"
    ids = hypothesis.token_ids or (0,)
    if not (min(ids) >= 0 and max(ids) <= _INT64_MAX):
        yield "a token id is negative or too large"
    yield from _posterior_faults(hypothesis)
    if hypothesis.finish_reason not in (None, *FINISH_REASONS):
        yield f"finish_reason is {hypothesis.finish_reason!r}, not {' or '.join(FINISH_REASONS)}"
    yield from _float_faults(hypothesis)


def _posterior_faults(hypothesis: Hypothesis) -> Iterator[str]:
    ids, log_probs = hypothesis.top_token_ids, hypothesis.top_log_probs
    if not ids and not log_probs:
        return
    widths = {len(row) for row in (*ids, *log_probs)}
    if {len(ids), len(log_probs)} != {len(hypothesis.token_ids)} or len(widths) != 1:
        yield "top_token_ids and top_log_probs are not M numbers for each of its tokens"
    if any(not 0 <= token <= _UINT16_MAX for row in ids for token in row):
        yield f"one of top_token_ids is not between 0 and {_UINT16_MAX}"
    if any(not -_FLOAT16_MAX <= value <= 0 for row in log_probs for value in row):
        yield f"one of top_log_probs is not between -{_FLOAT16_MAX:g} and 0"


def _float_faults(hypothesis: Hypothesis) -> Iterator[str]:
    for name in ("log_prob", "score", "coverage"):
        value = getattr(hypothesis, name)
        if value is not None and not _is_float32(value):
            yield f"{name} is {value}, not a finite float32"
    if hypothesis.log_prob is not None and hypothesis.log_prob > _ROUNDING:
        yield f"log_prob is {hypothesis.log_prob}, {_NO_LOG_PROB}"
    if hypothesis.token_log_probs and max(hypothesis.token_log_probs) > _ROUNDING:
        yield f"one of token_log_probs is {max(hypothesis.token_log_probs)}, {_NO_LOG_PROB}"
    for name in ("token_log_probs", "token_seconds"):
        values = getattr(hypothesis, name)
        # Compare all at once: a call for each value would be slow, and a store has hundreds.
        if not all(-_FLOAT32_MAX <= value <= _FLOAT32_MAX for value in values):
            step = [_is_float32(value) for value in values].index(False)
            yield f"{name}[{step}] is {values[step]}, not a finite float32"


def _is_float32(value: float) -> bool:
    # NaN fails this too, and so does a number that is infinite as float32.
    return -_FLOAT32_MAX <= value <= _FLOAT32_MAX


def _encoding_faults(text: str, name: str) -> Iterator[str]:
    try:
        text.encode()
    except UnicodeEncodeError:
        yield f"its {name} holds characters that UTF-8 cannot express"


def _length_faults(values: Values) -> Iterator[str]:
    """Contradictions between the flattened lists of a pseudo-label Example."""
    num_tokens = values[HYPOTHESES_NUM_TOKENS]
    if any(count < 0 for count in num_tokens):
        yield f"feature {HYPOTHESES_NUM_TOKENS} holds a negative number"
    num_hypotheses, total_tokens = len(num_tokens), sum(num_tokens)
    expected = {
        HYPOTHESES_TEXT: {num_hypotheses},
        HYPOTHESES_TOKEN_IDS: {total_tokens},
        HYPOTHESES_LOG_PROB: {0, num_hypotheses},
        HYPOTHESES_SCORE: {0, num_hypotheses},
        HYPOTHESES_TOKEN_LOG_PROBS: {0, total_tokens},
        HYPOTHESES_TOKEN_SECONDS: {0, total_tokens},
        HYPOTHESES_FINISH_REASON: {0, num_hypotheses},
        HYPOTHESES_COVERAGE: {0, num_hypotheses},
        **{name: {num_hypotheses} for name in _BY_HYPOTHESIS if name in values},
    }
    for name, lengths in expected.items():
        if len(values[name]) not in lengths:
            yield f"feature {name} holds {len(values[name])} values, not {max(lengths)}"
