"""N-best lists: which lines are read, and the errors of those that are not."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from tfkd.distillation.nbest import NBestList
from tfkd.errors import ManifestError
from tfkd.records import Hypothesis
from tfkd.storage.files import sha256

FULL = {
    "text": "Seven  four",
    "token_ids": [7, 8, 3],
    "log_prob": -1.5,
    "score": -0.5,
    "token_log_probs": [-0.5, -0.75, -0.25],
    "token_seconds": [0.25, 0.5, 0.75],
    "finish_reason": "eos",
    "coverage": 0.875,
}


def written(path: Path, *lines: object) -> Path:
    rows = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    path.write_text("".join(row + "\n" for row in rows), encoding="utf-8")
    return path


def line(*hypotheses: object, utterance_id: str = "a1") -> dict:
    return {"utterance_id": utterance_id, "hypotheses": list(hypotheses)}


def read(path: Path, *ids: str, extra_characters: str = "") -> list[tuple[Hypothesis, ...]]:
    return list(NBestList.scan(path, extra_characters).hypotheses(ids))


def test_tags_of_a_recogniser_are_no_words(tmp_path):
    """Case: Whisper's marks of music, times and languages in its hypotheses."""
    path = written(tmp_path / "n.jsonl", line("<|en|> Yes [MUSIC]", "[BLANK_AUDIO]", "-"))
    ((best, second, third),) = read(path, "a1")
    assert [best.text, second.text, third.text] == ["yes", "", ""]
    kept = NBestList.scan(path, tags="keep").hypotheses(["a1"])
    assert next(kept)[0].text == "en yes music"


def test_speech_without_its_words_is_no_hypothesis(tmp_path):
    """It would teach that speech is silence, and stand first among texts."""
    path = written(
        tmp_path / "n.jsonl",
        line("<unk>", "yes", "[inaudible]"),
        line("(speaking in foreign language)", utterance_id="b"),
    )
    nbest = NBestList.scan(path)
    ((only,), none) = nbest.hypotheses(["a1", "b"])
    assert (only.text, none) == ("yes", ())
    assert [nbest.has_hypotheses(each) for each in ("a1", "b")] == [True, False]


def test_words_that_are_placeholders_in_tables_were_heard(tmp_path):
    ((best, second),) = read(written(tmp_path / "n.jsonl", line("None", "N/A")), "a1")
    assert [best.text, second.text] == ["none", "n a"]


def test_a_hypothesis_is_a_text_or_an_object(tmp_path):
    path = written(
        tmp_path / "nbest.jsonl",
        line("seven four", "seven for"),
        line({"text": "six", "log_prob": -1}, {"text": "sex", "log_prob": -2.5}, utterance_id="b"),
        line(FULL, utterance_id="c"),
    )
    assert read(path, "c", "a1", "b") == [
        (
            Hypothesis(
                text="Seven  four",
                token_ids=(7, 8, 3),
                log_prob=-1.5,
                score=-0.5,
                token_log_probs=(-0.5, -0.75, -0.25),
                token_seconds=(0.25, 0.5, 0.75),
                finish_reason="eos",
                coverage=0.875,
            ),
        ),
        (Hypothesis("seven four"), Hypothesis("seven for")),
        (Hypothesis("six", log_prob=-1), Hypothesis("sex", log_prob=-2.5)),
    ]


def test_null_and_an_empty_list_are_unknown(tmp_path):
    unknown = {"text": "", "log_prob": None, "token_ids": [], "finish_reason": None}
    path = written(tmp_path / "nbest.jsonl", line(unknown, ""))
    assert read(path, "a1") == [(Hypothesis(""), Hypothesis(""))]


def test_text_without_tokens_is_normalised_like_a_transcript(tmp_path):
    path = written(tmp_path / "nbest.jsonl", line("It’s SEVEN-four!"), line(FULL, utterance_id="b"))
    ((plain,), (spelled,)) = read(path, "a1", "b")
    assert plain.text == "it's seven four"
    assert spelled.text == "Seven  four"
    ((kept,),) = read(path, "a1", extra_characters="-")
    assert kept.text == "it's seven-four"


def test_blank_lines_and_other_keys_are_passed_over(tmp_path):
    path = written(tmp_path / "nbest.jsonl", "", {"lang": "en", "text": "REF", **line("x")}, "  ")
    nbest = NBestList.scan(path)
    assert list(nbest.hypotheses(["a1"])) == [(Hypothesis("x"),)]
    assert nbest.sha256 == sha256(path)


def test_utterances_that_are_absent_or_empty_have_no_hypotheses(tmp_path):
    path = written(tmp_path / "nbest.jsonl", line("x"), line(utterance_id="b"))
    nbest = NBestList.scan(path)
    assert list(nbest.hypotheses(["b", "a1", "c"])) == [(), (Hypothesis("x"),), ()]
    assert [nbest.has_hypotheses(each) for each in ("a1", "b", "c")] == [True, False, False]


