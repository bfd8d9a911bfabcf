"""Plain Keras `compile` and `fit` train a recogniser, resume, and say what is wrong in one line."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfkd
from tfkd.config import DecodingConfig
from tfkd.data.audio_batches import audio_batches
from tfkd.errors import CheckpointError, TrainingError
from tfkd.objectives import SequenceKD, Truth
from tfkd.training.optimizers import Adam

TRUTH = Truth(ctc_weight=0.0, label_smoothing=0.0)
GREEDY = DecodingConfig(beam_width=1, max_tokens=14)


@pytest.fixture
def model(tiny_system, teacher, prepared) -> tfkd.Recogniser:
    keras.utils.set_random_seed(0)
    config = dataclasses.replace(tiny_system.model, ctc=False)
    model = tfkd.Recogniser(config, teacher.tokenizer.vocab_size)
    model.frontend.adapt(audio_batches(prepared["train"], 8))
    return model


@pytest.fixture
def batches(prepared, teacher):
    def make(**settings) -> tf.data.Dataset:
        return tfkd.batches(prepared["train"], teacher.tokenizer, TRUTH, batch_size=8, **settings)

    return make


@pytest.mark.slow
def test_compile_and_fit_train_for_several_epochs(model, batches, prepared, teacher, eagerly):
    model.compile(keras.optimizers.Adam(1e-2), objective=TRUTH)
    decoder = tfkd.Decoder(model, teacher.tokenizer, GREEDY)
    rate = tfkd.callbacks.ValidationErrorRate(decoder, prepared["valid"])
    stop = keras.callbacks.EarlyStopping("val_wer", mode="min", patience=9)
    history = model.fit(batches(), epochs=4, callbacks=[rate, stop], verbose=0).history
    assert history.keys() == {"loss", "attention_loss", "ctc_loss", "val_wer"}
    assert len(history["loss"]) == 4
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    assert history["val_wer"][-1] == pytest.approx(rate.measure())
    assert int(model.optimizer.iterations.numpy()) == 4 * 3


def test_each_reading_gives_the_next_epoch(batches):
    def companies(dataset) -> list[list[bytes]]:
        return [batch["utterance_id"].tolist() for batch in dataset.as_numpy_iterator()]

    both = batches()
    assert both.cardinality() == 3
    first, second = companies(both), companies(both)
    assert sorted(sum(first, [])) == sorted(sum(second, []))
    assert first != second
    assert companies(batches(first_epoch=1)) == second
    assert companies(batches(seed=1)) not in (first, second)


@pytest.mark.slow
def test_the_end_of_data_of_unknown_length_counts_nothing(tiny_system, teacher, prepared):
    config = dataclasses.replace(tiny_system.model, ctc=False)
    found = []
    for is_known in (True, False):
        keras.utils.set_random_seed(0)
        model = tfkd.Recogniser(config, teacher.tokenizer.vocab_size)
        model.compile(keras.optimizers.SGD(1e-3), objective=TRUTH)
        batches = tfkd.batches(prepared["train"], teacher.tokenizer, TRUTH, batch_size=8)
        data = batches if is_known else batches.filter(lambda batch: True)
        history = model.fit(data, verbose=0).history
        found.append((history["loss"][0], int(model.optimizer.iterations.numpy())))
    assert found[1] == pytest.approx(found[0], rel=1e-5)


def test_several_stores_give_one_epoch_in_which_each_has_its_share(prepared, labels, teacher):
    objective = SequenceKD(num_hypotheses=2)
    stores, shares = [prepared["train"], labels], [0.25, 0.75]
    batches = tfkd.batches(stores, teacher.tokenizer, objective, shares=shares, batch_size=8)
    factors = np.concatenate([batch["loss_factors"] for batch in batches.as_numpy_iterator()])
    assert len(factors) == sum(len(store.index) for store in stores)
    for store, share in zip(stores, shares, strict=True):
        own = factors[np.isclose(factors, share * len(factors) / len(store.index))]
        assert len(own) == len(store.index)
        assert own.sum() / factors.sum() == pytest.approx(share)


@pytest.mark.slow
def test_a_fit_that_was_ended_goes_on_to_the_same_weights(
    tiny_system, teacher, prepared, batches, tmp_path, eagerly
):
    def trained(directory, *ends: int) -> list[np.ndarray]:
        for end in ends:
            keras.utils.set_random_seed(1)
            config = dataclasses.replace(tiny_system.model, ctc=False)
            model = tfkd.Recogniser(config, teacher.tokenizer.vocab_size)
            model.compile(Adam(1e-2), objective=TRUTH)
            kept = tfkd.callbacks.Checkpoints(directory, model)
            model.fit(
                batches(first_epoch=kept.epoch, speed_factors=(0.9, 1.1)),
                initial_epoch=kept.epoch,
                epochs=end,
                callbacks=[kept],
                verbose=0,
            )
            assert kept.epoch == end
        return model.get_weights()

    resumed, unbroken = trained(tmp_path / "a", 1, 3), trained(tmp_path / "b", 3)
    for found, expected in zip(resumed, unbroken, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_checkpoints_of_another_model_are_refused(model, tiny_system, tmp_path):
    with pytest.raises(TrainingError, match="not compiled"):
        tfkd.callbacks.Checkpoints(tmp_path, model)
    model.compile("adam", TRUTH)
    kept = tfkd.callbacks.Checkpoints(tmp_path, model)
    kept.set_model(model)
    kept.on_epoch_end(0, {"loss": 1.0})
    other = tfkd.Recogniser(tiny_system.model, 5)
    other.compile("adam", TRUTH)
    with pytest.raises(CheckpointError, match="belongs to a model with"):
        tfkd.callbacks.Checkpoints(tmp_path, other)


def test_a_saved_model_is_read_by_keras_and_wants_an_objective(model, batches, tmp_path):
    model.compile("adam", TRUTH)
    model.save(tmp_path / "model.keras")
    read = keras.saving.load_model(tmp_path / "model.keras")
    for found, expected in zip(read.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)
    with pytest.raises(TrainingError, match="the model has no objective"):
        read.fit(batches())


# --- misuse


def test_a_step_may_run_eagerly(model, batches):
    seen = []

    class Watched(Truth):
        def loss(self, batch, output):
            seen.append(tf.executing_eagerly())
            return super().loss(batch, output)

    model.compile("adam", Watched(ctc_weight=0.0), run_eagerly=True)
    model.fit(batches().take(1), steps_per_epoch=1, verbose=0)
    assert seen == [True]


def test_weights_that_are_not_finite_are_no_checkpoint(model, tmp_path, caplog):
    model.compile("adam", objective=TRUTH)
    checkpoints = tfkd.callbacks.Checkpoints(tmp_path, model)
    checkpoints.set_model(model)
    checkpoints.on_epoch_end(0, {"loss": 1.0})
    model.trainable_variables[0].assign(np.full(model.trainable_variables[0].shape, np.nan))
    checkpoints.on_epoch_end(1, {"loss": np.nan})
    assert "weights are not finite; epoch 1 is not kept" in caplog.text
    assert tfkd.callbacks.Checkpoints(tmp_path, model).epoch == 1


def is_one_line(error: Exception) -> bool:
    return "\n" not in str(error)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss": "mse"}, "compile was given loss, but a recogniser is trained with an"),
        ({"metrics": ["accuracy"]}, "compile was given metrics"),
        ({"steps_per_execution": 4}, "steps_per_execution is not 1"),
        ({"objective": {"kind": "truth"}}, r"the objective is a dict \(call compile\("),
        ({"objective": "truth"}, "the objective is a str"),
        ({"objective": Truth}, r"the objective is the class Truth \(give an instance"),
    ],
)
def test_compile_says_what_it_wants(model, arguments, message):
    with pytest.raises(TrainingError, match=message) as error:
        model.compile("adam", **arguments)
    assert is_one_line(error.value)


def test_fit_says_what_to_call(model, batches):
    with pytest.raises(TrainingError, match=r"no objective \(call compile\(optimizer, objective="):
        model.fit(batches())
    model.compile("adam")
    with pytest.raises(TrainingError, match="no objective"):
        model.fit(batches())
    model.compile("adam", TRUTH)
    for nothing in (None, np.zeros([2, 3]), [1, 2]):
        with pytest.raises(TrainingError, match=r"no batches \(call fit\(tfkd.batches\("):
            model.fit(nothing)
    lacking = batches().map(lambda batch: {"waveform": batch["waveform"]})
    with pytest.raises(TrainingError, match="lack num_samples, token_ids, weights") as error:
        model.fit(lacking)
    assert is_one_line(error.value)
    with pytest.raises(TrainingError, match="ValidationErrorRate"):
        model.fit(batches(), validation_data=batches())


def test_batches_of_other_dtypes_of_the_same_kind_are_learned(model, batches):
    model.compile("adam", TRUTH)
    wide = {"waveform": tf.float64, "num_samples": tf.int64, "token_ids": tf.int64}
    wide |= {"weights": tf.float64, "utterance_id": tf.string}
    own = batches().map(lambda batch: {name: tf.cast(batch[name], wide[name]) for name in wide})
    history = model.fit(own, steps_per_epoch=1, verbose=0).history
    assert np.isfinite(history["loss"][0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"token_ids": lambda x: tf.cast(x, tf.float32)}, "token_ids is float32, not int32"),
        ({"waveform": lambda x: tf.cast(x * 32767, tf.int16)}, "waveform is int16, not float32"),
        ({"token_ids": lambda x: x[:, 0]}, r"token_ids has 2 axes, not 3"),
        ({"waveform": tf.RaggedTensor.from_tensor}, "waveform is a RaggedTensorSpec, not a tensor"),
    ],
)
def test_fit_says_which_field_it_cannot_read(model, batches, changes, message):
    model.compile("adam", TRUTH)

    def changed(batch):
        return {name: changes.get(name, tf.identity)(batch[name]) for name in batch}

    with pytest.raises(TrainingError, match=message) as error:
        model.fit(batches().map(changed), verbose=0)
    assert is_one_line(error.value)


def test_fit_says_that_batches_are_no_tuples(model, batches):
    model.compile("adam", TRUTH)
    pairs = batches().map(lambda batch: (batch["waveform"], batch["token_ids"]))
    with pytest.raises(TrainingError, match="a batch is a tuple, not a dict of waveform, num_"):
        model.fit(pairs, verbose=0)


def test_what_keras_would_measure_or_train_by_itself_says_what_to_call(model, batches):
    model.compile("adam", TRUTH)
    for call in (model.evaluate, model.test_on_batch):
        with pytest.raises(TrainingError, match=r"call tfkd\.callbacks\.Valid.*measure\(") as error:
            call(batches(), verbose=0)
        assert is_one_line(error.value)
    with pytest.raises(TrainingError, match=r"trained by fit alone \(call fit\(") as error:
        model.train_on_batch(batches())
    assert is_one_line(error.value)


def test_batches_say_what_the_objective_needs(prepared, teacher):
    with pytest.raises(TrainingError, match="no pseudo labels, from which seq_kd learns"):
        tfkd.batches(prepared["train"], teacher.tokenizer, SequenceKD())
