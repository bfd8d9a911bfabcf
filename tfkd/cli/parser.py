"""The commands and their options, in the order of the help."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable

from tfkd import __version__
from tfkd.cli import data, decoding, jobs, labels, models, training
from tfkd.cli.doctor import doctor

_Add = Callable[[str, Callable, str, str], argparse.ArgumentParser]


def command_parser() -> argparse.ArgumentParser:
    """Makes the parser of all commands; the `command` of its result is the function to call."""
    parser = argparse.ArgumentParser(
        prog="tfkd",
        description="Compress attention speech recognisers by sequence-level knowledge "
        "distillation: audio in, a small .tflite out.",
        epilog="The whole job: tfkd run configs/start.yaml --set data_dir=FOLDER. "
        "Each command has examples: tfkd COMMAND --help.",
    )
    parser.add_argument("--version", action="version", version=f"tfkd {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    add = functools.partial(_add_command, commands)
    _add_preparing(add)
    _add_training(add)
    _add_distilling(add)
    _add_decoding(add)
    _add_delivering(add)
    _add_inspecting(add)
    _add_exchanging(add)
    _add_reporting(add)
    return parser


def _add_command(
    commands: argparse._SubParsersAction, name: str, run: Callable, summary: str, example: str
) -> argparse.ArgumentParser:
    command = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(command=run)
    return command


def _add_preparing(add: _Add) -> None:
    command = add("prepare", data.prepare, "decode, check and normalise a corpus into shards",
                  "tfkd prepare corpus/train.jsonl --out work/data/train")  # fmt: skip
    command.add_argument("input",
                         help="manifest, Kaldi folder, corpus tree or folder of "
                         "recordings")  # fmt: skip
    command.add_argument("--out", required=True, help="folder of the shards")
    command.add_argument("--format", default="auto",
                         choices=["auto", "jsonl", "kaldi", "librispeech", "commonvoice",
                                  "ljspeech", "table", "recordings"])  # fmt: skip
    command.add_argument("--config", help="run config whose `prepare` section applies")
    command.add_argument("--max-rejected-share", type=float,
                         help="fail if a larger share is unusable (0.05)")  # fmt: skip
    command.add_argument(
        "--allow-commands",
        action="store_true",
        default=None,
        help="run flac, sph2pipe, sox and ffmpeg if a Kaldi wav.scp needs them",
    )
    _add_set(command, " of the `prepare` section")

    command = add("params", training.params, "count parameters before training, and compare",
                  "tfkd params configs/digits.yaml")  # fmt: skip
    command.add_argument("config", nargs="+", help="config of a recogniser, or of a run")

    command = add("fit-student", training.fit_student,
                  "propose a student that fits a budget, and write its config",
                  "tfkd fit-student --teacher configs/digits.yaml --params 9.8x "
                  "--out work/student.yaml")  # fmt: skip
    command.add_argument("--teacher", required=True, help="config of the teacher, or of a run")
    budget = command.add_mutually_exclusive_group(required=True)
    budget.add_argument("--params", metavar="9.8x",
                        help="this many times fewer parameters, or a number (250k)")  # fmt: skip
    budget.add_argument("--bytes", metavar="400kB", help="size of the int8 .tflite (estimated)")
    budget.add_argument("--rtf", metavar="0.002",
                        help="real-time factor of the run on one thread of this machine, in "
                        "batches (estimated)")  # fmt: skip
    command.add_argument("--out", required=True, help="file for the student's config (YAML)")


def _add_training(add: _Add) -> None:
    command = add("train", training.train, "train a recogniser on transcribed utterances",
                  "tfkd train configs/digits.yaml --train work/data/train --valid work/data/valid "
                  "--out work/teacher --profile")  # fmt: skip
    command.add_argument("config", help="config of the recogniser, or of a run (its teacher)")
    command.add_argument("--train", required=True, action="append", metavar="DIR",
                         help="prepared folder or manifest; may be repeated")  # fmt: skip
    command.add_argument("--valid", required=True, help="prepared folder or manifest")
    command.add_argument("--out", required=True, help="folder of the run")
    _add_shares(command, "in the order of --train")
    _add_beginning(command)
    _add_profile(command)
    _add_set(command, " of the recogniser, such as training.seed=2")

    command = add("serve-input", training.serve_input,
                  "make batches for a trainer in another process or on another machine",
                  "tfkd serve-input --data work/labels --listen localhost:5051")  # fmt: skip
    command.add_argument("--data", required=True, action="append", metavar="DIR",
                         help="prepared folder or labels of the training; may be "
                         "repeated")  # fmt: skip
    command.add_argument("--listen", required=True, metavar="HOST:PORT",
                         help="address for trainers, as in training.input_service")  # fmt: skip

    command = add("train-lm", training.train_lm, "train a language model for a recogniser's search",
                  "tfkd train-lm configs/lm/characters.yaml --run work/teacher "
                  "--text work/data/train --valid work/data/valid --out work/lm")  # fmt: skip
    command.add_argument("config", help="config of the language model")
    command.add_argument("--run", required=True, help="run whose tokenizer is used")
    _add_text(command)
    command.add_argument("--valid", required=True, nargs="+", metavar="SOURCE",
                         help="further text, for early stopping")  # fmt: skip
    command.add_argument("--out", required=True, help="folder of the language model")
    _add_set(command, " of the language model")

    command = add("lm-text", training.lm_text,
                  "write text in a recogniser's units, for n-gram toolkits",
                  "tfkd lm-text work/teacher --text books.txt --out work/units.txt")  # fmt: skip
    command.add_argument("run", help="run whose tokenizer is used")
    _add_text(command)
    command.add_argument("--out", required=True, help="text file with a sentence a line")


def _add_distilling(add: _Add) -> None:
    command = add("label", labels.label, "decode audio with a teacher into pseudo labels",
                  "tfkd label work/teacher --data work/data/train --out work/labels "
                  "--beam-width 8 --num-hypotheses 4")  # fmt: skip
    command.add_argument("run", metavar="TEACHER",
                         help="folder of the teacher's run, or whisper:FOLDER")  # fmt: skip
    command.add_argument("--data", required=True, help="prepared folder or manifest")
    command.add_argument("--out", required=True, help="folder of the labels")
    command.add_argument("--beam-width", type=int,
                         help="number of alive hypotheses in the search (8)")  # fmt: skip
    command.add_argument("--num-hypotheses", type=int,
                         help="number of hypotheses that are kept (4)")  # fmt: skip
    command.add_argument("--length-penalty", type=float,
                         help="alpha of the length penalty (0)")  # fmt: skip
    command.add_argument("--batch-size", type=int, help="utterances decoded together (16)")
    command.add_argument("--top-m", type=int, metavar="M",
                         help="most probable tokens to keep for each step, for word_kd "
                         "(0)")  # fmt: skip
    command.add_argument(
        "--runner",
        default="local",
        choices=["local", "direct", "flink", "spark", "dataflow"],
        help="label in this process (local), or in the workers of an Apache Beam runner",
    )
    command.add_argument("--runner-option", action="append", default=[], metavar="NAME[=VALUE]",
                         help="pass --NAME=VALUE to the runner; may be repeated")  # fmt: skip
    _add_search(command)

    command = add("distill", training.distill, "train a student on pseudo labels or transcripts",
                  "tfkd distill configs/digits.yaml --labels work/labels --valid work/data/valid "
                  "--out work/student-seq_kd --objective seq_kd")  # fmt: skip
    command.add_argument("config", help="config of the student, or of a run (its student)")
    command.add_argument("--labels", required=True, action="append", metavar="DIR",
                         help="folder that tfkd label wrote; may be repeated")  # fmt: skip
    command.add_argument("--transcribed", default=[], action="append", metavar="DIR",
                         help="prepared folder or manifest, learned from its transcripts beside "
                         "the labels; may be repeated")  # fmt: skip
    command.add_argument("--valid", required=True, help="prepared folder or manifest")
    command.add_argument("--out", required=True, help="folder of the run")
    command.add_argument(
        "--objective",
        choices=["truth", "seq_kd", "seq_inter", "word_kd", "mixture"],
        help="objective of the labels, instead of the config's (truth)",
    )
    _add_shares(command, "--transcribed before --labels")
    _add_beginning(command)
    _add_profile(command)
    _add_set(command, " of the recogniser, such as training.seed=2")


def _add_decoding(add: _Add) -> None:
    command = add("decode", decoding.decode,
                  "print the hypotheses of a recogniser, of the longest utterances first",
                  "tfkd decode work/teacher --data work/data/test --nbest "
                  "--set beam_width=8 --set normalisation=mean")  # fmt: skip
    command.add_argument("run", help="folder of a run, or whisper:FOLDER")
    command.add_argument("--data", required=True, help="prepared folder or manifest")
    command.add_argument("--nbest", action="store_true",
                         help="print every hypothesis, with its tokens")  # fmt: skip
    command.add_argument("--json", action="store_true",
                         help="print a line of JSON for each utterance")  # fmt: skip
    _add_search(command)

    command = add("tune-decoding", decoding.tune_decoding,
                  "choose settings of the search by their WER",
                  "tfkd tune-decoding work/teacher --data work/data/valid "
                  "--set fusion.lm=work/lm --parameter fusion.lm_weight=0,0.2,0.4 "
                  "--parameter fusion.ctc_weight=0,0.3 --out work/decoding.yaml")  # fmt: skip
    command.add_argument("run", help="folder of a run")
    command.add_argument("--data", required=True,
                         help="validation data: prepared folder or manifest")  # fmt: skip
    command.add_argument("--parameter", required=True, action="append", metavar="KEY=V1,V2,...",
                         help="values to try; may be repeated, for every combination. At equal "
                         "WER the first value wins, so name the one that is off first")  # fmt: skip
    command.add_argument("--out", required=True,
                         help="file for the best settings, for --decoding (YAML)")  # fmt: skip
    _add_search(command)

    command = add("evaluate", decoding.evaluate,
                  "measure WER, CER, size and speed of a run or an export",
                  "tfkd evaluate work/export/model-int8.tflite --data work/data/test "
                  "--json int8.json")  # fmt: skip
    command.add_argument("model", help="folder of a run, folder of a SavedModel, or .tflite file")
    command.add_argument("--data", required=True, help="prepared folder or manifest")
    command.add_argument("--json", help="file for the figures")
    command.add_argument("--transcripts", help="file for references and hypotheses (JSONL)")
    command.add_argument("--against", metavar="TRANSCRIPTS",
                         help="such a file, of another recogniser on the same data: tells which of "
                         "the two is better, by a paired bootstrap")  # fmt: skip
    command.add_argument("--trust", action="store_true",
                         help="open a SavedModel that this machine did not export, and any code "
                         "in it; run such a .tflite in this process, without limits")  # fmt: skip
    _add_search(command)


def _add_delivering(add: _Add) -> None:
    command = add("export", models.export, "write SavedModel and .tflite, checked against Keras",
                  "tfkd export work/student-seq_kd --out work/export "
                  "--formats tflite-float32,tflite-int8 --parity-data work/data/valid")  # fmt: skip
    command.add_argument("run", help="folder of a run")
    command.add_argument("--out", required=True, help="folder of the exports")
    command.add_argument("--formats", default="savedmodel,tflite-float32,tflite-int8",
                         help="forms to write, also tflite-float16 (%(default)s)")  # fmt: skip
    command.add_argument(
        "--parity-data",
        help="real utterances for the comparison with Keras: prepared folder or manifest "
        "(those kept in the run)",
    )
    command.add_argument("--beam-width", type=int,
                         help="number of alive hypotheses (that of the run)")  # fmt: skip
    command.add_argument("--num-hypotheses", type=int,
                         help="number that are returned (that of the run)")  # fmt: skip
    command.add_argument("--max-seconds", type=float,
                         help="longest audio of a .tflite, in seconds (30)")  # fmt: skip
    command.add_argument("--fixed-length", action="store_true", default=None,
                         help="make .tflite files that take padded audio of --max-seconds alone, "
                         "for browsers and other runtimes without dynamic shapes")  # fmt: skip
    command.add_argument("--max-wer-change", type=float,
                         help="largest change of WER that a quantised form may have, as a share "
                         "(0.005)")  # fmt: skip
    command.add_argument("--max-wer-to-keras", type=float,
                         help="largest WER with Keras' hypotheses as references, as a share "
                         "(0.02)")  # fmt: skip
    command.add_argument("--max-log-prob-drift", type=float,
                         help="largest mean change of log_prob, in nats (0.3)")  # fmt: skip
    _add_search(command)

    command = add("transcribe", models.transcribe, "transcribe recordings with a .tflite",
                  "tfkd transcribe work/export/model-int8.tflite order.wav")  # fmt: skip
    command.add_argument("model", help=".tflite that tfkd export wrote")
    command.add_argument("audio", nargs="+",
                         help="audio files of any rate and length; of a folder, "
                              "FOLDER/*.wav")  # fmt: skip
    command.add_argument("--segment-seconds", type=float,
                         help="cut longer recordings in their pauses into segments of at most "
                              "this length (that of utterances known in training)")  # fmt: skip
    command.add_argument("--json", action="store_true",
                         help="print a line of JSON for each recording")  # fmt: skip
    command.add_argument("--threads", type=int, default=1,
                         help="threads of the interpreter (%(default)s)")  # fmt: skip
    command.add_argument("--trust", action="store_true",
                         help="run a .tflite that this machine did not export in this process, "
                         "without limits")  # fmt: skip


def _add_inspecting(add: _Add) -> None:
    command = add("verify", data.verify, "verify every byte of a folder of shards",
                  "tfkd verify work/labels")  # fmt: skip
    command.add_argument("store", help="folder that tfkd prepare or tfkd label wrote")

    command = add("show", data.show, "print one record of a folder of shards",
                  "tfkd show work/labels --id a1")  # fmt: skip
    command.add_argument("store", help="folder that tfkd prepare or tfkd label wrote")
    command.add_argument("--id", required=True, help="id of the utterance")
    command.add_argument("--json", action="store_true",
                         help="print a line of JSON with every value")  # fmt: skip

    command = add("doctor", doctor, "report what this machine can do, and what is missing",
                  "tfkd doctor")  # fmt: skip
    command.add_argument("--json", action="store_true", help="print JSON with every finding")


def _add_exchanging(add: _Add) -> None:
    command = add("labels-to-jsonl", labels.labels_to_jsonl,
                  "write pseudo labels as an n-best list",
                  "tfkd labels-to-jsonl work/labels --out nbest.jsonl")  # fmt: skip
    command.add_argument("labels", help="folder of the labels")
    command.add_argument("--out", required=True, help="file of the n-best list (JSONL)")

    command = add("jsonl-to-labels", labels.jsonl_to_labels,
                  "convert the n-best list of any recogniser to pseudo labels",
                  "tfkd jsonl-to-labels nbest.jsonl --data work/data/train "
                  "--out work/labels")  # fmt: skip
    command.add_argument("nbest", help="n-best list (JSONL): utterance_id and hypotheses")
    command.add_argument("--data", required=True, help="prepared folder or manifest")
    command.add_argument("--out", required=True, help="folder of the labels")
    command.add_argument("--config", help="run config whose `prepare` section applies")
    command.add_argument("--max-rejected-share", type=float,
                         help="fail if a larger share has no hypothesis (0.05)")  # fmt: skip
    _add_set(command, " of the `prepare` section")


def _add_reporting(add: _Add) -> None:
    command = add("report", jobs.report, "write a page from the results of a run or a sweep",
                  "tfkd report work/results.json --title Digits --out digits.md")  # fmt: skip
    command.add_argument(
        "results",
        nargs="+",
        help="results.json that tfkd run or tfkd sweep wrote; or those of several sweeps that "
        "have other seeds, for one page of all",
    )
    command.add_argument("--title", required=True, help="title of the page")
    command.add_argument("--out", required=True, help="Markdown file")

    command = add("filter-report", labels.filter_report,
                  "show what filters would remove from labels, before any training",
                  "tfkd filter-report work/labels --config configs/digits.yaml "
                  "--teacher work/teacher --out work/filters.html")  # fmt: skip
    command.add_argument("labels", help="folder that tfkd label wrote")
    command.add_argument("--out", required=True, help="HTML file, or folder for filters.html")
    command.add_argument("--config", help="config whose student's filters apply (the defaults)")
    command.add_argument("--teacher", help="the teacher's run, to show tokens by name")
    command.add_argument(
        "--examples", type=int, default=5, help="number of worst utterances for each reason (5)"
    )

    command = add("run", jobs.run, "run the whole job, from audio to .tflite",
                  "tfkd run configs/start.yaml --set data_dir=FOLDER")  # fmt: skip
    _add_job(command)

    command = add("sweep", jobs.sweep, "train a grid of students on one job's labels, and compare",
                  "tfkd sweep configs/digits.yaml --set data_dir=digits --dry-run")  # fmt: skip
    _add_job(command)


def _add_job(command: argparse.ArgumentParser) -> None:
    command.add_argument("config", help="run config")
    _add_set(command, "")
    command.add_argument("--dry-run", action="store_true", help="show the plan and do nothing")


def _add_set(command: argparse.ArgumentParser, what: str) -> None:
    command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                         help=f"override a setting{what}; may be repeated")  # fmt: skip


def _add_search(command: argparse.ArgumentParser) -> None:
    command.add_argument("--decoding", help="file of settings from tfkd tune-decoding (YAML)")
    _add_set(command, " of a run's search (docs/guide/decoding.md)")


def _add_profile(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--profile",
        action="store_true",
        help="print how the time was divided, and trace some steps for TensorBoard in OUT",
    )


def _add_beginning(command: argparse.ArgumentParser) -> None:
    command.add_argument("--from", dest="begin_from", metavar="RUN",
                         help="begin with the weights of a run, where they fit")  # fmt: skip
    command.add_argument("--units", metavar="RUN",
                         help="take the tokenizer of a run, such as the teacher, instead of "
                         "training one")  # fmt: skip


def _add_shares(command: argparse.ArgumentParser, order: str) -> None:
    command.add_argument(
        "--shares",
        metavar="S1,S2,...",
        help=f"share of each folder in the loss, {order} (each utterance counts alike)",
    )


def _add_text(command: argparse.ArgumentParser) -> None:
    command.add_argument("--text", required=True, nargs="+", metavar="SOURCE",
                         help="text files with a sentence a line, or prepared folders")  # fmt: skip
