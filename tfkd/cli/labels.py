"""Commands that write, exchange and evaluate pseudo labels."""

from __future__ import annotations

import argparse
import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tfkd.cli.options import own_options, prepare_settings, search_overrides, take_section
from tfkd.cli.printing import say
from tfkd.errors import ConfigError

if TYPE_CHECKING:
    from tfkd.config import LabelConfig
    from tfkd.records import Store, StoreSummary


def label(options: argparse.Namespace) -> None:
    _check_runner(options)
    config = _label_config(options)
    label = _labelling_on(options.runner, options.runner_option)
    from tfkd.config import TextConfig
    from tfkd.data.given_audio import utterance_store
    from tfkd.distillation.teachers import load_teacher

    teacher = load_teacher(options.run)
    teacher.digest(config)  # refuses settings that this teacher does not know
    preparation = teacher.preparation
    if extra_characters := config.whisper.extra_characters:
        text = TextConfig(extra_characters=extra_characters)
        preparation = dataclasses.replace(preparation, text=text)
    with utterance_store(options.data, preparation) as store:
        summary = label(teacher, store, options.out, config)
    say(_labelled(summary, options.out))


def _label_config(options: argparse.Namespace) -> LabelConfig:
    """Reads settings of --decoding, of --set, and of the command's own options; the last wins."""
    from tfkd.config import LabelConfig, with_overrides

    take_section(options, "labels")
    own = own_options(
        options, "beam_width", "num_hypotheses", "length_penalty", "batch_size", "top_m"
    )
    overrides = [*search_overrides(options), *(f"{key}={value}" for key, value in own.items())]
    return with_overrides(LabelConfig(), overrides)


def _check_runner(options: argparse.Namespace) -> None:
    """Refuses what the workers of a runner cannot do, before anything is loaded."""
    if options.runner == "local":
        if options.runner_option:
            raise ConfigError(
                "--runner-option needs a --runner other than local",
                remedy="leave it out, or name a runner of Apache Beam",
            )
        return
    from tfkd.records import is_store

    if not is_store(options.data):
        raise ConfigError(
            "is not a prepared folder, which every --runner but local needs",
            path=options.data,
            remedy="tfkd prepare it into a folder that all machines see",
        )


def _labelling_on(runner: str, runner_options: Sequence[str]) -> Callable:
    """Returns the function that labels with a runner; imports Beam only for runners of Beam."""
    if runner == "local":
        from tfkd.distillation.labelling import label

        return label
    try:
        from tfkd.distillation.apache_beam import label_with_beam
    except ModuleNotFoundError as error:
        if error.name != "apache_beam":
            raise
        raise ConfigError(
            f"--runner {runner} needs Apache Beam", remedy="pip install '.[beam]' in tfkd's folder"
        ) from error
    flags = [f"--{option}" for option in runner_options]
    return functools.partial(label_with_beam, runner=runner, options=flags)


def labels_to_jsonl(options: argparse.Namespace) -> None:
    from tfkd.distillation.nbest_conversion import labels_to_jsonl
    from tfkd.records import PSEUDO_LABELS, open_store

    store = open_store(options.labels, kind=PSEUDO_LABELS)
    labels_to_jsonl(store, options.out)
    say(f"{store.summary.records} utterances in {options.out}")


def jsonl_to_labels(options: argparse.Namespace) -> None:
    from tfkd.data.given_audio import store_of_any_rate
    from tfkd.distillation.nbest_conversion import jsonl_to_labels

    config = prepare_settings(options)
    with store_of_any_rate(options.data, config) as store:
        summary = jsonl_to_labels(options.nbest, store, options.out, config)
    say(_labelled(summary, options.out))


def _labelled(summary: StoreSummary, out: str) -> str:
    rejected = summary.rejected + summary.rejected_before_planning
    return (
        f"{summary.records} utterances labelled, {rejected} rejected, "
        f"{summary.records + rejected} in all; in {out}"
    )


def filter_report(options: argparse.Namespace) -> None:
    from tfkd.config import FilterConfig, load_system_config
    from tfkd.distillation.filter_page import filter_page
    from tfkd.distillation.filter_report import report_filters
    from tfkd.records import PSEUDO_LABELS, open_store
    from tfkd.storage.files import check_writable, write_text

    out = Path(options.out)
    page = out if out.suffix == ".html" else out / "filters.html"
    check_writable(page)
    filters = FilterConfig()
    if options.config:
        student = load_system_config(options.config, "student")
        filters = student.training.objective.of_labels.filters
    store = open_store(options.labels, kind=PSEUDO_LABELS)
    pieces = _pieces_of(options.teacher, store) if options.teacher else None
    report = report_filters(store, filters, examples_per_reason=options.examples)
    write_text(page, filter_page(report, pieces))
    say(
        f"{report.after.utterances} of {report.before.utterances} utterances and "
        f"{report.after.hypotheses} of {report.before.hypotheses} hypotheses kept; {page}"
    )


def _pieces_of(run: str, labels: Store) -> Sequence[str]:
    """The units of the teacher that made labels."""
    from tfkd.distillation.teachers import load_teacher

    teacher, labelled_by = load_teacher(run), labels.plan.sources.get("teacher")
    if teacher.tokenizer is None or labelled_by not in (None, teacher.identity):
        raise ConfigError(
            f"--teacher {run}: these labels are of another teacher",
            remedy="give the run that made them, or leave it out",
        )
    return teacher.tokenizer.pieces
