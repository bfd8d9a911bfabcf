"""Runs the whole job of `tfkd run`: prepare, train, label, distill, baselines, export, evaluate."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

from tfkd import objectives
from tfkd.config import LabelConfig, RunConfig, SystemConfig, TokenizerConfig, WhisperConfig
from tfkd.data.preparation import is_prepared
from tfkd.decoding.runs import MODEL, load_run
from tfkd.distillation.interface import Teacher
from tfkd.distillation.label_quality import TEST_LABELS
from tfkd.distillation.labelling import digest_of, is_labelled, label
from tfkd.distillation.references import write_references
from tfkd.distillation.teachers import load_teacher
from tfkd.errors import ConfigError, ExportError
from tfkd.evaluation.evaluate import check_transcripts
from tfkd.exporting.export import REPORT, exported_rows
from tfkd.language_models import language_model_sha256
from tfkd.pipeline.corpora import TEST, TRAIN, TRAIN_ALL, VALID, prepare_corpora, prepared_stores
from tfkd.pipeline.exports import export_once, is_exported
from tfkd.pipeline.learning import (
    BASELINE,
    BASELINE_ALL,
    Learned,
    as_baseline,
    distilled,
    undistilled,
    warn_of_unlearned,
)
from tfkd.pipeline.measuring import is_measured, measure_job
from tfkd.pipeline.results import best_validation
from tfkd.pipeline.stages import RESULTS, Stage, State, run_stages, states_of
from tfkd.pipeline.stores import BY_TEACHER, JobStores
from tfkd.storage.json_files import read_json_object
from tfkd.storage.markers import COMPLETE, HISTORY
from tfkd.text import Tokenizer
from tfkd.training.loop import check_system, is_trained, train

_LOG = logging.getLogger("tfkd")
VALID_LABELS = "labels-valid"
_NO_BASELINE = "set corpora.train=[] and name the corpora under corpora.untranscribed"
_NO_BASELINE_ALL = "leave all out of baselines, or give the corpora transcripts"


class Job:
    """Runs the stages of one run config; finished ones are verified, not repeated.

    Args:
      verifies: see `JobStores`; `states` needs only what stores say of themselves.
    """

    def __init__(self, config: RunConfig, *, verifies: bool = True) -> None:
        self.config = config
        self.work = Path(config.work_dir)
        self.stores = JobStores(config, verifies)
        self.distilled = distilled(config.student)
        self.undistilled = undistilled(config.student)

    def stages(self) -> list[Stage]:
        """Lists every stage, in order."""
        stages = self.label_stages(1)
        if self._has_baseline:
            stages.append(self._baseline(BASELINE, self.labels(1)))
        if "all" in self.config.baselines:
            stages.append(self._baseline(BASELINE_ALL, TRAIN_ALL))
        stages.append(self._distillation(self.student(1), self.distilled, 1))
        for generation in range(2, self.config.generations + 1):
            stages += self._generation(generation)
        return [
            *stages,
            Stage(
                "export",
                ("export",),
                (f"export/{REPORT}",),
                self._export,
                self._is_exported,
                tuple(map(self.student, self._generations)),
            ),
            Stage(
                "evaluate",
                (RESULTS, "transcripts"),
                (RESULTS,),
                self._evaluate,
                self._is_evaluated,
                (*(stage.name for stage in stages), "export"),
            ),
        ]

    def label_stages(self, generations: int) -> list[Stage]:
        """Lists the stages up to the labels of the last of some generations."""
        prepared = prepared_stores(self.config)
        markers = tuple(f"{store}/{COMPLETE}" for store in prepared)
        stages = [Stage("prepare", prepared, markers, self._prepare, self._is_prepared)]
        if isinstance(self.config.teacher, SystemConfig):
            teacher = self.config.teacher
            stages.append(
                self._training(
                    "teacher", lambda: (teacher, self.stores.truth_of(TRAIN)), ("prepare",)
                )
            )
        stages.append(self._labelling("label", 1))
        for generation in range(2, generations + 1):
            earlier = generation - 1
            stages.append(self._distillation(self.student(earlier), self.distilled, earlier))
            stages += self._generation(generation)[:-1]
        return stages

    def states(self) -> dict[str, State]:
        """Tells the state of each stage, and which of them `run` would refuse; writes nothing."""
        return states_of(self.stages(), self.work)

    def check(self) -> None:
        """Checks that the job's teacher and models can do what the config asks for.

        Raises:
          ConfigError: if this machine cannot train one of the models, or an existing teacher cannot
            make such labels or hears another sample rate.
          LanguageModelError: if there is no such language model for a search.
          CheckpointError: if there is no such teacher, or no such run for a model to begin from.
        """
        for system in self.config.systems.values():
            check_system(system)
            begun_from = system.training.initial.run
            if begun_from and self.work.resolve() not in Path(begun_from).resolve().parents:
                load_run(begun_from)  # What is below the work folder, the job may still make.
        searches = (each.decoding.fusion for each in self.config.systems.values())
        for fusion in (self.config.labels.fusion, *searches):
            if fusion.lm is not None and fusion.lm_weight:
                language_model_sha256(fusion.lm)
        if isinstance(self.config.teacher, str):
            self._check_teacher(self.load_teacher(1))

    def _check_teacher(self, teacher: Teacher) -> None:
        digest_of(teacher, self.config.labels)
        rate_hz = self.config.prepare.sample_rate_hz
        if teacher.sample_rate_hz != rate_hz:
            raise ConfigError(
                f"prepare.sample_rate_hz: is {rate_hz}, the teacher {teacher.spec} hears audio at "
                f"{teacher.sample_rate_hz} Hz",
                remedy=f"set it to {teacher.sample_rate_hz}, and so the frontends of all models",
            )

    def run(self, announce: Callable[[str], None]) -> dict[str, Any]:
        """Runs every stage and returns the content of results.json.

        Args:
          announce: called with a line before and after each stage.
        Raises:
          ConfigError, CheckpointError: see `check`; before any work is done.
          ExportError: if an export is refused; after all else is measured.
        """
        self.check()
        stages = self.stages()
        try:
            run_stages(stages, self.work, announce)
        except ExportError:
            run_stages(stages[-1:], self.work, announce)  # what there is can be measured
            raise
        return self.results

    @property
    def results(self) -> dict[str, Any]:
        """The content of results.json."""
        return read_json_object(self.work / RESULTS)

    # Names of folders in the work folder. Those of the first generation have no number.

    def labels(self, generation: int) -> str:
        """Folder of the labels of a generation."""
        return f"labels{_suffix(generation)}"

    def student(self, generation: int) -> str:
        """Folder of the student of a generation."""
        objective = objectives.make_objective(self.distilled.training)
        return f"student-{objective.name}{_suffix(generation)}"

    def load_teacher(self, generation: int) -> Teacher:
        """Loads the teacher that labels in a generation."""
        return load_teacher(self.teacher_spec(generation))

    def teacher_spec(self, generation: int) -> str:
        """The teacher of a generation, as `load_teacher` takes it."""
        if generation == 1 and isinstance(self.config.teacher, str):
            return self.config.teacher
        if generation > 1 and self.config.next_teacher is None:
            return str(self.work / self.student(generation - 1))
        return str(self.work / f"teacher{_suffix(generation)}")

    def _generation(self, number: int) -> list[Stage]:
        """The stages of a generation after the first: teacher, labels, student."""
        stages = []
        if self.config.next_teacher is not None:
            system = distilled(self.config.next_teacher, self.distilled.training.objective)
            stages.append(self._distillation(f"teacher{_suffix(number)}", system, number - 1))
        return [
            *stages,
            self._labelling(f"label{_suffix(number)}", number),
            self._distillation(self.student(number), self.distilled, number),
        ]

    # The actions.

    def _training(
        self, name: str, plan: Callable[[], tuple[SystemConfig, Learned]], needs: tuple[str, ...]
    ) -> Stage:
        def action() -> None:
            self.train(*plan(), self.work / name)

        def check() -> bool:
            return self.is_trained(*plan(), self.work / name)

        return Stage(name, (name,), (f"{name}/{COMPLETE}",), action, check, needs)

    def train(self, system: SystemConfig, learned: Learned, folder: Path) -> None:
        """Trains one system into a run folder, or goes on where it was killed."""
        stores, shares = learned
        tokenizer = self._teachers_units(system, folder)
        if not (folder / COMPLETE).exists():
            warn_of_unlearned(system, learned, folder)
        train(
            system, stores, self.stores.evaluated(VALID), folder, shares=shares, tokenizer=tokenizer
        )

    def is_trained(self, system: SystemConfig, learned: Learned, folder: Path) -> bool:
        """Whether `train` would find the system trained; raises its error if it would refuse."""
        if not folder.exists():
            return False
        stores, shares = learned
        valid, tokenizer = self.stores.evaluated(VALID), self._teachers_units(system, folder)
        return is_trained(system, stores, valid, folder, shares=shares, tokenizer=tokenizer)

    def _teachers_units(self, system: SystemConfig, folder: Path) -> Tokenizer | None:
        """The first teacher's tokenizer, for all others with its tokenizer settings.

        So students on labels and on transcripts differ in what they learn, not in how it is spelt.
        """
        if self.given_teacher().get("teacher", folder) == folder:
            return None
        settings, tokenizer = self._first_units
        return tokenizer if settings == system.tokenizer else None

    @cached_property
    def _first_units(self) -> tuple[TokenizerConfig, Tokenizer]:
        """The tokenizer of the first teacher, which is a run of tfkd, and its settings."""
        run = load_run(self.given_teacher()["teacher"])
        return run.system.tokenizer, run.tokenizer

    def _distillation(self, name: str, system: SystemConfig, generation: int) -> Stage:
        """Trains a system on the labels of a generation."""
        labels, share = self.labels(generation), self.config.transcript_share
        needs = ("prepare", f"label{_suffix(generation)}")
        return self._training(name, lambda: (system, self.stores.learned(labels, share)), needs)

    def _baseline(self, name: str, data: str) -> Stage:
        """Trains the student on the transcripts of a store."""

        def plan() -> tuple[SystemConfig, Learned]:
            distilled_from = self.stores.learned(self.labels(1), self.config.transcript_share)
            truth = self.stores.truth_of(data)
            return as_baseline(self.undistilled, truth, distilled_from), truth

        return self._training(name, plan, ("prepare", "label"))

    def _labelling(self, name: str, generation: int) -> Stage:
        out, settings = self.labels(generation), settings_for(generation, self.config.labels)

        def action() -> None:
            teacher = self.load_teacher(generation)
            if generation == 1:
                self._write_references(teacher)
            label(teacher, self.stores.open(TRAIN), self.work / out, settings)

        def check() -> bool:
            if not (self.work / out).exists():
                return False
            teacher = self.load_teacher(generation)
            labels = {**(self._references() if generation == 1 else {}), TRAIN: out}
            return all(
                is_labelled(teacher, self.stores.open(store), self.work / each, settings)
                for store, each in labels.items()
            )

        is_given = generation == 1 and isinstance(self.config.teacher, str)
        needs = ("prepare", *(() if is_given else (Path(self.teacher_spec(generation)).name,)))
        return Stage(name, (out,), (f"{out}/{COMPLETE}",), action, check, needs)

    def _write_references(self, teacher: Teacher) -> None:
        """Lets the first teacher say what is said where it is measured and nobody wrote it down."""
        for name, labels in self._references().items():
            _LOG.warning(
                "%s: nobody has transcribed it: what the teacher says is its reference",
                self.work / name,
            )
            label(teacher, self.stores.open(name), self.work / labels, self.config.labels)
            write_references(self.stores.open(labels), self.work / f"{name}{BY_TEACHER}")

    def _references(self) -> dict[str, str]:
        """The stores that nobody has transcribed, and the labels that stand for transcripts."""
        labels = {VALID: VALID_LABELS, TEST: TEST_LABELS}
        return {name: each for name, each in labels.items() if not self.stores.is_transcribed(name)}

    def _prepare(self) -> None:
        prepare_corpora(self.config, self.work)
        self._check_transcripts()

    def _check_transcripts(self) -> None:
        if isinstance(self.config.teacher, SystemConfig):
            # Only a teacher that exists already can say what is said.
            check_transcripts(self.stores.open(VALID))
            check_transcripts(self.stores.open(TEST))
        elif self._has_baseline:
            check_transcripts(self.stores.open(TRAIN), _NO_BASELINE)
        if "all" in self.config.baselines:
            check_transcripts(self.stores.open(TRAIN_ALL), _NO_BASELINE_ALL)

    def _is_prepared(self) -> bool:
        folders = (self.work / name for name in prepared_stores(self.config))
        found = [is_prepared(folder, self.config.prepare) for folder in folders]
        if all(found):
            self._check_transcripts()
        return all(found)

    @property
    def _has_baseline(self) -> bool:
        """Whether a student learns the transcripts that the job may learn from, and no labels."""
        return bool(self.config.corpora.train) and "transcribed" in self.config.baselines

    @property
    def _generations(self) -> range:
        return range(1, self.config.generations + 1)

    @cached_property
    def exported(self) -> str:
        """Name of the student with the lowest validation WER; the earliest of equal ones."""
        names = map(self.student, self._generations)
        return min(names, key=lambda name: best_validation(self.work / name))

    def _export(self) -> None:
        student, out = self.work / self.exported, self.work / "export"
        export_once(student, out, self.config.export, self.stores.evaluated(VALID))

    def _is_exported(self) -> bool:
        student, out = self.work / self.exported, self.work / "export"
        return is_exported(student, out, self.config.export)

    def _evaluate(self) -> None:
        labels = self.measured_labels(map(self.labels, self._generations))
        stages = [stage.name for stage in self.stages()[:-1]]
        models, student = self._models(), self.exported
        measure_job(self.stores, models, student=student, labels=labels, stages=stages)

    def _is_evaluated(self) -> bool:
        return is_measured(self.stores, self._models())

    def _models(self) -> dict[str, Path]:
        """The models that there are, by their names in results."""
        folders = {stage.name: self.work / stage.name for stage in self.stages()}
        trained = {name: path for name, path in folders.items() if (path / HISTORY).exists()}
        models = {**self.given_teacher(), **trained}
        for row in exported_rows(self.work / "export"):
            models[f"export {row['format']}"] = self.work / "export" / row["path"]
        return models

    def measured_labels(self, names: Iterable[str]) -> list[str]:
        """Adds those of the test set, made here, if only they can measure the first teacher.

        That is so if it is not a run of tfkd.
        """
        if self.given_teacher():
            return [*names]
        test = self.stores.open(TEST)
        label(self.load_teacher(1), test, self.work / TEST_LABELS, self.config.labels)
        return [*names, TEST_LABELS]

    def given_teacher(self) -> dict[str, Path]:
        """The first teacher, if it is a run of tfkd, so that its speed and size can be measured."""
        folder = Path(self.teacher_spec(1))
        return {"teacher": folder} if (folder / MODEL).exists() else {}


def settings_for(generation: int, labels: LabelConfig) -> LabelConfig:
    """The settings of labels of a generation: only its first teacher can be a Whisper."""
    return labels if generation == 1 else dataclasses.replace(labels, whisper=WhisperConfig())


def _suffix(generation: int) -> str:
    return "" if generation == 1 else f"-{generation}"
