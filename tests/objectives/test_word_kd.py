"""Word-level distillation: targets, loss and gradient by hand, and labels that keep posteriors."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil

import numpy as np
import pytest
import tensorflow as tf

import tfkd
from tfkd.config import ObjectiveConfig, TrainingConfig
from tfkd.data.audio_batches import audio_batches
from tfkd.decoding.posteriors import LEAST_LOG_PROB
from tfkd.distillation.labelling import label
from tfkd.errors import CheckpointError, ConfigError, RecordError, TrainingError
from tfkd.models.recogniser import RecogniserOutput
from tfkd.objectives import Mixture, SequenceKD, Truth, WordKD, make_objective
from tfkd.objectives.losses import SoftTargets, soft_cross_entropy
from tfkd.records import Hypothesis, PseudoLabelRecord, UtteranceRecord, open_store
from tfkd.text import EOS_ID, PAD_ID, CharacterTokenizer
from tfkd.training.batches import TrainingEpochs
from tfkd.training.loop import train
from tfkd.training.sources import sources_of, tokenizer_of

TOKENIZER = CharacterTokenizer("abc")
A, B, C = TOKENIZER.encode("abc")
PLAIN = {"label_smoothing": 0.0, "ctc_weight": 0.0}


def hypothesis(ids: tuple[int, ...], top: list[dict[int, float]]) -> Hypothesis:
    """A hypothesis with the probabilities of some tokens at each step, most probable first."""
    return Hypothesis(
        TOKENIZER.decode(ids),
        ids,
        log_prob=-1.0,
        finish_reason="eos",
        top_token_ids=tuple(tuple(step) for step in top),
        top_log_probs=tuple(tuple(map(math.log, step.values())) for step in top),
    )


def record(*hypotheses: Hypothesis) -> PseudoLabelRecord:
    return PseudoLabelRecord(UtteranceRecord("u", b"not decoded here", 800, 8000, "c"), hypotheses)


ONE = hypothesis((A, EOS_ID), [{A: 0.6, B: 0.2, C: 0.1}, {EOS_ID: 0.5, A: 0.25, B: 0.125}])


# --- targets


def test_no_temperature_revives_tokens_that_are_never_emitted():
    least = math.exp(LEAST_LOG_PROB)
    certain = hypothesis((A, EOS_ID), [{A: 1.0, PAD_ID: least}, {EOS_ID: 1.0, PAD_ID: least}])
    arrays = WordKD(top_m=2, token_temperature=20.0).targets(record(certain), TOKENIZER).arrays
    assert arrays["top_probs"][..., 0].min() == 1.0
    assert not arrays["top_probs"][..., 1].any()


def test_posteriors_are_those_of_the_top_m_over_their_sum():
    arrays = WordKD(top_m=2).targets(record(ONE), TOKENIZER).arrays
    assert arrays["token_ids"].tolist() == [[A, EOS_ID]]
    assert arrays["weights"].tolist() == [1.0]
    assert arrays["top_token_ids"].tolist() == [[[A, B], [EOS_ID, A]]]
    np.testing.assert_allclose(arrays["top_probs"], [[[0.75, 0.25], [2 / 3, 1 / 3]]], rtol=1e-6)


def test_a_temperature_evens_the_posteriors_out():
    arrays = WordKD(top_m=2, token_temperature=2.0).targets(record(ONE), TOKENIZER).arrays
    first = math.sqrt(0.6) / (math.sqrt(0.6) + math.sqrt(0.2))
    assert arrays["top_probs"][0, 0].tolist() == pytest.approx([first, 1 - first])


def test_fewer_posteriors_than_asked_for_leave_places_empty():
    objective = WordKD(num_hypotheses=2, top_m=5)
    arrays = objective.targets(record(ONE), TOKENIZER).arrays
    assert arrays["top_probs"].shape == (2, 2, 5)
    assert arrays["top_probs"][0, 0].tolist() == pytest.approx([6 / 9, 2 / 9, 1 / 9, 0, 0])
    assert not arrays["top_probs"][1].any()
    assert arrays["weights"].tolist() == [1.0, 0.0]


def test_the_tokens_are_those_of_the_teacher():
    """Not those that the student's tokenizer would choose for the same text."""
    arrays = WordKD(top_m=1).targets(record(ONE), CharacterTokenizer("cba")).arrays
    assert arrays["token_ids"].tolist() == [[A, EOS_ID]]


def test_labels_without_posteriors_are_refused():
    bare = dataclasses.replace(ONE, top_token_ids=(), top_log_probs=())
    with pytest.raises(RecordError, match="utterance u: its hypotheses have no posteriors.*top-m"):
        WordKD().targets(record(bare), TOKENIZER)


# --- the loss


