"""Ties a folder to one training: its identity, its lock, and the marker that it has ended."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tfkd.config import overrides_of, to_dict
from tfkd.config.strict_yaml import read_yaml
from tfkd.decoding.runs import CONFIG
from tfkd.errors import CheckpointError
from tfkd.records.plan import OTHER_FOLDER
from tfkd.storage.files import write_json
from tfkd.storage.json_files import read_json_object
from tfkd.storage.locks import locked
from tfkd.storage.markers import COMPLETE, IDENTITY, PLAN

_NAMES = {"config": "settings", "train": "training data", "valid": "validation data",
          "initial": "weights to begin from", "units": "tokenizer",
          "language_model": "language model"}  # fmt: skip


@contextlib.contextmanager
def claim(out: Path, identity: dict[str, str], config: Any) -> Iterator[None]:
    """Marks `out` as this training's folder and locks it until the block ends.

    Raises:
      CheckpointError: see `check_owner`, which explains the arguments, too.
      BusyError: if another process trains into it.
    """
    with locked(out):
        check_owner(out, identity, config)
        write_json(out / IDENTITY, identity)
        yield


def check_owner(out: Path, identity: dict[str, str], config: Any) -> None:
    """Checks that a training may begin or go on in `out`.

    Args:
      identity: digests of the settings (`config`), the data and the initial weights.
      config: the settings, to report which of them differ.
    Raises:
      CheckpointError: if the folder belongs to another training (it says what differs) or holds a
        store.
    """
    path = out / IDENTITY
    if (out / PLAN).exists():
        raise CheckpointError(
            "holds prepared audio or pseudo labels", path=out, remedy="choose another --out"
        )
    earlier = _read_identity(path) if path.exists() else identity
    if earlier != identity:
        raise CheckpointError(
            "holds a run of other settings or data: "
            + "; ".join(_differences(out, earlier, identity, config)),
            path=out,
            remedy=OTHER_FOLDER,
        )


def _read_identity(path: Path) -> dict[str, Any]:
    # Without the identity, the checkpoints beside it may be of other settings or data.
    return read_json_object(path, remedy=OTHER_FOLDER, error=CheckpointError)


def is_finished(out: Path, identity: dict[str, str]) -> bool:
    """Whether `out` holds the finished training of this identity."""
    marker = out / COMPLETE
    if not marker.exists():
        return False
    content = read_json_object(marker, error=CheckpointError)
    return {key: value for key, value in content.items() if key in _NAMES} == identity


def _differences(
    out: Path, earlier: dict[str, str], identity: dict[str, str], config: Any
) -> Iterator[str]:
    names = {**identity, **earlier}
    for name in (name for name in names if earlier.get(name) != identity.get(name)):
        # An earlier process may have been killed before it wrote the config.
        if name == "config" and (out / CONFIG).exists():
            yield from _changes(read_yaml(out / CONFIG), to_dict(config))
        else:
            yield f"other {_NAMES.get(name, name)}"


def _changes(there: dict[str, Any], here: dict[str, Any]) -> Iterator[str]:
    old, new = overrides_of(there), overrides_of(here)
    for place, own, other in (("there", old, new), ("here", new, old)):
        if changed := [setting for setting in own if setting not in other]:
            yield f"{place} {', '.join(changed)}"
