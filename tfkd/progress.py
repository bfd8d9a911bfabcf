"""Shows how far long work has come: a bar on a terminal, a line a minute in a log."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

_SECONDS = 60
_LINE = "{desc}: {n_fmt} of {total_fmt} {unit} in {elapsed}, {remaining} left"


def progress_bar(
    iterable: Iterable[Any] | None = None, *, desc: str, unit: str, total: int | None = None
) -> tqdm:
    """Shows on the standard error how far a loop over `iterable` is, or what `update` counts.

    Where this is no terminal, work that takes longer than a minute gets a line every minute.
    """
    if sys.stderr.isatty():
        return tqdm(iterable, desc=desc, unit=unit, total=total)
    return _Lines(
        iterable,
        desc=desc,
        unit=unit,
        total=total,
        bar_format=_LINE,
        delay=_SECONDS,
        mininterval=_SECONDS,
        miniters=1,
        leave=False,
    )


class _Lines(tqdm):
    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        # At its end tqdm clears the bar by an empty message.
        if msg is None:
            print(self, file=self.fp, flush=True)
