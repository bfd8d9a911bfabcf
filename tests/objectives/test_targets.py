"""Targets and their weights, by hand."""

from __future__ import annotations

import dataclasses
import itertools
import math

import pytest

from tfkd.config import FilterConfig, ObjectiveConfig, TrainingConfig
from tfkd.distillation.filters import Fault
from tfkd.errors import RecordError, TextError
from tfkd.objectives import (
    Dropped,
    Mixture,
    Objective,
    SequenceInterpolation,
    SequenceKD,
    Truth,
    in_effect,
    make_objective,
    survey,
)
from tfkd.records import Hypothesis, PseudoLabelRecord, UtteranceRecord
from tfkd.text import EOS_ID, CharacterTokenizer

TOKENIZER = CharacterTokenizer(" abc")
A, B, C = (TOKENIZER.encode(letter)[0] for letter in "abc")
TRUTH = Truth()


def utterance(text: str | None = "ab", utterance_id: str = "u") -> UtteranceRecord:
    return UtteranceRecord(utterance_id, b"not decoded here", 800, 8000, text)


def labelled(*hypotheses: tuple[str, float] | tuple[str, float, str]) -> PseudoLabelRecord:
    """A record whose hypotheses are given as text, log_prob and, if not eos, finish reason."""
    return PseudoLabelRecord(utterance("cab"), tuple(hypothesis(*each) for each in hypotheses))


def hypothesis(text: str, log_prob: float, finish_reason: str = "eos") -> Hypothesis:
    # The teacher's own ids and score must not matter: the student has other units.
    return Hypothesis(text, (99,), log_prob, -7.0, (log_prob,), (0.0,), finish_reason, 0.9)


def seq_kd(**settings) -> SequenceKD:
    return SequenceKD(**{"num_hypotheses": 3, **settings})


def learned(record, objective: Objective) -> tuple[tuple[tuple[int, ...], float], ...] | Dropped:
    """The sequences that count, each with its weight, in order."""
    targets = objective.targets(record, TOKENIZER)
    if isinstance(targets, Dropped):
        return targets
    rows = zip(
        targets.arrays["token_ids"].tolist(), targets.arrays["weights"].tolist(), strict=True
    )
    # Zero is the id of padding.
    return tuple((tuple(filter(None, ids)), weight) for ids, weight in rows if weight)


def without_hypotheses(*faults: Fault) -> Dropped:
    """What `seq_kd` makes of an utterance all of whose hypotheses are struck."""
    return Dropped("u", faults, faults)


def chosen(record, objective: Objective) -> dict[tuple[int, ...], float]:
    targets = learned(record, objective)
    assert not isinstance(targets, Dropped)
    return dict(targets)


SETTINGS = {
    "num_hypotheses": (1, 2),
    "choice": ("best", "nearest_to_reference"),
    "weights": ("uniform", "rank", "posterior"),
    "temperature": (1.0, 3.0),
    "truth_audio": ("all", "filtered"),
    "filters": (FilterConfig(), FilterConfig(drop_unfinished=False)),
    "top_m": (1, 2),
    "token_temperature": (1.0, 3.0),
}


@pytest.mark.parametrize("kind", ["truth", "seq_kd", "seq_inter", "word_kd"])
def test_objectives_are_equal_in_effect_if_and_only_if_they_make_the_same_of_labels(kind):
    """All of 768 settings, on utterances that no two of them treat alike by chance."""
    hypotheses = [
        dataclasses.replace(
            hypothesis(text, log_prob, reason),
            token_ids=(first, EOS_ID),
            top_token_ids=((A, B), (EOS_ID, C)),
            top_log_probs=((-0.2, -2.0), (-0.1, -3.0)),
        )
        for text, first, log_prob, reason in [
            ("c", C, -0.5, "max_steps"),
            ("bb", B, -1.0, "eos"),
            ("a", A, -1.6, "eos"),
            ("ab", A, -3.0, "eos"),
            ("x", A, -4.0, "eos"),
        ]
    ]
    records = [
        PseudoLabelRecord(utterance("ab"), tuple(hypotheses)),
        PseudoLabelRecord(utterance("ab", "cut"), tuple(hypotheses[:1])),
        PseudoLabelRecord(utterance("ab", "of another spelling"), tuple(hypotheses[4:])),
    ]
    made: dict[ObjectiveConfig, str] = {}
    for values in itertools.product(*SETTINGS.values()):
        config = ObjectiveConfig(kind=kind, **dict(zip(SETTINGS, values, strict=True)))
        objective = make_objective(TrainingConfig(objective=config))
        targets = [objective.targets(record, TOKENIZER) for record in records]
        # With posteriors, the loss also reads the temperature.
        learned = repr((targets, "top_probs" in objective.signature and config.token_temperature))
        assert made.setdefault(in_effect(config), learned) == learned
    assert len({*made.values()}) == len(made)


