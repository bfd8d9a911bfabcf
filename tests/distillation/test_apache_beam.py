"""Workers of a runner write the very store that one process writes."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

pytest.importorskip("apache_beam", reason="needs pip install 'tfkd[beam]'")

from tfkd import cli
from tfkd.distillation.apache_beam import LabelShard, label_with_beam
from tfkd.distillation.teachers import RunTeacher
from tfkd.errors import ClusterError, ConfigError, RecordError
from tfkd.records import Store, is_written, open_store

# Two processes, each with a teacher of its own.
TWO_WORKERS = ("direct_running_mode=multi_processing", "direct_num_workers=2")


def shards_of(store: Store) -> dict[str, bytes]:
    """Every shard and sidecar, by name."""
    return {path.name: path.read_bytes() for path in (store.directory / "shards").iterdir()}


def broken_copy(labels: Store, directory: Path) -> Path:
    """The labels without two of their shards, as after a crash before the last marker."""
    out = shutil.copytree(labels.directory, directory / "labels")
    for path in labels.shard_paths[1:3]:
        (out / "shards" / path.name).unlink()
    return out


@pytest.fixture
def task_on(teacher, prepared, label_config):
    """A worker that is set up to write into a folder."""

    def make(out: Path, config=label_config) -> LabelShard:
        task = LabelShard(
            str(teacher.directory), str(prepared["train"].directory), str(out), config
        )
        task.setup()
        return task

    return make


@pytest.mark.slow
def test_two_worker_processes_write_the_bytes_of_one(
    teacher, prepared, labels, label_config, tmp_path, capsys
):
    settings = {
        "--data": prepared["train"].directory,
        "--out": tmp_path / "labels",
        "--beam-width": label_config.beam_width,
        "--num-hypotheses": label_config.num_hypotheses,
        "--batch-size": label_config.batch_size,
        "--runner": "direct",
    }
    arguments = [str(part) for setting in settings.items() for part in setting]
    options = [f"--runner-option={option}" for option in TWO_WORKERS]
    cli.main(["label", str(teacher.directory), *arguments, *options])
    assert capsys.readouterr().out.startswith("24 utterances labelled, 1 rejected, 25 in all")
    store = open_store(tmp_path / "labels")
    store.verify(deep=True)
    assert store.summary == labels.summary
    assert shards_of(store) == shards_of(labels)
    assert list(store.records()) == list(labels.records())


@pytest.mark.slow
def test_workers_finish_what_is_missing(teacher, prepared, labels, label_config, tmp_path):
    out = broken_copy(labels, tmp_path)
    before = (out / "shards" / labels.shard_paths[0].name).stat()
    summary = label_with_beam(teacher, prepared["train"], out, label_config, runner="direct")
    assert summary == labels.summary
    assert shards_of(open_store(out)) == shards_of(labels)
    assert open_store(out).shard_paths[0].stat().st_ino == before.st_ino


def test_audio_that_the_teacher_cannot_follow_is_named(
    teacher, prepared, labels, label_config, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(RunTeacher, "usual_seconds", 0.1)
    finished = shutil.copytree(labels.directory, tmp_path / "labels")
    label_with_beam(teacher, prepared["train"], finished, label_config, runner="direct")
    assert "much longer than the 0.1 s that the teacher knows" in caplog.text


@pytest.mark.slow
def test_a_repeated_bundle_changes_nothing(labels, task_on, tmp_path):
    out = broken_copy(labels, tmp_path)
    task = task_on(out)
    task.process(1)
    path = out / "shards" / labels.shard_paths[1].name
    written = path.stat()
    task.process(1)
    assert path.read_bytes() == labels.shard_paths[1].read_bytes()
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (written.st_ino, written.st_mtime_ns)
    assert is_written(out, labels.plan, 1)
    assert not is_written(out, labels.plan, 2)


def test_a_worker_with_other_settings_refuses(labels, label_config, task_on):
    with pytest.raises(ClusterError, match="plan.json: was made by another plan: its settings are"):
        task_on(labels.directory, dataclasses.replace(label_config, beam_width=2))


def test_an_option_that_beam_refuses_is_one_line(teacher, prepared, label_config, tmp_path, capfd):
    settings = {"runner": "direct", "options": ["--direct_num_workers=abc"]}
    with pytest.raises(ConfigError, match="the runner refuses a --runner-option"):
        label_with_beam(teacher, prepared["train"], tmp_path, label_config, **settings)
    assert "direct_num_workers" in capfd.readouterr().err


def test_what_fails_in_a_worker_is_one_line(
    teacher, prepared, labels, label_config, tmp_path, monkeypatch
):
    out = broken_copy(labels, tmp_path)
    absent = dataclasses.replace(prepared["train"], directory=tmp_path / "absent")
    for name, found in (("label_plan", labels.plan), ("warn_of_long_audio", None)):
        monkeypatch.setattr(f"tfkd.distillation.apache_beam.{name}", lambda *_, it=found: it)
    with pytest.raises(ClusterError, match="absent: is not a store.*the same command") as raised:
        label_with_beam(teacher, absent, out, label_config, runner="direct")
    assert "\n" not in str(raised.value)
    with pytest.raises(RecordError, match="is not complete"):
        open_store(out)
