"""The command line: quick help, one line for each mistake, and the whole job in one command."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest
import yaml

from tfkd import cli
from tfkd.cli.parser import command_parser
from tfkd.config import LabelConfig, ObjectiveConfig
from tfkd.corpora import FORMATS
from tfkd.device.recogniser import DeviceRecogniser
from tfkd.text import CharacterTokenizer

(_OF_COMMANDS,) = (
    action for action in command_parser()._actions if isinstance(action, argparse._SubParsersAction)
)
COMMANDS: dict[str, argparse.ArgumentParser] = dict(_OF_COMMANDS.choices)
HEAVY = ("tensorflow", "keras", "tensorflow_io", "numpy", "soundfile", "sentencepiece", "jiwer")
STAGES = ("prepare", "teacher", "label", "student-truth", "student-seq_kd", "export", "evaluate")

# Says on a line after each command which heavy packages have been imported by then.
RUN_AND_LIST_MODULES = """
import json, sys
from tfkd import cli

code = 0
for arguments in json.loads(sys.argv[2]):
    try:
        cli.main(arguments)
    except SystemExit as ended:
        code = ended.code or code
    loaded = {name.partition(".")[0] for name in sys.modules}
    print("loaded:", *sorted(loaded & set(sys.argv[1].split(","))))
sys.exit(code)
"""


def refuse(*arguments, **settings):
    raise AssertionError("this must not be called")


def run_child(*arguments: str | Path) -> subprocess.CompletedProcess:
    return run_in_child([[str(each) for each in arguments]])


def run_in_child(commands: list[list[str]]) -> subprocess.CompletedProcess:
    """Runs commands one after another in one process, whose exit code is the last failure's."""
    command = [sys.executable, "-c", RUN_AND_LIST_MODULES, ",".join(HEAVY), json.dumps(commands)]
    return subprocess.run(command, capture_output=True, text=True)


# --- help


def test_help_loads_nothing_heavy():
    done = run_in_child([["--help"], *([command, "--help"] for command in COMMANDS)])
    assert done.returncode == 0, done.stderr
    loaded = [line for line in done.stdout.splitlines() if line.startswith("loaded:")]
    assert loaded == ["loaded:"] * (1 + len(COMMANDS))
    assert done.stderr == ""


def help_of(capsys, *command: str) -> str:
    with pytest.raises(SystemExit) as ended:
        cli.main([*command, "--help"])
    assert ended.value.code == 0
    output = capsys.readouterr()
    assert output.err == ""
    return output.out


def test_help_lists_every_command_in_order(capsys):
    lines = help_of(capsys).splitlines()
    listed = [line.split()[0] for line in lines if line[:5].strip()]
    assert [name for name in listed if name in COMMANDS] == list(COMMANDS)
    assert len(COMMANDS) > 20


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_has_an_example(capsys, command):
    shown = help_of(capsys, command)
    assert shown.startswith(f"usage: tfkd {command} ")
    _, _, example = shown.partition("\nexample:\n  ")
    assert example.split()[:2] == ["tfkd", command]


# The parser spells these out, because it must not import the packages that hold them.
CHOICES = {
    "prepare --format": lambda: FORMATS,
    "label --runner": lambda: (
        "local",
        *pytest.importorskip("tfkd.distillation.apache_beam").RUNNERS,
    ),
    "distill --objective": lambda: typing.get_args(typing.get_type_hints(ObjectiveConfig)["kind"]),
}
SPELT_OUT = {
    f"{name} {action.option_strings[-1]}": action.choices
    for name, parser in COMMANDS.items()
    for action in parser._actions
    if action.choices is not None
}


@pytest.mark.parametrize("option", sorted(CHOICES.keys() | SPELT_OUT.keys()))
def test_an_option_offers_every_choice(option):
    assert sorted(SPELT_OUT[option]) == sorted(CHOICES[option]())


def test_the_package_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "tfkd", "--version"], capture_output=True, text=True
    )
    assert done.stdout.startswith("tfkd ")
    assert done.returncode == 0


# --- mistakes


@pytest.fixture(scope="module")
def places(tmp_path_factory, tiny_corpus, prepared, tiny_settings) -> dict[str, str]:
    """Files and folders that the mistakes below are made with, by name."""
    directory = tmp_path_factory.mktemp("mistakes")
    (directory / "empty").mkdir()
    (directory / "text.txt").write_text("nothing of interest\n")
    (directory / "good.yaml").write_text(yaml.safe_dump(tiny_settings))
    configs = {
        "unknown": {"teecher": {}},
        "nested": {"teacher": {"training": {"epoch": 3}}},
        "typed": {"teacher": {"training": {"epochs": "many"}}},
        "ranged": {"labels": {"beam_width": 2, "num_hypotheses": 3}},
    }
    for name, content in configs.items():
        (directory / f"{name}.yaml").write_text(yaml.safe_dump(content))
    (directory / "lm.yaml").write_text("model: {units: 8}\n")
    (directory / "dated.yaml").write_text("max_tokens: 2020-01-01\n")
    (directory / "systems.json").write_text('{"systems": {}}')
    (directory / "nothing.json").write_text('{"rows": {}}')
    (directory / "saved").mkdir()
    (directory / "saved" / "saved_model.pb").write_bytes(b"")
    (directory / "saved" / "tfkd.json").write_text("[]")
    (directory / "broken.yaml").write_text("teacher: [1, 2\nstudent: }{\n")
    (directory / "list.yaml").write_text("- a\n- b\n")
    return {
        "dir": str(directory),
        "corpus": str(tiny_corpus),
        "test": str(prepared["test"].directory),
        "train": str(prepared["train"].directory),
        "run": "run",
    }


