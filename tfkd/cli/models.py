"""Commands that export a trained run and transcribe with the exported file."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from tfkd.cli.exit_codes import EXIT_FAILED
from tfkd.cli.options import own_options
from tfkd.cli.printing import complain, say
from tfkd.errors import ConfigError, TfkdError


def export(options: argparse.Namespace) -> None:
    from tfkd.config import ExportConfig, from_dict
    from tfkd.decoding.runs import PARITY, load_run
    from tfkd.exporting.export import export
    from tfkd.reporting.tables import human_bytes, table

    settings = own_options(
        options, "beam_width", "num_hypotheses", "max_seconds", "fixed_length",
        "max_wer_change", "max_wer_to_keras", "max_log_prob_drift",
    )  # fmt: skip
    config = from_dict(ExportConfig, {"formats": options.formats.split(","), **settings})
    for override in options.set:
        if override.startswith("fusion.lm"):
            raise ConfigError(
                f"--set {override}: a language model is too large for devices",
                remedy="use it for labelling instead: the student learns from its labels",
            )
    run = load_run(options.run).with_decoding(options.set)
    with run.open_data(options.parity_data or Path(options.run) / PARITY) as store:
        reports = export(run, options.out, config, store)
    rows = [
        [
            report.format,
            human_bytes(report.bytes),
            f"{report.identical:.0%} of {report.utterances}",
            f"{100 * report.wer_change:+.2f}",
            f"{100 * report.wer_to_keras:.2f}",
            f"{report.log_prob_drift:.4f}",
            str(Path(options.out) / report.path),
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

    recogniser = DeviceRecogniser(options.model, num_threads=options.threads)
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
