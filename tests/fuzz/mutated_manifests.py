"""Mutated manifests of every layout, read and followed to their audio."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import soundfile
from mutation import mutate

from tfkd.audio.reading import read_recording
from tfkd.audio.unusable import UnusableAudio
from tfkd.corpora import Utterance, read_corpus
from tfkd.text import transcript_of

RATE_HZ = 8000
_JSONL = [
    {"utterance_id": "a", "audio": "a.wav", "text": "seven four"},
    {"audio_filepath": "a.wav", "offset": 0.01, "duration": 0.02, "text": "zwei", "speaker": 3},
    {"id": "b", "audio": "a.wav", "start_seconds": 0.0, "end_seconds": 1e-2},
]
_CUT = {
    "id": "c",
    "start": 0.0,
    "duration": 0.02,
    "channel": [0],
    "type": "MonoCut",
    "supervisions": [{"id": "c", "start": 0.01, "duration": 0.01, "text": "one", "speaker": "x"}],
    "recording": {"id": "r", "sources": [{"type": "file", "channels": [0], "source": "a.wav"}]},
}
# How layouts are called that are a form of another one.
_FORMATS = {"array": "jsonl", "speechbrain": "jsonl", "cuts": "jsonl", "commands": "kaldi"}
# The file of each layout, and the files beside it.
_LAYOUTS = {
    "jsonl": {"manifest": "".join(json.dumps(row) + "\n" for row in _JSONL)},
    "kaldi": {
        "wav.scp": "r a.wav\ns a.wav\n",
        "text": "u one\nv two three\n",
        "segments": "u r 0.0 0.02\nv s 0.01 -1\n",
        "utt2spk": "u x\nv y\n",
    },
    "librispeech": {"1-2.trans.txt": "a ONE TWO\n1-2-0001 THREE\n"},
    "commonvoice": {
        "manifest": "client_id\tpath\tsentence\tage\nx\ta.wav\tOne.\t\ny\tb.mp3\tTwo\tteens\n"
    },
    "ljspeech": {"metadata.csv": "a|One.|one\nb|2|two\n"},
    "table": {
        "manifest": 'ID,wav,start,stop,channel,wrd\na,a.wav,,,,"one, two"\nb,a.wav,0,.01,0,\n'
    },
    "array": {"manifest": json.dumps(_JSONL, indent=1)},
    "speechbrain": {"manifest": json.dumps({"a": {"wav": "a.wav", "words": "[noise] one"}})},
    "cuts": {"manifest": json.dumps(_CUT)},
    "commands": {
        "wav.scp": "r flac -c -d -s a.wav |\ns sox a.wav -t wav - remix 1 |\nt cat a.wav |\n",
        "reco2file_and_channel": "r a A\ns a B\n",
        "text": "r one\n",
    },
}
_WORDS = [
    b"\n", b"\r\n", b"\t", b"|", b" ", b'"', b"{", b"}", b"[" * 3000, b"9" * 5000, b"1e999", b"NaN",
    b"-1", b"null", b"true", b"../", b"/", b"..", b"\0", b"\xff\xfe", b"\xef\xbb\xbf",
    b"\xe2\x80\xa8", b"\\ud800", b"x" * 300, b"|cat ", b"a.ark:12", b" |", b"'", b"[noise]",
    "\u00df\u0130\ufb01".encode(),
]  # fmt: skip


@functools.cache
def _folder(layout: str, scratch: Path) -> Path:
    folder = scratch / layout
    for name in ("a.wav", "clips/a.wav", "wavs/a.wav"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, 0.1 * np.ones(RATE_HZ // 20), RATE_HZ)
    for name, text in _LAYOUTS[layout].items():
        (folder / name).write_text(text)
    return folder


def case(generator: np.random.Generator, scratch: Path) -> None:
    """What `tfkd prepare` does with a corpus."""
    layout = generator.choice(list(_LAYOUTS))
    folder = _folder(layout, scratch)
    name = generator.choice(list(_LAYOUTS[layout]))
    valid = _LAYOUTS[layout][name].encode()
    (folder / name).write_bytes(mutate([valid], _WORDS, generator))
    try:
        source = folder if layout in ("kaldi", "commands", "librispeech") else folder / name
        utterances, _ = read_corpus(source, _FORMATS.get(layout, layout))
    finally:
        (folder / name).write_bytes(valid)
    for utterance in utterances:
        transcript_of(utterance.text)
        _read(utterance)


def _read(utterance: Utterance) -> None:
    try:
        read_recording(
            utterance.audio,
            start_seconds=utterance.start_seconds,
            end_seconds=utterance.end_seconds,
            channel=utterance.channel,
        )
    except UnusableAudio as error:
        str(error).encode()  # Becomes a line of rejected.jsonl.
