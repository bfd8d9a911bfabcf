"""The numbers of the filter report by hand, and its page as a browser would read it."""

from __future__ import annotations

import base64
import dataclasses
import io
import math
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tfkd import cli
from tfkd.config import FilterConfig
from tfkd.decoding.run_writing import save_run
from tfkd.distillation import filter_page
from tfkd.distillation.filter_page import filter_page as render
from tfkd.distillation.filter_report import report_filters
from tfkd.distillation.filters import FILTERS
from tfkd.models.recogniser import Recogniser
from tfkd.objectives import SequenceKD, survey
from tfkd.records import (
    PSEUDO_LABELS,
    Hypothesis,
    Plan,
    PseudoLabelRecord,
    Store,
    StoreWriter,
    UtteranceRecord,
    open_store,
)
from tfkd.text import CharacterTokenizer

ATTACK = "<script>alert('one')</script>"
FILTERS_ON = FilterConfig(max_wer=0.5, min_coverage=0.5)
STRAIGHT = (0.1, 0.4, 0.9)


def flac(seconds: float) -> bytes:
    samples = 0.3 * np.sin(np.arange(int(8000 * seconds)) / 5)
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, 8000, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def hypothesis(text: str, log_prob: float, coverage: float = 0.9, **changes) -> Hypothesis:
    plain = Hypothesis(text, (4, 5, 3), log_prob, log_prob, (-1.0,) * 3, STRAIGHT, "eos", coverage)
    return dataclasses.replace(plain, **changes)


def utterance(name: str, seconds: float, text: str | None) -> UtteranceRecord:
    return UtteranceRecord(name, flac(seconds), int(8000 * seconds), 8000, text)


RECORDS = [
    PseudoLabelRecord(
        utterance("a-right", 0.9, "one two"),
        (hypothesis("one two", -0.5), hypothesis("one  two", -1.5), hypothesis("six six", -2.0)),
    ),
    # The best is removed for its coverage; the next has one of two words wrong.
    PseudoLabelRecord(
        utterance("b-second", 1.8, "one two"),
        (hypothesis("one two", -0.5, coverage=0.4), hypothesis("one too", -1.0)),
    ),
    PseudoLabelRecord(utterance("c-wrong", 2.7, "two"), (hypothesis("six", -3.0),)),
    PseudoLabelRecord(
        utterance("d-mute", 3.6, None),
        (hypothesis(ATTACK, -1.0, token_seconds=(2.0, 0.5, 0.0)),),
    ),
]


def written(out: Path, records: list[PseudoLabelRecord]) -> Store:
    ids = [record.utterance_id for record in records]
    plan = Plan.create(PSEUDO_LABELS, ids, "by hand", {"utterances": "none"}, 2)
    with StoreWriter(out, plan) as writer:
        for number in writer.pending_shards():
            chosen = set(plan.shards[number])
            writer.write_shard(number, (r for r in records if r.utterance_id in chosen))
        writer.complete()
    return open_store(out)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return written(tmp_path_factory.mktemp("labels"), RECORDS)