def test_a_mixture_in_effect_is_that_of_its_parts_in_effect():
    part = ObjectiveConfig(kind="seq_kd", weights="rank", share=2.0)
    mixture = ObjectiveConfig(kind="mixture", parts=(ObjectiveConfig(top_m=2), part))
    parts = (ObjectiveConfig(), ObjectiveConfig(kind="seq_kd", share=2.0))
    assert in_effect(mixture) == ObjectiveConfig(kind="mixture", parts=parts)


def test_truth_is_the_reference_with_eos():
    expected = (((A, B, EOS_ID), 1.0),)
    assert learned(utterance("ab"), TRUTH) == expected


def test_truth_of_a_labelled_record_is_its_reference_too():
    expected = (((C, A, B, EOS_ID), 1.0),)
    assert learned(labelled(("bb", -0.1)), TRUTH) == expected


def test_an_empty_transcript_is_learned_as_silence():
    assert learned(utterance(""), TRUTH) == (((EOS_ID,), 1.0),)


@pytest.mark.parametrize(("text", "reason"), [(None, "no_reference"), ("ax", "untokenisable_text")])
def test_truth_names_why_there_is_none(text, reason):
    assert learned(utterance(text), TRUTH) == Dropped("u", (Fault(reason),))


def test_the_truth_can_be_that_of_the_audio_which_filters_leave():
    objective = Truth(only_where=seq_kd())
    kept, cut = labelled(("b", -0.1)), labelled(("b", -0.1, "max_steps"))
    assert learned(kept, objective) == learned(kept, TRUTH)
    # No hypothesis is learned from, so none counts as struck.
    assert learned(cut, objective) == Dropped("u", learned(cut, seq_kd()).faults)
    assert not isinstance(learned(cut, TRUTH), Dropped)
    with pytest.raises(RecordError, match="holds no hypotheses"):
        learned(utterance(), objective)


@pytest.mark.parametrize(
    ("temperature", "expected"),
    [
        # exp(0), exp(-1), exp(-3) and, halved, exp(0), exp(-0.5), exp(-1.5); over their sums.
        (1.0, (0.7053845, 0.2594965, 0.0351190)),
        (2.0, (0.5465494, 0.3314989, 0.1219517)),
    ],
)
def test_posterior_weights(temperature, expected):
    record = labelled(("a", -1.0), ("b", -2.0), ("c", -4.0))
    found = chosen(record, seq_kd(weights="posterior", temperature=temperature))
    assert list(found) == [(A, EOS_ID), (B, EOS_ID), (C, EOS_ID)]
    assert tuple(found.values()) == pytest.approx(expected, abs=1e-6)


def test_posterior_weights_are_of_all_that_the_search_sums():
    """What CTC finds unlikely weighs little, whatever the decoder alone says of it."""
    totals = {"a": -1.0, "b": -2.0, "c": -4.0}
    record = labelled(("a", -1.0), ("b", -0.5), ("c", -0.25))
    hypotheses = [dataclasses.replace(each, total=totals[each.text]) for each in record.hypotheses]
    found = chosen(dataclasses.replace(record, hypotheses=tuple(hypotheses)), seq_kd())
    assert list(found) == [(A, EOS_ID), (B, EOS_ID), (C, EOS_ID)]
    assert tuple(found.values()) == pytest.approx((0.7053845, 0.2594965, 0.0351190), abs=1e-6)


