"""The whole job: prepare, train, label, distill, baseline, export, evaluate.

Each stage knows from its own records what is done, so a rerun goes on where the last one stopped.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from tfkd.config import RunConfig, SystemConfig, config_digest, to_dict
from tfkd.data.preparation import prepare
from tfkd.decoding.runs import load_run
from tfkd.distillation.labelling import label
from tfkd.environment import provenance
from tfkd.evaluation.evaluate import (
    Evaluation,
    Transcript,
    check_transcripts,
    evaluate,
    open_model,
)
from tfkd.exporting.export import REPORT, export
from tfkd.metrics import paired_difference
from tfkd.records import Store, open_verified
from tfkd.storage.files import sha256, write_json, write_text
from tfkd.training.loop import check_products, train
from tfkd.training.run_folder import COMPLETE

SPLITS = ("train", "valid", "test")
BASELINE, STUDENT = "student-truth", "student-seq_kd"
_SECONDS = "seconds.json"


@dataclass(frozen=True)
class Stage:
    """One step of the job.

    Attributes:
      outputs: what it writes, relative to the work folder.
      action: does it, or finds that it is done.
    """

    name: str
    outputs: tuple[str, ...]
    markers: tuple[str, ...]
    action: Callable[[], None]


class Job:
    """The stages of one run config."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.work = Path(config.work_dir)

    def stages(self) -> list[Stage]:
        """Every stage, in order."""
        config = self.config
        prepared = tuple(f"data/{split}" for split in SPLITS)
        return [
            Stage("prepare", prepared, _below(prepared, "complete.json"), self._prepare),
            self._training_stage("teacher", config.teacher, "data/train"),
            Stage("label", ("labels",), ("labels/complete.json",), self._label),
            self._training_stage(BASELINE, _with_objective(config.student, "truth"), "labels"),
            self._training_stage(STUDENT, _with_objective(config.student, "seq_kd"), "labels"),
            Stage("export", ("export",), (f"export/{REPORT}",), self._export),
            Stage("evaluate", ("results.json", "transcripts"), ("results.json",), self._evaluate),
        ]

    def is_done(self, stage: Stage) -> bool:
        """Whether the stage ended once; running it again verifies that."""
        return all((self.work / marker).exists() for marker in stage.markers)

    def run(self, announce: Callable[[str], None]) -> dict[str, Any]:
        """Runs every stage and returns the content of results.json.

        Raises:
          ConfigError: if a later stage could not do what is asked of it here.
        """
        for system in (self.config.teacher, self.config.student):
            check_products(system.training)
        stages = self.stages()
        for number, stage in enumerate(stages, 1):
            was_done = self.is_done(stage)
            start = time.perf_counter()
            announce(f"[{number}/{len(stages)}] {stage.name}")
            stage.action()
            seconds = time.perf_counter() - start
            announce(f"[{number}/{len(stages)}] {stage.name}: {seconds:.0f} s")
            # The last stage writes results.json, which cannot hold how long that took.
            if not was_done and number < len(stages):
                self._note_seconds(stage.name, seconds)
        return json.loads((self.work / "results.json").read_text())

    def _training_stage(self, name: str, system: SystemConfig, data: str) -> Stage:
        def action() -> None:
            train(system, self._store(data), self._store("data/valid"), self.work / name)

        return Stage(name, (name,), (f"{name}/{COMPLETE}",), action)

    def _store(self, name: str) -> Store:
        return open_verified(self.work / name)

    def _prepare(self) -> None:
        for split in SPLITS:
            source = Path(self.config.data_dir) / getattr(self.config.corpora, split)
            prepare(source, self.work / "data" / split, self.config.prepare)
        check_transcripts(self._store("data/test"))

    def _label(self) -> None:
        run = load_run(self.work / "teacher")
        label(run, self._store("data/train"), self.work / "labels", self.config.labels)

    def _export(self) -> None:
        run = load_run(self.work / STUDENT)
        out = self.work / "export"
        config = config_digest(self.config.export, run.system.decoding)
        identity = {"student": run.sha256, "config": config}
        marker = out / "identity.json"
        earlier = json.loads(marker.read_text()) if marker.exists() else {}
        files = earlier.pop("files", {})
        is_ours = bool(files) and earlier == identity and (out / REPORT).exists()
        if is_ours and all(_model_identity(out / path) == sha for path, sha in files.items()):
            return
        reports = export(run, out, self.config.export, self._store("data/valid"))
        files = {report.path: _model_identity(out / report.path) for report in reports}
        write_json(marker, {**identity, "files": files})

    def _evaluate(self) -> None:
        store = self._store("data/test")
        path = self.work / "results.json"
        earlier = json.loads(path.read_text())["systems"] if path.exists() else {}
        systems = {}
        for name, model in self._models().items():
            identity = f"{_model_identity(model)} on {store.sha256}"
            known = earlier.get(name, {})
            if known.get("identity") == identity and self._transcripts_path(name).exists():
                systems[name] = known
                continue
            evaluation, transcripts = evaluate(open_model(model), store)
            self._write_transcripts(name, transcripts)
            systems[name] = {**_relative(evaluation, self.work), "identity": identity}
        # A rerun that found everything done keeps the results as they are, date included.
        if systems != earlier:
            write_json(path, self._results(systems))

    def _models(self) -> dict[str, Path]:
        models = {name: self.work / name for name in ("teacher", BASELINE, STUDENT)}
        for row in json.loads((self.work / "export" / REPORT).read_text()):
            models[f"export {row['format']}"] = self.work / "export" / row["path"]
        return models

    def _results(self, systems: dict[str, Any]) -> dict[str, Any]:
        difference, low, high = self._difference(STUDENT, BASELINE)
        return {
            "systems": systems,
            "seq_kd_minus_truth": {"wer": difference, "wer_low": low, "wer_high": high},
            "parity": json.loads((self.work / "export" / REPORT).read_text()),
            "stage_seconds": self._read_seconds(),
            "config": {**to_dict(self.config), "work_dir": "", "data_dir": ""},
            **provenance(),
        }

    def _difference(self, first: str, second: str) -> tuple[float, float, float]:
        """WER of `first` minus `second` on the same utterances, with its 95 % interval."""
        rows = [self._read_transcripts(name) for name in (first, second)]
        shared = sorted(rows[0].keys() & rows[1].keys())
        return paired_difference(
            [rows[0][key].reference for key in shared],
            [rows[0][key].hypothesis for key in shared],
            [rows[1][key].hypothesis for key in shared],
        )

    def _transcripts_path(self, name: str) -> Path:
        return self.work / "transcripts" / f"{name.replace(' ', '-')}.jsonl"

    def _write_transcripts(self, name: str, transcripts: list[Transcript]) -> None:
        rows = (json.dumps(asdict(t), ensure_ascii=False) for t in transcripts)
        write_text(self._transcripts_path(name), "".join(f"{row}\n" for row in rows))

    def _read_transcripts(self, name: str) -> dict[str, Transcript]:
        lines = self._transcripts_path(name).read_text(encoding="utf-8").splitlines()
        transcripts = [Transcript(**json.loads(line)) for line in lines]
        return {t.utterance_id: t for t in transcripts}

    def _note_seconds(self, stage: str, seconds: float) -> None:
        """Keeps how long a stage took when it really ran, for results.json."""
        write_json(self.work / _SECONDS, {**self._read_seconds(), stage: round(seconds, 1)})

    def _read_seconds(self) -> dict[str, float]:
        path = self.work / _SECONDS
        return json.loads(path.read_text()) if path.exists() else {}


def _below(directories: tuple[str, ...], name: str) -> tuple[str, ...]:
    return tuple(f"{directory}/{name}" for directory in directories)


def _with_objective(system: SystemConfig, kind: Literal["truth", "seq_kd"]) -> SystemConfig:
    """The student with another objective: all else is equal, so the baseline is fair."""
    objective = dataclasses.replace(system.training.objective, kind=kind)
    training = dataclasses.replace(system.training, objective=objective)
    return dataclasses.replace(system, training=training)


def _relative(evaluation: Evaluation, work: Path) -> dict[str, Any]:
    return {**asdict(evaluation), "model": str(Path(evaluation.model).relative_to(work))}


def _model_identity(model: Path) -> str:
    if model.is_file():
        return sha256(model)
    files = [model / name for name in ("model.keras", "saved_model.pb", "config.yaml")]
    variables = sorted((model / "variables").glob("*")) if (model / "variables").exists() else []
    return " ".join(sha256(file) for file in [*files, *variables] if file.is_file())
