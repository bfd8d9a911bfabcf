"""Mixtures of objectives over one record, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfkd.config import FilterConfig, ObjectiveConfig, TrainingConfig, from_dict, with_overrides
from tfkd.distillation.filters import Fault
from tfkd.errors import ConfigError
from tfkd.models.recogniser import RecogniserOutput
from tfkd.objectives import (
    Dropped,
    Mixture,
    SequenceInterpolation,
    SequenceKD,
    Targets,
    Truth,
    make_objective,
    undistilled,
)
from tfkd.records import Hypothesis, PseudoLabelRecord, UtteranceRecord
from tfkd.text import EOS_ID, CharacterTokenizer

TOKENIZER = CharacterTokenizer("abc")
A, B, C = TOKENIZER.encode("abc")
PLAIN = {"label_smoothing": 0.0, "ctc_weight": 0.0}
LABELS = SequenceKD(num_hypotheses=2, weights="uniform")
HALVES = Mixture(parts=((1.0, Truth()), (1.0, LABELS)), **PLAIN)


def record(*texts: str, reference: str | None = "c") -> PseudoLabelRecord:
    utterance = UtteranceRecord("u", b"not decoded here", 800, 8000, reference)
    return PseudoLabelRecord(utterance, tuple(Hypothesis(t, finish_reason="eos") for t in texts))


def arrays_of(objective, labelled) -> dict[str, list]:
    targets = objective.targets(labelled, TOKENIZER)
    assert isinstance(targets, Targets)
    assert targets.arrays.keys() == objective.signature.keys()
    return {name: array.tolist() for name, array in targets.arrays.items()}


def test_the_targets_of_all_parts_stand_side_by_side():
    arrays = arrays_of(HALVES, record("ab", "a"))
    assert arrays["token_ids"] == [[C, EOS_ID, 0], [A, B, EOS_ID], [A, EOS_ID, 0]]
    assert arrays["weights"] == [0.5, 0.25, 0.25]


def test_shares_count_over_their_sum():
    mixture = Mixture(parts=((3.0, Truth()), (1.0, LABELS)))
    assert arrays_of(mixture, record("ab", "a"))["weights"] == [0.75, 0.125, 0.125]


@pytest.mark.parametrize(
    ("labelled", "weights"),
    [
        (record("ab", "a", reference=None), [0.0, 0.5, 0.5]),
        (record("x"), [1.0, 0.0, 0.0]),
    ],
    ids=["no transcript", "no hypothesis"],
)
def test_other_parts_take_the_weight_of_one_without_a_target(labelled, weights):
    assert arrays_of(HALVES, labelled)["weights"] == weights


def test_an_utterance_is_dropped_if_no_part_has_a_target():
    found = HALVES.targets(record("x", reference=None), TOKENIZER)
    no_reference, untokenisable = Fault("no_reference"), Fault("untokenisable_text")
    assert found == Dropped("u", (no_reference, untokenisable), (untokenisable,))


def test_the_loss_is_the_weighted_sum_of_the_parts():
    """(1 - a) NLL of the truth + a NLL of the hypotheses, over the weighted tokens."""
    labelled = record("ab", "a")
    targets = HALVES.targets(labelled, TOKENIZER)
    batch = {name: tf.constant(array[None]) for name, array in targets.arrays.items()}
    logits = np.random.default_rng(0).normal(size=(1, 3, 3, 7)).astype(np.float32)
    losses = HALVES.loss(batch, RecogniserOutput(tf.constant(logits), None, tf.constant([9])))
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    sequences = [(0.5, [C, EOS_ID]), (0.25, [A, B, EOS_ID]), (0.25, [A, EOS_ID])]
    total = sum(
        -weight * log_probs[0, place, step, token]
        for place, (weight, ids) in enumerate(sequences)
        for step, token in enumerate(ids)
    )
    assert float(losses["loss"]) == pytest.approx(total / (0.5 * 2 + 0.25 * 3 + 0.25 * 2))


def test_each_hypothesis_that_is_not_learned_is_counted_once():
    """Two parts that leave out the same hypotheses leave out no more of them."""
    labelled = record("a", "x", "y")
    three = SequenceKD(num_hypotheses=3, weights="uniform")
    alone = three.targets(labelled, TOKENIZER).hypothesis_faults
    assert len(alone) == 2
    for parts in (((1.0, Truth()), (1.0, three)), ((1.0, three), (2.0, three))):
        assert Mixture(parts=parts).targets(labelled, TOKENIZER).hypothesis_faults == alone


def test_mixtures_may_be_nested():
    mixture = Mixture(parts=((1.0, HALVES), (1.0, SequenceInterpolation())))
    arrays = arrays_of(mixture, record("ab", "a", reference="ab"))
    assert arrays["weights"] == [0.25, 0.125, 0.125, 0.5]
    assert arrays["token_ids"][3] == [A, B, EOS_ID]


@pytest.mark.parametrize("parts", [(), ((0.0, Truth()),), ((float("nan"), Truth()),)])
def test_a_mixture_of_nothing_is_refused(parts):
    with pytest.raises(ConfigError, match="mixture"):
        Mixture(parts=parts)


def test_a_model_without_ctc_is_told_apart():
    output = RecogniserOutput(tf.zeros([1, 1, 2, 7]), None, tf.constant([9]))
    batch = {"token_ids": tf.constant([[[A, EOS_ID]]]), "weights": tf.ones([1, 1])}
    with pytest.raises(ConfigError, match=r"ctc_weight=0.3, but the model no CTC head"):
        Truth().loss(batch, output)


# --- from the config


def objective_of(**objective):
    return make_objective(from_dict(TrainingConfig, {"ctc_weight": 0.1, "objective": objective}))


def test_the_config_names_every_objective():
    loss = {"label_smoothing": 0.1, "ctc_weight": 0.1}
    filters = FilterConfig(max_wer=0.5)
    settings = {"num_hypotheses": 3, "weights": "rank", "temperature": 2.0}
    assert objective_of(kind="truth") == Truth(**loss)
    assert objective_of(kind="seq_kd", **settings, filters={"max_wer": 0.5}) == SequenceKD(
        **settings, filters=filters, **loss
    )
    assert objective_of(kind="seq_inter") == SequenceInterpolation(**loss)
    parts = [{"kind": "truth", "share": 0.25}, {"kind": "seq_kd", "num_hypotheses": 3}]
    assert objective_of(kind="mixture", parts=parts) == Mixture(
        parts=((0.25, Truth(**loss)), (1.0, SequenceKD(num_hypotheses=3, **loss))), **loss
    )


@pytest.mark.parametrize("kind", ["mixture", "truth"])
def test_truth_hears_what_the_labels_of_a_mixture_do(kind):
    """A baseline changes the kind alone, and filters are those of the parts."""
    labels = {"kind": "seq_kd", "filters": {"max_repeats": 2}}
    settings = {"kind": kind, "truth_audio": "filtered", "parts": [{"kind": "truth"}, labels]}
    found = undistilled(from_dict(ObjectiveConfig, settings))
    assert (found.kind, found.truth_audio, found.parts) == ("truth", "filtered", ())
    assert found.filters.max_repeats == 2


def test_a_mixture_survives_overrides():
    config = from_dict(ObjectiveConfig, {"kind": "mixture", "parts": [{"kind": "seq_kd"}]})
    assert with_overrides(config, ["temperature=2.0"]).parts == config.parts


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "mixture"}, "parts: a mixture needs a list of objectives"),
        ({"parts": [{"share": 0.0}]}, "share: 0.0 is not above 0"),
        ({"parts": [{"kind": "seqkd"}]}, "kind: 'seqkd' is none of"),
    ],
)
def test_faulty_parts_are_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        from_dict(ObjectiveConfig, settings)


def test_faulty_settings_of_an_objective_are_named():
    with pytest.raises(ConfigError, match="SequenceKD.weights: 'magic' is none of"):
        SequenceKD(weights="magic")
    with pytest.raises(ConfigError, match="SequenceKD.num_hypotheses: 0 is below 1"):
        SequenceKD(num_hypotheses=0)


@pytest.mark.parametrize(
    "objective",
    [
        Truth(),
        LABELS,
        SequenceInterpolation(),
        HALVES,
        Mixture(parts=((1.0, Truth()), (1.0, SequenceInterpolation()))),
    ],
    ids=lambda each: each.name,
)
def test_what_needs_a_transcript_drops_an_utterance_without_one(objective):
    dropped = isinstance(objective.targets(record("a", reference=None), TOKENIZER), Dropped)
    assert objective.needs_transcript == dropped
