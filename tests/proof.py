"""One mechanism for tests that prove more the longer they run.

`pytest` runs them with small counts. `pytest --full FILE`, which is what `make reliability` does,
runs them with the full ones and writes the figures that they report to FILE.
"""

from __future__ import annotations

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

    def count(self, *, fast: int, full: int) -> int:
        """How often to do something."""
        return fast if self.results is None else full

    def report(self, test: str, **figures: object) -> None:
        """Keeps the figures of a test that passed."""
        self.figures[test] = figures

    def write(self) -> None:
        """Writes the figures, with what they depend on."""
        if self.results is None:
            return
        origin = provenance()
        origin["versions"] |= {package: version(package) for package in _READERS}
        results = {
            "figures": dict(sorted(self.figures.items())),
            "seed": SEED,
            "minutes": round((time.monotonic() - self._begin) / 60, 1),
        }
        write_json(self.results, results | origin)


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
