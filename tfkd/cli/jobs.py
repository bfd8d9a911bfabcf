"""Commands of several steps: the whole job, a sweep of students, and their pages."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from tfkd.cli.exit_codes import EXIT_FAILED
from tfkd.cli.printing import say
from tfkd.errors import ConfigError, ExportError, TfkdError

if TYPE_CHECKING:
    from tfkd.config import RunConfig
    from tfkd.pipeline.stages import State


def run(options: argparse.Namespace) -> None:
    from tfkd.config import load_run_config

    config = load_run_config(options.config, options.set)
    _check_inputs(config)
    from tfkd.pipeline.job import Job

    job = Job(config, verifies=not options.dry_run)
    if options.dry_run:
        job.check()
        from tfkd.reporting.tables import table

        states = job.states()
        rows = [
            [stage.name, states[stage.name].words,
             ", ".join(str(job.work / output) for output in stage.outputs)]
            for stage in job.stages()
        ]  # fmt: skip
        say(table(["stage", "state", "writes"], rows))
        _raise_first(states)
        return
    from tfkd.exporting.forms import FORMS
    from tfkd.reporting.results import results_report

    refused: ExportError | None = None
    try:
        results = job.run(say)
    except ExportError as error:  # All else is measured.
        refused, results = error, job.results
    say()
    say(results_report(results))
    smallest = min(
        (row for row in results["parity"] if FORMS[row["format"]].on_device),
        key=lambda row: row["bytes"],
        default=None,
    )
    if smallest:
        model = job.work / "export" / smallest["path"]
        say(f"\nTranscribe your own recording:\n  tfkd transcribe {quote(str(model))} YOUR.wav")
    if refused:
        raise refused


def sweep(options: argparse.Namespace) -> None:
    from tfkd.config import load_run_config

    config = load_run_config(options.config, options.set)
    _check_inputs(config)
    from tfkd.pipeline.sweep import Sweep

    sweep = Sweep(config, verifies=not options.dry_run)
    if options.dry_run:
        sweep.job.check()
        from tfkd.reporting.tables import table

        sizes = sweep.parameters()
        stages, states = sweep.states()
        rows = [
            [cell.row, f"{sizes[cell.row]:,}" if sizes[cell.row] else "-", str(cell.seed),
             states[cell.name].words, str(sweep.folder(cell))]
            for cell in sweep.cells
        ]  # fmt: skip
        say(table(["student", "parameters", "seed", "state", "folder"], rows))
        _raise_first(stages)
        refused = {name: state.error for name, state in states.items() if state.error}
        for name, error in refused.items():
            say(f"{name} will fail: {error}")
        if refused:
            sys.exit(EXIT_FAILED)
        return
    from tfkd.reporting.sweeps import sweep_report

    results = sweep.run(say)
    say(sweep_report(results))
    if results["rows"]:
        path = quote(str(sweep.results))
        say(f"\nMake a page of it:\n  tfkd report {path} --title TITLE --out PAGE.md")
    if results["unfinished"] or results["failed"]:
        if set(results["unfinished"]) - set(results["failed"]):
            say("The same command goes on with what is not finished.")
        sys.exit(EXIT_FAILED)


def report(options: argparse.Namespace) -> None:
    from tfkd.reporting.sentences import path_from
    from tfkd.storage.files import check_writable, replaceable, write_text, writing
    from tfkd.storage.json_files import read_json_object

    check_writable(options.out)
    remedy = "give the results.json of tfkd run or tfkd sweep"
    parts = {Path(path): read_json_object(path, remedy=remedy) for path in options.results}
    for path, part in parts.items():
        if part.get("rows") == {}:
            raise TfkdError("no student has finished", path=path, remedy="run tfkd sweep again")
    try:
        sources = [path_from(Path(options.out).parent, path) for path in parts]
        with writing(options.out):
            page = _page_of(parts, options.title, sources, Path(options.out))
    except (ValueError, LookupError, TypeError, AttributeError, StopIteration) as error:
        raise TfkdError(
            f"not the results of a run: {error!r}", path=options.results[0], remedy=remedy
        ) from error
    write_text(options.out, page)
    if replaceable(Path(options.out)):
        say(options.out)


def _page_of(
    parts: Mapping[Path, Mapping[str, Any]], title: str, sources: Sequence[str], page: Path
) -> str:
    from tfkd.reporting.figures import save_figures
    from tfkd.reporting.results import results_markdown
    from tfkd.reporting.sweeps import sweep_markdown
    from tfkd.storage.files import replaceable

    results = next(iter(parts.values()))
    if len(parts) > 1:
        from tfkd.pipeline.pooling import pooled  # It loads TensorFlow.

        results = pooled(parts)
    if "rows" in results:
        page.parent.mkdir(parents=True, exist_ok=True)
        # Beside a device or a pipe, such as /dev/stdout, there is no place for figures.
        figures = save_figures(results, page) if replaceable(page) else {}
        return sweep_markdown(results, title, sources, figures)
    return results_markdown(results, title, *sources)


def _raise_first(states: Mapping[str, State]) -> None:
    """Raises the error with which the command itself would end, if it would."""
    for state in states.values():
        if state.error is not None:
            raise state.error


def _check_inputs(config: RunConfig) -> None:
    """Refuses settings and corpora that `tfkd run` cannot use, before anything is loaded."""
    for role, system in config.systems.items():
        if system.training.distribution == "multi_worker":
            raise ConfigError(
                f"{role}.training.distribution: tfkd run cannot train on several machines",
                remedy="run tfkd train and tfkd distill on each machine",
            )
    corpora = config.corpora
    splits = {"train": corpora.train, "untranscribed": corpora.untranscribed,
              "valid": (corpora.valid,), "test": (corpora.test,)}  # fmt: skip
    for split, names in splits.items():
        for name in filter(None, names):
            source = Path(config.data_dir) / name
            if not source.exists():
                raise ConfigError(
                    f"the {split} corpus is missing",
                    path=source,
                    remedy=f"--set data_dir=FOLDER, or --set corpora.{split}=NAME",
                )
