"""The rule of normalisation, and tokenizers of both kinds."""

from __future__ import annotations

import dataclasses
import io
import json
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from tfkd.config import TokenizerConfig
from tfkd.errors import CheckpointError, TextError
from tfkd.text import (
    EOS_ID,
    FIRST_PIECE_ID,
    PAD_ID,
    SOS_ID,
    UNK_ID,
    CharacterTokenizer,
    SentencePieceTokenizer,
    extra_characters_of,
    join_pieces,
    load_tokenizer,
    normalise,
    train_tokenizer,
)

SENTENCES = [
    "can i get a triple shot light roast iced coffee",
    "i'd like a single shot mocha with soy milk",
    "the cat sat on the mat and it's raining",
] * 20
CHARACTERS = TokenizerConfig(alphabet=None)
UNIGRAM = TokenizerConfig(kind="sentencepiece", vocab_size=34)
BPE = TokenizerConfig(kind="sentencepiece", vocab_size=34, model_type="bpe")


CONFIGS = {"characters": CHARACTERS, "unigram": UNIGRAM, "bpe": BPE}
TRAINED = {name: train_tokenizer(SENTENCES, config) for name, config in CONFIGS.items()}


@pytest.fixture(params=CONFIGS)
def tokenizer(request):
    return TRAINED[request.param]


# --- normalisation


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, World!", "hello world"),
        ("  two \t words\n", "two words"),
        ("don\u2019t won\u02bct can\u00b4t I`m", "don't won't can't i'm"),
        ("'Tis the dogs' 'house'", "tis the dogs house"),
        ("rock ''n'' roll", "rock n roll"),
        ("a''b", "a b"),
        ("well-known e-mail", "well known e mail"),
        ("caf\u00e9 CAFE\u0301", "caf\u00e9 caf\u00e9"),
        ("\uff21\uff22\uff23 \ufb01ne x\u00b2", "abc fine x2"),
        ("5\u2032 6\u2033 tall", "5 6 tall"),
        ("1\xbd cups, 10\xb2 \xbd3 H\u2082O \u24603", "1 1 2 cups 10 2 1 2 3 h2o 1 3"),
        ("don\x92t wo\x02rd ye\x00s\x7f a\x1fb\x85c", "don't word yes a b c"),
        ("\u0130stanbul Stra\u00dfe I\u0307zmir i\u0307n", "istanbul stra\u00dfe izmir in"),
        ("KADIK\u00d6Y kad\u0131k\u00f6y", "kadik\u00f6y kad\u0131k\u00f6y"),
        ("Wort\u00adteil hel\u200blo micro\u2060phone", "wortteil hello microphone"),
        ("hello\ufeffworld \u05e9\u05dc\u200f\u05d5\u05dd", "helloworld \u05e9\u05dc\u05d5\u05dd"),
        (
            "\u0dc1\u0dca\u200d\u0dbb\u0dd3 \u0d05\u0d35\u0d28\u0d4d\u200d\u0d31\u0d46",
            "\u0dc1\u0dca\u0dbb\u0dd3 \u0d05\u0d35\u0d28\u0d4d\u0d31\u0d46",
        ),
        (
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
            "\u0645\u06cc\u062e\u0648\u0627\u0647\u0645",
        ),
        ("a\u034fb c\ufe0fd \u115fe \u3164", "ab cd e"),
        ("don\u200b\u2019t", "don't"),
        ("\u0939\u093f\u0928\u094d\u0926\u0940", "\u0939\u093f\u0928\u094d\u0926\u0940"),
        ("\u0301stray !\u0301 mark", "stray mark"),
        ("\ud800lone\udfff", "lone"),
        ("snake_case 3.14 50%", "snake case 3 14 50"),
        ("... ! ' '' ?", ""),
        ("", ""),
    ],
)
def test_the_rule(text, expected):
    assert normalise(text) == expected


def test_what_a_vocabulary_spells_is_kept():
    """Letters, their marks and apostrophes inside words stay anyway."""
    assert extra_characters_of(["", "é", "e\u0301", "a-b", "?", "'", " ", "7"]) == "-?"


