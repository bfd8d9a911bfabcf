"""The figures of an evaluation, and that every float32 form of a model gets the same."""

from __future__ import annotations

import dataclasses
import json

import pytest

from tfkd import cli
from tfkd.data.preparation import prepare
from tfkd.errors import CheckpointError, ConfigError, TfkdError
from tfkd.evaluation.evaluate import Evaluation, Transcript, evaluate
from tfkd.evaluation.models import open_model
from tfkd.metrics import score
from tfkd.records import open_store

KEYS = {
    *("model", "form", "wer", "wer_low", "wer_high", "cer"),
    *("insertions", "deletions", "substitutions", "words", "utterances"),
    *("without_transcript", "too_long"),
    *("parameters", "bytes", "rtf", "batch_size", "audio_seconds"),
}


@pytest.fixture(scope="module")
def evaluations(teacher, exports, prepared) -> dict[str, tuple[Evaluation, list[Transcript]]]:
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


def test_utterances_without_text_are_not_scored(exports, tmp_path, speak, prepare_config):
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
    (tmp_path / "m.jsonl").write_text(json.dumps(rows[1]) + "\n")
    prepare(tmp_path / "m.jsonl", tmp_path / "none", prepare_config)
    with pytest.raises(TfkdError, match="no utterance has a transcript"):
        evaluate(open_model(exports["tflite-float32"].path), open_store(tmp_path / "none"))


def test_every_form_tells_its_rate(teacher, exports):
    models = [teacher.directory, exports["savedmodel"].path, exports["tflite-int8"].path]
    assert [open_model(model).sample_rate_hz for model in models] == [8000] * 3


def test_what_is_no_model_is_refused(tmp_path, prepared):
    with pytest.raises(CheckpointError, match="neither the folder of a run, nor a SavedModel, nor"):
        open_model(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"not one of ours")
    with pytest.raises(CheckpointError, match="not exported here.*give --trust"):
        open_model(tmp_path)
    with pytest.raises(CheckpointError, match="not a SavedModel of tfkd"):
        open_model(tmp_path, trusted=True)


def test_the_search_of_a_run_can_be_changed_and_that_of_an_export_not(teacher, exports, prepared):
    _, transcripts = evaluate(open_model(teacher.directory, ["max_tokens=1"]), prepared["test"])
    assert all(len(transcript.hypothesis) <= 1 for transcript in transcripts)
    with pytest.raises(ConfigError, match="the search of an exported form cannot be changed"):
        open_model(exports["tflite-float32"].path, ["max_tokens=1"])
