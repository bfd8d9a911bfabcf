"""Every family converts to built-in operators, and its `.tflite` says what Keras says."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from families import FAMILIES, family_model
from helpers import VOCAB_SIZE, randomise, tokenizer

from tfkd.config import NoDecoderConfig
from tfkd.data.audio_batches import audio_batches
from tfkd.decoding.decoder import decode_dataset
from tfkd.decoding.run_writing import save_model
from tfkd.decoding.runs import MODEL, Run
from tfkd.device.recogniser import DeviceRecogniser
from tfkd.exporting.export import export
from tfkd.exporting.graph import decoder_for
from tfkd.models.recogniser import Recogniser
from tfkd.storage.files import sha256


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_converts(name, tiny_system, prepared, export_config, tmp_path):
    """The gate of `export` compares token ids; here the k best and their log_probs besides."""
    system = dataclasses.replace(tiny_system, model=FAMILIES[name])
    # Its weights are random: left alone, it would say next to nothing.
    model = family_model(name)
    save_model(model, tmp_path / MODEL)
    run = Run(tmp_path, system, tokenizer(), model, sha256(tmp_path / MODEL))
    run = run.with_decoding(["min_tokens=4"])
    config = dataclasses.replace(export_config, formats=("tflite-float32",))
    (exact,) = export(run, tmp_path / "export", config, prepared["valid"])
    assert exact.identical == 1.0
    recogniser = DeviceRecogniser(tmp_path / "export" / exact.path)
    decoder, best = decoder_for(run, config), []
    for batch in audio_batches(prepared["test"], 1):
        expected = next(decode_dataset(decoder, [batch]))
        found = recogniser.transcribe_waveform(batch["waveform"][0].numpy())
        assert tuple(hypothesis.text for hypothesis in found) == expected.texts
        log_probs = [hypothesis.log_prob for hypothesis in found]
        assert log_probs == pytest.approx(expected.result.log_prob.tolist(), abs=2e-3)
        best.append(log_probs[0])
    assert max(best) - min(best) > 0.01, "the utterances hardly matter"


@pytest.mark.slow
def test_ctc_alone_at_width_1_is_exported_without_a_loop(
    tiny_system, prepared, export_config, tmp_path
):
    config = dataclasses.replace(FAMILIES["convolutional"], decoder=NoDecoderConfig(), ctc=True)
    system = dataclasses.replace(tiny_system, model=config)
    model = Recogniser(config, VOCAB_SIZE)
    randomise(model.trainable_variables, seed=0, gain=2.0)
    model.frontend.set_statistics(np.full(8, -6.0), np.full(8, 2.5))
    save_model(model, tmp_path / MODEL)
    run = Run(tmp_path, system, tokenizer(), model, sha256(tmp_path / MODEL))
    formats = dataclasses.replace(
        export_config, formats=("tflite-float32",), beam_width=1, num_hypotheses=1
    )
    (exact,) = export(run, tmp_path / "export", formats, prepared["valid"])
    assert exact.identical == 1.0
    path = tmp_path / "export" / exact.path
    interpreter = tf.lite.Interpreter(str(path))
    names = {operator["op_name"] for operator in interpreter._get_ops_details()}
    assert "CONV_2D" in names
    assert not names & {"WHILE", "IF", "CALL_ONCE"}
    recogniser, decoder, said = DeviceRecogniser(path), decoder_for(run, formats), set()
    for batch in audio_batches(prepared["test"], 1):
        expected = next(decode_dataset(decoder, [batch]))
        (found,) = recogniser.transcribe_waveform(batch["waveform"][0].numpy())
        assert found.text == expected.best_text
        assert found.log_prob == pytest.approx(float(expected.result.log_prob[0]), abs=2e-3)
        said.add(found.text)
    assert len(said) > 1
