"""Exports a run in the forms of the table; a form that differs from Keras is not written."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tfkd.config import ExportConfig
from tfkd.decoding.runs import Run
from tfkd.errors import ExportError, advising
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
from tfkd.storage.json_files import read_json_rows
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
      run_sha256: identity of the run that was exported.
    """

    format: str
    path: str
    bytes: int
    run_sha256: str


def export(run: Run, out: str | Path, config: ExportConfig, parity_store: Store) -> list[Exported]:
    """Exports a run in each form of `config.formats`, and checks that they give Keras' results.

    Float32 forms must give every hypothesis of Keras with its log_prob and score; quantised ones
    may differ within the limits of `config`. A form that is refused leaves the others alone. If an
    export is killed, the next one removes its unfinished files.

    Args:
      run: recogniser to export, with its search.
      out: folder of the exports.
      config: the forms, their beam search and the limits.
      parity_store: real utterances. Each form decodes `config.parity_utterances` of them, of many
        lengths, and noise, silence and altered speech.
    Returns:
      The exported forms, in the order of `config.formats`; they are also written to parity.json,
      beside those of earlier exports of the run.
    Raises:
      ExportError: if a form cannot be converted, or differs from Keras, once all were tried; or if
        `out` would be left with forms of another run.
      RecordError: if another process exports into `out`.

    >>> settings = tfkd.config.ExportConfig(formats=("savedmodel",))
    >>> run, valid = tfkd.load_run("work/teacher"), tfkd.open_store("work/data/valid")
    >>> (report,) = tfkd.export(run, "work/saved", settings, valid)
    >>> report.path
    'savedmodel'
    """
    out = Path(out)
    with locked(out):
        earlier = _earlier(out)
        _check_others(earlier, out, run, config)
        remove_unfinished(out, (REPORT, _SCRATCH, *(form.file_name for form in FORMS.values())))
        keras = decode_with(decoder_for(run, config))
        samples = parity_samples(parity_store, run.sample_rate_hz, config, keras)
        reports: list[Exported] = []
        refused: list[ExportError] = []
        for name in config.formats:
            try:
                reports.append(_export_one(FORMS[name], run, out, config, samples, keras))
            except ExportError as error:
                refused.append(error)
        made = {report.format for report in reports}
        kept = [row for row in earlier if row["format"] not in made]
        write_json(out / REPORT, [*map(asdict, reports), *kept])
    if refused:
        raise refused[0]
    return reports


def exported_rows(out: Path) -> list[dict[str, Any]]:
    """Reads parity.json, the fields of an Exported for each form; empty before the first export."""
    path = out / REPORT
    return read_json_rows(path, {"format": str, "path": str}) if path.exists() else []


def _earlier(out: Path) -> list[dict[str, Any]]:
    """The rows of the forms that still lie there."""
    return [row for row in exported_rows(out) if (out / row["path"]).exists()]


def _check_others(
    earlier: Sequence[dict[str, Any]], out: Path, run: Run, config: ExportConfig
) -> None:
    """Raises ExportError if forms of another run would remain beside those of this one."""
    for row in earlier:
        if row["format"] not in config.formats and row.get("run_sha256") != run.sha256:
            raise ExportError(
                f"holds {row['path']} of another run",
                path=out,
                remedy="export into another folder, or remove it, or export this form, too",
            )


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
        **asdict(parity),
        format=form.name,
        path=form.file_name,
        bytes=directory_bytes(path),
        run_sha256=run.sha256,
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
