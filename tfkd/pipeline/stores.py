"""Opens the stores of a job: what is learned from them, and what is measured on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfkd.config import RunConfig
from tfkd.pipeline.corpora import TRAIN
from tfkd.pipeline.learning import Learned
from tfkd.records import Store, open_store, open_verified
from tfkd.records.transcripts import transcribed_rows

# Ends the name of a store whose transcripts are what the first teacher says.
BY_TEACHER = "-by-teacher"


@dataclass(frozen=True)
class JobStores:
    """The stores of a work folder.

    Attributes:
      config: of the job.
      verifies: whether stores are verified when they are opened, which reads every byte of them.
    """

    config: RunConfig
    verifies: bool = True

    @property
    def work(self) -> Path:
        """The work folder."""
        return Path(self.config.work_dir)

    def open(self, name: str) -> Store:
        """Opens a store of the work folder; see `verifies` above."""
        return (open_verified if self.verifies else open_store)(self.work / name)

    def evaluated(self, name: str) -> Store:
        """The store to evaluate on of `VALID` or `TEST`.

        Where nobody has transcribed the audio, what the teacher says counts as its transcripts.
        """
        own = self.open(name)
        return own if transcribed_rows(own) else self.open(f"{name}{BY_TEACHER}")

    def is_transcribed(self, name: str) -> bool:
        """Whether a store has transcripts of its own; see `evaluated`."""
        return bool(transcribed_rows(self.open(name)))

    def truth_of(self, name: str) -> Learned:
        """A store of the work folder, to be learned by its transcripts."""
        return Learned((self.open(name),))

    def learned(self, labels: str, transcript_share: float | None) -> Learned:
        """What a student learns from: labels, and transcripts beside them.

        Args:
          labels: folder of the labels.
          transcript_share: see `RunConfig`.
        """
        store = self.open(labels)
        if transcript_share is None:
            audio = self.open(TRAIN)
            has_both = 0 < len(transcribed_rows(audio)) < len(audio.index)
            return Learned((audio, store) if has_both else (store,))
        if not transcript_share:
            return Learned((store,))
        return Learned((self.open(TRAIN), store), (transcript_share, 1 - transcript_share))

    def training_data(self) -> dict[str, Any]:
        """Counts the training audio and its transcribed part, in utterances and hours."""
        store = self.open(TRAIN)
        rows, transcribed = store.index, transcribed_rows(store)
        rate_hz = self.config.prepare.sample_rate_hz
        return {
            "utterances": len(rows),
            "hours": sum(row["num_samples"] for row in rows) / rate_hz / 3600,
            "transcribed_utterances": len(transcribed),
            "transcribed_hours": sum(row["num_samples"] for row in transcribed) / rate_hz / 3600,
        }
