"""Tuning finds what evaluation finds, and its file makes evaluation say the same."""

import dataclasses
import itertools
import json

import pytest
import yaml

from tfkd import cli
from tfkd.config import overrides_of
from tfkd.decoding.decoder import Decoder
from tfkd.errors import ConfigError
from tfkd.evaluation import tuning
from tfkd.evaluation.evaluate import evaluate
from tfkd.evaluation.models import open_model
from tfkd.evaluation.tuning import Trial, tune
from tfkd.language_models.ngram import unit_names
from tfkd.metrics import ErrorRate, score
from tfkd.records import open_store

GRID = {
    "fusion.lm_weight": ["0", "0.3", "20"],
    "fusion.ctc_weight": ["0", "0.5"],
    "length_penalty": ["0", "0.5"],
}
COMBINATIONS = [
    tuple(f"{key}={value}" for key, value in zip(GRID, values, strict=True))
    for values in itertools.product(*GRID.values())
]


@pytest.fixture(scope="module")
def arpa(teacher, tmp_path_factory):
    """A unigram model that knows the units, and hardly expects any but those of mu."""
    words = [name for name in unit_names(teacher.tokenizer) if name]
    path = tmp_path_factory.mktemp("lm") / "lm.arpa"
    lines = [f"{-1 if word in ('m', 'u', '</s>') else -4}\t{word}" for word in words]
    path.write_text(
        "\n".join(["\\data\\", f"ngram 1={len(words)}", "", "\\1-grams:", *lines, "", "\\end\\\n"])
    )
    return path


@pytest.fixture(scope="module")
def fused(teacher, arpa):
    """The teacher with a language model of no weight yet."""
    return teacher.with_decoding([f"fusion.lm={arpa}"])


@pytest.fixture(scope="module")
def trials(fused, prepared):
    return tune(fused, prepared["valid"], GRID)


def test_every_combination_is_tried_and_the_best_comes_first(trials):
    rates = [trial.rate.wer for trial in trials]
    assert rates == sorted(rates)
    assert sorted(trial.overrides for trial in trials) == sorted(COMBINATIONS)
    for rate in set(rates):
        alike = [trial.overrides for trial in trials if trial.rate.wer == rate]
        assert alike == [each for each in COMBINATIONS if each in alike]


@pytest.mark.parametrize("place", [0, -1])
def test_a_trial_is_what_evaluation_says(trials, fused, prepared, arpa, place):
    overrides = [f"fusion.lm={arpa}", *trials[place].overrides]
    evaluation, _ = evaluate(open_model(fused.directory, overrides), prepared["valid"])
    for key, value in dataclasses.asdict(trials[place].rate).items():
        assert getattr(evaluation, key) == value


def test_a_language_model_of_great_weight_takes_over(trials):
    assert trials[-1].overrides[0] == "fusion.lm_weight=20"
    assert trials[-1].rate.wer > trials[0].rate.wer + 0.3


@pytest.mark.slow
def test_weights_share_a_trace_and_other_settings_do_not(fused, prepared, monkeypatch):
    traced = []

    class Counted(Decoder):
        def search(self, *arguments):
            traced.append(self.config.length_penalty)
            return super().search(*arguments)

    monkeypatch.setattr(tuning, "Decoder", Counted)
    grid = {"fusion.lm_weight": ["0", "0.1", "0.2", "0.3"], "length_penalty": ["0", "0.5"]}
    assert len(tune(fused, prepared["valid"], grid)) == 8
    # A language model brings its own normalisation where no penalty is chosen.
    assert traced == [0.0, 0.5, 0.0]


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"fusion.lm_wait": ["1"]}, "unknown key 'fusion.lm_wait'"),
        ({"fusion.lm_weight": ["0", "0.3"]}, r"fusion\.lm_weight: needs lm"),
        ({"beam_width": ["2", "wide"]}, "beam_width: expected int, got 'wide'"),
        ({"length_penalty": ["[1"]}, "not valid YAML"),
    ],
)
def test_a_mistake_is_refused_before_any_decoding(teacher, prepared, monkeypatch, grid, message):
    monkeypatch.setattr(tuning, "Decoder", None)
    with pytest.raises(ConfigError, match=message):
        tune(teacher, prepared["valid"], grid)


