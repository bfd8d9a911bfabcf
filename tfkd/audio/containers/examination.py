"""Finds the container of a file by its first bytes, and checks the file as this container."""

from __future__ import annotations

from typing import BinaryIO, cast

from tfkd.audio.containers.flac_frames import examine_flac
from tfkd.audio.containers.mp3_frames import examine_mp3
from tfkd.audio.containers.ogg_pages import examine_ogg
from tfkd.audio.containers.riff import examine_riff
from tfkd.audio.containers.sound_headers import (
    examine_aiff,
    examine_au,
    examine_caf,
    examine_sphere,
)
from tfkd.audio.containers.tags import id3_bytes
from tfkd.audio.containers.view import Container, FileView

# MP3 comes last: it alone has no first bytes of its own.
_EXAMINERS = (
    *(examine_riff, examine_flac, examine_ogg),
    *(examine_au, examine_caf, examine_aiff, examine_sphere),
    examine_mp3,
)


_UNCHECKED = (
    "this kind of file is not checked here: nothing tells if it was cut, or joined to another"
)


def examine(file: BinaryIO, name: str) -> Container:
    """Checks a file of audio by its own lengths, counters and checksums, without decoding it.

    Returns:
      What to hand to a decoder. A file of a kind that is not known here is left to the decoder.
    Raises:
      UnusableAudio: truncated_audio, if audio that the file declares is missing;
        undecodable_audio, if a part is damaged, missing or repeated, or audio follows the end that
        the file declares.
    """
    start = _after_id3(file)
    seen = cast(BinaryIO, FileView(file, skip=start)) if start else file
    for examiner in _EXAMINERS:
        container = examiner(seen, name)
        if container is not None:
            return container.moved(start)
    return Container(remarks=(_UNCHECKED,))


def _after_id3(file: BinaryIO) -> int:
    """Returns the byte after the ID3v2 tags before the audio; sizes are four times seven bits."""
    position = 0
    while True:
        file.seek(position)
        head = file.read(10)
        size = id3_bytes(head)
        if not size:
            return position
        position += size
