"""Commands that train recognisers and language models, and that compute their sizes."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tfkd.cli.options import refuse_set, take_section
from tfkd.cli.printing import say
from tfkd.errors import ConfigError

if TYPE_CHECKING:
    from tfkd.config import SystemConfig


_OBJECTIVE = "training.objective.kind"
_INITIAL = "training.initial.run"


def params(options: argparse.Namespace) -> None:
    from tfkd.config import load_system_configs
    from tfkd.layers.model_size import count_parameters
    from tfkd.models.recogniser import Recogniser
    from tfkd.reporting.tables import table
    from tfkd.text import vocab_size_of

    systems = {}
    for path in options.config:
        for name, system in load_system_configs(path).items():
            systems[f"{path} {name}" if len(options.config) > 1 else name] = system
    counts = {}
    for name, system in systems.items():
        size = vocab_size_of(system.tokenizer)
        if size is None:
            raise _unknown_vocabulary(name)
        counts[name] = count_parameters(functools.partial(Recogniser, system.model, size))
    largest = max(counts.values())
    rows = [[name, f"{n:,}", f"{largest / n:.2f}x"] for name, n in counts.items()]
    say(table(["model", "parameters", "ratio"], rows))


def fit_student(options: argparse.Namespace) -> None:
    cost_of, budget = _budget(options)
    from tfkd.config import load_system_config, to_yaml
    from tfkd.models.sizing import fit_student, measured_macs_per_second, proposed
    from tfkd.reporting.tables import human_bytes, table
    from tfkd.storage.files import check_writable, write_text
    from tfkd.text import vocab_size_of

    check_writable(options.out)
    teacher = load_system_config(options.teacher, "teacher")
    vocab_size = vocab_size_of(teacher.tokenizer)
    if vocab_size is None:
        raise _unknown_vocabulary("teacher")
    whole = proposed(teacher, vocab_size, measured_macs_per_second())
    if options.params and options.params.endswith("x"):
        budget = whole.parameters / budget
    student = fit_student(teacher, vocab_size, lambda each: getattr(each, cost_of), budget)
    write_text(options.out, to_yaml(student.system))
    rows = [
        [name, f"{each.parameters:,}", f"{whole.parameters / each.parameters:.1f}x",
         human_bytes(each.int8_bytes), f"{each.rtf:.4f}", f"{each.tflite_rtf:.4f}"]
        for name, each in (("teacher", whole), ("student", student))
    ]  # fmt: skip
    say(table(["model", "parameters", "ratio", "int8 .tflite, about", "RTF, about",
               ".tflite RTF, about"], rows))  # fmt: skip
    say(f"\nThe student's config is in {options.out}, for tfkd distill.")


def _budget(options: argparse.Namespace) -> tuple[str, float]:
    """Reads --params, --bytes or --rtf as a field of a Proposal and its largest value."""
    for option, cost, example, units in (
        ("params", "parameters", "9.8x, 300k or 0.3M", {"x": 1.0, "k": 1e3, "M": 1e6}),
        ("bytes", "int8_bytes", "400kB or 1.5MB", {"k": 1e3, "kB": 1e3, "M": 1e6, "MB": 1e6}),
        ("rtf", "rtf", "0.002", {}),
    ):
        text = getattr(options, option)
        if text is None:
            continue
        digits = text.rstrip("kMBx")
        try:
            number = float(digits) * {**units, "": 1.0}[text[len(digits) :]]
        except (ValueError, KeyError):
            number = 0.0
        if not 0 < number < float("inf"):
            raise ConfigError(
                f"--{option} {text!r} is no such budget", remedy=f"for example --{option} {example}"
            )
        return cost, number
    raise ConfigError("a budget is missing", remedy="give --params, --bytes or --rtf")


def _unknown_vocabulary(name: str) -> ConfigError:
    return ConfigError(
        f"{name}: the size of the vocabulary is unknown, because it depends on the training text",
        remedy="set tokenizer.alphabet",
    )


def train(options: argparse.Namespace) -> None:
    from tfkd.config import load_system_config

    take_section(options, "teacher")
    system = load_system_config(options.config, "teacher", _begun_from(options, options.set))
    _train_on(system, options.train, options)


def distill(options: argparse.Namespace) -> None:
    from tfkd.config import load_system_config
    from tfkd.records import PSEUDO_LABELS, is_store, open_store

    take_section(options, "student")
    overrides = [*options.set]
    if options.objective:
        refuse_set(options, _OBJECTIVE, "objective")
        overrides.append(f"{_OBJECTIVE}={options.objective}")
    system = load_system_config(options.config, "student", _begun_from(options, overrides))
    objective = system.training.objective
    if options.units and "word_kd" in {objective.kind, *(part.kind for part in objective.parts)}:
        raise ConfigError(
            "--units has no effect on word_kd, which learns posteriors of the units of its labels",
            remedy="leave it out",
        )
    for each in options.transcribed:
        if is_store(each) and open_store(each).kind == PSEUDO_LABELS:
            raise ConfigError(
                f"--transcribed {each}: holds pseudo labels, not transcripts",
                remedy="name it with --labels, and here the prepared audio",
            )
    _train_on(system, [*options.transcribed, *options.labels], options)


def _begun_from(options: argparse.Namespace, overrides: Sequence[str]) -> list[str]:
    """Adds the setting of --from to the overrides."""
    if options.begin_from is None:
        return [*overrides]
    refuse_set(options, _INITIAL, "from")
    return [*overrides, f"{_INITIAL}={json.dumps(options.begin_from)}"]


def _train_on(system: SystemConfig, data: Sequence[str], options: argparse.Namespace) -> None:
    from tfkd.config import PrepareConfig, load_prepare_config
    from tfkd.data.given_audio import utterance_store
    from tfkd.decoding.runs import check_run
    from tfkd.reporting.tables import profile_report
    from tfkd.text import load_tokenizer
    from tfkd.training.loop import check_system, train
    from tfkd.training.profiling import Profile

    # Preparing a manifest can take hours, so first check that the model can be trained.
    check_system(system)
    if system.training.initial.run is not None:
        check_run(system.training.initial.run)
    tokenizer = None if options.units is None else load_tokenizer(options.units)
    profile = Profile() if options.profile else None
    shares = _shares(options.shares, data)
    rate_hz = system.model.frontend.sample_rate_hz
    written = load_prepare_config(options.config) or PrepareConfig()
    config = dataclasses.replace(written, sample_rate_hz=rate_hz)
    with contextlib.ExitStack() as opened:
        stores = [opened.enter_context(utterance_store(each, config)) for each in data]
        valid_store = opened.enter_context(utterance_store(options.valid, config))
        run = train(
            system, stores, valid_store, options.out, profile, shares=shares, tokenizer=tokenizer
        )
    if run is None:
        say("this worker has finished; the run is in the chief's folder")
    else:
        say(f"{run.model.count_params():,} parameters in {options.out}")
    if profile is not None:
        say(profile_report(profile, rate_hz))


def _shares(text: str | None, data: Sequence[str]) -> list[float] | None:
    """The numbers of --shares, one for each folder or manifest."""
    if text is None:
        return None
    try:
        shares = [float(each) for each in text.split(",")]
    except ValueError as error:
        raise ConfigError(
            f"--shares {text!r} is not a list of numbers", remedy="for example --shares 0.3,0.7"
        ) from error
    if len(shares) != len(data):
        raise ConfigError(
            f"--shares {text} has {len(shares)} numbers for {len(data)} folders",
            remedy="give one number for each folder, in the order of the options",
        )
    return shares


def serve_input(options: argparse.Namespace) -> None:
    import tensorflow as tf

    from tfkd.training.input_service.worker import serve

    # Hide the GPU, which is not used here: initialising it would take memory from the trainer.
    tf.config.set_visible_devices([], "GPU")
    server, port = serve(options.data, options.listen)
    host = options.listen.rpartition(":")[0]
    say(f"serving batches at {host}:{port}, until it is interrupted")
    server.wait_for_termination()


def train_lm(options: argparse.Namespace) -> None:
    from tfkd.config import LanguageModelConfig, from_dict, with_overrides
    from tfkd.config.strict_yaml import read_yaml
    from tfkd.text import load_tokenizer
    from tfkd.training.language_model import train_language_model

    written = from_dict(LanguageModelConfig, read_yaml(options.config), path=options.config)
    config = with_overrides(written, options.set)
    tokenizer = load_tokenizer(options.run)
    summary = train_language_model(config, tokenizer, options.text, options.valid, options.out)
    say(
        f"{summary.parameters:,} parameters in {options.out}; validation perplexity "
        f"{summary.perplexity:.2f} ({summary.bits_per_token:.3f} bits a token); "
        f"{summary.sentences} sentences{_skipped(summary.skipped, summary.first_skipped)}"
    )


def lm_text(options: argparse.Namespace) -> None:
    from tfkd.language_models.unit_text import write_unit_text
    from tfkd.text import load_tokenizer

    found = write_unit_text(options.text, load_tokenizer(options.run), options.out)
    skipped = _skipped(found.skipped, found.first_skipped)
    say(f"{found.sentences} sentences in {options.out}{skipped}")


def _skipped(count: int, first: str | None) -> str:
    """Says, after the number of sentences, how many were left out and why."""
    return f", {count} skipped, which the tokenizer cannot spell (first: {first})" if count else ""
