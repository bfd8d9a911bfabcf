"""Where and when figures were made: what every file of results says of itself."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

_PACKAGES = ("tensorflow", "keras", "tensorflow-io", "tflite-runtime", "sentencepiece", "jiwer")


def provenance() -> dict[str, Any]:
    """Versions of the packages that matter, hardware, and today's date (UTC)."""
    return {
        "versions": {package: version(package) for package in _PACKAGES},
        "hardware": f"{platform.machine()}, {os.cpu_count()} cores, {_processor()}",
        "date": datetime.now(UTC).date().isoformat(),
    }


def _processor() -> str:
    """Name of the processor, where the system tells."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()
