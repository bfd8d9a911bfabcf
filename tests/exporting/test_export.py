"""An exported form gives the transcripts and scores of Keras, or it is not written."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
import typing
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfkd import cli
from tfkd.config import ExportConfig, FusionConfig, SearchControls, from_dict
from tfkd.config.export import ExportFormat
from tfkd.data.audio_batches import audio_batches
from tfkd.decoding.decoder import decode_dataset
from tfkd.decoding.results import Decoded
from tfkd.decoding.runs import Run, load_run
from tfkd.device.interpreter import RUNTIMES
from tfkd.device.metadata import parse_metadata, read_metadata
from tfkd.device.recogniser import DeviceRecogniser
from tfkd.errors import AudioError, CheckpointError, ConfigError, ExportError, TfkdError
from tfkd.exporting.export import RefusedForms, export, exported_rows
from tfkd.exporting.forms import FORMS, form_of
from tfkd.exporting.graph import (
    decode_with,
    decoder_for,
    metadata_of,
    warn_of_language_model,
)
from tfkd.exporting.interface import OpenForm, Write
from tfkd.exporting.savedmodel import load_savedmodel, write_savedmodel
from tfkd.exporting.tflite import convert_in_child
from tfkd.models.recogniser import Recogniser
from tfkd.pipeline import exports as exports_of_jobs
from tfkd.pipeline.exports import export_once, is_exported

EXPORTED = ExportConfig(beam_width=2, num_hypotheses=2)
TFLITE_FORMS = ("tflite-float32", "tflite-float16", "tflite-int8")


@pytest.fixture(scope="module")
def keras_says(teacher, prepared, export_config) -> list[tuple[np.ndarray, Decoded]]:
    """Waveforms and k best of utterances that the parity gate did not see, long and short."""
    decoder = decoder_for(teacher, export_config)
    return [
        (batch["waveform"][0].numpy(), next(decode_dataset(decoder, [batch])))
        for batch in audio_batches(prepared["test"], 1)
    ]


# --- what is written


def test_a_report_lies_beside_the_forms(exports, export_config):
    directory = Path(exports["savedmodel"].path).parent
    names = ["model-float16.tflite", "model-float32.tflite", "model-int8.tflite"]
    found = sorted(p.name for p in directory.iterdir())
    assert found == [".lock", *names, "parity.json", "savedmodel"]
    rows = json.loads((directory / "parity.json").read_text())
    assert [row["format"] for row in rows] == list(export_config.formats)
    for row in rows:
        found = exports[row["format"]]
        assert row == {**dataclasses.asdict(found), "path": Path(found.path).name}
        assert row["utterances"] == 6
        assert row["bytes"] == size_of(Path(found.path))


def size_of(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


@pytest.mark.parametrize("form", ["savedmodel", "tflite-float32"])
def test_float32_forms_are_identical_in_the_report(exports, form):
    assert exports[form].identical == 1.0
    assert exports[form].wer_change == 0.0


def test_savedmodel_gives_the_k_best_of_keras(exports, keras_says):
    serve = load_savedmodel(exports["savedmodel"].path)
    for waveform, expected in keras_says:
        found = serve(waveform=waveform[None], num_samples=tf.constant([len(waveform)]))
        counts = found["num_tokens"][0].numpy()
        assert counts.tolist() == expected.result.num_tokens.tolist()
        for rank, count in enumerate(counts):
            ids = found["token_ids"][0, rank, :count].numpy().tolist()
            assert ids == expected.result.token_ids[rank, :count].tolist()
            assert found["text"][0, rank].numpy().decode() == expected.texts[rank]
        np.testing.assert_allclose(found["log_prob"][0], expected.result.log_prob, atol=1e-3)
        np.testing.assert_allclose(found["score"][0], expected.result.score, atol=1e-3)


def test_savedmodel_takes_padded_batches(exports, keras_says):
    serve = load_savedmodel(exports["savedmodel"].path)
    longest = max(len(waveform) for waveform, _ in keras_says)
    padded = np.stack([np.pad(w, (0, longest - len(w))) for w, _ in keras_says])
    num_samples = tf.constant([len(waveform) for waveform, _ in keras_says])
    found = serve(waveform=padded, num_samples=num_samples)["text"][:, 0].numpy()
    assert [text.decode() for text in found] == [expected.best_text for _, expected in keras_says]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_float32_tflite_gives_the_k_best_of_keras(exports, keras_says, runtime):
    pytest.importorskip(f"{runtime}.interpreter")
    recogniser = DeviceRecogniser(exports["tflite-float32"].path, runtime=runtime)
    assert_k_best_of_keras(recogniser, keras_says)


def assert_k_best_of_keras(
    recogniser: DeviceRecogniser, keras_says: list[tuple[np.ndarray, Decoded]]
) -> None:
    for waveform, expected in keras_says:
        found = recogniser.transcribe_waveform(waveform)
        assert tuple(hypothesis.text for hypothesis in found) == expected.texts
        for rank, hypothesis in enumerate(found):
            count = expected.result.num_tokens[rank]
            assert hypothesis.token_ids == tuple(expected.result.token_ids[rank, :count])
            assert hypothesis.log_prob == pytest.approx(expected.result.log_prob[rank], abs=1e-3)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("form", ["tflite-float16", "tflite-int8"])
def test_quantised_tflite_hears_the_words(exports, keras_says, form, runtime):
    pytest.importorskip(f"{runtime}.interpreter")
    recogniser = DeviceRecogniser(exports[form].path, runtime=runtime)
    assert recogniser.metadata.quantisation == form.removeprefix("tflite-")
    agreements = []
    for waveform, expected in keras_says:
        best, *_ = recogniser.transcribe_waveform(waveform)
        assert best.log_prob == pytest.approx(expected.result.log_prob[0], abs=0.5)
        agreements.append(best.text == expected.best_text)
    assert np.mean(agreements) >= 0.8


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("form", TFLITE_FORMS)
def test_a_call_leaves_nothing_behind(exports, keras_says, form, runtime):
    pytest.importorskip(f"{runtime}.interpreter")
    recogniser = DeviceRecogniser(exports[form].path, runtime=runtime)
    waveforms = [waveform for waveform, _ in keras_says]
    first = [recogniser.transcribe_waveform(waveform) for waveform in waveforms]
    again = [recogniser.transcribe_waveform(waveform) for waveform in reversed(waveforms)]
    assert first == again[::-1]
    assert first[0] == recogniser.transcribe_waveform(waveforms[0])


@pytest.mark.parametrize("form", TFLITE_FORMS)
def test_only_built_in_operators_are_used(exports, form):
    content = Path(exports[form].path).read_bytes()
    # One of the runtimes alone would not tell: this interpreter knows the Flex operators too.
    interpreter = tf.lite.Interpreter(model_content=content)
    names = {operator["op_name"] for operator in interpreter._get_ops_details()}
    assert {"WHILE", "FULLY_CONNECTED"} & names
    assert not {name for name in names if name.startswith("Flex") or "CUSTOM" in name.upper()}
    # Subgraphs (the bodies of loops) name theirs in the file alone.
    assert b"Flex" not in content


# --- graphs of a fixed length


@pytest.fixture(scope="module")
def fixed_length(teacher, prepared, export_config, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("fixed")
    config = dataclasses.replace(
        export_config, formats=("tflite-float32",), max_seconds=3.0, fixed_length=True
    )
    (report,) = export(teacher, out, config, prepared["valid"])
    return out / report.path


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_graph_of_a_fixed_length_gives_the_k_best_of_keras(fixed_length, keras_says, runtime):
    pytest.importorskip(f"{runtime}.interpreter")
    recogniser = DeviceRecogniser(fixed_length, runtime=runtime)
    assert recogniser.metadata.min_samples == recogniser.metadata.max_samples == 24_000
    assert {len(waveform) for waveform, _ in keras_says} != {24_000}
    assert_k_best_of_keras(recogniser, keras_says)


def test_every_tensor_at_its_border_has_a_fixed_shape(fixed_length, exports):
    graph = tf.lite.Interpreter(model_path=str(fixed_length)).get_signature_runner()
    shapes = {name: each["shape_signature"] for name, each in graph.get_input_details().items()}
    assert shapes["waveform"].tolist() == [1, 24_000]
    assert shapes["num_samples"].tolist() == [1]
    outputs = graph.get_output_details().values()
    assert all((each["shape_signature"] > 0).all() for each in outputs)
    usual = tf.lite.Interpreter(model_path=str(exports["tflite-float32"].path))
    (waveform,) = usual.get_signature_runner().get_input_details().values()
    assert waveform["shape_signature"].tolist() == [1, -1]


def test_its_file_holds_no_constant_of_all_samples(fixed_length, exports):
    larger = fixed_length.stat().st_size - Path(exports["tflite-float32"].path).stat().st_size
    assert larger < 24_000


def test_what_lies_behind_num_samples_is_not_heard(fixed_length, keras_says):
    graph = tf.lite.Interpreter(model_path=str(fixed_length)).get_signature_runner()
    noise = np.random.default_rng(0).normal(size=24_000).astype(np.float32)
    for waveform, expected in keras_says:
        heard = np.concatenate([waveform, noise])[np.newaxis, :24_000]
        found = graph(waveform=heard, num_samples=np.array([len(waveform)], np.int32))
        assert found["num_tokens"][0].tolist() == expected.result.num_tokens.tolist()
        np.testing.assert_allclose(found["log_prob"][0], expected.result.log_prob, atol=1e-3)


def test_a_recording_is_longer_than_the_fixed_length(fixed_length, keras_says):
    waveform = np.concatenate([waveform for waveform, _ in keras_says] * 3)
    assert len(waveform) > 2 * 24_000
    found = DeviceRecogniser(fixed_length).transcribe(waveform)
    assert found.text
    assert len(found.segments) > 1
    with pytest.raises(AudioError, match="longer than the model takes"):
        DeviceRecogniser(fixed_length).transcribe_waveform(waveform)


def test_the_fixed_length_is_one_that_devices_pad_to(teacher):
    config = from_dict(ExportConfig, {"fixed_length": True, "max_seconds": 60.0})
    metadata = metadata_of(teacher, config, "float32", teacher.usual_seconds)
    written = json.loads(json.dumps(dataclasses.asdict(metadata)))
    assert parse_metadata(written, Path("model.tflite")) == metadata
    with pytest.raises(ConfigError, match="max_seconds: fixed_length takes 60 s at most"):
        from_dict(ExportConfig, {"fixed_length": True, "max_seconds": 60.5})


@pytest.mark.slow
@pytest.mark.parametrize(("normalisation", "length_penalty"), [("gnmt", 0.5), ("mean", 0.0)])
def test_every_control_of_the_search_converts(
    teacher, prepared, export_config, tmp_path, normalisation, length_penalty
):
    """The gate compares the form with Keras, and fails on operators that are not built in."""
    controls = {
        "normalisation": normalisation,
        "length_penalty": length_penalty,
        "coverage_penalty": 0.05,
        "min_tokens": 9,
        "eos_threshold": 1.2,
        "no_repeat_ngram": 2,
        "temperature": 1.5,
    }
    assert controls.keys() == {field.name for field in dataclasses.fields(SearchControls)}
    limits = {"max_tokens_per_second": 25.0}
    run = teacher.with_decoding([f"{key}={value}" for key, value in (controls | limits).items()])
    config = dataclasses.replace(export_config, formats=("tflite-float32",), num_hypotheses=1)
    (report,) = export(run, tmp_path, config, prepared["valid"])
    assert report.identical == 1.0
    recogniser, decoder, lengths = DeviceRecogniser(tmp_path / report.path), run.decoder(), set()
    for batch in audio_batches(prepared["test"], 1):
        (best,) = recogniser.transcribe_waveform(batch["waveform"][0].numpy())
        limit = np.ceil(int(batch["num_samples"][0]) / 8000 * 25)
        assert min(9, limit) <= len(best.token_ids) <= min(limit, 14)
        expected = next(decode_dataset(decoder, [batch]))
        assert best.score == pytest.approx(float(expected.result.score[0]), abs=1e-3)
        lengths.add(len(best.token_ids))
    assert len(lengths) > 1


INAUDIBLE = {
    "nothing": lambda speech: speech[:0],
    "one sample": lambda speech: speech[:1],
    "less than 50 ms": lambda speech: speech[:399],
    "zeros": lambda speech: 0 * speech,
    "constant": lambda speech: 0 * speech + 0.25,
    "NaN": lambda speech: np.where(np.arange(speech.size) == 1234, np.nan, speech),
    "unscaled int16": lambda speech: 32768 * speech,
}


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("form", TFLITE_FORMS)
def test_the_file_alone_says_nothing_of_what_is_no_speech(exports, keras_says, form, runtime):
    """Applications in other languages call the graph without the checks of `DeviceRecogniser`."""
    interpreters = pytest.importorskip(f"{runtime}.interpreter")
    runner = interpreters.Interpreter(exports[form].path).get_signature_runner("serving_default")
    speech = keras_says[0][0]
    assert runner(waveform=speech[None])["num_tokens"][0, 0] > 0
    for kind, spoil in INAUDIBLE.items():
        found = runner(waveform=spoil(speech).astype(np.float32)[None])
        assert found["num_tokens"].tolist() == [[0, 0]], kind
        # In float16 nothing is lower than -65504.
        assert (found["score"] < -1e4).all(), kind


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("form", ["tflite-float32", "fixed"])
def test_audio_shorter_than_a_word_gives_what_keras_says(
    exports, fixed_length, teacher, export_config, keras_says, form, runtime
):
    """Padded to a length that the graph takes, it would be heard as longer audio."""
    pytest.importorskip(f"{runtime}.interpreter")
    path = fixed_length if form == "fixed" else exports[form].path
    recogniser = DeviceRecogniser(path, runtime=runtime)
    decode = decode_with(decoder_for(teacher, export_config))
    speech = keras_says[0][0]
    said = 0
    for samples in (1, 2, 80, 399, 400, 401, 480, 560, 640, 799):
        for waveform in (speech[-samples:], np.full(samples, 0.25, np.float32)):
            (expected,) = decode(waveform[np.newaxis], np.array([samples], np.int32))
            found = recogniser.transcribe_waveform(waveform)
            assert [each.token_ids for each in found] == [each.token_ids for each in expected]
            said += len(found)
    assert said


def test_the_savedmodel_says_nothing_of_what_is_no_speech(exports, keras_says):
    serve = load_savedmodel(exports["savedmodel"].path)
    speech, expected = keras_says[0]
    for kind, spoil in INAUDIBLE.items():
        waveform = spoil(speech).astype(np.float32)
        both = np.stack([np.pad(waveform, (0, speech.size - waveform.size)), speech])
        found = serve(waveform=both, num_samples=tf.constant([waveform.size, speech.size]))
        assert found["num_tokens"][0].numpy().tolist() == [0, 0], kind
        assert found["text"].numpy()[:, 0].tolist() == [b"", expected.best_text.encode()], kind


def test_the_savedmodel_takes_an_empty_batch_and_too_large_lengths(exports, keras_says):
    serve = load_savedmodel(exports["savedmodel"].path)
    empty = serve(waveform=tf.zeros([0, 8000]), num_samples=tf.zeros([0], tf.int32))
    assert empty["text"].shape == empty["num_tokens"].shape == (0, 2)
    speech, expected = keras_says[0]
    found = serve(waveform=speech[None], num_samples=tf.constant([10 * speech.size]))
    assert found["text"][0, 0].numpy().decode() == expected.best_text


@pytest.mark.slow
@pytest.mark.parametrize("form", ["savedmodel", "tflite-float32"])
def test_forms_give_the_coverage_of_keras(exports, keras_says, form):
    opened = FORMS[form].open(Path(exports[form].path))
    for waveform, expected in keras_says:
        (found,) = opened.decode(waveform[None], np.array([waveform.size], np.int32))
        coverage = [each.coverage for each in found]
        assert coverage == pytest.approx(expected.result.coverage.tolist(), abs=1e-3)
        assert 0 < coverage[0] <= 1


@pytest.mark.slow
def test_ctc_joins_the_search_of_every_form(teacher, exports, keras_says):
    """The score is more than the log_prob of attention, by the weight of the default."""
    assert teacher.system.decoding.fusion.ctc_weight is None
    alone = decoder_for(teacher.with_decoding(["fusion.ctc_weight=0"]), EXPORTED)
    for waveform, expected in keras_says:
        assert expected.result.score[0] < expected.result.log_prob[0]
        result = alone.decode(waveform[None], np.array([waveform.size], np.int32))
        np.testing.assert_allclose(result.score, result.log_prob, atol=1e-5)
    for form in ("savedmodel", "tflite-float32"):
        (found,) = (
            FORMS[form]
            .open(Path(exports[form].path))
            .decode(keras_says[0][0][None], np.array([keras_says[0][0].size], np.int32))
        )
        assert found[0].score < found[0].log_prob - 1e-3


def test_the_search_is_that_of_the_run_unless_the_export_has_another(teacher):
    run = teacher.with_decoding(["beam_width=7", "num_hypotheses=3"])
    for settings, expected in (
        ({}, (7, 3)),
        ({"beam_width": 5}, (5, 3)),
        ({"beam_width": 1, "num_hypotheses": 1}, (1, 1)),
    ):
        config = ExportConfig(**settings)
        search, metadata = decoder_for(run, config).config, metadata_of(run, config, "int8", 1.0)
        assert (search.beam_width, search.num_hypotheses) == expected
        assert (metadata.beam_width, metadata.num_hypotheses) == expected
    with pytest.raises(ConfigError, match="num_hypotheses: cannot exceed beam_width"):
        decoder_for(run, ExportConfig(beam_width=2))


def test_an_export_with_the_search_of_the_run_is_not_made_again(teacher, prepared, tmp_path):
    out, valid = tmp_path / "export", prepared["valid"]
    config = ExportConfig(formats=("savedmodel",), parity_utterances=2, max_seconds=5.0)
    export_once(teacher.directory, out, config, valid)
    assert is_exported(teacher.directory, out, config)
    assert is_exported(teacher.directory, out, dataclasses.replace(config, beam_width=2))
    assert not is_exported(teacher.directory, out, dataclasses.replace(config, beam_width=3))


def test_a_language_model_is_left_out_aloud(teacher, export_config, caplog, tmp_path):
    fusion = FusionConfig(lm=str(tmp_path / "absent.arpa"), lm_weight=0.3)
    decoding = dataclasses.replace(teacher.system.decoding, fusion=fusion)
    run = dataclasses.replace(
        teacher, system=dataclasses.replace(teacher.system, decoding=decoding)
    )
    warn_of_language_model(run)
    decoder = decoder_for(run, export_config)
    assert decoder.language_model is None
    assert decoder.config.normalisation == "gnmt"
    (record,) = caplog.records
    assert "absent.arpa, which is too large for" in record.getMessage()


@pytest.mark.usefixtures("no_conversion")
def test_an_export_tells_of_the_language_model_once(teacher, prepared, one_form, caplog, tmp_path):
    run = teacher.with_decoding(["fusion.lm=absent.arpa", "fusion.lm_weight=0.3"])
    config = dataclasses.replace(one_form, formats=("tflite-int8", "tflite-float32"))
    export(run, tmp_path, config, prepared["valid"])
    (record,) = caplog.records
    assert "absent.arpa" in record.getMessage()


def test_quantised_forms_are_smaller(exports):
    float32, float16, int8 = (exports[form].bytes for form in TFLITE_FORMS)
    assert int8 < float16 < float32
    assert float32 > 4 * 26_000


def test_the_file_describes_itself(exports, teacher, export_config):
    metadata = read_metadata(exports["tflite-int8"].path)
    assert metadata.sample_rate_hz == 8000
    assert metadata.max_samples == 8000 * export_config.max_seconds
    assert metadata.pieces == teacher.tokenizer.pieces
    assert metadata.parameters == teacher.model.count_params()
    assert metadata.model_sha256 == teacher.sha256
    assert metadata.num_hypotheses == export_config.num_hypotheses


def test_what_is_no_savedmodel_is_refused(tmp_path):
    with pytest.raises(ExportError, match="not a SavedModel of tfkd") as raised:
        load_savedmodel(tmp_path)
    assert str(tmp_path) in str(raised.value)


# --- what becomes of a form that fails its gate


@pytest.fixture
def no_conversion(exports, monkeypatch) -> None:
    """Writes the forms that were made already: the gate cannot tell, and conversion is slow."""

    def copying(source: Path) -> Write:
        def write(run: Run, path: Path, config: ExportConfig, usual_seconds: float) -> None:
            (shutil.copytree if source.is_dir() else shutil.copyfile)(source, path)

        return write

    for name, form in FORMS.items():
        write = copying(Path(exports[name].path))
        monkeypatch.setitem(FORMS, name, dataclasses.replace(form, write=write))


@pytest.fixture(scope="module")
def forgetful(teacher) -> Run:
    """The teacher with another decoder: what was exported is no longer what Keras says."""
    model = Recogniser(teacher.model.config, teacher.model.vocab_size)
    model.set_weights(teacher.model.get_weights())
    bias = model.decoder.output_bias
    bias.assign(np.roll(np.linspace(-4, 4, bias.shape[0]), 3))
    return dataclasses.replace(teacher, model=model)


@pytest.mark.slow
@pytest.mark.usefixtures("no_conversion")
def test_a_failing_gate_leaves_the_earlier_files(
    forgetful, teacher, prepared, export_config, tmp_path
):
    forms = ("savedmodel", "tflite-float32")
    export(teacher, tmp_path, dataclasses.replace(export_config, formats=forms), prepared["valid"])
    before = bytes_below(tmp_path)
    assert any(name.endswith("saved_model.pb") for name in before)
    for form in forms:
        config = dataclasses.replace(export_config, formats=(form,))
        with pytest.raises(ExportError, match=f"{form} differs from Keras on .*report it with"):
            export(forgetful, tmp_path, config, prepared["valid"])
    assert bytes_below(tmp_path) == before


@pytest.mark.usefixtures("no_conversion")
def test_a_refused_form_leaves_the_others_alone(teacher, prepared, export_config, tmp_path):
    strict = dataclasses.replace(
        export_config, formats=("tflite-int8", "tflite-float32"), max_log_prob_drift=0.0
    )
    with pytest.raises(ExportError, match="tflite-int8 changes log_prob"):
        export(teacher, tmp_path, strict, prepared["valid"])
    assert [row["format"] for row in exported_rows(tmp_path)] == ["tflite-float32"]
    assert {path.name for path in tmp_path.glob("*.tflite")} == {"model-float32.tflite"}


@pytest.mark.usefixtures("no_conversion")
def test_forms_of_a_run_are_recorded_together_and_runs_do_not_mix(
    teacher, prepared, export_config, tmp_path
):
    for form in ("tflite-float32", "tflite-int8", "tflite-float32"):
        config = dataclasses.replace(export_config, formats=(form,))
        export(teacher, tmp_path, config, prepared["valid"])
    assert {row["format"] for row in exported_rows(tmp_path)} == {"tflite-float32", "tflite-int8"}
    rows = json.loads((tmp_path / "parity.json").read_text())
    other = [{**row, "run_sha256": "that of another run"} for row in rows]
    (tmp_path / "parity.json").write_text(json.dumps(other))
    before = bytes_below(tmp_path)
    config = dataclasses.replace(export_config, formats=("tflite-float32",))
    with pytest.raises(ExportError, match=r"holds model-int8\.tflite of another run"):
        export(teacher, tmp_path, config, prepared["valid"])
    assert bytes_below(tmp_path) == before
    both = dataclasses.replace(export_config, formats=("tflite-float32", "tflite-int8"))
    export(teacher, tmp_path, both, prepared["valid"])
    assert {row["run_sha256"] for row in exported_rows(tmp_path)} == {teacher.sha256}


def bytes_below(directory: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


@pytest.mark.usefixtures("no_conversion")
def test_what_a_killed_export_left_is_removed(teacher, prepared, export_config, tmp_path):
    for name in (".savedmodel.abcdefgh.tmp", ".export.ijklmn_1.tmp"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "saved_model.pb").write_bytes(b"half")
    (tmp_path / ".model-int8.tflite.abcdefgh.tmp").write_bytes(b"half")
    not_ours = {".bashrc.old", ".notes.tmp", ".thesis.abcdefgh.tmp"}
    for name in not_ours:
        (tmp_path / name).write_bytes(b"not ours")
    config = dataclasses.replace(export_config, formats=("tflite-float32",))
    export(teacher, tmp_path, config, prepared["valid"])
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"model-float32.tflite", "parity.json", ".lock"} | not_ours


@pytest.mark.usefixtures("no_conversion")
def test_a_damaged_file_is_not_written(
    teacher, exports, prepared, export_config, tmp_path, monkeypatch
):
    whole = Path(exports["tflite-int8"].path).read_bytes()
    damaged = whole[:2000] + bytes(100) + whole[2100:]

    def write(run: Run, path: Path, config: ExportConfig, usual_seconds: float) -> None:
        path.write_bytes(damaged)

    form = dataclasses.replace(FORMS["tflite-int8"], write=write)
    monkeypatch.setitem(FORMS, "tflite-int8", form)
    config = dataclasses.replace(export_config, formats=("tflite-int8",))
    with pytest.raises(ExportError, match="^tflite-int8: is damaged.*leave the form out of"):
        export(teacher, tmp_path, config, prepared["valid"])
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "parity.json"]
    assert exported_rows(tmp_path) == []


@pytest.fixture
def failing(monkeypatch) -> Callable[..., list[dict]]:
    """Makes a form fail with an error when it is opened, or when it decodes.

    It returns the list that receives the options with which the form is opened.
    """

    def fail(name: str, error: TfkdError, *, when_it: str) -> list[dict]:
        form, options = FORMS[name], []

        def decode(waveform: np.ndarray, num_samples: np.ndarray) -> list:
            raise error

        def opening(path: Path, **given) -> OpenForm:
            options.append(given)
            if when_it == "opens":
                raise error
            return dataclasses.replace(form.open(path), decode=decode)

        monkeypatch.setitem(FORMS, name, dataclasses.replace(form, open=opening))
        return options

    return fail


UNRUNNABLE = [
    ("opens", CheckpointError("cannot load the model: op 7", remedy="copy it again"), "report it"),
    ("decodes", CheckpointError("the model crashes", remedy="copy it again"), "report it"),
    ("opens", TfkdError("no TFLite runtime", remedy="pip install one"), "pip install one"),
]


@pytest.mark.usefixtures("no_conversion")
@pytest.mark.parametrize(("when_it", "error", "remedy"), UNRUNNABLE)
def test_a_form_that_does_not_run_is_refused_as_one_that_differs(
    teacher, prepared, export_config, tmp_path, failing, caplog, when_it, error, remedy
):
    error.path = "/tmp/scratch/model-int8.tflite"
    options = failing("tflite-int8", error, when_it=when_it)
    forms = ("tflite-int8", "tflite-float32")
    config = dataclasses.replace(export_config, formats=forms, parity_utterances=1)
    with pytest.raises(RefusedForms, match=f"^tflite-int8: {error.message} .*{remedy}") as raised:
        export(teacher, tmp_path, config, prepared["valid"])
    assert "scratch" not in str(raised.value)
    assert [report.format for report in raised.value.exported] == ["tflite-float32"]
    assert [row["format"] for row in exported_rows(tmp_path)] == ["tflite-float32"]
    assert [record.getMessage() for record in caplog.records] == [str(raised.value)]
    assert options == [{"max_memory_bytes": 16 * 2**30}]


@pytest.mark.usefixtures("no_conversion")
def test_every_refused_form_is_told(teacher, prepared, export_config, tmp_path, failing, caplog):
    for name in ("tflite-float16", "tflite-int8"):
        failing(name, CheckpointError("crashes", remedy="copy it again"), when_it="opens")
    forms = ("tflite-float16", "tflite-int8")
    config = dataclasses.replace(export_config, formats=forms, parity_utterances=1)
    with pytest.raises(RefusedForms, match="tflite-float16: crashes"):
        export(teacher, tmp_path, config, prepared["valid"])
    told = [record.getMessage().partition(":")[0] for record in caplog.records]
    assert told == list(forms)


@pytest.mark.usefixtures("no_conversion")
def test_the_report_is_right_after_each_form(
    teacher, prepared, export_config, tmp_path, monkeypatch
):
    def interrupted(*arguments) -> None:
        raise KeyboardInterrupt

    form = dataclasses.replace(FORMS["tflite-float32"], write=interrupted)
    monkeypatch.setitem(FORMS, "tflite-float32", form)
    forms = ("tflite-int8", "tflite-float32")
    config = dataclasses.replace(export_config, formats=forms, parity_utterances=1)
    with pytest.raises(KeyboardInterrupt):
        export(teacher, tmp_path, config, prepared["valid"])
    assert [row["format"] for row in exported_rows(tmp_path)] == ["tflite-int8"]


# --- forms of another run


def as_of_another_run(out: Path) -> None:
    """Changes parity.json as if another run had been exported."""
    rows = json.loads((out / "parity.json").read_text())
    other = [{**row, "run_sha256": "that of another run"} for row in rows]
    (out / "parity.json").write_text(json.dumps(other))


@pytest.fixture
def one_form(export_config) -> ExportConfig:
    return dataclasses.replace(export_config, formats=("tflite-int8",), parity_utterances=1)


@pytest.mark.usefixtures("no_conversion")
@pytest.mark.parametrize("is_of_another", [True, False])
def test_a_refused_form_of_another_run_does_not_stay(
    teacher, prepared, one_form, tmp_path, failing, is_of_another
):
    export(teacher, tmp_path, one_form, prepared["valid"])
    if is_of_another:
        as_of_another_run(tmp_path)
    failing("tflite-int8", CheckpointError("crashes", remedy="copy it again"), when_it="opens")
    with pytest.raises(RefusedForms):
        export(teacher, tmp_path, one_form, prepared["valid"])
    assert (tmp_path / "model-int8.tflite").exists() is not is_of_another
    assert len(exported_rows(tmp_path)) == (0 if is_of_another else 1)


@pytest.mark.usefixtures("no_conversion")
def test_a_form_that_a_kill_moved_aside_counts_as_one_of_its_run(
    teacher, prepared, one_form, tmp_path
):
    saved = dataclasses.replace(one_form, formats=("savedmodel",))
    export(teacher, tmp_path, saved, prepared["valid"])
    as_of_another_run(tmp_path)
    (tmp_path / "savedmodel").rename(tmp_path / ".savedmodel.abcdefgh.old")
    with pytest.raises(ExportError, match="holds savedmodel of another run"):
        export(teacher, tmp_path, one_form, prepared["valid"])
    assert [row["format"] for row in exported_rows(tmp_path)] == ["savedmodel"]


@pytest.mark.usefixtures("no_conversion")
def test_a_job_keeps_no_form_of_an_earlier_student(teacher, prepared, one_form, tmp_path):
    both = dataclasses.replace(one_form, formats=("savedmodel", "tflite-int8"))
    export_once(teacher.directory, tmp_path, both, prepared["valid"])
    as_of_another_run(tmp_path)
    export_once(teacher.directory, tmp_path, one_form, prepared["valid"])
    assert [row["format"] for row in exported_rows(tmp_path)] == ["tflite-int8"]
    assert not (tmp_path / "savedmodel").exists()


@pytest.mark.usefixtures("no_conversion")
def test_a_job_keeps_good_forms_while_another_one_is_refused(
    teacher, prepared, one_form, tmp_path, failing
):
    both = dataclasses.replace(one_form, formats=("tflite-float32", "tflite-int8"))
    failing("tflite-int8", CheckpointError("crashes", remedy="copy it again"), when_it="opens")
    with pytest.raises(RefusedForms):
        export_once(teacher.directory, tmp_path, both, prepared["valid"])

    def interrupted(*arguments) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exports_of_jobs, "export", interrupted)
        with pytest.raises(KeyboardInterrupt):
            export_once(teacher.directory, tmp_path, both, prepared["valid"])
    assert (tmp_path / "model-float32.tflite").exists()
    assert [row["format"] for row in exported_rows(tmp_path)] == ["tflite-float32"]


@pytest.mark.usefixtures("no_conversion")
def test_a_file_that_nobody_recorded_stays_where_its_form_is_refused(
    teacher, prepared, one_form, tmp_path, failing
):
    (tmp_path / "model-int8.tflite").write_text("whose is it?")
    failing("tflite-int8", CheckpointError("crashes", remedy="copy it again"), when_it="opens")
    with pytest.raises(RefusedForms):
        export(teacher, tmp_path, one_form, prepared["valid"])
    assert (tmp_path / "model-int8.tflite").read_text() == "whose is it?"


# --- what a form says of itself


@pytest.fixture
def usual_seconds_given(monkeypatch, no_conversion) -> list[float]:
    """Receives the duration of usual utterances that a form is written with."""
    form, given = FORMS["tflite-int8"], []

    def write(run: Run, path: Path, config: ExportConfig, usual_seconds: float) -> None:
        given.append(usual_seconds)
        form.write(run, path, config, usual_seconds)

    monkeypatch.setitem(FORMS, "tflite-int8", dataclasses.replace(form, write=write))
    return given


def test_a_run_without_utterances_is_cut_as_the_parity_data_are(
    teacher, prepared, one_form, tmp_path, usual_seconds_given
):
    kept = shutil.copytree(teacher.directory, tmp_path / "run")
    shutil.rmtree(kept / "parity")
    without = load_run(kept)
    assert without.usual_seconds == np.inf
    export(teacher, tmp_path / "with", one_form, prepared["valid"])
    export(without, tmp_path / "without", one_form, prepared["test"])
    seconds = [row["num_samples"] / 8000 for row in prepared["test"].index]
    expected = [teacher.usual_seconds, np.quantile(seconds, 0.95)]
    assert usual_seconds_given == pytest.approx(expected)
    metadata = metadata_of(without, one_form, "int8", usual_seconds_given[1])
    assert metadata.usual_samples == round(8000 * expected[1])


def test_a_savedmodel_takes_any_length_beside_forms_of_a_fixed_one(
    teacher, export_config, tmp_path, monkeypatch
):
    monkeypatch.setattr(tf.saved_model, "save", lambda module, path, signatures: None)
    config = dataclasses.replace(export_config, fixed_length=True)
    write_savedmodel(teacher, tmp_path, config, 1.0)
    metadata = json.loads((tmp_path / "tfkd.json").read_text())
    assert (metadata["min_samples"], metadata["max_samples"]) == (1, 40_000)


def test_the_longest_audio_is_what_devices_read(teacher):
    config = from_dict(ExportConfig, {"max_seconds": 24 * 3600.0})
    metadata = metadata_of(teacher, config, "float32", 1.0)
    written = json.loads(json.dumps(dataclasses.asdict(metadata)))
    assert parse_metadata(written, Path("model.tflite")) == metadata
    with pytest.raises(ConfigError, match="max_seconds: 90000.0 is above 86400"):
        from_dict(ExportConfig, {"max_seconds": 25 * 3600.0})


@pytest.mark.slow
@pytest.mark.usefixtures("no_conversion")
def test_the_utterances_kept_in_a_run_are_the_default_parity_data(teacher, tmp_path, capsys):
    arguments = ["export", str(teacher.directory), "--out", str(tmp_path)]
    arguments += ["--formats", "tflite-float32", "--beam-width", "2", "--num-hypotheses", "2"]
    cli.main(arguments)
    shown = capsys.readouterr().out
    assert "100% of 6" in shown
    assert "  WER change, points  WER to Keras %  log_prob drift, nats  " in shown
    assert (tmp_path / "model-float32.tflite").exists()


@pytest.mark.slow
def test_a_conversion_that_fails_in_its_child_is_one_line(tmp_path):
    with pytest.raises(ExportError, match="tflite-float32: the converter ended with") as raised:
        convert_in_child(tmp_path / "none", tmp_path / "x.tflite", "tflite-float32")
    assert "does not exist" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.slow
def test_a_script_that_is_not_guarded_against_imports_may_convert(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\n"
        "import tensorflow as tf\n"
        "from tfkd.exporting.tflite import convert_in_child\n"
        "print('once')\n"
        "module = tf.Module()\n"
        "module.twice = tf.function(lambda x: 2 * x, [tf.TensorSpec([1], tf.float32)])\n"
        "tf.saved_model.save(module, 'saved', signatures=module.twice)\n"
        "convert_in_child(Path('saved'), Path('x.tflite'), 'tflite-float32')\n"
    )
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "once\n"), done.stderr
    assert (tmp_path / "x.tflite").stat().st_size > 0


def test_the_table_has_a_row_for_every_form_of_the_settings():
    assert set(FORMS) == set(typing.get_args(ExportFormat))
    assert len({form.file_name for form in FORMS.values()}) == len(FORMS)


@pytest.mark.parametrize("name", FORMS)
def test_every_row_opens_and_identifies_what_it_wrote(exports, name, tmp_path):
    path, form = Path(exports[name].path), FORMS[name]
    assert form.owns(path)
    assert form_of(path).open is form.open
    assert form.open(path).form == name
    copy = tmp_path / path.name
    (shutil.copytree if path.is_dir() else shutil.copyfile)(path, copy)
    assert form.identity(copy) == form.identity(path)
    files = [file for file in (copy, *copy.rglob("*")) if file.is_file()]
    altered = max(files, key=lambda file: file.stat().st_size)
    altered.write_bytes(altered.read_bytes()[:-1])
    assert form.identity(copy) != form.identity(path)
