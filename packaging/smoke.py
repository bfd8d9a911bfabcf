"""Reads under another Python what the main combination wrote, and transcribes there.

    make smoke
    python packaging/smoke.py FOLDER  # with environments elsewhere than in work/smoke

The newest other Python of this machine gets an environment with what `pip install .` gives it
there, and runs `tests/test_earlier_versions.py`. A machine without one, without a network or with a
slow one is no fault of tfkd: then a line says what was left out, and the exit code is 0.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from environments import ROOT, VARIABLES, find_python, make_environment

PYTHONS = ("python3.13", "python3.12")
_SECONDS = 110
_MAKING = "--make"


def main(environments: Path) -> None:
    """Tries another Python, in an environment below `environments`."""
    deadline = time.monotonic() + _SECONDS
    own = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    others = {name: find_python(name) for name in PYTHONS if name != own}
    name = next((each for each in others if others[each]), None)
    if name is None:
        _leave_out(f"none of {', '.join(others)} is on this machine")
    folder = environments / name
    made = _run([sys.executable, __file__, _MAKING, others[name], str(folder)], deadline)
    if made is None:
        _leave_out(f"pip did not install tfkd for {name} within {_SECONDS} s")
    if made.returncode:
        print(made.stdout, end="")
        _leave_out(f"pip could not install tfkd for {name}")
    tests = [str(folder / "bin" / "python"), "-m", "pytest", "tests/test_earlier_versions.py"]
    done = _run(tests, deadline)
    if done is None:
        _leave_out(f"its tests did not end under {name} within {_SECONDS} s")
    if done.returncode:
        sys.exit(f"{done.stdout}smoke: {name} does not read what the main combination wrote")
    print(f"smoke: {name} reads what the main combination wrote: {done.stdout.splitlines()[-1]}")


def _leave_out(reason: str) -> None:
    print(f"smoke: left out, because {reason}")
    sys.exit()


def _run(command: list[str], deadline: float) -> subprocess.CompletedProcess | None:
    """Returns the finished process with its output, or None if it had to be stopped."""
    process = subprocess.Popen(
        command, cwd=ROOT, env=VARIABLES, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        output, _ = process.communicate(timeout=max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # Its children, too: pip builds in one.
        process.communicate()
        return None
    return subprocess.CompletedProcess(command, process.returncode, output)


if __name__ == "__main__":
    if sys.argv[1:2] == [_MAKING]:
        make_environment(sys.argv[2], Path(sys.argv[3]))
    else:
        main(Path(sys.argv[1]) if sys.argv[1:] else ROOT / "work" / "smoke")
