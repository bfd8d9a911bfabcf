"""The options and clips of both programs that `whisper.py` times."""

from __future__ import annotations

import argparse

import numpy as np

WIDTH, MAX_TOKENS = 5, 224


def arguments() -> argparse.Namespace:
    """The command line of a child process; `hypotheses` is for CTranslate2 alone."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", required=True)
    parser.add_argument("--clips", required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--repeats", type=int, required=True)
    parser.add_argument("--hypotheses", type=int, default=WIDTH)
    return parser.parse_args()


def batches(path: str, size: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Batches of waveform [B, N] and num_samples [B], neighbours of like length together."""
    waveforms = sorted(np.load(path).values(), key=len)
    made = []
    for start in range(0, len(waveforms), size):
        own = waveforms[start : start + size]
        padded = [np.pad(waveform, (0, len(own[-1]) - len(waveform))) for waveform in own]
        made.append((np.stack(padded), np.array([len(waveform) for waveform in own], np.int32)))
    return made
