"""The command line: the only folder that prints and ends the process.

Commands import what they need inside their functions, because `--help`, argument errors and
`transcribe` must be fast, and `transcribe` must work without TensorFlow.

`parser` declares the commands and their options; modules by topic implement them.
"""

from __future__ import annotations

import io
import os
import select
import sys
from collections.abc import Sequence

from tfkd.cli.doctor import INSTALL_TFKD
from tfkd.cli.exit_codes import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE
from tfkd.cli.parser import command_parser
from tfkd.cli.printing import complain, leave_out_advice_to_programmers, log_plainly, say
from tfkd.cli.quiet import import_quietly
from tfkd.errors import ConfigError, TfkdError
from tfkd.malloc import share_one_heap

__all__ = ["main"]

_STDOUT = 1


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command; ends the process with 0, 1 (failed), 2 (usage) or 130 (interrupted)."""
    # Without this, TensorFlow logs an error about missing GPU libraries.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import_quietly()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Print characters that the terminal's encoding lacks as escapes.
        sys.stdout.reconfigure(errors="backslashreplace")
    log_plainly()
    leave_out_advice_to_programmers()
    options = command_parser().parse_args(arguments)
    share_one_heap()
    try:
        options.command(options)
        if sys.stdout is not None:  # as where it was closed before the command began
            sys.stdout.flush()
    except OSError as error:  # One that no reader or writer of tfkd has turned into a typed error.
        if not _has_lost_its_reader():
            complain(error)
        sys.exit(EXIT_FAILED)
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] == "tfkd":
            raise
        complain(
            f"this command needs {error.name}, which is not installed "
            f"({INSTALL_TFKD}; tfkd doctor reports what else is missing)"
        )
        sys.exit(EXIT_FAILED)
    except TfkdError as error:
        complain(error)
        sys.exit(EXIT_USAGE if isinstance(error, ConfigError) else EXIT_FAILED)
    except KeyboardInterrupt:
        say("tfkd: interrupted; run the same command again to continue", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)


def _has_lost_its_reader() -> bool:
    """Whether the reader of a pipe has closed it; if so, discards all later output."""
    poll = select.poll()
    poll.register(_STDOUT, 0)
    is_lost = any(event & select.POLLERR for _, event in poll.poll(0))
    if is_lost:  # Python would report the broken pipe a second time at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), _STDOUT)
    return is_lost