def test_posterior_weights_of_very_unlikely_hypotheses_do_not_underflow():
    found = chosen(labelled(("a", -2000.0), ("b", -2000.0 - math.log(3))), seq_kd())
    assert found == {(A, EOS_ID): pytest.approx(0.75), (B, EOS_ID): pytest.approx(0.25)}


def test_uniform_weights():
    found = chosen(labelled(("a", -1.0), ("b", -9.0)), seq_kd(weights="uniform"))
    assert found == {(A, EOS_ID): 0.5, (B, EOS_ID): 0.5}


def test_only_the_first_hypotheses_count_and_share_the_weight():
    record = labelled(("a", -1.0), ("b", -2.0), ("c", -1.0))
    found = chosen(record, seq_kd(num_hypotheses=2))
    first = 1 / (1 + math.exp(-1))
    assert found == {(A, EOS_ID): pytest.approx(first), (B, EOS_ID): pytest.approx(1 - first)}


def test_the_heaviest_comes_first_whatever_ranked_them():
    (first, heavier), (second, lighter) = learned(labelled(("a", -3.0), ("b", -1.0)), seq_kd())
    assert (first, second) == ((B, EOS_ID), (A, EOS_ID))
    assert heavier > lighter


def test_hypotheses_with_the_same_tokens_are_merged():
    # Masses 1, e^-1 and e^-2; the first and the last are the same text.
    found = chosen(labelled(("ab", -1.0), ("c", -2.0), ("ab", -3.0)), seq_kd())
    total = 1 + math.exp(-1) + math.exp(-2)
    assert found == {
        (A, B, EOS_ID): pytest.approx((1 + math.exp(-2)) / total),
        (C, EOS_ID): pytest.approx(math.exp(-1) / total),
    }


def test_merged_hypotheses_may_overtake_the_best():
    (first, _), _ = learned(labelled(("c", -1.0), ("a", -1.2), ("a", -1.2)), seq_kd())
    assert first == (A, EOS_ID)


def test_unfinished_hypotheses_are_dropped_and_the_next_take_their_places():
    record = labelled(("aaa", -0.5, "max_steps"), ("b", -1.0), ("c", -1.0))
    found = chosen(record, seq_kd(num_hypotheses=2))
    assert found == {(B, EOS_ID): 0.5, (C, EOS_ID): 0.5}


def test_unfinished_hypotheses_are_kept_on_demand():
    record = labelled(("aaa", -1.0, "max_steps"), ("b", -1.0))
    found = chosen(record, seq_kd(filters=FilterConfig(drop_unfinished=False)))
    assert found == {(A, A, A, EOS_ID): 0.5, (B, EOS_ID): 0.5}


def foreign(*texts: str) -> PseudoLabelRecord:
    """What another recogniser proposes, of which nothing but the texts is known."""
    return PseudoLabelRecord(utterance("cab"), tuple(map(Hypothesis, texts)))


def test_hypotheses_that_do_not_say_why_they_ended_are_kept():
    found = chosen(foreign("a", "b"), seq_kd(weights="uniform"))
    assert found == {(A, EOS_ID): 0.5, (B, EOS_ID): 0.5}


def test_posterior_weights_need_the_log_prob():
    message = "utterance u: its hypotheses have no log_prob.*weights to uniform"
    with pytest.raises(RecordError, match=message):
        learned(foreign("a", "b"), seq_kd(weights="posterior"))


def test_hypotheses_that_the_student_cannot_spell_are_left_out():
    found = chosen(labelled(("ax", -1.0), ("b", -5.0)), seq_kd())
    assert found == {(B, EOS_ID): 1.0}


def test_hypotheses_that_the_student_cannot_spell_leave_their_places_to_the_next():
    found = chosen(labelled(("ax", -1.0), ("b", -5.0)), seq_kd(num_hypotheses=1))
    assert found == {(B, EOS_ID): 1.0}


