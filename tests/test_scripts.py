"""The scripts that show each step run, and take no shard that was not read whole before."""

from __future__ import annotations

import copy
import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tfkd.config import PrepareConfig
from tfkd.data.preparation import prepare
from tfkd.errors import RecordError

ROOT = Path(__file__).parent.parent
CONFIG = str(ROOT / "configs" / "digits.yaml")


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("training/train_teacher.py", (CONFIG, "{damaged}", "{whole}", "{out}")),
        ("training/train_teacher.py", (CONFIG, "{whole}", "{damaged}", "{out}")),
        ("training/generate_pseudo_labels.py", ("{teacher}", "{damaged}", "{out}")),
        ("training/train_student.py", (CONFIG, "{damaged}", "{whole}", "{out}")),
        ("training/train_student.py", (CONFIG, "{labels}", "{damaged}", "{out}")),
        ("export/export_savedmodel.py", ("{teacher}", "{out}", "{damaged}")),
        ("export/export_tflite.py", ("{teacher}", "{out}", "{damaged}")),
    ],
)
def test_a_damaged_shard_is_named_before_anything_is_written(
    script, arguments, prepared, labels, teacher, tmp_path, monkeypatch
):
    damaged = shutil.copytree(prepared["valid"].directory, tmp_path / "damaged")
    shard = next((damaged / "shards").glob("*.tfrecord"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1  # The size stays the same.
    shard.write_bytes(content)
    places = {
        "damaged": damaged,
        "whole": prepared["valid"].directory,
        "labels": labels.directory,
        "teacher": teacher.directory,
        "out": tmp_path / "out",
    }
    monkeypatch.setattr(sys, "argv", [script, *(each.format(**places) for each in arguments)])
    with pytest.raises(RecordError, match=f"{shard.name}.*damaged record"):
        runpy.run_path(str(ROOT / script), run_name="__main__")
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def digits(shared_data, tmp_path_factory) -> Path:
    """Folder with stores of a few real recordings, `train` and `valid`."""
    directory = tmp_path_factory.mktemp("digits")
    for split, count in {"train": 16, "valid": 6}.items():
        source = shared_data / "digits"
        rows = [json.loads(line) for line in (source / f"{split}.jsonl").read_text().splitlines()]
        manifest = directory / f"{split}.jsonl"
        manifest.write_text(
            "".join(
                json.dumps(row | {"audio": str(source / row["audio"])}) + "\n"
                for row in rows[:count]
            )
        )
        prepare(manifest, directory / split, PrepareConfig())
    return directory


def script(name: str, *arguments: object) -> str:
    """Runs a script as a user does, and returns what it prints."""
    command = [sys.executable, str(ROOT / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_scripts_lead_from_real_audio_to_a_device(digits, tiny_settings, tmp_path):
    """Each with what the one before it wrote; the teacher learns enough to end its hypotheses."""
    settings = copy.deepcopy(tiny_settings)
    settings["tokenizer"] = {"alphabet": " abcdefghijklmnopqrstuvwxyz"}
    settings["model"]["frontend"]["sample_rate_hz"] = 16000
    settings["training"] |= {"epochs": 1, "objective": {"kind": "seq_kd", "num_hypotheses": 2}}
    run = {"work_dir": "work", "teacher": settings, "student": settings}
    run["teacher"] = settings | {"training": settings["training"] | {"epochs": 25, "objective": {}}}
    config = tmp_path / "tiny.yaml"
    config.write_text(json.dumps(run))
    train, valid = digits / "train", digits / "valid"
    teacher, labels, student, out = (
        tmp_path / name for name in ("teacher", "labels", "student", "export")
    )
    script("training/train_teacher.py", config, train, valid, teacher)
    assert "16 labelled" in script("training/generate_pseudo_labels.py", teacher, train, labels)
    script("training/train_student.py", config, labels, valid, student)
    assert "100%" in script("export/export_savedmodel.py", student, out, valid)
    # So little training leaves choices so near to each other that rounding to 16 bits changes some.
    exported = script("export/export_tflite.py", student, out, valid, "tflite-float32")
    assert "model-float32.tflite" in exported
    recording = json.loads((digits / "valid.jsonl").read_text().splitlines()[0])["audio"]
    printed = script("export/transcribe_tflite.py", out / "model-float32.tflite", recording)
    assert printed.startswith(recording)
