"""Expands the grid of a sweep into its students."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tfkd.config import (
    LabelConfig,
    RunConfig,
    SweepConfig,
    SystemConfig,
    config_digest,
    with_overrides,
)
from tfkd.errors import ConfigError, did_you_mean
from tfkd.objectives import in_effect, make_objective
from tfkd.pipeline.learning import distilled, undistilled, with_objective
from tfkd.storage.files import sha256_of_text
from tfkd.training.identity import without_circumstances

_GENERATION, _STUDENT, _VARIANT = "generation", "student", "variant"
_SEED = "student.training.seed"
_OBJECTIVE = "student.training.objective.kind"
_NO_OBJECTIVE = re.compile(r"student\.(?!training\.objective\b)")
_SECTIONS = ("student", "labels", "transcript_share")
_LONGEST_NAME = 60
# Short names of settings in tables; others are shortened to an ending that is unique.
_NAMES = {"student.training.objective.num_hypotheses": "k", "labels.beam_width": "beam"}

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Cell:
    """One student of the grid, with one seed.

    Attributes:
      row: name of its row in tables, the same for all seeds: the settings that it varies.
      baseline: name of the row that it is compared with; empty if that would learn
        transcripts and there are none.
      settings: the varied settings and their values.
      config: the job's config with these settings and the seed.
      generation: of the labels that it learns from, from 1.
      knows_all: whether it learns every transcript, those that are hidden from all others, too.
    """

    row: str
    baseline: str
    settings: Settings
    seed: int
    config: RunConfig
    generation: int
    knows_all: bool = False

    @cached_property
    def name(self) -> str:
        """Name of its folder: the row, the seed and a digest of the settings."""
        words = "".join(c if c.isalnum() or c in "._" else "-" for c in self.row)
        if len(words) > _LONGEST_NAME:
            # Rows that differ in their ends alone, as by the generation, are other students.
            words = f"{words[:_LONGEST_NAME]}-{sha256_of_text(self.row)[:8]}"
        suffix = f"-generation-{self.generation}" if self.generation > 1 else ""
        student = without_circumstances(self.config.student)
        labels = self.config.labels.without_circumstances()
        return words + self._settings_in_name(student, labels) + suffix

    def is_name(self, other: str) -> bool:
        """Whether a grid that varies other settings gives this student such a name.

        In earlier versions only the row named the generation, and the digest was of all settings.
        """
        student, labels = self.config.student, self.config.labels
        students = (without_circumstances(student), student)
        settings = itertools.product(students, (labels.without_circumstances(), labels))
        ends = itertools.starmap(self._settings_in_name, settings)
        is_of_settings = any(
            re.fullmatch(rf".*{re.escape(end)}(-generation-\d+)?", other) for end in ends
        )
        generations = re.findall(r"generation-(\d+)", other)
        return is_of_settings and int((generations or ["1"])[-1]) == self.generation

    def _settings_in_name(self, student: SystemConfig, labels: LabelConfig) -> str:
        digest = config_digest(student, labels)[:8]
        share = self.config.transcript_share
        of_share = "" if share is None else f"-transcripts-{share:g}"
        return f"-seed-{self.seed}-{digest}{of_share}" + ("-all" if self.knows_all else "")


def cells_of(config: RunConfig) -> list[Cell]:
    """Lists the students of `config.sweep`: all with the first seed, then those with the next.

    Where `config.baselines` has "all", each baseline that learns transcripts has a twin that knows
    every one of them.

    Raises:
      ConfigError: if the grid is empty, or a setting in it is unknown or has an invalid value.
    """
    sweep = config.sweep
    if not sweep.grid:
        raise ConfigError("sweep.grid: is empty", remedy="see docs/guide/sweeps.md")
    tried = [*itertools.chain(*map(_products, sweep.grid))]
    paired = [(_baseline_of(each, sweep), each) for each in tried]
    names = _short_names(itertools.chain(*paired))
    students: dict[str, _Student] = {}

    def student(settings: Settings) -> _Student:
        """The student of these settings; settings with the same effect give the same one."""
        found = _student(config, settings, names)
        return students.setdefault(found.identity, found)

    baseline_of: dict[str, str] = {}

    def baseline(settings: Settings) -> str:
        """The row of a baseline; none if it would learn transcripts and no corpus has any."""
        found = _student(config, settings, names)
        if make_objective(found.config.student.training).needs_hypotheses:
            return student(settings).row
        row = student(settings).row if config.corpora.train else ""
        if "all" in config.baselines:
            twin = dataclasses.replace(
                found, row=f"{row or found.row} of all audio", knows_all=True
            )
            baseline_of[students.setdefault(twin.identity, twin).row] = row
        return row

    baselines = [baseline(each) for each, _ in paired]
    baseline_of.update({row: row for row in baselines if row})
    for (_, settings), row in zip(paired, baselines, strict=True):
        baseline_of.setdefault(student(settings).row, row)
    _check_rows(each.row for each in students.values())
    ordered = sorted(students.values(), key=lambda each: each.knows_all)
    return [each.cell(seed, baseline_of[each.row]) for seed in sweep.seeds for each in ordered]


def _check_rows(rows: Iterable[str]) -> None:
    """Raises ConfigError if two students, or a student and the teacher, have one name in tables."""
    counts = Counter(["teacher", *rows])
    if twice := [row for row, count in counts.items() if count > 1]:
        raise ConfigError(
            f"sweep.grid: {twice[0]!r} is the name of two rows",
            remedy="rename one in sweep.students or sweep.variants",
        )


def _products(grid: Mapping[str, tuple]) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def _baseline_of(settings: Settings, sweep: SweepConfig) -> dict[str, Any]:
    """The baseline of the same student and variant.

    One that learns transcripts has all other settings of the student, too, but for what it learns:
    size, epochs, augmentation. A variant that concerns none of these is none of a baseline's.
    """
    learns_truth = sweep.baseline.get(_OBJECTIVE) == "truth"

    def concerns_truth(key: str) -> bool:
        return key == _STUDENT or _NO_OBJECTIVE.match(key) is not None

    def is_kept(key: str, value: Any) -> bool:
        if not learns_truth:
            return key in (_STUDENT, _VARIANT)
        if key == _VARIANT:
            return any(map(concerns_truth, _settings_of_variant(value, sweep.variants)))
        return concerns_truth(key)

    kept = {key: value for key, value in settings.items() if is_kept(key, value)}
    return {**kept, **sweep.baseline}


@dataclass(frozen=True)
class _Student:
    """A cell without its seed."""

    row: str
    settings: Settings
    config: RunConfig
    generation: int
    knows_all: bool = False

    @property
    def identity(self) -> str:
        student = without_circumstances(self.config.student)
        student = with_objective(student, in_effect(student.training.objective))
        digest = config_digest(student, self.config.labels.without_circumstances())
        return f"{digest} {self.generation} {self.config.transcript_share} {self.knows_all}"

    def cell(self, seed: int, baseline: str) -> Cell:
        config = with_overrides(self.config, [f"{_SEED}={seed}"])
        return Cell(
            self.row, baseline, self.settings, seed, config, self.generation, self.knows_all
        )


def _student(config: RunConfig, settings: Settings, names: Mapping[str, str]) -> _Student:
    row, given = _row_name(settings, names), settings
    settings = _with_variant(settings, config.sweep.variants)
    generation = settings.get(_GENERATION, 1)
    if type(generation) is not int or not 1 <= generation <= config.generations:
        raise ConfigError(
            f"sweep.grid: there is no {_GENERATION} {generation}, only {config.generations}",
            remedy="raise generations",
        )
    whole = _whole_student(config, settings)
    distilling = dataclasses.replace(config, student=distilled(whole))
    try:
        resolved = with_overrides(distilling, [*_changes(settings)])
    except ConfigError as error:
        raise ConfigError(f"sweep.grid: {row}: {error.message}", remedy=error.remedy) from error
    objective = make_objective(resolved.student.training)
    if not objective.needs_hypotheses:
        student = resolved.student
        if not objective.reads_hypotheses:  # Labels have no effect, so they make no difference.
            own = dataclasses.replace(whole.training.objective, truth_audio="all")
            student, generation = with_objective(student, own), 1
            resolved = dataclasses.replace(resolved, labels=config.labels)
        resolved = dataclasses.replace(resolved, transcript_share=config.transcript_share)
        resolved = dataclasses.replace(resolved, student=undistilled(student))
    return _Student(row, dict(given), resolved, generation)


def _with_variant(settings: Settings, variants: Mapping[str, Settings]) -> Settings:
    """Puts the settings of a variant in its place; those beside it count where both have one."""
    if _VARIANT not in settings:
        return settings
    variant = _settings_of_variant(settings[_VARIANT], variants)
    return {**variant, **{key: each for key, each in settings.items() if key != _VARIANT}}


def _settings_of_variant(name: Any, variants: Mapping[str, Settings]) -> Settings:
    return variants[_choice(name, _VARIANT, variants, "describe it")]


def _whole_student(config: RunConfig, settings: Settings) -> SystemConfig:
    """The student that the other settings change: one of `sweep.students`, or the job's own."""
    if _STUDENT not in settings:
        return config.student
    students = config.sweep.students
    return students[_choice(settings[_STUDENT], _STUDENT, students, "name its file")]


