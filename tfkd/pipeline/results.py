"""What results say of a job beside its error rates: its config, and how its trainings went."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tfkd.config import WHISPER_PREFIX, RunConfig, to_dict
from tfkd.distillation.teachers import is_run
from tfkd.storage.json_files import read_json_lines
from tfkd.storage.markers import HISTORY


def published(config: RunConfig) -> dict[str, Any]:
    """The config as results hold it, without the folders of this machine."""
    own = {**to_dict(config), "work_dir": "", "data_dir": ""}
    if isinstance(config.teacher, str):
        prefix = "" if is_run(config.teacher) else WHISPER_PREFIX
        own["teacher"] = f"{prefix}{Path(config.teacher.removeprefix(prefix)).name}"
    return own


def best_validation(run: Path) -> float:
    """Reads the lowest WER, a share, that a training reached on the validation data."""
    rows = read_json_lines(run / HISTORY, {"val_wer": float})
    return min(row["val_wer"] for row in rows)
