"""Finds the Pythons of this machine and makes environments for them: for matrix.py and smoke.py."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# This checkout is what runs, whatever tfkd is installed.
VARIABLES = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}


def find_python(name: str) -> str | None:
    """Returns the path of an interpreter, or None if this machine has none that runs.

    A command of that name is not enough: those of pyenv exist for versions that are not chosen.
    """
    found = shutil.which(name)
    if found is None or subprocess.run([found, "-c", ""], capture_output=True).returncode:
        return None
    return found


def make_environment(python: str, folder: Path, *requirements: str) -> Path:
    """Returns the Python of an environment with tfkd's requirements, pytest and `requirements`.

    An environment that was made by an earlier call is used again.
    """
    interpreter, stamp = folder / "bin" / "python", folder / "installed"
    wanted = " ".join(requirements)
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
        subprocess.run([python, "-m", "venv", "--clear", folder], check=True)
        pip = [interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, ROOT, "pytest", "pytest-timeout", *requirements], check=True)
        stamp.write_text(wanted, encoding="utf-8")
    return interpreter
