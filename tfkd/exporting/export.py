"""Exports a run in the forms of the table; a form that differs from Keras is not written."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tfkd.config import ExportConfig
from tfkd.decoding.runs import Run
from tfkd.errors import advising
from tfkd.exporting.forms import FORMS
from tfkd.exporting.graph import decode_with, decoder_for
from tfkd.exporting.interface import Decode, Form
from tfkd.exporting.parity import Parity, check
from tfkd.exporting.parity_samples import Sample, parity_samples
from tfkd.records import Store
from tfkd.storage.files import (
    atomic_directory,
    atomic_write,
    directory_bytes,
    remove_unfinished,
    write_json,
)
from tfkd.storage.known_files import remember
from tfkd.storage.locks import locked

REPORT = "parity.json"
_SCRATCH = "export"

# What to do where the check says no more than what is wrong.
_EXACT_DIFFERS = "report it with the run: float32 must say what Keras says"
_DRIFTS = "leave the form out of export.formats, or train the model longer"


@dataclass(frozen=True)
class Exported(Parity):
    """One exported form and its parity with Keras.

    Attributes:
      format: name of the form, as in `export.formats`.
      path: file or folder, relative to the folder of the exports.
      bytes: size on disk.
    """

    format: str
    path: str
    bytes: int


def export(run: Run, out: str | Path, config: ExportConfig, parity_store: Store) -> list[Exported]:
    """Exports a run in each form of `config.formats`, and checks that they give Keras' results.

    Float32 forms must give every hypothesis of Keras with its log_prob and score; quantised ones
    may differ within the limits of `config`. If an export is killed, the next one removes its
    unfinished files.

    Args:
      run: recogniser to export, with its search.
      out: folder of the exports.
      config: the forms, their beam search and the limits.
      parity_store: real utterances. Each form decodes `config.parity_utterances` of them, of many
        lengths, and noise, silence and altered speech.
    Returns:
      The exported forms, in the order of `config.formats`; they are also written to parity.json.
    Raises:
      ExportError: if a form cannot be converted, or differs from Keras.
      RecordError: if another process exports into `out`.

    >>> settings = tfkd.config.ExportConfig(formats=("savedmodel",))
    >>> run, valid = tfkd.load_run("work/teacher"), tfkd.open_store("work/data/valid")
    >>> (report,) = tfkd.export(run, "work/saved", settings, valid)
    >>> report.path
    'savedmodel'
    """
    out = Path(out)
    with locked(out):
        remove_unfinished(out, (REPORT, _SCRATCH, *(form.file_name for form in FORMS.values())))
        keras = decode_with(decoder_for(run, config))
        samples = parity_samples(parity_store, run.sample_rate_hz, config, keras)
        reports = [
            _export_one(FORMS[name], run, out, config, samples, keras) for name in config.formats
        ]
        write_json(out / REPORT, [asdict(report) for report in reports])
    return reports


def _export_one(
    form: Form,
    run: Run,
    out: Path,
    config: ExportConfig,
    samples: Sequence[Sample],
    keras: Decode,
) -> Exported:
    """Writes one form to a temporary folder, checks it, and then moves it to its final place."""
    with _scratch(out) as scratch:
        temporary = scratch / form.file_name
        form.write(run, temporary, config)
        with advising(_EXACT_DIFFERS if form.is_exact else _DRIFTS):
            parity = check(form, form.open(temporary), samples, config, keras)
        _publish(temporary, out / form.file_name)
    path = out / form.file_name
    remember(form.identity(path))
    return Exported(
        **asdict(parity), format=form.name, path=form.file_name, bytes=directory_bytes(path)
    )


@contextlib.contextmanager
def _scratch(out: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=out, prefix=f".{_SCRATCH}.", suffix=".tmp") as scratch:
        yield Path(scratch)


def _publish(source: Path, target: Path) -> None:
    """Copies a checked form to its final place atomically."""
    if source.is_dir():
        with atomic_directory(target) as temporary:
            shutil.copytree(source, temporary, dirs_exist_ok=True)
    else:
        with atomic_write(target) as file:
            file.write(source.read_bytes())
