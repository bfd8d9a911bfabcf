"""What native code says is discarded while a block runs, and nothing else is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
HEADER = "import os; from tfkd.native_messages import without_native_messages\n"


def said(code: str, **settings) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", HEADER + code]
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, **settings)


def test_only_what_is_said_in_the_block_is_discarded():
    code = (
        "os.write(2, b'before ')\n"
        "with without_native_messages(): os.write(2, b'greeting ')\n"
        "os.write(2, b'after')"
    )
    assert said(code, stderr=subprocess.PIPE).stderr == "before after"


def test_an_exception_ends_the_silence():
    code = "with without_native_messages(): raise ValueError('what went wrong')"
    assert said(code, stderr=subprocess.PIPE).stderr.endswith("ValueError: what went wrong\n")


def test_threads_whose_blocks_overlap_do_not_keep_each_others_silence():
    code = (
        "first, second = without_native_messages(), without_native_messages()\n"
        "first.__enter__(); second.__enter__()\n"
        "first.__exit__(None, None, None); os.write(2, b'greeting ')\n"
        "second.__exit__(None, None, None); os.write(2, b'after')"
    )
    assert said(code, stderr=subprocess.PIPE).stderr == "after"


def test_a_process_without_standard_error_runs_the_block():
    code = (
        "os.close(2)\n"
        "with without_native_messages(): print('ran')\n"
        "try: os.fstat(2)\n"
        "except OSError: print('still closed')"
    )
    assert said(code).stdout == "ran\nstill closed\n"
