"""Reads versions and hardware, which every file of results records."""

from __future__ import annotations

import contextlib
import os
import platform
import time
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

# Memory limits of a container, in versions 2 and 1 of Linux' control groups.
_CONTAINER_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def provenance() -> dict[str, Any]:
    """Returns the versions of the main packages, the hardware, and today's date (UTC)."""
    return {
        "versions": _versions(),
        "hardware": f"{platform.machine()}, {os.cpu_count()} cores, {_processor()}",
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def _versions() -> dict[str, str]:
    versions = {}
    for package in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):  # Not every package is needed.
            versions[package] = version(package)
    return versions


def _processor() -> str:
    """Name of the processor, if the system gives it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()


def memory_bytes() -> int | None:
    """Returns the memory that this process may use: the machine's, or its container's if less.

    Returns None if the system does not tell.
    """
    limits = []
    with contextlib.suppress(OSError, ValueError, AttributeError):
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for path in _CONTAINER_LIMITS:
        # A container without a limit says "max", or a number beyond any memory.
        with contextlib.suppress(OSError, ValueError):
            limits.append(int(path.read_text()))
    return min(limits, default=None)
