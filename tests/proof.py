"""One mechanism for tests that prove more the longer they run.

`pytest` runs them with small counts. `pytest --full FILE`, which is what `make reliability` does,
runs them with the full ones and writes the figures that they report to FILE. Where only some of
the tests are run, the figures of the others stay as they are.
"""

from __future__ import annotations

import json
import os
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from clocks import cpu_seconds, descendants

from tfkd.environment import provenance
from tfkd.storage.files import write_json

SEED = 20181104
# Readers of what is damaged, beside those that every file of results names.
_READERS = ("soundfile", "PyYAML", "google-crc32c", "protobuf", "numpy")
_TIMES = ("wall_minutes", "cpu_minutes")


class Proof:
    """Says how often a test repeats itself, and keeps what it found."""

    def __init__(self, results: Path | None) -> None:
        self.results = results
        self.figures: dict[str, dict[str, Any]] = {}
        self._last_report = _clocks_seconds()

    @property
    def is_fast(self) -> bool:
        """Whether a share of the work is enough."""
        return self.results is None

    def count(self, *, fast: int, full: int) -> int:
        """How often to do something."""
        return fast if self.is_fast else full

    def report(self, test: str, **figures: object) -> None:
        """Keeps the figures of a test that passed, and the time since the one before."""
        before, self._last_report = self._last_report, _clocks_seconds()
        times = [round((b - a) / 60, 2) for a, b in zip(before, self._last_report, strict=True)]
        self.figures[test] = (
            figures | dict(zip(_TIMES, times, strict=True)) | {"date": provenance()["date"]}
        )

    def write(self) -> None:
        """Writes the figures, with what they depend on.

        Others are kept, unless they come from another machine, other packages or another seed.
        """
        if self.results is None:
            return
        origin = provenance()
        basis = {
            "seed": SEED,
            "hardware": origin["hardware"],
            "versions": origin["versions"] | {package: version(package) for package in _READERS},
        }
        figures = self.figures
        if self.results.exists():
            earlier = json.loads(self.results.read_text())
            if basis.items() <= earlier.items():
                figures = earlier["figures"] | figures
        totals = {name: round(sum(each[name] for each in figures.values()), 1) for name in _TIMES}
        write_json(self.results, {"figures": dict(sorted(figures.items()))} | totals | basis)


def _clocks_seconds() -> tuple[float, float]:
    """The time, and the processor time of this process and of all that came of it."""
    own_and_ended = sum(os.times()[:4])
    return time.monotonic(), own_and_ended + sum(map(cpu_seconds, descendants(os.getpid())))


_PROOF = pytest.StashKey[Proof]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--full",
        metavar="FILE",
        type=Path,
        help="run tests/reliability and tests/fuzz with their full counts; write the figures here",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_PROOF] = Proof(config.getoption("full"))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if exitstatus == pytest.ExitCode.OK:
        session.config.stash[_PROOF].write()


@pytest.fixture(scope="session")
def proof(request: pytest.FixtureRequest) -> Proof:
    return request.config.stash[_PROOF]