@pytest.mark.parametrize(
    ("text", "extra", "expected"),
    [
        ("well-known 50%!", "-%", "well-known 50%"),
        ("Don't '-' it's-'", "-", "don't - it's-"),
        ("'quoted' 'tis", "'", "'quoted' 'tis"),
        ("a]b^c\\d", "]^\\", "a]b^c\\d"),
        ("wait\u2026", ".", "wait..."),
        ("\u0645\u06cc\u200c\u062e\u0648 a\u00adb", "\u200c", "\u0645\u06cc\u200c\u062e\u0648 ab"),
    ],
)
def test_extra_characters_are_kept(text, extra, expected):
    assert normalise(text, extra_characters=extra) == expected


@settings(max_examples=500, deadline=None)
@given(st.text(), st.sampled_from(["", "-", "'", "-.%", "]^\\-[", "=\u0338", "\u00df "]))
def test_normalising_twice_changes_nothing(text, extra):
    once = normalise(text, extra_characters=extra)
    assert normalise(once, extra_characters=extra) == once
    assert once == " ".join(once.split())
    assert unicodedata.is_normalized("NFKC", once)
    once.encode("utf-8")


def test_normalising_twice_changes_nothing_for_any_assigned_character():
    assigned = [
        character
        for character in map(chr, range(sys.maxunicode + 1))
        if unicodedata.category(character) not in ("Cn", "Co", "Cs")
    ]
    for pattern in ("{} ", "A{}\u0301b ", "'{} "):
        text = "".join(map(pattern.format, assigned))
        once = normalise(text)
        assert normalise(once) == once


@given(st.text(alphabet="ab'\u2019 \u0301!B", max_size=12))
def test_apostrophes_stay_inside_words_only(text):
    for word in normalise(text).split():
        assert not word.startswith("'")
        assert not word.endswith("'")
        assert "''" not in word


# --- both kinds of tokenizer


def test_special_ids(tokenizer):
    special = (tokenizer.pad_id, tokenizer.unk_id, tokenizer.sos_id, tokenizer.eos_id)
    assert special == (PAD_ID, UNK_ID, SOS_ID, EOS_ID) == (0, 1, 2, 3)
    assert tokenizer.pieces[:FIRST_PIECE_ID] == ("", "", "", "")
    assert all(tokenizer.pieces[FIRST_PIECE_ID:])
    assert tokenizer.vocab_size == len(tokenizer.pieces)
    assert not any("\u2581" in piece for piece in tokenizer.pieces)


def test_text_survives_encoding(tokenizer):
    for text in ["", "i", "a cat's mat", *SENTENCES[:3]]:
        ids = tokenizer.encode(text)
        assert all(FIRST_PIECE_ID <= number < tokenizer.vocab_size for number in ids)
        assert all(type(number) is int for number in ids)
        assert tokenizer.decode(ids) == text
        assert tokenizer.decode([SOS_ID, *ids, EOS_ID, PAD_ID]) == text
        assert join_pieces(tokenizer.pieces, ids) == text


@settings(max_examples=200)
@given(st.lists(st.text(alphabet="acehiknost'", min_size=1, max_size=8), max_size=6))
def test_any_text_of_known_characters_survives(words):
    text = " ".join(words)
    for made in TRAINED.values():
        assert made.decode(made.encode(text)) == text


def test_unknown_characters_are_named(tokenizer):
    with pytest.raises(TextError, match="'7' 'é' in 'café 7'"):
        tokenizer.encode("café 7")


