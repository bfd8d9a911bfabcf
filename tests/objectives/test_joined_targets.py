"""Joined targets are those of the joined texts, rank by rank, by hand and by the tokenizers."""

from __future__ import annotations

import numpy as np
import pytest

from tfkd.config import TokenizerConfig
from tfkd.objectives.joining import empty_targets, join_targets
from tfkd.objectives.objective import Field, sequence_arrays, sequence_signature
from tfkd.text import EOS_ID, PAD_ID, CharacterTokenizer, train_tokenizer

TOKENIZER = CharacterTokenizer(" abc")
SPACE, A, B, C = (TOKENIZER.encode(letter)[0] for letter in " abc")
TEXTS = ["turn the light on", "light off", "on", "turn it off and on again", "the lighthouse"]


def arrays(*hypotheses: tuple[str, float], places: int = 3, tokenizer=TOKENIZER) -> dict:
    ids = [(*tokenizer.encode(text), EOS_ID) for text, _ in hypotheses]
    return sequence_arrays(ids, [weight for _, weight in hypotheses], places)


def joined(*parts: dict, places: int = 3, tokenizer=TOKENIZER) -> dict[str, float]:
    """The texts that count of the joined parts, with their weights, in order."""
    found = join_targets(parts, sequence_signature(places), tokenizer)
    texts = {}
    for ids, weight in zip(found["token_ids"], found["weights"], strict=True):
        sequence = ids[ids != PAD_ID].tolist()
        if weight:
            assert sequence[-1] == EOS_ID
            assert EOS_ID not in sequence[:-1]
            texts[tokenizer.decode(sequence[:-1])] = float(weight)
        else:
            assert not sequence
    return texts


def test_one_part_stays_as_it_is():
    part = arrays(("a", 0.75), ("b", 0.25))
    assert join_targets([part], sequence_signature(3), TOKENIZER) is part


def test_ids_are_joined_with_a_space_between():
    found = join_targets(
        [arrays(("ab", 1.0), places=1), arrays(("c", 1.0), places=1)],
        sequence_signature(1),
        TOKENIZER,
    )
    assert found["token_ids"].tolist() == [[A, B, SPACE, C, EOS_ID]]
    assert found["weights"].tolist() == [1.0]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (((A, B), (C, EOS_ID)), [A, B, SPACE, C, EOS_ID]),
        (((C, EOS_ID), (A, B)), [C, SPACE, A, B]),
        (((EOS_ID,), (A, B)), [A, B]),
    ],
)
def test_no_token_of_a_hypothesis_that_was_cut_off_is_lost(parts, expected):
    """It has no end token, which the joined one has only if its last part has."""
    targets = [sequence_arrays([ids], [1.0], 1) for ids in parts]
    found = join_targets(targets, sequence_signature(1), TOKENIZER)["token_ids"]
    assert found[found != PAD_ID].tolist() == expected


@pytest.mark.parametrize(
    "config",
    [
        TokenizerConfig(kind="characters", alphabet=None),
        TokenizerConfig(kind="sentencepiece", vocab_size=24),
        TokenizerConfig(kind="sentencepiece", vocab_size=28, model_type="bpe"),
    ],
)
def test_ids_of_joined_texts_are_what_the_tokenizer_makes_of_them(config):
    tokenizer = train_tokenizer(TEXTS, config)
    for first in TEXTS:
        for second in TEXTS:
            parts = [arrays((text, 1.0), places=1, tokenizer=tokenizer) for text in (first, second)]
            found = join_targets(parts, sequence_signature(1), tokenizer)
            expected = [*tokenizer.encode(f"{first} {second}"), EOS_ID]
            assert found["token_ids"].tolist() == [expected]