@pytest.mark.slow
def test_the_command_writes_what_evaluate_and_label_read(teacher, prepared, arpa, tmp_path, capsys):
    chosen, data = tmp_path / "decoding.yaml", str(prepared["valid"].directory)
    cli.main(
        ["tune-decoding", str(teacher.directory), "--data", data, "--out", str(chosen), "--set",
         f"fusion.lm={arpa}", "--parameter", "fusion.lm_weight=0.25,0.3", "--parameter",
         "length_penalty=0.5"]
    )  # fmt: skip
    said = capsys.readouterr().out
    assert said.splitlines()[0].split() == ["settings", "WER", "%", "95", "%", "interval"]
    assert "fusion.lm_weight=0.25  length_penalty=0.5" in said
    assert str(chosen) in said
    content = yaml.safe_load(chosen.read_text())
    assert content["length_penalty"] == 0.5
    assert content["fusion"] in [{"lm": str(arpa), "lm_weight": w} for w in (0.25, 0.3)]
    cli.main(["evaluate", str(teacher.directory), "--data", data, "--decoding", str(chosen),
              "--json", str(tmp_path / "e.json")])  # fmt: skip
    found = json.loads((tmp_path / "e.json").read_text())
    expected, _ = evaluate(open_model(teacher.directory, overrides_of(content)), prepared["valid"])
    for field in dataclasses.fields(ErrorRate):
        assert found[field.name] == getattr(expected, field.name)


def test_the_command_says_of_how_many_the_wer_is(
    teacher, tiny_corpus, tmp_path, monkeypatch, capsys
):
    rows = [json.loads(line) for line in (tiny_corpus / "valid.jsonl").read_text().splitlines()]
    rows = [{**row, "audio": str(tiny_corpus / row["audio"])} for row in rows]
    rows[0]["text"] = None
    data = tmp_path / "half.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    trial = Trial((), score(["ba"] * (len(rows) - 1), ["ba"] * (len(rows) - 1)))
    monkeypatch.setattr(tuning, "tune", lambda *_: [trial])
    cli.main(["tune-decoding", str(teacher.directory), "--data", str(data), "--parameter",
              "beam_width=1", "--out", str(tmp_path / "best.yaml")])  # fmt: skip
    assert "1 of 6 utterances have no transcript: WER is that of the other 5" in (
        capsys.readouterr().out
    )


@pytest.mark.slow
def test_labels_belong_to_their_language_model(teacher, prepared, arpa, tmp_path, capfd):
    own = tmp_path / "lm.arpa"
    own.write_bytes(arpa.read_bytes())
    arguments = ["label", teacher.directory, "--data", prepared["valid"].directory, "--out",
                 tmp_path / "labels", "--beam-width", 2, "--num-hypotheses", 1, "--set",
                 f"fusion.lm={own}", "--set", "fusion.lm_weight=20"]  # fmt: skip
    cli.main([str(argument) for argument in arguments])
    texts = [label.hypotheses[0].text for label in open_store(tmp_path / "labels").records()]
    # What the model hardly expects is not said, so it did join.
    assert not set("".join(texts)) - set("mu")
    own.write_text(own.read_text().replace("-4", "-3"))
    with pytest.raises(SystemExit):
        cli.main([str(argument) for argument in arguments])
    assert "labels" in capfd.readouterr().err


@pytest.mark.parametrize("parameter", ["fusion.lm_weight", "fusion.lm_weight=", "=1"])
def test_a_parameter_without_values_is_refused(capsys, parameter):
    with pytest.raises(SystemExit) as ended:
        cli.main(["tune-decoding", "run", "--data", "d", "--out", "o", "--parameter", parameter])
    assert ended.value.code == 2
    assert "is not KEY=V1,V2,..." in capsys.readouterr().err
