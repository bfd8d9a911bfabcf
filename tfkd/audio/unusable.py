"""The error of a recording that cannot be used, with its reason."""

from __future__ import annotations

from pathlib import Path

from tfkd.errors import AudioError

UNDECODABLE = "undecodable_audio"
TRUNCATED = "truncated_audio"


class UnusableAudio(AudioError):
    """Audio that cannot be used; `reason` is the word that reports count it by.

    Reasons: missing_file, unreadable_file, undecodable_audio, truncated_audio, unscaled_audio,
    bad_segment, bad_channel, not_finite, silent, too_short, too_long.
    """

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        path: str | Path | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(message, path=path, remedy=remedy)
        self.reason = reason


def truncated(name: str, what: str) -> UnusableAudio:
    """The error of a file that ends before the audio that its header declares."""
    return UnusableAudio(TRUNCATED, what, path=name, remedy="fetch the file again")


def damaged(name: str, what: str) -> UnusableAudio:
    """The error of a file whose own checksums show that a part is missing or changed."""
    return UnusableAudio(UNDECODABLE, what, path=name, remedy="fetch the file again")


def joined(name: str, detail: str) -> UnusableAudio:
    """The error of a file that goes on after the end that its header declares."""
    return UnusableAudio(
        UNDECODABLE,
        f"holds more audio than its header declares, as joined files do: {detail}",
        path=name,
        remedy="decode each part, and write them into one WAV or FLAC file",
    )
