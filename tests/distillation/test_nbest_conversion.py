"""Labels to n-best lists and back: the same bytes where all is known, nothing lost where not."""

from __future__ import annotations

import json
import re
import shutil
import tracemalloc
from pathlib import Path

import pytest

from tfkd import cli
from tfkd.config import PrepareConfig, TextConfig, config_digest
from tfkd.data.preparation import prepare
from tfkd.distillation import nbest_conversion as exchange
from tfkd.distillation.nbest_conversion import jsonl_to_labels, labels_to_jsonl, row_of
from tfkd.errors import ManifestError, RecordError
from tfkd.objectives import SequenceKD, Targets, survey
from tfkd.records import (
    PSEUDO_LABELS,
    UTTERANCES,
    Hypothesis,
    Plan,
    PseudoLabelRecord,
    Store,
    StoreWriter,
    UtteranceRecord,
    open_store,
)
from tfkd.storage.files import sha256
from tfkd.text import CharacterTokenizer

ANY_SHARE = PrepareConfig(max_rejected_share=1.0)
TOKENIZER = CharacterTokenizer(" abdeikmosu")


@pytest.fixture(scope="module")
def nbest(labels: Store, tmp_path_factory) -> Path:
    """The n-best list of the teacher's labels."""
    path = tmp_path_factory.mktemp("nbest") / "nbest.jsonl"
    labels_to_jsonl(labels, path)
    return path