def loss_of(objective, targets, logits) -> tf.Tensor:
    batch = {name: tf.constant(array[None]) for name, array in targets.arrays.items()}
    output = RecogniserOutput(tf.convert_to_tensor(logits), None, tf.constant([9]))
    return objective.loss(batch, output)["loss"]


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_loss_and_its_gradient_by_hand(temperature):
    """-T^2 sum(p log q), and T (q - p), each over the two tokens."""
    objective = WordKD(top_m=2, token_temperature=temperature, **PLAIN)
    targets = objective.targets(record(ONE), TOKENIZER)
    logits = tf.constant(np.random.default_rng(0).normal(size=(1, 1, 2, 7)), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = loss_of(objective, targets, logits)
    p = np.zeros((2, 7))
    for step, tops in enumerate([{A: 0.6, B: 0.2}, {EOS_ID: 0.5, A: 0.25}]):
        softened = {token: mass ** (1 / temperature) for token, mass in tops.items()}
        for token, mass in softened.items():
            p[step, token] = mass / sum(softened.values())
    scaled = np.exp(logits.numpy()[0, 0].astype(float) / temperature)
    q = scaled / scaled.sum(-1, keepdims=True)
    assert float(loss) == pytest.approx(-(temperature**2) * (p * np.log(q)).sum() / 2, rel=1e-5)
    expected = temperature * (q - p) / 2
    np.testing.assert_allclose(tape.gradient(loss, logits)[0, 0], expected, atol=1e-6)


def test_one_certain_token_is_sequence_level_distillation():
    certain = hypothesis((A, EOS_ID), [{A: 1.0}, {EOS_ID: 1.0}])
    logits = np.random.default_rng(1).normal(size=(1, 1, 2, 7)).astype(np.float32)
    soft, hard = WordKD(top_m=1, **PLAIN), SequenceKD(**PLAIN)
    losses = [loss_of(o, o.targets(record(certain), TOKENIZER), logits) for o in (soft, hard)]
    assert float(losses[0]) == pytest.approx(float(losses[1]))


def test_a_mixture_learns_soft_and_hard_targets_side_by_side():
    """The truth keeps its label smoothing; the teacher's posteriors are taken as they are."""
    settings = {"label_smoothing": 0.2, "ctc_weight": 0.0}
    word = WordKD(top_m=2)
    mixture = Mixture(parts=((1.0, Truth()), (3.0, word)), **settings)
    targets = mixture.targets(record(ONE), TOKENIZER)
    assert not targets.arrays["top_probs"][0].any()
    logits = np.random.default_rng(2).normal(size=(1, 2, 2, 7)).astype(np.float32)
    found = float(loss_of(mixture, targets, logits))
    hard = Truth(**settings)
    parts = [
        float(loss_of(hard, hard.targets(record(ONE), TOKENIZER), logits[:, :1])),
        float(loss_of(word.__class__(top_m=2, **PLAIN), word.targets(record(ONE), TOKENIZER),
                      logits[:, 1:])),
    ]  # fmt: skip
    # Both sequences have two tokens, so their means mix as their shares do.
    assert found == pytest.approx(0.25 * parts[0] + 0.75 * parts[1], rel=1e-5)


@pytest.mark.parametrize("of_the_part", [1.0, 4.0])
def test_teacher_and_student_of_a_mixture_have_one_temperature(of_the_part):
    part = WordKD(top_m=2, token_temperature=of_the_part)
    mixture = Mixture(parts=((1.0, part),), token_temperature=2.0, **PLAIN)
    alone = WordKD(top_m=2, token_temperature=2.0, **PLAIN)
    logits = np.random.default_rng(3).normal(size=(1, 1, 2, 7)).astype(np.float32)
    found, expected = (
        float(loss_of(each, each.targets(record(ONE), TOKENIZER), logits))
        for each in (mixture, alone)
    )
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("sizes", [(1, 3), (3, 1)])
def test_parts_may_learn_different_numbers_of_posteriors(sizes):
    mixture = Mixture(parts=tuple((1.0, WordKD(top_m=size)) for size in sizes))
    probs = mixture.targets(record(ONE), TOKENIZER).arrays["top_probs"]
    assert probs.shape == (2, 2, 3)
    expected = {1: [1, 0, 0], 3: [6 / 9, 2 / 9, 1 / 9]}
    for place, size in enumerate(sizes):
        assert probs[place, 0].tolist() == pytest.approx(expected[size])


def test_tokens_that_are_never_emitted_do_not_spoil_the_loss():
    logits = tf.constant([[[[-1e9, 0.0, -1e9]]]])
    soft = SoftTargets(tf.constant([[[[1, 0]]]]), tf.constant([[[[1.0, 0.0]]]]))
    assert soft_cross_entropy(logits, soft).numpy().item() == pytest.approx(0.0)


def test_the_config_names_it():
    config = ObjectiveConfig(kind="word_kd", top_m=3, token_temperature=2.0, num_hypotheses=2)
    found = make_objective(TrainingConfig(objective=config, ctc_weight=0.0))
    assert found == WordKD(top_m=3, token_temperature=2.0, num_hypotheses=2, ctc_weight=0.0)


# --- labels that keep posteriors


@pytest.fixture(scope="module")
def soft_labels(teacher, prepared, label_config, tmp_path_factory):
    out = tmp_path_factory.mktemp("soft")
    label(teacher, prepared["test"], out, dataclasses.replace(label_config, top_m=3))
    return open_store(out)


def test_batches_of_posteriors_need_the_tokenizer_of_their_labels(teacher, soft_labels):
    assert tfkd.batches(soft_labels, teacher.tokenizer, WordKD(top_m=2)).cardinality() > 0
    with pytest.raises(TrainingError, match="of another tokenizer than the given one"):
        tfkd.batches(soft_labels, CharacterTokenizer(" abc"), WordKD(top_m=2))


def test_posteriors_are_what_teacher_forcing_gives(teacher, prepared, soft_labels):
    records = {each.utterance_id: each for each in soft_labels.records()}
    compared = 0
    for batch in audio_batches(prepared["test"], 1):
        (name,) = batch["utterance_id"].numpy()
        for each in records[name.decode()].hypotheses:
            token_ids = tf.constant([[each.token_ids]])
            inputs = {"waveform": batch["waveform"], "num_samples": batch["num_samples"]}
            logits = teacher.model({**inputs, "token_ids": token_ids}).logits
            log_probs = tf.nn.log_softmax(logits)[0, 0].numpy()
            for step, (ids, values) in enumerate(
                zip(each.top_token_ids, each.top_log_probs, strict=True)
            ):
                assert list(ids) == np.argsort(-log_probs[step], kind="stable")[:3].tolist()
                expected = np.maximum(log_probs[step][list(ids)], -100)
                np.testing.assert_allclose(values, expected, rtol=1e-3, atol=1e-3)
                if each.token_ids[step] in ids:
                    place = ids.index(each.token_ids[step])
                    own = each.token_log_probs[step]
                    assert values[place] == pytest.approx(own, rel=2e-3, abs=2e-3)
                    compared += 1
    assert compared > 20


def test_labels_are_otherwise_the_same(teacher, prepared, label_config, soft_labels, tmp_path):
    label(teacher, prepared["test"], tmp_path, label_config)
    plain = list(open_store(tmp_path).records())
    bare = [
        dataclasses.replace(
            each,
            hypotheses=tuple(
                dataclasses.replace(h, top_token_ids=(), top_log_probs=()) for h in each.hypotheses
            ),
        )
        for each in soft_labels.records()
    ]
    assert bare == plain
    assert not (tmp_path / "units").exists()


def test_more_tokens_than_the_teacher_has_are_refused(teacher, prepared, label_config, tmp_path):
    config = dataclasses.replace(label_config, top_m=99)
    with pytest.raises(ConfigError, match="labels.top_m: 99 is above the 15 tokens of the teacher"):
        label(teacher, prepared["test"], tmp_path, config)


@pytest.mark.slow
def test_a_student_takes_the_units_of_its_teacher(teacher, soft_labels, prepared, tiny_system,
                                                  tmp_path, eagerly):  # fmt: skip
    objective = ObjectiveConfig(kind="word_kd", top_m=2, num_hypotheses=2)
    training = dataclasses.replace(
        tiny_system.training, epochs=1, ctc_weight=0.0, objective=objective
    )
    units = dataclasses.replace(tiny_system.tokenizer, alphabet=" xyz")
    system = dataclasses.replace(tiny_system, training=training, tokenizer=units)
    # Beside transcripts, which are spelt in those units, too.
    stores = [prepared["train"], soft_labels]
    run = train(system, stores, prepared["valid"], tmp_path / "run")
    assert run.tokenizer.pieces == teacher.tokenizer.pieces
    history = (tmp_path / "run" / "history.jsonl").read_text().splitlines()
    assert math.isfinite(json.loads(history[0])["loss"])
    epochs = TrainingEpochs(sources_of(stores, training), run.tokenizer, training)
    (batch,) = epochs.batches(0).take(1)
    assert batch["top_probs"].shape[1:] == (2, batch["token_ids"].shape[2], 2)


def test_a_store_that_does_not_say_its_units_is_refused(labels, soft_labels, tiny_system, tmp_path):
    training = TrainingConfig(objective=ObjectiveConfig(kind="word_kd"))

    def units(store):
        return tokenizer_of(sources_of(store, training), tiny_system.tokenizer)

    with pytest.raises(RecordError, match=f"{labels.directory}: holds neither posteriors nor"):
        units(labels)
    copy = shutil.copytree(soft_labels.directory, tmp_path / "labels")
    CharacterTokenizer("xyz").save(copy / "units")
    with pytest.raises(RecordError, match="units: is not the tokenizer of these labels"):
        units(open_store(copy))
    shutil.rmtree(copy / "units")
    with pytest.raises(CheckpointError, match="cannot read the tokenizer"):
        units(open_store(copy))
