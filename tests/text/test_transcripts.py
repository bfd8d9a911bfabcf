"""Tags that nobody said, and what a transcript without words means."""

from __future__ import annotations

import pytest

from tfkd.text import normalise, transcript_of, without_tags


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[noise] uh yeah [laughter] <unk>", "uh yeah"),
        ("HELLO <COMMA> WORLD <PERIOD>", "hello world"),
        ("{BREATH} and(2) so <sil>", "and so"),
        ("[laughter-yes] i w[ent]- there", "yes i w there"),
        ("((i think)) so (( )) (laughter)", "i think so"),
        ("the fbi (federal bureau) said", "the fbi federal bureau said"),
        ("(coughs) *sighs* ++UM++ well *really*", "well really"),
        ("[[inner] outer] <i>word</i> <foreign language> </s>", "word"),
        ("[BLANK_AUDIO] (clears throat) ok", "ok"),
        ("a < b and c > d", "a b and c d"),
        ("[unclosed and <open", "unclosed and open"),
        ("don't", "don't"),
        ("<|en|><|0.00|> yes <|2.00|><|endoftext|>", "yes"),
        ("((laughter)) (upbeat music) (speaking in foreign language) yes", "yes"),
        ("(i like music) (three quick brown noises)", "i like music three quick brown noises"),
        ("[laughter-i]'m [laughter-a][laughter-b]", "i'm a b"),
        ("[[noise]] yes <<cough>>", "yes"),
        ("don&#39;t &lt;noise&gt; stop &amp; go", "don't stop go"),
        ("don&amp;#39;t stop &amp;amp; go", "don't stop go"),
        ("［noise］ yes（laughter）【music】 ＜sil＞", "yes"),
        ("我喜欢《红楼梦》和〈月亮〉", "我喜欢 红楼梦 和 月亮"),
        ("他说【重要】", "他说 重要"),
        ("!SIL yes %HESITATION no &=laughs", "yes no"),
        ("100 % sure !important", "100 sure important"),
    ],
)
def test_tags_are_not_words(text, expected):
    assert transcript_of(text).text == expected


def test_tags_may_be_kept():
    found = transcript_of("[noise] uh <COMMA>", tags="keep")
    assert (found.text, found.tags) == ("noise uh comma", ())


@pytest.mark.parametrize("kept", ["[]", "<", "{}", "()", "+", "*"])
def test_brackets_of_the_vocabulary_are_left(kept):
    text = "[a] <b> {c} (noise) ++d++ *noise*"
    rest, tags = without_tags(text, kept)
    assert len(tags) == 5
    assert any(character in rest for character in kept)
    assert "a" not in normalise(rest) or "[" in kept


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ("", ""),
        ("  \t", ""),
        ("\ufeff", ""),
        ("[noise]", ""),
        ("<sil> <sil>", ""),
        ("(laughter)", ""),
        ("[[noise]]", ""),
        ("<<noise>>", ""),
        ("((laughter))", ""),
        ("(soft music)", ""),
        ("NaN", None),
        (" n/a ", None),
        ("None", None),
        ("null", "null"),
        ("none", "none"),
        ("ignore_time_segment_in_scoring", None),
        ("-", None),
        ("_", None),
        (" ... ", None),
        ("?", None),
        ("<unk>", None),
        ("(())", None),
        ("[noise] [unintelligible]", None),
        ("[noise] -", None),
        ("[]", None),
        ("[redacted]", None),
        ("[NULL]", None),
        ("(null)", None),
        ("#VALUE!", None),
        ("[indistinct]", None),
        ("<foreign lang='de'></foreign>", None),
        ("!SIL", ""),
        ("{BREATH} [vocalized-noise]", ""),
    ],
)
def test_what_a_transcript_without_words_means(text, expected):
    assert transcript_of(text).text == expected


@pytest.mark.parametrize(
    ("heard", "expected"),
    [("...", ""), ("-", ""), ("[music]", ""), ("[inaudible]", None), ("<unk>", None),
     ("(speaking in foreign language)", None), ("[redacted] ...", None), ("nan", "nan")],
)  # fmt: skip
def test_what_a_model_heard_without_words_means(heard, expected):
    assert transcript_of(heard, is_written_by_model=True).text == expected


def test_the_tags_are_named():
    assert transcript_of("<SIL> yes [noise]").tags == ("[noise]", "<SIL>")


def test_many_brackets_take_no_long_time():
    assert transcript_of("[" * 20_000 + "a" + "]" * 20_000).text is None
    assert transcript_of("<a" * 20_000 + "(b" * 20_000).text
