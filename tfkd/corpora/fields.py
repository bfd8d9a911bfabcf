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
_TEXT = ("text", "sentence", "transcription", "transcript", "words", "wrd")
_SPEAKER = ("speaker", "speaker_id", "spk_id", "spk", "client_id", "spkID")
_START = ("start_seconds", "offset", "start", "begin", "start_time", "begin_time")
_END = ("end_seconds", "end", "stop", "end_time", "stop_time")
_DURATION = ("duration_seconds", "duration", "dur", "length")
_CHANNEL = ("channel", "channel_selector", "channel_id")
_KNOWN = frozenset((*AUDIO, *_ID, *_TEXT, *_SPEAKER, *_START, *_END, *_DURATION, *_CHANNEL))
# Fields of these toolkits that say nothing of the audio or the words.
_OF_NO_USE = {
    "label", "lang", "language", "lang_id", "source_lang", "target_lang", "taskname",
    "pnc", "locale", "accent", "accents", "age", "gender", "sex", "up_votes",
    "down_votes", "segment", "variant", "sentence_id", "sentence_domain", "orig_sr",
    "sampling_rate", "sample_rate", "sr", "num_samples", "num_frames", "frame_rate",
    "wav_format", "wav_opts", "wav_filesize", "size", "shard_id", "pred_text",
    "raw_text", "normalized_text", "normalised_text", "answer", "context", "type",
    "custom", "features", "dataset", "split", "subset", "corpus", "chapter_id", "wer",
    "cer", "score", "snr", "speaker_gender", "emotion", "domain", "topic", "format",
    "channels", "num_channels", "lid",
}  # fmt: skip
_SURROGATE = re.compile("[\ud800-\udfff]")
_LIKE = 0.6


class FieldCount:
    """Counts fields that are ignored, to log them once for each file."""

    def __init__(self) -> None:
        self._unknown: Counter[str] = Counter()
        self._unusable: Counter[str] = Counter()

    def add_unknown(self, names: Sequence[str]) -> None:
        """Counts fields whose names are not known."""
        self._unknown.update(names)

    def add_unusable(self, name: str) -> None:
        """Counts an optional field whose value cannot be read."""
        self._unusable[name] += 1

    def warn(self, path: Path) -> None:
        """Logs the names and counts, if there are any."""
        if self._unknown:
            _LOG.warning(
                "%s: fields that are not known were passed over: %s",
                *(path, ", ".join(map(_described, self._unknown.items()))),
            )
        if self._unusable:
            _LOG.warning(
                "%s: values of no use were passed over: %s",
                *(path, ", ".join(f"{k} ({n} x)" for k, n in self._unusable.items())),
            )


def _described(unknown: tuple[str, int]) -> str:
    name, count = unknown
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
    given = {key: value for key, value in fields.items() if not _is_absent(value)}
    audio_name = _name_of(given, AUDIO)
    if audio_name is None:
        raise ManifestError("no audio field", remedy="name the file in `audio`")
    id_name, text_name = _name_of(given, _ID), _name_of(given, _TEXT)
    start, end, declared = _span(given, count)
    count.add_unknown([key for key in fields if not _is_known(key)])
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


def _is_known(key: str) -> bool:
    return key in _KNOWN or key.lower() in _OF_NO_USE


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
    return _string(name, value)


def _id(name: str, value: Any) -> str:
    utterance_id = _string(name, value)
    if not utterance_id:
        raise ManifestError("'' is no usable id")
    return utterance_id


def _string(name: str, value: Any) -> str:
    """Returns a string; a whole number, such as an id, is written as one."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise ManifestError(f"{name} is not a string")
    return value


def _text(name: str, value: Any) -> str:
    """Returns a string that UTF-8 can hold: JSON can escape half of a surrogate pair."""
    text = _string(name, value)
    if _SURROGATE.search(text):
        raise ManifestError(f"{name} {text!r} holds half of a character")
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
    elif start is not None and duration_name is not None:
        end = start + parse_seconds(duration_name, fields[duration_name])
    check_span(start, end)
    return start, end, declared if start is None and end is None else None


def _seconds(fields: Mapping[str, Any], names: Sequence[str]) -> float | None:
    given = [name for name in names if name in fields]
    values = {parse_seconds(name, fields[name]) for name in given}
    if len(values) > 1:
        raise ManifestError(f"{' and '.join(given)} are both given")
    return values.pop() if values else None
