"""Names the kind of a file that tfkd cannot decode, by its first bytes."""

from __future__ import annotations

import re
from dataclasses import dataclass

_HEAD_BYTES = 512
_FFMPEG = "convert it, e.g. ffmpeg -i X X.flac"
_FETCH = "fetch the audio itself"
_UNPACK = "unpack it, and name the file inside"


@dataclass(frozen=True)
class Signature:
    """The kind of a file, such as "WavPack", and how to get audio from it; X is its name."""

    what: str
    remedy: str


_STARTS: tuple[tuple[bytes, str, str], ...] = (
    (b"\x1a\x45\xdf\xa3", "WebM or Matroska", _FFMPEG),
    (b"#!AMR", "AMR", _FFMPEG),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "Windows Media (WMA)", _FFMPEG),
    (b"ADIF", "AAC", _FFMPEG),
    (b"\x0b\x77", "AC-3", _FFMPEG),
    (b"wvpk", "WavPack", _FFMPEG),
    (b"MAC ", "Monkey's Audio", _FFMPEG),
    (b"TTA1", "True Audio", _FFMPEG),
    (b"ajkg", "Shorten", _FFMPEG),
    (b".RMF", "RealMedia", _FFMPEG),
    (b".ra\xfd", "RealAudio", _FFMPEG),
    (b"FLV", "Flash video", _FFMPEG),
    (b"DSD ", "DSD", _FFMPEG),
    (b"\x00\x00\x01\xba", "MPEG video", _FFMPEG),
    (b".SoX", "SoX's own format", "convert it: sox X X.flac"),
    (b"XoS.", "SoX's own format", "convert it: sox X X.flac"),
    (b"nut/multimedia container", "NUT", _FFMPEG),
    (b"MThd", "MIDI: notes, no audio", _FETCH),
    (b"version https://git-lfs.github.com", "a Git LFS pointer", "git lfs pull"),
    (b"/annex/objects/", "a git-annex pointer", "git annex get X"),
    (b"../.git/annex/objects/", "a git-annex pointer", "git annex get X"),
    (b"outs:\n- md5:", "a DVC pointer", "dvc pull X"),
    (b"%PDF", "a PDF document", _FETCH),
    (b"\x89PNG", "a PNG image", _FETCH),
    (b"\xff\xd8\xff", "a JPEG image", _FETCH),
    (b"GIF8", "a GIF image", _FETCH),
    (b"\x7fELF", "a program", _FETCH),
    (b"PK\x03\x04", "a ZIP archive", _UNPACK),
    (b"\x1f\x8b", "a gzip file", _UNPACK),
    (b"BZh", "a bzip2 file", _UNPACK),
    (b"\xfd7zXZ", "an xz file", _UNPACK),
    (b"(\xb5/\xfd", "a Zstandard file", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", _UNPACK),
    (b"Rar!", "a RAR archive", _UNPACK),
    (b"\x93NUMPY", "a NumPy array", "write it as WAV or FLAC"),
    (b"\x89HDF", "an HDF5 file", "write the audio in it as WAV or FLAC"),
    (b"PAR1", "a Parquet table", "write the audio in it as files"),
)
_OGG_STREAMS = (
    (b"Speex", "Ogg Speex"),
    (b"\x80theora", "Ogg Theora"),
    (b"OVP80", "Ogg VP8"),
    (b"PCM     ", "Ogg PCM"),
)
_MP4 = re.compile(rb"^....(ftyp|moov|mdat|wide|free|skip)", re.DOTALL)
_AVI = re.compile(rb"^RIFF....AVI ", re.DOTALL)
# A packet of MPEG-TS is 188 bytes long and begins with G.
_MPEG_TS = re.compile(rb"^G.{187}G", re.DOTALL)
_HTML = re.compile(rb"^\s*<(!doctype|html|head|body)", re.IGNORECASE)
_XML = re.compile(rb"^\s*<(\?xml|Error|[A-Za-z]+ )")
_JSON = re.compile(rb'^\s*[{\[]\s*["{\[\]}]')
_ADTS = re.compile(rb"^\xff[\xf0\xf1\xf8\xf9]")
_KALDI_TABLE = re.compile(rb"^\S{1,200} \0B")


def signature_of(data: bytes) -> Signature | None:
    """Names the kind of a file that begins with `data`; None if it is not known.

    >>> from tfkd.audio.signatures import signature_of
    >>> signature_of(b"<!DOCTYPE html><html>404 Not Found").what
    'an HTML page'
    """
    head = data[:_HEAD_BYTES]
    for start, what, remedy in _STARTS:
        if head.startswith(start):
            return Signature(what, remedy)
    if _MP4.match(head):
        return Signature("MP4, M4A or QuickTime (AAC or ALAC)", _FFMPEG)
    if _AVI.match(head) or _MPEG_TS.match(head):
        return Signature("AVI video" if head[:4] == b"RIFF" else "an MPEG-TS stream", _FFMPEG)
    if head.startswith(b"OggS"):
        names = [what for word, what in _OGG_STREAMS if head[28:].startswith(word)]
        return Signature(names[0], _FFMPEG) if names else None
    if _ADTS.match(head):
        return Signature("AAC", _FFMPEG)
    if _KALDI_TABLE.match(head):
        return Signature("a Kaldi archive of features", "name the audio that they were made of")
    return _text_signature(head)


def _text_signature(head: bytes) -> Signature | None:
    if _HTML.match(head):
        return Signature("an HTML page", f"{_FETCH}: the server answered with a page")
    if _XML.match(head):
        return Signature("XML", f"{_FETCH}: servers answer so when they refuse")
    if _JSON.match(head):
        return Signature("JSON", f"{_FETCH}: servers answer so when they refuse")
    if head and not head.strip(b"\0"):
        return Signature("nothing but zeros", "fetch the file again: its content was never written")
    if head and all(0x20 <= octet < 0x7F or octet in b"\t\n\r" for octet in head):
        return Signature("text", _FETCH)
    return None
