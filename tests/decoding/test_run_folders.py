"""A run folder is read whole, or the file at fault is named."""

from __future__ import annotations

import shutil

import pytest
import yaml

from tfkd.decoding.runs import CONFIG, load_run
from tfkd.errors import CheckpointError, ConfigError


@pytest.fixture
def copied(teacher, tmp_path):
    return shutil.copytree(teacher.directory, tmp_path / "run")


def test_a_config_that_was_cut_gives_no_default_in_silence(copied, teacher):
    """A cut YAML file is often YAML: the settings that are missing would become defaults.

    Seen wherever a section or the end of a line is lost.
    """
    whole = (copied / CONFIG).read_bytes()
    assert load_run(copied).system == teacher.system
    last_section = whole.index(b"\ndecoding:")
    cuts = [n for n in range(0, len(whole), 53) if n < last_section or whole[n - 1 : n] != b"\n"]
    assert len(cuts) > 20
    for length in cuts:
        (copied / CONFIG).write_bytes(whole[:length])
        with pytest.raises((CheckpointError, ConfigError), match=CONFIG):
            load_run(copied)


def test_the_config_of_another_model_is_refused(copied):
    content = yaml.safe_load((copied / CONFIG).read_text())
    content["model"]["encoder"]["units"] += 1
    (copied / CONFIG).write_text(yaml.safe_dump(content))
    with pytest.raises(CheckpointError, match=r"config\.yaml: describes another model than"):
        load_run(copied)
