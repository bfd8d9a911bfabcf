"""`tfkd doctor` prints what this machine has, what commands lack, and how to install it."""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from tfkd.cli.exit_codes import EXIT_FAILED
from tfkd.cli.printing import say
from tfkd.environment import provenance
from tfkd.errors import TfkdError

INSTALL_TFKD = "pip install . in tfkd's folder"
_ALL_BUT_TRANSCRIBE = "all but transcribe"
_CPU_FEATURES = ("avx2", "avx512f", "amx_tile", "neon", "asimd")


@dataclass(frozen=True)
class Finding:
    """One property or package of the machine that was looked for.

    Attributes:
      found: its version or value; empty if it is missing.
      needed_for: the commands that need it; empty if none does.
      remedy: how to get it; empty where nothing is missing.
      is_extra: whether most users do without it, so that its absence is no failure.
    """

    name: str
    found: str
    needed_for: str = ""
    remedy: str = ""
    is_extra: bool = False

    @property
    def is_missing(self) -> bool:
        """Whether it is missing and not only an extra."""
        return bool(self.needed_for and not self.found and not self.is_extra)


def doctor(options: argparse.Namespace) -> None:
    """Prints the findings; exits with status 1 if a command lacks something."""
    findings = list(diagnose())
    if options.json:
        say(json.dumps([asdict(each) for each in findings], indent=1))
    else:
        from tfkd.reporting.tables import table

        rows = [
            [each.name, each.found or "missing", each.needed_for, each.remedy] for each in findings
        ]
        say(table(["what", "found", "needed for", "how to get it"], rows))
    if any(each.is_missing for each in findings):
        sys.exit(EXIT_FAILED)


def diagnose() -> Iterator[Finding]:
    """Yields findings about the machine, then what devices need, then everything else."""
    yield Finding("Python", platform.python_version())
    yield Finding("machine", str(provenance()["hardware"]))
    yield Finding("processor features", ", ".join(_cpu_features()) or "not told by this system")
    yield _tried("numpy", "transcribe", "pip install numpy", _version_of("numpy"))
    # Without numpy there is none; what else is missing, its own error tells.
    yield _tried("TFLite runtime", "transcribe", "pip install numpy", _runtime)
    yield _tried("soundfile", "audio other than wav", "pip install soundfile", _audio_formats)
    yield _tried("TensorFlow", _ALL_BUT_TRANSCRIBE, INSTALL_TFKD, _tensorflow)
    for module, package, needed_for in (
        ("keras", "keras", _ALL_BUT_TRANSCRIBE),
        ("sentencepiece", "sentencepiece", _ALL_BUT_TRANSCRIBE),
        ("yaml", "PyYAML", _ALL_BUT_TRANSCRIBE),
        ("jiwer", "jiwer", _ALL_BUT_TRANSCRIBE),
        ("rapidfuzz", "rapidfuzz", _ALL_BUT_TRANSCRIBE),
        ("google_crc32c", "google-crc32c", _ALL_BUT_TRANSCRIBE),
        ("tqdm", "tqdm", _ALL_BUT_TRANSCRIBE),
        ("grpc", "grpcio", "serve-input, training.input_service"),
        ("jinja2", "jinja2", "filter-report"),
    ):
        yield _tried(package, needed_for, INSTALL_TFKD, _version_of(module, package))
    yield _tried("tensorflow-io kernels", "stores in a graph", "Python 3.11 with TensorFlow 2.16",
                 _tensorflow_io, is_extra=True)  # fmt: skip
    for package, extra, needed_for in (
        ("apache-beam", "beam", "label --runner"),
        ("matplotlib", "report", "figures of report"),
        ("tokenizers", "whisper", "whisper:FOLDER"),
        ("safetensors", "whisper", "whisper:FOLDER"),
        ("num2words", "whisper", "labels.whisper.numbers"),
    ):
        remedy = f"pip install '.[{extra}]' in tfkd's folder"
        yield _tried(package, needed_for, remedy, _installed(package), is_extra=True)


def _tried(
    name: str, needed_for: str, remedy: str, look: Callable[[], str], is_extra: bool = False
) -> Finding:
    """Returns the finding of `look`; a package that raises on import counts as missing.

    The remedy of an error of tfkd, if it has one, takes the place of `remedy`.
    """
    try:
        return Finding(name, look(), needed_for, is_extra=is_extra)
    except TfkdError as error:
        return Finding(
            name, "", needed_for, f"{error.remedy or remedy} ({error.message})", is_extra
        )
    except Exception as error:
        reason = " ".join(str(error).split())[:120]
        return Finding(name, "", needed_for, f"{remedy} ({reason})", is_extra)


def _installed(package: str) -> Callable[[], str]:
    """Returns a function that looks up the version of a package without importing it."""
    return lambda: version(package)


def _version_of(module: str, package: str | None = None) -> Callable[[], str]:
    """Returns a function that imports a module and returns its version."""

    def look() -> str:
        importlib.import_module(module)
        return version(package or module)

    return look


def _runtime() -> str:
    from tfkd.device.interpreter import RUNTIMES, find_runtime

    name, _ = find_runtime(RUNTIMES)
    return f"{name} {version(name.replace('_', '-'))}"


def _audio_formats() -> str:
    import soundfile

    formats = soundfile.available_formats()
    named = [each for each in ("WAV", "FLAC", "OGG", "MP3") if each in formats]
    return f"{soundfile.__libsndfile_version__}: {', '.join(named)}"


def _tensorflow() -> str:
    import tensorflow as tf

    devices = tf.config.list_physical_devices()
    kinds = sorted({device.device_type for device in devices})
    return f"{tf.__version__} on {', '.join(kinds)}"


def _tensorflow_io() -> str:
    """Runs a kernel: with another version of TensorFlow importing succeeds, but kernels fail."""
    import tensorflow as tf
    import tensorflow_io as tfio

    tfio.audio.resample(tf.zeros([32, 1]), 16000, 8000)
    return version("tensorflow-io")


def _cpu_features() -> list[str]:
    info = Path("/proc/cpuinfo")
    words = set(info.read_text().split()) if info.exists() else set()
    return [feature for feature in _CPU_FEATURES if feature in words]
