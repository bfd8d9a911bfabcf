"""Reads the fields of manifests, whichever toolkit wrote them.

NeMo, lhotse, Hugging Face, SpeechBrain, Common Voice, ESPnet and DeepSpeech call the same things by
different names. A name that is not known is never passed over in silence: it is named, once a file.
"""

from __future__ import annotations

import difflib
import logging
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfkd.corpora.lines import check_span, found_path, parse_channel, parse_seconds
from tfkd.corpora.utterances import Utterance
from tfkd.errors import ManifestError

_LOG = logging.getLogger("tfkd")

# Of several names in one row, the first counts.
AUDIO: tuple[str, ...] = (
    *("audio", "audio_filepath", "audio_file", "audio_path", "audio_filename", "path", "file"),
    *("file_name", "filename", "wav", "wav_path", "wav_filename", "wav_filepath", "filepath"),
)
_ID = ("utterance_id", "id", "ID", "utt_id", "uttid", "utt", "utterance", "key", "segment_id")
# Names that some give to the words that are said.
_PERHAPS_ID = ("utt", "utterance")
_TEXT = ("text", "sentence", "transcription", "transcript", "words", "wrd")
# Forms of a transcript that count where a row has no other.
_OTHER_TEXT = ("normalized_text", "normalised_text", "raw_text", "text_raw")
# Fields that may hold a transcript, or something else: where a row has no other, they are named.
_PERHAPS_TEXT = frozenset({
    "label", "labels", "answer", "target", "target_text", "tgt_text", "reference", "ref", "trans",
    "transcripts", "gt", "ground_truth", "utterance_text", "orthographic", "prompt",
    "orthographic_transcript", "orthographic_transcription", "hypothesis", "pred_text",
})  # fmt: skip
_SPEAKER = ("speaker", "speaker_id", "spk_id", "spk", "client_id", "spkID")
_START = (
    *("start_seconds", "offset", "start", "begin", "start_time", "begin_time", "start_sec"),
    *("start_s", "begin_sec", "segment_start", "seg_start", "audio_start", "onset"),
)
_END = (
    *("end_seconds", "end", "stop", "end_time", "stop_time", "end_sec", "end_s", "stop_sec"),
    *("segment_end", "seg_end", "audio_end"),
)
_DURATION = ("duration_seconds", "duration", "dur", "length", "duration_sec", "duration_s")
_CHANNEL = ("channel", "channel_selector", "channel_id", "audio_channel")
_MILLISECONDS = {
    **dict.fromkeys(("start_ms", "begin_ms", "offset_ms"), "start_seconds"),
    **dict.fromkeys(("end_ms", "stop_ms"), "end_seconds"),
    "duration_ms": "duration_seconds",
}
_KNOWN = frozenset(
    (*AUDIO, *_ID, *_TEXT, *_OTHER_TEXT, *_SPEAKER, *_START, *_END, *_DURATION, *_CHANNEL)
) | frozenset(_MILLISECONDS)
_TIMES = frozenset((*_START, *_END, *_DURATION))
_IN_SAMPLES = re.compile(
    r"(\w+_)?(start|begin|onset|end|stop|offset)_?(sample|frame)s?"
    r"|(sample|frame)s?_(start|begin|onset|end|stop|offset)"
)
_HUMP = re.compile("(?<=[a-z])(?=[A-Z])")
# A part with more seconds to a second than this is given in samples.
_LOWEST_RATE_HZ = 1000
# Manifests round times to hundredths of a second, if not finer.
_ROUNDING_SECONDS = 0.01
# Fields of these toolkits that say nothing of the audio or the words.
_OF_NO_USE = {
    "lang", "language", "lang_id", "source_lang", "target_lang", "taskname",
    "pnc", "locale", "raw_transcript", "accent", "accents", "age", "gender", "sex", "up_votes",
    "down_votes", "segment", "variant", "sentence_id", "sentence_domain", "orig_sr",
    "sampling_rate", "sample_rate", "sr", "num_samples", "num_frames", "frame_rate",
    "wav_format", "wav_opts", "wav_filesize", "size", "shard_id", "context", "type",
    "custom", "features", "alignments", "dataset", "split", "subset", "corpus", "chapter_id", "wer",
    "cer", "score", "snr", "speaker_gender", "emotion", "domain", "topic", "format",
    "channels", "num_channels", "lid", "recording_id",
}  # fmt: skip
_SURROGATE = re.compile("[\ud800-\udfff]")
_LIKE = 0.6


