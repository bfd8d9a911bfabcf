"""A target for the watchdog's own test: it fails in every way that there is."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np

from tfkd.errors import TfkdError


class Unprintable(TfkdError):
    """An error that UTF-8 cannot express, as none of ours is."""

    def __str__(self) -> str:
        return "\udc80"


def case(generator: np.random.Generator, scratch: Path) -> None:
    match generator.integers(8):
        case 0:
            os.kill(os.getpid(), signal.SIGSEGV)
        case 1:
            time.sleep(60)
        case 2:
            bytearray(2**40)
        case 3:
            raise ValueError("untyped")
        case 4:
            raise Unprintable("untold")
        case 5:
            raise TfkdError("typed")
        case 6:
            while True:
                pass
