"""Mutated .tflite files, run as those from elsewhere are.

Half of them have a graph that was mutated and a digest that was computed anew: nothing but the
border of another process stands between such a graph and its caller.
"""

from __future__ import annotations

import functools
import io
import os
import zipfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
from mutation import mutate

from tfkd.device import isolation
from tfkd.device.metadata import append_metadata, parse_metadata, read_metadata
from tfkd.device.recogniser import DeviceRecogniser

_SAMPLE = Path(__file__).parents[1] / "earlier_versions" / "861bfce" / "model-float32.tflite"
_WORDS = [b"TFL3", b"serving_default", b"waveform", bytes(8), b"\xff" * 8, b"\x01\0\0\0"]
_ODD_NUMBERS = (0, 1, -1, 2**31 - 1, 2**31, 2**63, 10**30, 3, 7, 16000)
_LENGTHS = (0.03, 0.3, 1.7)
# A graph that never ends is to be given up before the watchdog takes the case for asleep.
isolation.MIN_SECONDS, isolation.SECONDS_PER_SECOND_OF_AUDIO = 20, 0


@functools.cache
def _whole() -> bytes:
    return _SAMPLE.read_bytes()


@functools.cache
def _graph() -> bytes:
    with zipfile.ZipFile(io.BytesIO(_whole())) as archive:
        return _whole()[: min(member.header_offset for member in archive.infolist())]


def case(generator: np.random.Generator, scratch: Path) -> None:
    """What `tfkd transcribe` does with a file and three recordings."""
    os.environ["XDG_CACHE_HOME"] = str(scratch / "cache")
    path = scratch / "model.tflite"
    path.write_bytes(_mutated(generator))
    recogniser = DeviceRecogniser(path)
    rate_hz = recogniser.metadata.sample_rate_hz
    most = min(recogniser.metadata.max_samples, 4 * rate_hz)
    for seconds in _LENGTHS:
        samples = min(most, round(seconds * rate_hz))
        loudness = 10.0 ** -generator.integers(0, 5)
        noise = loudness * generator.uniform(-1, 1, samples)
        recogniser.transcribe_waveform(noise.astype(np.float32))


def _mutated(generator: np.random.Generator) -> bytes:
    choice = generator.integers(8)
    if choice == 0:
        return mutate([_whole()], _WORDS, generator)
    if choice == 1:
        return append_metadata(_graph(), _odd_metadata(generator))
    if choice in (2, 3):
        graph = mutate([_graph()], _WORDS, generator)
    else:
        graph = _with_odd_numbers(generator)
    return append_metadata(graph, read_metadata(_SAMPLE))


def _with_odd_numbers(generator: np.random.Generator) -> bytes:
    """The graph with some of its 32 bit numbers changed, near the ends, where its structure is."""
    graph = np.frombuffer(_graph()[: len(_graph()) // 4 * 4], "<i4").copy()
    for _ in range(generator.integers(1, 4)):
        place = int(len(graph) * generator.beta(0.3, 0.3)) % len(graph)
        odd = [graph[place] + 1, graph[place] - 1, 0, -1, 2**31 - 1, graph[place] ^ 1 << 16]
        graph[place] = np.int64(odd[generator.integers(len(odd))]).astype("<i4")
    return graph.tobytes() + _graph()[len(graph) * 4 :]


def _odd_metadata(generator: np.random.Generator):
    values = asdict(read_metadata(_SAMPLE)) | {"pieces": list(read_metadata(_SAMPLE).pieces)}
    numbers = [name for name, value in values.items() if isinstance(value, int)]
    for _ in range(generator.integers(1, 3)):
        name = numbers[generator.integers(len(numbers))]
        values[name] = _ODD_NUMBERS[generator.integers(len(_ODD_NUMBERS))]
    if generator.integers(2):
        values["pieces"] = values["pieces"][: generator.integers(len(values["pieces"]) + 1)]
    return parse_metadata(values, _SAMPLE)
