"""Trains a grid of students on the labels of one job, each in a folder of its own.

A killed sweep continues with the same command. Several processes, on one machine or on several with
the same work folder, share the work: a lock on each folder keeps two from training one student.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import keras

from tfkd.config import (
    ExportConfig,
    LabelConfig,
    ModelConfig,
    RunConfig,
    SystemConfig,
    config_digest,
)
from tfkd.distillation.interface import Teacher
from tfkd.distillation.labelling import is_labelled, label
from tfkd.errors import BusyError, TfkdError
from tfkd.exporting.export import exported_rows
from tfkd.exporting.forms import FORMS
from tfkd.layers.model_size import count_parameters
from tfkd.models.recogniser import Recogniser
from tfkd.objectives import make_objective
from tfkd.pipeline.corpora import TEST, TRAIN, TRAIN_ALL, VALID
from tfkd.pipeline.evaluations import Evaluations, provenance_of
from tfkd.pipeline.exports import export_once, is_exported
from tfkd.pipeline.grid import Cell, cells_of
from tfkd.pipeline.job import Job, settings_for
from tfkd.pipeline.learning import BASELINE, BASELINE_ALL, Learned, as_baseline, with_steps_of
from tfkd.pipeline.measuring import results_of_data
from tfkd.pipeline.results import published
from tfkd.pipeline.stages import (
    RESULTS,
    TO_DO,
    State,
    first_pending,
    known_after,
    run_stages,
    states_of,
)
from tfkd.pipeline.sweep_rows import (
    RESAMPLED,
    Measured,
    export_name,
    history_of,
    row_of,
    summarised,
    word_errors_of,
    words_of,
)
from tfkd.records import Store
from tfkd.storage.files import write_json
from tfkd.storage.json_files import read_json_object
from tfkd.storage.locks import locked
from tfkd.storage.markers import COMPLETE
from tfkd.text import vocab_size_of

FOLDER = "sweep"


class Sweep:
    """Trains and evaluates every student of a grid that no other process is training.

    Args:
      verifies: see `Job`.
    """

    def __init__(self, config: RunConfig, *, verifies: bool = True) -> None:
        self.config, self.job = config, Job(config, verifies=verifies)
        self.work = self.job.work
        self.cells = cells_of(config)
        self._labelled = 0  # The latest generation whose labels this process has found or made.
        self._failures: dict[str, str] = {}
        self._sound: set[str] = set()  # Students of these settings, trained to the end.

    def states(self) -> tuple[dict[str, State], dict[str, State]]:
        """Tells the states of the stages up to the labels, and of the students, by their names.

        Writes nothing. What `run` would refuse has the error with which it would.
        """
        latest = max(cell.generation for cell in self.cells)
        stages = states_of(self.job.label_stages(latest), self.work)
        return stages, {cell.name: self._state(cell, stages) for cell in self.cells}

    def _state(self, cell: Cell, stages: Mapping[str, State]) -> State:
        """Describes a student: done, to be exported, with N epochs done, to do or refused."""
        needed = [stage.name for stage in self.job.label_stages(cell.generation)]
        pending = first_pending(needed, stages)
        try:
            if pending is None and not self._is_labelled(cell):
                pending = self._labels(cell)
            if pending is not None:
                return known_after(pending) if self._is_trained(cell) else TO_DO
            if self.job.is_trained(*self._plan(cell), self.folder(cell)):
                return State("done" if self._is_exported(cell) else "to be exported")
        except TfkdError as error:
            return State("refused", error)
        epochs = len(history_of(self.folder(cell)))
        return State(f"{epochs} epochs done") if epochs else TO_DO

    def _is_whole(self, cell: Cell) -> bool:
        """Whether there is all that the sweep makes of a student, perhaps of other settings."""
        is_due = self.config.sweep.export and not self._exported([cell])
        return self._is_trained(cell) and not is_due

    def _is_trained(self, cell: Cell) -> bool:
        return (self.folder(cell) / COMPLETE).exists()

    def parameters(self) -> dict[str, int | None]:
        """Counts the weights of each student by its row; None if only training tells the number.

        That is so where the size of the vocabulary is not given.
        """
        students = {cell.row: cell.config.student for cell in self.cells}
        sizes = {row: vocab_size_of(each.tokenizer) for row, each in students.items()}
        return {row: size and _parameters(students[row].model, size) for row, size in sizes.items()}

    @property
    def results(self) -> Path:
        """Path of results.json."""
        return self.work / FOLDER / RESULTS

    def folder(self, cell: Cell) -> Path:
        """The run folder of a student; a student that `tfkd run` trains, too, is shared with it."""
        is_of_job = cell.config.transcript_share == self.config.transcript_share
        if is_of_job and self._has_labels_of_job(cell):
            if cell.config.student == self.job.distilled:
                return self.work / self.job.student(cell.generation)
            is_baseline = cell.knows_all or "transcribed" in self.config.baselines
            is_of_transcripts = cell.config.student == self.job.undistilled
            if is_baseline and is_of_transcripts and cell.generation == 1:
                return self.work / (BASELINE_ALL if cell.knows_all else BASELINE)
        folder = self.work / FOLDER / cell.name
        earlier = () if folder.exists() else sorted(folder.parent.glob("*-seed-*"))
        return next((each for each in earlier if cell.is_name(each.name)), folder)

    def run(self, announce: Callable[[str], None]) -> dict[str, Any]:
        """Trains the unfinished students and returns the content of the sweep's results.json.

        A student that cannot be trained or exported leaves the others alone; results name it. One
        of a later generation whose labels another process is making comes last.

        Args:
          announce: called with a line before each student.
        Raises:
          ConfigError, CheckpointError: see `Job.check`; before any work is done.
        """
        self.job.check()
        self._label(1, announce)
        numbered = [*enumerate(self.cells, 1)]
        later = [
            (number, cell)
            for number, cell in numbered
            if not self._finish(number, cell, announce, waits=False)
        ]
        for number, cell in later:
            self._finish(number, cell, announce, waits=True)
        return self._write_results()

    def _finish(
        self, number: int, cell: Cell, announce: Callable[[str], None], *, waits: bool
    ) -> bool:
        """Trains, exports and measures a student; returns False if it has no labels yet.

        Args:
          number: of the cell, from 1.
          waits: whether to wait for another process that makes its labels.
        """
        was_done = self._is_whole(cell)
        announce(f"[{number}/{len(self.cells)}] {cell.row}, seed {cell.seed}")
        try:
            try:
                self._label(cell.generation, announce, waits=waits)
            except BusyError:
                announce("  its labels are being made by another process")
                return False
            self._train(cell)
            self._sound.add(cell.name)
            self._export(cell)
        except BusyError:
            announce("  is being trained by another process")
        except TfkdError as error:
            self._failures[cell.name] = str(error)
            announce(f"  failed: {error}")
        # Keras keeps state of every model, which would fill the memory.
        keras.utils.clear_session()
        if not was_done:
            self._write_results()
        return True

    def _label(
        self, generation: int, announce: Callable[[str], None], *, waits: bool = True
    ) -> None:
        """Runs the stages up to the labels of a generation that this process has not run yet.

        Raises:
          BusyError: if another process runs some of them, unless this one waits, or trains a model
            that they train, too.
        """
        earlier = self.job.label_stages(self._labelled) if self._labelled else []
        if stages := self.job.label_stages(generation)[len(earlier) :]:
            with self._alone("labels", waits=waits):
                run_stages(stages, self.work, announce)
            self._labelled = generation

    def _alone(self, what: str, *, waits: bool = True) -> contextlib.AbstractContextManager[None]:
        """Keeps other processes from what only one may do at a time, once they have done it."""
        return locked(self.work / FOLDER / "locks" / what, wait=waits)

    def _write_results(self) -> dict[str, Any]:
        """Evaluates the students that are finished so far and writes results.json.

        A finished student that could not be opened for these settings is no result of them.
        """
        refused = self._failures.keys() - self._sound
        done = [cell for cell in self.cells if self._is_trained(cell) and cell.name not in refused]
        with self._alone("results"):
            results = self._results(done)
            write_json(self.results, results)
        return results

    def _train(self, cell: Cell) -> None:
        self._make_labels(cell)
        self.job.train(*self._plan(cell), self.folder(cell))

    def _plan(self, cell: Cell) -> tuple[SystemConfig, Learned]:
        """The system of a student, and what it learns from, once there are its labels."""
        student, labels = cell.config.student, self._labels(cell)
        learned = self.job.stores.learned(labels, cell.config.transcript_share)
        if make_objective(student.training).needs_hypotheses:
            if cell.config.transcript_share != self.config.transcript_share:
                # More or fewer transcripts beside the labels are no longer or shorter training.
                others = self.job.stores.learned(labels, self.config.transcript_share)
                student = with_steps_of(student, learned.epoch_size, others)
            return student, learned
        truth = self.job.stores.truth_of(TRAIN_ALL if cell.knows_all else labels)
        return as_baseline(student, truth, learned), truth

    def _export(self, cell: Cell) -> None:
        """Exports a student in the form that the sweep names, if it names one."""
        if settings := self._export_settings:
            with self._alone(f"export-{cell.name}"):
                valid = self.job.stores.evaluated(VALID)
                export_once(self.folder(cell), self._exports(cell), settings, valid)

    def _is_exported(self, cell: Cell) -> bool:
        """Whether `_export` would make nothing anew."""
        settings = self._export_settings
        return not settings or is_exported(self.folder(cell), self._exports(cell), settings)

    @property
    def _export_settings(self) -> ExportConfig | None:
        form = self.config.sweep.export
        return dataclasses.replace(self.config.export, formats=(form,)) if form else None

    def _exports(self, cell: Cell) -> Path:
        """Folder of the export of a student."""
        return self.work / FOLDER / "exports" / cell.name

    def _exported(self, cells: Iterable[Cell]) -> dict[str, Path]:
        """The exports that there are of some students, by their names in results."""
        if not self.config.sweep.export:
            return {}
        form = FORMS[self.config.sweep.export]
        return {
            export_name(cell, form.name): self._exports(cell) / form.file_name
            for cell in cells
            if form.name in (row["format"] for row in exported_rows(self._exports(cell)))
        }

    def _labels(self, cell: Cell) -> str:
        """Folder of the labels that a student learns from."""
        name, settings = self.job.labels(cell.generation), cell.config.labels
        if self._has_labels_of_job(cell):
            return name
        # Earlier versions named them after all settings.
        named = (settings.without_circumstances(), settings)
        names = [f"{FOLDER}/{name}-{config_digest(each)[:8]}" for each in named]
        return next((each for each in names if (self.work / each).exists()), names[0])

    def _has_labels_of_job(self, cell: Cell) -> bool:
        own, of_job = cell.config.labels, self.config.labels
        return own.without_circumstances() == of_job.without_circumstances()

    def _make_labels(self, cell: Cell) -> None:
        """Labels with the settings of a student, if they differ from the job's."""
        if not self._has_labels_of_job(cell):
            with self._alone(self._labels(cell).replace("/", "-")):
                label(*self._labelling(cell))

    def _is_labelled(self, cell: Cell) -> bool:
        """Whether `_make_labels` would make nothing; raises its error if it would refuse."""
        if self._has_labels_of_job(cell):
            return True
        return (self.work / self._labels(cell)).exists() and is_labelled(*self._labelling(cell))

    def _labelling(self, cell: Cell) -> tuple[Teacher, Store, Path, LabelConfig]:
        """What `label` is called with for the labels of a student."""
        settings = settings_for(cell.generation, cell.config.labels)
        teacher, store = self.job.load_teacher(cell.generation), self.job.stores.open(TRAIN)
        return teacher, store, self.work / self._labels(cell), settings

    def _results(self, done: list[Cell]) -> dict[str, Any]:
        folder = self.work / FOLDER
        path = folder / "systems.json"
        known = read_json_object(path) if path.exists() else {}
        store = self.job.stores.evaluated(TEST)
        evaluations = Evaluations(store, self.work, folder / "transcripts", known)
        students = {cell.name: self.folder(cell) for cell in done}
        models = {**self.job.given_teacher(), **students, **self._exported(done)}
        systems = {name: evaluations.of(name, model) for name, model in models.items()}
        write_json(path, {**known, **systems})
        rows: dict[str, list[Cell]] = {}
        for cell in done:
            rows.setdefault(cell.row, []).append(cell)
        counts = {name: evaluations.counts(name) for name in systems}
        systems = {
            name: {**system, "word_errors": word_errors_of(counts[name])}
            for name, system in systems.items()
        }
        measured = Measured(self.work, students, systems)
        words = next(map(words_of, counts.values()), "")
        form = self.config.sweep.export
        labels = self.job.measured_labels(sorted({self._labels(cell) for cell in done}))
        return {
            "teacher": systems.get("teacher"),
            "baselines": sorted({cell.baseline for cell in self.cells if cell.baseline}),
            "of_all_transcripts": sorted({cell.row for cell in self.cells if cell.knows_all}),
            "rows": summarised(
                {
                    row: row_of(cells, measured, labels=self._labels(cells[0]), form=form)
                    for row, cells in rows.items()
                },
                words,
                form,
            ),
            "resampled": RESAMPLED,
            "test": {"sha256": next(map(evaluations.digest, systems), ""), "words": words},
            "unfinished": [
                cell.name for cell in self.cells if cell not in done or not self._is_whole(cell)
            ],
            "failed": self._failures,
            **results_of_data(self.job.stores, labels),
            "config": published(self.config),
            **provenance_of(systems.values()),
        }


@cache
def _parameters(model: ModelConfig, vocab_size: int) -> int:
    return count_parameters(lambda: Recogniser(model, vocab_size))
