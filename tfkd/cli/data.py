"""Commands that make, verify and show stores of shards."""

from __future__ import annotations

import argparse
import json

from tfkd.cli.options import prepare_settings
from tfkd.cli.printing import say


def prepare(options: argparse.Namespace) -> None:
    from tfkd.data.preparation import prepare

    config = prepare_settings(options)
    summary = prepare(options.input, options.out, config, corpus_format=options.format)
    rejected = summary.rejected + summary.rejected_before_planning
    say(
        f"{summary.records} utterances ({summary.duration_seconds / 3600:.2f} h) in {options.out}; "
        f"{rejected} rejected{', see rejected.jsonl' if rejected else ''}"
    )
    if summary.pieces:
        say(
            f"{summary.split} recordings were too long and were cut into {summary.pieces} pieces, "
            "which are among these; see pieces.jsonl"
        )


def verify(options: argparse.Namespace) -> None:
    from tfkd.records import open_store

    store = open_store(options.store)
    store.verify(deep=True)
    summary = store.summary
    say(f"{options.store}: {summary.records} records in {summary.num_shards} shards, verified")


def show(options: argparse.Namespace) -> None:
    from tfkd.distillation.nbest_conversion import row_of
    from tfkd.records import open_store
    from tfkd.reporting.tables import record_report

    row = row_of(open_store(options.store).record(options.id))
    say(json.dumps(row, ensure_ascii=False) if options.json else record_report(row))
