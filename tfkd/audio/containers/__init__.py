"""Checks containers of audio by their own lengths, counters and checksums.

libsndfile reads a file with a hole as one without, and of two files that were joined the first.
What a container says of itself is compared here with what the file holds, before any decoding.
"""

from tfkd.audio.containers.examination import examine
from tfkd.audio.containers.view import Container, FileView, PcmLayout

__all__ = ["Container", "FileView", "PcmLayout", "examine"]
