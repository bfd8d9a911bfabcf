"""Commands of wav.scp: which are understood as files, which must be run, which are refused."""

from __future__ import annotations

import pytest

from tfkd.corpora.pipes import source_of
from tfkd.errors import ManifestError


@pytest.mark.parametrize(
    ("text", "channel"),
    [
        ("flac -c -d -s x.flac |", None),
        ("flac -cds x.flac|", None),
        ("/opt/bin/flac --decode --stdout --silent x.flac |", None),
        ("cat x.flac |", None),
        ("sph2pipe -f wav -p -c 1 x.flac |", 0),
        ("../tools/sph2pipe_v2.5/sph2pipe -f wav -p -c 2 x.flac |", 1),
        ("sph2pipe -fwav -c2 x.flac |", 1),
        ("sph2pipe -f wav x.flac 2>/dev/null |", None),
        ("sox x.flac -t wav - |", None),
        ("sox -t flac x.flac -b 16 -e signed-integer -t wav - |", None),
        ("sox x.flac -c 1 -t wav - |", None),
        ("sox x.flac -t wav - remix 2 |", 1),
        ("ffmpeg -v 8 -i x.flac -f wav - |", None),
        ("ffmpeg -nostdin -loglevel quiet -i x.flac -f wav -acodec pcm_s16le -ac 1 pipe:1 |", None),
    ],
)
def test_a_command_that_only_decodes_is_its_file(text, channel):
    source = source_of(text)
    assert (source.name, source.channel) == ("x.flac", channel)
    assert source.command is not None
    assert not source.command.is_needed


@pytest.mark.parametrize(
    ("text", "stages"),
    [
        ("sox x.mp3 -r 16000 -t wav - |", (("sox", "{}", "-r", "16000", "-t", "wav", "-"),)),
        ("sox x.wav -t wav - rate 8k |", (("sox", "{}", "-t", "wav", "-", "rate", "8k"),)),
        ("sph2pipe -f wav -t 1:2 x.sph |", (("sph2pipe", "-f", "wav", "-t", "1:2", "{}"),)),
        (
            "sph2pipe -f wav 'a b.sph' | sox -t wav - -r 8000 -t wav - |",
            (
                ("sph2pipe", "-f", "wav", "{}"),
                ("sox", "-t", "wav", "-", "-r", "8000", "-t", "wav", "-"),
            ),
        ),
        (
            "ffmpeg -i x.m4a -ar 16000 -f wav - |",
            (("ffmpeg", "-nostdin", "-i", "{}", "-ar", "16000", "-f", "wav", "-"),),
        ),
        # As utils/perturb_data_dir_volume.sh, Babel's recipe and hand-written lists have it.
        (
            "flac -c -d -s x.flac | sox --vol 1.3 -t wav - -t wav - |",
            (
                ("flac", "-c", "-d", "-s", "{}"),
                ("sox", "--vol", "1.3", "-t", "wav", "-", "-t", "wav", "-"),
            ),
        ),
        (
            "sox x.wav -r 8000 -t wav - downsample|",
            (("sox", "{}", "-r", "8000", "-t", "wav", "-", "downsample"),),
        ),
        (
            "sox x.wav -c1 -r16k -b16 -t wav - |",
            (("sox", "{}", "-c", "1", "-r", "16k", "-b", "16", "-t", "wav", "-"),),
        ),
    ],
)
def test_a_command_that_changes_the_audio_must_be_run(text, stages):
    command = source_of(text).command
    assert command is not None
    assert command.is_needed
    assert command.stages == stages


@pytest.mark.parametrize(
    "text",
    [
        "wget -O - http://x/a.wav |",
        "cat a.wav > b.wav |",
        "cat a.wav; rm -rf x |",
        "cat $(ls) |",
        "cat `ls` |",
        "cat *.wav |",
        "cat a.wav b.wav |",
        "cat a.wav && cat b.wav |",
        "cat |",
        "|",
        "a.wav | cat",
        "flac -c a.flac |",
        "flac -d a.flac |",
        "flac -c -d --output-name=/etc/x a.flac |",
        "sph2pipe -f wav a.sph b.wav |",
        "sph2pipe -f raw a.sph |",
        "sph2pipe -f wav -c 3 a.sph |",
        "sox a.wav b.wav |",
        "sox a.wav -t wav - spectrogram |",
        "sox a.wav -t wav - ladspa x |",
        "sox '|touch x' -t wav - |",
        "sox a.wav |",
        "ffmpeg -i a.wav b.wav -f wav - |",
        "ffmpeg -i a.wav -af amovie=x -f wav - |",
        "ffmpeg -i a.wav -f wav out.wav |",
        "ffmpeg -f wav - |",
        "cat 'a.wav |",
        "sox a.wav -t wav - | sox b.wav -t wav - |",
    ],
)
def test_what_does_more_than_write_audio_is_refused(text):
    with pytest.raises(ManifestError):
        source_of(text)


def test_a_path_is_a_path():
    assert source_of("a b.wav").command is None
