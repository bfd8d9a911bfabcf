"""Imports in silence the packages that greet on standard error."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

from tfkd.native_messages import without_native_messages

_TALKATIVE = frozenset({"tensorflow", "ai_edge_litert"})


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
