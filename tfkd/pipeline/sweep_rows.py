"""Summarises the seeds of a student of a sweep, and compares them with those of its baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfkd.config.strict_yaml import read_yaml
from tfkd.decoding.runs import CONFIG
from tfkd.metrics import (
    DELETIONS,
    HITS,
    INSERTIONS,
    difference_of_counts,
    rate_with_interval,
)
from tfkd.pipeline.grid import Cell
from tfkd.pipeline.results import best_validation
from tfkd.storage.json_files import read_json_lines, read_json_object
from tfkd.storage.markers import COMPLETE, HISTORY

# What the intervals and p-values of a sweep draw; those of earlier versions drew utterances alone.
RESAMPLED = "utterances and seeds"

_OF_A_MODEL = ("wer", "parameters", "bytes", "rtf", "word_errors")


class Measured(NamedTuple):
    """What was measured of a sweep.

    Attributes:
      work: the work folder.
      folders: run folders of the students, by their names.
      systems: figures of students and exports, by their names.
    """

    work: Path
    folders: Mapping[str, Path]
    systems: Mapping[str, dict[str, Any]]


def row_of(
    cells: Sequence[Cell], measured: Measured, *, labels: str, form: str | None
) -> dict[str, Any]:
    """Lists the seeds of one student, for `summarised`.

    Args:
      cells: the student with each seed.
      measured: figures of all students.
      labels: folder of the labels that the student learns from.
      form: in which it was exported, if it was.
    """
    return {
        "settings": cells[0].settings,
        "baseline": cells[0].baseline,
        "labels": labels,
        "seeds": [_seed_result(cell, measured, form) for cell in cells],
    }


def summarised(
    rows: Mapping[str, Mapping[str, Any]], words: str, form: str | None
) -> dict[str, dict[str, Any]]:
    """Adds the figures of all seeds to each row, and its difference to that of its baseline.

    Args:
      rows: of `row_of`.
      words: the number of words of each utterance of the test set, from `words_of`.
      form: in which the students were exported, if they were.
    """
    return {
        name: _summarised(row, rows.get(row["baseline"]), words, form) for name, row in rows.items()
    }


def summary_of(seeds: Sequence[Mapping[str, Any]], words: str) -> dict[str, Any]:
    """The mean WER over the seeds, with its interval, and the best speed."""
    rates = [seed["wer"] for seed in seeds]
    _, low, high = rate_with_interval(_counts(seeds, words))
    return {
        "wer": float(np.mean(rates)),
        "wer_low": low,
        "wer_high": high,
        "wer_deviation": float(np.std(rates, ddof=1)) if len(rates) > 1 else None,
        # One model at any seed, which other work makes slower only.
        "rtf": min(seed["rtf"] for seed in seeds),
        **{key: seeds[0][key] for key in ("parameters", "bytes")},
    }


def word_errors_of(counts: np.ndarray) -> str:
    """Writes the word errors of each utterance, of counts [U, 4], as results hold them."""
    return " ".join(map(str, counts[:, :HITS].sum(axis=1).tolist()))


def words_of(counts: np.ndarray) -> str:
    """Writes the number of words of each utterance, of counts [U, 4] of any system."""
    return " ".join(map(str, counts[:, DELETIONS:].sum(axis=1).tolist()))


def export_name(cell: Cell, form: str) -> str:
    """Names an export in results."""
    return f"{cell.name} {form}"


def history_of(run: Path) -> list[dict[str, float]]:
    """Reads what a training noted of each epoch; nothing if none has ended."""
    path = run / HISTORY
    return list(read_json_lines(path, {"val_wer": float})) if path.exists() else []


def _seed_result(cell: Cell, measured: Measured, form: str | None) -> dict[str, Any]:
    folder, system = measured.folders[cell.name], measured.systems[cell.name]
    kept = (*_OF_A_MODEL, "cer", "utterances", "words")
    result = {
        "seed": cell.seed,
        "folder": str(folder.relative_to(measured.work)),
        **{key: system[key] for key in kept},
        "validation_wer": best_validation(folder),
        "validation_curve": [row["val_wer"] for row in history_of(folder)],
        "training_seconds": _training_seconds(folder),
        "planned_epochs": read_yaml(folder / CONFIG)["training"]["epochs"],
    }
    if form:
        export = measured.systems.get(export_name(cell, form))
        result["export"] = export and {key: export[key] for key in _OF_A_MODEL}
    return result


def _summarised(
    row: Mapping[str, Any],
    baseline: Mapping[str, Any] | None,
    words: str,
    form: str | None,
) -> dict[str, Any]:
    seeds = row["seeds"]
    result = {**row, **summary_of(seeds, words)}
    if form:
        exports = [seed["export"] for seed in seeds]
        is_whole = all(exports)
        result["export"] = {"form": form, **summary_of(exports, words)} if is_whole else None
    # While some are missing, only seeds that both have are compared.
    if baseline is not None and (both := _by_seed(row).keys() & _by_seed(baseline).keys()):
        own, rivals = (
            _counts([by_seed[seed] for seed in sorted(both)], words)
            for by_seed in (_by_seed(row), _by_seed(baseline))
        )
        result["difference"] = difference_of_counts(own, rivals)._asdict()
    return result


def _by_seed(row: Mapping[str, Any]) -> dict[int, Mapping[str, Any]]:
    return {seed["seed"]: seed for seed in row["seeds"]}


def _counts(seeds: Sequence[Mapping[str, Any]], words: str) -> np.ndarray:
    """Counts [R, U, 4] of each seed, which hold every error as an insertion."""
    errors = np.array([_numbers(seed["word_errors"]) for seed in seeds])
    counts = np.zeros((*errors.shape, HITS + 1), np.int64)
    counts[..., INSERTIONS], counts[..., HITS] = errors, _numbers(words)
    return counts


def _numbers(written: str) -> np.ndarray:
    return np.array(written.split(), np.int64)


def _training_seconds(run: Path) -> float | None:
    """Wall time of a finished training; None if an earlier version trained it."""
    return read_json_object(run / COMPLETE).get("seconds")
