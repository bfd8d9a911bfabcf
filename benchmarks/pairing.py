"""Interleaved measurements in processes of their own, and their ratios."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from tfkd.files import write_json
from tfkd.provenance import provenance
from tfkd.reporting import table as text_table

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Case:
    """One row of the results: a name, and the arguments that all programs get."""

    name: str
    arguments: list[str]


def measure(
    cases: Sequence[Case], programs: Mapping[str, list[str]], rounds: int, repeats: int
) -> dict[str, dict[str, dict]]:
    """Runs each program of each case in turn, `rounds` times over.

    Returns:
      By case and program: the runs of all processes, their medians, and the peak memory.
    """
    found: dict[str, dict[str, list[dict]]] = {
        case.name: {name: [] for name in programs} for case in cases
    }
    jobs = [(c, name) for c in cases for _ in range(rounds) for name in programs]
    for case, name in tqdm(jobs, desc="measure", unit="process", disable=None):
        command = [*programs[name], *case.arguments, "--repeats", str(repeats)]
        found[case.name][name].append(_child(command))
    return {
        case: {name: _summary(children) for name, children in by_name.items()}
        for case, by_name in found.items()
    }


def _child(command: list[str]) -> dict:
    paths = [str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        command, cwd=HERE, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def _summary(children: list[dict]) -> dict:
    runs = [run for child in children for run in child["runs"]]
    return {
        **{f"median_{key}": statistics.median(run[key] for run in runs) for key in runs[0]},
        "peak_mb": statistics.median(child["peak_mb"] for child in children),
        "base_mb": statistics.median(child["base_mb"] for child in children),
        "warm_up_cpu_seconds": statistics.median(c["warm_up_cpu_seconds"] for c in children),
        "runs": runs,
    }


def table(results: dict[str, dict[str, dict]], baselines: Sequence[str]) -> str:
    """CPU and wall seconds, memory, and CPU seconds of tfkd over those of each baseline."""
    rows = []
    for case, by_name in results.items():
        ours = by_name["tfkd"]["median_cpu_seconds"]
        for name, row in by_name.items():
            ratio = f"{ours / row['median_cpu_seconds']:.2f}" if name in baselines else ""
            seconds = [f"{row[f'median_{kind}_seconds']:.2f}" for kind in ("cpu", "wall")]
            memory = [f"{row['peak_mb']:.0f}", f"{row['peak_mb'] - row['base_mb']:.0f}"]
            rows.append([case, name, *seconds, *memory, ratio])
    head = ["case", "program", "CPU s", "wall s", "peak MB", "above import", "tfkd / it"]
    return text_table(head, rows)


def write(out: str, results: dict, setting: dict, torch_python: str | None) -> None:
    """Writes results with everything that is needed to judge them."""
    about = {**provenance(), "setting": setting}
    if torch_python:
        command = [torch_python, "-c", "import torch; print(torch.__version__)"]
        version = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        about["torch"] = version
    write_json(Path(out), {**about, "results": results})