def test_duplicates_are_merged_before_the_first_are_taken():
    record = labelled(("a", -1.0), (" a", -1.0), ("b", -1.0), ("c", -1.0))
    found = chosen(record, seq_kd(num_hypotheses=2))
    assert found == {(A, EOS_ID): pytest.approx(2 / 3), (B, EOS_ID): pytest.approx(1 / 3)}


def test_rank_weights():
    # 1, 1/2 and 1/3 over 11/6, whatever the probabilities.
    record = labelled(("a", -1.0), ("b", -9.0), ("c", -2.0))
    assert chosen(record, seq_kd(weights="rank")) == {
        (A, EOS_ID): pytest.approx(6 / 11),
        (B, EOS_ID): pytest.approx(3 / 11),
        (C, EOS_ID): pytest.approx(2 / 11),
    }


def test_ranks_are_those_among_what_is_kept():
    record = labelled(("aaa", -0.5, "max_steps"), ("b", -1.0), ("c", -1.0))
    found = chosen(record, seq_kd(weights="rank"))
    assert found == {(B, EOS_ID): pytest.approx(2 / 3), (C, EOS_ID): pytest.approx(1 / 3)}


def test_unknown_probabilities_can_be_weighed_by_rank():
    found = chosen(foreign("a", "b"), seq_kd(weights="rank"))
    assert found == {(A, EOS_ID): pytest.approx(2 / 3), (B, EOS_ID): pytest.approx(1 / 3)}


def test_the_nearest_to_the_reference_is_chosen():
    record = PseudoLabelRecord(
        utterance("a b c"),
        tuple(hypothesis(*each) for each in [("c", -1.0), ("a b a", -2.0), ("a c c", -3.0)]),
    )
    found = chosen(record, seq_kd(choice="nearest_to_reference", num_hypotheses=1))
    assert found == {(*TOKENIZER.encode("a b a"), EOS_ID): 1.0}
    found = chosen(record, seq_kd(choice="nearest_to_reference", num_hypotheses=2))
    assert list(found) == [(*TOKENIZER.encode(text), EOS_ID) for text in ("a b a", "a c c")]


def test_nothing_is_nearest_to_no_reference():
    record = PseudoLabelRecord(utterance(None), labelled(("a", -1.0), ("b", -2.0)).hypotheses)
    found = learned(record, seq_kd(choice="nearest_to_reference"))
    assert found == without_hypotheses(*[Fault("no_reference")] * 2)


@pytest.mark.parametrize(
    ("hypotheses", "faults"),
    [
        ([("aa", -1.0, "max_steps")], [Fault("max_steps", 1.0, 0.0)]),
        ([("xyz", -1.0)], [Fault("untokenisable_text")]),
        (
            [("aa", -1.0), ("xx", -2.0, "max_steps")],
            # 20 letters a second, in a tenth of a second.
            [
                Fault("too_fast", 20.0, 10.0),
                Fault("max_steps", 1.0, 0.0),
                Fault("too_fast", 20.0, 10.0),
                Fault("untokenisable_text"),
            ],
        ),
    ],
)
def test_an_utterance_without_a_usable_hypothesis_is_dropped(hypotheses, faults):
    limit = 10.0 if len(hypotheses) > 1 else None
    filters = FilterConfig(max_characters_per_second=limit)
    found = learned(labelled(*hypotheses), seq_kd(filters=filters))
    assert found == without_hypotheses(*faults)


def test_a_dropped_utterance_names_each_reason_once():
    dropped = Dropped(
        "u", (Fault("too_fast", 30.0, 25.0), Fault("too_fast", 40.0, 25.0), Fault("no_reference"))
    )
    assert dropped.row() == {
        "utterance_id": "u",
        "reasons": [
            {"reason": "too_fast", "value": 30.0, "threshold": 25.0},
            {"reason": "no_reference", "value": None, "threshold": None},
        ],
    }


