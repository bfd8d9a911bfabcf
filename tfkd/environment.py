"""Where and when figures were made: what every file of results says of itself."""

from __future__ import annotations

import contextlib
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = (
    "tensorflow",
    "keras",
    "tensorflow-io",
    "tflite-runtime",
    "ai-edge-litert",
    "sentencepiece",
    "jiwer",
)


def provenance() -> dict[str, Any]:
    """Versions of the packages that matter, hardware, and today's date (UTC)."""
    return {
        "versions": _versions(),
        "hardware": f"{platform.machine()}, {os.cpu_count()} cores, {_processor()}",
        "date": datetime.now(UTC).date().isoformat(),
    }


def _versions() -> dict[str, str]:
    versions = {}
    for package in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):  # One of the two runtimes is enough.
            versions[package] = version(package)
    return versions


def _processor() -> str:
    """Name of the processor, where the system tells."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()
