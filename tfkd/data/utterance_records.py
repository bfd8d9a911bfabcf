"""Makes the record of each utterance: reads its audio, and checks audio and text."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from tfkd.audio.flac import encode_flac
from tfkd.audio.reading import LastFile, Recording, at_rate, read_recording
from tfkd.audio.unusable import UnusableAudio
from tfkd.audio.waveforms import check_waveform
from tfkd.config import PrepareConfig
from tfkd.corpora import Rejection, Utterance
from tfkd.data.rejections import NO_FILE, rejection_of
from tfkd.data.remarks import Remarks
from tfkd.records import UtteranceRecord
from tfkd.text import transcript_of

# Utterances of one file that a thread reads in turn, while others read what follows.
_MOST_OF_ONE_FILE = 64
# Durations in manifests may differ by this much, being rounded, or estimated for MP3.
_LENGTH_SECONDS, _LENGTH_SHARE = 0.2, 0.05
_TOO_LONG_ADVICE = {
    "reject": "; prepare.too_long: split cuts recordings without text in their pauses",
    "split": "; its text cannot be cut automatically: cut audio and text, or leave the text out",
}


def records_of(
    utterances: Iterable[Utterance], config: PrepareConfig, remarks: Remarks
) -> Iterator[UtteranceRecord | Rejection]:
    """Makes the records of utterances, or rejections with the reasons, in several threads."""
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        groups = pool.map(lambda each: _records(each, config, remarks), _of_one_file(utterances))
        yield from itertools.chain.from_iterable(groups)
    finally:  # Where somebody stops the command, too.
        pool.shutdown(cancel_futures=True)


def without_placeholder(utterance: Utterance, config: PrepareConfig) -> Utterance:
    """The same utterance, without its text if that is no transcript, such as "N/A" or "<unk>"."""
    is_transcribed = utterance.text is None or _transcript(utterance, config) is not None
    return utterance if is_transcribed else dataclasses.replace(utterance, text=None)


def _of_one_file(utterances: Iterable[Utterance]) -> Iterator[list[Utterance]]:
    """Groups utterances that follow each other in one file, so that a thread reads them in turn."""
    for _, own in itertools.groupby(utterances, key=lambda each: each.audio):
        while group := list(itertools.islice(own, _MOST_OF_ONE_FILE)):
            yield group


def _records(
    utterances: Iterable[Utterance], config: PrepareConfig, remarks: Remarks
) -> list[UtteranceRecord | Rejection]:
    with LastFile() as last:
        return [_record(utterance, config, remarks, last) for utterance in utterances]


def _record(
    utterance: Utterance, config: PrepareConfig, remarks: Remarks, last: LastFile
) -> UtteranceRecord | Rejection:
    """Makes the record of an utterance, or a rejection with the reason."""
    try:
        recording, text = _read(utterance, config, last), _transcript(utterance, config)
        waveform = recording.waveform
        check_waveform(
            waveform,
            config.sample_rate_hz,
            min_seconds=config.min_seconds,
            max_seconds=config.max_seconds,
            may_be_silent=text == "",
        )
    except UnusableAudio as error:
        return rejection_of(utterance, error.reason, _detail(error, utterance, config))
    remarks.add(utterance.utterance_id, (*recording.remarks, *_length_remark(utterance, recording)))
    return UtteranceRecord(
        utterance_id=utterance.utterance_id,
        audio=encode_flac(waveform, config.sample_rate_hz),
        num_samples=len(waveform),
        sample_rate_hz=config.sample_rate_hz,
        text=text,
        speaker=utterance.speaker,
    )


def _read(utterance: Utterance, config: PrepareConfig, last: LastFile) -> Recording:
    # The splitter left these whole because they are unreadable; reading them gives the reason.
    is_to_be_cut = config.too_long == "split" and utterance.text is None
    recording = read_recording(
        utterance.audio,
        start_seconds=utterance.start_seconds,
        end_seconds=utterance.end_seconds,
        channel=utterance.channel,
        max_seconds=math.inf if is_to_be_cut else config.max_seconds,
        command=utterance.command,
        last=last,
    )
    return at_rate(recording, config.sample_rate_hz, str(utterance.audio))


def _length_remark(utterance: Utterance, recording: Recording) -> tuple[str, ...]:
    """Remarks on a recording whose length differs from the corpus': a part of it may be meant."""
    seconds, declared = (
        len(recording.waveform) / recording.sample_rate_hz,
        utterance.declared_seconds,
    )
    if declared is None or abs(seconds - declared) <= max(
        _LENGTH_SECONDS, _LENGTH_SHARE * declared
    ):
        return ()
    return (
        f"its corpus says that it is {declared:g} s long, but it has {seconds:.3f} s, which are "
        "all used; to use a part, give its start, too",
    )


def _detail(error: UnusableAudio, utterance: Utterance, config: PrepareConfig) -> str:
    """Describes what is wrong and the remedy."""
    if error.reason == "too_long":
        return error.message + _TOO_LONG_ADVICE[config.too_long]
    if error.reason == "missing_file" and not os.path.exists(utterance.audio):
        return NO_FILE.format(utterance.audio)
    return f"{error.message} ({error.remedy})"


def _transcript(utterance: Utterance, config: PrepareConfig) -> str | None:
    extra = config.text.extra_characters
    return transcript_of(utterance.text, extra_characters=extra, tags=config.tags).text
