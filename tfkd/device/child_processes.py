"""Commands and limits of child processes, in which a model may crash."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

# `python -c` looks for modules in the working folder first, and would run a resource.py that lies
# there. The option -P, which Python 3.10 lacks, would prevent it. The folder of this tfkd comes
# first, so that the child imports the same package.
_CODE = """
import sys
sys.path[:] = [sys.argv[1], *filter(None, sys.path)]
from {module} import {function}
{function}(*sys.argv[2:])
"""
_ROOT = Path(__file__).parents[2]
# What to do where a file from elsewhere cannot run in a child process.
IF_TRUSTED = "if you trust the file, give --trust, or trusted=True in Python"


def child_command(module: str, function: str, *arguments: object) -> list[str]:
    """Makes the command that calls a function of tfkd with strings in another Python process.

    >>> child_command("tfkd.device.isolated", "answer_requests", "a.tflite")[-1]
    'a.tflite'
    """
    code = _CODE.format(module=module, function=function)
    return [sys.executable, "-c", code, str(_ROOT), *map(str, arguments)]


def limit_memory(most_bytes: int) -> None:
    """Limits the memory of this process; a lower limit that it was started with stays."""
    with contextlib.suppress(ImportError):  # Windows has no such limits.
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        is_free = hard == resource.RLIM_INFINITY
        limit = most_bytes if is_free else min(most_bytes, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
