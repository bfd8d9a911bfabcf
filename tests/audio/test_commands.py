"""Programs that write audio into a pipe: limits, failures, and what is kept of them."""

from __future__ import annotations

import pytest

from tfkd.audio import commands
from tfkd.audio.commands import Command, output_of
from tfkd.audio.unusable import UnusableAudio


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a b; $(touch x).bin"
    path.write_bytes(bytes(range(256)) * 5000)
    return path


def command(*stages: tuple[str, ...]) -> Command:
    return Command(stages, is_needed=True)


def test_the_file_is_an_argument_and_no_shell_sees_its_name(file):
    assert output_of(command(("cat", "{}")), file) == file.read_bytes()
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_programs_read_what_those_before_them_write(file):
    assert output_of(command(("cat", "{}"), ("cat",), ("cat", "-")), file) == file.read_bytes()


def test_a_program_may_end_before_it_has_read_all(file):
    assert output_of(command(("cat", "{}"), ("head", "-c", "3")), file) == b"\0\1\2"


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([("cat", "absent-file")], "cat failed with code 1: .*absent-file"),
        ([("cat", "absent-file"), ("cat",)], "cat failed with code 1"),
        ([("no-such-program", "{}")], "needs no-such-program, which is not installed"),
    ],
)
def test_a_program_that_fails_is_named(file, stages, message):
    with pytest.raises(UnusableAudio, match=message) as caught:
        output_of(command(*stages), file)
    assert caught.value.reason == "undecodable_audio"
    assert "\n" not in str(caught.value)


def test_time_is_limited(file, monkeypatch):
    monkeypatch.setattr(commands, "MAX_SECONDS", 0.2)
    with pytest.raises(UnusableAudio, match="ran longer than 0.2 s"):
        output_of(command(("sleep", "60")), file)


def test_output_is_limited(file, monkeypatch):
    monkeypatch.setattr(commands, "MAX_BYTES", 1000)
    with pytest.raises(UnusableAudio, match="more than 1000 bytes"):
        output_of(command(("yes",)), file)