def full(**changes: object) -> dict:
    return line({**FULL, **changes})


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("{", "line 2: is not JSON: Expecting"),
        ("[1]", "is not an object with an utterance_id"),
        ({"hypotheses": []}, "is not an object with an utterance_id"),
        ({"utterance_id": 7.5, "hypotheses": []}, "is not an object with an utterance_id"),
        ({"utterance_id": True, "hypotheses": []}, "is not an object with an utterance_id"),
        ({"utterance_id": "a1", "nbest": ["x"]}, "no list of hypotheses, only utterance_id, nbest"),
        ({"utterance_id": "a1"}, "has no list of hypotheses"),
        ({"utterance_id": "a1", "hypotheses": "seven"}, "has no list of hypotheses"),
        (line("x", utterance_id="first"), "line 2: utterance 'first' is given twice"),
        (line("x", 7), "hypothesis 1: is neither a text nor an object"),
        (line({"log_prob": -1}), "hypothesis 0: has no text"),
        (line({"text": 7}), "text is not a text"),
        (line({"text": "x", "logprob": -1}), "unknown field 'logprob', did you mean 'log_prob'"),
        (line({"text": "x", "tokenLogProbs": [1]}), "did you mean 'token_log_probs'"),
        (line({"text": "x", "am": -1}), "unknown field 'am', known are text, token_ids, log"),
        (line({"text": "x", "log_prob": 12.5}), "log_prob is 12.5, but the natural logarithm of a"),
        (line({"text": "x", "log_prob": -1}, {"text": "y", "log_prob": 0.7}), "hypothesis 1: log"),
        (full(token_log_probs=[-1, 0.5, 0]), "one of token_log_probs is 0.5, but the natural log"),
        (line({"text": "x", "prob": 0.7}), "'prob', give its natural logarithm as log_prob"),
        (line({"text": "x", "confidence": 0.7}), "'confidence', give its natural logarithm"),
        (line({"text": "x", "avg_logprob": -0.3}), "'avg_logprob', a mean is no log_prob: multip"),
        (line({"text": "x", "total_cost": 9}), "'total_cost', a cost is no log_prob: give its neg"),
        (line({"text": "x", "lm_score": 9}), "'lm_score', a part is no score"),
        (line({"text": "x", "transcript": "y"}), "'transcript', did you mean 'text'"),
        (line({"text": "x", "log_prob": "-1"}), "log_prob is not a number"),
        (line({"text": "x", "log_prob": True}), "log_prob is not a number"),
        (line({"text": "x", "coverage": [1]}), "coverage is not a number"),
        (full(token_ids=[7, 8.5, 3]), "token_ids is not a list of whole numbers"),
        (full(token_ids=[7, True, 3]), "token_ids is not a list of whole numbers"),
        (full(token_ids=[7, -8, 3]), "a token id is negative"),
        (full(token_log_probs=[-1, "x", 0]), "token_log_probs is not a list of numbers"),
        (full(token_seconds=[0.5]), "3 token_ids but 1 token_seconds"),
        (full(token_ids=[]), "0 token_ids but 3 token_log_probs"),
        (full(finish_reason="bored"), "finish_reason is 'bored', not eos or max_steps"),
        (line({"text": "x", "log_prob": -1}, "y"), "log_prob is missing in 1 of 2 hypotheses"),
        (line({"text": "x", "log_prob": float("nan")}), "NaN is not a finite number"),
        (line({"text": "x", "score": float("-inf")}), "-Infinity is not a finite number"),
        ('{"utterance_id": "a", "hypotheses": [{"text": "x", "log_prob": -1e999}]}', "is -inf"),
        ('{"utterance_id": "a", "hypotheses": [{"text": "x", "score": 1e39}]}', "score is 1e+39"),
        ('{"utterance_id": "a", "hypotheses": [{"text": "x", "score": ' + "9" * 5001, "5001"),
        (line({**FULL, "text": "\ud800"}), "text holds characters that UTF-8 cannot express"),
        ("[" * 100_000, "nested too deeply"),
    ],
)  # fmt: skip
def test_a_malformed_line_is_named(tmp_path, bad, words):
    path = written(tmp_path / "nbest.jsonl", line("x", utterance_id="first"), bad)
    with pytest.raises(ManifestError) as raised:
        NBestList.scan(path)
    message = str(raised.value)
    assert message.startswith(f"{path}: line 2: ")
    assert words in message
    message.encode()


