"""Both wheels hold what they promise, and that for devices works outside of this checkout."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


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


@pytest.mark.slow
def test_a_device_transcribes_without_tensorflow(wheels, exports, tiny_corpus, tmp_path):
    with zipfile.ZipFile(wheels["tfkd_device"]) as wheel:
        (metadata,) = (wheel.read(n).decode() for n in wheel.namelist() if n.endswith("/METADATA"))
        wheel.extractall(tmp_path)
    required = re.findall(r"^Requires-Dist: ([\w-]+)(?!.*extra)", metadata, re.MULTILINE)
    assert set(required) == {"numpy", "tflite-runtime", "ai-edge-litert"}
    # -I: neither this folder nor what the environment adds is looked through.
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1));"
        "sys.modules.update(dict.fromkeys(['tensorflow', 'keras', 'soundfile', 'yaml', 'jiwer']));"
        "from tfkd.cli import main; main(sys.argv[1:])"
    )
    model, recording = exports["tflite-float32"].path, tiny_corpus / "test-00.wav"
    command = [sys.executable, "-I", "-c", code, tmp_path, "transcribe", model, recording]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
