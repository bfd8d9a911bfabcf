"""Shows how far long work has come: a bar on a terminal, a line a minute in a log."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tqdm import tqdm

_SECONDS = 60


def progress_bar(
    iterable: Iterable[Any] | None = None, *, desc: str, unit: str, total: int | None = None
) -> tqdm:
    """Shows on the standard error how far a loop over `iterable` is, or what `update` counts.

    Where this is no terminal, work that takes longer than a minute gets a line every minute.
    """
    kind: Callable[..., tqdm] = tqdm if sys.stderr.isatty() else _Lines
    return kind(iterable, desc=desc, unit=unit, total=total)


class _Lines(tqdm):
    def __init__(self, iterable: Any, **settings: Any) -> None:
        super().__init__(iterable, **settings, delay=_SECONDS, leave=False)
        whole = "" if self.total is None else f" of {self.total}"
        left = "" if self.total is None else ", {remaining} left"
        self.bar_format = f"{{desc}}: {{n_fmt}}{whole} {{unit}} in {{elapsed}}{left}"

    def __iter__(self) -> Iterator[Any]:
        for each in self.iterable:
            yield each
            self.update()

    def update(self, n: float | None = 1) -> None:
        # Utterances of a batch are done at once, and counted one by one: tell of those before.
        now = self.start_t + self.format_dict["elapsed"]
        if now - self.last_print_t >= _SECONDS:
            self.last_print_t = now
            if self.n:
                print(self, file=self.fp, flush=True)
        self.n += n or 0

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Shows nothing: there is no bar to draw or to clear."""