class FieldCount:
    """Counts fields that are ignored, to log them once for each file."""

    def __init__(self) -> None:
        self._unknown: Counter[str] = Counter()
        self._unusable: Counter[str] = Counter()
        self._beside: Counter[str] = Counter()

    def add_unknown(self, names: Sequence[str]) -> None:
        """Counts fields whose names are not known."""
        self._unknown.update(names)

    def add_unusable(self, name: str) -> None:
        """Counts an optional field whose value cannot be read."""
        self._unusable[name] += 1

    def add_beside(self, name: str, chosen: str) -> None:
        """Counts a field that says something else than the one of its kind that was read."""
        self._beside[f"{name!r} beside {chosen!r}"] += 1

    def warn(self, path: Path) -> None:
        """Logs the names and counts, if there are any."""
        if self._unknown:
            _LOG.warning(
                "%s: fields that are not known were passed over: %s",
                *(path, ", ".join(map(_described, self._unknown.items()))),
            )
        for counted, what in (
            (self._unusable, "values of no use were passed over"),
            (self._beside, "fields that say something else than the one that was read"),
        ):
            if counted:
                named = ", ".join(f"{key} ({n} x)" for key, n in counted.items())
                _LOG.warning("%s: %s: %s", path, what, named)


def known_name(key: str) -> str:
    """The known name that `key` is another spelling of; `key` itself, if there is none.

    >>> from tfkd.corpora.fields import known_name
    >>> known_name("Sentence"), known_name("startTime"), known_name(" text"), known_name("txt")
    ('sentence', 'start_time', 'text', 'txt')
    """
    if key in _KNOWN:
        return key
    plain = _HUMP.sub("_", key.strip()).replace("-", "_").replace(" ", "_").lower()
    return plain if plain in _KNOWN else key


def _described(unknown: tuple[str, int]) -> str:
    name, count = unknown
    if name.lower() in _PERHAPS_TEXT:
        return f"{name!r} ({count} x, call it 'text' if it is the transcript)"
    near = difflib.get_close_matches(name, sorted(_KNOWN), n=1, cutoff=_LIKE)
    advice = f", did you mean {near[0]!r}?" if near else ""
    return f"{name!r} ({count} x{advice})"


def utterance_of(fields: Mapping[str, Any], directory: Path, count: FieldCount) -> Utterance:
    """The utterance that a row of a manifest describes; its id is "" where the row has none.

    >>> from pathlib import Path
    >>> from tfkd.corpora.fields import FieldCount, utterance_of
    >>> row = {"audio_filepath": "/talk.wav", "offset": 2, "duration": 3, "text": "yes"}
    >>> utterance_of(row, Path("."), FieldCount()).end_seconds
    5.0

    Raises:
      ManifestError: if the row names no audio, or a field that is needed cannot be understood.
    """
    given = _given(fields, count)
    audio_name = _name_of(given, AUDIO)
    if audio_name is None:
        raise ManifestError("no audio field", remedy="name the file in `audio`")
    id_name, text_name = _name_of(given, _ID), _text_name(given)
    if id_name in _PERHAPS_ID and text_name is None and " " in str(given[id_name]).strip():
        raise ManifestError(
            f"{id_name} {given[id_name]!r} may be an id or a transcript",
            remedy="call it utterance_id or text",
        )
    start, end, declared = _span(given, count)
    count.add_unknown([key for key in given if not _is_known(key, has_text=text_name is not None)])
    for kind, chosen in ((AUDIO, audio_name), (_TEXT, text_name)):
        _count_others(given, kind, chosen, count)
    return Utterance(
        "" if id_name is None else _id(id_name, given[id_name]),
        found_path(directory, _audio(audio_name, given[audio_name])),
        None if text_name is None else _text(text_name, given[text_name]),
        _speaker(given, count),
        start,
        end,
        _channel(given),
        declared_seconds=declared,
    )


def _given(fields: Mapping[str, Any], count: FieldCount) -> dict[str, Any]:
    """The fields that hold something, by their known names, times in seconds.

    Of two spellings of a name, the first counts.
    """
    given: dict[str, Any] = {}
    for key, value in fields.items():
        name = known_name(key)
        if name != key and name in fields:
            name = key
        if _is_absent(value):
            continue
        if name in _MILLISECONDS:
            name, value = _MILLISECONDS[name], parse_seconds(name, value) / 1000
        elif _IN_SAMPLES.fullmatch(name.lower()):
            raise ManifestError(f"{key} counts samples", remedy="give start and end in seconds")
        if name not in given:
            given[name] = value
        elif name not in _TIMES:
            if value != given[name]:
                count.add_beside(key, name)
        elif abs(parse_seconds(name, value) - parse_seconds(name, given[name])) > _ROUNDING_SECONDS:
            raise ManifestError(
                f"{key} differs from another field of its kind", remedy="leave out all but one"
            )
    return given


def _is_known(key: str, *, has_text: bool) -> bool:
    name = key.lower()
    return key in _KNOWN or name in _OF_NO_USE or (has_text and name in _PERHAPS_TEXT)


