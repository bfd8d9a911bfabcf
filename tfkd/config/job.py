"""Settings of one recogniser, and of the whole job of `tfkd run` and `tfkd sweep`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from tfkd.config.bounds import number
from tfkd.config.decoding import DecodingConfig
from tfkd.config.export import ExportConfig, ExportFormat
from tfkd.config.labelling import LabelConfig
from tfkd.config.model import ModelConfig
from tfkd.config.preparation import PrepareConfig, TokenizerConfig
from tfkd.config.training import TrainingConfig

Baseline = Literal["transcribed", "all"]


@dataclass(frozen=True)
class SystemConfig:
    """One recogniser: its units, its model, its training and how it decodes."""

    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)


@dataclass(frozen=True)
class CorporaConfig:
    """The corpora of a run: manifests, folders or trees, relative to `data_dir`.

    Attributes:
      train: one or several corpora with transcripts; an empty list if the teacher exists already.
      valid: corpus for early stopping; null holds out a part of the training audio instead. If
        nobody has transcribed it, it is measured against what an existing teacher says.
      test: corpus for evaluation, likewise.
      held_out_share: share of the training audio that is held out for each of `valid` and `test`
        that is null: of the utterances with transcripts or, if there are none, of all. Whole
        speakers or recordings, if these are many enough; neither order nor machine matter.
      untranscribed: one or several corpora that the teacher labels and the student learns from. If
        they have transcripts, only the baseline "all" learns them; labels are measured by them.
      transcribed_share: share of the transcripts of `train` that are used; the other utterances
        count as untranscribed. The choice depends on the ids alone.
    """

    train: tuple[str, ...] = ("train.jsonl",)
    valid: str | None = "valid.jsonl"
    test: str | None = "test.jsonl"
    held_out_share: float = number(0.05, above=0, below=0.5)
    untranscribed: tuple[str, ...] = ()
    transcribed_share: float = number(1.0, above=0, at_most=1)


@dataclass(frozen=True)
class SweepConfig:
    """A grid of students, for `tfkd sweep`; see `tfkd.pipeline.sweep`.

    Attributes:
      grid: mappings of settings (`student`, `student.…`, `labels.…`, `transcript_share`,
        `generation` or `variant`) to the values to try, in every combination; one table compares
        the students of all mappings.
      students: whole students, such as those of several families, by the name that `student` takes
        in the grid. Each is a system, or the path of its YAML file, relative to the config.
      variants: settings that change together, such as those of a model's size, by name.
      baseline: settings of the student with which the others of its variant are compared; one that
        learns transcripts is trained for each model of the grid.
      seeds: each student is trained once with each seed.
      export: form in which each student is also exported, with the settings of `export`, and
        measured; null exports none.
    """

    grid: tuple[dict[str, tuple[Any, ...]], ...] = ()
    students: dict[str, SystemConfig] = field(default_factory=dict)
    variants: dict[str, dict[str, Any]] = field(default_factory=dict)
    baseline: dict[str, Any] = field(
        default_factory=lambda: {"student.training.objective.kind": "truth"}
    )
    seeds: tuple[int, ...] = number((0,), at_least=0)
    export: ExportFormat | None = None


@dataclass(frozen=True)
class RunConfig:
    """The whole job, for `tfkd run` and `tfkd sweep`.

    Attributes:
      work_dir: folder of all results.
      data_dir: folder of the corpora.
      teacher: a system to train, or an existing teacher: the folder of a run, or any other teacher
        of `tfkd label`. A system may be the path of a YAML file, relative to the config, or, where
        `--set` names it, to the current folder: one that describes a system, or a run config with a
        system of the same role.
      baselines: students that learn from transcripts instead of labels: "transcribed" from those
        that the teacher learned from, "all" also from those of the untranscribed corpora.
      generations: how often a teacher labels and a student learns; from the second on, the teacher
        is `next_teacher`, or the student before.
      next_teacher: a system that is trained on the labels of the generation before, such as a
        larger student with more augmentation; null for the student itself.
      transcript_share: share of the transcripts in the loss of students that learn from labels; 0
        is labels alone, as in the paper. Null: if a part of the audio has transcripts, each of them
        counts like a label; if all of it has, 0.
    """

    work_dir: str = "work"
    data_dir: str = "data"
    corpora: CorporaConfig = field(default_factory=CorporaConfig)
    prepare: PrepareConfig = field(default_factory=PrepareConfig)
    teacher: SystemConfig | str = field(default_factory=SystemConfig)
    labels: LabelConfig = field(default_factory=LabelConfig)
    student: SystemConfig = field(default_factory=SystemConfig)
    baselines: tuple[Baseline, ...] = ("transcribed",)
    generations: int = number(1, at_least=1)
    next_teacher: SystemConfig | None = None
    transcript_share: float | None = number(None, at_least=0, below=1)
    export: ExportConfig = field(default_factory=ExportConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)

    @property
    def systems(self) -> dict[str, SystemConfig]:
        """The systems that are trained, by where they stand in the config."""
        named = {
            "teacher": self.teacher,
            "student": self.student,
            "next_teacher": self.next_teacher,
            **{f"sweep.students.{name}": each for name, each in self.sweep.students.items()},
        }
        return {role: each for role, each in named.items() if isinstance(each, SystemConfig)}
