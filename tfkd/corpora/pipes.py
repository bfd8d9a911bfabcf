"""Parses commands of wav.scp without a shell: which file they read, and what they do to it.

    flac -c -d -s X |        sph2pipe -f wav -p -c 1 X |        sox X -t wav - |

References:
  "Data preparation", Kaldi documentation: an extended filename that ends with | is a command.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from tfkd.audio.commands import FILE, Command
from tfkd.errors import ManifestError, advising

_KNOWN = "cat, flac, sph2pipe, sox and ffmpeg"
_DISCARDED = re.compile(r"\s2>\s*/dev/null")
# Words that a shell would expand, or that make it do more than run the programs.
_SHELL = re.compile(r"[$`*?~\\]|^[;&<>()]+$")
_STDOUT = ("-", "pipe:", "pipe:1", "/dev/stdout")
_PCM_FORMATS = ("wav", "wavpcm", "flac", "au", "aiff")


@dataclass(frozen=True)
class Source:
    """The audio file of a line of wav.scp, and the command that reads it.

    Attributes:
      name: of the file, as the line has it.
      command: None where the line is nothing but a path.
    """

    name: str
    command: Command | None = None

    @property
    def channel(self) -> int | None:
        """The channel that the command takes out of the file, counted from 0."""
        return None if self.command is None else self.command.channel


@advising("convert the audio to files and name those")
def source_of(text: str) -> Source:
    """Parses what follows the id in a line of wav.scp.

    >>> from tfkd.corpora.pipes import source_of
    >>> source_of("sph2pipe -f wav -p -c 2 disk/fe_03_1.sph |").channel
    1

    Raises:
      ManifestError: if it is a command that is not known, does more than write audio to its output,
        or needs a shell.
    """
    if not text.endswith("|"):
        if "|" in text:
            raise ManifestError(f"a command that does not end with |: {text}")
        return Source(text)
    stages = _stages(_DISCARDED.sub("", text[:-1]))
    uses = [_use(stages[0], is_first=True), *(_use(words, is_first=False) for words in stages[1:])]
    name = uses[0].file
    if name is None:
        raise ManifestError(f"names no file: {text}")
    words = tuple(tuple(use.words) for use in uses)
    is_needed = len(uses) > 1 or uses[0].changes
    return Source(name, Command(words, is_needed, uses[0].channel))


def _stages(text: str) -> list[list[str]]:
    try:
        lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        lexer.commenters = ""
        words = list(lexer)
    except ValueError as error:
        raise ManifestError(f"not the words of a command: {text} ({error})") from error
    for word in words:
        if _SHELL.search(word):
            raise ManifestError(f"needs a shell for {word!r}: {text}")
    stages: list[list[str]] = [[]]
    for word in words:
        if word == "|":
            stages.append([])
        else:
            stages[-1].append(word)
    if not all(stages):
        raise ManifestError(f"an empty command: {text}")
    return stages


@dataclass
class _Use:
    """One program of a command, as it was parsed.

    Attributes:
      words: its words, with `{}` for the file.
      changes: whether what it writes is more than the samples of the file, or of one channel.
    """

    words: list[str]
    file: str | None = None
    channel: int | None = None
    changes: bool = False
    output: str | None = None


@dataclass(frozen=True)
class _Options:
    """The options of a program, by the number of words that follow each.

    Attributes:
      plain: those that change no sample.
      other: those that do, but no file.
    """

    plain: dict[str, int] = field(default_factory=dict)
    other: dict[str, int] = field(default_factory=dict)

    def count(self, word: str, program: str) -> int:
        """Returns the number of words that follow an option."""
        if word not in self.plain and word not in self.other:
            raise ManifestError(f"option {word} of {program} is not known")
        return {**self.plain, **self.other}[word]


_FLAC = _Options(
    dict.fromkeys(("-c", "-d", "-s", "--stdout", "--decode", "--silent", "--totally-silent"), 0)
    | {"-F": 0, "--decode-through-errors": 0}
)
_SPH2PIPE = _Options({"-p": 0, "-f": 1, "-c": 1}, {"-u": 0, "-a": 0, "-t": 1, "-s": 1})
_SOX_PLAIN = {"-q": 0, "-R": 0, "-D": 0, "-S": 0, "-V": 0, "-V0": 0, "-V1": 0, "-V2": 0, "-G": 0}
_SOX_FORMAT = {"-t": 1, "-e": 1, "-b": 1, "--type": 1, "--encoding": 1, "--bits": 1}
_SOX_FORMAT |= {"-s": 0, "-2": 0, "--no-dither": 0}
_SOX_CHANGES = {"-r": 1, "--rate": 1, "-c": 1, "--channels": 1}
_SOX_CHANGES |= dict.fromkeys(("-v", "--vol", "--volume"), 1)
_SOX = _Options(_SOX_PLAIN | _SOX_FORMAT, _SOX_CHANGES)
# Effects that read and write no file.
_SOX_EFFECTS = {"rate", "remix", "channels", "gain", "norm", "vol", "speed", "tempo", "pitch"}
_SOX_EFFECTS |= {"trim", "pad", "dither", "highpass", "lowpass", "sinc", "reverse", "fade"}
_SOX_EFFECTS |= {"downsample"}
_FFMPEG = _Options(
    {"-v": 1, "-loglevel": 1, "-hide_banner": 0, "-nostdin": 0, "-nostats": 0, "-y": 0, "-vn": 0}
    | {"-f": 1, "-acodec": 1, "-c:a": 1, "-codec:a": 1, "-ab": 1, "-i": 1, "-threads": 1},
    {"-ar": 1, "-ac": 1, "-ss": 1, "-t": 1, "-to": 1, "-map_channel": 1},
)


def _use(words: Sequence[str], *, is_first: bool) -> _Use:
    program = PurePosixPath(words[0]).name
    if program not in _READERS:
        raise ManifestError(f"{words[0]} is none of the programs that are known here: {_KNOWN}")
    use = _READERS[program](program, list(words[1:]))
    if is_first != (use.file not in (None, "-", "pipe:0", "pipe:")):
        what = "names no file" if is_first else "reads a file where it should read what came before"
        raise ManifestError(f"{program} {what}")
    return use


def _simple(program: str, words: list[str], options: _Options) -> tuple[_Use, dict[str, str]]:
    """Parses a program that takes options and one file; also returns the options' values."""
    use, values, rest = _Use([program]), {}, list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-") or word == "-":
            if use.file is not None:
                raise ManifestError(f"{program} is given more than one file")
            use.file = word
            use.words.append(word if word == "-" else FILE)
            continue
        count = options.count(word, program)
        use.words.append(word)
        use.changes |= word in options.other
        values[word] = ""
        if count:
            if not rest:
                raise ManifestError(f"option {word} of {program} has no value")
            values[word] = rest.pop(0)
            use.words.append(values[word])
    return use, values


