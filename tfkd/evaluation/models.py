"""Opens a recogniser from a run or from an exported form."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tfkd.decoding.runs import MODEL, check_no_whisper, load_run, run_identity
from tfkd.errors import CheckpointError, ConfigError
from tfkd.exporting.forms import form_of
from tfkd.exporting.graph import decode_with
from tfkd.exporting.interface import OpenForm
from tfkd.storage.files import directory_bytes
from tfkd.storage.known_files import is_known

KERAS = "keras"


def open_model(
    path: str | Path, overrides: Sequence[str] = (), *, trusted: bool = False
) -> OpenForm:
    """Opens a recogniser of any form.

    Args:
      path: folder of a run, folder of a SavedModel, or .tflite file.
      overrides: "key=value" settings for the search of a run.
      trusted: whether to open a form that this machine did not export in this process. A
        SavedModel is a program: TensorFlow runs any code that it contains. A .tflite that is not
        trusted runs in a child process.
    Raises:
      CheckpointError: if `path` is none of these, is damaged, or is not trusted.
      ConfigError: if an override is invalid, or given for an exported form.

    >>> tfkd.open_model("work/export/model-float32.tflite").form
    'tflite-float32'
    """
    model = Path(path)
    if _is_run(model):
        return _open_run(model, overrides)
    check_no_whisper(model)
    form = form_of(model)
    if overrides:
        raise ConfigError(
            "the search of an exported form cannot be changed",
            path=model,
            remedy="export again with other settings",
        )
    if form.runs_code and not trusted and not is_known(form.identity(model)):
        raise CheckpointError(
            f"is a {form.name} that this machine did not export; opening it runs any code in it",
            path=model,
            remedy="give --trust if you trust its source",
        )
    return form.open(model, trusted=trusted)


def model_identity(path: str | Path) -> str:
    """Computes the sha256 of all files that a recogniser's output depends on.

    Raises:
      CheckpointError: if `path` holds no recogniser of a known form.
      LanguageModelError: if the language model of a run's search is missing.
    """
    model = Path(path)
    if _is_run(model):
        return run_identity(model)
    return form_of(model).identity(model)


def _is_run(path: Path) -> bool:
    return (path / MODEL).is_file()


def _open_run(directory: Path, overrides: Sequence[str]) -> OpenForm:
    run = load_run(directory).with_decoding(overrides)
    return OpenForm(
        path=directory,
        form=KERAS,
        parameters=run.model.count_params(),
        bytes=directory_bytes(directory / MODEL),
        sample_rate_hz=run.sample_rate_hz,
        pieces=run.tokenizer.pieces,
        batch_size=run.system.training.batch_size,
        max_samples=None,
        decode=decode_with(run.decoder()),
    )
