"""Maps rows of lhotse's manifests to the fields of tfkd's own."""

from __future__ import annotations

from typing import Any

from tfkd.corpora.fields import AUDIO
from tfkd.errors import ManifestError

_SAVE = "save the audio: lhotse's cuts.save_audios()"
_SIMPLE = "write cuts of one supervision: cuts.trim_to_supervisions()"


def is_lhotse(fields: dict[str, Any]) -> bool:
    """Whether a row is a cut, a recording or a supervision."""
    keys = fields.keys()
    if "sources" in keys or "supervisions" in keys:
        return True
    # Other manifests have these names, too, beside the file that lhotse names elsewhere.
    return not keys.isdisjoint(("tracks", "recording_id")) and keys.isdisjoint(AUDIO)


def simple_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """The same utterance with `audio`, `start`, `duration`, `channel` and `text`.

    Raises:
      ManifestError: if it names no audio, mixes several recordings, or holds several utterances.
    """
    if "tracks" in fields:
        raise ManifestError("a cut of lhotse that mixes several", remedy=_SAVE)
    if "sources" in fields:
        channel = _one(fields["sources"], "source").get("channels")
        whole = {"id": fields.get("id"), "audio": _file_of(fields)}
        is_one = isinstance(channel, list) and len(channel) == 1
        return whole if is_one or not channel else {**whole, "channel": None}
    if "supervisions" not in fields:
        raise ManifestError(
            "a supervision of lhotse names no audio",
            remedy="write cuts: lhotse cut simple -r RECORDINGS -s SUPERVISIONS CUTS",
        )
    if not isinstance(fields.get("recording"), dict):
        raise ManifestError("a cut of lhotse that names no recording", remedy=_SIMPLE)
    cut = {key: fields.get(key) for key in ("id", "start", "duration", "channel")}
    cut["audio"] = _file_of(fields["recording"])
    if not fields["supervisions"]:
        return cut
    supervision = _one(fields["supervisions"], "supervision")
    cut |= {key: supervision.get(key) for key in ("text", "speaker")}
    channels = (cut["channel"], supervision.get("channel"))
    if all(isinstance(channel, int) for channel in channels) and channels[0] != channels[1]:
        what = f"its supervision is of channel {channels[1]}, its cut of channel {channels[0]}"
        raise ManifestError(what, remedy=_SIMPLE)
    offset, length = supervision.get("start", 0), supervision.get("duration")
    if isinstance(cut["start"], (int, float)) and isinstance(offset, (int, float)) and length:
        cut |= {"start": max(0.0, cut["start"] + offset), "duration": length}
    return cut


def _one(items: Any, name: str) -> dict[str, Any]:
    if not isinstance(items, list) or len(items) != 1 or not isinstance(items[0], dict):
        raise ManifestError(f"a row of lhotse has not one {name}", remedy=_SIMPLE)
    return items[0]


def _file_of(recording: dict[str, Any]) -> Any:
    if recording.get("transforms"):
        raise ManifestError("its recording is changed before use (transforms)", remedy=_SAVE)
    source = _one(recording.get("sources"), "source")
    if source.get("type") != "file":
        raise ManifestError(
            f"its audio is of type {source.get('type')!r}, not a file",
            remedy=_SAVE,
        )
    return source.get("source")
