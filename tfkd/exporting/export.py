"""Exports a run in the forms of the table; a form that differs from Keras is not written."""

from __future__ import annotations

import contextlib
import logging
import math
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tfkd.config import ExportConfig
from tfkd.decoding.runs import Run, usual_seconds_of
from tfkd.errors import CheckpointError, ExportError, TfkdError, advising
from tfkd.exporting.conversion import MAX_CONVERTER_BYTES
from tfkd.exporting.forms import FORMS
from tfkd.exporting.graph import decode_with, decoder_for, warn_of_language_model
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
    writing,
)
from tfkd.storage.json_files import read_json_rows
from tfkd.storage.known_files import remember
from tfkd.storage.locks import locked

_LOG = logging.getLogger("tfkd")
REPORT = "parity.json"
_SCRATCH = "export"

# What to do where the check says no more than what is wrong.
_EXACT_DIFFERS = "report it with the run: float32 must say what Keras says"
_DRIFTS = "leave the form out of export.formats, or train the model longer"
_DOES_NOT_RUN = "leave the form out of export.formats, or report it with the run"


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


class RefusedForms(ExportError):
    """Some forms were refused; its text is that of the first.

    Attributes:
      exported: the forms that were written all the same.
    """

    def __init__(self, first: ExportError, exported: Sequence[Exported]) -> None:
        super().__init__(
            first.message, path=first.path, utterance_id=first.utterance_id, remedy=first.remedy
        )
        self.exported = exported


def export(run: Run, out: str | Path, config: ExportConfig, parity_store: Store) -> list[Exported]:
    """Exports a run in each form of `config.formats`, and checks that they give Keras' results.

    Float32 forms must give every hypothesis of Keras with its log_prob, score and coverage;
    quantised ones may differ within the limits of `config`. A form that is refused leaves the
    others alone, and so does an earlier file of it, unless that is of another run. If an export is
    killed, the next one removes its unfinished files.

    Args:
      run: recogniser to export, with its search.
      out: folder of the exports.
      config: the forms, their beam search and the limits.
      parity_store: real utterances. Each form decodes `config.parity_utterances` of them, of many
        lengths, and noise, silence and altered speech. If the run keeps no utterances, the lengths
        of these tell where devices cut long recordings.
    Returns:
      The exported forms, in the order of `config.formats`; they are also written to parity.json,
      beside those of earlier exports of the run.
    Raises:
      RefusedForms: if a form cannot be converted, does not run, or differs from Keras, once all
        were tried; a warning names each of them at once.
      ExportError: if `out` would be left with forms of another run.
      BusyError: if another process exports into `out`.

    >>> settings = tfkd.config.ExportConfig(formats=("savedmodel",))
    >>> run, valid = tfkd.load_run("work/teacher"), tfkd.open_store("work/data/valid")
    >>> (report,) = tfkd.export(run, "work/saved", settings, valid)
    >>> report.path
    'savedmodel'
    """
    out = Path(out)
    with locked(out):
        _remove_unfinished(out)
        earlier = _earlier(out)
        _check_others(earlier, out, run, config)
        warn_of_language_model(run)
        keras = decode_with(decoder_for(run, config))
        samples = parity_samples(parity_store, run.sample_rate_hz, config, keras)
        plan = _Plan(run, out, config, samples, keras, _usual_seconds(run, parity_store))
        reports: list[Exported] = []
        refused: list[ExportError] = []
        for name in config.formats:
            try:
                reports.append(_export_one(FORMS[name], plan))
            except ExportError as error:
                _LOG.warning("%s", error)
                refused.append(error)
                if _is_of_another(run, name, earlier):
                    _remove(out / FORMS[name].file_name)
                    earlier = [row for row in earlier if row["format"] != name]
            made = {report.format for report in reports}
            kept = [row for row in earlier if row["format"] not in made]
            write_json(out / REPORT, [*map(asdict, reports), *kept])
    if refused:
        raise RefusedForms(refused[0], reports)
    return reports


def remove_exports(out: Path) -> None:
    """Removes every form from a folder of exports, and what is recorded of them.

    Raises:
      BusyError: if another process exports into `out`.
    """
    with locked(out):
        _remove_unfinished(out)
        for name in (REPORT, *(form.file_name for form in FORMS.values())):
            _remove(out / name)


def _remove_unfinished(out: Path) -> None:
    remove_unfinished(out, (REPORT, _SCRATCH, *(form.file_name for form in FORMS.values())))


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


def _is_of_another(run: Run, form: str, rows: Sequence[dict[str, Any]]) -> bool:
    """Whether rows of parity.json tell that a form is of another run."""
    runs = (row.get("run_sha256", run.sha256) for row in rows if row["format"] == form)
    return any(each != run.sha256 for each in runs)


def _remove(path: Path) -> None:
    """Removes a file or folder if it is there; of a symlink, what it names stays."""
    with writing(path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _usual_seconds(run: Run, parity_store: Store) -> float:
    """The duration that most utterances do not exceed, in a run that keeps none, too."""
    if math.isinf(run.usual_seconds):
        return usual_seconds_of(parity_store, run.sample_rate_hz)
    return run.usual_seconds


@dataclass(frozen=True)
class _Plan:
    """What all forms of an export have in common."""

    run: Run
    out: Path
    config: ExportConfig
    samples: Sequence[Sample]
    keras: Decode
    usual_seconds: float


def _export_one(form: Form, plan: _Plan) -> Exported:
    """Writes one form to a temporary folder, checks it, and then moves it to its final place."""
    path = plan.out / form.file_name
    with _scratch(plan.out) as scratch:
        temporary = scratch / form.file_name
        form.write(plan.run, temporary, plan.config, plan.usual_seconds)
        with _naming(form), advising(_EXACT_DIFFERS if form.is_exact else _DRIFTS):
            # A form that converts may take as much memory here as the conversion.
            opened = form.open(temporary, max_memory_bytes=MAX_CONVERTER_BYTES)
            parity = check(form, opened, plan.samples, plan.config, plan.keras)
        _publish(temporary, path)
    remember(form.identity(path))
    return Exported(
        **asdict(parity),
        format=form.name,
        path=form.file_name,
        bytes=directory_bytes(path),
        run_sha256=plan.run.sha256,
    )


@contextlib.contextmanager
def _naming(form: Form) -> Iterator[None]:
    """Raises errors of a form that cannot be opened, or does not run, as an ExportError.

    They name a temporary file that is removed, and advise to copy it again.
    """
    try:
        yield
    except TfkdError as error:
        if error.path is None and isinstance(error, ExportError):
            raise  # The comparison with Keras names the form itself.
        is_damaged = isinstance(error, CheckpointError | ExportError)
        raise ExportError(
            f"{form.name}: {error.message}",
            utterance_id=error.utterance_id,
            remedy=_DOES_NOT_RUN if is_damaged else error.remedy,
        ) from error


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