# (name, arguments, exit code, what the line must say). {dir}, {corpus} ... are `places`.
MISTAKES = [
    ("unknown key", "run {dir}/unknown.yaml", 2, "unknown key 'teecher' (did you mean 'teacher'"),
    ("nested key", "run {dir}/nested.yaml", 2, "'teacher.training.epoch' (did you mean 'epochs'"),
    ("type", "run {dir}/typed.yaml", 2, "teacher.training.epochs: expected int, got 'many'"),
    ("range", "run {dir}/ranged.yaml", 2, "labels.num_hypotheses: cannot exceed beam_width"),
    ("YAML", "run {dir}/broken.yaml", 2, "broken.yaml: not valid YAML"),
    ("no mapping", "run {dir}/list.yaml", 2, "a config is a mapping"),
    ("no config", "run {dir}/absent.yaml", 2, "absent.yaml: cannot read the config"),
    ("folder as config", "params {dir}", 2, "cannot read the config"),
    ("no value", "run {dir}/good.yaml --set teacher", 2, "--set 'teacher' is not key=value"),
    ("set key", "run configs/demo.yaml --set data=x", 2, "unknown key 'data' (did you mean"),
    ("set type", "run configs/demo.yaml --set labels.beam_width=wide", 2, "expected int"),
    ("set section", "run configs/demo.yaml --set work_dir.x=1", 2, "'work_dir' is not a section"),
    ("workers of a job", "run configs/demo.yaml --set teacher.training.distribution=multi_worker",
     2, "cannot train on several machines (run tfkd train and tfkd distill on each machine)"),
    ("no data", "run configs/demo.yaml --set data_dir={dir}", 2, "train.jsonl: the train corpus"),
    ("no such corpus", "run configs/demo.yaml --set data_dir={corpus} --set corpora.valid=absent",
     2, "the valid corpus is missing (--set data_dir=FOLDER, or --set corpora.valid=NAME)"),
    ("no size", "fit-student --teacher configs/digits.yaml --bytes 4xB --out {dir}/o", 2,
     "--bytes '4xB' is no such budget"),
    ("no factor", "fit-student --teacher configs/digits.yaml --rtf 2x --out {dir}/o", 2,
     "--rtf '2x' is no such budget (for example --rtf 0.002)"),
    ("no such student", "fit-student --teacher {dir}/good.yaml --params 1000x --out {dir}/o", 2,
     "even the narrowest student"),
    ("no corpus", "prepare {dir}/absent.jsonl --out {dir}/o", 1, "no such file or folder"),
    ("empty corpus", "prepare {dir}/empty --out {dir}/o", 1, "is an empty folder"),
    ("file as out", "prepare {corpus}/test.jsonl --out {dir}/text.txt", 1, "cannot lock"),
    ("no store", "verify {dir}/empty", 1, "is not a store of shards"),
    ("no record", "show {test} --id test-30", 1, "has no utterance 'test-30' (did you mean"),
    ("no labels to list", "labels-to-jsonl {test} --out {dir}/o", 1, "a store of utterances, not"),
    ("no list", "jsonl-to-labels {dir}/absent --data {test} --out {dir}/o", 1, "cannot read"),
    ("no n-best list", "jsonl-to-labels {dir}/text.txt --data {test} --out {dir}/o",
     1, "text.txt: line 1: is not JSON: Expecting value"),
    ("no data to join", "jsonl-to-labels {dir}/text.txt --data {dir}/absent --out {dir}/o",
     1, "absent: no such file or folder"),
    ("no run", "label {dir}/empty --data {test} --out {dir}/o --beam-width 2 --num-hypotheses 1",
     1, "empty: is not a finished run: config.yaml is missing"),
    ("data of a runner", "label {dir} --data {corpus} --out {dir}/o --beam-width 2 "
     "--num-hypotheses 1 --runner direct", 2, "is not a prepared folder, which every --runner but"),
    ("option without runner", "label {dir} --data {test} --out {dir}/o --beam-width 2 "
     "--num-hypotheses 1 --runner-option x=1", 2, "--runner-option needs a --runner other than"),
    ("hypotheses", "label {dir} --data {test} --out {dir}/o --beam-width 2 --num-hypotheses 3",
     2, "num_hypotheses: cannot exceed beam_width"),
    ("search", "decode {teacher} --data {test} --set beam_with=2",
     2, "unknown key 'beam_with' (did you mean 'beam_width'"),
    ("search of labels", "label {dir} --data {test} --out {dir}/o --beam-width 2 "
     "--num-hypotheses 1 --set normalisation=sum", 2, "'sum' is none of gnmt, mean"),
    ("width of labels", "label {dir} --data {test} --out {dir}/o --beam-width 2 "
     "--num-hypotheses 1 --set beam_width=3", 2, "this setting has an option (use --beam-width)"),
    ("width of exports", "export {teacher} --out {dir}/o --parity-data {test} --set beam_width=3",
     2, "this setting has an option (use --beam-width)"),
    ("fusion of exports", "export {teacher} --out {dir}/o --parity-data {test} "
     "--set fusion.lm=x.arpa", 2, "a language model is too large for devices"),
    ("objective twice", "distill configs/demo.yaml --labels {train} --valid {test} --out {dir}/o "
     "--objective truth --set training.objective.kind=seq_kd", 2, "has an option (use --obj"),
    ("setting of a system", "train configs/demo.yaml --train {train} --valid {test} --out {dir}/o "
     "--set training.sed=1", 2, "unknown key 'training.sed' (did you mean 'seed'"),
    ("setting of preparing", "prepare {corpus}/test.jsonl --out {dir}/o --set too_long=cut",
     2, "too_long: 'cut' is none of reject, split"),
    ("setting of a language model", "train-lm {dir}/lm.yaml --run {teacher} --text {dir}/text.txt "
     "--valid {dir}/text.txt --out {dir}/o --set model.units=0", 2, "model.units: "),
    ("share", "prepare {corpus}/test.jsonl --out {dir}/o --max-rejected-share 7",
     2, "max_rejected_share: 7.0 is above 1"),
    ("no run to export", "export {dir}/empty --out {dir}/o --parity-data {test}",
     1, "is not a finished run"),
    ("file of figures", "evaluate {teacher} --data {test} --json {dir}/text.txt/x.json",
     1, "cannot write: a file is where its folder would be (give a path in a folder)"),
    ("file of settings", "tune-decoding {teacher} --data {test} --parameter beam_width=1,2 "
     "--out {dir}", 1, "cannot write: it is a folder"),
    ("no model", "evaluate {dir}/empty --data {test}", 1, "neither the folder of a run"),
    ("data of a run", "evaluate {teacher} --data {dir}/absent", 1, "no such file or folder"),
    ("format", "export {teacher} --out {dir}/o --parity-data {test} --formats tflite-int4",
     2, "formats: 'tflite-int4' is none of savedmodel, tflite-float32"),
    ("no text", "train-lm {dir}/lm.yaml --run {teacher} --text {dir}/absent.txt "
     "--valid {dir}/text.txt --out {dir}/o", 1, "absent.txt: cannot read the text"),
    ("no tokenizer", "lm-text {dir}/empty --text {dir}/text.txt --out {dir}/o", 1,
     "cannot read the tokenizer"),
    ("no language model", "decode {teacher} --data {test} --set fusion.lm={dir}/absent.arpa", 1,
     "absent.arpa: no such language model"),
    ("text as ARPA", "decode {teacher} --data {test} --set fusion.lm={dir}/text.txt", 1,
     "is not an ARPA file"),
    ("weight alone", "evaluate {teacher} --data {test} --set fusion.lm_weight=0.3", 2,
     "fusion.lm_weight: needs lm, the language model"),
    ("parameter twice", "tune-decoding {teacher} --data {test} --out {dir}/o "
     "--parameter beam_width=1 --parameter beam_width=2", 2, "beam_width: is given twice"),
    ("parameter", "tune-decoding {teacher} --data {test} --parameter width=1,2 --out {dir}/o", 2,
     "unknown key 'width'"),
    ("parameter before data", "tune-decoding {teacher} --data {dir}/absent --parameter width=1,2 "
     "--out {dir}/o", 2, "unknown key 'width'"),
    ("begun from nothing", "train {dir}/good.yaml --train {dir}/absent --valid {test} --out "
     "{dir}/o --from {dir}/empty", 1, "is not a finished run: config.yaml is missing"),
    ("option and section", "label {teacher} --data {test} --out {dir}/o --set labels.beam_width=4 "
     "--beam-width 8", 2, "this setting has an option (use --beam-width)"),
    ("units of posteriors", "distill {dir}/good.yaml --labels {train} --valid {test} --out {dir}/o "
     "--objective word_kd --units {teacher}", 2, "--units has no effect on word_kd"),
    ("section of labels", "label {teacher} --data {test} --out {dir}/o --set labels.max_tokens=0",
     2, "max_tokens: 0 is below 1"),
    ("section of the teacher", "train {dir}/good.yaml --train {train} --valid {test} --out {dir}/o "
     "--set teacher.training.epochs=0", 2, "training.epochs: 0 is below 1"),
    ("no labels", "distill {dir}/good.yaml --labels {train} --valid {test} --out {dir}/o "
     "--objective seq_kd", 1, "holds no pseudo labels, from which seq_kd learns (make them"),
    ("labels as transcripts", "distill {dir}/good.yaml --labels {labels} --transcribed {labels} "
     "--valid {test} --out {dir}/o", 2, "holds pseudo labels, not transcripts (name it with"),
    ("shares of folders", "distill {dir}/good.yaml --labels {train} --transcribed {test} --valid "
     "{test} --out {dir}/o --shares 1", 2, "has 1 numbers for 2 folders (give one number for each"),
    ("shares in words", "train {dir}/good.yaml --train {train} --valid {test} --out {dir}/o "
     "--shares half", 2, "--shares 'half' is not a list of numbers"),
    ("data twice", "train {dir}/good.yaml --train {train} --train {train} --valid {test} "
     "--out {dir}/o", 1, "is given twice (name it once)"),
    ("mixture of nothing", "distill {dir}/good.yaml --labels {train} --valid {test} --out {dir}/o "
     "--objective mixture", 2, "parts: a mixture needs a list of objectives"),
    ("other run", "train {dir}/good.yaml --train {test} --valid {test} --out {teacher}",
     1, "holds a run of other settings or data: other training data; other validation"),
    ("other setting", "train {dir}/good.yaml --train {train} --valid {test} --out {teacher} "
     "--set training.epochs=77", 1, "; here training.epochs=77"),
    ("other setting of a student", "distill {dir}/good.yaml --labels {train} --valid {test} --out "
     "{teacher} --set training.epochs=77", 1, "here training.epochs=77"),
    ("no .tflite", "transcribe {dir}/absent.tflite {corpus}/test-00.wav", 1, "No such file"),
    ("no student", "report {dir}/nothing.json --title T --out {dir}/o", 1,
     "no student has finished (run tfkd sweep again)"),
    ("no systems", "report {dir}/systems.json --title T --out {dir}/o", 1, "not the results of"),
    ("part of a SavedModel", "evaluate {dir}/saved --trust --data {test}", 1,
     "saved/tfkd.json: holds metadata that is not an object"),
    ("a foreign SavedModel", "evaluate {dir}/saved --data {test}", 1,
     "that this machine did not export; opening it runs any code in it (give --trust"),
    ("no threads", "transcribe --threads 0 {dir}/absent.tflite {corpus}/test-00.wav", 2,
     "--threads 0 is too few (use at least 1"),
    ("no segments", "transcribe --segment-seconds -3 {dir}/absent.tflite {corpus}/test-00.wav", 2,
     "--segment-seconds -3 is too short (give more than 0)"),
    ("date", "label {dir} --data {test} --out {dir}/o --beam-width 2 --num-hypotheses 1 "
     "--decoding {dir}/dated.yaml", 2, "dated.yaml: line 1: '2020-01-01' is no setting's value"),
    ("limits of labels", "label {teacher} --data {corpus}/test.jsonl --out {dir}/o --beam-width 2 "
     "--num-hypotheses 1 --set min_tokens=500", 2, "labels.min_tokens: cannot exceed max_tokens"),
    ("form", "run configs/demo.yaml --set export.formats=[tflite-int4]", 2, "'tflite-int4' is"),
    ("no results", "report {dir}/text.txt --title T --out {dir}/o", 1, "text.txt: is not JSON"),
    ("folder as page", "report {dir}/systems.json --title T --out {dir}", 1,
     "cannot write: it is a folder (give the path of a file)"),
    ("other results", "report {dir}/good.yaml --title T --out {dir}/o", 1,
     "(give the results.json of tfkd run or tfkd sweep)"),
    ("results missing", "report {dir}/absent.json --title T --out {dir}/o", 1,
     "No such file or directory (give the results.json of tfkd run or tfkd sweep)"),
    ("no labels to filter", "filter-report {train} --out {dir}/o", 1,
     "is a store of utterances, not of pseudo_labels"),
    ("text as .tflite", "transcribe {dir}/text.txt {corpus}/test-00.wav", 1, "not a TFLite model"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code", "message"), [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES]
)
def test_a_mistake_gives_one_line(request, places, capfd, monkeypatch, arguments, code, message):
    monkeypatch.chdir(Path(__file__).parents[2])
    for name in ("teacher", "labels"):
        if f"{{{name}}}" in arguments:
            places = {**places, name: request.getfixturevalue(name).directory}
            capfd.readouterr()
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments.format(**places).split())
    output = capfd.readouterr()
    assert ended.value.code == code
    assert output.out == ""
    (line,) = output.err.splitlines()
    assert line.startswith("tfkd: error: ")
    assert message in line


