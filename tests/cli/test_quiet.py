"""Messages of native libraries do not reach the terminal, but errors do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

GREETING = "import os\nos.write(2, b'greeting')\n"
USER = """
import os, sys
sys.path.insert(0, sys.argv[1])
from tfkd.cli.quiet import import_quietly
import_quietly()
import {}
os.write(2, b"ours")
"""


def said_while_importing(folder: Path, package: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", USER.format(package), folder]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_talkative_package_is_imported_in_silence(tmp_path):
    (tmp_path / "tensorflow.py").write_text(GREETING)
    assert said_while_importing(tmp_path, "tensorflow").stderr == "ours"


def test_others_may_speak(tmp_path):
    (tmp_path / "someone.py").write_text(GREETING)
    assert said_while_importing(tmp_path, "someone").stderr == "greetingours"


def test_a_package_that_cannot_be_imported_says_why(tmp_path):
    (tmp_path / "tensorflow.py").write_text(GREETING + "raise ImportError('no library')")
    done = said_while_importing(tmp_path, "tensorflow")
    assert done.returncode == 1
    assert done.stderr.endswith("ImportError: no library\n")
    assert not done.stderr.startswith("greeting")
