"""Measures the models and the labels of a job, for its results and for those of its sweep."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tfkd.distillation.label_quality import TEST_LABELS, errors_of_best, label_quality
from tfkd.exporting.export import exported_rows
from tfkd.metrics import difference_of_counts
from tfkd.pipeline.corpora import TEST, TRAIN, hidden_transcripts
from tfkd.pipeline.evaluations import Evaluations, provenance_of
from tfkd.pipeline.learning import BASELINE, BASELINE_ALL
from tfkd.pipeline.results import published
from tfkd.pipeline.stages import RESULTS, stage_seconds
from tfkd.pipeline.stores import JobStores
from tfkd.records.transcripts import transcripts_of
from tfkd.storage.files import write_json
from tfkd.storage.json_files import read_json_object


def measure_job(
    stores: JobStores,
    models: Mapping[str, Path],
    *,
    student: str,
    labels: Iterable[str],
    stages: Sequence[str],
) -> None:
    """Measures the models of a job and its labels, and writes results.json.

    Args:
      stores: of the job.
      models: folders and exports, by their names in results.
      student: the model that is compared with the teacher and the baselines.
      labels: see `results_of_data`.
      stages: names of the stages before this one.
    """
    evaluations = _evaluations(stores)
    systems = {name: evaluations.of(name, model) for name, model in models.items()}
    others = [name for name in ("teacher", BASELINE, BASELINE_ALL) if name in systems]
    errors = {name: evaluations.counts(name) for name in (student, *others)}
    of_data = results_of_data(stores, labels)
    if of_data["labels"].get(TEST_LABELS):
        references = transcripts_of(stores.open(TEST))
        errors["teacher"] = errors_of_best(stores.open(TEST_LABELS), references)
    own, noted = errors.pop(student), stage_seconds(stores.work)
    results = {
        "systems": systems,
        "student": student,
        "differences": {
            name: difference_of_counts(own, each)._asdict() for name, each in errors.items()
        },
        **of_data,
        "parity": exported_rows(stores.work / "export"),
        # None for what a run found finished.
        "stage_seconds": {name: noted.get(name) for name in stages},
        "config": published(stores.config),
    }
    path = stores.work / RESULTS
    known = read_json_object(path) if path.exists() else {}
    # A rerun that changed nothing keeps the results and their date.
    if any(results[key] != known.get(key) for key in results.keys() - {"stage_seconds"}):
        write_json(path, {**results, **provenance_of(systems.values())})


def is_measured(stores: JobStores, models: Mapping[str, Path]) -> bool:
    """Whether results.json holds these models and no others, all of them unchanged."""
    evaluations = _evaluations(stores)
    return models.keys() == evaluations.known.keys() and evaluations.are_known(models)


def _evaluations(stores: JobStores) -> Evaluations:
    path = stores.work / RESULTS
    known = read_json_object(path, {"systems": dict})["systems"] if path.exists() else {}
    return Evaluations(stores.evaluated(TEST), stores.work, stores.work / "transcripts", known)


def results_of_data(stores: JobStores, labels: Iterable[str]) -> dict[str, Any]:
    """Counts the training audio and measures labels, for results of a job and of a sweep alike.

    Args:
      stores: of the job.
      labels: folders of labels in the work folder, which are compared with the hidden transcripts,
        or with those that are learned from if none is hidden; those of the test set, with its own.
    """
    return {
        "training_data": stores.training_data(),
        "is_test_transcribed": stores.is_transcribed(TEST),
        "labels": _label_qualities(stores, labels),
    }


def _label_qualities(stores: JobStores, labels: Iterable[str]) -> dict[str, Any]:
    """Measures labels by their folders; None for those that no transcript is known of."""
    hidden, qualities = hidden_transcripts(stores.work), {}
    known = hidden or transcripts_of(stores.open(TRAIN))
    for name in labels:
        is_test = name == TEST_LABELS
        references = transcripts_of(stores.open(TEST)) if is_test else known
        quality = label_quality(stores.open(name), references, is_scored_whole=is_test)
        are_hidden = bool(hidden) and not is_test
        qualities[name] = quality and {**asdict(quality), "are_transcripts_hidden": are_hidden}
    return qualities
