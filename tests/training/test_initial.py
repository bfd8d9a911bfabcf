"""A training that begins from another run takes the weights that fit, and names the others."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from families import FAMILIES

from tfkd import cli
from tfkd.config import InitialConfig, from_dict, to_yaml
from tfkd.config.model import ModelConfig
from tfkd.data.audio_batches import audio_batches
from tfkd.errors import CheckpointError, TrainingError
from tfkd.models.recogniser import Recogniser
from tfkd.text import CharacterTokenizer
from tfkd.training import loop
from tfkd.training.initial import begin_from
from tfkd.training.loop import train

SMALL = {"layers": 4, "units": 6, "conv_units": 5, "time_reduction": 2}


def deep_run(teacher, layers: int = 4, **changes):
    """The teacher's run with a deeper, untrained model of few weights."""
    settings = {
        "frontend": {"sample_rate_hz": 8000, "num_mels": 8, "max_hz": 3800.0},
        "encoder": {**SMALL, "layers": layers, **changes},
        "attention": {"units": 5},
        "decoder": {"units": 7, "embedding_units": 3},
    }
    model = Recogniser(from_dict(ModelConfig, settings), teacher.tokenizer.vocab_size)
    return dataclasses.replace(teacher, model=model)


def weights_of(model) -> dict[str, np.ndarray]:
    return {v.path.partition("/")[2]: np.array(v) for v in model.trainable_variables}


def layer(weights: dict[str, np.ndarray], number: int) -> dict[str, np.ndarray]:
    prefix = f"encoder/recurrent_{number}/"
    return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}


def test_the_same_model_takes_everything(teacher):
    model = Recogniser(teacher.system.model, teacher.tokenizer.vocab_size)
    taken = begin_from(model, teacher.tokenizer, teacher)
    assert (taken.share, taken.anew) == (1.0, ())
    for found, expected in zip(model.get_weights(), teacher.model.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("depth", "chosen"), [(2, [0, 3]), (3, [0, 2, 3]), (4, [0, 1, 2, 3])])
def test_a_shallower_encoder_takes_evenly_spread_layers(teacher, depth, chosen):
    run, student = deep_run(teacher), deep_run(teacher, depth).model
    taken = begin_from(student, teacher.tokenizer, run)
    assert taken.share == 1.0
    theirs, own = weights_of(run.model), weights_of(student)
    for number, source in enumerate(chosen):
        assert layer(own, number).keys() == layer(theirs, source).keys() != set()
        for name, value in layer(own, number).items():
            np.testing.assert_array_equal(value, layer(theirs, source)[name])


def test_a_shallower_encoder_may_take_means_of_neighbours(teacher):
    run, student = deep_run(teacher), deep_run(teacher, 2).model
    begin_from(student, teacher.tokenizer, run, "average")
    theirs, own = weights_of(run.model), weights_of(student)
    for name, value in layer(own, 1).items():
        expected = (layer(theirs, 2)[name] + layer(theirs, 3)[name]) / 2
        np.testing.assert_allclose(value, expected, rtol=1e-6)
    for name, value in layer(own, 0).items():
        first, second = layer(theirs, 0)[name], layer(theirs, 1)[name]
        # The first layer reads features, the second what the first gives: only some shapes agree.
        expected = (first + second) / 2 if first.shape == second.shape else first
        np.testing.assert_allclose(value, expected, rtol=1e-6)


def convolutional_model(layers: int, vocab_size: int):
    """A model of which each numbered layer holds its own number and all else holds zeros."""
    config = FAMILIES["convolutional"]
    encoder = dataclasses.replace(config.encoder, layers=layers)
    decoder = dataclasses.replace(config.decoder, layers=layers)
    model = Recogniser(dataclasses.replace(config, encoder=encoder, decoder=decoder), vocab_size)
    for variable in model.trainable_variables:
        number = variable.path.split("/")[2].rpartition("_")[2]
        variable.assign(np.full(variable.shape, float(number) if number.isdigit() else 0.0))
    return model


@pytest.mark.parametrize(
    ("depth", "own_depth", "layers", "blocks", "last"),
    [
        (6, 3, "spread", [0, 2, 5], 6),
        (5, 2, "average", [1.0, 3.5], 5),
        (2, 2, "spread", [0, 1], 2),
        # A deeper student keeps its own third and fourth block, and -1 is its value.
        (2, 4, "spread", [0, 1, -1, -1], 2),
    ],
)
def test_norms_come_from_the_layers_of_their_blocks(
    teacher, depth, own_depth, layers, blocks, last
):
    """A convolutional stack has one norm before each block and one after the last."""
    vocab_size = teacher.tokenizer.vocab_size
    run = dataclasses.replace(teacher, model=convolutional_model(depth, vocab_size))
    student = convolutional_model(own_depth, vocab_size)
    for variable in student.trainable_variables:
        variable.assign(np.full(variable.shape, -1.0))
    begin_from(student, teacher.tokenizer, run, layers)
    own = weights_of(student)
    for place in ("encoder", "decoder"):
        found = [own[f"{place}/block_{number}/bias"][0] for number in range(own_depth)]
        norms = [own[f"{place}/norm_{number}/gamma"][0] for number in range(own_depth + 1)]
        assert (found, norms) == (blocks, [*blocks, last])


