"""Commands that export a trained run and transcribe with the exported file."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from tfkd.cli.exit_codes import EXIT_FAILED
from tfkd.cli.options import own_options, search_overrides
from tfkd.cli.printing import complain, say
from tfkd.errors import ConfigError, TfkdError

if TYPE_CHECKING:
    from tfkd.config import ExportConfig
    from tfkd.exporting.export import Exported

# Values with which a setting of the language model turns it off.
_OFF = ("0", "0.0", "null")


def export(options: argparse.Namespace) -> None:
    from tfkd.decoding.runs import PARITY, load_run
    from tfkd.exporting.export import RefusedForms, export

    overrides = search_overrides(options)
    config = _export_config(options)
    run = load_run(options.run).with_decoding(overrides)
    with run.open_data(options.parity_data or Path(options.run) / PARITY) as store:
        try:
            reports = export(run, options.out, config, store)
        except RefusedForms as error:
            _say_exported(error.exported, options.out)
            raise
    _say_exported(reports, options.out)


def _export_config(options: argparse.Namespace) -> ExportConfig:
    """Reads the settings of options; those that are left out are the run's or the defaults."""
    from tfkd.config import ExportConfig, from_dict

    own = own_options(
        options, "beam_width", "num_hypotheses", "max_seconds", "fixed_length",
        "max_wer_change", "max_wer_to_keras", "max_log_prob_drift",
    )  # fmt: skip
    for override in options.set:
        key, _, value = override.partition("=")
        if key.startswith("fusion.lm") and value not in _OFF:
            raise ConfigError(
                f"--set {override}: a language model is too large for devices",
                remedy="use it for labelling instead: the student learns from its labels",
            )
    return from_dict(ExportConfig, {**own, "formats": options.formats.split(",")})


def _say_exported(reports: Sequence[Exported], out: str) -> None:
    """Prints a table of the forms that were written."""
    from tfkd.reporting.tables import human_bytes, table

    if not reports:
        return
    rows = [
        [
            report.format,
            human_bytes(report.bytes),
            f"{report.identical:.0%} of {report.utterances}",
            f"{100 * report.wer_change:+.2f}",
            f"{100 * report.wer_to_keras:.2f}",
            f"{report.log_prob_drift:.4f}",
            str(Path(out) / report.path),
        ]
        for report in reports
    ]
    header = ["form", "size", "same ids as Keras", "WER change, points", "WER to Keras %",
              "log_prob drift, nats", "file"]  # fmt: skip
    say(table(header, rows))


def transcribe(options: argparse.Namespace) -> None:
    if options.threads < 1:
        raise ConfigError(f"--threads {options.threads} is too few", remedy="use at least 1")
    if options.segment_seconds is not None and not options.segment_seconds > 0:
        raise ConfigError(
            f"--segment-seconds {options.segment_seconds:g} is too short",
            remedy="give more than 0",
        )
    from tfkd.device.recogniser import DeviceRecogniser

    recogniser = DeviceRecogniser(options.model, num_threads=options.threads, trusted=options.trust)
    failures = 0
    for path in options.audio:
        try:
            result = recogniser.transcribe_file(path, options.segment_seconds)
        except TfkdError as error:
            # Continue with the other recordings.
            complain(error)
            failures += 1
            continue
        if options.json:
            say(json.dumps({"audio": path, **asdict(result)}, ensure_ascii=False))
        else:
            say(f"{path}\t{result.text}" if len(options.audio) > 1 else result.text)
    if failures:
        sys.exit(EXIT_FAILED)
