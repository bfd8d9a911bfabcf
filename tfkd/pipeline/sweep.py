"""A grid of students on the labels of one job, each in a folder and under a lock of its own.

The same command goes on after a kill. Started several times, on one machine or on several that
share the work folder, each process takes the students that no other one is training.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfkd.config import RunConfig, config_digest, to_dict, with_overrides
from tfkd.distillation.label_quality import label_quality
from tfkd.distillation.labelling import label
from tfkd.environment import provenance
from tfkd.errors import BusyError, ConfigError
from tfkd.metrics import difference_of_counts, rate_with_interval
from tfkd.pipeline.corpora import TEST, TRAIN, VALID, hidden_transcripts
from tfkd.pipeline.evaluations import Evaluations
from tfkd.pipeline.job import BASELINE, Job, as_baseline, best_validation, distilled
from tfkd.pipeline.stages import run_stages
from tfkd.storage.files import write_json
from tfkd.training.callbacks import HISTORY
from tfkd.training.loop import train
from tfkd.training.run_folder import COMPLETE

FOLDER = "sweep"
_GENERATION, _SEED = "generation", "student.training.seed"
_SECTIONS = ("student", "labels")


@dataclass(frozen=True)
class Cell:
    """One student of the grid.

    Attributes:
      row: what sets it apart from other students, the seed left out.
      settings: the same as a mapping of settings to values.
      config: the job's config with these settings and the seed.
      generation: of the labels that it learns from.
    """

    row: str
    settings: Mapping[str, Any]
    seed: int
    config: RunConfig
    generation: int

    @cached_property
    def name(self) -> str:
        """Name of its folder: readable, and another one for other settings."""
        digest = config_digest(self.config.student, self.config.labels)[:8]
        words = "".join(c if c.isalnum() or c in "._" else "-" for c in self.row)
        return f"{words[:60]}-seed-{self.seed}-{digest}"


def cells_of(config: RunConfig) -> list[Cell]:
    """The students of `config.sweep`, all of the first seed before those of the second.

    Raises:
      ConfigError: if there is no grid, or a setting does not exist or does not fit.
    """
    if not config.sweep.grid:
        raise ConfigError("sweep.grid: holds nothing to try", remedy="see docs/guide/sweeps.md")
    combinations = [config.sweep.baseline, *itertools.chain(*map(_products, config.sweep.grid))]
    distinct = {json.dumps(each, sort_keys=True): each for each in combinations}
    names = _short_names(distinct.values())
    return [
        _cell(config, settings, seed, names)
        for seed in config.sweep.seeds
        for settings in distinct.values()
    ]


def _products(grid: Mapping[str, tuple]) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values))


def _cell(config: RunConfig, settings: Mapping[str, Any], seed: int, names: dict[str, str]) -> Cell:
    settings = dict(settings)
    row = ", ".join(_words(names[key], value) for key, value in settings.items())
    generation = settings.get(_GENERATION, 1)
    if generation not in range(1, config.generations + 1):
        raise ConfigError(f"sweep.grid: generation {generation} exceeds generations")
    changes = [
        f"{key}={json.dumps(value)}" for key, value in settings.items() if key != _GENERATION
    ]
    for key in settings:
        if key != _GENERATION and key.partition(".")[0] not in _SECTIONS or key == _SEED:
            remedy = "use settings of student and labels, generation, and sweep.seeds"
            raise ConfigError(f"sweep.grid: {key} cannot be varied", remedy=remedy)
    distilling = dataclasses.replace(config, student=distilled(config.student))
    resolved = with_overrides(distilling, [*changes, f"{_SEED}={seed}"])
    objective = resolved.student.training.objective
    if objective.kind != "truth" and objective.num_hypotheses > resolved.labels.num_hypotheses:
        raise ConfigError(
            f"sweep.grid: {row}: the labels hold {resolved.labels.num_hypotheses} hypotheses only",
            remedy="raise labels.num_hypotheses",
        )
    return Cell(row, settings, seed, resolved, generation)


def _short_names(rows: Any) -> dict[str, str]:
    """The last part of each setting's name, or all of it where two would be called the same."""
    keys = dict.fromkeys(key for row in rows for key in row)
    last = [key.rpartition(".")[2] for key in keys]
    return {key: name if last.count(name) == 1 else key for key, name in zip(keys, last)}


def _words(name: str, value: Any) -> str:
    """A setting as a part of a row's name; a kind says itself what it is."""
    if name == "kind":
        return str(value)
    return f"{name} {value if isinstance(value, str) else json.dumps(value)}"