def _choice(name: Any, kind: str, known: Mapping[str, Any], remedy: str) -> str:
    """The name of a student or variant, if there is such a one."""
    if not isinstance(name, str) or name not in known:
        raise ConfigError(
            f"sweep.grid: there is no {kind} {name!r}",
            remedy=did_you_mean(str(name), known) or f"{remedy} in sweep.{kind}s",
        )
    return name


def _changes(settings: Settings) -> Iterator[str]:
    """The `key=value` overrides that settings of a grid stand for."""
    for key, value in settings.items():
        if key in (_GENERATION, _STUDENT):
            continue
        if key.partition(".")[0] not in _SECTIONS or key == _SEED:
            remedy = (
                "use student, settings of student and labels, transcript_share, generation, "
                "variant, and sweep.seeds"
            )
            raise ConfigError(f"sweep.grid: {key} cannot be varied", remedy=remedy)
        yield f"{key}={json.dumps(value)}"


def _short_names(rows: Iterable[Settings]) -> dict[str, str]:
    """Maps each setting to its name in tables."""
    keys = dict.fromkeys(key for row in rows for key in row)
    return {key: _NAMES.get(key) or _unique_end(key, keys) for key in keys}


def _unique_end(key: str, keys: Iterable[str]) -> str:
    """The shortest ending of a setting's dotted name that no other setting has."""
    parts = key.split(".")
    ends = (".".join(parts[first:]) for first in range(len(parts) - 1, -1, -1))
    others = [f".{other}" for other in keys if other not in (key, *_NAMES)]
    return next(end for end in ends if not any(other.endswith(f".{end}") for other in others))


def _row_name(settings: Settings, names: Mapping[str, str]) -> str:
    """Names a row by its settings; a student that varies none is the job's own."""
    return ", ".join(_words(names[key], value) for key, value in settings.items()) or _STUDENT


def _words(name: str, value: Any) -> str:
    """A setting in the name of a row; kinds, students and variants need no name of the setting."""
    if name in ("kind", _STUDENT, _VARIANT):
        return str(value)
    return f"{name} {value if isinstance(value, str) else json.dumps(value)}"
