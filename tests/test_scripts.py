"""The scripts that show each step take no shard that was not read whole before."""

from __future__ import annotations

import runpy
import shutil
import sys
from pathlib import Path

import pytest

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
