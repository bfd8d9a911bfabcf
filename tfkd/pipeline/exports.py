"""Exports the students of a job; an export that has not changed is not made again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from tfkd.config import ExportConfig, config_digest
from tfkd.decoding.defaults import resolved
from tfkd.decoding.runs import Run, load_run
from tfkd.evaluation.models import model_identity
from tfkd.exporting.export import REPORT, export, remove_exports
from tfkd.records import Store
from tfkd.storage.files import write_json
from tfkd.storage.json_files import read_json_object
from tfkd.storage.markers import IDENTITY


def export_once(student: Path, out: Path, config: ExportConfig, parity_store: Store) -> None:
    """Exports a run, unless `out` holds its exports with the same settings already.

    Args:
      student: folder of the run.
      out: folder of the exports.
      config, parity_store: see `export`.
    Raises:
      ExportError: if a form cannot be converted, or differs from Keras.
      BusyError: if another process exports into `out`.
    """
    run = load_run(student)
    if _is_exported(run, out, config):
        return
    identity = _identity(run, config)
    if _identity_of(out)[0] != identity:
        # What lies there is of another student or other settings, and must not be taken for ours.
        remove_exports(out)
        write_json(out / IDENTITY, {**identity, "files": {}})
    reports = export(run, out, config, parity_store)
    files = {report.path: model_identity(out / report.path) for report in reports}
    write_json(out / IDENTITY, {**identity, "files": files})


def is_exported(student: Path, out: Path, config: ExportConfig) -> bool:
    """Whether `out` holds the exports of a run with these settings, so that none is to be made."""
    return (out / REPORT).exists() and _is_exported(load_run(student), out, config)


def _is_exported(run: Run, out: Path, config: ExportConfig) -> bool:
    earlier, files = _identity_of(out)
    is_ours = bool(files) and earlier == _identity(run, config) and (out / REPORT).exists()
    return is_ours and all(_is_unchanged(out / path, sha) for path, sha in files.items())


def _identity_of(out: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """What the exports in a folder were made of, and the digests of those that are whole."""
    marker = out / IDENTITY
    found = read_json_object(marker, {"files": dict}) if marker.exists() else {}
    files = found.pop("files", {})
    return found, files


def _identity(run: Run, config: ExportConfig) -> dict[str, str]:
    decoding = resolved(run.system.decoding, run.system)
    meant = config.decoding(decoding)
    config = replace(config, beam_width=meant.beam_width, num_hypotheses=meant.num_hypotheses)
    settings = config_digest(config, decoding)
    return {"student": run.sha256, "config": settings}


def _is_unchanged(exported: Path, identity: str) -> bool:
    return exported.exists() and model_identity(exported) == identity
