"""Loads teachers: recognisers of any kind that propose hypotheses for audio.

A teacher is named by its `spec`: a run folder that tfkd trained, or `whisper:FOLDER`. Labelling
uses the `Teacher` interface alone, so labels of every kind of teacher are stored, resumed and
distributed alike.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tfkd.config import (
    WHISPER_PREFIX,
    LabelConfig,
    PrepareConfig,
    WhisperConfig,
    check_labelling,
    config_digest,
)
from tfkd.data.given_audio import preparation_for
from tfkd.decoding.decoder import decode_dataset
from tfkd.decoding.defaults import resolved
from tfkd.decoding.posteriors import TopPosteriors
from tfkd.decoding.results import hypotheses_of
from tfkd.decoding.runs import CONFIG, Run, load_run
from tfkd.distillation.interface import Batch, Labeller, Teacher
from tfkd.errors import CheckpointError, ConfigError
from tfkd.records import Hypothesis
from tfkd.text import Tokenizer

if TYPE_CHECKING:
    from tfkd.distillation.whisper_teacher import WhisperTeacher


def load_teacher(spec: str | Path) -> Teacher:
    """Loads a teacher from a run folder, or a Whisper from `whisper:FOLDER`.

    Raises:
      CheckpointError: if the folder holds no such model, or a file in it is damaged.
      ConfigError: if a package that reads Whisper is not installed.

    >>> teacher = load_teacher("work/teacher")
    >>> teacher.sample_rate_hz
    8000
    """
    return RunTeacher(load_run(spec)) if is_run(spec) else load_whisper_teacher(spec)


def is_run(spec: str | Path) -> bool:
    """Whether a spec names the folder of a run, and not a Whisper."""
    return not str(spec).startswith(WHISPER_PREFIX)


def load_whisper_teacher(spec: str | Path) -> WhisperTeacher:
    """Reads a Whisper from `whisper:FOLDER`; see `load_teacher`."""
    try:
        from tfkd.distillation.whisper_teacher import WhisperTeacher
    except ModuleNotFoundError as error:
        if error.name not in ("safetensors", "tokenizers"):
            raise
        raise ConfigError(
            f"a Whisper as a teacher needs {error.name}",
            remedy="pip install '.[whisper]' in tfkd's folder",
        ) from error
    folder = str(spec).removeprefix(WHISPER_PREFIX)
    if (Path(folder) / CONFIG).is_file():
        raise CheckpointError(
            "is a run of tfkd, not a Whisper", path=folder, remedy=f"leave out {WHISPER_PREFIX}"
        )
    return WhisperTeacher.load(folder)


def as_teacher(teacher: Teacher | Run) -> Teacher:
    """Wraps a run as a teacher; returns any other teacher as it is."""
    return RunTeacher(teacher) if isinstance(teacher, Run) else teacher


@dataclass(frozen=True)
class RunTeacher:
    """A recogniser that tfkd trained, as a teacher."""

    run: Run

    @property
    def spec(self) -> str:
        return str(self.run.directory)

    @property
    def identity(self) -> str:
        return self.run.sha256

    @property
    def sample_rate_hz(self) -> int:
        return self.run.sample_rate_hz

    @property
    def usual_seconds(self) -> float:
        augmentation = self.run.system.training.augmentation
        if augmentation is not None and augmentation.joining.share:
            return max(self.run.usual_seconds, augmentation.max_seconds)
        return self.run.usual_seconds

    @property
    def tokenizer(self) -> Tokenizer:
        return self.run.tokenizer

    @property
    def preparation(self) -> PrepareConfig:
        own = preparation_for(self.sample_rate_hz, self.run.tokenizer.pieces)
        piece_seconds = max(4 * own.min_seconds, min(self.usual_seconds, own.max_seconds))
        return replace(own, too_long="split", piece_seconds=piece_seconds)

    def digest(self, config: LabelConfig) -> str:
        check_labelling(config, self.run.system)
        if config.whisper != WhisperConfig():
            raise ConfigError(
                "labels.whisper: applies to a teacher whisper:FOLDER only",
                remedy="leave it out for this teacher: --set 'labels.whisper={}'",
            )
        # The digest covers the values in effect: the teacher's limits, and what null stands for.
        decoding = resolved(config.decoding(self.run.system.decoding), self.run.system)
        searched = replace(config, fusion=decoding.fusion, normalisation=decoding.normalisation)
        return config_digest(searched, decoding)

    def labeller(self, config: LabelConfig) -> Labeller:
        run = self.run
        decoder = run.decoder(config.decoding(run.system.decoding))
        posteriors = TopPosteriors(run.model, config.top_m) if config.top_m else None

        def label(batch: Batch) -> list[tuple[Hypothesis, ...]]:
            decoded = decode_dataset(decoder, [dict(batch)])
            hypotheses = [hypotheses_of(each, run.model.frame_seconds) for each in decoded]
            if posteriors is None:
                return hypotheses
            return posteriors.add_to(batch["waveform"], batch["num_samples"], hypotheses)

        return label