class Reader(HTMLParser):
    """Counts elements, and keeps texts and every attribute value."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: Counter[str] = Counter()
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.elements[tag] += 1
        self.attributes += [(name, value or "") for name, value in attributes]

    def handle_data(self, data):
        self.texts.append(data.strip())


# --- numbers


def test_what_there_is_and_what_is_left(store):
    report = report_filters(store, FILTERS_ON, examples_per_reason=1)
    before, after = report.before, report.after
    # Two hypotheses say the same, so seven are six.
    assert (before.utterances, before.hypotheses, before.scored) == (4, 6, 3)
    assert before.hours == pytest.approx(9.0 / 3600)
    assert before.wer[0] == pytest.approx(1 / 5)
    assert (after.utterances, after.hypotheses, after.scored) == (3, 3, 2)
    assert after.hours == pytest.approx(6.3 / 3600)
    assert after.wer[0] == pytest.approx(1 / 4)


def test_each_filter_alone(store):
    report = report_filters(store, FILTERS_ON, examples_per_reason=1)
    found = {
        e.filter.reason: (e.threshold, e.removed_hypotheses, e.kept.utterances, e.kept.wer[0])
        for e in report.effects
    }
    assert found == {
        "max_steps": (0.0, 0, 4, pytest.approx(1 / 5)),
        "low_coverage": (0.5, 1, 4, pytest.approx(2 / 5)),
        "high_wer": (0.5, 2, 3, 0.0),
    }


def test_filters_that_are_off_are_measured_too(store):
    report = report_filters(store, FILTERS_ON, examples_per_reason=1)
    found = {d.measure.title: d for d in report.distributions}
    assert {each.measure.title for each in FILTERS} == set(found)
    errors = found["WER against the reference"]
    assert sorted(errors.values) == [0, 0, 0.5, 1, 1]
    assert errors.unknown == 1
    np.testing.assert_allclose(
        found["Attention coverage"].values, [0.9, 0.9, 0.4, 0.9, 0.9, 0.9], rtol=1e-6
    )


def test_the_worst_are_those_of_the_best_hypothesis(store):
    report = report_filters(store, FILTERS_ON, examples_per_reason=1)
    found = {e.record.utterance_id: e.values for e in report.examples}
    assert found["b-second"] == {"low_coverage": pytest.approx(0.4)}
    assert found["c-wrong"]["high_wer"] == 1.0
    assert found["d-mute"]["backward_jumps"] == 1.0
    # No utterance was cut short, so none is an example of it.
    assert not any("max_steps" in values for values in found.values())


def test_the_report_and_training_leave_out_the_same(store):
    filters = dataclasses.replace(FILTERS_ON, max_characters_per_second=6.0)
    objective = SequenceKD(num_hypotheses=9, filters=filters)
    tokenizer = CharacterTokenizer("".join(sorted(set(f"onetwsixO {ATTACK}"))))
    surveyed = survey(store.records(), tokenizer, objective)
    report = report_filters(store, filters, examples_per_reason=1)
    assert report.before.utterances - report.after.utterances == len(surveyed.dropped)
    removed = {e.filter.reason: e.removed_hypotheses for e in report.effects}
    assert surveyed.dropped_hypotheses == {name: n for name, n in removed.items() if n}


# --- the page


def test_texts_are_shown_and_never_run(store):
    reader = Reader(render(report_filters(store, FILTERS_ON, examples_per_reason=9)))
    assert reader.elements["script"] == 0
    assert ATTACK in reader.texts
    assert not [name for name, _ in reader.attributes if name.startswith("on")]


def test_the_page_needs_no_network(store):
    reader = Reader(render(report_filters(store, FILTERS_ON, examples_per_reason=9)))
    sources = [value for name, value in reader.attributes if name in ("src", "href")]
    assert sources
    assert all(value.startswith("data:audio/flac;base64,") for value in sources)
    recordings = {base64.b64decode(value.partition(",")[2]) for value in sources}
    assert recordings <= {record.utterance.audio for record in RECORDS}
    assert reader.elements["link"] == reader.elements["iframe"] == 0


def test_recordings_have_a_bound(store, monkeypatch):
    monkeypatch.setattr(filter_page, "_MAX_AUDIO_BYTES", len(RECORDS[0].utterance.audio) - 1)
    report = report_filters(store, FILTERS_ON, examples_per_reason=9)
    reader = Reader(render(report))
    assert reader.elements["audio"] < len(report.examples) == reader.elements["article"]


def test_bars_hold_every_hypothesis_on_its_side_of_the_limit(store):
    report = report_filters(store, FILTERS_ON, examples_per_reason=0)
    for distribution in report.distributions:
        bars = filter_page._histogram(distribution, report).bars
        counts = [
            [int(w) for w in bar.title.replace(",", "").split() if w.isdigit()] for bar in bars
        ]
        assert sum(each[-2] + each[-1] for each in counts) == len(distribution.values)
    errors = next(d for d in report.distributions if d.measure.title.startswith("WER"))
    histogram = filter_page._histogram(errors, report)
    (limit,) = histogram.limits
    for bar in histogram.bars:
        assert bar.x + bar.width < limit.x + 10 if bar.kept_height else bar.x >= limit.x


@pytest.mark.parametrize("log_probs", [(-1e38, -1e38), (-3.4e38, -1.0), (-1e-45, 0.0)])
def test_the_page_draws_whatever_numbers_a_record_may_hold(tmp_path, log_probs):
    hypotheses = tuple(
        hypothesis("one", value, coverage=value, token_ids=(3,), token_log_probs=(value,),
                   token_seconds=(value,))
        for value in log_probs
    )  # fmt: skip
    store = written(tmp_path, [PseudoLabelRecord(utterance("a", 0.9, "one"), hypotheses)])
    report = report_filters(store, FILTERS_ON, examples_per_reason=1)
    for distribution in report.distributions:
        bars = filter_page._histogram(distribution, report).bars
        assert all(math.isfinite(bar.x) and bar.width >= 1 for bar in bars)
        assert bool(bars) == bool(len(distribution.values))
    assert Reader(render(report)).texts


def test_labels_of_which_nothing_but_texts_is_known(tmp_path):
    records = [
        PseudoLabelRecord(utterance("a", 0.9, None), (Hypothesis("one"), Hypothesis("six"))),
        PseudoLabelRecord(utterance("b", 1.8, None), (Hypothesis("one two"),)),
    ]
    strict = FilterConfig(
        min_mean_log_prob=0.0, min_coverage=1.0, max_backward_share=0.0, max_disagreement=0.0,
        max_wer=0.0,
    )  # fmt: skip
    report = report_filters(written(tmp_path, records), strict, examples_per_reason=9)
    assert report.after == report.before
    assert report.before.wer is None
    reader = Reader(render(report))
    unknown = [text for text in reader.texts if text.startswith("unknown for 3")]
    assert len(unknown) == 6
    # Both are spoken alike; the text of the second can be compressed more.
    assert reader.elements["audio"] == 1


def test_tokens_carry_the_names_of_the_teacher(store):
    report = report_filters(store, FILTERS_ON, examples_per_reason=9)
    assert "gamma" in Reader(render(report, ["", "", "", "", "gamma", " "])).texts
    assert "4" in Reader(render(report)).texts


def test_units_of_another_teacher_than_that_of_the_labels_are_refused(
    labels, teacher, tmp_path, capsys
):
    untrained = Recogniser(teacher.model.config, teacher.model.vocab_size)
    other = save_run(untrained, teacher.tokenizer, tmp_path / "other").directory
    command = ["filter-report", str(labels.directory), "--out", str(tmp_path / "page.html")]
    cli.main([*command, "--teacher", str(teacher.directory)])
    with pytest.raises(SystemExit):
        cli.main([*command, "--teacher", str(other)])
    assert "these labels are of another teacher" in capsys.readouterr().err


@pytest.mark.parametrize("out", ["page.html", "folder"])
def test_the_command_writes_the_page(store, tmp_path, capsys, out):
    config = tmp_path / "student.yaml"
    config.write_text("training: {objective: {filters: {max_wer: 0.5, min_coverage: 0.5}}}\n")
    cli.main(
        ["filter-report", str(store.directory), "--config", str(config), "--out",
         str(tmp_path / out)]
    )  # fmt: skip
    said = capsys.readouterr().out
    assert said.startswith("3 of 4 utterances and 3 of 6 hypotheses kept; ")
    page = Path(said.split("; ")[1].strip())
    assert page.suffix == ".html"
    assert page.is_relative_to(tmp_path / out)
    assert page.read_text().startswith("<!DOCTYPE html>")
