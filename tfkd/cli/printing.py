"""Prints for all commands, and escapes control characters.

Ids, texts, paths and token pieces come from files of others. A terminal would execute a control
character in them: it could hide lines, change the title or answer for the user.
"""

from __future__ import annotations

import logging
import sys
import unicodedata
from typing import TextIO

# Control characters, and separators that some terminals break lines at.
_CATEGORIES = {"Cc", "Zl", "Zp"}
# Marks that change the direction of text, which can make it look like something else.
_TURNING = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_KEPT = set("\n\t")


def printable(text: str) -> str:
    r"""Escapes control characters as in JSON, so that lines of JSON keep their meaning.

    >>> print(printable("a1\x1b[2J\x9b"))
    a1\u001b[2J\u009b
    """
    return "".join(f"\\u{ord(each):04x}" if _is_control(each) else each for each in text)


def _is_control(character: str) -> bool:
    if character in _KEPT:
        return False
    return character in _TURNING or unicodedata.category(character) in _CATEGORIES


def say(text: str = "", *, file: TextIO | None = None) -> None:
    """Prints a line, or several, on standard output or another file, and flushes it."""
    print(printable(text), file=file, flush=True)


def complain(text: object) -> None:
    """Prints an error on standard error."""
    say(f"tfkd: error: {text}", file=sys.stderr)


def log_plainly() -> None:
    """Makes the log escape control characters, too, whatever other packages do to it."""
    handler, root = logging.lastResort, logging.getLogger()
    if handler is not None:
        handler.setFormatter(_Printable())
        # Where there is none, a package that logs may add one of its own, which escapes nothing.
        if not root.handlers:
            root.addHandler(handler)


def leave_out_advice_to_programmers() -> None:
    """Keeps TensorFlow's warning of many traces from the log: each model has traces of its own."""
    logging.getLogger("tensorflow").addFilter(
        lambda record: "triggered tf.function retracing" not in record.getMessage()
    )


class _Printable(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))
