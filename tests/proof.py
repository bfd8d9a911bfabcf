"""One mechanism for tests that prove more the longer they run.

`pytest` runs them with small counts. `pytest --full FILE`, which is what `make reliability` does,
runs them with the full ones and writes the figures that they report to FILE.
"""

from __future__ import annotations

import resource
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tfkd.files import write_json
from tfkd.provenance import provenance

SEED = 20181104
# Readers of what is damaged, beside those that every file of results names.
_READERS = ("soundfile", "PyYAML", "google-crc32c", "protobuf", "numpy")


class Proof:
    """Says how often a test repeats itself, and keeps what it found."""

    def __init__(self, results: Path | None) -> None:
        self.results = results
        self.figures: dict[str, dict[str, Any]] = {}
        self._begin = time.monotonic()
        self._last_report = self._begin

    @property
    def is_fast(self) -> bool:
        """Whether a share of the work is enough."""
        return self.results is None

    def count(self, *, fast: int, full: int) -> int:
        """How often to do something."""
        return fast if self.is_fast else full

    def report(self, test: str, **figures: object) -> None:
        """Keeps the figures of a test that passed, and the time since the one before."""
        now = time.monotonic()
        self.figures[test] = {**figures, "minutes": _minutes(now - self._last_report)}
        self._last_report = now

    def write(self) -> None:
        """Writes the figures, with what they depend on."""
        if self.results is None:
            return
        origin = provenance()
        origin["versions"] |= {package: version(package) for package in _READERS}
        results = {
            "figures": dict(sorted(self.figures.items())),
            "seed": SEED,
            "wall_minutes": _minutes(time.monotonic() - self._begin),
            "cpu_minutes": _minutes(_cpu_seconds()),
        }
        write_json(self.results, results | origin)


def _minutes(seconds: float) -> float:
    return round(seconds / 60, 1)


def _cpu_seconds() -> float:
    """What this process and its children, as far as they have ended, took of the processors."""
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


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
