"""Runs many cases in child processes and says which of them crashed, hung or failed untyped.

A target is a module of this folder with `case(generator, scratch)`: it makes one mutated input
and hands it to the library. What a case does depends on the seed and its number alone, so
`run_case(target, seed, number, scratch)` repeats what a finding names.
"""

from __future__ import annotations

import importlib
import itertools
import multiprocessing
import os
import resource
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from clocks import cpu_seconds

from tfkd.errors import TfkdError

# Of processor time: what a busy machine takes by the clock says nothing of a case.
BUSY_SECONDS = 5.0
# By the clock, without any processor time: such a case waits for what does not come.
ASLEEP_SECONDS = 60.0
_START_SECONDS = 300.0
# For fewer cases, loading the libraries once more takes longer than running them.
_WORTH_A_PROCESS = 1000
# Beyond what the imports map. A case that wants more gets a MemoryError, which is a finding.
_MEMORY_BYTES = 2 * 2**30
_BUSY, _ASLEEP = "!busy without end, twice", "!asleep without end, twice"
# Forking would copy locks of the threads that TensorFlow has in the process of pytest.
_PROCESSES = multiprocessing.get_context("spawn")


@dataclass
class Outcome:
    """What the cases of a target came to.

    Attributes:
      results: how often each came: "read", or the name of a typed error.
      findings: the cases that are defects, each with its number and what happened.
    """

    results: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)


def run_cases(target: str, count: int, seed: int) -> Outcome:
    """Runs `count` cases, many of them on all cores.

    Each must return, or raise a TfkdError that can be printed, within BUSY_SECONDS. A case that
    does not is tried once more: others that use the machine's caches slow it down.
    """
    parts = min(os.cpu_count() or 1, 1 + count // _WORTH_A_PROCESS)
    bounds = [count * part // parts for part in range(parts + 1)]
    shares = [range(first, end) for first, end in itertools.pairwise(bounds) if first < end]
    outcome = Outcome()
    with ThreadPoolExecutor(parts) as pool:
        for each in pool.map(lambda share: _watch(target, seed, share), shares):
            outcome.results += each.results
            outcome.findings += each.findings
    return outcome


def run_case(target: str, seed: int, number: int, scratch: Path) -> str:
    """Runs one case here; returns "read", or the name of the typed error that it raised."""
    generator = np.random.default_rng([seed, number])
    try:
        importlib.import_module(target).case(generator, scratch)
    except TfkdError as error:
        str(error).encode()  # What UTF-8 cannot express could not be printed.
        return type(error).__name__
    return "read"


def _watch(target: str, seed: int, share: range) -> Outcome:
    outcome = Outcome()
    hung = None
    while share:
        for result in _child_results(target, seed, share):
            number = share[0]
            if result in (_BUSY, _ASLEEP) and number != hung:
                hung = number
                break
            share = share[1:]
            if result.startswith("!"):
                outcome.findings.append(f"{target} case {number} of seed {seed}: {result[1:]}")
            else:
                outcome.results[result] += 1
    return outcome


def _child_results(target: str, seed: int, numbers: range) -> Iterator[str]:
    """The results of a child's cases in order; a crash or a hang is its last one."""
    receiver, sender = _PROCESSES.Pipe(duplex=False)
    child = _PROCESSES.Process(target=_work, args=(target, seed, numbers, sender), daemon=True)
    child.start()
    sender.close()
    try:
        if not receiver.poll(_START_SECONDS) or receiver.recv() != "ready":
            raise RuntimeError(f"{target} cannot be loaded")
        for _ in numbers:
            if (hang := _hang(receiver, child.pid)) is not None:
                yield hang
                return
            yield receiver.recv()
    except EOFError:
        child.join()
        yield f"!the process died, exit code {child.exitcode}"
    finally:
        child.kill()
        child.join()


def _hang(receiver: Connection, child: int) -> str | None:
    """Waits for a child's next result; says how it hangs if none comes in time."""
    begin = used = cpu_seconds(child)
    awake = time.monotonic()
    while not receiver.poll(min(BUSY_SECONDS, ASLEEP_SECONDS) / 4):
        before, used = used, cpu_seconds(child)
        if used - begin > BUSY_SECONDS:
            return _BUSY
        if used > before:
            awake = time.monotonic()
        elif time.monotonic() - awake > ASLEEP_SECONDS:
            return _ASLEEP
    return None


def _work(target: str, seed: int, numbers: range, sender: Connection) -> None:
    # libmpg123 has much to say of damaged files.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    importlib.import_module(target)
    _limit_memory()
    sender.send("ready")
    with tempfile.TemporaryDirectory(prefix="tfkd-fuzz-") as scratch:
        for number in numbers:
            sender.send(_guarded(target, seed, number, Path(scratch)))


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + _MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _guarded(target: str, seed: int, number: int, scratch: Path) -> str:
    try:
        return run_case(target, seed, number, scratch)
    except Exception as error:
        # Whatever is raised here is what the fuzzer looks for.
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"!{type(error).__name__}: {error!s:.200} ({place.filename}:{place.lineno})"