def test_seq_kd_on_utterances_without_labels_is_refused():
    with pytest.raises(RecordError, match="utterance u: holds no hypotheses.*tfkd label"):
        learned(utterance(), seq_kd())


def test_seq_kd_on_a_store_without_labels_is_refused(prepared):
    with pytest.raises(RecordError, match="utterance train-00: holds no hypotheses"):
        survey(prepared["train"].records(), TOKENIZER, seq_kd())


def test_survey_names_what_gives_no_target():
    records = [utterance("ab", "good"), utterance(None, "mute"), utterance("xx", "foreign")]
    found = survey(records, TOKENIZER, TRUTH)
    assert found.dropped == [
        Dropped("mute", (Fault("no_reference"),)),
        Dropped("foreign", (Fault("untokenisable_text"),)),
    ]
    assert found.dropped_hypotheses == {}


def test_survey_counts_hypotheses_of_utterances_that_are_kept_too():
    records = [
        labelled(("a", -1.0), ("b", -2.0, "max_steps"), ("ax", -2.0)),
        labelled(("cc", -1.0, "max_steps")),
    ]
    found = survey(records, TOKENIZER, seq_kd())
    assert found.dropped == [without_hypotheses(Fault("max_steps", 1.0, 0.0))]
    assert found.dropped_hypotheses == {"max_steps": 2, "untokenisable_text": 1}


@pytest.mark.parametrize(
    ("num_hypotheses", "drops_unfinished", "empty"), [(2, False, 0), (5, False, 3), (2, True, 1)]
)
def test_survey_counts_the_places_that_no_utterance_fills(num_hypotheses, drops_unfinished, empty):
    records = [labelled(("a", -1.0)), labelled(("ba", -1.0), ("b", -2.0, "max_steps"))]
    filters = FilterConfig(drop_unfinished=drops_unfinished)
    objective = seq_kd(num_hypotheses=num_hypotheses, filters=filters)
    assert survey(records, TOKENIZER, objective).empty_places == empty


def test_survey_counts_the_place_of_a_truth_that_is_not_known():
    mixture = Mixture(parts=((1.0, TRUTH), (1.0, seq_kd(num_hypotheses=1))))
    known = labelled(("a", -1.0))
    unknown = dataclasses.replace(known, utterance=utterance(None))
    assert survey([known, unknown], TOKENIZER, mixture).empty_places == 0
    assert survey([unknown], TOKENIZER, mixture).empty_places == 1


def test_survey_says_where_filters_leave_nothing():
    objective = seq_kd(filters=FilterConfig(min_coverage=1.0))
    with pytest.raises(TextError, match=r"for seq_kd: 1 low_coverage \(loosen objective.filters"):
        survey([labelled(("a", -1.0), ("b", -1.0))], TOKENIZER, objective)


def test_survey_says_where_transcripts_are_missing():
    records = [labelled(("a", -1.0), ("b", -2.0))]
    nearest = SequenceInterpolation()
    with pytest.raises(TextError, match=r"for seq_inter: 1 no_reference \(give labels of audio"):
        survey([dataclasses.replace(each, utterance=utterance(None)) for each in records],
               TOKENIZER, nearest)  # fmt: skip


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([utterance(None), utterance(None), utterance("x")], "2 no_reference, 1 untokenisable"),
        ([], "no data"),
    ],
)
def test_survey_refuses_data_without_any_target(records, message):
    with pytest.raises(TextError, match=f"no utterance gives a target for truth: {message}"):
        survey(records, TOKENIZER, TRUTH)


@pytest.mark.parametrize(
    ("records", "objective", "remedy"),
    [
        ([utterance(None)], TRUTH, r"\(give audio that has transcripts"),
        ([utterance("я")], TRUTH, r"\(give the student a tokenizer that spells"),
        ([labelled(("я", -1.0))], SequenceKD(), r"\(give the student a tokenizer that spells"),
    ],
)
def test_survey_says_what_helps(records, objective, remedy):
    with pytest.raises(TextError, match=remedy):
        survey(records, TOKENIZER, objective)
