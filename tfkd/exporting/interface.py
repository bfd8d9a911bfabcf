"""The interface of an export form, and of a recogniser that was opened from one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from tfkd.config import ExportConfig
from tfkd.decoding.runs import Run
from tfkd.device.hypothesis import DeviceHypothesis
from tfkd.device.recogniser import MAX_CHILD_BYTES

# (waveform [B, N] float32, num_samples [B] int32) -> the hypotheses of each, best first.
Decode = Callable[[np.ndarray, np.ndarray], Sequence[Sequence[DeviceHypothesis]]]


@dataclass(frozen=True)
class OpenForm:
    """A recogniser that was opened from a run or an exported form, ready to decode.

    Attributes:
      path: file or folder that it was opened from.
      form: name of its form.
      parameters: number of weights.
      bytes: size on disk.
      sample_rate_hz: sample rate of the waveforms that it takes.
      pieces: text of each token.
      batch_size: number of utterances that an evaluation decodes together.
      max_samples: length of the longest waveform that it takes; None if there is no limit.
      decode: maps waveform [B, N] float32 and num_samples [B] int32 to the hypotheses of each
        utterance, best first.
    """

    path: Path
    form: str
    parameters: int
    bytes: int
    sample_rate_hz: int
    pieces: tuple[str, ...]
    batch_size: int
    max_samples: int | None
    decode: Decode


# (run, path, settings, seconds that most utterances do not exceed)
Write = Callable[[Run, Path, ExportConfig, float], None]


class Open(Protocol):
    """The function of a form that opens what its `write` wrote."""

    def __call__(
        self, path: Path, *, trusted: bool = False, max_memory_bytes: int = MAX_CHILD_BYTES
    ) -> OpenForm:
        """Opens a file or folder.

        Args:
          path: the file or folder.
          trusted: whether a model that this machine did not export may run in this process.
          max_memory_bytes: most memory of the child process in which it runs otherwise.
        Raises:
          CheckpointError, ExportError: if `write` did not write it.
        """
        ...


@dataclass(frozen=True)
class Form:
    """A file format for recognisers: a row of the table in `tfkd.exporting.forms`.

    Attributes:
      name: in `export.formats` and in the parity report.
      file_name: name of the file or folder, in the folder of the exports.
      write: writes a run to a path that does not exist yet; see `Write`.
      open: opens a path that `write` wrote; see `Open`.
      owns: whether a path holds a file of this kind; forms that `open` treats alike return the
        same.
      identity: computes the sha256 of everything in it that its output depends on.
      is_exact: whether its hypotheses must be those of Keras up to rounding in float32; other forms
        may differ within the limits of `ExportConfig`.
      on_device: whether `tfkd transcribe` and `DeviceRecogniser` open it.
      runs_code: whether opening it may run arbitrary code, so that only trusted ones are opened.
    """

    name: str
    file_name: str
    write: Write
    open: Open
    owns: Callable[[Path], bool]
    identity: Callable[[Path], str]
    is_exact: bool
    on_device: bool
    runs_code: bool
