"""Installs tfkd-device in empty environments without TensorFlow, and transcribes there.

    python packaging/try_device.py python3.11 python3.13 --out packaging/try_device.json

The model and the six recordings are those that tests/earlier_versions keeps; what the model has to
say of them stands beside. Run it with a Python that has tfkd. The wheel is built, installed with
what it requires and nothing else, and run in a folder outside of this checkout. Times are of the
wall clock, medians of `--repeats`; memory is the peak of the process.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import wave
from pathlib import Path
from typing import Any

from tfkd.audio.flac import decode_flac
from tfkd.environment import provenance
from tfkd.records import open_store
from tfkd.reporting.tables import table

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "tests" / "earlier_versions" / "861bfce"
_RUNTIMES = ("tflite-runtime", "ai-edge-litert")


_MEASURE = """
import json, resource, subprocess, sys, time
begin = time.perf_counter()
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
seconds = time.perf_counter() - begin
print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]))
"""


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        wheel = _wheel(work)
        expected = _recordings(work)
        shutil.copy(KEPT / "model-float32.tflite", work / "model.tflite")
        results = [_tried(python, wheel, work, expected, options.repeats)
                   for python in options.python]  # fmt: skip
    content = {**provenance(), "load_average": os.getloadavg(), "results": results}
    if options.out:
        Path(options.out).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    columns = ("python", "runtime", "numpy", "installed_mb", "version_seconds",
               "transcribe_seconds", "peak_mb", "says_the_same")  # fmt: skip
    print(table(list(columns), [[str(row[name]) for name in columns] for row in results]))
    sys.exit(not all(row["says_the_same"] for row in results))


def _wheel(work: Path) -> Path:
    source = ROOT / "packaging" / "tfkd-device"
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", work, source]
    subprocess.run(command, check=True)
    (wheel,) = work.glob("tfkd_device-*.whl")
    return wheel


def _recordings(work: Path) -> dict[str, str]:
    """Writes the recordings as WAV, which needs no library; what the model says, by name."""
    texts = {row["utterance_id"]: row["text"] for row in
             json.loads((KEPT / "expected.json").read_text())}  # fmt: skip
    # A copy, because opening a store takes its lock.
    store = open_store(shutil.copytree(KEPT / "valid", work / "valid"))
    expected = {}
    for record in store.records():
        name = f"{record.utterance_id}.wav"
        with wave.open(str(work / name), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(record.utterance.sample_rate_hz)
            file.writeframes(decode_flac(record.utterance.audio, "int16").tobytes())
        expected[name] = texts[record.utterance_id]
    return expected


def _tried(
    python: str, wheel: Path, work: Path, expected: dict[str, str], repeats: int
) -> dict[str, Any]:
    venv = work / "venv"
    subprocess.run([python, "-m", "venv", "--clear", venv], check=True)
    pip = [venv / "bin" / "python", "-m", "pip", "--disable-pip-version-check"]
    before = _size_mb(venv)
    _output([*pip, "install", "-q", wheel], work)
    packages = {row["name"].lower(): row["version"] for row in json.loads(
        _output([*pip, "list", "--format", "json"], work))}  # fmt: skip
    if "tensorflow" in packages or "keras" in packages:
        raise SystemExit(f"{python}: tfkd-device pulls in TensorFlow")
    tfkd = venv / "bin" / "tfkd"
    transcribe = [tfkd, "transcribe", "model.tflite", *expected]
    said = dict(line.split("\t") for line in _output(transcribe, work).splitlines())
    one = [tfkd, "transcribe", "model.tflite", next(iter(expected))]
    versions = [_measured([tfkd, "--version"], work)[0] for _ in range(repeats)]
    runs = [_measured(one, work) for _ in range(repeats)]
    (runtime,) = set(_RUNTIMES) & packages.keys()
    return {
        "python": _output([venv / "bin" / "python", "-V"], work).split()[1],
        "runtime": f"{runtime} {packages[runtime]}",
        "numpy": packages["numpy"],
        "packages": packages,
        "installed_mb": round(_size_mb(venv) - before, 1),
        "version_seconds": round(statistics.median(versions), 3),
        "transcribe_seconds": round(statistics.median(seconds for seconds, _ in runs), 3),
        "peak_mb": round(max(peak for _, peak in runs), 1),
        "says_the_same": said == expected,
    }


def _measured(command: list, work: Path) -> tuple[float, float]:
    """Wall seconds and peak memory in MB of a process, or of a larger one that it starts.

    A small process starts it: what is forked from this one begins with the memory of TensorFlow.
    """
    program = [sys.executable, "-c", _MEASURE, *map(str, command)]
    seconds, peak_kb = json.loads(_output(program, work))
    return seconds, peak_kb * 1024 / 1e6


def _output(command: list, work: Path) -> str:
    done = subprocess.run(
        list(map(str, command)), cwd=work, env=_environment(), stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        raise SystemExit(f"{command[0]} ended with {done.returncode}")
    return done.stdout


def _environment() -> dict[str, str]:
    """Nothing of this checkout is found by the others."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def _size_mb(folder: Path) -> float:
    return sum(each.lstat().st_size for each in folder.rglob("*") if each.is_file()) / 1e6


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("python", nargs="+", help="interpreters to try")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", help="write the results here (JSON)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
