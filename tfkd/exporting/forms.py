"""The table of export forms; a row holds everything that differs between them.

To add a form, write a module with its `write`, `open` and `owns`, add its row here and its name to
`ExportFormat` in `tfkd.config.export`. Export, parity check, evaluation, `tfkd run` and the command
line need no change.
"""

from __future__ import annotations

from pathlib import Path

from tfkd.errors import CheckpointError
from tfkd.exporting import savedmodel, tflite
from tfkd.exporting.interface import Form
from tfkd.storage.files import sha256_of_tree


def _tflite_form(name: str, *, is_exact: bool = False) -> Form:
    return Form(
        name=name,
        file_name=tflite.file_name(name),
        write=tflite.writer(name),
        open=tflite.open_tflite,
        owns=tflite.is_tflite,
        identity=sha256_of_tree,
        is_exact=is_exact,
        on_device=True,
        runs_code=False,
    )


_FORMS = (
    Form(
        name=savedmodel.NAME,
        file_name="savedmodel",
        write=savedmodel.write_savedmodel,
        open=savedmodel.open_savedmodel,
        owns=savedmodel.is_savedmodel,
        identity=sha256_of_tree,
        is_exact=True,
        on_device=False,
        runs_code=True,
    ),
    _tflite_form("tflite-float32", is_exact=True),
    _tflite_form("tflite-float16"),
    _tflite_form("tflite-int8"),
)
FORMS = {form.name: form for form in _FORMS}


def form_of(path: Path) -> Form:
    """Returns the form of the file or folder at `path`.

    Raises:
      CheckpointError: if it is none of the table's.
    """
    for form in FORMS.values():
        if form.owns(path):
            return form
    raise CheckpointError(
        "is neither the folder of a run, nor a SavedModel, nor a .tflite file",
        path=path,
        remedy="give a folder that tfkd train wrote, or a file or folder that tfkd export wrote",
    )
