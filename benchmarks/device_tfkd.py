"""An exported student on one thread, as on a device; random weights, and noise to listen to."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import argparse
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import timed_process

from tfkd.config import ExportConfig, SystemConfig, from_dict
from tfkd.decoding.run_writing import save_model
from tfkd.decoding.runs import MODEL, Run
from tfkd.device import DeviceRecogniser
from tfkd.exporting.tflite import write_tflite
from tfkd.models.recogniser import Recogniser
from tfkd.storage.files import sha256
from tfkd.text import CharacterTokenizer

RATE_HZ = 16000
# The end is impossible before, so that every run takes as many steps.
TOKENS = 60
# The student of configs/start.yaml, but for its units of text.
MODEL_CONFIG: dict[str, Any] = {
    "encoder": {
        "reduction": "conv",
        "time_reduction": 8,
        "conv_units": 48,
        "layers": 2,
        "units": 80,
    },
    "decoder": {"units": 87, "embedding_units": 16},
    "ctc": True,
}


def export(folder: Path, cell: str, attention: str, seconds: float) -> Path:
    """Writes the int8 `.tflite` of a student."""
    encoder, decoder = ({**MODEL_CONFIG[part], "cell": cell} for part in ("encoder", "decoder"))
    model_config = {**MODEL_CONFIG, "encoder": encoder, "decoder": decoder}
    model_config["attention"] = {"kind": attention, "units": 48}
    decoding = {"max_tokens": TOKENS, "min_tokens": TOKENS}
    system = from_dict(SystemConfig, {"model": model_config, "decoding": decoding})
    keras.utils.set_random_seed(0)
    tokenizer = CharacterTokenizer("abcdefghijklmnopqrstuvwxyz '")
    model = Recogniser(system.model, tokenizer.vocab_size)
    save_model(model, folder / MODEL)
    run = Run(folder, system, tokenizer, model, sha256(folder / MODEL))
    path = folder / "model.tflite"
    write_tflite("tflite-int8", run, path, ExportConfig(max_seconds=seconds), seconds)
    return path


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cell", required=True)
    parser.add_argument("--attention", required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--repeats", type=int, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = export(Path(folder), options.cell, options.attention, options.seconds)
        recogniser = DeviceRecogniser(path, trusted=True)
    noise = np.random.default_rng(0).normal(0, 0.1, round(RATE_HZ * options.seconds))

    def run() -> None:
        if len(recogniser.transcribe_waveform(noise.astype(np.float32))[0].token_ids) != TOKENS:
            raise RuntimeError("a hypothesis has another length")

    timed_process.report(run, options.repeats, timed_process.resident_mb())


if __name__ == "__main__":
    main()
