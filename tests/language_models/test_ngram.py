"""N-gram models as tensors say exactly what the ARPA file says."""

import bz2
import gzip
import io
import itertools
import lzma
import math
import re
import time

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
    for tokens in zip(*[(SOS_ID, *sequence) for sequence in sequences], strict=True):
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
    for ids, said in zip(sequences, spoken(model, *sequences), strict=True):
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


def test_back_off_weights_of_the_highest_order_count_for_nothing(tmp_path, caplog):
    """A 2-gram model that was cut from one of a higher order keeps them (kenlm#380)."""
    without = BY_HAND[: BY_HAND.index("\\3-grams:")].replace("ngram 3=1\n", "")
    with_them = without + "\\end\\\n"
    without = re.sub(r"(<s> a|a b)\t-\S+", r"\1", without) + "\\end\\\n"
    assert with_them.count("-0.4") == 1
    assert without.count("-0.4") == 0
    models = [
        load_ngram_model(written(tmp_path / "lm.arpa", text), TOKENIZER)
        for text in (with_them, without)
    ]
    assert caplog.text.count("leaves out the back-off weights of 2 2-grams") == 1
    np.testing.assert_array_equal(*(spoken(model, [A, B, A, A]) for model in models))
    (said,) = spoken(models[0], [A, B]) / NATURAL
    # a b is listed; after b nothing is, so b's own weight counts, and that of "a b" does not.
    np.testing.assert_allclose(said[1, B], -0.6, atol=1e-6)
    np.testing.assert_allclose(said[2, [A, EOS_ID]], [-0.2 - 0.7, -0.3], atol=1e-6)


def test_back_off_weights_of_unigrams_alone_count_for_nothing(tmp_path):
    text = BY_HAND[: BY_HAND.index("\\2-grams:")].replace("ngram 2=3\nngram 3=1\n", "")
    model = load_ngram_model(written(tmp_path / "lm.arpa", text + "\\end\\\n"), TOKENIZER)
    (said,) = spoken(model, [A]) / NATURAL
    np.testing.assert_allclose(said[:, [A, B]], [[-0.7, -0.9]] * 2, atol=1e-6)


def test_an_announced_order_without_n_grams_is_not_the_highest(tmp_path):
    cut = BY_HAND.replace("ngram 3=1", "ngram 3=0").replace("-0.05\t<s> a b\n", "")
    model = load_ngram_model(written(tmp_path / "lm.arpa", cut), TOKENIZER)
    assert model.order == 2
    np.testing.assert_allclose(spoken(model, [A, B])[0, 2, A] / NATURAL, -0.2 - 0.7, atol=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("ngram 3=1\n\n", "ngram 3=1\n"),
        lambda text: text.replace("\\data\\\n", "\\data\\\n\n"),
        lambda text: text.replace("ngram 2=3\n", "ngram 2=3\n\n"),
        lambda text: text.replace("\n\n", "\n"),
        lambda text: "\ufeff" + text.removeprefix("made by hand\n"),
        lambda text: text.replace("\n", "\r\n"),
    ],
)
def test_files_that_other_tools_read_say_the_same(tmp_path, change):
    """No blank line before the n-grams (kaldi#643), more of them, a byte order mark."""
    texts = BY_HAND, change(BY_HAND)
    assert texts[0] != texts[1]
    models = [load_ngram_model(written(tmp_path / "lm.arpa", text), TOKENIZER) for text in texts]
    np.testing.assert_array_equal(*(spoken(model, [A, B, C]) for model in models))


def test_gzip_is_told_by_its_content_not_by_its_name(tmp_path):
    written(tmp_path / "plain.arpa.gz", BY_HAND)
    (tmp_path / "packed.arpa").write_bytes(gzip.compress(BY_HAND.encode()))
    models = [load_ngram_model(tmp_path / n, TOKENIZER) for n in ("plain.arpa.gz", "packed.arpa")]
    np.testing.assert_array_equal(*(spoken(model, [A, B]) for model in models))


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"mmap lm http://kheafield.com/code format version 5\n\0", "is a KenLM binary"),
        (b"SRILM_BINARY_NGRAM_002\n", "is an SRILM binary"),
        (b"Qblmt 3 1000\n", "is a quantised IRSTLM binary"),
        (b"iARPA\n\n\\data\\\n", "is an intermediate IRSTLM file"),
        (bz2.compress(BY_HAND.encode()), "is a bzip2 file"),
        (lzma.compress(BY_HAND.encode()), "is an xz file"),
        (BY_HAND.encode("utf-16"), "is a UTF-16 file"),
        (gzip.compress(BY_HAND.encode("utf-16")), "is a UTF-16 file"),
        (gzip.compress(gzip.compress(BY_HAND.encode())), "is packed with gzip twice"),
    ],
)
def test_other_formats_are_named(tmp_path, start, name):
    (tmp_path / "lm.bin").write_bytes(start)
    with pytest.raises(LanguageModelError, match=rf"lm\.bin: {name}, not an ARPA file \(\w"):
        load_ngram_model(tmp_path / "lm.bin", TOKENIZER)