@pytest.mark.parametrize("name", CONFIGS)
def test_training_again_gives_the_same(name, tmp_path):
    TRAINED[name].save(tmp_path / "one")
    train_tokenizer(iter(SENTENCES), CONFIGS[name]).save(tmp_path / "two")
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "two").iterdir())
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_saved_tokenizer_comes_back(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert (loaded.kind, loaded.pieces) == (tokenizer.kind, tokenizer.pieces)
    assert loaded.encode(SENTENCES[0]) == tokenizer.encode(SENTENCES[0])


@pytest.mark.parametrize("ids", [[99999], [-1], [4, -3]])
def test_ids_outside_the_vocabulary_are_refused(tokenizer, ids):
    with pytest.raises(TextError, match=f"token id {ids[-1]} is outside"):
        tokenizer.decode(ids)


def test_joining_folds_spaces():
    assert join_pieces(("", "", "", "", " a", " ", "b"), [5, 4, 5, 5, 6, 3, 5, 0]) == "a b"


# --- characters


def test_the_given_alphabet_is_kept_in_order():
    tokenizer = train_tokenizer(["ignored"], TokenizerConfig(alphabet="ba "))
    assert tokenizer.pieces == ("", "", "", "", "b", "a", " ")
    assert tokenizer.encode("ab a") == [5, 4, 6, 5]


def test_a_learned_alphabet_is_sorted():
    assert train_tokenizer(["c b", "a"], CHARACTERS).pieces[FIRST_PIECE_ID:] == (*" abc",)


@pytest.mark.parametrize(("alphabet", "fault"), [("", "empty"), ("abcab", "'a' 'b' twice")])
def test_a_faulty_alphabet_is_refused(alphabet, fault):
    with pytest.raises(TextError, match=fault):
        CharacterTokenizer(alphabet)


@pytest.mark.parametrize("config", [CHARACTERS, UNIGRAM, BPE])
@pytest.mark.parametrize("texts", [[], ["", ""]])
def test_no_training_text_is_refused(config, texts):
    with pytest.raises(TextError, match="no training text"):
        train_tokenizer(texts, config)


# --- SentencePiece


@pytest.mark.parametrize("config", [UNIGRAM, BPE])
def test_the_vocabulary_has_the_size_asked_for(config):
    assert train_tokenizer(SENTENCES, config).vocab_size == 34


@pytest.mark.parametrize("config", [UNIGRAM, BPE])
@pytest.mark.parametrize(("size", "remedy"), [(5000, "at most"), (6, "at least")])
def test_a_vocabulary_that_does_not_fit_the_text_names_one_that_does(config, size, remedy):
    with pytest.raises(TextError, match=f"set tokenizer.vocab_size to {remedy} ") as caught:
        train_tokenizer(SENTENCES, dataclasses.replace(config, vocab_size=size))
    named = int(str(caught.value).partition(f"{remedy} ")[2].partition(",")[0].rstrip(")"))
    assert train_tokenizer(SENTENCES, dataclasses.replace(config, vocab_size=named))


def test_no_sentence_is_too_long_to_learn_from():
    texts = [*SENTENCES, "zebra " * 2000 + "q"]
    assert train_tokenizer(texts, UNIGRAM).encode("q z")


@pytest.mark.parametrize("data", [b"", b"not a model", b"\x0a\xff"])
def test_other_bytes_are_no_model(data):
    with pytest.raises(TextError, match="SentencePiece model|ids of pad"):
        SentencePieceTokenizer(data)


def test_a_model_with_other_special_ids_is_refused():
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES), model_writer=model, vocab_size=34, minloglevel=2
    )
    with pytest.raises(TextError, match=r"\(-1, 0, 1, 2\), not \(0, 1, 2, 3\)"):
        SentencePieceTokenizer(model.getvalue())


# --- damaged files


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '{"kind": "words"}', '{"kind": "characters"}']
    + ['{"kind": "characters", "alphabet": ""}', '{"kind": "characters", "alphabet": 3}']
    + [
        "[" * 100_000,
        '{"kind": "sentencepiece"}',
        '{"kind": "sentencepiece", "model_sha256": "00"}',
        "\udcff",
    ],
)
def test_a_damaged_description_is_refused(tmp_path, content):
    (tmp_path / "tokenizer.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(CheckpointError, match="cannot read the tokenizer") as caught:
        load_tokenizer(tmp_path)
    assert "train the tokenizer again" in str(caught.value)


def test_a_missing_tokenizer_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: .*No such file"):
        load_tokenizer(tmp_path)


def test_a_damaged_or_missing_model_is_refused(tmp_path):
    TRAINED["unigram"].save(tmp_path)
    model = tmp_path / "sentencepiece.model"
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(data)
    with pytest.raises(CheckpointError, match="damaged, or of another tokenizer"):
        load_tokenizer(tmp_path)
    model.unlink()
    with pytest.raises(CheckpointError, match=r"sentencepiece\.model: .*No such file"):
        load_tokenizer(tmp_path)


def test_the_description_is_readable(tmp_path):
    CharacterTokenizer("ab é").save(tmp_path)
    description = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    assert description == {"kind": "characters", "alphabet": "ab é"}


def test_importing_needs_no_heavy_package():
    code = "import sys, tfkd.text; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        check=True,
        text=True,
    ).stdout.split()
    assert not {"sentencepiece", "yaml", "tensorflow", "numpy"} & set(loaded)
