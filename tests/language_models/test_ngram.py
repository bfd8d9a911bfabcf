"""N-gram models as tensors say exactly what the ARPA file says."""

import gzip
import io
import itertools
import math
import re

import arpa
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfkd.errors import LanguageModelError
from tfkd.language_models.ngram import NgramModel, load_ngram_model, unit_names
from tfkd.text import EOS_ID, SOS_ID, UNK_ID, CharacterTokenizer

NATURAL = math.log(10)
TOKENIZER = CharacterTokenizer(" abc")
SPACE, A, B, C = range(4, 8)

BY_HAND = """\
made by hand
\\data\\
ngram 1=5
ngram 2=3
ngram 3=1

\\1-grams:
-99\t<s>\t-0.5
-1.0\t</s>
-0.7\ta\t-0.3
-0.9\tb\t-0.2
-2.0\t<unk>\t-0.1

\\2-grams:
-0.2\t<s> a\t-0.4
-0.6\ta b\t-0.25
-0.3\tb </s>

\\3-grams:
-0.05\t<s> a b

\\end\\
"""


def written(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def spoken(model: NgramModel, *sequences) -> np.ndarray:
    """Log-probs [N, U + 1, V] of each next token, after sos and after each of U tokens."""
    scorer = model.scorer(1.0, len(sequences))
    state, said = scorer.initial_state, []
    for tokens in zip(*[(SOS_ID, *sequence) for sequence in sequences]):
        log_probs, state = scorer.step_fn(tf.constant(tokens), state)
        said.append(log_probs.numpy())
    return np.stack(said, 1)


def test_a_model_worked_out_by_hand(tmp_path):
    model = load_ngram_model(written(tmp_path / "lm.arpa", BY_HAND), TOKENIZER)
    (said,) = spoken(model, [A, B, SPACE]) / NATURAL
    # After <s>: listed, and backed off with -0.5.
    np.testing.assert_allclose(said[0, [A, B, EOS_ID]], [-0.2, -0.5 - 0.9, -0.5 - 1.0], atol=1e-6)
    # After <s> a: the trigram; for the others -0.4, then a's own -0.3.
    np.testing.assert_allclose(said[1, [A, B, EOS_ID]], [-1.4, -0.05, -1.7], atol=1e-6)
    # After a b: the bigram b </s> after -0.25; a after -0.25 and -0.2.
    np.testing.assert_allclose(said[2, [A, EOS_ID]], [-0.25 - 0.2 - 0.7, -0.25 - 0.3], atol=1e-6)
    # The space is not listed, so it is <unk>, here and as a context; so is c.
    np.testing.assert_allclose(said[2, [SPACE, C, UNK_ID]], -0.25 - 0.2 - 2.0, atol=1e-6)
    np.testing.assert_allclose(said[3, [A, C]], [-0.1 - 0.7, -0.1 - 2.0], atol=1e-6)


def random_arpa(rng: np.random.Generator, order: int, words: list[str], *, closed: bool) -> str:
    """ARPA text of random n-grams; an unclosed one lacks contexts and suffixes of what it lists."""
    levels = [{(word,) for word in words}]
    for n in range(2, order + 1):
        every = [
            ngram
            for ngram in itertools.product(words, repeat=n)
            if "<s>" not in ngram[1:] and "</s>" not in ngram[:-1]
            if not closed or (ngram[:-1] in levels[-1] and ngram[1:] in levels[-1])
        ]
        chosen = rng.permutation(len(every))[: rng.integers(1, 25)]
        levels.append({every[i] for i in chosen})
    while not levels[-1]:
        levels.pop()
    lines = ["\\data\\", *(f"ngram {n}={len(level)}" for n, level in enumerate(levels, 1)), ""]
    for n, level in enumerate(levels, 1):
        lines.append(f"\\{n}-grams:")
        for ngram in sorted(level):
            line = f"{rng.uniform(-4, -2):.6f}\t{' '.join(ngram)}"
            has_backoff = n < len(levels) and rng.random() < 0.8
            lines.append(line + (f"\t{rng.uniform(-1, 0.4):.6f}" if has_backoff else ""))
        lines.append("")
    return "\n".join([*lines, "\\end\\", ""])


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    order=st.integers(1, 4),
    has_unk=st.booleans(),
    closed=st.booleans(),
)
def test_every_sequence_equals_the_library(tmp_path_factory, seed, order, has_unk, closed):
    rng = np.random.default_rng(seed)
    words = ["<s>", "</s>", "\u2581", "a", "b", *(["<unk>"] if has_unk else ["c"])]
    text = random_arpa(rng, order, words, closed=closed)
    path = written(tmp_path_factory.mktemp("lm") / "lm.arpa", text)
    model = load_ngram_model(path, TOKENIZER)
    (oracle,) = arpa.load(io.StringIO(text))
    names = unit_names(TOKENIZER)
    sequences = rng.integers(SPACE, C + 1, (30, 5)).tolist()
    for ids, said in zip(sequences, spoken(model, *sequences)):
        words = [names[token] for token in ids]
        for step, token in enumerate((*ids, EOS_ID)):
            expected = oracle.log_p(("<s>", *words[:step], names[token])) * NATURAL
            np.testing.assert_allclose(said[step, token], min(expected, 0.0), atol=1e-5)
        total = said[np.arange(6), [*ids, EOS_ID]].sum()
        np.testing.assert_allclose(total, oracle.log_s(words) * NATURAL, atol=1e-4)