@pytest.mark.parametrize(
    ("arguments", "code"),
    [("run {dir}/unknown.yaml", 2), ("verify {dir}/empty", 1), ("run {dir}/good.yaml --sat x", 2)],
)
def test_a_mistake_is_found_quickly_and_without_a_traceback(places, arguments, code):
    done = run_child(*arguments.format(**places).split())
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert "error: " in done.stderr.splitlines()[-1]
    assert "tensorflow" not in done.stdout.splitlines()[-1]


@pytest.mark.parametrize("arguments", [[], ["no-such-command"], ["run"], ["label", "x"]])
def test_wrong_usage_ends_with_two(capsys, arguments):
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("usage: tfkd")


def test_an_interruption_says_how_to_go_on(capsys, monkeypatch):
    def interrupted(options) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.data, "verify", interrupted)
    with pytest.raises(SystemExit) as ended:
        cli.main(["verify", "x"])
    assert ended.value.code == 130
    assert capsys.readouterr().err == "tfkd: interrupted; run the same command again to continue\n"


def shown(
    store: Path, utterance_id: str, stdout: int | IO[str] = subprocess.PIPE, **environment: str
) -> subprocess.Popen:
    """Runs `tfkd show` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "tfkd", "show", store, "--id", utterance_id],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


@pytest.mark.slow
def test_whoever_reads_may_stop_reading(prepared):
    with shown(prepared["test"].directory, "test-01") as child:
        child.stdout.close()
        assert child.stderr.read() == ""
    assert child.returncode == 1


def test_a_broken_pipe_that_is_not_the_output_is_named(capsys, monkeypatch):
    def broken(options) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(cli.data, "verify", broken)
    with pytest.raises(SystemExit) as ended:
        cli.main(["verify", "x"])
    assert ended.value.code == 1
    assert capsys.readouterr().err == "tfkd: error: [Errno 32] Broken pipe\n"


@pytest.mark.slow
def test_a_command_needs_no_output():
    done = subprocess.run(
        [sys.executable, "-m", "tfkd", "params", "configs/digits.yaml"],
        cwd=Path(__file__).parents[2], stderr=subprocess.PIPE, text=True, check=True,
        preexec_fn=lambda: os.close(1),
    )  # fmt: skip
    assert done.stderr == ""


@pytest.mark.slow
def test_a_full_disk_under_what_is_printed_is_one_line(prepared):
    store = prepared["test"].directory
    with open("/dev/full", "w") as full, shown(store, "test-01", full) as child:
        assert child.stderr.read() == "tfkd: error: [Errno 28] No space left on device\n"
    assert child.returncode == 1


@pytest.mark.slow
def test_what_a_terminal_cannot_show_is_spelt_out(tmp_path, speak):
    speak(tmp_path / "a.wav", "ba")
    manifest = tmp_path / "one.jsonl"
    manifest.write_text(json.dumps({"audio": "a.wav", "text": "straße"}))
    cli.main(["prepare", str(manifest), "--out", str(tmp_path / "store")])
    with shown(tmp_path / "store", "a", PYTHONIOENCODING="ascii") as child:
        assert "stra\\xdfe" in child.stdout.read()
    assert child.returncode == 0


# --- single commands


def test_params_compares_the_systems_of_a_config(capsys, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    settings = yaml.safe_load(Path("configs/demo.yaml").read_text())
    cli.main(["params", "configs/demo.yaml"])
    lines = capsys.readouterr().out.splitlines()
    names = [line.split()[0] for line in lines[2:]]
    assert names == ["teacher", "student"] == [k for k in settings if k in names]
    counts = [int(line.split()[1].replace(",", "")) for line in lines[2:]]
    assert lines[3].split()[2] == f"{counts[0] / counts[1]:.2f}x"


def test_prepare_and_verify_count_what_they_found(tiny_corpus, tmp_path, capsys):
    out = tmp_path / "store"
    arguments = ["prepare", str(tiny_corpus / "train.jsonl"), "--out", str(out)]
    cli.main([*arguments, "--set", "shard_size=10"])
    assert "24 utterances (" in (said := capsys.readouterr().out)
    assert "1 rejected, see rejected.jsonl" in said
    cli.main(["verify", str(out)])
    assert capsys.readouterr().out == f"{out}: 24 records in 3 shards, verified\n"
    shard = next((out / "shards").glob("*.tfrecord"))
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(SystemExit):
        cli.main(["verify", str(out)])
    assert shard.name in capsys.readouterr().err


def test_labels_read_the_search_and_the_limits_of_a_decoding_file(tmp_path):
    path = tmp_path / "decoding.yaml"
    path.write_text("max_tokens_per_second: 25.0\nbeam_width: 2\nlength_penalty: 0.5\n")
    arguments = ["label", "run", "--data", "data", "--out", "labels", "--beam-width", "6"]
    arguments += ["--num-hypotheses", "3", "--decoding", str(path), "--set", "no_repeat_ngram=4"]
    config = cli.labels._label_config(command_parser().parse_args(arguments))
    assert config == LabelConfig(
        beam_width=6,
        num_hypotheses=3,
        max_tokens_per_second=25.0,
        length_penalty=0.5,
        no_repeat_ngram=4,
    )


def test_label_counts_the_whole_manifest(teacher, prepared, labels, label_config, capsys):
    """On labels that are there already: nothing is decoded anew."""
    arguments = ["label", teacher.directory, "--data", prepared["train"].directory]
    arguments += ["--out", labels.directory, "--batch-size", label_config.batch_size]
    arguments += ["--beam-width", label_config.beam_width]
    arguments += ["--num-hypotheses", label_config.num_hypotheses]
    cli.main([str(argument) for argument in arguments])
    assert "24 utterances labelled, 1 rejected, 25 in all" in capsys.readouterr().out


@pytest.mark.slow
def test_decode_prints_the_hypotheses(teacher, prepared, capsys):
    arguments = ["decode", str(teacher.directory), "--data", str(prepared["test"].directory)]
    cli.main(arguments)
    best = dict(line.split("\t") for line in capsys.readouterr().out.splitlines())
    assert sorted(best) == [f"test-{number:02d}" for number in range(6)]
    cli.main([*arguments, "--nbest", "--json", "--set", "beam_width=3"])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for row in rows:
        assert len(row["hypotheses"]) == 3
        for hypothesis in row["hypotheses"]:
            count = len(hypothesis["token_ids"])
            assert len(hypothesis["token_log_probs"]) == len(hypothesis["token_seconds"]) == count
            total = sum(hypothesis["token_log_probs"])
            assert hypothesis["log_prob"] == pytest.approx(total, abs=1e-4)
    cli.main([*arguments, "--nbest", "--set", "min_tokens=9"])
    blocks = capsys.readouterr().out.split("test-")[1:]
    assert len(blocks) == 6
    for block in blocks:
        _, first, tokens, second, _ = block.splitlines()
        assert first.startswith("  1  score ")
        assert second.startswith("  2  score ")
        assert " eos  coverage " in first or " max_steps  coverage " in first
        assert tokens.count(" @") >= 9


# --- the whole job


@pytest.fixture(scope="module")
def job(tmp_path_factory, tiny_corpus, tiny_settings) -> tuple[list[str], Path]:
    """Arguments of `tfkd run` on the tiny corpus, and its work folder, where nothing is yet."""
    directory = tmp_path_factory.mktemp("job")
    # Without CTC, whose gradient takes seconds to trace.
    system = {
        **tiny_settings,
        "model": {**tiny_settings["model"], "ctc": False},
        "training": {**tiny_settings["training"], "epochs": 2, "ctc_weight": 0},
    }
    config = {
        "data_dir": "to be set",
        "corpora": {"transcribed_share": 0.5},
        "prepare": {"sample_rate_hz": 8000, "shard_size": 8, "max_seconds": 5},
        "teacher": system,
        "labels": {"beam_width": 3, "num_hypotheses": 2},
        "student": {**system, "model": {**system["model"], "decoder": {"units": 16}}},
        "export": {"formats": ["tflite-float32"], "beam_width": 2, "max_seconds": 5},
    }
    (directory / "run.yaml").write_text(yaml.safe_dump(config))
    work = directory / "work"
    settings = [f"data_dir={tiny_corpus}", f"work_dir={work}"]
    return ["run", str(directory / "run.yaml"), "--set", settings[0], "--set", settings[1]], work


@pytest.fixture(scope="module")
def plan_before(job) -> str:
    """What --dry-run says before anything is done."""
    arguments, work = job
    done = run_child(*arguments, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert not work.exists()
    return done.stdout


@pytest.fixture(scope="module")
def finished_job(job, plan_before) -> Path:
    """The work folder after the first run."""
    arguments, work = job
    cli.main(arguments)
    return work


def states_of(plan: str) -> dict[str, str]:
    """Stage -> state, of the table that --dry-run prints."""
    header, _, *rows = plan.splitlines()
    assert header.split() == ["stage", "state", "writes"]
    rows = [row for row in rows if not row.startswith("loaded:")]
    return {row.split()[0]: " ".join(row.split()[1:3]) for row in rows}


def test_a_dry_run_shows_the_plan_and_writes_nothing(plan_before, job):
    assert states_of(plan_before) == dict.fromkeys(STAGES, "to do")
    assert str(job[1] / "student-seq_kd") in plan_before


@pytest.mark.parametrize("command", ["run", "sweep"])
def test_a_dry_run_misses_a_teacher_that_is_not_there(job, tmp_path, command, capsys):
    arguments = [command, *job[0][1:-1], f"work_dir={tmp_path / 'work'}"]
    arguments += ["--set", f"teacher={tmp_path / 'teachr'}", "--dry-run"]
    arguments += ["--set", "sweep.grid=[{student.training.epochs: [1]}]"]
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code != 0
    assert "teachr" in capsys.readouterr().err
    assert not (tmp_path / "work").exists()


@pytest.mark.slow
def test_the_job_leaves_results_of_every_system(finished_job):
    results = json.loads((finished_job / "results.json").read_text())
    names = ["teacher", "student-truth", "student-seq_kd", "export tflite-float32"]
    assert list(results["systems"]) == names
    for system in results["systems"].values():
        assert system["utterances"] == 6
        assert system["wer_low"] <= system["wer"] <= system["wer_high"]
        assert system["parameters"] > 0
        assert not Path(system["model"]).is_absolute()
    student, exported = (results["systems"][name] for name in names[2:])
    assert exported["wer"] == student["wer"]
    assert exported["parameters"] == student["parameters"]
    assert student["parameters"] < results["systems"]["teacher"]["parameters"]
    difference = student["wer"] - results["systems"]["student-truth"]["wer"]
    assert results["differences"]["student-truth"]["wer"] == pytest.approx(difference)
    # Half of the transcripts are set aside; those of the others are what the labels are judged by.
    data, labels = results["training_data"], results["labels"]["labels"]
    assert (data["utterances"], data["transcribed_utterances"]) == (24, 11)
    assert labels["utterances"] == 13
    assert labels["oracle_wer"] <= labels["wer"]
    assert list(results["stage_seconds"]) == list(STAGES[:-1])
    assert results["versions"]["keras"]
    (parity,) = results["parity"]
    assert parity["identical"] == 1.0


def test_the_job_leaves_its_model_and_transcripts(finished_job, tiny_corpus, capsys):
    names = ["export-tflite-float32", "student-seq_kd", "student-truth", "teacher"]
    found = sorted((finished_job / "transcripts").iterdir())
    assert [path.name for path in found] == [f"{name}.jsonl" for name in names]
    model = finished_job / "export" / "model-float32.tflite"
    rows = [json.loads(line) for line in found[0].read_text().splitlines()]
    by_id = {row["utterance_id"]: row["hypothesis"] for row in rows}
    cli.main(["transcribe", str(model), str(tiny_corpus / "test-03.wav")])
    assert capsys.readouterr().out == by_id["test-03"] + "\n"


def test_report_makes_a_page_of_the_results(finished_job, tmp_path, capsys):
    page = tmp_path / "page.md"
    results = finished_job / "results.json"
    cli.main(["report", str(results), "--title", "Tones", "--out", str(page)])
    assert capsys.readouterr().out == f"{page}\n"
    text = page.read_text()
    assert text.startswith("# Tones\n")
    for name, system in json.loads(results.read_text())["systems"].items():
        (row,) = [line for line in text.splitlines() if line.startswith(f"{name}  ")]
        assert f"{100 * system['wer']:.2f}" in row


def test_a_dry_run_afterwards_shows_that_all_is_done(finished_job, job, capsys):
    before = times_below(finished_job)
    cli.main([*job[0], "--dry-run"])
    assert states_of(capsys.readouterr().out) == dict.fromkeys(STAGES, "done, will")
    assert times_below(finished_job) == before


@pytest.mark.parametrize(
    ("change", "refused", "later"),
    [
        (
            "prepare.min_seconds=0.2",
            "prepare",
            {"teacher": "finished", "label": "finished"},
        ),
        (
            "teacher.training.batch_size=3",
            "teacher",
            {"prepare": "done", "label": "finished"},
        ),
        (
            "labels.beam_width=4",
            "label",
            {"teacher": "done", "student-seq_kd": "finished"},
        ),
        (
            "student.training.batch_size=3",
            "student-truth",
            {"label": "done", "student-seq_kd": "refused", "export": "finished"},
        ),
    ],
)
def test_a_dry_run_refuses_what_the_run_would_refuse(
    finished_job, job, capsys, change, refused, later
):
    arguments = [*job[0], "--set", change]
    ends, said = [], []
    for each in (["--dry-run"], []):
        with pytest.raises(SystemExit) as ended:
            cli.main([*arguments, *each])
        ends.append(ended.value.code)
        said.append(capsys.readouterr())
    assert said[0].err == said[1].err.splitlines(keepends=True)[-1]
    assert ends == [1, 1]
    states = states_of(said[0].out)
    for name, state in {refused: "refused", **later}.items():
        assert states[name].startswith(state)


def test_a_rerun_writes_results_only_if_they_no_longer_hold(finished_job, job, tmp_path):
    work = tmp_path / "work"
    shutil.copytree(finished_job, work)
    path, long_ago = work / "results.json", "2020-02-02"
    results = {**json.loads(path.read_text()), "date": long_ago}
    # A sweep that trained this student would note no seconds for the job.
    seconds = json.loads((work / "seconds.json").read_text())
    del seconds["student-seq_kd"]
    (work / "seconds.json").write_text(json.dumps(seconds))
    # What the labels are judged by may have come later than everything else.
    for labels, date in ((results["labels"], long_ago), ({"labels": None}, None)):
        path.write_text(json.dumps({**results, "labels": labels}))
        cli.main([*job[0], "--set", f"work_dir={work}"])
        found = json.loads(path.read_text())
        assert found["labels"] == results["labels"]
        assert found["stage_seconds"].keys() == set(STAGES) - {"evaluate"}
        assert (found["date"] == long_ago) == (date == long_ago)
    assert found["stage_seconds"]["student-seq_kd"] is None


@pytest.mark.slow
def test_what_there_is_is_measured_although_an_export_is_refused(
    finished_job, job, tmp_path, capsys
):
    work = tmp_path / "work"
    shutil.copytree(finished_job, work)
    forms = "export.formats=[tflite-int8,tflite-float32]"
    settings = [f"work_dir={work}", forms, "export.max_log_prob_drift=0"]
    with pytest.raises(SystemExit) as ended:
        cli.main([*job[0], *itertools.chain(*(("--set", each) for each in settings))])
    assert ended.value.code == 1
    said = capsys.readouterr()
    assert "tflite-int8 changes log_prob" in said.err.splitlines()[-1]
    assert "export tflite-float32" in said.out
    assert "export tflite-int8" not in said.out
    systems = json.loads((work / "results.json").read_text())["systems"]
    assert [name for name in systems if name.startswith("export")] == ["export tflite-float32"]


@pytest.mark.parametrize("name", ["plan.json", "complete.json", "shards/*.tfrecord"])
def test_a_dry_run_leaves_damage_that_the_run_repairs_to_it(
    finished_job, job, tmp_path, capsys, name
):
    work = tmp_path / "work"
    shutil.copytree(finished_job, work)
    next((work / "labels").glob(name)).write_bytes(b"{")
    cli.main([*job[0], "--set", f"work_dir={work}", "--dry-run"])
    states = states_of(capsys.readouterr().out)
    assert states["label"] == "to do"
    assert states["student-seq_kd"].startswith("finished")


def test_a_dry_run_says_that_other_exports_are_to_be_made(finished_job, job, capsys):
    cli.main([*job[0], "--dry-run", "--set", "export.max_seconds=6"])
    states = states_of(capsys.readouterr().out)
    assert states["export"] == "to do"
    assert states["evaluate"].startswith("finished")
    assert states["student-seq_kd"] == "done, will"


def times_below(directory: Path) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in directory.rglob("*") if p.is_file()}


def test_a_second_run_does_no_work_and_keeps_the_results(finished_job, job, capsys, monkeypatch):
    from tfkd.data import utterance_records
    from tfkd.distillation import labelling
    from tfkd.exporting import export as exporting
    from tfkd.pipeline import evaluations as running
    from tfkd.training import loop as training

    before = (finished_job / "results.json").read_bytes()
    kept = {path: at for path, at in times_below(finished_job).items() if is_product(path)}
    assert len(kept) > 12
    for module, name in [
        (utterance_records, "read_recording"),
        (training, "_fit"),
        (labelling, "label_batches"),
        (exporting, "_export_one"),
        (running, "evaluate"),
    ]:
        monkeypatch.setattr(module, name, refuse)
    cli.main(job[0])
    said = capsys.readouterr().out
    assert [f"[{n}/7] {stage}" in said for n, stage in enumerate(STAGES, 1)] == [True] * 7
    assert "tfkd transcribe" in said
    assert (finished_job / "results.json").read_bytes() == before
    after = times_below(finished_job)
    assert {path: after[path] for path in kept} == kept


def is_product(path: str) -> bool:
    return path.endswith((".tfrecord", ".keras", ".tflite", ".npz", "history.jsonl"))


def test_a_changed_setting_is_refused_not_mixed(finished_job, job, capfd):
    before = times_below(finished_job)
    with pytest.raises(SystemExit) as ended:
        cli.main([*job[0], "--set", "teacher.training.epochs=3"])
    assert ended.value.code == 1
    assert "holds a run of other settings or data" in capfd.readouterr().err.splitlines()[-1]
    changed = {p for p, at in times_below(finished_job).items() if before.get(p) != at}
    assert not {path for path in changed if is_product(path)}


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["model cut", "no comparison with Keras"])
def test_a_job_makes_a_damaged_export_again(finished_job, job, tmp_path, damage):
    work = shutil.copytree(finished_job, tmp_path / "work")
    model = work / "export" / "model-float32.tflite"
    if damage == "model cut":
        model.write_bytes(model.read_bytes()[:1000])
    else:
        (work / "export" / "parity.json").unlink()
    cli.main([*job[0], "--set", f"work_dir={work}"])
    assert (work / "export" / "parity.json").exists()
    assert DeviceRecogniser(model).metadata.parameters > 0  # whole, or it would be refused


def test_a_job_without_transcripts_to_measure_by_ends_early(
    job, tmp_path, tiny_corpus, capfd, monkeypatch
):
    corpus = shutil.copytree(tiny_corpus, tmp_path / "corpus")
    rows = [json.loads(line) for line in (corpus / "test.jsonl").read_text().splitlines()]
    lines = (json.dumps({"audio": row["audio"]}) + "\n" for row in rows)
    (corpus / "test.jsonl").write_text("".join(lines))
    monkeypatch.setattr("tfkd.pipeline.job.train", refuse)
    with pytest.raises(SystemExit) as ended:
        cli.main([*job[0], "--set", f"data_dir={corpus}", "--set", f"work_dir={tmp_path / 'work'}"])
    assert ended.value.code == 1
    assert "data/test: no utterance has a transcript" in capfd.readouterr().err


@pytest.fixture
def teacher_that_spells(teacher, tmp_path) -> Path:
    """The teacher with a hyphen in place of a letter."""
    run = shutil.copytree(teacher.directory, tmp_path / "speller")
    CharacterTokenizer(" abdeikmos-").save(run)
    return run


def test_evaluate_keeps_the_characters_that_a_recogniser_can_say(
    teacher_that_spells, tiny_corpus, tmp_path, capsys
):
    rows = [json.loads(line) for line in (tiny_corpus / "test.jsonl").read_text().splitlines()]
    for row in rows:
        row |= {"audio": str(tiny_corpus / row["audio"]), "text": row["text"].replace(" ", "-")}
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    transcripts = tmp_path / "transcripts.jsonl"
    cli.main(["evaluate", str(teacher_that_spells), "--data", str(tmp_path / "m.jsonl"),
              "--transcripts", str(transcripts)])  # fmt: skip
    found = [json.loads(line)["reference"] for line in transcripts.read_text().splitlines()]
    assert sorted(found) == sorted(row["text"] for row in rows)


def test_a_job_goes_on_where_a_stage_is_missing(finished_job, job, tmp_path, monkeypatch):
    from tfkd.pipeline import evaluations as running
    from tfkd.training import loop as training

    work = shutil.copytree(finished_job, tmp_path / "work")
    (work / "transcripts" / "student-truth.jsonl").unlink()
    asked: list[str] = []
    real: Callable = running.evaluate

    def noting(model, store):
        asked.append(os.path.relpath(model.path, work))
        return real(model, store)

    monkeypatch.setattr(training, "_fit", refuse)
    monkeypatch.setattr(running, "evaluate", noting)
    cli.main([*job[0], "--set", f"work_dir={work}"])
    assert asked == ["student-truth"]
    systems = [
        json.loads((d / "results.json").read_text())["systems"] for d in (work, finished_job)
    ]
    assert systems[0]["student-truth"]["wer"] == systems[1]["student-truth"]["wer"]
