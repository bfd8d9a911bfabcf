"""Reads runs: folders with the config, tokenizer and weights of a trained recogniser."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfkd.audio.reading import read_audio
from tfkd.audio.segments import Segment, recognise_segments, text_of, warn_if_cut_short
from tfkd.audio.waveforms import check_recognisable
from tfkd.config import (
    WHISPER_PREFIX,
    DecodingConfig,
    SystemConfig,
    from_dict,
    with_overrides,
)
from tfkd.config.strict_yaml import read_yaml
from tfkd.data.given_audio import preparation_for, utterance_store
from tfkd.decoding.ctc_alignment import token_frames
from tfkd.decoding.decoder import Decoder
from tfkd.decoding.defaults import resolved
from tfkd.decoding.results import hypotheses_of, unbatch, word_spans
from tfkd.errors import CheckpointError
from tfkd.language_models import language_model_sha256
from tfkd.models.recogniser import Recogniser
from tfkd.records import Hypothesis, Store, open_store
from tfkd.storage.files import (
    sha256,
    sha256_of_files,
    sha256_of_text,
)
from tfkd.storage.keras_files import MODEL, read_model
from tfkd.storage.markers import warn_of_unfinished
from tfkd.text import (
    Tokenizer,
    load_tokenizer,
    tokenizer_files,
)

CONFIG = "config.yaml"
# A Whisper has its settings there, as Hugging Face and CTranslate2 write them; no run has.
_WHISPERS_CONFIG = "config.json"
_LOG = logging.getLogger("tfkd")
# The folder of the validation utterances with which exports are compared with Keras.
PARITY = "parity"
_USUAL_SHARE = 0.95


@dataclass(frozen=True)
class Word:
    """One word of a transcript.

    Attributes:
      text: the word.
      start: time in seconds at which CTC hears its first token; of attention without CTC.
      end: time in seconds at which the encoding of its last token ends, or the next word begins.
      confidence: probability of its tokens given what comes before them, 0 to 1.
    """

    text: str
    start: float
    end: float
    confidence: float


@dataclass(frozen=True)
class Transcript:
    """The recognised text of a recording.

    Attributes:
      text: of the best hypotheses of all segments, "" if there is none.
      words: of these hypotheses, in order.
      segments: in order, each with the k best, which have the fields of pseudo labels; the
        `finish_reason` of a text that `max_tokens` cut short is "max_steps". A recording as short
        as an utterance is one segment.
    """

    text: str
    words: tuple[Word, ...]
    segments: tuple[Segment[Hypothesis], ...]


@dataclass(frozen=True)
class Run:
    """A trained recogniser; `load_run` reads one from its folder.

    Attributes:
      directory: folder that `tfkd train` or `tfkd distill` wrote.
      system: its settings; `system.decoding` holds those of the search.
      tokenizer: maps texts to token ids and back.
      model: the `keras.Model`.
      sha256: hex digest of its model file when it was read, which identifies the weights.

    >>> run = tfkd.load_run("work/teacher")
    >>> run.transcribe("order.wav").text
    'se'
    """

    directory: Path
    system: SystemConfig
    tokenizer: Tokenizer
    model: Recogniser
    sha256: str

    @property
    def sample_rate_hz(self) -> int:
        """Sample rate of the waveforms that it takes, in Hz."""
        return self.system.model.frontend.sample_rate_hz

    @functools.cached_property
    def usual_seconds(self) -> float:
        """Duration that 95 % of its validation utterances do not exceed.

        It is infinite in a run that keeps none of them, such as one of `save_run`.
        """
        directory = self.directory / PARITY
        if not directory.exists():
            return math.inf
        return usual_seconds_of(open_store(directory), self.sample_rate_hz)

    def with_decoding(self, overrides: Sequence[str]) -> Run:
        """Returns the same recogniser with other decoding settings.

        Args:
          overrides: "key=value" each, such as "beam_width=8" or "fusion.ctc_weight=0".
        Raises:
          ConfigError: if a key is unknown or a value invalid.
        """
        decoding = with_overrides(self.system.decoding, overrides)
        return replace(self, system=replace(self.system, decoding=decoding))

    def decoder(
        self, decoding: DecodingConfig | None = None, *, batch_size: int | None = None
    ) -> Decoder:
        """Makes the search over this recogniser, with its defaults filled in.

        Args:
          decoding: settings of the search; the run's own by default.
          batch_size: static batch size, which TFLite needs; None allows any.
        Raises:
          ConfigError: if `fusion.ctc_weight` is above 0 and the model has no CTC head.
          LanguageModelError: if the language model cannot be read, or has other units.
        """
        settings = resolved(decoding or self.system.decoding, self.system)
        is_trained = self.system.training.ctc_weight > 0
        if settings.fusion.ctc_weight and self.system.model.ctc and not is_trained:
            _LOG.warning(
                "%s: its CTC head joins the search, but training.ctc_weight is 0, so the head has "
                "learned nothing (set fusion.ctc_weight to 0)",
                self.directory,
            )
        return Decoder(self.model, self.tokenizer, settings, batch_size=batch_size)

    def decode(self, waveforms: Sequence[np.ndarray]) -> list[tuple[Hypothesis, ...]]:
        """Recognises waveforms together, as one batch.

        Args:
          waveforms: float32 [N] in [-1, 1] each, at `sample_rate_hz`, of any lengths.
        Returns:
          The hypotheses of each, best first; an empty tuple where no speech was found.
        Raises:
          AudioError: if a waveform is empty, not finite, not of floats, or not of shape [N].

        >>> run = tfkd.load_run("work/teacher")
        >>> silence = np.zeros(run.sample_rate_hz, np.float32)
        >>> run.decode([silence])
        [()]
        """
        arrays = [np.asarray(waveform) for waveform in waveforms]
        if not arrays:
            return []
        for array in arrays:
            check_recognisable(array)
        lengths = np.array([array.size for array in arrays], np.int32)
        padded = np.zeros((len(arrays), lengths.max()), np.float32)
        for row, array in zip(padded, arrays, strict=True):
            row[: array.size] = array
        result = self._own_decoder.decode(padded, lengths)
        names = [b""] * len(arrays)
        decoded = unbatch(result, self.tokenizer, names, [None] * len(names), lengths.tolist())
        return [hypotheses_of(each, self.model.frame_seconds) for each in decoded]

    def transcribe(self, path: str | Path) -> Transcript:
        """Reads an audio file, resamples it to `sample_rate_hz` and recognises it.

        A recording that is longer than utterances is cut in its pauses, as on a device. A warning
        names the file if a text is cut short by `max_tokens`.

        Raises:
          AudioError: if the file cannot be decoded, or holds NaN or infinity.

        >>> run = tfkd.load_run("work/teacher")
        >>> [word.text for word in run.transcribe("order.wav").words]
        ['se']
        """
        waveform = read_audio(path, sample_rate_hz=self.sample_rate_hz)
        check_recognisable(waveform, path)
        segments = recognise_segments(
            waveform, self.sample_rate_hz, self.usual_seconds, self._decode_with_times
        )
        warn_if_cut_short(segments, path, "run.with_decoding(['max_tokens=N']) raises it")
        words = [word for segment in segments for word in self._words(segment)]
        return Transcript(text_of(segments), tuple(words), segments)

    @contextlib.contextmanager
    def open_data(self, data: str | Path) -> Iterator[Store]:
        """Opens a store, or prepares a corpus as a temporary store for the `with` block.

        Args:
          data: a folder that `tfkd prepare` wrote, or a corpus that it reads.
        Raises:
          ManifestError: if the manifest cannot be read.
          RecordError: if the store is damaged, or of another sample rate.
        """
        config = preparation_for(self.sample_rate_hz, self.tokenizer.pieces)
        with utterance_store(data, config) as store:
            yield store

    def _decode_with_times(self, waveform: np.ndarray) -> tuple[Hypothesis, ...]:
        """Decodes an utterance; the best hypothesis has the times at which CTC hears its tokens.

        They are those of attention where CTC was not learned, or is all that was.
        """
        (hypotheses,) = self.decode([waveform])
        is_known = self.system.model.ctc and self.system.training.ctc_weight > 0
        if not hypotheses or not is_known or self.system.model.decoder.kind == "none":
            return hypotheses
        best, *others = hypotheses
        has_end = best.token_ids[-1:] == (self.tokenizer.eos_id,)
        said = best.token_ids[:-1] if has_end else best.token_ids
        log_probs = self._ctc_log_probs(waveform[np.newaxis], [waveform.size]).numpy()
        frames = token_frames(log_probs, said, blank=self.tokenizer.pad_id)
        if frames is None:
            return hypotheses
        if has_end:
            frames.append(frames[-1] if frames else 0)
        seconds = tuple(frame * self.model.frame_seconds for frame in frames)
        return (replace(best, token_seconds=seconds), *others)

    @functools.cached_property
    def _ctc_log_probs(self) -> Callable[[np.ndarray, Sequence[int]], tf.Tensor]:
        """Maps a waveform [1, N] of num_samples [1] to log-probabilities [S, V] of CTC."""

        def log_probs(waveform: tf.Tensor, num_samples: tf.Tensor) -> tf.Tensor:
            encoded, lengths = self.model.encode(waveform, num_samples)
            return tf.nn.log_softmax(self.model.ctc_logits(encoded[:, : lengths[0]]))[0]

        signature = [tf.TensorSpec([1, None], tf.float32), tf.TensorSpec([1], tf.int32)]
        return tf.function(log_probs, input_signature=signature, autograph=False)

    @functools.cached_property
    def _own_decoder(self) -> Decoder:
        """The decoder of `decode`, made once, because tracing it takes seconds."""
        return self.decoder()

    def _words(self, segment: Segment[Hypothesis]) -> Iterator[Word]:
        if not segment.hypotheses:
            return
        hypothesis = segment.hypotheses[0]
        seconds = [segment.start_seconds + each for each in hypothesis.token_seconds]
        spans = list(word_spans(hypothesis.token_ids, self.tokenizer.pieces))
        starts = [seconds[first] for _, first, _ in spans]
        followings = [*starts, math.inf][1:]
        for (text, first, last), following in zip(spans, followings, strict=True):
            yield Word(
                text=text,
                start=seconds[first],
                end=max(seconds[first], min(seconds[last] + self.model.frame_seconds, following)),
                confidence=math.exp(sum(hypothesis.token_log_probs[first : last + 1])),
            )


def usual_seconds_of(store: Store, sample_rate_hz: int) -> float:
    """Computes the duration that 95 % of the utterances of a store do not exceed."""
    samples = np.quantile([row["num_samples"] for row in store.index], _USUAL_SHARE)
    return float(samples) / sample_rate_hz


def run_files(directory: Path) -> list[Path]:
    """Lists the files in a run's folder that its output depends on."""
    return [directory / MODEL, directory / CONFIG, *tokenizer_files(directory)]