def _text_name(given: Mapping[str, Any]) -> str | None:
    """The field of the transcript: the first that says something, else the first."""
    names = [name for name in (*_TEXT, *_OTHER_TEXT) if name in given]
    says_something = (name for name in names if isinstance(given[name], str) and given[name])
    return next(says_something, names[0] if names else None)


def _count_others(
    given: Mapping[str, Any], kind: Sequence[str], chosen: str | None, count: FieldCount
) -> None:
    """Counts fields of one kind that say something else than the chosen one."""
    said = given[chosen] if chosen else None
    if isinstance(said, str):
        others = {name: given.get(name) for name in kind if name != chosen}
        for name, value in others.items():
            if value and isinstance(value, str) and value != said:
                count.add_beside(name, str(chosen))


def _is_absent(value: Any) -> bool:
    """Whether a value is null, or the NaN that tables in Python have for it."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def _name_of(fields: Mapping[str, Any], names: Sequence[str]) -> str | None:
    return next((name for name in names if name in fields), None)


def _audio(name: str, value: Any) -> str:
    if isinstance(value, dict):  # Hugging Face: {"path": ..., "bytes": null}.
        if value.keys() & {"start", "stop"}:
            raise ManifestError(
                f"{name} gives start and stop in samples", remedy="give start and end in seconds"
            )
        value = value.get("path") or value.get("file")
        if value is None:
            what = f"{name} holds samples or bytes, and names no file"
            raise ManifestError(what, remedy="save the audio as files, and name them")
    return _string(name, value)


def _id(name: str, value: Any) -> str:
    utterance_id = _string(name, value)
    if not utterance_id:
        raise ManifestError(
            f"{name} is empty",
            remedy="fill it in, or leave it out: then the file names the utterance",
        )
    return utterance_id


def _string(name: str, value: Any) -> str:
    """Returns a string; a whole number, such as an id, is written as one."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise ManifestError(f"{name} is not a string", remedy="give one text in quotation marks")
    return value


def _text(name: str, value: Any) -> str:
    """Returns a string that UTF-8 can hold: JSON can escape half of a surrogate pair."""
    text = _string(name, value)
    if _SURROGATE.search(text):
        raise ManifestError(
            f"{name} {text!r} holds half of a character",
            remedy="write the manifest again from its source, in UTF-8",
        )
    return text


def _speaker(fields: Mapping[str, Any], count: FieldCount) -> str | None:
    name = _name_of(fields, _SPEAKER)
    if name is None:
        return None
    try:
        return _text(name, fields[name]) or None
    except ManifestError:
        count.add_unusable(name)
        return None


def _channel(fields: Mapping[str, Any]) -> int | None:
    name = _name_of(fields, _CHANNEL)
    value = None if name is None else fields[name]
    if name is None and isinstance(fields.get("channels"), list):
        value = fields["channels"]
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return None if value is None or value in ("average", "mean") else parse_channel(value)


def _span(
    fields: Mapping[str, Any], count: FieldCount
) -> tuple[float | None, float | None, float | None]:
    """Returns start and end of a part, and the length of the recording if there is no part."""
    start, end, declared = _seconds(fields, _START), _seconds(fields, _END), None
    duration_name = _name_of(fields, _DURATION)
    if duration_name is not None and (start is None or end is not None):
        try:
            declared = parse_seconds(duration_name, fields[duration_name])
        except ManifestError:
            count.add_unusable(duration_name)
        if start is None and end is not None and declared is not None:
            start = _start_before(end, declared)
    elif start is not None and duration_name is not None:
        end = start + parse_seconds(duration_name, fields[duration_name])
    if start is not None and end is not None and declared:
        _check_seconds(start, end, declared)
    if isinstance(fields.get("segment"), list):
        count.add_unusable("segment")
    check_span(start, end)
    return start, end, declared if start is None and end is None else None


def _start_before(end: float, duration: float) -> float | None:
    """The start of a part by its end and duration; None where the recording starts."""
    start = end - duration
    if start < -_ROUNDING_SECONDS:
        raise ManifestError(
            f"the utterance ends at {end:g} s, but is {duration:g} s long",
            remedy="give its start, and leave out the duration",
        )
    return start if start > _ROUNDING_SECONDS else None


def _check_seconds(start: float, end: float, duration: float) -> None:
    """Refuses a part in samples, as SpeechBrain writes it beside a duration in seconds."""
    if end - start >= _LOWEST_RATE_HZ * duration:
        what = f"a part of {end - start:g} seconds, which is {duration:g} s long"
        raise ManifestError(
            f"{what}: start and stop count samples", remedy="give start and end in seconds"
        )


def _seconds(fields: Mapping[str, Any], names: Sequence[str]) -> float | None:
    given = [name for name in names if name in fields]
    values = {parse_seconds(name, fields[name]) for name in given}
    if len(values) > 1:
        raise ManifestError(
            f"{' and '.join(given)} are both given, and differ", remedy="leave out all but one"
        )
    return values.pop() if values else None
