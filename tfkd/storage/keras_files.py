"""Writes `.keras` files atomically, and reads them with typed errors."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TypeVar

import keras

from tfkd.errors import CheckpointError, TfkdError, advising
from tfkd.storage.files import atomic_write

# The name of the model in the folder of a run or of a language model.
MODEL = "model.keras"

# A file may have been compressed, but weights hardly shrink: a higher ratio is an attack.
_MAX_UNPACKED_RATIO, _HARMLESS_BYTES = 4, 1 << 24

Model = TypeVar("Model", bound=keras.Model)


def write_model(model: keras.Model, path: Path) -> None:
    """Writes `model` as a `.keras` file."""
    # Keras chooses the format by the suffix, so the temporary file needs it, too.
    temporary = path.with_name(f".{path.stem}.tmp.keras")
    try:
        model.save(temporary)
        with atomic_write(path) as file:
            file.write(temporary.read_bytes())
    finally:
        temporary.unlink(missing_ok=True)


@advising("copy the file again, or write it anew")
def read_model(path: Path, kind: type[Model]) -> Model:
    """Reads a `.keras` file.

    Raises:
      CheckpointError: if it is not one, is damaged, or holds another kind of model.
    """
    _check_archive(path)
    try:
        model = keras.saving.load_model(path, compile=False)
    except TfkdError as error:
        error.path = error.path or path
        raise
    except Exception as error:  # A damaged file may raise any exception of Keras.
        raise CheckpointError(f"cannot be loaded: {error}", path=path) from error
    if not isinstance(model, kind):
        held = type(model).__name__
        raise CheckpointError(f"holds a {held}, not a {kind.__name__}", path=path)
    return model


def _check_archive(path: Path) -> None:
    """Raises CheckpointError if a file is no archive, or would unpack to far more than its size."""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        packed = path.stat().st_size
    except (OSError, zipfile.BadZipFile) as error:
        raise CheckpointError("is not a .keras file, or is damaged", path=path) from error
    if unpacked > max(_HARMLESS_BYTES, _MAX_UNPACKED_RATIO * packed):
        raise CheckpointError(
            f"has {packed:,} bytes, which unpack to {unpacked:,}: no model does",
            path=path,
            remedy="copy it again from a source that you trust",
        )
