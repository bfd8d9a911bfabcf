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
    """Returns the path of an interpreter, such as `python3.13`, or None if this machine has none.

    It is on the path, or among the versions of pyenv, chosen or not: for those that are not chosen,
    pyenv has a command on the path that does not run.
    """
    return next((each for each in (shutil.which(name), _of_pyenv(name)) if _runs(each)), None)


def _of_pyenv(name: str) -> str | None:
    if shutil.which("pyenv") is None:
        return None
    version = name.removeprefix("python")
    latest = subprocess.run(["pyenv", "latest", version], capture_output=True, text=True)
    prefix = ["pyenv", "prefix", latest.stdout.strip() or version]
    folder = subprocess.run(prefix, capture_output=True, text=True).stdout.strip()
    return shutil.which(name, path=os.path.join(folder, "bin")) if folder else None


def _runs(python: str | None) -> bool:
    return (
        python is not None
        and not subprocess.run([python, "-c", ""], capture_output=True).returncode
    )


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
