import json

import pytest

from tfkd import cli
from tfkd.errors import RecordError, TfkdError
from tfkd.evaluation.comparing import compared, read_transcripts
from tfkd.evaluation.evaluate import Recognition
from tfkd.metrics import count_word_errors, difference_of_counts


@pytest.fixture
def rows(prepared):
    """Transcripts of the test set in which every second utterance is wrong."""
    known = {row["utterance_id"]: row["text"] for row in prepared["test"].index}
    return [
        {"utterance_id": name, "reference": text, "hypothesis": text if number % 2 else "x"}
        for number, (name, text) in enumerate(known.items())
    ]


@pytest.fixture
def write(tmp_path):
    def lines(rows):
        path = tmp_path / "other.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return lines


def test_two_recognisers_are_compared_in_what_both_heard():
    def heard(**texts):
        return {name: Recognition(name, "a b", text) for name, text in texts.items()}

    one, other = heard(u1="a b", u2="a x", u3="x x"), heard(u2="a b", u3="x b", u4="a b")
    found = compared(list(one.values()), other)
    assert (found.wer, found.other_wer) == (3 / 4, 1 / 4)
    assert (found.utterances, found.left_out) == (2, 2)
    counts = [count_word_errors(["a b", "a b"], each) for each in (["a x", "x x"], ["a b", "x b"])]
    assert found.difference == difference_of_counts(*counts)._asdict()
    assert compared(list(one.values()), heard(u9="a b")) is None


def test_a_model_is_compared_with_the_transcripts_of_another(
    exports, prepared, rows, write, tmp_path, capsys
):
    figures, texts = tmp_path / "figures.json", tmp_path / "texts.jsonl"
    command = ["evaluate", exports["tflite-float32"].path]
    command += ["--data", str(prepared["test"].directory), "--json", str(figures)]
    cli.main([*command, "--transcripts", str(texts), "--against", str(write(rows[1:]))])
    against = json.loads(figures.read_text())["against"]
    printed = capsys.readouterr().out
    percents = f"{100 * against['wer']:.2f} against {100 * against['other_wer']:.2f} % word errors"
    assert percents in printed
    assert "this model" in printed.lower()
    assert "other.jsonl" in printed
    assert (against["utterances"], against["left_out"]) == (5, 1)
    assert "Compared in 5 utterances; 1 others" in printed
    assert against["other_wer"] == pytest.approx(
        sum(row["hypothesis"] == "x" for row in rows[1:])
        / sum(len(row["reference"].split()) for row in rows[1:])
    )
    # A model does not differ from itself.
    cli.main([*command, "--against", str(texts)])
    against = json.loads(figures.read_text())["against"]
    assert (against["difference"]["wer"], against["difference"]["p_value"]) == (0, 1)
    assert "cannot tell this model from texts.jsonl" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (lambda rows: [{**rows[0], "utterance_id": "other"}], TfkdError, "other: is not in"),
        (lambda rows: [{**rows[0], "reference": "x y"}], TfkdError, "has another transcript"),
        (lambda rows: [*rows, rows[0]], TfkdError, "is there twice"),
        (lambda rows: [], TfkdError, "holds no transcript"),
        (lambda rows: [{"utterance_id": "a"}], RecordError, "line 1 "),
    ],
)
def test_transcripts_of_other_data_are_refused(prepared, rows, write, change, kind, message):
    path = write(change(rows))
    with pytest.raises(kind, match=message) as raised:
        read_transcripts(path, prepared["test"])
    assert "tfkd evaluate --transcripts" in str(raised.value)
    assert str(path) in str(raised.value)
