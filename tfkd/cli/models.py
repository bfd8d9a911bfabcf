"""Commands from a trained run to what users hold: the whole job, its page, exports, transcripts."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from tfkd.cli.exit_codes import EXIT_FAILED
from tfkd.cli.options import own_options
from tfkd.errors import ConfigError, TfkdError


def export(options: argparse.Namespace) -> None:
    from tfkd.config import ExportConfig, from_dict
    from tfkd.data.preparation import preparation_for, utterance_store
    from tfkd.decoding.runs import PARITY, load_run
    from tfkd.exporting.export import export
    from tfkd.reporting.tables import human_bytes, table

    settings = own_options(options, "beam_width", "num_hypotheses", "max_seconds", "max_wer_change")
    config = from_dict(ExportConfig, {"formats": options.formats.split(","), **settings})
    for override in options.set:
        if override.startswith("fusion."):
            raise ConfigError(f"--set {override}: exported forms decode without fusion")
    run = load_run(options.run).with_decoding(options.set)
    rate_hz = run.system.model.frontend.sample_rate_hz
    prepare_config = preparation_for(rate_hz, run.tokenizer.pieces)
    parity_data = options.parity_data or Path(options.run) / PARITY
    with utterance_store(parity_data, prepare_config) as store:
        reports = export(run, options.out, config, store)
    rows = [
        [
            report.format,
            human_bytes(report.bytes),
            f"{report.identical:.0%} of {report.utterances}",
            f"{100 * report.wer_change:+.2f}",
            str(Path(options.out) / report.path),
        ]
        for report in reports
    ]
    print(table(["form", "size", "same ids as Keras", "WER change", "file"], rows))


def transcribe(options: argparse.Namespace) -> None:
    from tfkd.device.recogniser import DeviceRecogniser

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
        sys.exit(EXIT_FAILED)