@pytest.mark.parametrize("spelt", ["|", "<space>", "[SPACE]", "\u2423", "_"])
def test_another_spelling_of_the_space_is_named(tmp_path, spelt):
    text = BY_HAND.replace("1=5", "1=6").replace("-0.7\ta", f"-0.5\t{spelt}\n-0.7\ta")
    path = written(tmp_path / "lm.arpa", text)
    with pytest.raises(LanguageModelError, match=re.escape(f"the space {spelt!r}, not '\u2581'")):
        load_ngram_model(path, TOKENIZER)
    both = text.replace("1=6", "1=7").replace("-0.7\ta", "-0.5\t\u2581\n-0.7\ta")
    load_ngram_model(written(path, both), TOKENIZER)


def test_another_encoding_is_named(tmp_path):
    (tmp_path / "lm.arpa").write_bytes(BY_HAND.replace("a", "\xe9").encode("latin-1"))
    with pytest.raises(LanguageModelError, match=r"lm\.arpa: is not UTF-8 text: .*convert it"):
        load_ngram_model(tmp_path / "lm.arpa", TOKENIZER)


def test_a_model_without_sentence_ends_is_refused(tmp_path):
    text = BY_HAND.replace("1=5", "1=4").replace("-1.0\t</s>\n", "")
    text = text.replace("2=3", "2=2").replace("-0.3\tb </s>\n", "")
    with pytest.raises(LanguageModelError, match="does not list </s>, so it cannot say where"):
        load_ngram_model(written(tmp_path / "lm.arpa", text), TOKENIZER)


def test_units_that_are_not_listed_are_named(tmp_path, caplog):
    load_ngram_model(written(tmp_path / "lm.arpa", BY_HAND), TOKENIZER)
    assert "does not list 2 of the units, which count as <unk>: \u2581 c" in caplog.text


@pytest.mark.parametrize(
    ("start", "block", "message"),
    [
        (b"", b" " * 2**20, "line 1 has more than 65,536 bytes"),
        (b"", b"\n" * 2**20, "has more than 2,010,000 lines"),
        (b"\\data\\\n", b"\n" * 2**20, "has more than 2,010,000 lines"),
        (b"", (b"x" * 60_000 + b"\n") * 16, "lines or 536,"),
        (BY_HAND.partition("\\2-grams:")[0].encode(), b" " * 2**20, "has more than 65,536 bytes"),
    ],
)
def test_a_small_file_that_unpacks_to_gigabytes_is_refused(tmp_path, start, block, message):
    path = tmp_path / "lm.arpa.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(start)
        for _ in range(2**30 // len(block)):
            file.write(block)
    assert path.stat().st_size < 2**23
    begun = time.monotonic()
    with pytest.raises(LanguageModelError, match=message):
        load_ngram_model(path, TOKENIZER)
    assert time.monotonic() - begun < 20


def test_an_order_that_no_search_can_join_is_refused(tmp_path):
    lines = ["\\data\\", *(f"ngram {n}=1" for n in range(1, 3001))]
    for n in range(1, 3001):
        lines += [f"\\{n}-grams:", f"-1\t{' '.join(['a'] * n)}\t-0.1"]
    path = written(tmp_path / "lm.arpa", "\n".join([*lines, "\\end\\", ""]))
    with pytest.raises(LanguageModelError, match="its order is above 16"):
        load_ngram_model(path, TOKENIZER)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("-0.05\t<s> a b\n", ""), "announces {1: 5, 2: 3, 3: 1} n-grams by order, but holds"),
        (("-0.6\ta b", "-0.6\ta"), "line 16: '-0.6\\ta\\t-0.25': '-0.25' is no unigram"),
        (("-0.6\ta b", "-0.6\ta b b"), "line 16: '-0.6\\ta b b\\t-0.25': wrong number of fields"),
        (("-0.6\ta b", "-0.6\ta" + " b" * 20_000), "line 16: '-0.6\\ta b b b"),
        (("-0.7\ta", "0.7\ta"), "line 10: '0.7\\ta\\t-0.3': not a logarithm of a probability"),
        (("-0.9\tb", "-0.9\ta"), "'-0.9\\ta\\t-0.2' occurs twice"),
        (("-0.9\tb\t-0.2", "nan\tb\t-0.2"), "not a logarithm of a probability"),
        (("-0.9\tb\t-0.2", "-0.9\tb\tinf"), "not a logarithm of a probability"),
        (("-0.9\tb\t-0.2", "-0.9\tb\tx"), "could not convert string to float"),
        (("\\3-grams:", "\\4-grams:"), "4-grams are not in \\data\\"),
        (("ngram 1=5", "ngram 1=4"), "n-grams by order, but holds {1: 5, 2: 0, 3: 0}"),
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
    assert caught.value.remedy
    assert len(str(caught.value)) < 500


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
    for one, other in zip(
        tf.saved_model.load(tmp_path / "saved").step(ids, contexts), expected, strict=True
    ):
        np.testing.assert_array_equal(one, other)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "saved"))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    interpreter = tf.lite.Interpreter(model_content=converter.convert())
    run = interpreter.get_signature_runner()
    assert run(ids=ids.numpy(), contexts=contexts.numpy())["output_0"].shape == (3, 8)
    np.testing.assert_allclose(
        run(ids=ids.numpy(), contexts=contexts.numpy())["output_0"], expected[0], atol=1e-6
    )
