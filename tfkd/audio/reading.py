"""Reads audio files as waveforms at the model's rate.

The device side imports this module with numpy alone: uncompressed WAV is read without soundfile.
Preparation and device share every step, so a recording gives the same samples in both places.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from tfkd.audio.channels import channel_of, mean_of_channels
from tfkd.audio.commands import Command, output_of
from tfkd.audio.containers import Container, examine
from tfkd.audio.decoders import AudioFile, Span
from tfkd.audio.outcomes import keeping_outcomes
from tfkd.audio.resampling import resample
from tfkd.audio.unusable import UNDECODABLE, UnusableAudio
from tfkd.audio.waveforms import remarks_on_clipping, within_full_scale

_LOG = logging.getLogger("tfkd")


@dataclass(frozen=True)
class Recording:
    """A recording, or a part of one, as it was read.

    Attributes:
      waveform: float32 [N] in [-1, 1], one channel.
      sample_rate_hz: rate of the waveform.
      remarks: one sentence for each fault that cost no audio, and for channels that differ.
    """

    waveform: np.ndarray
    sample_rate_hz: int
    remarks: tuple[str, ...] = ()


class LastFile:
    """Keeps the file that was read last open: its parts in order cost one pass of the decoder.

    Use it as a context. One thread at a time may use it.
    """

    def __init__(self) -> None:
        self._key: tuple[str, int, int] | None = None
        self._open = contextlib.ExitStack()

    def __enter__(self) -> LastFile:
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def opened(self, path: str) -> AudioFile:
        """Opens a file, unless it is the last one and has not changed, and examines it.

        Raises:
          OSError: if it cannot be opened.
          UnusableAudio: if it is damaged.
        """
        status = os.stat(path)
        key = path, status.st_size, status.st_mtime_ns
        if key != self._key:
            self._open.close()
            self._key = None
            self._audio = self._open.enter_context(_opened(*key))
            self._key = key
        return self._audio


@contextlib.contextmanager
def _opened(path: str, size: int, mtime_ns: int) -> Iterator[AudioFile]:
    with open(path, "rb") as file:
        audio = AudioFile(file, _examined_file(path, size, mtime_ns), path)
        with contextlib.closing(audio):
            yield audio


def decode_audio(data: bytes, *, name: str) -> tuple[np.ndarray, int]:
    """Decodes WAV, FLAC, MP3, Ogg and whatever else libsndfile reads.

    Args:
      data: the content of the file.
      name: the name of the file in errors.
    Returns:
      The waveform, float32 [N] in [-1, 1] with the channels averaged, and its rate in Hz. Float
      WAV files may hold NaN or infinity; they are handed on for `check_waveform` to report.
    Raises:
      AudioError: (as `UnusableAudio`) if the data cannot be decoded, hold no samples, are cut
        short or damaged, or need soundfile, which is not installed.

    >>> import numpy as np
    >>> from tfkd.audio.flac import encode_flac
    >>> from tfkd.audio.reading import decode_audio
    >>> waveform, rate_hz = decode_audio(encode_flac(np.array([0.0, 0.5]), 8000), name="a.flac")
    >>> waveform.tolist(), rate_hz
    ([0.0, 0.5], 8000)
    """
    recording = decode_recording(data, name=name)
    _log(recording, name)
    return recording.waveform, recording.sample_rate_hz


def decode_recording(
    data: bytes,
    *,
    name: str,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
    channel: int | None = None,
    max_seconds: float = math.inf,
) -> Recording:
    """Decodes the content of a file at its own rate; see `read_recording`."""
    file = io.BytesIO(data)
    span = Span(start_seconds, end_seconds, max_seconds)
    return _recording(file, _examined(file, name), name, span, channel)


def read_audio(
    path: str | Path,
    *,
    sample_rate_hz: int,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
    channel: int | None = None,
    max_seconds: float = math.inf,
) -> np.ndarray:
    """Reads a recording, or the part from `start_seconds` to `end_seconds`, at a given rate.

    Only the part is decoded, so many short segments of a long recording cost little. Faults that
    are forgiven are logged; `read_recording` returns them.

    Args:
      channel: counted from 0; None takes the mean of all channels.
      max_seconds: what is longer by a second or more is refused before it is decoded, so that a
        recording of hours costs no memory.
    Returns:
      The waveform, float32 [N] in [-1, 1] at `sample_rate_hz`.
    Raises:
      AudioError: (as `UnusableAudio`) if the file is missing or unreadable, cannot be decoded, or
        is too short for the part, or the part is far too long. A part that ends up to 0.5 s too
        late is cut.

    >>> from tfkd.audio.reading import read_audio
    >>> waveform = read_audio("order.wav", sample_rate_hz=8000)
    >>> waveform.ndim, str(waveform.dtype)
    (1, 'float32')
    """
    recording = read_recording(
        path,
        start_seconds=start_seconds,
        end_seconds=end_seconds,
        channel=channel,
        max_seconds=max_seconds,
    )
    _log(recording, str(path))
    return at_rate(recording, sample_rate_hz, str(path)).waveform


def read_recording(
    path: str | Path,
    *,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
    channel: int | None = None,
    max_seconds: float = math.inf,
    command: Command | None = None,
    last: LastFile | None = None,
) -> Recording:
    """Like `read_audio`, but at the rate of the file, and with remarks instead of a log.

    Args:
      command: run if it does more than decode the file, or if tfkd cannot decode the file itself.
      last: keeps the file open for the next part.
    """
    span = Span(start_seconds, end_seconds, max_seconds)
    if command is not None and command.is_needed:
        return _piped(command, Path(path), span, channel)
    try:
        with contextlib.ExitStack() as stack:
            return _read_file(path, span, channel, last or stack.enter_context(LastFile()))
    except UnusableAudio as error:
        if command is None or error.reason != UNDECODABLE:
            raise
        return _piped(command, Path(path), span, channel)


def _piped(command: Command, path: Path, span: Span, channel: int | None) -> Recording:
    """Decodes a command's output; a header without a length is no fault, for it was a pipe."""
    file = io.BytesIO(output_of(command, path))
    own = channel if command.channel is None else None
    container = replace(_examined(file, str(path)), remarks=())
    return _recording(file, container, str(path), span, own)


