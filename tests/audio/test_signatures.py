"""Files that are not audio: the error names their kind and the remedy."""

from __future__ import annotations

import pytest
from audio_files import encoded, noise, refusal

from tfkd.audio.signatures import signature_of


@pytest.mark.parametrize(
    ("head", "what", "remedy"),
    [
        (b"\0\0\0\x1cftypM4A \0\0\x02\0", "MP4", "ffmpeg"),
        (b"\x1a\x45\xdf\xa3\x9fB\x86\x81", "WebM", "ffmpeg"),
        (b"#!AMR\n", "AMR", "ffmpeg"),
        (b"\xff\xf1P\x80\x1f\xfc", "AAC", "ffmpeg"),
        (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "Windows Media", "ffmpeg"),
        (b"<!DOCTYPE html><html><body>404 Not Found</body></html>", "HTML", "fetch"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "XML", "fetch"),
        (b'{"error": "rate limited"}', "JSON", "fetch"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS", "git lfs pull"),
        (b"/annex/objects/SHA256E-s10--0.wav", "git-annex", "git annex get"),
        (b"PK\x03\x04\x14\0", "ZIP", "unpack"),
        (b"\x1f\x8b\x08\0", "gzip", "unpack"),
        (b"\x93NUMPY\x01\0v\0", "NumPy", "WAV"),
        (b"utt1 \0BFM \x04", "Kaldi archive", "audio"),
        (b"RIFF\x10\0\0\0AVI LIST", "AVI", "ffmpeg"),
        ((b"G" + bytes(187)) * 3, "MPEG-TS", "ffmpeg"),
        (b".SoX\0\0\0\0", "SoX", "sox"),
        (bytes(2000), "zeros", "again"),
        (b"one two three\n" * 9, "text", "fetch"),
    ],
)
def test_what_is_no_audio_is_named(head, what, remedy):
    error = refusal(head)
    assert error.reason == "undecodable_audio"
    assert what in error.message
    assert remedy in (error.remedy or "")


def test_codecs_in_ogg_are_named():
    found = signature_of(b"OggS\0\x02" + bytes(22) + b"Speex   1.2")
    assert found is not None
    assert found.what == "Ogg Speex"


def test_audio_has_no_other_name():
    for kind in ("WAV", "FLAC", "MP3", "AIFF", "AU", "CAF", "OGG"):
        assert signature_of(encoded(noise(1000), 16000, kind)) is None
