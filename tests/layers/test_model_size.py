"""The weights of a model are counted before there is memory for them."""

from __future__ import annotations

import resource
import time
import zipfile

import keras
import pytest
from helpers import VOCAB_SIZE, tiny_config, tiny_model

from tfkd import environment
from tfkd.cli import main
from tfkd.config import ModelConfig, RecurrentConfig, RunConfig, SystemConfig, from_dict
from tfkd.errors import CheckpointError, ConfigError
from tfkd.language_models.rnn import RecurrentLanguageModel
from tfkd.layers import model_size
from tfkd.layers.model_size import check_loadable, check_trainable, count_parameters
from tfkd.models.recogniser import Recogniser
from tfkd.storage.keras_files import read_model, write_model
from tfkd.training.loop import check_system

HUGE = {"encoder": {"units": 30_000, "layers": 5}}


@pytest.mark.parametrize("reduction", ["conv", "pyramid"])
@pytest.mark.parametrize("attention", ["additive", "location"])
def test_the_count_is_that_of_the_model(reduction, attention):
    config = tiny_config(reduction=reduction, attention=attention)
    counted = count_parameters(lambda: Recogniser(config, VOCAB_SIZE))
    assert counted == Recogniser(config, VOCAB_SIZE).count_params() > 1000


def test_a_language_model_is_counted():
    config = RecurrentConfig(units=7, embedding_units=5)
    counted = count_parameters(lambda: RecurrentLanguageModel(config, 9))
    # Embedding, kernel, recurrent kernel and bias of four gates, and the projection.
    assert counted == 9 * 5 + 4 * 7 * (5 + 7 + 1) + 9 * (7 + 1)


def test_counting_takes_no_memory_and_leaves_nothing_behind():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.monotonic()
    counted = count_parameters(lambda: Recogniser(from_dict(ModelConfig, HUGE), 32))
    assert counted > 9e10
    assert time.monotonic() - begun < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kilobytes
    # A variable that is left to be initialised later would be made by the next scope.
    with keras.StatelessScope():
        pass


def test_a_model_that_no_machine_can_train_is_refused_with_the_numbers():
    config = from_dict(SystemConfig, {"model": HUGE})
    with pytest.raises(ConfigError, match=r"has 9\d,\d{3},\d{3},\d{3} parameters: training it ta"):
        check_system(config)
    check_system(SystemConfig())


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        (
            {"training": {"objective": {"kind": "mixture", "parts": [{}], "num_hypotheses": 4}}},
            "training.objective.num_hypotheses: a mixture has none",
        ),
        (
            {
                "training": {
                    "objective": {
                        "kind": "mixture",
                        "parts": [{"kind": "word_kd", "token_temperature": 4.0}],
                    }
                }
            },
            "training.objective.parts: token_temperature is that of the mixture",
        ),
        (
            {
                "model": {"decoder": {"kind": "none"}},
                "training": {"ctc_weight": 1.0},
                "decoding": {"coverage_penalty": 0.1},
            },
            "decoding.coverage_penalty: must be 0 where model.decoder.kind is none",
        ),
        (
            {"training": {"ctc_weight": 0}, "decoding": {"fusion": {"ctc_weight": 0.3}}},
            "decoding.fusion.ctc_weight: needs training.ctc_weight",
        ),
        ({"training": {"ctc_weight": 1}}, "training.ctc_weight: must be below 1"),
    ],
)
def test_what_a_training_would_pass_over_is_refused_but_can_be_read(settings, fault):
    """Finished runs of earlier versions have such settings."""
    system = from_dict(SystemConfig, settings)
    with pytest.raises(ConfigError, match=fault):
        check_system(system)
    with pytest.raises(ConfigError, match=f"student.{fault}"):
        from_dict(RunConfig, {"student": settings})


def test_training_needs_four_times_what_holding_does(monkeypatch):
    def make():
        return keras.Sequential([keras.Input((9,)), keras.layers.Dense(1000)])

    monkeypatch.setattr(model_size, "memory_bytes", lambda: 4 * 10_000 * 4)
    check_trainable(make)
    monkeypatch.setattr(model_size, "memory_bytes", lambda: 4 * 10_000 * 4 - 1)
    with pytest.raises(ConfigError, match="10,000 parameters: training"):
        check_trainable(make)
    monkeypatch.setattr(model_size, "memory_bytes", lambda: 4 * 10_000)
    check_loadable(make)
    monkeypatch.setattr(model_size, "memory_bytes", lambda: 4 * 10_000 - 1)
    with pytest.raises(ConfigError, match="10,000 parameters: holding"):
        check_loadable(make)
    monkeypatch.setattr(model_size, "memory_bytes", lambda: None)
    check_loadable(make)


def test_memory_is_that_of_the_machine_or_the_container(monkeypatch, tmp_path):
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(environment, "_CONTAINER_LIMITS", (limit,))
    whole = environment.memory_bytes()
    assert 2**28 < whole < 2**50
    for text, expected in {"max": whole, "1048576\n": 2**20, "9223372036854771712": whole}.items():
        limit.write_text(text)
        assert environment.memory_bytes() == expected


def test_params_counts_what_no_machine_holds(tmp_path, capsys):
    path = tmp_path / "huge.yaml"
    path.write_text("model: {encoder: {units: 30000, layers: 5}}")
    main(["params", str(path)])
    assert "huge" in (out := capsys.readouterr().out)
    assert any(int(cell.replace(",", "")) > 9e10 for cell in out.split() if "," in cell)


def test_a_saved_file_that_asks_for_more_than_there_is_is_refused(tmp_path):
    path, edited = tmp_path / "model.keras", tmp_path / "edited.keras"
    write_model(tiny_model(), path)
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(edited, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "config.json":
                assert content.count(b'"units": 5') == 1
                content = content.replace(b'"units": 5', b'"units": 300000')
            target.writestr(name, content)
    with pytest.raises(ConfigError, match=r"edited\.keras: .* parameters: holding it takes"):
        read_model(edited, Recogniser)


@pytest.mark.parametrize("name", ["config.json", "metadata.json", "more.json"])
def test_an_archive_that_unpacks_to_gigabytes_is_refused(tmp_path, name):
    path, bomb = tmp_path / "model.keras", tmp_path / "bomb.keras"
    write_model(tiny_model(), path)
    with (
        zipfile.ZipFile(path) as source,
        zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as target,
    ):
        for each in source.namelist():
            if each != name:
                target.writestr(each, source.read(each))
        with target.open(name, "w", force_zip64=True) as file:
            for _ in range(300):
                file.write(b" " * 2**20)
    with pytest.raises(CheckpointError, match=r"which unpack to 3\d\d,\d{3},\d{3}: no model does"):
        read_model(bomb, Recogniser)


def test_a_file_that_was_compressed_again_is_read(tmp_path):
    path, packed = tmp_path / "model.keras", tmp_path / "packed.keras"
    model = tiny_model()
    write_model(model, path)
    with (
        zipfile.ZipFile(path) as source,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name))
    for got, expected in zip(
        read_model(packed, Recogniser).get_weights(), model.get_weights(), strict=True
    ):
        assert (got == expected).all()