def _read_file(path: str | Path, span: Span, channel: int | None, last: LastFile) -> Recording:
    if os.path.isdir(path):
        raise UnusableAudio(
            "missing_file",
            "is a folder, not a recording",
            path=path,
            remedy=f"name the recordings in it, for example {Path(path) / '*.wav'}",
        )
    if not os.path.isfile(path):  # Path.is_file raises for names that no file can have.
        raise UnusableAudio("missing_file", "no such file", path=path, remedy="correct the path")
    try:
        return _part(last.opened(str(path)), str(path), span, channel)
    except OSError as error:
        reason = f"cannot read: {error.strerror or error}"
        raise UnusableAudio(
            "unreadable_file", reason, path=path, remedy="check its permissions and its disk"
        ) from error


def at_rate(recording: Recording, sample_rate_hz: int, name: str) -> Recording:
    """Resamples a recording; a remark says so if its rate was lower."""
    own_hz, remarks = recording.sample_rate_hz, recording.remarks
    if own_hz < sample_rate_hz:
        remarks += (f"was recorded at {own_hz} Hz and has nothing above {own_hz // 2} Hz",)
    # Steep filters overshoot where the recording was clipped.
    waveform = within_full_scale(resample(recording.waveform, own_hz, sample_rate_hz), name)
    return Recording(waveform, sample_rate_hz, remarks)


# Segments of one recording follow each other: it is not read whole for each of them. FLAC in Ogg is
# kept unpacked, so only a few recordings are.
@keeping_outcomes(maxsize=16)
def _examined_file(path: str, size: int, mtime_ns: int) -> Container:
    """Examines a file; size and age are part of the key, so that a changed file is read anew."""
    with open(path, "rb") as file:
        return _examined(file, path)


def _examined(file: BinaryIO, name: str) -> Container:
    if file.seek(0, os.SEEK_END) == 0:
        raise UnusableAudio(UNDECODABLE, "the file is empty", path=name, remedy="fetch it again")
    return examine(file, name)


def _recording(
    file: BinaryIO, container: Container, name: str, span: Span, channel: int | None
) -> Recording:
    with contextlib.closing(AudioFile(file, container, name)) as audio:
        return _part(audio, name, span, channel)


def _part(audio: AudioFile, name: str, span: Span, channel: int | None) -> Recording:
    blocks, rate_hz = audio.decode(span)
    remarks: tuple[str, ...] = ()
    if channel is None:
        waveform, likeness = mean_of_channels(blocks)
        remarks = likeness.remarks
        if likeness.cancels:
            blocks, _ = audio.decode(span)
            waveform = channel_of(blocks, likeness.loudest, name)
    else:
        waveform = channel_of(blocks, channel, name)
    whole, remarks = within_full_scale(waveform, name), (*remarks, *remarks_on_clipping(waveform))
    return Recording(whole, rate_hz, (*audio.container.remarks, *remarks))


def _log(recording: Recording, name: str) -> None:
    for remark in recording.remarks:
        _LOG.warning("%s: %s", name, remark)