def run_identity(directory: Path) -> str:
    """Computes the sha256 of all that the output of a run depends on.

    Raises:
      CheckpointError: if its config is damaged.
      LanguageModelError: if the language model of its search is missing.
    """
    own = sha256_of_files(directory, run_files(directory))
    fusion = _read_system(directory / CONFIG).decoding.fusion
    if fusion.lm is None or not fusion.lm_weight:
        return own
    # The config holds the path of the language model, whose content may change.
    return sha256_of_text(f"{own} {language_model_sha256(fusion.lm)}")


def load_run(directory: str | Path) -> Run:
    """Reads a run folder; a warning names one whose training has not ended.

    Raises:
      CheckpointError: if the folder is not a run, or a file in it is missing or damaged.

    >>> tfkd.load_run("work/teacher").sample_rate_hz
    8000
    """
    directory = Path(directory)
    check_run(directory)
    system = _read_system(directory / CONFIG)
    warn_of_unfinished(directory)
    tokenizer = load_tokenizer(directory)
    digest = sha256(directory / MODEL)
    model = load_model(directory / MODEL)
    if model.config != system.model:
        raise CheckpointError(
            f"describes another model than the {MODEL} beside it",
            path=directory / CONFIG,
            remedy="copy the whole folder again, or undo the change of the section model: that "
            "of decoding alone may be changed",
        )
    check_vocabulary(model, tokenizer, directory, remedy="copy the whole folder again")
    return Run(directory, system, tokenizer, model, digest)


