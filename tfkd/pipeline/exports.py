"""Exports the students of a job; an export that has not changed is not made again."""

from __future__ import annotations

from pathlib import Path

from tfkd.config import ExportConfig, config_digest
from tfkd.decoding.defaults import resolved
from tfkd.decoding.runs import load_run
from tfkd.evaluation.models import model_identity
from tfkd.exporting.export import REPORT, export
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
    settings = config_digest(config, resolved(run.system.decoding, run.system))
    identity = {"student": run.sha256, "config": settings}
    marker = out / IDENTITY
    earlier = read_json_object(marker, {"files": dict}) if marker.exists() else {}
    files = earlier.pop("files", {})
    is_ours = bool(files) and earlier == identity and (out / REPORT).exists()
    if is_ours and all(_is_unchanged(out / path, sha) for path, sha in files.items()):
        return
    # What lies there is of another student or other settings: it must not be taken for this one's.
    (out / REPORT).unlink(missing_ok=True)
    reports = export(run, out, config, parity_store)
    files = {report.path: model_identity(out / report.path) for report in reports}
    write_json(marker, {**identity, "files": files})


def _is_unchanged(exported: Path, identity: str) -> bool:
    return exported.exists() and model_identity(exported) == identity
