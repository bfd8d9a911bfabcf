"""`make smoke` tries another Python, and leaves it out where that is no fault of tfkd."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def smoke(path: Path, **variables: str) -> subprocess.CompletedProcess:
    """Runs it where `path` is the only folder with commands, and no environment was made before."""
    command = [sys.executable, ROOT / "packaging" / "smoke.py", path / "environments"]
    environment = {**os.environ, "PATH": str(path), **variables}
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def write_command(folder: Path, name: str, code: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{code}\n")
    path.chmod(0o755)


def test_a_machine_without_another_python_is_told_so(tmp_path):
    done = smoke(tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("smoke: left out, because none of python3.1")


def test_a_command_that_does_not_run_is_no_python(tmp_path):
    """Those of pyenv end with 127 for versions that are not chosen."""
    for name in ("python3.12", "python3.13"):
        write_command(tmp_path, name, "echo 'pyenv: command not found' >&2; exit 127")
    done = smoke(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "is on this machine" in done.stdout


@pytest.mark.parametrize("name", ["python3.12", "python3.13"])
def test_an_environment_that_cannot_be_made_is_left_out_with_its_reason(tmp_path, name):
    if name == f"python{sys.version_info[0]}.{sys.version_info[1]}":
        pytest.skip("this is the Python that the suite runs under: it is no other one")
    write_command(tmp_path, name, '[ "$1" = -c ] && exit; echo no network; exit 1')
    done = smoke(tmp_path)
    assert done.returncode == 0
    assert "no network" in done.stdout
    assert done.stdout.endswith(f"smoke: left out, because pip could not install tfkd for {name}\n")


def test_a_python_of_pyenv_is_found_though_it_is_not_chosen(tmp_path):
    name, version = (
        ("python3.12", "3.12.1") if sys.version_info[:2] == (3, 13) else ("python3.13", "3.13.0")
    )
    commands, versions = tmp_path / "commands", tmp_path / "versions" / version / "bin"
    commands.mkdir()
    versions.mkdir(parents=True)
    write_command(commands, name, "exit 127")
    write_command(commands, "pyenv", f"[ $1 = latest ] && echo {version} || echo {versions.parent}")
    write_command(versions, name, '[ "$1" = -c ] && exit; echo it is asked; exit 1')
    assert "it is asked" in smoke(commands).stdout