def test_where_nobody_writes_spaces_none_is_put_between():
    tokenizer = CharacterTokenizer("abc")
    parts = [arrays((text, 1.0), places=1, tokenizer=tokenizer) for text in ("ab", "c")]
    found = join_targets(parts, sequence_signature(1), tokenizer)
    assert found["token_ids"].tolist() == [[*tokenizer.encode("abc"), EOS_ID]]


def test_hypotheses_are_joined_rank_by_rank():
    first = arrays(("a", 0.5), ("b", 0.3), ("c", 0.2))
    second = arrays(("aa", 0.6), ("bb", 0.4))
    means = np.sqrt([0.5 * 0.6, 0.3 * 0.4, 0.2 * 0.6])
    texts = joined(first, second)
    # The second part has two hypotheses: its best stands in.
    assert list(texts) == ["a aa", "b bb", "c aa"]
    assert list(texts.values()) == pytest.approx(means / means.sum(), rel=1e-6)


def test_joining_keeps_the_weights_that_all_parts_share():
    parts = [arrays(("a", 0.7), ("b", 0.2), ("c", 0.1)) for _ in range(3)]
    assert joined(*parts) == pytest.approx({"a a a": 0.7, "b b b": 0.2, "c c c": 0.1}, rel=1e-6)


def test_a_place_that_is_empty_in_the_middle_stays_empty():
    """As that of the truth is in a mixture, where two utterances have no transcript."""
    part = arrays(("a", 0.0), ("b", 0.75), ("c", 0.25))
    part["token_ids"][0] = PAD_ID
    assert joined(part, part) == pytest.approx({"b b": 0.75, "c c": 0.25}, rel=1e-6)
    with_truth = arrays(("a", 0.5), ("b", 0.25), ("c", 0.25))
    assert list(joined(with_truth, part)) == ["a b", "b b", "c c"]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [(("", "ab"), "ab"), (("ab", ""), "ab"), (("a", "", "b"), "a b"), (("", ""), "")],
)
def test_parts_in_which_nothing_is_said_leave_no_space(texts, expected):
    parts = [arrays((text, 1.0), places=1) for text in texts]
    found = join_targets(parts, sequence_signature(1), TOKENIZER)
    assert found["token_ids"].tolist() == [[*TOKENIZER.encode(expected), EOS_ID]]


def test_what_else_a_token_has_goes_with_it():
    signature = {**sequence_signature(1), "top": Field("float32", (1, None, 2), -1.0)}
    first = {**arrays(("ab", 1.0), places=1), "top": np.float32([[[1, 2], [3, 4], [5, 6]]])}
    second = {**arrays(("c", 1.0), places=1), "top": np.float32([[[7, 8], [9, 0]]])}
    found = join_targets([first, second], signature, TOKENIZER)
    # The EOS of the first is gone, and nothing is known of the space.
    assert found["top"].tolist() == [[[1, 2], [3, 4], [-1, -1], [7, 8], [9, 0]]]
    assert found["top"].dtype == np.float32


def test_parts_of_several_objectives_are_joined():
    """A transcript before a hypothesis of which posteriors are known, and of fewer places."""
    signature = {**sequence_signature(2), "top": Field("float32", (2, None, 2), 0.0)}
    first = arrays(("a", 1.0), places=1)
    second = {**arrays(("b", 0.6), ("c", 0.4), places=2), "top": np.full((2, 2, 1), 0.5, "f4")}
    found = join_targets([first, second], signature, TOKENIZER)
    assert found["token_ids"].tolist() == [[A, SPACE, B, EOS_ID], [A, SPACE, C, EOS_ID]]
    assert found["top"].tolist() == [[[0, 0], [0, 0], [0.5, 0], [0.5, 0]]] * 2
    means = np.sqrt([0.6, 0.4])
    assert found["weights"] == pytest.approx(means / means.sum(), rel=1e-6)


def test_empty_targets_are_eos_alone():
    found = empty_targets(TOKENIZER)
    assert found["token_ids"].tolist() == [[EOS_ID]]
    assert found["weights"].tolist() == [1.0]