def rows_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_rows(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def foreign_list(path: Path, store: Store, *, skip: int = 0) -> Path:
    """What a recogniser with capitals proposes of all utterances but the first `skip`."""
    rows = [
        {"utterance_id": row["utterance_id"], "hypotheses": [row["text"].upper() + ".", "Ba"]}
        for row in store.index[skip:]
    ]
    return write_rows(path, rows)


# --- out


def test_a_line_holds_all_but_the_audio(nbest, labels):
    records = list(labels.records())
    rows = rows_of(nbest)
    assert [row["utterance_id"] for row in rows] == [record.utterance_id for record in records]
    for row, record in zip(rows, records, strict=True):
        assert set(row) == {"utterance_id", "num_samples", "sample_rate_hz", "text", "hypotheses"}
        for name in ("num_samples", "sample_rate_hz", "text"):
            assert row[name] == getattr(record.utterance, name)
        for found, hypothesis in zip(row["hypotheses"], record.hypotheses, strict=True):
            lists = {name: tuple(v) for name, v in found.items() if isinstance(v, list)}
            assert Hypothesis(**(found | lists)) == hypothesis
            assert len(found) == 9


def test_what_is_unknown_is_left_out(labels):
    known = next(labels.records())
    record = PseudoLabelRecord(known.utterance, (Hypothesis("a", log_prob=-0.5),))
    assert row_of(record)["hypotheses"] == [{"text": "a", "log_prob": -0.5}]
    assert "hypotheses" not in row_of(known.utterance)


# --- and back


def test_there_and_back_gives_the_same_bytes(nbest, labels, prepared, tmp_path):
    summary = jsonl_to_labels(nbest, prepared["train"], tmp_path / "back", PrepareConfig())
    back = open_store(tmp_path / "back", kind=PSEUDO_LABELS)
    back.verify(deep=True)
    assert [sha256(path) for path in back.shard_paths] == list(map(sha256, labels.shard_paths))
    assert back.sha256 == labels.sha256
    assert back.index == labels.index
    assert back.rejections == labels.rejections
    assert summary == labels.summary


def test_hypotheses_of_another_recogniser_join_the_audio(prepared, tmp_path):
    store = prepared["test"]
    path = foreign_list(tmp_path / "list.jsonl", store)
    jsonl_to_labels(path, store, tmp_path / "labels", PrepareConfig())
    made = open_store(tmp_path / "labels", kind=PSEUDO_LABELS)
    for record, source in zip(made.records(), store.records(), strict=True):
        assert record.utterance == source
        assert record.hypotheses == (Hypothesis(source.text), Hypothesis("ba"))
    assert made.plan.sources == {"nbest": sha256(path), "utterances": store.sha256}
    assert [row["score"] for row in made.index] == [None] * 6


def test_a_student_learns_from_them_by_uniform_weights(prepared, tmp_path):
    path = foreign_list(tmp_path / "list.jsonl", prepared["test"])
    jsonl_to_labels(path, prepared["test"], tmp_path / "labels", PrepareConfig())
    made = open_store(tmp_path / "labels")
    uniform = SequenceKD(num_hypotheses=2, weights="uniform")
    assert survey(made.records(), TOKENIZER, uniform).dropped == []
    for record in made.records():
        targets = uniform.targets(record, TOKENIZER)
        assert isinstance(targets, Targets)
        assert targets.arrays["weights"].tolist() in ([1.0, 0.0], [0.5, 0.5])
    posterior = SequenceKD(num_hypotheses=2)
    with pytest.raises(RecordError, match="test-00: its hypotheses have no log_prob.*uniform"):
        survey(made.records(), TOKENIZER, posterior)


def test_labels_can_be_given_other_hypotheses(labels, prepared, tmp_path):
    path = foreign_list(tmp_path / "list.jsonl", prepared["train"])
    config = PrepareConfig()
    of_labels = jsonl_to_labels(path, labels, tmp_path / "of labels", config)
    of_utterances = jsonl_to_labels(path, prepared["train"], tmp_path / "of utterances", config)
    assert of_labels.sha256 == of_utterances.sha256


def test_what_normalisation_keeps_is_part_of_the_plan(prepared, tmp_path):
    store = prepared["test"]
    rows = [{"utterance_id": row["utterance_id"], "hypotheses": ["a-b"]} for row in store.index]
    path = write_rows(tmp_path / "list.jsonl", rows)
    config = PrepareConfig(text=TextConfig(extra_characters="-"))
    jsonl_to_labels(path, store, tmp_path / "labels", config)
    records = open_store(tmp_path / "labels").records()
    assert {record.hypotheses[0].text for record in records} == {"a-b"}
    with pytest.raises(RecordError, match=r'text.extra_characters="-" there and text.extra'):
        jsonl_to_labels(path, store, tmp_path / "labels", PrepareConfig())


@pytest.mark.parametrize(("first", "second"), [("drop", "keep"), ("keep", "drop")])
def test_labels_with_and_without_tags_do_not_pass_for_each_other(prepared, tmp_path, first, second):
    store = prepared["test"]
    rows = [{"utterance_id": row["utterance_id"], "hypotheses": ["[noise] ba"]}
            for row in store.index]  # fmt: skip
    path = write_rows(tmp_path / "list.jsonl", rows)
    jsonl_to_labels(path, store, tmp_path / "labels", PrepareConfig(tags=first))
    with pytest.raises(RecordError, match=f'its settings are tags="{first}" there'):
        jsonl_to_labels(path, store, tmp_path / "labels", PrepareConfig(tags=second))


def test_labels_that_drop_tags_keep_the_digest_of_earlier_versions(prepared, tmp_path):
    config = PrepareConfig(text=TextConfig(extra_characters="-"))
    path = foreign_list(tmp_path / "list.jsonl", prepared["test"])
    jsonl_to_labels(path, prepared["test"], tmp_path / "labels", config)
    assert open_store(tmp_path / "labels").plan.digest == config_digest(config.text)


# --- labelled + rejected = manifest


def test_utterances_without_hypotheses_are_rejected_by_name(prepared, tiny_corpus, tmp_path):
    store = prepared["train"]
    path = foreign_list(tmp_path / "list.jsonl", store, skip=2)
    with open(path, "a") as file:
        file.write('{"utterance_id": "train-01", "hypotheses": []}\n')
    summary = jsonl_to_labels(path, store, tmp_path / "labels", ANY_SHARE)
    assert (summary.records, summary.rejected, summary.rejected_before_planning) == (22, 2, 1)
    made = open_store(tmp_path / "labels")
    made.verify(deep=True)
    rejected = {rejection.utterance_id: rejection.reason for rejection in made.rejections}
    assert rejected == {
        "train-lost": "missing_file",
        "train-00": "no_hypothesis",
        "train-01": "no_hypothesis",
    }
    manifest = {row["utterance_id"] for row in rows_of(tiny_corpus / "train.jsonl")}
    assert {row["utterance_id"] for row in made.index} | rejected.keys() == manifest


def test_too_many_rejections_are_refused_before_anything_is_written(prepared, tmp_path):
    # Two of twenty-four are more than the 5 % that are allowed, one is not.
    store = prepared["train"]
    path = foreign_list(tmp_path / "list.jsonl", store, skip=2)
    message = r"2 of 24 utterances are unusable \(2 no_hypothesis\), for example train-00: "
    with pytest.raises(ManifestError, match=message):
        jsonl_to_labels(path, store, tmp_path / "labels", PrepareConfig())
    assert not (tmp_path / "labels").exists()
    path = foreign_list(path, store, skip=1)
    assert jsonl_to_labels(path, store, tmp_path / "labels", PrepareConfig()).rejected == 1


def test_a_list_without_any_hypothesis_is_refused(prepared, tmp_path):
    path = write_rows(tmp_path / "list.jsonl", [])
    with pytest.raises(ManifestError, match="6 of 6 utterances are unusable"):
        jsonl_to_labels(path, prepared["test"], tmp_path / "labels", ANY_SHARE)


def test_utterances_that_the_store_does_not_know_are_refused(prepared, tmp_path):
    path = foreign_list(tmp_path / "list.jsonl", prepared["test"])
    with open(path, "a") as file:
        file.write('{"utterance_id": "tset-03", "hypotheses": ["ba"]}\n')
    with pytest.raises(
        ManifestError, match="1 of its 7 utterances are not among .*'tset-03'"
    ) as raised:
        jsonl_to_labels(path, prepared["test"], tmp_path / "labels", PrepareConfig())
    assert "did you mean 'test-03'" in str(raised.value)
    assert not (tmp_path / "labels").exists()


def test_ids_that_are_file_names_are_told_what_the_data_calls_them(prepared, tmp_path):
    rows = [{"utterance_id": f"clips/test-{number:02d}.wav", "hypotheses": ["ba"]}
            for number in range(6)]  # fmt: skip
    with pytest.raises(ManifestError, match="the data calls it 'test-00'") as raised:
        jsonl_to_labels(
            write_rows(tmp_path / "list.jsonl", rows), prepared["test"], tmp_path / "o", ANY_SHARE
        )
    assert str(prepared["test"].directory) not in str(raised.value)


def test_utterances_that_the_store_rejected_are_passed_over(prepared, tmp_path):
    path = foreign_list(tmp_path / "list.jsonl", prepared["train"])
    with open(path, "a") as file:
        file.write('{"utterance_id": "train-lost", "hypotheses": ["ba"]}\n')
    summary = jsonl_to_labels(path, prepared["train"], tmp_path / "labels", PrepareConfig())
    assert (summary.records, summary.rejected, summary.rejected_before_planning) == (24, 0, 1)


# --- crashes and memory


def test_a_rerun_goes_on_and_gives_the_same_bytes(nbest, labels, prepared, tmp_path, monkeypatch):
    out = tmp_path / "labels"
    read = exchange._records
    numbers: list[int] = []

    def dying(store, number, *others):
        numbers.append(number)
        if number == 3:
            raise KeyboardInterrupt
        return read(store, number, *others)

    monkeypatch.setattr(exchange, "_records", dying)
    with pytest.raises(KeyboardInterrupt):
        jsonl_to_labels(nbest, prepared["train"], out, PrepareConfig())
    monkeypatch.setattr(exchange, "_records", lambda *all: numbers.append(all[1]) or read(*all))
    jsonl_to_labels(nbest, prepared["train"], out, PrepareConfig())
    # Of the seven shards the last is empty: its one utterance was rejected.
    assert numbers == [0, 1, 2, 3, 3, 4, 5, 6]
    assert open_store(out).sha256 == labels.sha256


def test_labels_of_another_list_are_refused(nbest, prepared, tmp_path):
    out = tmp_path / "labels"
    jsonl_to_labels(nbest, prepared["train"], out, PrepareConfig())
    other = write_rows(tmp_path / "other.jsonl", rows_of(nbest)[::-1])
    with pytest.raises(RecordError, match="source nbest is .* there and .* here.*another --out"):
        jsonl_to_labels(other, prepared["train"], out, PrepareConfig())


# --- by the command line


def run(*arguments: object) -> None:
    cli.main([str(argument) for argument in arguments])


def test_the_commands_bring_labels_out_and_back(labels, prepared, tmp_path, capsys):
    nbest, back = tmp_path / "nbest.jsonl", tmp_path / "back"
    run("labels-to-jsonl", labels.directory, "--out", nbest)
    assert capsys.readouterr().out == f"24 utterances in {nbest}\n"
    run("jsonl-to-labels", nbest, "--data", prepared["train"].directory, "--out", back)
    said = f"24 utterances labelled, 1 rejected, 25 in all; in {back}\n"
    assert capsys.readouterr().out == said
    assert open_store(back).sha256 == labels.sha256


def test_a_manifest_is_prepared_on_the_way(tiny_corpus, tmp_path, capsys):
    rows = rows_of(tiny_corpus / "test.jsonl")
    path = write_rows(
        tmp_path / "list.jsonl",
        [{"utterance_id": row["utterance_id"], "hypotheses": [row["text"]]} for row in rows[1:]],
    )
    arguments = ["jsonl-to-labels", path, "--data", tiny_corpus / "test.jsonl"]
    arguments += ["--out", tmp_path / "labels", "--max-rejected-share", "0.2"]
    run(*arguments)
    assert capsys.readouterr().out.startswith("5 utterances labelled, 1 rejected, 6 in all")
    run(*arguments)  # Goes on with what another temporary store gave.
    made = open_store(tmp_path / "labels")
    assert [record.utterance.text for record in made.records()] == [r["text"] for r in rows[1:]]


SHOWN = re.compile(r"^(\d+) +(\S+) +(\S+) +(\d+|-) +(eos|max_steps|-) +(\S+)  (.*)$")


def test_show_prints_a_row_for_each_hypothesis(labels, capsys):
    record = next(each for each in labels.records() if each.utterance_id == "train-09")
    run("show", labels.directory, "--id", "train-09")
    lines = capsys.readouterr().out.splitlines()
    utterance = record.utterance
    assert lines[:6] == [
        "utterance_id  train-09",
        f"seconds       {utterance.num_samples / utterance.sample_rate_hz:.3f} at 8000 Hz",
        "speaker       -",
        f"reference     {utterance.text}",
        "",
        "rank    score  log_prob  tokens  finish  coverage  text",
    ]
    for rank, (line, hypothesis) in enumerate(zip(lines[7:], record.hypotheses, strict=True), 1):
        assert SHOWN.match(line).groups() == (
            str(rank),
            f"{hypothesis.score:.4f}",
            f"{hypothesis.log_prob:.4f}",
            str(hypothesis.num_tokens),
            hypothesis.finish_reason,
            f"{hypothesis.coverage:.4f}",
            hypothesis.text,
        )


def test_show_marks_what_is_unknown(prepared, tmp_path, capsys):
    path = foreign_list(tmp_path / "list.jsonl", prepared["test"])
    jsonl_to_labels(path, prepared["test"], tmp_path / "labels", PrepareConfig())
    run("show", tmp_path / "labels", "--id", "test-01")
    lines = capsys.readouterr().out.splitlines()
    assert SHOWN.match(lines[-1]).groups() == ("2", "-", "-", "-", "-", "-", "ba")


def test_show_prints_utterances_and_json(labels, prepared, capsys):
    run("show", prepared["test"].directory, "--id", "test-02")
    assert "reference" in capsys.readouterr().out.splitlines()[-1]
    run("show", labels.directory, "--id", "train-09", "--json")
    record = next(each for each in labels.records() if each.utterance_id == "train-09")
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(row_of(record)))


