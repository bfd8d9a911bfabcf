"""A view of a file with a corrected header, and the result of checking a container."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass, replace
from typing import BinaryIO


class FileView(io.RawIOBase):
    """Reads `head`, and then `file` from byte `skip` to byte `end`, as if they were one file.

    A header can so be corrected for a decoder without a copy of the file.
    """

    def __init__(
        self, file: BinaryIO, head: bytes = b"", skip: int = 0, end: int | None = None
    ) -> None:
        self._file = file
        self._head = head
        self._skip = skip
        last = file.seek(0, os.SEEK_END) if end is None else end
        self._size = len(head) + max(0, last - skip)
        self._position = 0

    def readable(self) -> bool:
        """Whether bytes can be read: always."""
        return True

    def seekable(self) -> bool:
        """Whether the position can be changed: always."""
        return True

    def tell(self) -> int:
        """The position, in bytes from the start of `head`."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Changes the position; one before the start is the start."""
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, origin + offset)
        return self._position

    def readinto(self, buffer) -> int:
        """Fills `buffer` as far as the view goes; returns the number of bytes."""
        wanted = min(len(buffer), max(0, self._size - self._position))
        data = self._head[self._position : self._position + wanted]
        if len(data) < wanted:
            self._file.seek(self._skip + self._position + len(data) - len(self._head))
            data += self._file.read(wanted - len(data))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


@dataclass(frozen=True)
class PcmLayout:
    """Uncompressed little-endian samples of a WAV, which numpy reads alone.

    Attributes:
      encoding: 1 for whole numbers, 3 for floats.
      offset, num_bytes: where the samples lie in the file.
    """

    encoding: int
    channels: int
    rate_hz: int
    bits: int
    offset: int
    num_bytes: int

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of every channel."""
        return self.channels * self.bits // 8


@dataclass(frozen=True)
class Container:
    """The result of checking a file by its own header and checksums, and its view for a decoder.

    Attributes:
      pcm: where numpy finds the samples; None if a decoder has to read the file.
      head, skip, end: the decoder sees `FileView(file, head, skip, end)`.
      md5: MD5 of all samples as FLAC stores it; None where the file has none.
      num_samples: samples a channel, where a decoder may think that there are fewer.
      may_lack: samples a channel that may be missing at the end.
      remarks: faults of the header that cost no audio and were forgiven, each in words.
    """

    pcm: PcmLayout | None = None
    head: bytes = b""
    skip: int = 0
    end: int | None = None
    md5: bytes | None = None
    num_samples: int | None = None
    may_lack: int = 0
    remarks: tuple[str, ...] = ()

    def moved(self, start: int) -> Container:
        """The same verdict of a file that begins at byte `start` of another one."""
        if not start:
            return self
        pcm = self.pcm and replace(self.pcm, offset=self.pcm.offset + start)
        end = None if self.end is None else self.end + start
        return replace(self, pcm=pcm, skip=self.skip + start, end=end)
