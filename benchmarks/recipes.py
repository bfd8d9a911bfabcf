"""Times a whole recipe with an earlier commit and with this one, on the same machine.

    git clone . ../before && git -C ../before checkout COMMIT && make -C ../before .venv/demo.stamp
    python benchmarks/recipes.py configs/demo.yaml --data work/demo/speech --before ../before

Both run `tfkd run` with the same config, one after the other, so the machine should have nothing
else to do. Where it has, `--at-once` lets them share the cores: what else runs, and how fast the
machine is at the moment, then meets both. Their seconds are more than those of a run alone, and
wall seconds favour who keeps more threads busy; compare CPU seconds. The figures are added to those
of other recipes in the same file.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from synthetic_stores import surroundings
from tqdm import tqdm

from tfkd.pipeline.stages import RESULTS, stage_seconds
from tfkd.reporting.tables import table
from tfkd.storage.files import write_json
from tfkd.training.callbacks import HISTORY

HERE = Path(__file__).resolve().parent.parent
OURS, BEFORE = "this commit", "before"


def main() -> None:
    options = _options()
    commands = {
        BEFORE: [str(options.before.resolve() / ".venv/bin/tfkd")],
        OURS: [sys.executable, "-m", "tfkd"],
    }
    with tempfile.TemporaryDirectory() as scratch:
        works = {name: Path(scratch) / name.replace(" ", "-") for name in commands}
        commands = {
            name: [*command, "run", str(options.config.resolve()),
                   "--set", f"data_dir={options.data.resolve()}",
                   "--set", f"work_dir={works[name]}"]
            for name, command in commands.items()
        }  # fmt: skip
        groups = [commands] if options.at_once else [{each: commands[each]} for each in commands]
        cpu_seconds = {}
        for group in tqdm(groups, desc="runs", disable=None):
            cpu_seconds |= _at_the_same_time(group)
        sides = {
            name: {"commit": _commit(checkout), "cpu_seconds": cpu_seconds[name], **_found(work)}
            for (name, work), checkout in zip(works.items(), (options.before, HERE), strict=True)
        }
    known = json.loads(options.out.read_text()) if options.out.exists() else {}
    found = {"at_once": options.at_once, "runs": sides, **surroundings()}
    write_json(options.out, {**known, options.config.stem: found})
    print(_table(sides))


def _at_the_same_time(commands: dict[str, list[str]]) -> dict[str, float]:
    """Runs all commands together; CPU seconds of each, children included."""
    children = {
        subprocess.Popen(command, cwd=HERE, stdout=subprocess.DEVNULL).pid: name
        for name, command in commands.items()
    }
    cpu_seconds = {}
    try:
        while children:
            pid, status, usage = os.wait3(0)
            name = children.pop(pid)
            if status:
                sys.exit(f"{' '.join(commands[name])} failed")
            cpu_seconds[name] = usage.ru_utime + usage.ru_stime
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    return cpu_seconds


def _found(work: Path) -> dict[str, Any]:
    """Wall seconds of each stage, epochs of each training, and what the systems came to."""
    stages = stage_seconds(work)
    systems = json.loads((work / RESULTS).read_text())["systems"]
    return {
        "wall_seconds": sum(stages.values()),
        "stages": stages,
        "epochs": {
            history.parent.name: len(history.read_text().splitlines())
            for history in sorted(work.glob(f"*/{HISTORY}"))
        },
        "wer": {name: system["wer"] for name, system in systems.items()},
    }


def _commit(checkout: Path) -> str:
    command = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _table(sides: dict[str, dict[str, Any]]) -> str:
    before, ours = sides[BEFORE], sides[OURS]
    pairs = {stage: (before["stages"][stage], ours["stages"][stage]) for stage in ours["stages"]}
    for kind in ("wall_seconds", "cpu_seconds"):
        pairs[f"all, {kind.replace('_', ' ')}"] = before[kind], ours[kind]
    rows = [[name, f"{old:.0f}", f"{new:.0f}", f"{new / old:.2f}"]
            for name, (old, new) in pairs.items()]  # fmt: skip
    return table(["stage", before["commit"], ours["commit"], "ratio"], rows)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path, help="a run config that both commits know")
    parser.add_argument("--data", type=Path, required=True, help="folder of its manifests")
    parser.add_argument("--before", type=Path, required=True, help="checkout with its own .venv")
    parser.add_argument("--at-once", action="store_true", help="let both share the cores")
    parser.add_argument("--out", type=Path, default=HERE / "benchmarks/results/recipes.json")
    return parser.parse_args()


if __name__ == "__main__":
    main()