def test_show_reads_one_shard_only(labels, tmp_path, capsys):
    directory = shutil.copytree(labels.directory, tmp_path / "labels")
    store = open_store(directory)
    for path in store.shard_paths[1:]:
        path.write_bytes(bytes(path.stat().st_size))
    run("show", directory, "--id", store.index[0]["utterance_id"])
    with pytest.raises(RecordError, match="damaged record 0"):
        store.record(store.index[-1]["utterance_id"])


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ("tran-09", "has no utterance 'tran-09' (did you mean 'train-09' or "),
        ("ÿ\udcff", r"has no utterance 'ÿ\\udcff' (its ids are in index.jsonl)"),
        ("train-lost", "utterance train-lost: was rejected: missing_file, no such file"),
    ],
)
def test_an_id_that_is_not_there_gets_a_hint(labels, wanted, words):
    with pytest.raises(RecordError) as raised:
        labels.record(wanted)
    assert words in str(raised.value)


def large_flac(num_samples: int) -> bytes:
    """A FLAC header and a megabyte that nothing here decodes."""
    packed = 8000 << 44 | 15 << 36 | num_samples
    return b"fLaC\x80\x00\x00\x22" + bytes(10) + packed.to_bytes(8, "big") + bytes(2**20)


def test_audio_is_not_held_in_memory(tmp_path):
    ids = [f"u{number:02d}" for number in range(40)]
    plan = Plan.create(UTTERANCES, ids, "", {}, 40)
    with StoreWriter(tmp_path / "data", plan) as writer:
        audio = large_flac(800)
        writer.write_shard(0, (UtteranceRecord(each, audio, 800, 8000, "ba") for each in ids))
        writer.complete()
    path = foreign_list(tmp_path / "list.jsonl", open_store(tmp_path / "data"))
    tracemalloc.start()
    try:
        store = open_store(tmp_path / "data")
        jsonl_to_labels(path, store, tmp_path / "labels", PrepareConfig())
        labels_to_jsonl(open_store(tmp_path / "labels"), tmp_path / "nbest.jsonl")
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert store.shard_paths[0].stat().st_size > 40 * 2**20
    assert peak_bytes < 10 * 2**20


# --- real speech


def test_real_speech_takes_the_hypotheses_of_another_recogniser(shared_data, tmp_path):
    source = shared_data / "digits"
    rows = rows_of(source / "test.jsonl")[:12]
    manifest = write_rows(
        tmp_path / "real.jsonl", [row | {"audio": str(source / row["audio"])} for row in rows]
    )
    prepare(manifest, tmp_path / "data", PrepareConfig())
    store = open_store(tmp_path / "data")
    jsonl_to_labels(
        foreign_list(tmp_path / "list.jsonl", store), store, tmp_path / "labels", PrepareConfig()
    )
    made = list(open_store(tmp_path / "labels").records())
    assert [record.utterance for record in made] == list(store.records())
    texts = {row["utterance_id"]: row["text"] for row in rows}
    assert {record.utterance_id: record.hypotheses[0].text for record in made} == texts
