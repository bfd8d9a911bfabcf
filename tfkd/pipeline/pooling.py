"""Pools the results of sweeps on machines that share no folder, with other seeds on each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tfkd.config import overrides_of
from tfkd.errors import ConfigError
from tfkd.pipeline.sweep_rows import RESAMPLED, summarised, summary_of

# Settings in which the sweeps may differ.
_VARIED = re.compile(r"sweep\.(seeds|grid)=|(\w+\.)?training\.seed=")


def pooled(parts: Mapping[Path, Mapping[str, Any]]) -> dict[str, Any]:
    """Makes one set of results of those of several sweeps, each of which may have a teacher.

    What they say of labels and teachers is the mean over them.

    Args:
      parts: contents of results.json, by their paths.
    Raises:
      ConfigError: if they differ in more than seeds and grid, have a seed in common, or come from
        an earlier version, which did not keep the errors of each utterance.
    """
    (first_path, first), *others = parts.items()
    for path, part in parts.items():
        _check_kind(path, part)
    for path, part in others:
        _check_alike(path, part, first_path, first)
    words, form = first["test"]["words"], first["config"]["sweep"].get("export")
    sweeps = [part["config"]["sweep"] for part in parts.values()]
    sweep = {
        **sweeps[0],
        "seeds": sorted({seed for each in sweeps for seed in each["seeds"]}),
        "grid": _without_repeats(row for each in sweeps for row in each["grid"]),
    }
    failed: dict[str, str] = {}
    for part in parts.values():
        failed |= part["failed"]
    return {
        **first,
        "teacher": _teacher([part["teacher"] for part in parts.values()], words),
        "rows": summarised(_rows(parts), words, form),
        "resampled": RESAMPLED,
        "baselines": sorted({name for part in parts.values() for name in part["baselines"]}),
        "of_all_transcripts": sorted(
            {name for part in parts.values() for name in part["of_all_transcripts"]}
        ),
        "unfinished": _without_repeats(n for part in parts.values() for n in part["unfinished"]),
        "failed": failed,
        "labels": _labels([part["labels"] for part in parts.values()]),
        "config": {**first["config"], "sweep": sweep},
        "versions": {
            name: _each_once(part["versions"].get(name, "none") for part in parts.values())
            for name in dict.fromkeys(n for part in parts.values() for n in part["versions"])
        },
        **{key: _each_once(part[key] for part in parts.values()) for key in ("hardware", "date")},
    }


def _check_kind(path: Path, part: Mapping[str, Any]) -> None:
    if "rows" not in part:
        raise ConfigError(
            "holds no results of a sweep",
            path=path,
            remedy="give one results.json of tfkd run, or several of tfkd sweep",
        )
    if "test" not in part:
        raise ConfigError(
            "holds no errors of single utterances: an earlier version wrote it",
            path=path,
            remedy="run tfkd sweep again, which keeps what is trained and measured",
        )


def _check_alike(
    path: Path, part: Mapping[str, Any], first_path: Path, first: Mapping[str, Any]
) -> None:
    own, other = (
        [each for each in overrides_of(of["config"]) if not _VARIED.match(each)]
        for of in (part, first)
    )
    changed = [*(each for each in own if each not in other), *(e for e in other if e not in own)]
    faults = {
        f"other settings ({', '.join(changed)})": bool(changed),
        "another test set": part["test"] != first["test"],
        "other training data": part["training_data"] != first["training_data"],
    }
    for fault, is_there in faults.items():
        if is_there:
            raise ConfigError(
                f"is of {fault} than {first_path}",
                path=path,
                remedy="pool sweeps that differ in seeds and grid alone",
            )


def _rows(parts: Mapping[Path, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The rows of all parts, each with the seeds of all."""
    rows: dict[str, dict[str, Any]] = {}
    taken: set[int] = set()
    for path, part in parts.items():
        own = {seed["seed"] for row in part["rows"].values() for seed in row["seeds"]}
        # A student of one part would be compared with a baseline of another.
        if both := own & taken:
            raise ConfigError(
                f"holds seed {min(both)}, as another of these results does",
                path=path,
                remedy="give each sweep seeds of its own: --set sweep.seeds=[1]",
            )
        taken |= own
        for name, row in part["rows"].items():
            same = rows.setdefault(name, {**row, "seeds": []})
            if any(row[key] != same[key] for key in ("settings", "baseline", "labels")):
                raise ConfigError(
                    f"has other settings of {name} than another of these results",
                    path=path,
                    remedy="vary the same settings in each grid, from which names are made",
                )
            same["seeds"] += row["seeds"]
    for row in rows.values():
        row["seeds"].sort(key=lambda seed: seed["seed"])
    return rows


def _teacher(teachers: list[dict[str, Any] | None], words: str) -> dict[str, Any] | None:
    """The only teacher, or the mean of several, which are its `seeds`."""
    different = {each["identity"]: each for each in teachers if each is not None}
    own = list(different.values())
    if len(own) < 2:
        return teachers[0]
    return {**summary_of(own, words), "seeds": own}


def _labels(of_parts: list[Mapping[str, Any]]) -> dict[str, Any]:
    """The mean quality of the labels of each name."""
    means: dict[str, Any] = {}
    for name in dict.fromkeys(name for labels in of_parts for name in labels):
        found = [labels[name] for labels in of_parts if labels.get(name) is not None]
        rates = [key for key in (found[0] if found else ()) if "wer" in key]
        mean = {key: sum(each[key] for each in found) / len(found) for key in rates}
        means[name] = {**found[0], **mean} if found else None
    return means


def _without_repeats(values: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found


def _each_once(values: Iterable[str]) -> str:
    return " / ".join(_without_repeats(values))