def _read_cat(program: str, words: list[str]) -> _Use:
    return _simple(program, words, _Options())[0]


def _read_flac(program: str, words: list[str]) -> _Use:
    spelt_out = [
        f"-{letter}" if re.fullmatch(r"-[cdsF]{2,}", word) else word
        for word in words
        for letter in (word[1:] if re.fullmatch(r"-[cdsF]{2,}", word) else "-")
    ]
    use, values = _simple(program, spelt_out, _FLAC)
    if not {"-d", "--decode"} & values.keys() or not {"-c", "--stdout"} & values.keys():
        raise ManifestError("flac does not decode to its output (-d -c)")
    return use


def _read_sph2pipe(program: str, words: list[str]) -> _Use:
    # Values may be written to their options: -c1, -fwav.
    use, values = _simple(program, _apart(words, "fct"), _SPH2PIPE)
    channel = values.get("-c")
    if channel is not None:
        if channel not in ("1", "2"):
            raise ManifestError(f"channel {channel} of sph2pipe is not 1 or 2")
        use.channel = int(channel) - 1
    if values.get("-f", "wav") not in ("wav", "rif", "sph", "au", "aif"):
        raise ManifestError("sph2pipe writes audio without a header", remedy="add -f wav")
    return use


def _apart(words: Sequence[str], letters: str) -> list[str]:
    """Separates the values of one-letter options: -c1 becomes -c and 1."""
    joined = re.compile(f"(-[{letters}])(.+)")
    matches = [(word, joined.fullmatch(word)) for word in words]
    return [part for word, match in matches for part in (match.groups() if match else [word])]


def _read_sox(program: str, words: list[str]) -> _Use:
    use, rest, files = _Use([program]), _apart(words, "rcbet"), 0
    while rest and files < 2:
        word = rest.pop(0)
        if word.startswith("-") and word != "-":
            count = _SOX.count(word, program)
            taken, rest = rest[:count], rest[count:]
            use.words += [word, *taken]
            is_mono = word in ("-c", "--channels") and taken == ["1"] and files == 1
            use.changes |= word in _SOX.other and not is_mono
            is_raw = word in ("-t", "--type") and " ".join(taken) in ("raw", "sw", "s16", "sl")
            use.changes |= is_raw and files == 0
            continue
        if word.startswith("|"):
            raise ManifestError("sox is asked to run another command")
        if files == 0:
            use.file = word
        elif word not in _STDOUT:
            raise ManifestError(f"sox writes to {word}, not to its output")
        use.words.append(FILE if files == 0 and word != "-" else word)
        files += 1
    if files < 2:
        raise ManifestError("sox is not told to write to its output (-)")
    use.words += rest
    _read_effects(use, rest)
    return use


def _read_effects(use: _Use, words: Sequence[str]) -> None:
    if not words:
        return
    named = [word for word in words if word[:1].isalpha() and len(word) > 2]
    for word in named:
        if word not in _SOX_EFFECTS:
            raise ManifestError(f"effect {word} of sox is not known")
    if len(words) == 2 and words[0] == "remix" and words[1].isdigit() and int(words[1]) > 0:
        use.channel = int(words[1]) - 1
    elif list(words) != ["channels", "1"] and list(words) != ["remix", "-"]:
        use.changes = True


def _read_ffmpeg(program: str, words: list[str]) -> _Use:
    if words and words[-1] not in _STDOUT:
        raise ManifestError("ffmpeg does not write to its output (-)")
    use, values = _simple(program, words[:-1], _FFMPEG)
    if use.file is not None:
        raise ManifestError(f"ffmpeg writes to {use.file}, too")
    if values.get("-f") not in _PCM_FORMATS:
        raise ManifestError("ffmpeg is not told to write WAV", remedy="add -f wav")
    use.file = values.get("-i")
    at = use.words.index("-i") + 1 if "-i" in use.words else 0
    if at and use.file not in ("-", "pipe:0", "pipe:"):
        use.words[at] = FILE
    use.words.append(words[-1])
    # Of two channels, or of one, ffmpeg makes their mean, as is done here.
    use.changes = any(option in _FFMPEG.other for option in values if option != "-ac")
    use.changes |= values.get("-ac", "1") != "1"
    if use.file is not None and "-nostdin" not in values:
        use.words.insert(1, "-nostdin")
    return use


_READERS = {
    "cat": _read_cat,
    "flac": _read_flac,
    "sph2pipe": _read_sph2pipe,
    "sox": _read_sox,
    "ffmpeg": _read_ffmpeg,
}
