"""Labels with a Whisper: cuts long audio into its 30 s windows and normalises what it writes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise, product, starmap
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tfkd.config import (
    WHISPER_PREFIX,
    DecodingConfig,
    LabelConfig,
    PrepareConfig,
    config_digest,
    validate,
)
from tfkd.corpora.splitting import cut_points
from tfkd.distillation.interface import Batch, Labeller
from tfkd.errors import ConfigError
from tfkd.models.frontend.whisper_mel import SAMPLE_RATE_HZ, WINDOW_SAMPLES
from tfkd.models.whisper.folder import WhisperFolder, load_whisper
from tfkd.models.whisper.search import MAX_TOKENS, WhisperSearch, check_search
from tfkd.models.whisper.tokens import WhisperTokens
from tfkd.records import Hypothesis
from tfkd.text import transcript_of
from tfkd.text.spoken_numbers import speller

if TYPE_CHECKING:
    from tfkd.beam_search import BeamResult


@dataclass(frozen=True)
class WhisperTeacher:
    """A Whisper of any size, as a teacher.

    A label holds the normalised text, which students learn, and the text as Whisper wrote it.
    Preparation cuts long recordings without a transcript in their pauses.
    """

    folder: WhisperFolder

    @classmethod
    def load(cls, directory: str | Path) -> WhisperTeacher:
        """Reads a folder as `tfkd.models.whisper.folder.load_whisper` does."""
        return cls(load_whisper(directory))

    @property
    def spec(self) -> str:
        return f"{WHISPER_PREFIX}{self.folder.directory}"

    @property
    def identity(self) -> str:
        return self.folder.identity

    @property
    def sample_rate_hz(self) -> int:
        return SAMPLE_RATE_HZ

    @property
    def usual_seconds(self) -> float:
        return math.inf

    @property
    def tokenizer(self) -> None:
        """None: tfkd's students cannot use Whisper's tokens as their units."""

    @property
    def preparation(self) -> PrepareConfig:
        return PrepareConfig(sample_rate_hz=SAMPLE_RATE_HZ, too_long="split")

    def piece(self, token_id: int) -> str:
        """The text of one token, in which � stands for a part of a letter; specials by name."""
        return self.folder.tokens.piece(token_id)

    def digest(self, config: LabelConfig) -> str:
        decoding = _decoding(config)
        validate(decoding, at="labels")
        check_search(self.folder.model, self.folder.tokens, decoding, config.whisper)
        _to_text(self.folder.tokens, config)
        return config_digest(config, decoding)

    def labeller(self, config: LabelConfig) -> Labeller:
        folder = self.folder
        search = WhisperSearch(folder.model, folder.tokens, _decoding(config), config.whisper)
        to_text = _to_text(folder.tokens, config)

        def label(batch: Batch) -> list[tuple[Hypothesis, ...]]:
            windows = _windows(np.asarray(batch["waveform"]), np.asarray(batch["num_samples"]))
            found: list[list[WhisperTranscript]] = []
            for start in range(0, len(windows), config.batch_size):
                own = windows[start : start + config.batch_size]
                result = search.decode(_padded([window.waveform for window in own]), _lengths(own))
                found.extend(_transcripts(result, folder.tokens))
            return [
                tuple(_hypotheses(best, to_text))
                for best in _joined(windows, found, config.num_hypotheses)
            ]

        return label


class Window(NamedTuple):
    """A part of an utterance that fits Whisper's input: at most 30 s."""

    utterance: int  # its row in the batch
    waveform: np.ndarray


class WhisperTranscript(NamedTuple):
    """A hypothesis of Whisper for a window, or for all windows of an utterance."""

    written: str  # as Whisper writes it
    token_ids: tuple[int, ...]  # the end of each window included
    log_prob: float
    score: float
    token_log_probs: tuple[float, ...]
    is_finished: bool


def _decoding(config: LabelConfig) -> DecodingConfig:
    return config.decoding(DecodingConfig(max_tokens=MAX_TOKENS))


def _to_text(tokens: WhisperTokens, config: LabelConfig) -> Callable[[str], str | None]:
    """Makes the function that turns what Whisper wrote into the text of a label.

    Its result is None where that names speech without its words: (speaking in foreign language).
    """
    options = config.whisper
    language = options.language or tokens.default_language
    if options.task == "translate" or not tokens.is_multilingual:
        language = "en"

    def as_transcripts(written: str) -> str | None:
        extra = options.extra_characters
        return transcript_of(written, extra_characters=extra, is_written_by_model=True).text

    if options.numbers == "as_written":
        return as_transcripts
    if language is None:
        raise ConfigError(
            "labels.whisper.numbers: words for numbers need a language",
            remedy="set labels.whisper.language",
        )
    spell = speller(options.numbers, language)
    return lambda written: as_transcripts(spell(written))


