"""What a form of export is, and what evaluation and the parity gate see of an open one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfkd.config import ExportConfig
from tfkd.decoding.runs import Run
from tfkd.device.recogniser import DeviceHypothesis

# (waveform [B, N] float32, num_samples [B] int32) -> the hypotheses of each, best first.
Decode = Callable[[np.ndarray, np.ndarray], Sequence[Sequence[DeviceHypothesis]]]


@dataclass(frozen=True)
class OpenForm:
    """A recogniser that can decode, whatever it was opened from.

    Attributes:
      path: file or folder that it was opened from.
      form: name of its form.
      parameters: weights of the network.
      bytes: what it takes on disk.
      sample_rate_hz: rate of the waveforms that it takes.
      pieces: surface form of each token.
      batch_size: utterances that it decodes together in an evaluation.
      max_samples: longest waveform that it takes; None if any length will do.
      decode: waveform [B, N] float32 and num_samples [B] int32 to B sequences of hypotheses.
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


@dataclass(frozen=True)
class Form:
    """One form that a recogniser is exported in: a row of the table in `tfkd.exporting.forms`.

    Attributes:
      name: as `export.formats` and the parity report spell it.
      file_name: of the file or folder, in the folder of the exports.
      write: writes a run to a path where nothing lies yet.
      open: opens what `write` wrote; a CheckpointError says what is wrong with other things.
      owns: whether a path holds this kind of file; forms that are opened alike answer alike.
      identity: digest of everything in it that decides what it says.
      is_exact: it must say what Keras says, but for rounding in float32; other forms may drift
        within the limits of `ExportConfig`.
      on_device: `tfkd transcribe` and `DeviceRecogniser` take it.
      runs_code: opening one can do whatever its author wants, so only trusted ones are opened.
    """

    name: str
    file_name: str
    write: Callable[[Run, Path, ExportConfig], None]
    open: Callable[[Path], OpenForm]
    owns: Callable[[Path], bool]
    identity: Callable[[Path], str]
    is_exact: bool
    on_device: bool
    runs_code: bool
