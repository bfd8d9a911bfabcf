"""Writes one of everything that tfkd keeps: a store, a run, a checkpoint, labels and exports.

    python tests/written_files.py OUT

`test_earlier_versions.py` reads the folder, under this or another version of Python, TensorFlow and
tfkd; `expected.json` is what this one says of the six utterances of `valid`.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import soundfile
from conftest import EXPORT, LABELS, PREPARE, RATE_HZ, SYSTEM, say, write_corpus

from tfkd.config import SystemConfig, from_dict
from tfkd.data.audio_batches import audio_batches
from tfkd.data.preparation import prepare
from tfkd.decoding.decoder import decode_dataset
from tfkd.decoding.runs import Run
from tfkd.distillation.labelling import label
from tfkd.exporting.export import export
from tfkd.records import Store, open_store
from tfkd.training.loop import train


def main() -> None:
    out = Path(sys.argv[1])
    out.mkdir(parents=True)
    write_corpus(out / "corpus", speak)
    stores = {}
    for split in ("train", "valid"):
        prepare(out / "corpus" / f"{split}.jsonl", out / split, PREPARE)
        stores[split] = open_store(out / split)
    run = train(from_dict(SystemConfig, SYSTEM), stores["train"], stores["valid"], out / "run")
    label(run, stores["train"], out / "labels", LABELS)
    forms = dataclasses.replace(EXPORT, formats=("savedmodel", "tflite-float32"))
    for form in export(run, out / "exports", forms, stores["valid"]):
        shutil.move(out / "exports" / form.path, out)
    (out / "expected.json").write_text(json.dumps(expected(run, stores["valid"]), indent=1))


def speak(path: Path, text: str, seed: int) -> Path:
    soundfile.write(path, say(text, np.random.default_rng(seed)), RATE_HZ)
    return path


def expected(run: Run, valid: Store) -> list[dict]:
    """A row for each utterance, by its id."""
    rows = []
    for each in decode_dataset(run.decoder(), list(audio_batches(valid, 6))):
        count = each.result.num_tokens[0]
        rows.append(
            {
                "utterance_id": each.utterance_id,
                "text": each.best_text,
                "token_ids": each.result.token_ids[0, :count].tolist(),
                "log_prob": float(each.result.log_prob[0]),
            }
        )
    return sorted(rows, key=lambda row: row["utterance_id"])


if __name__ == "__main__":
    main()