def _windows(waveform: np.ndarray, num_samples: np.ndarray) -> list[Window]:
    """Cuts waveform [B, N] into windows, in order; long utterances are cut where they are quiet."""
    windows = []
    for row, (samples, length) in enumerate(zip(waveform, num_samples, strict=True)):
        own = samples[:length]
        bounds = [0, *cut_points(own, SAMPLE_RATE_HZ, WINDOW_SAMPLES), length]
        windows += [Window(row, own[begin:end]) for begin, end in pairwise(bounds)]
    return windows


def _padded(waveforms: Sequence[np.ndarray]) -> np.ndarray:
    longest = max(map(len, waveforms))
    return np.stack([np.pad(each, (0, longest - len(each))) for each in waveforms])


def _lengths(windows: Sequence[Window]) -> np.ndarray:
    return np.array([len(window.waveform) for window in windows], np.int32)


def _transcripts(result: BeamResult, tokens: WhisperTokens) -> Iterator[list[WhisperTranscript]]:
    """Yields the transcripts that the search found for each window, best first."""
    arrays = type(result)(*(np.asarray(each) for each in result))
    for row, lengths in enumerate(arrays.num_tokens):
        yield [
            _transcript(type(result)(*(each[row, rank] for each in arrays)), tokens)
            for rank in np.flatnonzero(lengths)
        ]


def _transcript(result: BeamResult, tokens: WhisperTokens) -> WhisperTranscript:
    """Makes a transcript from a result that is indexed by utterance and rank."""
    length = int(result.num_tokens)
    token_ids = tuple(result.token_ids[:length].tolist())
    return WhisperTranscript(
        written=tokens.decode(token_ids),
        token_ids=token_ids,
        log_prob=float(result.log_prob),
        score=float(result.score),
        token_log_probs=tuple(result.token_log_probs[:length].tolist()),
        is_finished=bool(result.is_finished),
    )


def _joined(
    windows: Sequence[Window], found: Sequence[list[WhisperTranscript]], count: int
) -> Iterator[list[WhisperTranscript]]:
    """Yields the `count` best transcripts of each utterance, joined from those of its windows."""
    own_windows = groupby(zip(windows, found, strict=True), key=lambda pair: pair[0].utterance)
    for _, pairs in own_windows:
        first, *others = [transcripts for _, transcripts in pairs]
        for following in others:
            first = _best(list(starmap(_join, product(first, following))), count)
        yield first[:count]


def _best(transcripts: Sequence[WhisperTranscript], count: int) -> list[WhisperTranscript]:
    """The `count` best that have ended, then the `count` best that were cut off, as in the search.

    Scores of windows add up, so the best of the whole are made of the best of each kind.
    """
    ranked = sorted(transcripts, key=lambda each: -each.score)
    ended = [each for each in ranked if each.is_finished]
    cut_off = [each for each in ranked if not each.is_finished]
    return ended[:count] + cut_off[:count]


def _join(first: WhisperTranscript, second: WhisperTranscript) -> WhisperTranscript:
    """Joins two transcripts in time: their log-probabilities and scores add up."""
    return WhisperTranscript(
        written=" ".join(filter(None, (first.written, second.written))),
        token_ids=first.token_ids + second.token_ids,
        log_prob=first.log_prob + second.log_prob,
        score=first.score + second.score,
        token_log_probs=first.token_log_probs + second.token_log_probs,
        is_finished=first.is_finished and second.is_finished,
    )


def _hypotheses(
    best: Sequence[WhisperTranscript], to_text: Callable[[str], str | None]
) -> Iterator[Hypothesis]:
    """Yields the hypotheses that have a text."""
    for transcript in best:
        text = to_text(transcript.written)
        if text is not None:
            yield Hypothesis(
                text=text,
                token_ids=transcript.token_ids,
                log_prob=transcript.log_prob,
                score=transcript.score,
                token_log_probs=transcript.token_log_probs,
                finish_reason="eos" if transcript.is_finished else "max_steps",
                written=transcript.written,
            )
