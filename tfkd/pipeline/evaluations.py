"""Evaluates models on one store; a model that has not changed is not measured again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tfkd.environment import provenance
from tfkd.evaluation.evaluate import Recognition, evaluate
from tfkd.evaluation.models import model_identity, open_model
from tfkd.metrics import count_word_errors
from tfkd.records import Store
from tfkd.storage.files import sha256_of_text, write_text
from tfkd.storage.json_files import read_dataclass_lines


class Evaluations:
    """Evaluates models on one store and keeps their transcripts.

    Args:
      store: utterances with transcripts.
      work: folder of the job; paths of models in results are relative to it.
      transcripts: folder of the transcripts, one JSONL file a model.
      known: earlier results, by the model's name.
    """

    def __init__(
        self, store: Store, work: Path, transcripts: Path, known: Mapping[str, dict[str, Any]]
    ) -> None:
        self.store, self.work, self.directory, self.known = store, work, transcripts, known

    def of(self, name: str, model: Path) -> dict[str, Any]:
        """Returns the error rates, size and speed of a model; earlier ones if it is unchanged."""
        if self.are_known({name: model}):
            return self.known[name]
        identity = self._identity(model)  # Before: the model may be replaced meanwhile.
        evaluation, transcripts = evaluate(open_model(model, trusted=True), self.store)
        rows = (json.dumps(asdict(t), ensure_ascii=False) for t in transcripts)
        write_text(self._path(name), "".join(f"{row}\n" for row in rows))
        is_own = model.is_relative_to(self.work)
        shown = model.relative_to(self.work) if is_own else model.name
        return {
            **asdict(evaluation),
            "model": str(shown),
            "identity": identity,
            "hardware": provenance()["hardware"],
        }

    def are_known(self, models: Mapping[str, Path]) -> bool:
        """Whether all of these models, by name, are measured and unchanged."""
        known = ((self.known.get(name), name, model) for name, model in models.items())
        return all(
            self._path(name).exists()
            and isinstance(each, dict)
            and each.get("identity") == self._identity(model)
            for each, name, model in known
        )

    def _identity(self, model: Path) -> str:
        return f"{model_identity(model)} on {self.store.sha256}"

    def counts(self, name: str) -> np.ndarray:
        """Counts the word errors of each utterance, int64 [U, 4], in the order of the ids."""
        rows = self._recognitions(name)
        return count_word_errors([r.reference for r in rows], [r.hypothesis for r in rows])

    def digest(self, name: str) -> str:
        """Computes the digest of the utterances and of their references."""
        rows = self._recognitions(name)
        return sha256_of_text("\n".join(f"{row.utterance_id} {row.reference}" for row in rows))

    def _recognitions(self, name: str) -> list[Recognition]:
        return sorted(read_dataclass_lines(self._path(name), Recognition), key=_id_of)

    def _path(self, name: str) -> Path:
        return self.directory / f"{name.replace(' ', '-')}.jsonl"


def provenance_of(systems: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The provenance of results, which names every machine that measured one of the systems."""
    here = provenance()
    # Earlier versions did not keep the machine.
    machines = dict.fromkeys(each.get("hardware", here["hardware"]) for each in systems)
    if len(machines) > 1:
        return {**here, "hardware": f"RTF of several machines: {' / '.join(machines)}"}
    return {**here, "hardware": next(iter(machines), here["hardware"])}


def _id_of(transcript: Recognition) -> str:
    return transcript.utterance_id