def test_ids_are_read_as_in_manifests(tmp_path):
    path = tmp_path / "nbest.jsonl"
    rows = [
        {"utterance_id": 7, "hypotheses": ["x"]},
        {"utterance_id": None, "id": "b", "hypotheses": ["y"]},
    ]
    text = "\ufeff" + "".join(json.dumps(row) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")
    assert read(path, "b", "7") == [(Hypothesis("y"),), (Hypothesis("x"),)]


def test_a_log_prob_that_rounding_made_positive_is_one(tmp_path):
    path = written(tmp_path / "nbest.jsonl", line({"text": "x", "log_prob": 1e-6}))
    assert read(path, "a1") == [(Hypothesis("x", log_prob=1e-6),)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (json.dumps([line("x")]).encode(), r"is a JSON array, not JSON Lines \(.*jq -c '\.\[\]'"),
        (b"\n [\n", "is a JSON array"),
        (b"\xef\xbb\xbf[{}]", "is a JSON array"),
        (json.dumps(line("x"), indent=2).encode(), "is JSON over several lines"),
        (gzip.compress(json.dumps(line("x")).encode(), mtime=0), "is a gzip file"),
        (json.dumps(line("x")).encode("utf-16"), "is UTF-16"),
    ],
)
def test_files_of_other_forms_are_named(tmp_path, content, message):
    path = tmp_path / "nbest.jsonl"
    path.write_bytes(content)
    with pytest.raises(ManifestError, match=message):
        NBestList.scan(path)


def scored(*log_probs: float, utterance_id: str, **others: float) -> dict:
    texts = "abcd"[: len(log_probs)]
    hypotheses = [
        {"text": t, "log_prob": p, **others} for t, p in zip(texts, log_probs, strict=True)
    ]
    return line(*hypotheses, utterance_id=utterance_id)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        # Means a token: each text would be likelier than not.
        ([scored(-0.2, -0.3, -0.4, utterance_id="a")], "in 1 of 1 utterances the probabilities"),
        # Costs whose sign was turned, in their own order.
        ([scored(-9, -3, utterance_id="a"), scored(-8, -4, utterance_id="b")], "the least likely"),
        ([scored(-0.7, -0.7, utterance_id="a"), scored(-1, -2, utterance_id="b")], None),
        # A score ranks; log_prob need not.
        ([scored(-9, -3, utterance_id="a", score=1.0)], None),
        # Costs as scores.
        ([line({"text": "a", "score": 12.5}, {"text": "b", "score": 20})], "the least likely"),
        ([line({"text": "a", "score": 20}, {"text": "b", "score": 12.5})], None),
        # Tokens that spell another form of the words than transcripts have.
        (
            [line({"text": "Se.", "token_ids": [5, 6, 3]})],
            "1 hypotheses with token_ids are not norm",
        ),
        ([line({"text": "se", "token_ids": [5, 6, 3]})], None),
        # One odd utterance of three.
        ([scored(-9, -3, utterance_id="a")] + [scored(-1, -2, utterance_id=x) for x in "bc"], None),
        # The same text twice is one event.
        ([line({"text": "a", "log_prob": -0.1}, {"text": "A", "log_prob": -0.1})], None),
        ([line({"text": "a", "log_prob": -0.1})], None),
        ([line("a", "b")], None),
    ],
)
def test_log_probs_that_cannot_be_any_are_warned_of(tmp_path, caplog, rows, said):
    NBestList.scan(written(tmp_path / "nbest.jsonl", *rows))
    assert (said in caplog.text) if said else not caplog.text


def test_a_repeated_hypothesis_counts_once(tmp_path):
    seven, other = {"text": "Seven", "log_prob": -0.3}, {"text": "seven", "log_prob": -2.0}
    path = written(tmp_path / "nbest.jsonl", line(seven, seven, other, utterance_id="a"))
    (found,) = NBestList.scan(path).hypotheses(["a"])
    assert [each.log_prob for each in found] == [-0.3, -2.0]


def test_a_field_that_is_given_twice_is_refused(tmp_path):
    path = tmp_path / "nbest.jsonl"
    path.write_text('{"utterance_id": "a", "hypotheses": ["x"], "hypotheses": ["y"]}\n')
    with pytest.raises(ManifestError, match="line 1: .*'hypotheses' is given twice"):
        NBestList.scan(path)


def test_bytes_that_are_not_text_are_named(tmp_path):
    path = tmp_path / "nbest.jsonl"
    path.write_bytes(b'{"utterance_id": "\xff", "hypotheses": []}\n')
    with pytest.raises(ManifestError, match="line 1: .*utf-8"):
        NBestList.scan(path)


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()])
def test_a_list_that_cannot_be_read_is_named(tmp_path, make):
    make(tmp_path / "nbest.jsonl")
    with pytest.raises(ManifestError, match="nbest.jsonl: cannot read"):
        NBestList.scan(tmp_path / "nbest.jsonl")


@pytest.mark.parametrize("changed", ["", '{"utterance_id": "b", "hypotheses": ["x"]}\n', "{{{{\n"])
def test_a_list_that_changes_underway_is_noticed(tmp_path, changed):
    path = written(tmp_path / "nbest.jsonl", line("x"))
    nbest = NBestList.scan(path)
    path.write_text(changed)
    with pytest.raises(ManifestError, match="was changed while it was read"):
        list(nbest.hypotheses(["a1"]))
