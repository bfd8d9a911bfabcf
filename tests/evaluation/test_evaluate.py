"""The figures of an evaluation, and that every float32 form of a model gets the same."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfkd import cli
from tfkd.config import FusionConfig
from tfkd.data.preparation import prepare
from tfkd.decoding.run_writing import save_description
from tfkd.decoding.runs import run_files
from tfkd.device.hypothesis import DeviceHypothesis
from tfkd.errors import CheckpointError, ConfigError, TfkdError
from tfkd.evaluation.evaluate import Evaluation, Recognition, evaluate
from tfkd.evaluation.models import model_identity, open_model
from tfkd.exporting.interface import OpenForm
from tfkd.metrics import score
from tfkd.records import Plan, Store, StoreWriter, open_store
from tfkd.storage.files import sha256_of_files

KEYS = {
    *("model", "form", "wer", "wer_low", "wer_high", "cer"),
    *("insertions", "deletions", "substitutions", "words", "utterances"),
    *("without_transcript", "too_long", "silent", "silent_with_words"),
    *("parameters", "bytes", "rtf", "batch_size", "audio_seconds"),
}


@pytest.fixture(scope="module")
def evaluations(teacher, exports, prepared) -> dict[str, tuple[Evaluation, list[Recognition]]]:
    models = {"keras": teacher.directory}
    models |= {form: exports[form].path for form in ("savedmodel", "tflite-float32")}
    return {form: evaluate(open_model(model), prepared["test"]) for form, model in models.items()}


@pytest.mark.parametrize("form", ["savedmodel", "tflite-float32"])
def test_every_float32_form_has_the_error_rates_of_keras(evaluations, form):
    expected, found = (dataclasses.asdict(evaluations[f][0]) for f in ("keras", form))
    own = {"model", "form", "bytes", "rtf", "batch_size"}
    assert {k: v for k, v in found.items() if k not in own} == {
        k: pytest.approx(v) for k, v in expected.items() if k not in own
    }
    by_id = {t.utterance_id: t for t in evaluations["keras"][1]}
    assert {t.utterance_id: t for t in evaluations[form][1]} == by_id


@pytest.mark.parametrize("form", ["keras", "savedmodel", "tflite-float32"])
def test_figures_follow_from_the_transcripts(evaluations, form, prepared, teacher):
    evaluation, transcripts = evaluations[form]
    references = {row["utterance_id"]: row["text"] for row in prepared["test"].index}
    assert {t.utterance_id: t.reference for t in transcripts} == references
    assert [t.utterance_id for t in transcripts] == [*references]  # as in the store
    rate = score([t.reference for t in transcripts], [t.hypothesis for t in transcripts])
    assert evaluation.wer == rate.wer
    assert evaluation.cer == rate.cer
    assert evaluation.wer_low <= evaluation.wer <= evaluation.wer_high
    assert evaluation.words == sum(len(text.split()) for text in references.values())
    assert evaluation.utterances == len(references)
    assert evaluation.parameters == teacher.model.count_params()
    assert evaluation.form == form
    assert 0 < evaluation.rtf < 10
    seconds = sum(row["duration_seconds"] for row in prepared["test"].index)
    assert evaluation.audio_seconds == pytest.approx(seconds)


def test_the_tiny_teacher_is_no_guesser(evaluations):
    # Words at random would be wrong four times in five.
    assert evaluations["keras"][0].wer < 0.6


def test_json_has_the_keys_of_the_contract(exports, prepared, tmp_path, capsys):
    figures, texts = tmp_path / "figures.json", tmp_path / "texts.jsonl"
    arguments = ["evaluate", exports["tflite-int8"].path]
    arguments += ["--data", str(prepared["test"].directory)]
    cli.main([*arguments, "--json", str(figures), "--transcripts", str(texts)])
    content = json.loads(figures.read_text())
    assert set(content) == KEYS
    assert content["form"] == "tflite-int8"
    assert content["bytes"] == exports["tflite-int8"].bytes
    assert f"{100 * content['wer']:.2f}" in capsys.readouterr().out
    rows = [json.loads(line) for line in texts.read_text().splitlines()]
    assert len(rows) == content["utterances"] == 6
    assert set(rows[0]) == {"utterance_id", "reference", "hypothesis"}
    assert (
        score([r["reference"] for r in rows], [r["hypothesis"] for r in rows]).wer
        == (content["wer"])
    )


def test_utterances_without_text_are_not_scored(exports, tmp_path, speak, prepare_config, capsys):
    rows = [{"audio": "a.wav", "text": "ba"}, {"audio": "b.wav"}]
    for row in rows:
        speak(tmp_path / row["audio"], "ba")
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prepare(tmp_path / "m.jsonl", tmp_path / "some", prepare_config)
    evaluation, transcripts = evaluate(
        open_model(exports["tflite-float32"].path), open_store(tmp_path / "some")
    )
    assert [t.utterance_id for t in transcripts] == ["a"]
    assert (evaluation.utterances, evaluation.words) == (1, 1)
    assert (evaluation.without_transcript, evaluation.too_long) == (1, 0)
    cli.main(["evaluate", exports["tflite-float32"].path, "--data", str(tmp_path / "some")])
    assert "1 of 2 utterances have no transcript: WER and CER" in capsys.readouterr().out
    (tmp_path / "m.jsonl").write_text(json.dumps(rows[1]) + "\n")
    prepare(tmp_path / "m.jsonl", tmp_path / "none", prepare_config)
    with pytest.raises(TfkdError, match="no utterance has a transcript"):
        evaluate(open_model(exports["tflite-float32"].path), open_store(tmp_path / "none"))


def test_every_form_tells_its_rate(teacher, exports):
    models = [teacher.directory, exports["savedmodel"].path, exports["tflite-int8"].path]
    assert [open_model(model).sample_rate_hz for model in models] == [8000] * 3


def test_another_language_model_makes_another_recogniser_of_a_run(teacher, tmp_path):
    """The config of a run holds the path of its language model; another file may lie there."""
    run = shutil.copytree(teacher.directory, tmp_path / "run")
    lm = tmp_path / "lm.arpa"

    def identity(lm_weight: float, content: str) -> str:
        lm.write_text(content)
        fusion = FusionConfig(lm=str(lm), lm_weight=lm_weight)
        decoding = dataclasses.replace(teacher.system.decoding, fusion=fusion)
        system = dataclasses.replace(teacher.system, decoding=decoding)
        save_description(run, system, teacher.tokenizer)
        return model_identity(run)

    assert identity(0.3, "one") == identity(0.3, "one") != identity(0.3, "two")
    assert identity(0.0, "one") == identity(0.0, "two")
    lm.unlink()
    # Without a language model, the identity is that of earlier versions.
    assert model_identity(run) == sha256_of_files(run, run_files(run))


def test_what_is_no_model_is_refused(tmp_path, prepared):
    with pytest.raises(CheckpointError, match="neither the folder of a run, nor a SavedModel, nor"):
        open_model(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"not one of ours")
    with pytest.raises(CheckpointError, match="did not export.*give --trust"):
        open_model(tmp_path)
    with pytest.raises(CheckpointError, match="not a SavedModel of tfkd"):
        open_model(tmp_path, trusted=True)


def test_the_search_of_a_run_can_be_changed_and_that_of_an_export_not(teacher, exports, prepared):
    _, transcripts = evaluate(open_model(teacher.directory, ["max_tokens=1"]), prepared["test"])
    assert all(len(transcript.hypothesis) <= 1 for transcript in transcripts)
    with pytest.raises(ConfigError, match="the search of an exported form cannot be changed"):
        open_model(exports["tflite-float32"].path, ["max_tokens=1"])


# --- utterances and models that do not fit


def saying(texts: dict[int, str], **values) -> OpenForm:
    """A form that says what the number of samples of an utterance stands for."""

    def decode(waveform: np.ndarray, num_samples: np.ndarray) -> list[list[DeviceHypothesis]]:
        return [
            [DeviceHypothesis(texts[size], (4, 3), -1.0, -1.0)] if size in texts else []
            for size in num_samples.tolist()
        ]

    form = OpenForm(
        path=Path("made-up"),
        form="tflite-float32",
        parameters=1,
        bytes=1,
        sample_rate_hz=8000,
        pieces=("",),
        batch_size=2,
        max_samples=None,
        decode=decode,
    )
    return dataclasses.replace(form, **values)


def sizes_of(store: Store) -> dict[str, int]:
    return {row["utterance_id"]: row["num_samples"] for row in store.index}


def test_an_utterance_that_is_too_long_is_named_and_the_others_are_scored(prepared, caplog):
    store = prepared["test"]
    longest = max(sizes_of(store), key=sizes_of(store).__getitem__)
    limit = sizes_of(store)[longest] - 1
    evaluation, transcripts = evaluate(saying({}, max_samples=limit), store)
    assert (evaluation.utterances, evaluation.too_long) == (5, 1)
    assert longest not in {each.utterance_id for each in transcripts}
    assert evaluation.audio_seconds * 8000 == pytest.approx(
        sum(sizes_of(store).values()) - sizes_of(store)[longest]
    )
    (record,) = [each for each in caplog.records if "longer than" in each.getMessage()]
    assert longest in record.getMessage()
    with pytest.raises(TfkdError, match="every utterance with a transcript is longer"):
        evaluate(saying({}, max_samples=1), store)


def test_a_model_that_crashes_names_its_utterance(prepared):
    store = prepared["test"]
    longest = max(sizes_of(store), key=sizes_of(store).__getitem__)

    def decode(waveform: np.ndarray, num_samples: np.ndarray) -> list[list[DeviceHypothesis]]:
        if num_samples[0] == sizes_of(store)[longest]:
            raise CheckpointError("the model crashes", path="model.tflite", remedy="copy it again")
        return [[]]

    named = rf"^model.tflite: utterance {longest}: the model crashes \(copy it again\)"
    with pytest.raises(CheckpointError, match=named):
        evaluate(saying({}, batch_size=1, decode=decode), store)


def test_words_where_nothing_was_said_are_insertions(tmp_path, speak, prepare_config):
    for name in "ab":
        speak(tmp_path / f"{name}.wav", "ba di" if name == "a" else "ko")
    lines = [{"audio": "a.wav", "text": "ba di"}, {"audio": "b.wav", "text": "ko"}]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    prepare(tmp_path / "m.jsonl", tmp_path / "store", prepare_config)
    store = open_store(tmp_path / "store")
    sizes = sizes_of(store)
    said = {sizes["a"]: "ba di", sizes["b"]: "ko mu"}
    evaluation, _ = evaluate(saying(said), with_texts(store, {"b": ""}, tmp_path / "silent"))
    assert (evaluation.utterances, evaluation.words) == (2, 2)
    assert (evaluation.insertions, evaluation.deletions) == (2, 0)
    assert evaluation.wer == 1.0
    assert (evaluation.silent, evaluation.silent_with_words) == (1, 1)


def test_clips_without_speech_alone_are_counted(
    tmp_path, speak, prepare_config, capsys, monkeypatch
):
    names = ["hiss", "hum", "music"]
    for number, name in enumerate(names):
        speak(tmp_path / f"{name}.wav", " ".join(["ko"] * (number + 1)))
    rows = [{"audio": f"{name}.wav", "text": ""} for name in names]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prepare(tmp_path / "m.jsonl", tmp_path / "store", prepare_config)
    store = open_store(tmp_path / "store")
    sizes = sizes_of(store)
    form = saying({sizes["hiss"]: "ko mu di", sizes["hum"]: " "})
    evaluation, transcripts = evaluate(form, store)
    assert {t.utterance_id: t.hypothesis for t in transcripts}["hiss"] == "ko mu di"
    assert (evaluation.utterances, evaluation.words, evaluation.insertions) == (3, 0, 3)
    assert (evaluation.silent, evaluation.silent_with_words) == (3, 1)
    assert evaluation.wer == 3.0, "the number of insertions, as jiwer has it"
    monkeypatch.setattr("tfkd.evaluation.models.open_model", lambda *a, **k: form)
    cli.main(["evaluate", "made-up", "--data", str(tmp_path / "store")])
    said = capsys.readouterr().out
    assert "1 of 3 clips in which nothing is said have words" in said
    row = next(line for line in said.splitlines() if line.startswith("tflite-float32"))
    assert row.split()[1:7] == ["-", "-", "-", "3", "0", "0"]
    assert evaluate(saying({}), store)[0].silent_with_words == 0


def with_texts(store: Store, texts: dict[str, str], out: Path) -> Store:
    """The same utterances with other transcripts."""
    plan = Plan.create("utterances", list(sizes_of(store)), "digest", {}, 4)
    with StoreWriter(out, plan) as writer:
        records = [
            dataclasses.replace(each, text=texts.get(each.utterance_id, each.text))
            for each in store.records()
        ]
        writer.write_shard(0, records)
        writer.complete()
    return open_store(out)


def test_a_form_that_gives_too_few_rows_is_never_scored_on_fewer(prepared):
    with pytest.raises(ValueError, match="zip"):
        evaluate(saying({}, decode=lambda waveform, lengths: [[]]), prepared["test"])


@pytest.fixture
def foreign(exports, tmp_path) -> Path:
    """A SavedModel that somebody changed."""
    folder = shutil.copytree(exports["savedmodel"].path, tmp_path / "foreign")
    content = json.loads((folder / "tfkd.json").read_text())
    (folder / "tfkd.json").write_text(json.dumps({**content, "parameters": 77}))
    return folder


def test_a_savedmodel_runs_only_where_it_was_exported_or_is_trusted(foreign, exports, tmp_path):
    copy = shutil.copytree(exports["savedmodel"].path, tmp_path / "copy")
    assert open_model(copy).form == "savedmodel"
    with pytest.raises(CheckpointError, match="runs any code.*give --trust"):
        open_model(foreign)
    assert open_model(foreign, trusted=True).parameters == 77
    with pytest.raises(CheckpointError, match="give --trust"):
        open_model(foreign)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({}, r"gives token_ids .* for \d utterances"),
        ({"score": [1]}, "gives .*score.* beside num_tokens"),
        ({"token_ids": None}, "it does not give token_ids"),
        ({"waveform": None}, "not waveform"),
    ],
)
def test_a_savedmodel_of_another_shape_is_one_line(foreign, outputs, message, prepared):
    save_strange(foreign, outputs)
    with pytest.raises(TfkdError, match=message) as raised:
        evaluate(open_model(foreign, trusted=True), prepared["test"])
    assert str(foreign) in str(raised.value)
    assert "\n" not in str(raised.value)


def save_strange(folder: Path, outputs: dict) -> None:
    """Gives one row whatever the batch, or other shapes and names."""
    module = tf.Module()
    takes = "samples" if "waveform" in outputs else "waveform"

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None], tf.float32, name=takes),
            tf.TensorSpec([None], tf.int32, name="num_samples"),
        ]
    )
    def serve(waveform, num_samples):
        batch = tf.shape(waveform)[0] if "score" in outputs else 1
        found = {
            "text": tf.fill([batch, 1], "ba"),
            "token_ids": tf.fill([batch, 1, 2], 4),
            "num_tokens": tf.fill([batch, 1], 2),
            "log_prob": tf.fill([batch, 1], -1.0),
            "score": tf.fill([batch, 2 if "score" in outputs else 1], -1.0),
        }
        return {k: v for k, v in found.items() if outputs.get(k, 0) is not None}

    module.serve = serve
    description = (folder / "tfkd.json").read_text()
    tf.saved_model.save(module, str(folder), signatures={"serving_default": serve})
    (folder / "tfkd.json").write_text(description)
