"""The command line: the only module that prints and exits.

Nothing heavy is imported before a command needs it: `--help`, argument errors and `transcribe` must
be quick, and `transcribe` must work where TensorFlow is not installed.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from tfkd import __version__
from tfkd.errors import ConfigError, TfkdError

if TYPE_CHECKING:
    from tfkd.config import PrepareConfig, SystemConfig
    from tfkd.records import StoreSummary

_EXIT_FAILED, _EXIT_USAGE, _EXIT_INTERRUPTED = 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command; ends the process with 0, 1 (failed), 2 (usage) or 130 (interrupted)."""
    # TensorFlow logs at error level that it found no GPU libraries.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except TfkdError as error:
        print(f"tfkd: error: {error}", file=sys.stderr)
        sys.exit(_EXIT_USAGE if isinstance(error, ConfigError) else _EXIT_FAILED)
    except KeyboardInterrupt:
        print("tfkd: interrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(_EXIT_INTERRUPTED)


def _prepare(options: argparse.Namespace) -> None:
    from tfkd.preparing import prepare

    config = _prepare_config(options)
    summary = prepare(options.input, options.out, config, corpus_format=options.format)
    rejected = summary.rejected + summary.rejected_before_planning
    print(
        f"{summary.records} utterances ({summary.duration_seconds / 3600:.2f} h) in {options.out}; "
        f"{rejected} rejected{', see rejected.jsonl' if rejected else ''}"
    )
    if summary.pieces:
        print(
            f"{summary.split} recordings were too long: {summary.pieces} pieces of them are among "
            "these, see pieces.jsonl"
        )


def _prepare_config(options: argparse.Namespace) -> PrepareConfig:
    from tfkd.config import PrepareConfig, load_run_config

    config = load_run_config(options.config).prepare if options.config else PrepareConfig()
    if options.max_rejected_share is not None:
        config = dataclasses.replace(config, max_rejected_share=options.max_rejected_share)
    return config


def _params(options: argparse.Namespace) -> None:
    from tfkd.config import load_system_configs
    from tfkd.models import Recogniser
    from tfkd.reporting import table
    from tfkd.text import vocab_size_of

    systems = {}
    for path in options.config:
        for name, system in load_system_configs(path).items():
            systems[f"{path} {name}" if len(options.config) > 1 else name] = system
    counts = {}
    for name, system in systems.items():
        size = vocab_size_of(system.tokenizer)
        if size is None:
            raise ConfigError(
                f"{name}: the vocabulary is learned from the text, so its size is not known yet",
                remedy="give tokenizer.alphabet",
            )
        counts[name] = Recogniser(system.model, size).count_params()
    largest = max(counts.values())
    rows = [[name, f"{n:,}", f"{largest / n:.2f}x"] for name, n in counts.items()]
    print(table(["model", "parameters", "ratio"], rows))


def _train(options: argparse.Namespace) -> None:
    from tfkd.config import load_system_config

    system = load_system_config(options.config, "teacher")
    _train_on(system, options.train, options)


def _distill(options: argparse.Namespace) -> None:
    from tfkd.config import load_system_config

    system = load_system_config(options.config, "student")
    if options.objective:
        objective = dataclasses.replace(system.training.objective, kind=options.objective)
        training = dataclasses.replace(system.training, objective=objective)
        system = dataclasses.replace(system, training=training)
    _train_on(system, options.labels, options)


def _train_on(system: SystemConfig, train_data: str, options: argparse.Namespace) -> None:
    from tfkd.config import PrepareConfig
    from tfkd.preparing import utterance_store
    from tfkd.profiling import Profile
    from tfkd.reporting import profile_report
    from tfkd.training import TENSORBOARD, train

    profile = Profile(Path(options.out) / TENSORBOARD) if options.profile else None
    config = PrepareConfig(sample_rate_hz=system.model.frontend.sample_rate_hz)
    with (
        utterance_store(train_data, config) as train_store,
        utterance_store(options.valid, config) as valid_store,
    ):
        run = train(system, train_store, valid_store, options.out, profile)
    if run is None:
        print("this worker's share is done; the run is in the chief's folder")
    else:
        print(f"{run.model.count_params():,} parameters in {options.out}")
    if profile is not None:
        print(profile_report(profile, config.sample_rate_hz))


def _label(options: argparse.Namespace) -> None:
    from tfkd.config import LabelConfig, PrepareConfig, from_dict, with_overrides

    _check_runner(options)

    settings = {
        name: getattr(options, name)
        for name in ("beam_width", "num_hypotheses", "length_penalty", "batch_size")
    }
    config = with_overrides(from_dict(LabelConfig, settings), _overrides(options))
    label = _labelling_on(options.runner, options.runner_option)
    from tfkd.preparing import utterance_store
    from tfkd.runs import load_run

    run = load_run(options.run)
    prepare_config = PrepareConfig(sample_rate_hz=run.system.model.frontend.sample_rate_hz)
    with utterance_store(options.data, prepare_config) as store:
        summary = label(run, store, options.out, config)
    print(_labelled(summary, options.out))


def _labelled(summary: StoreSummary, out: str) -> str:
    rejected = summary.rejected + summary.rejected_before_planning
    return (
        f"{summary.records} utterances labelled, {rejected} rejected, "
        f"{summary.records + rejected} in all; in {out}"
    )


def _check_runner(options: argparse.Namespace) -> None:
    """Refuses what the workers of a runner could not do, before anything is loaded."""
    if options.runner == "local":
        if options.runner_option:
            raise ConfigError("--runner-option needs a --runner other than local")
    elif not (Path(options.data) / "plan.json").exists():
        raise ConfigError(
            "is not a prepared folder, which every --runner but local needs",
            path=options.data,
            remedy="tfkd prepare it into a folder that all machines see",
        )


def _labelling_on(runner: str, runner_options: Sequence[str]) -> Callable:
    """The function that labels with a runner; Beam is loaded for those that need it alone."""
    if runner == "local":
        from tfkd.labelling import label

        return label
    try:
        from tfkd.cluster import label_with_beam
    except ModuleNotFoundError as error:
        if error.name != "apache_beam":
            raise
        raise ConfigError(
            f"--runner {runner} needs Apache Beam", remedy="pip install 'tfkd[beam]'"
        ) from error
    flags = [f"--{option}" for option in runner_options]
    return functools.partial(label_with_beam, runner=runner, options=flags)


def _overrides(options: argparse.Namespace) -> list[str]:
    """What --decoding and --set say; the latter wins."""
    from tfkd.config import overrides_of
    from tfkd.strict_yaml import read_yaml

    kept = overrides_of(read_yaml(options.decoding)) if options.decoding else []
    return [*kept, *options.set]


def _decode(options: argparse.Namespace) -> None:
    from tfkd.config import PrepareConfig
    from tfkd.datasets import audio_batches
    from tfkd.decoding import Decoder, decode_dataset, hypotheses_of
    from tfkd.preparing import utterance_store
    from tfkd.reporting import nbest_text
    from tfkd.runs import load_run

    run = load_run(options.run).with_decoding(_overrides(options))
    decoding = run.system.decoding
    if options.nbest:
        decoding = dataclasses.replace(decoding, num_hypotheses=decoding.beam_width)
    decoder = Decoder(run.model, run.tokenizer, decoding)
    config = PrepareConfig(sample_rate_hz=run.system.model.frontend.sample_rate_hz)
    with utterance_store(options.data, config) as store:
        batches = audio_batches(store, run.system.training.batch_size)
        for decoded in decode_dataset(decoder, batches):
            hypotheses = hypotheses_of(decoded, run.model.frame_seconds)
            if options.json:
                row = {"utterance_id": decoded.utterance_id, "reference": decoded.reference,
                       "hypotheses": [asdict(hypothesis) for hypothesis in hypotheses]}  # fmt: skip
                print(json.dumps(row, ensure_ascii=False))
            elif options.nbest:
                print(nbest_text(decoded.utterance_id, hypotheses, run.tokenizer.pieces))
            else:
                print(f"{decoded.utterance_id}\t{decoded.best_text}")


def _evaluate(options: argparse.Namespace) -> None:
    from tfkd.config import PrepareConfig
    from tfkd.evaluation import evaluate, sample_rate_hz_of
    from tfkd.files import write_json, write_text
    from tfkd.preparing import utterance_store
    from tfkd.reporting import systems_table

    rate_hz = sample_rate_hz_of(options.model)
    with utterance_store(options.data, PrepareConfig(sample_rate_hz=rate_hz)) as store:
        evaluation, transcripts = evaluate(options.model, store, _overrides(options))
    if options.json:
        write_json(options.json, asdict(evaluation))
    if options.transcripts:
        rows = (json.dumps(asdict(t), ensure_ascii=False) + "\n" for t in transcripts)
        write_text(options.transcripts, "".join(rows))
    print(systems_table({evaluation.form: asdict(evaluation)}))


def _train_lm(options: argparse.Namespace) -> None:
    from tfkd.config import LanguageModelConfig, from_dict
    from tfkd.lm_training import train_language_model
    from tfkd.strict_yaml import read_yaml
    from tfkd.text import load_tokenizer

    config = from_dict(LanguageModelConfig, read_yaml(options.config), path=options.config)
    tokenizer = load_tokenizer(options.run)
    summary = train_language_model(config, tokenizer, options.text, options.valid, options.out)
    print(
        f"{summary.parameters:,} parameters in {options.out}; validation perplexity "
        f"{summary.perplexity:.2f} ({summary.bits_per_token:.3f} bits a token); "
        f"{summary.sentences} sentences, {summary.skipped} skipped"
    )


def _lm_text(options: argparse.Namespace) -> None:
    from tfkd.files import write_text
    from tfkd.language_models.ngram import unit_names
    from tfkd.language_models.sentences import read_sentences
    from tfkd.text import load_tokenizer

    tokenizer = load_tokenizer(options.run)
    names = unit_names(tokenizer)
    sentences = read_sentences(options.text, tokenizer)
    lines = (" ".join(names[token] for token in ids) + "\n" for ids in sentences.token_ids)
    write_text(options.out, "".join(lines))
    print(f"{len(sentences.token_ids)} sentences, {sentences.skipped} skipped; in {options.out}")


def _tune_decoding(options: argparse.Namespace) -> None:
    import yaml

    from tfkd.config import PrepareConfig, apply_overrides
    from tfkd.files import write_text
    from tfkd.preparing import utterance_store
    from tfkd.reporting import table
    from tfkd.runs import load_run
    from tfkd.tuning import tune

    grid = dict(map(_values, options.parameter))
    overrides = _overrides(options)
    run = load_run(options.run).with_decoding(overrides)
    rate_hz = run.system.model.frontend.sample_rate_hz
    with utterance_store(options.data, PrepareConfig(sample_rate_hz=rate_hz)) as store:
        trials = tune(run, store, grid)
    rows = [
        [
            "  ".join(trial.overrides),
            f"{100 * trial.rate.wer:.2f}",
            f"{100 * trial.rate.wer_low:.2f} - {100 * trial.rate.wer_high:.2f}",
        ]
        for trial in trials
    ]
    chosen = apply_overrides({}, [*overrides, *trials[0].overrides])
    write_text(options.out, yaml.safe_dump(chosen, sort_keys=False))
    print(table(["settings", "WER %", "95 % interval"], rows))
    print(f"\nThe best is in {options.out}: give it to --decoding.")


def _values(parameter: str) -> tuple[str, list[str]]:
    key, _, values = parameter.partition("=")
    if not key or not values:
        raise ConfigError(f"--parameter {parameter!r} is not KEY=V1,V2,...")
    return key, values.split(",")


def _export(options: argparse.Namespace) -> None:
    from tfkd.config import ExportConfig, PrepareConfig, from_dict
    from tfkd.exporting import export
    from tfkd.preparing import utterance_store
    from tfkd.reporting import human_bytes, table
    from tfkd.runs import PARITY, load_run

    settings = {
        "formats": options.formats.split(","),
        "beam_width": options.beam_width,
        "num_hypotheses": options.num_hypotheses,
        "max_wer_change": options.max_wer_change,
    }
    config = from_dict(ExportConfig, settings)
    run = load_run(options.run).with_decoding(options.set)
    prepare_config = PrepareConfig(sample_rate_hz=run.system.model.frontend.sample_rate_hz)
    parity_data = options.parity_data or Path(options.run) / PARITY
    with utterance_store(parity_data, prepare_config) as store:
        reports = export(run, options.out, config, store)
    rows = [
        [
            report.format,
            human_bytes(report.bytes),
            f"{report.identical:.0%} of {report.utterances}",
            "-" if report.wer_change is None else f"{100 * report.wer_change:+.2f}",
            str(Path(options.out) / report.path),
        ]
        for report in reports
    ]
    print(table(["form", "size", "same ids as Keras", "WER change", "file"], rows))


def _transcribe(options: argparse.Namespace) -> None:
    from tfkd.device import DeviceRecogniser

    recogniser = DeviceRecogniser(options.model, num_threads=options.threads)
    failures = 0
    for path in options.audio:
        try:
            result = recogniser.transcribe_file(path)
        except TfkdError as error:
            # One bad file must not hide what the others say.
            print(f"tfkd: error: {error}", file=sys.stderr)
            failures += 1
            continue
        if options.json:
            print(json.dumps({"audio": path, **asdict(result)}, ensure_ascii=False))
        else:
            print(f"{path}\t{result.text}" if len(options.audio) > 1 else result.text)
    if failures:
        sys.exit(_EXIT_FAILED)


def _verify(options: argparse.Namespace) -> None:
    from tfkd.records import open_store

    store = open_store(options.store)
    store.verify(deep=True)
    summary = store.summary
    print(f"{options.store}: {summary.records} records in {summary.num_shards} shards, whole")


def _show(options: argparse.Namespace) -> None:
    from tfkd.exchange import row_of
    from tfkd.records import open_store
    from tfkd.reporting import record_report

    row = row_of(open_store(options.store).record(options.id))
    print(json.dumps(row, ensure_ascii=False) if options.json else record_report(row))


def _labels_to_jsonl(options: argparse.Namespace) -> None:
    from tfkd.exchange import labels_to_jsonl
    from tfkd.records import PSEUDO_LABELS, open_store

    store = open_store(options.labels, kind=PSEUDO_LABELS)
    labels_to_jsonl(store, options.out)
    print(f"{store.summary.records} utterances in {options.out}")


def _jsonl_to_labels(options: argparse.Namespace) -> None:
    from tfkd.exchange import jsonl_to_labels
    from tfkd.preparing import store_of_any_rate

    config = _prepare_config(options)
    with store_of_any_rate(options.data, config) as store:
        summary = jsonl_to_labels(options.nbest, store, options.out, config)
    print(_labelled(summary, options.out))


def _report(options: argparse.Namespace) -> None:
    from tfkd.files import write_text
    from tfkd.reporting import results_markdown

    try:
        results = json.loads(Path(options.results).read_text(encoding="utf-8"))
        page = results_markdown(results, options.title)
    except (OSError, ValueError, KeyError, TypeError) as error:
        remedy = "give the results.json that tfkd run wrote"
        raise TfkdError(
            f"not the results of a run: {error!r}", path=options.results, remedy=remedy
        ) from error
    write_text(options.out, page)
    print(options.out)


def _filter_report(options: argparse.Namespace) -> None:
    from tfkd.config import FilterConfig, load_system_config
    from tfkd.files import write_text
    from tfkd.filter_page import filter_page
    from tfkd.filter_report import report_filters
    from tfkd.records import PSEUDO_LABELS, open_store
    from tfkd.text import load_tokenizer

    filters = FilterConfig()
    if options.config:
        filters = load_system_config(options.config, "student").training.objective.filters
    pieces = load_tokenizer(options.teacher).pieces if options.teacher else None
    store = open_store(options.labels, kind=PSEUDO_LABELS)
    report = report_filters(store, filters, examples_per_reason=options.examples)
    out = Path(options.out)
    page = out if out.suffix == ".html" else out / "filters.html"
    write_text(page, filter_page(report, pieces))
    print(
        f"{report.after.utterances} of {report.before.utterances} utterances and "
        f"{report.after.hypotheses} of {report.before.hypotheses} hypotheses kept; {page}"
    )


def _run(options: argparse.Namespace) -> None:
    from tfkd.config import load_run_config

    config = load_run_config(options.config, options.set)
    _check_inputs(config)
    from tfkd.running import Job

    job = Job(config)
    if options.dry_run:
        from tfkd.reporting import table

        rows = [
            [stage.name, "done, will be verified" if job.is_done(stage) else "to do",
             ", ".join(str(job.work / output) for output in stage.outputs)]
            for stage in job.stages()
        ]  # fmt: skip
        print(table(["stage", "state", "writes"], rows))
        return
    from tfkd.reporting import results_report

    results = job.run(lambda line: print(line, flush=True))
    print()
    print(results_report(results))
    smallest = min(
        (row for row in results["parity"] if row["format"].startswith("tflite")),
        key=lambda row: row["bytes"],
        default=None,
    )
    if smallest:
        model = job.work / "export" / smallest["path"]
        print(f"\nTranscribe your own recording:\n  tfkd transcribe {model} YOUR.wav")


def _check_inputs(config) -> None:
    """Refuses a job that cannot be done, before anything is loaded."""
    for role in ("teacher", "student"):
        if getattr(config, role).training.distribution == "multi_worker":
            raise ConfigError(
                f"{role}.training.distribution: multi_worker is not for tfkd run",
                remedy="run tfkd train and tfkd distill on each machine",
            )
    for split in ("train", "valid", "test"):
        source = Path(config.data_dir) / getattr(config.corpora, split)
        if not source.exists():
            raise ConfigError(
                f"the {split} corpus is missing", path=source, remedy="--set data_dir=FOLDER"
            )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tfkd",
        description="Compress attention speech recognisers by sequence-level knowledge "
        "distillation: audio in, a small .tflite out.",
        epilog="The whole job: tfkd run configs/digits.yaml --set data_dir=FOLDER. "
        "Each command has examples: tfkd COMMAND --help.",
    )
    parser.add_argument("--version", action="version", version=f"tfkd {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add_set(command: argparse.ArgumentParser, what: str) -> None:
        command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                             help=f"override a setting{what}, as often as needed")  # fmt: skip

    def add_search(command: argparse.ArgumentParser) -> None:
        command.add_argument("--decoding", help="settings that tfkd tune-decoding wrote (YAML)")
        add_set(command, " of a run's search (docs/guide/decoding.md)")

    def add_profile(command: argparse.ArgumentParser) -> None:
        command.add_argument(
            "--profile",
            action="store_true",
            help="print where the time went, and trace some steps for TensorBoard in OUT",
        )

    def add_text(command: argparse.ArgumentParser) -> None:
        command.add_argument("--text", required=True, nargs="+", metavar="SOURCE",
                             help="text files, a sentence a line, or prepared folders")  # fmt: skip

    def add(name: str, run: Callable, summary: str, example: str) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.set_defaults(command=run)
        return command

    command = add("prepare", _prepare, "decode, check and normalise a corpus into shards",
                  "tfkd prepare corpus/train.jsonl --out work/data/train")  # fmt: skip
    command.add_argument("input", help="manifest, Kaldi folder or corpus tree")
    command.add_argument("--out", required=True, help="folder of the shards")
    command.add_argument(
        "--format",
        default="auto",
        choices=["auto", "jsonl", "kaldi", "librispeech", "commonvoice", "ljspeech"],
    )
    command.add_argument("--config", help="run config whose `prepare` section applies")
    command.add_argument("--max-rejected-share", type=float, help="fail above this share (0.05)")

    command = add("params", _params, "count parameters before training, and compare",
                  "tfkd params configs/digits.yaml")  # fmt: skip
    command.add_argument("config", nargs="+", help="system or run config")

    command = add("train", _train, "train a recogniser on transcribed utterances",
                  "tfkd train configs/digits.yaml --train work/data/train --valid work/data/valid "
                  "--out work/teacher --profile")  # fmt: skip
    command.add_argument("config", help="system config, or run config (its teacher)")
    command.add_argument("--train", required=True, help="prepared folder or manifest")
    command.add_argument("--valid", required=True, help="prepared folder or manifest")
    command.add_argument("--out", required=True, help="folder of the run")
    add_profile(command)

    command = add("train-lm", _train_lm, "train a language model for a recogniser's search",
                  "tfkd train-lm configs/lm/characters.yaml --run work/teacher "
                  "--text work/data/train --valid work/data/valid --out work/lm")  # fmt: skip
    command.add_argument("config", help="language model config")
    command.add_argument("--run", required=True, help="run whose tokenizer gives the units")
    add_text(command)
    command.add_argument("--valid", required=True, nargs="+", metavar="SOURCE",
                         help="other text, for early stopping")  # fmt: skip
    command.add_argument("--out", required=True, help="folder of the language model")

    command = add("lm-text", _lm_text, "write text in a recogniser's units, for n-gram toolkits",
                  "tfkd lm-text work/teacher --text books.txt --out work/units.txt")  # fmt: skip
    command.add_argument("run", help="run whose tokenizer gives the units")
    add_text(command)
    command.add_argument("--out", required=True, help="text file, a sentence a line")

    command = add("label", _label, "decode audio with a teacher into pseudo labels",
                  "tfkd label work/teacher --data work/data/train --out work/labels "
                  "--beam-width 8 --num-hypotheses 4")  # fmt: skip
    command.add_argument("run", help="folder of the teacher's run")
    command.add_argument("--data", required=True, help="prepared folder or manifest")
    command.add_argument("--out", required=True, help="folder of the labels")
    command.add_argument("--beam-width", type=int, required=True)
    command.add_argument("--num-hypotheses", type=int, required=True)
    command.add_argument("--length-penalty", type=float, default=0.0, help="alpha (0)")
    command.add_argument("--batch-size", type=int, default=16)
    command.add_argument(
        "--runner",
        default="local",
        choices=["local", "direct", "flink", "spark", "dataflow"],
        help="who labels: this process (local), or the workers of an Apache Beam runner",
    )
    command.add_argument("--runner-option", action="append", default=[], metavar="NAME[=VALUE]",
                         help="pass --NAME=VALUE to the runner, as often as needed")  # fmt: skip
    add_search(command)

    command = add("distill", _distill, "train a student on pseudo labels, or on the truth",
                  "tfkd distill configs/digits.yaml --labels work/labels --valid work/data/valid "
                  "--out work/student-seq_kd")  # fmt: skip
    command.add_argument("config", help="system config, or run config (its student)")
    command.add_argument("--labels", required=True, help="folder that tfkd label wrote")
    command.add_argument("--valid", required=True, help="prepared folder or manifest")
    command.add_argument("--out", required=True, help="folder of the run")
    command.add_argument(
        "--objective", choices=["truth", "seq_kd"], help="instead of the config's objective"
    )
    add_profile(command)

    command = add("decode", _decode, "print what a recogniser makes of each utterance",
                  "tfkd decode work/teacher --data work/data/test --nbest "
                  "--set beam_width=8 --set normalisation=mean")  # fmt: skip
    command.add_argument("run", help="folder of a run")
    command.add_argument("--data", required=True, help="prepared folder or manifest")
    command.add_argument("--nbest", action="store_true", help="every hypothesis, token by token")
    command.add_argument("--json", action="store_true", help="a line of JSON for each utterance")
    add_search(command)

    command = add("tune-decoding", _tune_decoding, "choose settings of the search by their WER",
                  "tfkd tune-decoding work/teacher --data work/data/valid "
                  "--set fusion.lm=work/lm --parameter fusion.lm_weight=0,0.2,0.4 "
                  "--parameter fusion.ctc_weight=0,0.3 --out work/decoding.yaml")  # fmt: skip
    command.add_argument("run", help="folder of a run")
    command.add_argument("--data", required=True, help="validation data, prepared or manifest")
    command.add_argument("--parameter", required=True, action="append", metavar="KEY=V1,V2,...",
                         help="values to try, in every combination; at equal WER the one named "
                         "first wins, so begin with what is off")  # fmt: skip
    command.add_argument("--out", required=True, help="the best, for --decoding (YAML)")
    add_search(command)

    command = add("evaluate", _evaluate, "measure WER, CER, size and speed of a model of any form",
                  "tfkd evaluate work/export/model-int8.tflite --data work/data/test "
                  "--json int8.json")  # fmt: skip
    command.add_argument("model", help="folder of a run, SavedModel, or .tflite")
    command.add_argument("--data", required=True, help="prepared folder or manifest")
    command.add_argument("--json", help="write the figures here")
    command.add_argument("--transcripts", help="write references and hypotheses here (JSONL)")
    add_search(command)

    command = add("export", _export, "write SavedModel and .tflite, checked against Keras",
                  "tfkd export work/student-seq_kd --out work/export "
                  "--formats tflite-float32,tflite-int8 --parity-data work/data/valid")  # fmt: skip
    command.add_argument("run", help="folder of a run")
    command.add_argument("--out", required=True)
    command.add_argument("--formats", default="savedmodel,tflite-float32,tflite-int8")
    command.add_argument(
        "--parity-data",
        help="real utterances to check with, prepared or manifest (those kept in the run)",
    )
    command.add_argument("--beam-width", type=int, default=4)
    command.add_argument("--num-hypotheses", type=int, default=1)
    command.add_argument("--max-wer-change", type=float, default=0.005, help="as a share (0.005)")
    add_set(command, " of the search (docs/guide/decoding.md)")

    command = add("transcribe", _transcribe, "transcribe recordings with a .tflite",
                  "tfkd transcribe work/export/model-int8.tflite order.wav")  # fmt: skip
    command.add_argument("model", help=".tflite that tfkd export wrote")
    command.add_argument("audio", nargs="+")
    command.add_argument("--json", action="store_true", help="a line of JSON for each recording")
    command.add_argument("--threads", type=int, default=1)

    command = add("verify", _verify, "prove that a folder of shards is whole",
                  "tfkd verify work/labels")  # fmt: skip
    command.add_argument("store", help="folder that tfkd prepare or tfkd label wrote")

    command = add("show", _show, "print one record of a folder of shards",
                  "tfkd show work/labels --id a1")  # fmt: skip
    command.add_argument("store", help="folder that tfkd prepare or tfkd label wrote")
    command.add_argument("--id", required=True, help="id of the utterance")
    command.add_argument("--json", action="store_true", help="a line of JSON, with every value")

    command = add("labels-to-jsonl", _labels_to_jsonl, "write pseudo labels as an n-best list",
                  "tfkd labels-to-jsonl work/labels --out nbest.jsonl")  # fmt: skip
    command.add_argument("labels", help="folder of the labels")
    command.add_argument("--out", required=True, help="file of the n-best list (JSONL)")

    command = add("jsonl-to-labels", _jsonl_to_labels,
                  "make pseudo labels of the n-best list of any recogniser",
                  "tfkd jsonl-to-labels nbest.jsonl --data work/data/train "
                  "--out work/labels")  # fmt: skip
    command.add_argument("nbest", help="n-best list (JSONL): utterance_id and hypotheses")
    command.add_argument("--data", required=True, help="prepared folder or manifest")
    command.add_argument("--out", required=True, help="folder of the labels")
    command.add_argument("--config", help="run config whose `prepare` section applies")
    command.add_argument("--max-rejected-share", type=float, help="fail above this share (0.05)")

    command = add("report", _report, "write a page from the results of a run",
                  "tfkd report work/results.json --title Digits --out digits.md")  # fmt: skip
    command.add_argument("results", help="results.json that tfkd run wrote")
    command.add_argument("--title", required=True)
    command.add_argument("--out", required=True, help="Markdown file")

    command = add("filter-report", _filter_report,
                  "show what filters would take from labels, before any training",
                  "tfkd filter-report work/labels --config configs/digits.yaml "
                  "--teacher work/teacher --out work/filters.html")  # fmt: skip
    command.add_argument("labels", help="folder that tfkd label wrote")
    command.add_argument("--out", required=True, help="HTML file, or folder for filters.html")
    command.add_argument("--config", help="config whose student's filters apply (the defaults)")
    command.add_argument("--teacher", help="the teacher's run, whose tokens the pictures name")
    command.add_argument(
        "--examples", type=int, default=5, help="worst utterances shown for each reason (5)"
    )

    command = add("run", _run, "do the whole job, from audio to .tflite",
                  "tfkd run configs/digits.yaml --set data_dir=digits")  # fmt: skip
    command.add_argument("config", help="run config")
    add_set(command, "")
    command.add_argument("--dry-run", action="store_true", help="only show the plan")
    return parser


if __name__ == "__main__":
    main()
