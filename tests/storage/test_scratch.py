"""Temporary folders of killed processes are removed by the next; those of living ones are not."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile

import pytest

from tfkd.storage.scratch import scratch_folder

HOLDER = """
import sys
from tfkd.storage.scratch import scratch_folder
with scratch_folder() as folder:
    (folder / "audio").write_bytes(b"x")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def test_nothing_stays_behind(temporary):
    with scratch_folder() as folder:
        assert list(folder.iterdir()) == []
        (folder / "audio").write_bytes(b"x")
        assert folder.is_relative_to(temporary)
    assert list(temporary.iterdir()) == []
    with pytest.raises(KeyError), scratch_folder() as folder:
        raise KeyError
    assert list(temporary.iterdir()) == []


def test_what_a_killed_process_left_is_removed_and_a_living_ones_is_kept(temporary):
    stranger = temporary / "tfkd-scratch-of-somebody"
    (stranger / "content").mkdir(parents=True)
    (stranger / "content" / "thesis.txt").write_text("not ours")
    holders = [
        subprocess.Popen(
            [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    killed, living = (holder.stdout.readline().strip() for holder in holders)
    holders[0].send_signal(signal.SIGKILL)
    holders[0].wait()
    before = {path.name for path in temporary.iterdir()}
    with scratch_folder() as folder:
        after = {path.name for path in temporary.iterdir()} - {folder.parent.name}
    assert before - after == {killed.split("/")[-2]}
    assert {stranger.name, living.split("/")[-2]} == after
    holders[1].communicate()
    assert list(temporary.iterdir()) == [stranger]
    assert (stranger / "content" / "thesis.txt").exists()
