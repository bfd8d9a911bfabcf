"""Keeps off the terminal what native libraries write there by themselves.

TensorFlow above 2.18 and LiteRT greet on standard error before any of their settings is read, so
that no variable of the environment stops them. What goes wrong comes as an exception all the same.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

_STDERR = 2
_TALKATIVE = frozenset({"tensorflow", "ai_edge_litert"})


@contextlib.contextmanager
def without_native_messages() -> Iterator[None]:
    """Discards whatever the process writes to standard error while the block runs."""
    sys.stderr.flush()
    kept = os.dup(_STDERR)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), _STDERR)
    try:
        yield
    finally:
        os.dup2(kept, _STDERR)
        os.close(kept)


def import_quietly() -> None:
    """Lets the talkative packages be imported in silence, whenever a command needs them."""
    if not any(isinstance(finder, _QuietFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _QuietFinder())


class _QuietFinder(MetaPathFinder):
    """Finds packages as Python does, and silences the running of their code."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in _TALKATIVE:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def run_quietly(module: ModuleType) -> None:
                with without_native_messages():
                    run(module)

            spec.loader.exec_module = run_quietly  # type: ignore[method-assign]
        return spec