def low_rank_student(run, vocab_size: int, rank: int, layers: int = 4):
    """The run's model with every recurrent kernel held as two factors."""
    config = run.model.config
    encoder = dataclasses.replace(config.encoder, rank=rank, layers=layers)
    decoder = dataclasses.replace(config.decoder, rank=rank)
    return Recogniser(dataclasses.replace(config, encoder=encoder, decoder=decoder), vocab_size)


@pytest.mark.parametrize("decoder_layers", [1, 2])
def test_factors_of_full_rank_say_what_the_teacher_says(teacher, prepared, decoder_layers):
    run = deep_run(teacher)
    decoder = dataclasses.replace(run.model.config.decoder, layers=decoder_layers)
    config = dataclasses.replace(run.model.config, decoder=decoder)
    run = dataclasses.replace(run, model=Recogniser(config, teacher.tokenizer.vocab_size))
    student = low_rank_student(run, teacher.tokenizer.vocab_size, rank=100)
    taken = begin_from(student, teacher.tokenizer, run)
    assert (taken.share, taken.anew) == (1.0, ())
    batch = next(iter(audio_batches(prepared["valid"], 4)))
    inputs = {
        **{name: batch[name] for name in ("waveform", "num_samples")},
        "token_ids": np.tile(np.array([5, 6, 4, 3], np.int32), (4, 1, 1)),
    }
    found, expected = student(inputs), run.model(inputs)
    # Single precision of the factors, over four layers.
    np.testing.assert_allclose(found.logits, expected.logits, atol=5e-5)
    np.testing.assert_allclose(found.ctc_logits, expected.ctc_logits, atol=5e-5)
    assert student.count_params() != run.model.count_params()


@pytest.mark.parametrize("layers", ["spread", "average"])
def test_factors_are_the_nearest_matrix_of_their_rank(teacher, layers):
    run = deep_run(teacher)
    student = low_rank_student(run, teacher.tokenizer.vocab_size, rank=2, layers=2)
    begin_from(student, teacher.tokenizer, run, layers)
    theirs, own = weights_of(run.model), weights_of(student)
    name = "forward_recurrent_kernel"
    chosen = [3] if layers == "spread" else [2, 3]
    whole = np.mean([layer(theirs, number)[name] for number in chosen], 0)
    left, right = (layer(own, 1)[f"{name}_{side}"] for side in ("left", "right"))
    # Eckart and Young: what is lost is what the other singular values hold.
    sizes = np.linalg.svd(whole, compute_uv=False)
    lost = np.linalg.norm(whole - left @ right)
    assert lost == pytest.approx(np.sqrt(np.sum(sizes[2:] ** 2)), rel=1e-4)
    np.testing.assert_allclose(np.linalg.norm(left, axis=0), np.sqrt(sizes[:2]), rtol=1e-4)


def test_factors_of_a_run_are_multiplied(teacher):
    plain = deep_run(teacher)
    model = low_rank_student(plain, teacher.tokenizer.vocab_size, rank=3)
    run = dataclasses.replace(teacher, model=model)
    whole, narrower = deep_run(teacher).model, low_rank_student(plain, model.vocab_size, rank=2)
    for student in (whole, narrower):
        assert begin_from(student, teacher.tokenizer, run).share == 1.0
    theirs = weights_of(model)
    np.testing.assert_allclose(
        weights_of(whole)["decoder/context_kernel"],
        theirs["decoder/context_kernel_left"] @ theirs["decoder/context_kernel_right"],
        rtol=1e-5,
    )


def test_what_does_not_fit_begins_anew_and_is_named(teacher):
    run, student = deep_run(teacher), deep_run(teacher, units=9).model
    before = weights_of(student)
    taken = begin_from(student, teacher.tokenizer, run)
    after = weights_of(student)
    assert 0 < taken.share < 1
    changed = {name for name in after if not np.array_equal(before[name], after[name])}
    assert not changed & set(taken.anew)
    assert "decoder/embedding" not in taken.anew
    assert any(name.startswith("encoder/recurrent_0") for name in taken.anew)


def test_weights_of_tokens_follow_their_pieces(teacher):
    run = deep_run(teacher)
    own = CharacterTokenizer("zba ")  # z is new to the teacher
    student = Recogniser(run.model.config, own.vocab_size)
    before = weights_of(student)
    taken = begin_from(student, own, run)
    theirs, after = weights_of(run.model), weights_of(student)
    for number, piece in enumerate(own.pieces):
        if piece == "z":
            expected = before["decoder/embedding"][number], before["decoder/output_bias"][number]
        else:
            place = number if number < 4 else teacher.tokenizer.pieces.index(piece)
            expected = theirs["decoder/embedding"][place], theirs["decoder/output_bias"][place]
        np.testing.assert_array_equal(after["decoder/embedding"][number], expected[0])
        assert after["decoder/output_bias"][number] == expected[1]
    place = teacher.tokenizer.pieces.index("b")
    np.testing.assert_array_equal(
        after["decoder/output_kernel"][:, own.pieces.index("b")],
        theirs["decoder/output_kernel"][:, place],
    )
    assert "decoder/embedding" in taken.anew


