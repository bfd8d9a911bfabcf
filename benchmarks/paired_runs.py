"""Interleaved measurements in processes of their own, and their ratios.

The processes of a case are there together and take turns, run by run: what else the machine does,
and how fast it is at the moment, meets all of them alike.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from tfkd.environment import provenance
from tfkd.reporting.tables import table as text_table
from tfkd.storage.files import write_json

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Case:
    """One row of the results: a name, and the arguments that all programs get."""

    name: str
    arguments: list[str]


def measure(
    cases: Sequence[Case], programs: Mapping[str, list[str]], rounds: int, repeats: int
) -> dict[str, dict[str, dict]]:
    """Lets the programs of each case take turns, `repeats` times in each of `rounds` processes.

    Returns:
      By case and program: the runs of all processes, their medians, and the peak memory.
    """
    found: dict[str, dict[str, list[dict]]] = {
        case.name: {name: [] for name in programs} for case in cases
    }
    jobs = [case for case in cases for _ in range(rounds)]
    for case in tqdm(jobs, desc="measure", unit="round", disable=None):
        arguments = [*case.arguments, "--repeats", str(repeats)]
        commands = {name: [*program, *arguments] for name, program in programs.items()}
        for name, child in _take_turns(commands, repeats).items():
            found[case.name][name].append(child)
    return {
        case: {name: _summary(children) for name, children in by_name.items()}
        for case, by_name in found.items()
    }


def _take_turns(commands: Mapping[str, list[str]], repeats: int) -> dict[str, dict]:
    """What the process of each command reports in the end; see `timed_process.report`."""
    children = {name: _start(command) for name, command in commands.items()}
    said = {name: _read(child) for name, child in children.items()}
    for _ in range(repeats):
        for name, child in children.items():
            child.stdin.write("\n")
            child.stdin.flush()
            said[name] = _read(child)
    for child in children.values():
        child.communicate()
    return {name: json.loads(line) for name, line in said.items()}


def _start(command: list[str]) -> subprocess.Popen:
    paths = [str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(
        command, cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
    )  # fmt: skip


def _read(child: subprocess.Popen) -> str:
    """The next line that a child prints, once it has it."""
    line = child.stdout.readline()
    if not line:
        sys.exit(f"{' '.join(map(str, child.args))} failed")
    return line


def _summary(children: list[dict]) -> dict:
    runs = [run for child in children for run in child["runs"]]
    return {
        **{f"median_{key}": statistics.median(run[key] for run in runs) for key in runs[0]},
        "peak_mb": statistics.median(child["peak_mb"] for child in children),
        "base_mb": statistics.median(child["base_mb"] for child in children),
        "warm_up_cpu_seconds": statistics.median(c["warm_up_cpu_seconds"] for c in children),
        "runs": runs,
    }


def revision_of(checkout: Path) -> str:
    """The short name of the revision of a checkout that is compared with."""
    command = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def options_beside(description: str, *, rounds: int, repeats: int, out: str) -> argparse.Namespace:
    """The command line of a benchmark of this checkout and of an earlier one."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("before", type=Path, help="checkout of the earlier revision")
    parser.add_argument("--rounds", type=int, default=rounds, help="processes of each kind")
    parser.add_argument("--repeats", type=int, default=repeats, help="runs in each process")
    parser.add_argument("--out", default=f"benchmarks/results/{out}")
    return parser.parse_args()


def table(results: dict[str, dict[str, dict]], baselines: Sequence[str]) -> str:
    """CPU and wall seconds, memory, and the ratio of CPU seconds to those of each baseline."""
    rows = []
    for case, by_name in results.items():
        for name, row in by_name.items():
            ratio = f"{_ratio(by_name['tfkd'], row):.2f}" if name in baselines else ""
            seconds = [f"{row[f'median_{kind}_seconds']:.2f}" for kind in ("cpu", "wall")]
            memory = [f"{row['peak_mb']:.0f}", f"{row['peak_mb'] - row['base_mb']:.0f}"]
            rows.append([case, name, *seconds, *memory, ratio])
    head = ["case", "program", "CPU s", "wall s", "peak MB", "above import", "tfkd / it"]
    return text_table(head, rows)


def _ratio(ours: dict, theirs: dict) -> float:
    """Median over the turns of our CPU seconds over theirs."""
    pairs = zip(ours["runs"], theirs["runs"], strict=True)
    return statistics.median(one["cpu_seconds"] / other["cpu_seconds"] for one, other in pairs)


def write(out: str, results: dict, setting: dict, torch_python: str | None) -> None:
    """Writes results with everything that is needed to judge them."""
    about = {**provenance(), "setting": setting}
    if torch_python:
        command = [torch_python, "-c", "import torch; print(torch.__version__)"]
        version = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        about["torch"] = version
    write_json(Path(out), {**about, "results": results})
