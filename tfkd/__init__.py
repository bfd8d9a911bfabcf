"""tfkd: compress attention speech recognisers by sequence-level knowledge distillation.

The public names, each loaded when it is first used: importing the package loads nothing heavy, so
that `tfkd --help` and `tfkd transcribe` start at once and the device side works where TensorFlow is
not installed.

Example:
    >>> import tfkd
    >>> run = tfkd.load_run("work/teacher")
    >>> store = tfkd.open_store("work/data/test")
    >>> summary = tfkd.evaluate(tfkd.open_model("work/teacher"), store)[0]
    >>> summary.utterances
    6
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfkd import beam_search, config, objectives
    from tfkd.config import load_run_config, load_system_config
    from tfkd.data.audio_batches import audio_batches
    from tfkd.data.preparation import prepare
    from tfkd.decoding.decoder import Decoder
    from tfkd.decoding.run_writing import save_run
    from tfkd.decoding.runs import Run, load_run
    from tfkd.device.recogniser import DeviceRecogniser
    from tfkd.distillation.labelling import label
    from tfkd.errors import TfkdError
    from tfkd.evaluation.evaluate import evaluate
    from tfkd.evaluation.models import open_model
    from tfkd.exporting.export import export
    from tfkd.metrics import score
    from tfkd.models.recogniser import Recogniser
    from tfkd.records import Store, open_store
    from tfkd.training import callbacks
    from tfkd.training.batches import batches
    from tfkd.training.loop import train

__version__ = "0.1.0"

# Where each public name is defined; a module that is public itself stands with its parent.
_HOMES = {
    "Decoder": "tfkd.decoding.decoder",
    "DeviceRecogniser": "tfkd.device.recogniser",
    "Recogniser": "tfkd.models.recogniser",
    "Run": "tfkd.decoding.runs",
    "Store": "tfkd.records",
    "TfkdError": "tfkd.errors",
    "audio_batches": "tfkd.data.audio_batches",
    "batches": "tfkd.training.batches",
    "beam_search": "tfkd",
    "callbacks": "tfkd.training",
    "config": "tfkd",
    "evaluate": "tfkd.evaluation.evaluate",
    "export": "tfkd.exporting.export",
    "label": "tfkd.distillation.labelling",
    "load_run": "tfkd.decoding.runs",
    "load_run_config": "tfkd.config",
    "load_system_config": "tfkd.config",
    "objectives": "tfkd",
    "open_model": "tfkd.evaluation.models",
    "open_store": "tfkd.records",
    "prepare": "tfkd.data.preparation",
    "save_run": "tfkd.decoding.run_writing",
    "score": "tfkd.metrics",
    "train": "tfkd.training.loop",
}
_MODULES = {"beam_search", "callbacks", "config", "objectives"}

__all__ = [
    "Decoder",
    "DeviceRecogniser",
    "Recogniser",
    "Run",
    "Store",
    "TfkdError",
    "__version__",
    "audio_batches",
    "batches",
    "beam_search",
    "callbacks",
    "config",
    "evaluate",
    "export",
    "label",
    "load_run",
    "load_run_config",
    "load_system_config",
    "objectives",
    "open_model",
    "open_store",
    "prepare",
    "save_run",
    "score",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tfkd' has no attribute {name!r}")
    if name in _MODULES:
        return importlib.import_module(f"{_HOMES[name]}.{name}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
