"""Nothing that comes from a file reaches the terminal as a command."""

from __future__ import annotations

import ast
import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

import tfkd.cli
from tfkd.cli.printing import complain, leave_out_advice_to_programmers, log_plainly, printable, say

# Clears the screen; sets the title in one byte of C1; turns the text round; rings.
HOSTILE = "a\x1b[2J\x9bK\u202eb\x07\x7f\u2028c"
HARMLESS = "a\\u001b[2J\\u009bK\\u202eb\\u0007\\u007f\\u2028c"


def test_control_characters_are_spelt_out_and_nothing_else_is():
    assert printable(HOSTILE) == HARMLESS
    kept = "één\tzwei\nтри 四 \u200c می\u200cخواهم"
    assert printable(kept) == kept


def test_a_line_of_json_stays_the_same_json(capsys):
    say(json.dumps({"id": HOSTILE}, ensure_ascii=False))
    line = capsys.readouterr().out
    assert "\x9b" not in line
    assert "\u202e" not in line
    assert json.loads(line) == {"id": HOSTILE}


def test_errors_and_warnings_go_the_same_way(capfd):
    complain(ValueError(HOSTILE))
    log_plainly()
    logger = logging.Logger("apart")  # pytest's own handlers are not in the way
    logger.warning("%s", HOSTILE)
    assert capfd.readouterr().err.splitlines() == [f"tfkd: error: {HARMLESS}", HARMLESS]


def test_a_package_that_sets_up_the_log_changes_nothing():
    script = (
        "import logging; from tfkd.cli.printing import log_plainly; log_plainly(); "
        "logging.basicConfig(); log_plainly(); logging.getLogger('tfkd').warning('a\\x1b[2J')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stderr == "a\\u001b[2J\n"


def test_advice_to_programmers_is_no_users_business(capfd):
    logger, handler = logging.getLogger("tensorflow"), logging.StreamHandler(sys.stderr)
    before = [*logger.filters]
    logger.addHandler(handler)
    try:
        leave_out_advice_to_programmers()
        logger.warning("5 out of the last 14 calls to %s triggered tf.function retracing.", "f")
        logger.warning("another matter")
    finally:
        logger.removeHandler(handler)
        logger.filters[:] = before
    assert capfd.readouterr().err == "another matter\n"


@pytest.mark.parametrize("path", sorted(Path(tfkd.cli.__file__).parent.glob("*.py")), ids=str)
def test_no_command_prints_past_it(path):
    calls = [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        if node.func.id == "print"
    ]
    assert bool(calls) == (path.name == "printing.py")
