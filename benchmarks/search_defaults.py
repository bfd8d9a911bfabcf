"""Measures, on validation data of several corpora, the settings of a search that have a default.

    python benchmarks/search_defaults.py \\
        --corpus digits work/digits/student work/digits/data/valid work/digits/lm \\
        --corpus orders work/orders/student work/orders/data/valid work/orders/lm

Each corpus is named with a run, a prepared folder and a language model in the run's units (`tfkd
train-lm`). What is asked: how much CTC counts by default, and whether hypotheses are ranked by the
mean over their tokens where a language model joins. `docs/decisions/0011-search-and-exports.md`
says what was decided.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from synthetic_stores import surroundings
from tqdm import tqdm

from tfkd.decoding.runs import load_run
from tfkd.evaluation.tuning import tune
from tfkd.records import open_store
from tfkd.reporting.tables import table
from tfkd.storage.files import write_json

# The settings to try, by what they are asked for; only the second has the language model.
GRIDS = {
    "CTC": {"fusion.ctc_weight": ["0", "0.1", "0.2", "0.3", "0.5", "0.75"]},
    "language model": {
        "fusion.ctc_weight": ["0", "0.3"],
        "fusion.lm_weight": ["0.1", "0.2", "0.4"],
        "normalisation": ["gnmt", "mean"],
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--corpus", nargs=4, action="append", required=True, metavar=("NAME", "RUN", "STORE", "LM")
    )
    parser.add_argument("--out", default="benchmarks/results/search_defaults.json")
    options = parser.parse_args()
    results = {name: _measure(*map(Path, paths)) for name, *paths in tqdm(options.corpus)}
    write_json(options.out, {**surroundings(), "results": results})
    for grid in GRIDS:
        trials = {name: of_corpus["trials"][grid] for name, of_corpus in results.items()}
        rows = [
            [settings, *(f"{100 * of[settings]['wer']:.2f}" for of in trials.values())]
            for settings in next(iter(trials.values()))
        ]
        print(table([grid, *trials], rows))


def _measure(directory: Path, data: Path, language_model: Path) -> dict:
    """The size of a corpus, and its WER and interval by grid and settings."""
    store = open_store(data)
    run = load_run(directory)
    searches = {"CTC": [], "language model": [f"fusion.lm={language_model}"]}
    found = {
        grid: tune(run.with_decoding(searches[grid]), store, values)
        for grid, values in GRIDS.items()
    }
    first = next(iter(found.values()))[0].rate
    return {
        "utterances": first.utterances,
        "words": first.words,
        "trials": {
            grid: {
                ", ".join(trial.overrides): {
                    key: getattr(trial.rate, key) for key in ("wer", "wer_low", "wer_high")
                }
                for trial in sorted(trials, key=lambda trial: trial.overrides)
            }
            for grid, trials in found.items()
        },
    }


if __name__ == "__main__":
    main()
