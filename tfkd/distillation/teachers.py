"""Teachers: recognisers of any kind that propose hypotheses for audio.

A teacher is named by its `spec`: a run folder that tfkd trained, or `whisper:FOLDER`. Labelling
knows the `Teacher` interface alone, so that every kind gets the same store, resumption and workers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tfkd.config import LabelConfig, PrepareConfig, check_labelling, config_digest
from tfkd.data.preparation import preparation_for
from tfkd.decoding.decoder import decode_dataset
from tfkd.decoding.defaults import resolved
from tfkd.decoding.posteriors import TopPosteriors
from tfkd.decoding.results import hypotheses_of
from tfkd.decoding.runs import Run, load_run
from tfkd.records import Hypothesis
from tfkd.text import Tokenizer

if TYPE_CHECKING:
    import tensorflow as tf

# A batch of `tfkd.data.audio_batches.audio_batches`.
Batch = Mapping[str, "tf.Tensor"]
# Maps a batch to the hypotheses of each of its utterances, best first.
Labeller = Callable[[Batch], list[tuple[Hypothesis, ...]]]


class Teacher(Protocol):
    """A recogniser that proposes the k best hypotheses of audio."""

    @property
    def spec(self) -> str:
        """What `load_teacher` reads the same teacher from in another process."""

    @property
    def identity(self) -> str:
        """The sha256 of its weights and of all else in its folder that its labels depend on."""

    @property
    def sample_rate_hz(self) -> int:
        """The rate of the audio that it hears."""

    @property
    def tokenizer(self) -> Tokenizer | None:
        """What its token ids mean, where its labels can keep posteriors (`labels.top_m`)."""

    @property
    def preparation(self) -> PrepareConfig:
        """How a corpus is prepared for it."""

    def digest(self, config: LabelConfig) -> str:
        """Identity of every setting that its labels depend on.

        Raises:
          ConfigError: if the settings ask for a search that it cannot do.
        """

    def labeller(self, config: LabelConfig) -> Labeller:
        """Builds the search; what it returns labels batch after batch."""


def load_teacher(spec: str | Path) -> Teacher:
    """Reads a teacher from a run folder, or a Whisper from `whisper:FOLDER`.

    Raises:
      CheckpointError: if the folder is not what the spec says, or a file in it is damaged.

    >>> teacher = load_teacher("work/teacher")
    >>> teacher.sample_rate_hz
    8000
    """
    return RunTeacher(load_run(spec))


def as_teacher(teacher: Teacher | Run) -> Teacher:
    """Makes a run a teacher; returns any other teacher as it is."""
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
    def tokenizer(self) -> Tokenizer:
        return self.run.tokenizer

    @property
    def preparation(self) -> PrepareConfig:
        return preparation_for(self.sample_rate_hz, self.run.tokenizer.pieces)

    def digest(self, config: LabelConfig) -> str:
        check_labelling(config, self.run.system)
        # The limits of length may be the teacher's own, and null settings are what they stand for.
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