@pytest.mark.parametrize("family", ["conformer-transformer", "raw-waveform"])
@pytest.mark.parametrize("alphabet", ["abz ", "abcd "])
def test_only_weights_of_tokens_follow_pieces(teacher, family, alphabet):
    """Other layers are called `output` too; here they are as wide as the student's vocabulary."""
    own, other = CharacterTokenizer("zba "), CharacterTokenizer(alphabet)
    assert own.vocab_size == 8
    model = Recogniser(FAMILIES[family], other.vocab_size)
    student = Recogniser(FAMILIES[family], own.vocab_size)
    taken = begin_from(student, own, dataclasses.replace(teacher, model=model, tokenizer=other))
    of_tokens = ("decoder/embedding", "decoder/output", "ctc")
    assert all(name.startswith(of_tokens) for name in taken.anew)
    # Keras numbers unnamed layers across models, so the names of the two differ.
    for (name, found), expected in zip(
        weights_of(student).items(), weights_of(model).values(), strict=True
    ):
        if not name.startswith(of_tokens):
            np.testing.assert_array_equal(found, expected, err_msg=name)
    found, expected = (weights_of(each)["decoder/embedding"] for each in (student, model))
    np.testing.assert_array_equal(found[own.pieces.index("b")], expected[other.pieces.index("b")])


def test_a_model_of_which_nothing_fits_is_refused(teacher):
    run = deep_run(teacher)
    run.model.trainable = False
    with pytest.raises(TrainingError, match="none of its weights fits this model"):
        begin_from(deep_run(teacher).model, teacher.tokenizer, run)


def begun(system, teacher, **settings):
    initial = InitialConfig(str(teacher.directory), **settings)
    training = dataclasses.replace(system.training, epochs=1, initial=initial)
    return dataclasses.replace(system, training=training)


def test_a_training_goes_on_from_a_run(teacher, prepared, tiny_system, tmp_path, eagerly):
    """It begins where the teacher stands, in its units and with its statistics of the features."""
    system = begun(tiny_system, teacher)
    training = dataclasses.replace(system.training, learning_rate=1e-6, final_learning_rate=1e-7)
    system = dataclasses.replace(system, training=training)
    run = train(system, prepared["test"], prepared["valid"], tmp_path / "run")
    for found, expected in zip(run.model.get_weights(), teacher.model.get_weights(), strict=True):
        if found.dtype == np.float32:
            np.testing.assert_allclose(found, expected, atol=1e-4)
    about = json.loads((tmp_path / "run" / "begun_from.json").read_text())
    assert about == {"run": str(teacher.directory), "share": 1.0, "anew": []}
    identity = json.loads((tmp_path / "run" / "identity.json").read_text())
    assert identity["initial"] == teacher.sha256


def test_other_features_are_measured_anew(teacher, prepared, tiny_system, tmp_path, eagerly):
    """Features of another hop have other statistics, though every weight fits."""
    frontend = dataclasses.replace(tiny_system.model.frontend, hop_ms=25.0)
    model = dataclasses.replace(tiny_system.model, frontend=frontend)
    system = dataclasses.replace(begun(tiny_system, teacher), model=model)
    run = train(system, prepared["test"], prepared["valid"], tmp_path / "run")
    assert json.loads((tmp_path / "run" / "begun_from.json").read_text())["share"] == 1.0
    measured = Recogniser(model, teacher.tokenizer.vocab_size).frontend
    measured.adapt(audio_batches(prepared["test"], 16))
    for found, expected in zip(run.model.frontend.weights, measured.weights, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert np.abs(np.subtract(run.model.frontend.mean, teacher.model.frontend.mean)).max() > 1e-2


def test_the_command_begins_from_a_run(teacher, prepared, tiny_system, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(loop, "_train", lambda job: seen.append(job))
    monkeypatch.setattr(loop, "load_run", lambda path: teacher)
    (tmp_path / "system.yaml").write_text(to_yaml(tiny_system))
    folders = {split: str(store.directory) for split, store in prepared.items()}
    options = {
        "--train": folders["train"],
        "--valid": folders["valid"],
        "--out": str(tmp_path / "o"),
        "--from": str(teacher.directory),
    }
    given = [word for option in options.items() for word in option]
    cli.main(["train", str(tmp_path / "system.yaml"), *given])
    (job,) = seen
    assert job.training.initial == InitialConfig(str(teacher.directory))
    assert job.identity["initial"] == teacher.sha256


def test_a_folder_that_is_no_run_is_refused_before_anything(prepared, tiny_system, tmp_path):
    initial = InitialConfig(str(tmp_path / "nothing"))
    training = dataclasses.replace(tiny_system.training, initial=initial)
    system = dataclasses.replace(tiny_system, training=training)
    with pytest.raises(CheckpointError, match="nothing: is not a finished run"):
        train(system, prepared["train"], prepared["valid"], tmp_path / "run")
    assert not (tmp_path / "run").exists()
