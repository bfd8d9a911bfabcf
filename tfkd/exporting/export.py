"""Recognisers for servers and devices, in the forms of one table, gated by parity with Keras."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tfkd.config import ExportConfig
from tfkd.decoding.runs import Run
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


@dataclass(frozen=True)
class Exported(Parity):
    """One exported form and how it compares with Keras.

    Attributes:
      format: its name, as in `export.formats`.
      path: file or folder, relative to that of the exports.
      bytes: what it takes on disk.
    """

    format: str
    path: str
    bytes: int


def export(run: Run, out: str | Path, config: ExportConfig, parity_store: Store) -> list[Exported]:
    """Writes each form of `config.formats`, if it says what Keras says.

    Float32 forms must give every hypothesis of Keras with its log_prob and score; quantised ones
    may drift as far as `config` allows. A killed export leaves a folder behind that the next one
    removes.

    Args:
      run: recogniser to export, with the search that goes into the forms.
      out: folder of the exports.
      parity_store: real utterances; `config.parity_utterances` of them, spread over the range of
        lengths, and noise, silence and altered speech made of them are decoded by each form.
    Returns:
      What was written, in the order of `config.formats`; the same lies in parity.json.
    Raises:
      ExportError: if a form cannot be converted, or fails its gate.
      RecordError: if another process exports into `out`.

    >>> settings = tfkd.config.ExportConfig(formats=("savedmodel",))
    >>> run, valid = tfkd.load_run("work/teacher"), tfkd.open_store("work/data/valid")
    >>> (report,) = tfkd.export(run, "work/saved", settings, valid)
    >>> report.path
    'savedmodel'
    """
    out = Path(out)
    with locked(out):
        remove_unfinished(out)
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
    """Writes one form beside its final place, checks it, and only then moves it there."""
    with _scratch(out) as scratch:
        temporary = scratch / form.file_name
        form.write(run, temporary, config)
        parity = check(form, form.open(temporary), samples, config, keras)
        _publish(temporary, out / form.file_name)
    path = out / form.file_name
    remember(form.identity(path))
    return Exported(
        **asdict(parity), format=form.name, path=form.file_name, bytes=directory_bytes(path)
    )


@contextlib.contextmanager
def _scratch(out: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=out, prefix=".export.", suffix=".tmp") as scratch:
        yield Path(scratch)


def _publish(source: Path, target: Path) -> None:
    """Puts what was checked where users look for it, whole or not at all."""
    if source.is_dir():
        with atomic_directory(target) as temporary:
            shutil.copytree(source, temporary, dirs_exist_ok=True)
    else:
        with atomic_write(target) as file:
            file.write(source.read_bytes())
