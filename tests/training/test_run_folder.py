"""Markers of run folders that a kill, a full disk or another program has damaged."""

from __future__ import annotations

import pytest

from tfkd.config import TrainingConfig
from tfkd.errors import CheckpointError
from tfkd.storage.files import write_json
from tfkd.storage.markers import COMPLETE
from tfkd.training.run_folder import claim, is_finished

IDENTITY = {"config": "a", "train": "b", "valid": "c"}
DAMAGE = [b"", b'{"config": "a"', b"\0\0\0\0", b"[]", b"3", b"\xff"]


@pytest.mark.parametrize("content", DAMAGE)
def test_a_damaged_completion_marker_is_named(tmp_path, content):
    (tmp_path / COMPLETE).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"complete\.json: .*\(delete it and run"):
        is_finished(tmp_path, IDENTITY)


@pytest.mark.parametrize("content", DAMAGE)
def test_a_damaged_identity_is_named_and_stays(tmp_path, content):
    (tmp_path / "identity.json").write_bytes(content)
    with (
        pytest.raises(CheckpointError, match=r"identity\.json: .*\(choose another --out"),
        claim(tmp_path, IDENTITY, TrainingConfig()),
    ):
        pass
    assert (tmp_path / "identity.json").read_bytes() == content


@pytest.mark.parametrize("part", ["initial", "units", "language_model"])
def test_a_training_has_finished_for_its_whole_identity_alone(tmp_path, part):
    own = {**IDENTITY, part: "d"}
    write_json(tmp_path / COMPLETE, {**own, "epochs": 3})
    assert is_finished(tmp_path, own)
    assert not is_finished(tmp_path, IDENTITY)
    assert not is_finished(tmp_path, {**own, part: "e"})


def test_a_folder_is_claimed_again_for_the_same_training(tmp_path):
    for _ in range(2):
        with claim(tmp_path, IDENTITY, TrainingConfig()):
            assert not is_finished(tmp_path, IDENTITY)
    other = {**IDENTITY, "train": "x"}
    with (
        pytest.raises(CheckpointError, match="other training data"),
        claim(tmp_path, other, TrainingConfig()),
    ):
        pass