def check_run(directory: str | Path) -> None:
    """Raises CheckpointError unless a folder has the files of a run."""
    check_no_whisper(directory)
    for name in (CONFIG, MODEL):
        if not (Path(directory) / name).is_file():
            raise CheckpointError(
                f"is not a finished run: {name} is missing",
                path=directory,
                remedy="give the folder that tfkd train or tfkd distill wrote",
            )


def check_no_whisper(path: str | Path) -> None:
    """Raises CheckpointError if a path is that of a Whisper where a run is to be."""
    folder = str(path).removeprefix(WHISPER_PREFIX)
    is_named = folder != str(path)
    if is_named or (Path(path) / _WHISPERS_CONFIG).is_file() and not (Path(path) / CONFIG).exists():
        raise CheckpointError(
            "is a Whisper, not a run of tfkd",
            path=path,
            remedy=f"use {WHISPER_PREFIX}{folder} with tfkd label, tfkd decode or as the teacher "
            "of a job; other commands need a run",
        )


def check_vocabulary(model: Recogniser, tokenizer: Tokenizer, path: Path, remedy: str) -> None:
    """Raises CheckpointError unless a model has as many tokens as its tokenizer."""
    if model.vocab_size != tokenizer.vocab_size:
        raise CheckpointError(
            f"the model has {model.vocab_size} tokens, the tokenizer {tokenizer.vocab_size}",
            path=path,
            remedy=remedy,
        )


def _read_system(path: Path) -> SystemConfig:
    """Reads the settings of a run; every section must be there, because training wrote them all."""
    content = read_yaml(path)
    missing = [field.name for field in fields(SystemConfig) if field.name not in content]
    if missing or not path.read_bytes().endswith(b"\n"):
        what = f"{', '.join(missing)} is missing" if missing else "its last line has no end"
        raise CheckpointError(
            f"was cut short: {what}",
            path=path,
            remedy="copy the folder again, or complete the file if you changed it",
        )
    return from_dict(SystemConfig, content, path=path)


def load_model(path: Path) -> Recogniser:
    """Reads a recogniser from a `.keras` file.

    Raises:
      CheckpointError: if it is not a `.keras` file, is damaged, or holds another class of model.
    """
    return read_model(path, Recogniser)
