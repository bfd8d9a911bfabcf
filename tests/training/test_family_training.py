"""Another family teaches another one: trained, labelling, distilled, by the same code as all."""

from __future__ import annotations

import pytest

from tfkd.config import SystemConfig, from_dict
from tfkd.data.audio_batches import audio_batches
from tfkd.decoding.decoder import Decoder, decode_dataset
from tfkd.distillation.labelling import label
from tfkd.metrics import score
from tfkd.records import open_store
from tfkd.training.loop import train

CTC = {"decoder": {"kind": "none"}}
CONFORMER = {
    "encoder": {
        "kind": "conformer",
        "time_reduction": 2,
        "conv_units": 24,
        "layers": 1,
        "units": 24,
        "heads": 2,
        "feed_forward_units": 32,
        "convolution_width": 5,
        "dropout": 0.0,
    },
    "decoder": {
        "kind": "transformer",
        "layers": 1,
        "units": 24,
        "heads": 2,
        "feed_forward_units": 32,
        "dropout": 0.0,
    },
}


def system_of(tiny_settings, model, **training):
    settings = dict(tiny_settings)
    settings["model"] = {**settings["model"], **model}
    settings["training"] = {**settings["training"], **training}
    return from_dict(SystemConfig, settings)


def errors_of(run, store):
    """WER of the best epoch, by validation, on that same data: so few utterances tell no more."""
    decoder = Decoder(run.model, run.tokenizer, run.system.decoding)
    decoded = list(decode_dataset(decoder, audio_batches(store, 6)))
    return score([d.reference for d in decoded], [d.best_text for d in decoded], samples=1).wer


@pytest.fixture(scope="module")
def ctc_run(tiny_settings, prepared, tmp_path_factory):
    system = system_of(tiny_settings, CTC, ctc_weight=1.0, epochs=6)
    return train(system, prepared["train"], prepared["valid"], tmp_path_factory.mktemp("ctc"))


@pytest.mark.slow
def test_ctc_alone_learns_the_words(ctc_run, prepared):
    assert ctc_run.model.decoder(None, None, None) is None
    assert errors_of(ctc_run, prepared["valid"]) < 0.4


@pytest.mark.slow
def test_its_labels_teach_a_conformer(ctc_run, tiny_settings, prepared, label_config, tmp_path):
    label(ctc_run, prepared["train"], tmp_path / "labels", label_config)
    labels = open_store(tmp_path / "labels")
    hypotheses = [each for record in labels.records() for each in record.hypotheses]
    assert all(each.log_prob == pytest.approx(sum(each.token_log_probs), abs=1e-3)
               for each in hypotheses)  # fmt: skip
    objective = {"kind": "seq_kd", "num_hypotheses": 2}
    system = system_of(tiny_settings, CONFORMER, objective=objective, learning_rate=5e-3, epochs=6)
    run = train(system, labels, prepared["valid"], tmp_path / "student")
    assert errors_of(run, prepared["valid"]) < 0.7