class Sweep:
    """Trains and measures every student of a grid, as far as no other process does."""

    def __init__(self, config: RunConfig) -> None:
        self.config, self.job = config, Job(config)
        self.work = self.job.work
        self.cells = cells_of(config)

    def state(self, cell: Cell) -> str:
        """What --dry-run says of a student."""
        folder = self.folder(cell)
        if (folder / COMPLETE).exists():
            return "done"
        epochs = len(_history(folder))
        return f"{epochs} epochs done" if epochs else "to do"

    @property
    def results(self) -> Path:
        """The file that all figures are written to."""
        return self.work / FOLDER / "results.json"

    def folder(self, cell: Cell) -> Path:
        """The run folder of a student; one that `tfkd run` trains, too, lies where it does."""
        if cell.config.labels == self.config.labels:
            if cell.config.student == self.job.distilled:
                return self.work / self.job.student(cell.generation)
            is_transcribed = "transcribed" in self.config.baselines and cell.generation == 1
            if is_transcribed and cell.config.student == self.job.undistilled:
                return self.work / BASELINE
        return self.work / FOLDER / cell.name

    def run(self, announce: Callable[[str], None]) -> dict[str, Any]:
        """Trains what is to do and returns the content of the sweep's results.json.

        Raises:
          ConfigError: if something cannot be done here.
        """
        self.job.check()
        generations = max(cell.generation for cell in self.cells)
        run_stages(self.job.label_stages(generations), self.work, announce)
        for number, cell in enumerate(self.cells, 1):
            announce(f"[{number}/{len(self.cells)}] {cell.row}, seed {cell.seed}")
            try:
                self._train(cell)
            except BusyError:
                announce("  is being trained by another process")
            # What Keras keeps of every model would add up.
            keras.utils.clear_session()
        results = self._results([cell for cell in self.cells if self.state(cell) == "done"])
        write_json(self.results, results)
        return results

    def _train(self, cell: Cell) -> None:
        self._make_labels(cell)
        student, store = cell.config.student, self.job.store(self._labels(cell))
        if student.training.objective.kind == "truth":
            student = as_baseline(student, store)
        train(student, store, self.job.store(VALID), self.folder(cell))

    def _labels(self, cell: Cell) -> str:
        """Folder of the labels that a student learns from."""
        name = self.job.labels(cell.generation)
        if cell.config.labels == self.config.labels:
            return name
        return f"{FOLDER}/{name}-{config_digest(cell.config.labels)[:8]}"

    def _make_labels(self, cell: Cell) -> None:
        """Labels with the settings of a student, where the job itself has not done it."""
        name, settings = self._labels(cell), cell.config.labels
        if settings != self.config.labels:
            teacher = self.job.teacher(cell.generation)
            label(teacher, self.job.store(TRAIN), self.work / name, settings)

    def _results(self, done: list[Cell]) -> dict[str, Any]:
        folder = self.work / FOLDER
        path = folder / "systems.json"
        known = json.loads(path.read_text()) if path.exists() else {}
        store = self.job.store(TEST)
        evaluations = Evaluations(store, self.work, folder / "transcripts", known)
        teacher = evaluations.of("teacher", self.job.teacher_folder(1))
        systems = {cell.name: evaluations.of(cell.name, self.folder(cell)) for cell in done}
        write_json(path, {**known, "teacher": teacher, **systems})
        rows: dict[str, list[Cell]] = {}
        for cell in done:
            rows.setdefault(cell.row, []).append(cell)
        baseline = self.cells[0].row
        counts = {
            row: np.sum([evaluations.counts(c.name) for c in cells], axis=0)
            for row, cells in rows.items()
        }
        hidden = hidden_transcripts(self.work)
        qualities = {
            name: label_quality(self.job.store(name), hidden)
            for name in sorted({self._labels(cell) for cell in done})
        }
        return {
            "teacher": teacher,
            "baseline": baseline,
            "rows": {
                row: self._row(cells, systems, counts[row], counts.get(baseline))
                for row, cells in rows.items()
            },
            "unfinished": [cell.name for cell in self.cells if cell not in done],
            "training_data": self.job.training_data(),
            "labels": {name: each and asdict(each) for name, each in qualities.items()},
            "config": {**to_dict(self.config), "work_dir": "", "data_dir": ""},
            **provenance(),
        }

    def _row(
        self,
        cells: list[Cell],
        systems: Mapping[str, dict[str, Any]],
        counts: np.ndarray,
        baseline: np.ndarray | None,
    ) -> dict[str, Any]:
        """The figures of one student over its seeds.

        The interval and the difference are those of the mean WER, utterances drawn anew.
        """
        seeds = [self._seed_result(cell, systems[cell.name]) for cell in cells]
        rates = [seed["wer"] for seed in seeds]
        _, low, high = rate_with_interval(counts)
        row = {
            "settings": dict(cells[0].settings),
            "labels": self._labels(cells[0]),
            "wer": float(np.mean(rates)),
            "wer_low": low,
            "wer_high": high,
            "wer_deviation": float(np.std(rates, ddof=1)) if len(rates) > 1 else None,
            "rtf": float(np.mean([seed["rtf"] for seed in seeds])),
            **{key: seeds[0][key] for key in ("parameters", "bytes")},
            "seeds": seeds,
        }
        if baseline is not None:
            row["difference"] = difference_of_counts(counts, baseline)._asdict()
        return row

    def _seed_result(self, cell: Cell, system: Mapping[str, Any]) -> dict[str, Any]:
        curve = [row["val_wer"] for row in _history(self.folder(cell))]
        kept = ("wer", "cer", "parameters", "bytes", "rtf", "utterances", "words")
        return {
            "seed": cell.seed,
            "folder": str(self.folder(cell).relative_to(self.work)),
            **{key: system[key] for key in kept},
            "validation_wer": best_validation(self.folder(cell)),
            "validation_curve": curve,
        }


def _history(run: Path) -> list[dict[str, float]]:
    path = run / HISTORY
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
