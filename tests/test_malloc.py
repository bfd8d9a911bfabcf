"""glibc uses one heap for all threads, unless the environment sets another number."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tfkd.malloc import share_one_heap

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not os.confstr("CS_GNU_LIBC_VERSION"), reason="needs glibc"
)

# Each thread holds a piece, so that glibc would find it a heap of its own; malloc_info counts them.
THREADS = """
import ctypes, sys, threading
from tfkd.malloc import share_one_heap
print(share_one_heap() if sys.argv[1] == "shared" else None, flush=True)
everyone = threading.Barrier(4)
def hold():
    piece = bytearray(100_000)
    everyone.wait()
threads = [threading.Thread(target=hold) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
c = ctypes.CDLL(None)
c.malloc_info(0, ctypes.c_void_p.in_dll(c, "stdout"))
c.fflush(None)
"""
# Takes 64 MB in pieces of a MB, frees them, and tells how much of it the process still holds.
GIVES_BACK = """
import ctypes, re, sys
from tfkd.malloc import share_one_heap
if sys.argv[1] == "shared": share_one_heap()
def resident_kb():
    return int(re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read())[1])
before = resident_kb()
c = ctypes.CDLL(None)
c.malloc.restype, c.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
c.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
pieces = [c.malloc(2**20) for _ in range(64)]
for piece in pieces: c.memset(piece, 1, 2**20)
for piece in pieces: c.free(piece)
print((resident_kb() - before) // 1024)
"""


def child(program: str, mode: str, **variables: str) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", program, mode]
    return subprocess.run(
        command, env={**environment, **variables}, capture_output=True, text=True, check=True
    ).stdout


def test_threads_share_one_heap():
    assert child(THREADS, "alone").count("<heap nr=") > 1
    shared = child(THREADS, "shared")
    assert shared.startswith("True\n")
    assert shared.count("<heap nr=") == 1


def test_the_heap_keeps_what_it_got():
    assert int(child(GIVES_BACK, "alone")) < 16
    assert int(child(GIVES_BACK, "shared")) > 48


@pytest.mark.parametrize(
    "variable", [{"MALLOC_ARENA_MAX": "3"}, {"GLIBC_TUNABLES": "glibc.malloc.arena_max=3"}]
)
def test_what_the_environment_says_stays(variable: dict[str, str]):
    found = child(THREADS, "shared", **variable)
    assert found.startswith("False\n")
    assert found.count("<heap nr=") == 3


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert share_one_heap() is False
