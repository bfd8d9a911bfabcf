"""Long work tells how far it has come."""

from __future__ import annotations

import io

import pytest

from tfkd.progress import progress_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def said_by_work_of(
    seconds: float, steps: int, monkeypatch, stream: io.StringIO, batch: int = 1
) -> str:
    """What a loop says whose steps take `seconds` each, and do `batch` utterances each."""
    now = 0.0
    monkeypatch.setattr("sys.stderr", stream)
    with progress_bar(total=steps * batch, desc="label", unit="utt") as bar:
        bar._time = lambda: now
        bar.start_t = bar.last_print_t = now
        for _ in range(steps):
            now += seconds
            for _ in range(batch):
                bar.update()
    return stream.getvalue()


def test_a_log_gets_a_line_every_minute(monkeypatch):
    said = said_by_work_of(20.0, 10, monkeypatch, io.StringIO())
    first, *_ = lines = said.splitlines()
    assert len(lines) == 3
    assert first.startswith("label: 2 of 10 utt in 01:00, 04:00 left")
    assert "\r" not in said


def test_what_a_line_tells_of_batches_is_whole_batches(monkeypatch):
    said = said_by_work_of(40.0, 5, monkeypatch, io.StringIO(), batch=32)
    assert [line.split(" of ")[0] for line in said.splitlines()] == ["label: 32", "label: 96"]


def test_the_first_batch_is_told_of_when_it_is_done(monkeypatch):
    said = said_by_work_of(90.0, 3, monkeypatch, io.StringIO(), batch=8)
    assert [line.split(" in ")[0] for line in said.splitlines()] == [
        "label: 8 of 24 utt",
        "label: 16 of 24 utt",
    ]


def test_work_of_less_than_a_minute_leaves_a_log_alone(monkeypatch):
    assert said_by_work_of(5.0, 10, monkeypatch, io.StringIO()) == ""


def test_a_terminal_has_a_bar(monkeypatch):
    said = said_by_work_of(20.0, 10, monkeypatch, Terminal())
    assert "\r" in said
    assert "10/10" in said


def test_a_loop_of_unknown_length_tells_what_is_done(monkeypatch):
    stream, now = io.StringIO(), 0.0
    monkeypatch.setattr("sys.stderr", stream)
    bar = progress_bar(iter("abc"), desc="lm-text", unit="sentences")
    bar._time = lambda: now
    bar.start_t = bar.last_print_t = now
    for _ in bar:
        now += 70.0
    assert stream.getvalue().splitlines() == [
        "lm-text: 1 sentences in 02:20",
        "lm-text: 2 sentences in 03:30",
    ]


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_what_is_looped_over_comes_through(monkeypatch, stream):
    monkeypatch.setattr("sys.stderr", stream)
    assert list(progress_bar(range(5), desc="compare", unit="shard", total=5)) == [0, 1, 2, 3, 4]