def test_a_unit_that_nothing_lists_is_all_but_ruled_out(tmp_path):
    text = BY_HAND.replace("-2.0\t<unk>\t-0.1", "-2.0\tc\t-0.1")
    model = load_ngram_model(written(tmp_path / "lm.arpa", text), TOKENIZER)
    np.testing.assert_allclose(spoken(model, [])[0, 0, SPACE] / NATURAL, -0.5 - 100, rtol=1e-6)


def test_a_compressed_file_and_one_written_with_spaces_read_alike(tmp_path):
    plain = load_ngram_model(written(tmp_path / "lm.arpa", BY_HAND), TOKENIZER)
    (tmp_path / "lm.arpa.gz").write_bytes(gzip.compress(BY_HAND.replace("\t", " ").encode()))
    packed = load_ngram_model(tmp_path / "lm.arpa.gz", TOKENIZER)
    np.testing.assert_array_equal(*(spoken(model, [A, B]) for model in (plain, packed)))


def test_words_that_the_recogniser_cannot_say_are_left_out(tmp_path):
    more = BY_HAND.replace("1=5", "1=6").replace("2=3", "2=4")
    more = more.replace("\n\\2-grams:\n", "-0.4\tword\t-0.1\n\n\\2-grams:\n-0.2\ta word\n")
    models = [
        load_ngram_model(written(tmp_path / "lm.arpa", text), TOKENIZER) for text in (BY_HAND, more)
    ]
    np.testing.assert_array_equal(*(spoken(model, [A, B, C, A]) for model in models))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("-0.05\t<s> a b\n", ""), "announces {1: 5, 2: 3, 3: 1} n-grams by order, holds"),
        (("-0.6\ta b", "-0.6\ta"), "line 16: '-0.6\\ta\\t-0.25': '-0.25' is no unigram"),
        (("-0.6\ta b", "-0.6\ta b b"), "line 16: '-0.6\\ta b b\\t-0.25': wrong number of fields"),
        (("-0.7\ta", "0.7\ta"), "line 10: '0.7\\ta\\t-0.3': not a logarithm of a probability"),
        (("-0.9\tb", "-0.9\ta"), "'-0.9\\ta\\t-0.2' occurs twice"),
        (("-0.9\tb\t-0.2", "nan\tb\t-0.2"), "not a logarithm of a probability"),
        (("-0.9\tb\t-0.2", "-0.9\tb\tinf"), "not a logarithm of a probability"),
        (("-0.9\tb\t-0.2", "-0.9\tb\tx"), "could not convert string to float"),
        (("\\3-grams:", "\\4-grams:"), "4-grams are not in \\data\\"),
        (("ngram 1=5", "ngram 1=4"), "n-grams by order, holds {1: 5, 2: 0, 3: 0}"),
        (("ngram 2=3", "ngram 2=9999999"), "more than 2,000,000 (prune it"),
        (("\\data\\", "data"), "is not an ARPA file"),
        (("ngram 1=5\n", ""), "is not an ARPA file"),
        (("ngram 1=5", "ngram 1=" + "5" * 5000), "is not an ARPA file"),
        (("\\3-grams:", "\\" + "3" * 5000 + "-grams:"), "wrong number of fields"),
    ],
)
def test_a_faulty_file_is_refused_with_its_line(tmp_path, change, message):
    text = BY_HAND.replace(*change)
    path = written(tmp_path / "lm.arpa", text)
    with pytest.raises(LanguageModelError) as caught:
        load_ngram_model(path, TOKENIZER)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_damaged_compressed_file_is_refused(tmp_path):
    path = tmp_path / "lm.arpa.gz"
    content = bytearray(gzip.compress(BY_HAND.encode()))
    content[12] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(LanguageModelError, match=r"lm\.arpa\.gz: cannot read the language model"):
        load_ngram_model(path, TOKENIZER)


def test_a_model_of_other_units_is_refused(tmp_path):
    words = re.sub(r"\b[ab]\b", lambda unit: f"word-{unit[0]}", BY_HAND)
    path = written(tmp_path / "lm.arpa", words)
    with pytest.raises(LanguageModelError, match="lists 0% of the tokenizer's units"):
        load_ngram_model(path, TOKENIZER)
    with pytest.raises(LanguageModelError, match="absent.arpa: cannot read the language model"):
        load_ngram_model(tmp_path / "absent.arpa", TOKENIZER)


def test_the_step_converts_to_a_saved_model_and_to_builtin_tflite_operators(tmp_path):
    model = load_ngram_model(written(tmp_path / "lm.arpa", BY_HAND), TOKENIZER)
    module = tf.Module()
    module.step = tf.function(
        model.step,
        input_signature=[tf.TensorSpec([None], tf.int32, name=n) for n in ("ids", "contexts")],
    )
    tf.saved_model.save(module, tmp_path / "saved")
    contexts = tf.zeros([3], tf.int32)
    ids = tf.constant([SOS_ID, A, C])
    expected = model.step(ids, contexts)
    for one, other in zip(tf.saved_model.load(tmp_path / "saved").step(ids, contexts), expected):
        np.testing.assert_array_equal(one, other)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "saved"))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    interpreter = tf.lite.Interpreter(model_content=converter.convert())
    run = interpreter.get_signature_runner()
    assert run(ids=ids.numpy(), contexts=contexts.numpy())["output_0"].shape == (3, 8)
    np.testing.assert_allclose(
        run(ids=ids.numpy(), contexts=contexts.numpy())["output_0"], expected[0], atol=1e-6
    )
