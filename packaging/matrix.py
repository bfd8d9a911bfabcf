"""Reads what each Python with its TensorFlow has written under each other one.

    make matrix

Each Python that is found gets an environment of its own, with what `pip install .` gives it there
and the TensorFlow that `COMBINATIONS` names for it. It writes a store, a run with checkpoints,
labels and exports (`tests/written_files.py`); then each reads what the others wrote, as it reads
the files of an earlier version: token ids are equal, log_probs within 1e-4
(`tests/test_earlier_versions.py`).

pyenv hides the versions that are not chosen: `PYENV_VERSION=3.11.7:3.12.1:3.13.0 make matrix`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from environments import ROOT, VARIABLES, find_python, make_environment

# Each TensorFlow that setup.py allows is that of one Python.
COMBINATIONS = {"python3.11": "2.16", "python3.12": "2.20", "python3.13": "2.21"}
_VERSIONS = (
    "import json, platform, numpy, tensorflow, keras;"
    "print(json.dumps({'python': platform.python_version(), 'numpy': numpy.__version__,"
    " 'tensorflow': tensorflow.__version__, 'keras': keras.__version__}))"
)


def main() -> None:
    options = _options()
    work = Path(options.work)
    readers, versions = {}, {}
    for python in _interpreters(options, work):
        found = json.loads(_run(python, "-c", _VERSIONS))
        name = f"Python {found['python']}, TensorFlow {found['tensorflow']}"
        readers[name], versions[name] = python, found
    for name, python in readers.items():
        folder = _written(work, name)
        if not (folder / "expected.json").exists():
            shutil.rmtree(folder, ignore_errors=True)
            _run(python, ROOT / "tests" / "written_files.py", folder)
    results = {
        f"{writer} -> {reader}": _read(python, _written(work, writer))
        for reader, python in readers.items()
        for writer in readers
    }
    content = {"versions": versions, "results": results}
    if options.out:
        Path(options.out).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    for name, failures in results.items():
        print(f"{name}: {'as written' if not failures else ', '.join(failures)}")
    sys.exit(any(results.values()))


def _written(work: Path, name: str) -> Path:
    return work / "written" / name.replace(", ", "-").replace(" ", "-")


def _interpreters(options: argparse.Namespace, work: Path) -> Iterator[Path]:
    """The Python of each combination, in an environment with all that it needs."""
    for given in options.environment:
        yield Path(given) / "bin" / "python"
    for name, version in () if options.environment else COMBINATIONS.items():
        if (python := find_python(name)) is None:
            print(f"{name} is not on this machine: left out")
            continue
        yield make_environment(python, work / name, f"tensorflow=={version}.*")


def _read(python: Path, folder: Path) -> list[str]:
    """The tests that fail; none if everything is read as it was written."""
    environment = {**VARIABLES, "TFKD_WRITTEN": str(folder.resolve())}
    command = [python, "-m", "pytest", "-q", "-rfE", "--tb=no", "tests/test_earlier_versions.py"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    failures = [line.partition("::")[2] for line in lines if line.startswith(("FAILED", "ERROR"))]
    if done.returncode and not failures:
        raise SystemExit(f"{python}: pytest did not run\n{done.stdout}{done.stderr}")
    return failures


def _run(*command: object) -> str:
    done = subprocess.run(
        list(map(str, command)), cwd=ROOT, env=VARIABLES, stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        raise SystemExit(f"{command[0]} failed: {done.stdout}")
    return done.stdout


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", default=str(ROOT / "work" / "matrix"), help="for environments")
    parser.add_argument("--environment", action="append", default=[], metavar="VENV",
                        help="use these environments as they are, not new ones")  # fmt: skip
    parser.add_argument("--out", help="write the results here (JSON)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
