"""Changes the sample rate, with numpy alone, so that a device resamples as preparation did."""

from __future__ import annotations

import functools
import math

import numpy as np

# Resampling filter: zero crossings of the sinc to each side, in periods of the lower rate.
_ZERO_CROSSINGS = 64
_STOPBAND_DB = 90.0
# Kaiser's formulas: beta from the attenuation, and the width of the transition as a share of the
# lower Nyquist frequency. The stopband begins at that frequency.
_KAISER_BETA = 0.1102 * (_STOPBAND_DB - 8.7)
_TRANSITION = (_STOPBAND_DB - 8) / (2.285 * (2 * _ZERO_CROSSINGS - 1) * math.pi)
_ROLLOFF = 1 - _TRANSITION / 2
_KERNEL_STEPS = 2048
# Outputs per matrix product, and rows of it at a time: enough for BLAS, little memory.
_GROUP_OUTPUTS = 64
_CHUNK_ROWS = 4096


def resample(waveform: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    """Changes the sample rate with a Kaiser-windowed sinc.

    What lies above the lower of the two Nyquist frequencies is suppressed by 90 dB; the passband
    ends at 91 % of it. Constant signals keep their value, but for the ends.

    Args:
      waveform: [N], any real dtype.
    Returns:
      float32 [round(N * to_hz / from_hz)].
    Raises:
      ValueError: if `waveform` is not one-dimensional or a rate is not positive.
    """
    if waveform.ndim != 1 or from_hz < 1 or to_hz < 1:
        raise ValueError(f"cannot resample {waveform.shape} from {from_hz} to {to_hz} Hz")
    waveform = waveform.astype(np.float32, copy=False)
    num_outputs = round(waveform.size * to_hz / from_hz)
    if from_hz == to_hz or num_outputs == 0:
        return waveform[:num_outputs]
    up, down = to_hz // math.gcd(from_hz, to_hz), from_hz // math.gcd(from_hz, to_hz)
    # One row makes `period` outputs from a window that moves by `hop` inputs.
    repeats = -(-_GROUP_OUTPUTS // up)
    period, hop = up * repeats, down * repeats
    rows = -(-num_outputs // period)
    reach = _filter_reach(up, down)
    padded = np.pad(waveform, (reach, reach + rows * hop - min(waveform.size, rows * hop) + hop))
    outputs = np.empty((rows, period), np.float32)
    with np.errstate(invalid="ignore", over="ignore"):  # NaN is for check_waveform to report.
        for first, start, matrix in _resampling_matrices(up, down, period):
            windows = np.lib.stride_tricks.sliding_window_view(padded[start:], len(matrix))[::hop]
            for row in range(0, rows, _CHUNK_ROWS):
                chunk = slice(row, min(row + _CHUNK_ROWS, rows))
                outputs[chunk, first : first + matrix.shape[1]] = windows[chunk].copy() @ matrix
    return outputs.reshape(-1)[:num_outputs]


def _filter_reach(up: int, down: int) -> int:
    """Inputs to each side of an output that the filter looks at."""
    return math.ceil(_ZERO_CROSSINGS * max(1.0, down / up))


@functools.lru_cache(maxsize=8)
def _resampling_matrices(
    up: int, down: int, period: int
) -> tuple[tuple[int, int, np.ndarray], ...]:
    """The filter of each group of outputs of one period.

    Returns:
      For each group: its first output, where its window starts in the padded input of the first
      row, and the filter, float32 [window, outputs].
    """
    reach = _filter_reach(up, down)
    matrices = []
    for first in range(0, period, _GROUP_OUTPUTS):
        centres = np.arange(first, min(first + _GROUP_OUTPUTS, period)) * down / up
        start = math.floor(centres[0]) - reach
        inputs = np.arange(start, math.ceil(centres[-1]) + reach + 1)
        kernel = _windowed_sinc(centres[None, :] - inputs[:, None], min(1.0, up / down))
        # Each column sums to one: every output phase has the same gain at 0 Hz.
        matrix = (kernel / kernel.sum(axis=0)).astype(np.float32)
        matrix.setflags(write=False)
        matrices.append((first, start + reach, matrix))
    return tuple(matrices)


def _windowed_sinc(offsets: np.ndarray, scale: float) -> np.ndarray:
    """Low-pass kernel at `offsets` input samples; `scale` is the lower over the input's rate.

    Interpolated, to 130 dB: a pair of odd rates needs millions of values, and Bessel functions of
    each would take seconds.
    """
    table = _kernel_table()
    position = np.minimum(np.abs(offsets) * (scale * _KERNEL_STEPS), len(table) - 2)
    index = position.astype(np.intp)
    return table[index] + (position - index) * (table[index + 1] - table[index])


@functools.cache
def _kernel_table() -> np.ndarray:
    """One half of the kernel, _KERNEL_STEPS values a zero crossing, and zeros after its end."""
    crossings = np.arange(_ZERO_CROSSINGS * _KERNEL_STEPS + 1) / _KERNEL_STEPS
    window = np.i0(_KAISER_BETA * np.sqrt(1 - (crossings / _ZERO_CROSSINGS) ** 2))
    return np.append(np.sinc(_ROLLOFF * crossings) * window, [0.0, 0.0])
