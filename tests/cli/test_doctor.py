"""`tfkd doctor` names what is missing, and commands without their packages end in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError

import pytest

from tfkd import cli
from tfkd.cli import doctor
from tfkd.cli.doctor import diagnose

BLOCK = "import sys; sys.modules.update(dict.fromkeys(sys.argv.pop(1).split(','))); "


def run_without(packages: str, *arguments: str) -> subprocess.CompletedProcess:
    """Runs tfkd where importing `packages`, joined by commas, fails."""
    code = BLOCK + "from tfkd.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", code, packages, *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_here_nothing_is_missing(capsys):
    cli.main(["doctor", "--json"])
    findings = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
    assert findings["TensorFlow"]["found"].endswith("CPU")
    extras = [each for each in findings.values() if each["is_extra"]]
    assert {"apache-beam", "matplotlib", "tokenizers"} <= {each["name"] for each in extras}
    assert all(each["needed_for"] for each in extras)
    needed = [each for each in findings.values() if each["needed_for"] and not each["is_extra"]]
    assert not [each["name"] for each in needed if not each["found"]]


def test_what_is_missing_is_named_with_its_remedy():
    done = run_without("tensorflow,tflite_runtime,ai_edge_litert", "doctor", "--json")
    assert done.returncode == 1
    missing = {each["name"]: each for each in json.loads(done.stdout) if not each["found"]}
    assert {"TFLite runtime", "TensorFlow"} <= missing.keys()
    assert missing["TensorFlow"]["remedy"].startswith("pip install . in tfkd's folder (")
    assert missing["TFLite runtime"]["remedy"].startswith("pip install 'numpy<2' tflite-runtime")
    assert "no TFLite runtime is installed" in missing["TFLite runtime"]["remedy"]


def test_a_remedy_names_no_package_that_no_index_has():
    missing = "tensorflow,keras,grpc,jinja2,rapidfuzz,google_crc32c,yaml"
    done = run_without(f"{missing},tflite_runtime,ai_edge_litert", "doctor", "--json")
    findings = {each["name"]: each for each in json.loads(done.stdout)}
    for name in ("grpcio", "jinja2", "rapidfuzz", "google-crc32c"):
        assert not findings[name]["found"]
        assert findings[name]["remedy"].startswith("pip install . in tfkd's folder")
    remedies = " ".join(each["remedy"] for each in findings.values())
    assert "install tfkd" not in remedies
    assert "'tfkd[" not in remedies


def test_an_extra_is_installed_from_the_folder_of_tfkd(monkeypatch):
    def absent(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr(doctor, "version", absent)
    extras = {each.name: each for each in diagnose() if each.is_extra}
    assert {"safetensors", "tokenizers", "num2words"} <= extras.keys()
    assert extras["num2words"].remedy.startswith("pip install '.[whisper]' in tfkd's folder")


TRAIN = ("train", "c.yaml", "--train", "a", "--valid", "b", "--out", "c")


@pytest.mark.parametrize("command", [TRAIN, ("verify", "somewhere")])
def test_a_command_without_its_packages_ends_in_one_line(command):
    done = run_without("tensorflow,keras,yaml,google_crc32c", *command)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "is not installed (pip install . in tfkd's folder;" in line


def test_an_extra_that_is_missing_is_no_failure():
    done = run_without("tensorflow_io", "doctor", "--json")
    assert done.returncode == 0
    findings = {each["name"]: each for each in json.loads(done.stdout)}
    kernels = findings["tensorflow-io kernels"]
    assert not kernels["found"]
    assert kernels["needed_for"]
    assert kernels["remedy"].startswith("Python 3.11")


def test_a_broken_package_is_a_finding_not_a_crash(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    (finding,) = (each for each in diagnose() if each.name == "sentencepiece")
    assert finding.is_missing
