"""Summarises the seeds of a student of a sweep, and compares them with those of its baseline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfkd.config.strict_yaml import read_yaml
from tfkd.decoding.runs import CONFIG
from tfkd.metrics import difference_of_counts, rate_with_interval
from tfkd.pipeline.grid import Cell
from tfkd.pipeline.results import best_validation
from tfkd.storage.json_files import read_json_lines, read_json_object
from tfkd.storage.markers import COMPLETE, HISTORY


class Measured(NamedTuple):
    """What was measured of a sweep.

    Attributes:
      work: the work folder.
      folders: run folders of the students, by their names.
      systems: figures of students and exports, by their names.
      counts: their word errors, int64 [U, 4] each.
    """

    work: Path
    folders: Mapping[str, Path]
    systems: Mapping[str, dict[str, Any]]
    counts: Mapping[str, np.ndarray]


def row_of(
    cells: Sequence[Cell],
    baseline: Sequence[Cell] | None,
    measured: Measured,
    *,
    labels: str,
    form: str | None,
) -> dict[str, Any]:
    """Summarises the seeds of one student; the difference to the baseline is of the mean WER.

    Args:
      cells: the student with each seed.
      baseline: the student that it is compared with, with each seed.
      measured: figures of all of them.
      labels: folder of the labels that the student learns from.
      form: in which it was exported, if it was.
    """
    row = {
        "settings": cells[0].settings,
        "baseline": cells[0].baseline,
        "labels": labels,
        **_summary([cell.name for cell in cells], measured),
        "seeds": [_seed_result(cell, measured) for cell in cells],
    }
    if form:
        exports = [export_name(cell, form) for cell in cells]
        is_whole = all(name in measured.systems for name in exports)
        summary = _summary(exports, measured) if is_whole else None
        row["export"] = summary and {"form": form, **summary}
    # While some are missing, only seeds that both have are compared.
    both = {cell.seed for cell in cells} & {cell.seed for cell in baseline or ()}
    if baseline is not None and both:
        own, rivals = (
            _summed([cell.name for cell in students if cell.seed in both], measured.counts)
            for students in (cells, baseline)
        )
        row["difference"] = difference_of_counts(own, rivals)._asdict()
    return row


def export_name(cell: Cell, form: str) -> str:
    """Names an export in results."""
    return f"{cell.name} {form}"


def history_of(run: Path) -> list[dict[str, float]]:
    """Reads what a training noted of each epoch; nothing if none has ended."""
    path = run / HISTORY
    return list(read_json_lines(path, {"val_wer": float})) if path.exists() else []


def _seed_result(cell: Cell, measured: Measured) -> dict[str, Any]:
    folder, system = measured.folders[cell.name], measured.systems[cell.name]
    kept = ("wer", "cer", "parameters", "bytes", "rtf", "utterances", "words")
    return {
        "seed": cell.seed,
        "folder": str(folder.relative_to(measured.work)),
        **{key: system[key] for key in kept},
        "validation_wer": best_validation(folder),
        "validation_curve": [row["val_wer"] for row in history_of(folder)],
        "training_seconds": _training_seconds(folder),
        "planned_epochs": read_yaml(folder / CONFIG)["training"]["epochs"],
    }


def _summary(names: Sequence[str], measured: Measured) -> dict[str, Any]:
    """The mean WER over the seeds, with an interval by drawing utterances, and the best speed."""
    seeds = [measured.systems[name] for name in names]
    rates = [seed["wer"] for seed in seeds]
    _, low, high = rate_with_interval(_summed(names, measured.counts))
    return {
        "wer": float(np.mean(rates)),
        "wer_low": low,
        "wer_high": high,
        "wer_deviation": float(np.std(rates, ddof=1)) if len(rates) > 1 else None,
        # One model at any seed, which other work makes slower only.
        "rtf": min(seed["rtf"] for seed in seeds),
        **{key: seeds[0][key] for key in ("parameters", "bytes")},
    }


def _summed(names: Iterable[str], counts: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.sum([counts[name] for name in names], axis=0)


def _training_seconds(run: Path) -> float | None:
    """Wall time of a finished training; None if an earlier version trained it."""
    return read_json_object(run / COMPLETE).get("seconds")
