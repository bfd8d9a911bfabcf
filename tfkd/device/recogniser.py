"""Recognises speech with an exported .tflite, numpy and a TFLite runtime, without TensorFlow."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfkd.audio.reading import read_audio
from tfkd.audio.segments import Segment, recognise_segments, text_of, warn_if_cut_short
from tfkd.audio.waveforms import check_recognisable
from tfkd.device.hypothesis import DeviceHypothesis
from tfkd.device.interpreter import RUNTIMES, LoadedModel, find_runtime
from tfkd.device.isolation import IsolatedModel
from tfkd.device.metadata import read_metadata
from tfkd.errors import AudioError, CheckpointError, TfkdError
from tfkd.native_messages import without_native_messages
from tfkd.storage.files import sha256
from tfkd.storage.known_files import is_known

# Most memory of the child process of a file from elsewhere.
MAX_CHILD_BYTES = 4 * 2**30


@dataclass(frozen=True)
class Transcription:
    """The recognised text of a recording.

    Attributes:
      text: of the best hypotheses of all segments, "" if there is none.
      segments: in order; a recording as short as an utterance is one.
      audio_seconds: duration of the recording.
      compute_seconds: wall time of the recognition, without reading the file; divided by
        `audio_seconds` it is the real-time factor.
    """

    text: str
    segments: tuple[Segment[DeviceHypothesis], ...]
    audio_seconds: float
    compute_seconds: float


class DeviceRecogniser:
    """Recognises speech with an exported .tflite file.

    Threads may share one recogniser; their calls run one after another.

    A file that this machine has not exported runs in a child process, because an interpreter may
    crash on a damaged or malicious graph; a crash is then a CheckpointError, and the next call
    starts another child. The child takes about half a second to start.

    Args:
      path: file made by `tfkd export`.
      num_threads: number of threads of the interpreter. If it is above 1 and the model runs in this
        process, a forked process must load its own, because fork does not copy threads.
      runtime: one of `RUNTIMES`; None takes the first that is installed.
      trusted: runs the model in this process, for applications that ship the file themselves.
      max_memory_bytes: most memory that a child process may take.
    Attributes:
      metadata: DeviceMetadata of the file.
      runtime: name of the runtime in use.
    Raises:
      CheckpointError: if the file is missing or damaged, or tfkd did not export it.
      TfkdError: if no runtime is installed, or `num_threads` is below 1.

    >>> recogniser = tfkd.DeviceRecogniser("work/export/model-float32.tflite")
    >>> recogniser.transcribe_file("order.wav").text
    'se'
    """

    def __init__(
        self,
        path: str | Path,
        num_threads: int = 1,
        *,
        runtime: str | None = None,
        trusted: bool = False,
        max_memory_bytes: int = MAX_CHILD_BYTES,
    ) -> None:
        if num_threads < 1:
            raise TfkdError(f"num_threads is {num_threads}", remedy="use at least one thread")
        self.path = Path(path)
        self.metadata = read_metadata(self.path)
        self.runtime, interpreter_class = find_runtime((runtime,) if runtime else RUNTIMES)
        self._lock = threading.Lock()
        self._model: LoadedModel | IsolatedModel
        if trusted or is_known(sha256(self.path)):
            self._model = LoadedModel(self.path, self.metadata, interpreter_class, num_threads)
        else:
            rate_hz = self.metadata.sample_rate_hz
            self._model = IsolatedModel(
                self.path, rate_hz, self.runtime, num_threads, max_memory_bytes
            )
        with without_native_messages():  # LiteRT greets when it first allocates its tensors.
            self._model.recognise(np.zeros(self.metadata.min_samples, np.float32))

    def transcribe_waveform(self, waveform: np.ndarray) -> list[DeviceHypothesis]:
        """Recognises one utterance, whole; `transcribe` cuts longer recordings.

        Args:
          waveform: float32 [N] in [-1, 1] at `metadata.sample_rate_hz`. Waveforms shorter than
            `metadata.min_samples` are padded with zeros.
        Returns:
          At most `metadata.num_hypotheses` hypotheses, best first; none if no speech was found.
        Raises:
          AudioError: if the waveform is empty, too long, not finite, or not of shape [N].
          CheckpointError: if the interpreter fails or crashes.
          TfkdError: in a forked process, if `num_threads` is above 1 and the model was loaded here.
        """
        checked = self._checked(waveform)
        self._check_length(checked)
        with self._lock:
            return self._model.recognise(checked)

    def transcribe(
        self, waveform: np.ndarray, segment_seconds: float | None = None
    ) -> Transcription:
        """Recognises a recording of any length, cut in its pauses if it is longer than utterances.

        Args:
          waveform: as `transcribe_waveform` takes it.
          segment_seconds: the longest segment of a recording that is more than a quarter longer;
            by default `metadata.usual_samples`.
        Raises:
          AudioError: if the waveform is empty, not finite, or not of shape [N].
          CheckpointError: if the interpreter fails or crashes.
          TfkdError: if `segment_seconds` is not positive, or longer than the model takes.

        >>> recogniser = tfkd.DeviceRecogniser("work/export/model-float32.tflite")
        >>> silence = np.zeros(60 * recogniser.metadata.sample_rate_hz, np.float32)
        >>> recogniser.transcribe(silence).text
        ''
        """
        rate_hz = self.metadata.sample_rate_hz
        usual_seconds = self._segment_seconds(segment_seconds)
        whole = self._checked(waveform)
        start = time.perf_counter()
        segments = recognise_segments(
            whole,
            rate_hz,
            usual_seconds,
            lambda part: tuple(self.transcribe_waveform(part)),
            max_seconds=self.metadata.max_samples / rate_hz,
        )
        return Transcription(
            text=text_of(segments),
            segments=segments,
            audio_seconds=whole.size / rate_hz,
            compute_seconds=time.perf_counter() - start,
        )

    def transcribe_file(
        self, path: str | Path, segment_seconds: float | None = None
    ) -> Transcription:
        """Reads an audio file, resamples it to the model's rate and recognises it.

        A warning names the file if a text is cut short by the limit of tokens.

        Args:
          segment_seconds: see `transcribe`.
        Raises:
          AudioError: if the file cannot be decoded.
          CheckpointError: if the interpreter fails or crashes; it names both files.
          TfkdError: if `segment_seconds` is not positive, or longer than the model takes.
        """
        waveform = read_audio(path, sample_rate_hz=self.metadata.sample_rate_hz)
        try:
            result = self.transcribe(waveform, segment_seconds)
        except AudioError as error:
            raise AudioError(error.message, path=path, remedy=error.remedy) from error
        except CheckpointError as error:
            raise CheckpointError(
                error.message, path=error.path, utterance_id=str(path), remedy=error.remedy
            ) from error
        warn_if_cut_short(result.segments, path, "tfkd export RUN --set max_tokens=N raises it")
        return result

    def _segment_seconds(self, given: float | None) -> float:
        rate_hz = self.metadata.sample_rate_hz
        if given is None:
            return self.metadata.usual_samples / rate_hz
        if not given * rate_hz >= 1:
            raise TfkdError(f"segments of {given:g} s", remedy="give more than 0")
        if given * rate_hz > self.metadata.max_samples:
            longest = self.metadata.max_samples / rate_hz
            raise TfkdError(
                f"segments of {given:g} s",
                remedy=f"the model takes at most {longest:g} s; export it with more, or give less",
            )
        return given

    def _checked(self, waveform: np.ndarray) -> np.ndarray:
        """The waveform as float32 [N]."""
        waveform = np.asarray(waveform)
        check_recognisable(waveform)
        return waveform.astype(np.float32)

    def _check_length(self, waveform: np.ndarray) -> None:
        if waveform.size > self.metadata.max_samples:
            seconds = self.metadata.max_samples / self.metadata.sample_rate_hz
            raise AudioError(
                f"{waveform.size / self.metadata.sample_rate_hz:.2f} s is longer than the model "
                f"takes ({seconds:.2f} s)",
                remedy="let `transcribe` cut it in its pauses",
            )
