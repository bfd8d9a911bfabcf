"""An exported form says what Keras says, or it is not written."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tensorflow as tf
from helpers import tiny_config, tiny_model, tokenizer

from tfkd import cli
from tfkd.config import ExportConfig
from tfkd.data.audio_batches import audio_batches
from tfkd.data.preparation import prepare
from tfkd.decoding.decoder import decode_dataset
from tfkd.decoding.results import Decoded
from tfkd.decoding.runs import MODEL, Run, save_model
from tfkd.device import recogniser as device
from tfkd.device.recogniser import DeviceRecogniser
from tfkd.errors import CheckpointError, ExportError
from tfkd.exporting import export as exporting
from tfkd.exporting.export import Exported, decoder_for, export, load_savedmodel
from tfkd.models.recogniser import Recogniser
from tfkd.records import Store, open_store

TFLITE_FORMS = ("tflite-float32", "tflite-float16", "tflite-int8")
CANNOT_HOLD = -1.0  # a change of WER that no form can stay below


def refuse(*arguments, **settings):
    raise AssertionError("this must not be called")


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
    assert sorted(p.name for p in directory.iterdir()) == [*names, "parity.json", "savedmodel"]
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


@pytest.mark.parametrize("runtime", device.RUNTIMES)
def test_float32_tflite_gives_the_k_best_of_keras(exports, keras_says, runtime):
    pytest.importorskip(f"{runtime}.interpreter")
    recogniser = DeviceRecogniser(exports["tflite-float32"].path, runtime=runtime)
    for waveform, expected in keras_says:
        found = recogniser.transcribe_waveform(waveform)
        assert tuple(hypothesis.text for hypothesis in found) == expected.texts
        for rank, hypothesis in enumerate(found):
            count = expected.result.num_tokens[rank]
            assert hypothesis.token_ids == tuple(expected.result.token_ids[rank, :count])
            assert hypothesis.log_prob == pytest.approx(expected.result.log_prob[rank], abs=1e-3)


@pytest.mark.parametrize("runtime", device.RUNTIMES)
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


@pytest.mark.parametrize("runtime", device.RUNTIMES)
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cell", "attention", "reduction"),
    [("gru", "additive", "pyramid"), ("gru", "location", "conv"), ("lstm", "location", "pyramid")],
)
def test_every_kind_of_recogniser_converts(
    tiny_system, prepared, export_config, tmp_path, cell, attention, reduction
):
    """The `.tflite` gives the k best of Keras; the teacher of the other tests is of one kind."""
    kind = {"cell": cell, "attention": attention, "reduction": reduction}
    system = dataclasses.replace(tiny_system, model=tiny_config(**kind))
    # Its weights are random: left alone, it would say next to nothing.
    run = Run(tmp_path, system, tokenizer(), tiny_model(**kind)).with_decoding(["min_tokens=6"])
    save_model(run.model, tmp_path / MODEL)
    config = dataclasses.replace(export_config, formats=("tflite-float32",))
    (report,) = export(run, tmp_path / "export", config, prepared["valid"])
    assert report.identical == 1.0
    recogniser = DeviceRecogniser(tmp_path / "export" / report.path)
    decoder, said = decoder_for(run, config), set()
    for batch in audio_batches(prepared["test"], 1):
        expected = next(decode_dataset(decoder, [batch]))
        found = recogniser.transcribe_waveform(batch["waveform"][0].numpy())
        assert tuple(hypothesis.text for hypothesis in found) == expected.texts
        log_probs = [hypothesis.log_prob for hypothesis in found]
        assert log_probs == pytest.approx(expected.result.log_prob.tolist(), abs=1e-3)
        said.add(expected.best_text)
    assert len(said) > 1


@pytest.mark.slow
def test_every_control_of_the_search_converts(teacher, prepared, export_config, tmp_path):
    """The gate compares the form with Keras, and fails on operators that are not built in."""
    controls = {
        "length_penalty": 0.5,
        "coverage_penalty": 0.05,
        "min_tokens": 9,
        "eos_threshold": 1.2,
        "no_repeat_ngram": 2,
        "temperature": 1.5,
        "max_tokens_per_second": 25.0,
    }
    run = teacher.with_decoding([f"{key}={value}" for key, value in controls.items()])
    config = dataclasses.replace(export_config, formats=("tflite-float32",), num_hypotheses=1)
    (report,) = export(run, tmp_path, config, prepared["valid"])
    assert report.identical == 1.0
    recogniser = DeviceRecogniser(tmp_path / report.path)
    lengths = set()
    for batch in audio_batches(prepared["test"], 1):
        (best,) = recogniser.transcribe_waveform(batch["waveform"][0].numpy())
        limit = np.ceil(int(batch["num_samples"][0]) / 8000 * 25)
        assert min(9, limit) <= len(best.token_ids) <= min(limit, 14)
        lengths.add(len(best.token_ids))
    assert len(lengths) > 1


def test_quantised_forms_are_smaller(exports):
    float32, float16, int8 = (exports[form].bytes for form in TFLITE_FORMS)
    assert int8 < float16 < float32
    assert float32 > 4 * 26_000


def test_the_file_describes_itself(exports, teacher, export_config):
    metadata = device.read_metadata(exports["tflite-int8"].path)
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


# --- the gate


@pytest.fixture(scope="module")
def parity_once() -> Callable:
    """What Keras says, found once for each model: tracing its search takes seconds."""
    known: dict[int, list] = {}
    real = exporting._parity_utterances

    def parity_utterances(run: Run, store: Store, config: ExportConfig) -> list:
        if id(run.model) not in known:
            known[id(run.model)] = real(run, store, config)
        return known[id(run.model)]

    return parity_utterances


@pytest.fixture
def no_conversion(exports, parity_once, monkeypatch) -> None:
    """Writes the forms that were made already: the gate cannot tell, and conversion is slow."""

    def copied_bytes(run: Run, form: str, config: ExportConfig) -> bytes:
        return Path(exports[form].path).read_bytes()

    def copied_directory(run: Run, directory: Path, config: ExportConfig) -> None:
        shutil.copytree(exports["savedmodel"].path, directory, dirs_exist_ok=True)

    monkeypatch.setattr(exporting, "_parity_utterances", parity_once)
    monkeypatch.setattr(exporting, "_tflite_bytes", copied_bytes)
    monkeypatch.setattr(exporting, "_write_savedmodel", copied_directory)


@pytest.fixture(scope="module")
def forgetful(teacher) -> Run:
    """The teacher with another decoder: what was exported is no longer what Keras says."""
    model = Recogniser(teacher.model.config, teacher.model.vocab_size)
    model.set_weights(teacher.model.get_weights())
    bias = model.decoder.output_bias
    bias.assign(np.roll(np.linspace(-4, 4, bias.shape[0]), 3))
    return dataclasses.replace(teacher, model=model)


def gate(run: Run, form: str, out: Path, prepared, config: ExportConfig) -> list[Exported]:
    config = dataclasses.replace(config, formats=(form,))
    return export(run, out, config, prepared["valid"])


@pytest.mark.usefixtures("no_conversion")
@pytest.mark.parametrize("form", ["savedmodel", *TFLITE_FORMS])
def test_the_gate_lets_the_true_forms_pass(form, teacher, prepared, export_config, tmp_path):
    (report,) = gate(teacher, form, tmp_path, prepared, export_config)
    assert (tmp_path / report.path).exists()
    assert (tmp_path / "parity.json").exists()


@pytest.mark.usefixtures("no_conversion")
@pytest.mark.parametrize("form", ["savedmodel", "tflite-float32"])
def test_a_float32_form_that_differs_is_not_written(
    form, forgetful, prepared, export_config, tmp_path
):
    with pytest.raises(ExportError, match=f"utterance valid-0[0-9]: {form} differs from Keras on"):
        gate(forgetful, form, tmp_path, prepared, export_config)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("no_conversion")
@pytest.mark.parametrize("form", ["tflite-float16", "tflite-int8"])
def test_a_quantised_form_beyond_its_limit_is_not_written(
    form, teacher, prepared, export_config, tmp_path
):
    config = dataclasses.replace(export_config, max_wer_change=CANNOT_HOLD)
    with pytest.raises(ExportError, match=f"{form} raises WER by .* more than -100.*max_wer"):
        gate(teacher, form, tmp_path, prepared, config)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("no_conversion")
def test_a_quantised_form_that_gained_errors_is_measured(
    teacher, prepared, export_config, tmp_path, monkeypatch
):
    """The change is WER of the form minus WER of Keras, with words that are all wrong."""
    monkeypatch.setattr(exporting, "_tflite_ids", lambda path: lambda waveform: ([4], "zz"))
    (report,) = gate(teacher, "tflite-int8", tmp_path, prepared, export_config)
    assert report.identical == 0.0
    assert report.wer_change > 0.4
    config = dataclasses.replace(export_config, max_wer_change=report.wer_change - 0.01)
    with pytest.raises(ExportError, match="raises WER"):
        gate(teacher, "tflite-int8", tmp_path / "strict", prepared, config)


@pytest.mark.usefixtures("no_conversion")
@pytest.mark.parametrize("form", ["savedmodel", "tflite-float32"])
def test_a_failing_gate_leaves_the_earlier_file(
    form, exports, forgetful, teacher, prepared, export_config, tmp_path
):
    (report,) = gate(teacher, form, tmp_path, prepared, export_config)
    before = bytes_below(tmp_path)
    with pytest.raises(ExportError):
        gate(forgetful, form, tmp_path, prepared, export_config)
    assert bytes_below(tmp_path) == before


def bytes_below(directory: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


@pytest.mark.usefixtures("no_conversion")
def test_a_form_that_remembers_the_last_call_is_not_written(
    teacher, prepared, export_config, tmp_path, monkeypatch
):
    answers: Iterator[int] = itertools.count()
    monkeypatch.setattr(
        exporting, "_tflite_ids", lambda path: lambda waveform: ([next(answers)], "")
    )
    with pytest.raises(ExportError, match="gives another result the second time"):
        gate(teacher, "tflite-int8", tmp_path, prepared, export_config)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("no_conversion")
def test_a_damaged_file_is_not_written(teacher, prepared, export_config, tmp_path, monkeypatch):
    whole = exporting._tflite_bytes(teacher, "tflite-int8", export_config)
    damaged = whole[:2000] + bytes(100) + whole[2100:]
    monkeypatch.setattr(exporting, "_tflite_bytes", lambda *arguments: damaged)
    with pytest.raises(CheckpointError, match="damaged"):
        gate(teacher, "tflite-int8", tmp_path, prepared, export_config)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("no_conversion")
def test_the_utterances_kept_in_a_run_are_the_default_parity_data(teacher, tmp_path, capsys):
    arguments = ["export", str(teacher.directory), "--out", str(tmp_path)]
    arguments += ["--formats", "tflite-float32", "--beam-width", "2", "--num-hypotheses", "2"]
    cli.main(arguments)
    assert "100% of 6" in capsys.readouterr().out
    assert (tmp_path / "model-float32.tflite").exists()


@pytest.fixture
def without_transcripts(tmp_path, prepared, speak, prepare_config) -> Store:
    """Some recordings of which nobody said what they hold, one of them too short for a device."""
    lines = []
    for number, (words, seconds) in enumerate([("ba di", 1), ("ko", 1), ("mu", 0.05)]):
        path = speak(tmp_path / f"{number}.wav", words)
        samples, rate_hz = soundfile.read(path)
        soundfile.write(path, samples[: round(seconds * rate_hz)], rate_hz)
        lines.append(json.dumps({"audio": path.name}) + "\n")
    (tmp_path / "m.jsonl").write_text("".join(lines))
    config = dataclasses.replace(prepare_config, min_seconds=0.01)
    prepare(tmp_path / "m.jsonl", tmp_path / "store", config)
    return open_store(tmp_path / "store")


def test_without_transcripts_a_quantised_form_is_held_to_what_keras_says(
    teacher, exports, without_transcripts, export_config, tmp_path, monkeypatch
):
    model = Path(exports["tflite-int8"].path).read_bytes()
    monkeypatch.setattr(exporting, "_tflite_bytes", lambda *arguments: model)
    config = dataclasses.replace(export_config, formats=("tflite-int8",), max_wer_change=0.1)
    (report,) = export(teacher, tmp_path / "out", config, without_transcripts)
    # A device would pad the shortest, so it is not compared.
    assert (report.identical, report.wer_change, report.utterances) == (1.0, 0.0, 2)
    monkeypatch.setattr(exporting, "_tflite_ids", lambda path: lambda waveform: ([4], "zz"))
    with pytest.raises(ExportError, match="raises WER by"):
        export(teacher, tmp_path / "bad", config, without_transcripts)


def test_a_conversion_that_fails_in_its_child_is_one_line(tmp_path):
    with pytest.raises(ExportError, match="tflite-float32: the converter ended with") as raised:
        exporting._convert_in_child(tmp_path / "none", tmp_path / "x.tflite", "tflite-float32")
    assert "does not exist" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_parity_takes_utterances_of_all_lengths(teacher, prepared, export_config):
    store = prepared["train"]
    sizes = sorted(row["num_samples"] for row in store.index)
    config = dataclasses.replace(export_config, parity_utterances=3)
    chosen = exporting._parity_utterances(teacher, store, config)
    found = sorted(len(utterance.waveform) for utterance in chosen)
    assert found == [sizes[0], sizes[round((len(sizes) - 1) / 2)], sizes[-1]]
