"""Walks with a store and with a setting from the command line to where each is used.

    python benchmarks/walks.py [WALK ...]

Runs small commands on the files in `tests/earlier_versions`, and prints for each walk the functions
of tfkd that stand between the command and each use, in the order in which they call one another.
It asks nothing of the tree but the command line, so PYTHONPATH may name the tree of another commit.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

import tfkd
from tfkd.cli import main

FILES = Path(__file__).parent.parent / "tests" / "earlier_versions" / "861bfce"
PACKAGE = str(Path(tfkd.__file__).parent)


class Walk(NamedTuple):
    """A command, and the functions that use what it was given."""

    command: str
    uses: frozenset[str]


_DISTILL = (
    "distill {files}/run/config.yaml --labels {files}/labels --valid {files}/valid --out {out} "
    "--set training.epochs=1 --set training.objective.kind=seq_kd"
)
_DECODE = "decode {files}/run --data {files}/valid --set fusion.ctc_weight=0.3"
WALKS = {
    # The folder of the labels: whoever opens it, or reads its records or its audio.
    "labels": Walk(
        _DISTILL,
        frozenset({"open_verified", "Store.records", "RandomAccess.__init__", "audio_batches"}),
    ),
    # The weight of CTC in a search: what sets it, and what makes the scorer that bears it.
    "fusion.ctc_weight": Walk(_DECODE, frozenset({"with_overrides", "ctc_prefix_scorer"})),
}


def chains_of(walk: Walk) -> list[tuple[str, ...]]:
    """The different ways from the command to a use, in the order in which they are gone."""
    chains: dict[tuple[str, ...], None] = {}

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_qualname in walk.uses and _is_ours(frame.f_code):
            chains[tuple(_callers(frame))[::-1]] = None

    with tempfile.TemporaryDirectory() as scratch:
        files = shutil.copytree(FILES, Path(scratch) / "files")
        arguments = walk.command.format(files=files, out=Path(scratch) / "out").split()
        _profiled(lambda: main(arguments), note)
    return list(chains)


def _profiled(action: Callable[[], Any], note: Callable[[FrameType, str, Any], None]) -> None:
    sys.setprofile(note)
    try:
        action()
    finally:
        sys.setprofile(None)


def _is_ours(code: CodeType) -> bool:
    return code.co_filename.startswith(PACKAGE)


def _callers(frame: FrameType | None) -> Iterator[str]:
    """The functions of tfkd on the stack, innermost first, up to that of the command."""
    while frame is not None:
        code = frame.f_code
        # A comprehension or a lambda is a part of the function that it stands in.
        if _is_ours(code) and "<" not in code.co_qualname.replace("<locals>", ""):
            module = Path(code.co_filename).relative_to(PACKAGE).with_suffix("")
            if str(module) == "cli/__init__":
                return
            yield f"{module}:{code.co_qualname.rpartition('<locals>.')[2]}"
        frame = frame.f_back


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("walks", nargs="*", metavar="WALK", help=", ".join(WALKS))
    for name in parser.parse_args().walks or WALKS:
        found = chains_of(WALKS[name])
        print(f"\n{name}: {sum(len(chain) - 2 for chain in found)} hops in {len(found)} ways")
        for chain in found:
            print(f"  {len(chain) - 2}  {' > '.join(chain)}")
