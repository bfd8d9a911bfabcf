"""Both wheels hold what they promise, and that for devices works outside of this checkout."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
_NOT_INSTALLED = ["tensorflow", "keras", "soundfile", "yaml", "jiwer", "google_crc32c"]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> dict[str, Path]:
    """The wheels of both distributions, by name."""
    out = tmp_path_factory.mktemp("wheels")
    for source in (ROOT, ROOT / "packaging" / "tfkd-device"):
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", out, source]
        subprocess.run(command, check=True)
    return {path.name.partition("-")[0]: path for path in out.glob("*.whl")}


@pytest.mark.slow
def test_the_wheel_holds_templates_types_and_requirements(wheels):
    with zipfile.ZipFile(wheels["tfkd"]) as wheel:
        names = wheel.namelist()
        (metadata,) = (wheel.read(n).decode() for n in names if n.endswith("/METADATA"))
    assert "tfkd/py.typed" in names
    assert any(name.endswith(".html") for name in names)
    assert "Requires-Dist: tensorflow" in metadata
    assert not any(name.startswith(("tests", "training", "export/")) for name in names)


@pytest.fixture(scope="module")
def run_on_device(wheels, tmp_path_factory) -> Callable[..., subprocess.CompletedProcess]:
    """Runs tfkd from the wheel for devices, where only what it requires is installed."""
    folder = tmp_path_factory.mktemp("device")
    with zipfile.ZipFile(wheels["tfkd_device"]) as wheel:
        wheel.extractall(folder)
    # -I: neither this folder nor what the environment adds is looked through.
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1));"
        # Python 3.10, which a device may have, lacks this function.
        "import hashlib; vars(hashlib).pop('file_digest', None);"
        f"sys.modules.update(dict.fromkeys({_NOT_INSTALLED}));"
        "from tfkd.cli import main; main(sys.argv[1:])"
    )

    def run(*arguments: object) -> subprocess.CompletedProcess:
        command = [sys.executable, "-I", "-c", code, folder, *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=folder)

    return run


@pytest.mark.slow
def test_a_device_requires_numpy_and_a_runtime_alone(wheels):
    with zipfile.ZipFile(wheels["tfkd_device"]) as wheel:
        names = wheel.namelist()
        (metadata,) = (wheel.read(n).decode() for n in names if n.endswith("/METADATA"))
    required = re.findall(r"^Requires-Dist: ([\w-]+)(?!.*extra)", metadata, re.MULTILINE)
    assert set(required) == {"numpy", "tflite-runtime", "ai-edge-litert"}
    assert "tfkd/py.typed" in names


@pytest.mark.slow
def test_a_device_transcribes_without_tensorflow(run_on_device, tiny_corpus):
    model = ROOT / "tests" / "earlier_versions" / "861bfce" / "model-float32.tflite"
    done = run_on_device("transcribe", model, tiny_corpus / "test-00.wav")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ("train", "c.yaml", "--train", "a", "--valid", "b", "--out", "c"),
        ("evaluate", "a", "--data", "b"),
        ("verify", "a"),
    ],
)
def test_a_device_says_in_one_line_what_another_command_needs(run_on_device, command):
    done = run_on_device(*command)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "is not installed (pip install . in tfkd's folder;" in line
