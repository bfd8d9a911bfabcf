"""Writes benchmarks/results/README.md: the ratios of all paired runs, one column a processor.

python benchmarks/summary.py
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
# The endings of the files that one benchmark wrote on different processors.
PROCESSORS = {"": "AMD EPYC, AVX-512", "_avx2": "AMD EPYC, AVX2", "_intel": "Intel Xeon, AVX-512"}
HEAD = """# Results

Written by `python benchmarks/summary.py` from the files beside this page. Machines differ and are
shared, so what counts are ratios of runs that took turns. Each file names versions,
hardware and date; the head of each benchmark names its command.
"""
PEERS = """## tfkd beside PyTorch 2.13: CPU seconds, ratio of medians (peak memory of both in MB)

"""
TRAITS = """## A decoding step, when one trait is undone: times the step as it is

From `python benchmarks/decoder_step.py`.

"""
FAMILIES = """## Training of each family: CPU seconds of a step, over those of the first

From `python benchmarks/families.py`, one thread. Minutes are of all steps of the recipe's training.

"""
COST_OF_K = """## A training step on k hypotheses: CPU seconds, over those of the step on one

From `python benchmarks/cost_of_k.py`, {threads} thread: the teacher of configs/barista.yaml,
{batch} utterances of {seconds:g} s and {tokens} tokens. The k hypotheses of an utterance share one
pass of the encoder.

"""
SEARCH = """## Settings of the search that have a default: WER % on validation data

From `python benchmarks/search_defaults.py`: students on labels, of {corpora}.
Intervals are in the file; those of rows that differ by a few words overlap.

"""
DEVICE = """## A student as `.tflite`: CPU seconds of one utterance, over those of revision {before}

From `python benchmarks/device.py`, int8, one thread; the student of configs/start.yaml, {tokens}
tokens.

"""
READING = """## A long recording: CPU seconds and memory, over those of revision {before}

From `python benchmarks/reading.py`: {minutes} minutes of two channels at {rate_hz} Hz, read whole,
or cut into pieces of {piece_seconds} s. The share of seeking in an MP3 grows with its length.

"""


def content_of(name: str) -> dict[str, Any] | None:
    """A file of results; None if that processor was never at hand."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def table(first: str, rows: dict[str, list[str]]) -> str:
    """A Markdown table with one column a processor."""
    head = [first, *PROCESSORS.values()]
    lines = [head, ["---"] * len(head), *([name, *cells] for name, cells in rows.items())]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def beside_torch(benchmark: str) -> str:
    """Ratios of median CPU seconds, with the peak memory of both."""
    files = [content_of(benchmark + ending) for ending in PROCESSORS]
    cases = dict.fromkeys(case for file in files if file for case in file["results"])

    def cell(file: dict[str, Any] | None, case: str) -> str:
        pair = file and file["results"].get(case)
        if not pair:
            return ""
        ours, theirs = pair["tfkd"], pair["torch"]
        ratio = ours["median_cpu_seconds"] / theirs["median_cpu_seconds"]
        return f"{ratio:.2f} ({ours['peak_mb']:.0f}; {theirs['peak_mb']:.0f})"

    return table(benchmark, {case: [cell(file, case) for file in files] for case in cases})


def traits() -> Iterator[str]:
    """What each trait of the decoder's step is worth, for both sizes."""
    files = [content_of("decoder_step" + ending) for ending in PROCESSORS]
    steps = [file["cpu_milliseconds_a_step"] if file else {} for file in files]
    for size in ("teacher", "student"):
        names = dict.fromkeys(name for step in steps for name in step.get(size, {}))
        rows = {
            name: [
                f"{step[size][name] / step[size]['as it is']:.2f}" if name in step[size] else ""
                for step in steps
            ]
            for name in names
            if name != "as it is"
        }
        yield table(size, rows)


def families() -> str:
    """What a step and a training of each family cost, for the students of both recipes."""
    results = content_of("families")["results"]
    digits, orders = (results[name]["students"] for name in results)
    lines = [["student", "digits", "minutes", "orders", "minutes"], ["---"] * 5]
    for name in digits:
        cells = [
            (f"{row['ratio']:.2f}", f"{row['minutes']:.1f}") for row in (digits[name], orders[name])
        ]
        lines.append([name, *cells[0], *cells[1]])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def cost_of_k() -> str:
    """What a training step on several hypotheses costs."""
    file = content_of("cost_of_k")
    counts = next(iter(file["results"].values()))
    lines = [["k", *counts], ["---"] * (1 + len(counts))]
    for name, steps in file["results"].items():
        lines.append([name, *(f"{step['ratio']:.2f}" for step in steps.values())])
    text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return COST_OF_K.format(**file["setting"]) + text


def search() -> str:
    """Word errors with each weight of CTC, and with a language model ranked in either way."""
    corpora = content_of("search_defaults")["results"]
    sizes = (f"{name} ({each['utterances']} utterances)" for name, each in corpora.items())
    text = SEARCH.format(corpora=" and ".join(sizes))
    for grid, trials in next(iter(corpora.values()))["trials"].items():
        lines = [[grid, *corpora], ["---"] * (1 + len(corpora))]
        for settings in trials:
            rates = (each["trials"][grid][settings]["wer"] for each in corpora.values())
            lines.append([settings, *(f"{100 * rate:.2f}" for rate in rates)])
        text += "".join(f"| {' | '.join(line)} |\n" for line in lines) + "\n"
    return text.rstrip() + "\n"


def of_before(each: dict[str, Any]) -> float:
    """The share that this revision takes of the CPU seconds of an earlier one."""
    pairs = zip(each["tfkd"]["runs"], each["before"]["runs"], strict=True)
    return statistics.median(ours["cpu_seconds"] / theirs["cpu_seconds"] for ours, theirs in pairs)


def reading() -> str:
    """What this revision takes of an earlier one's time and memory to read a long recording."""
    file = content_of("reading")
    lines = [["recording", "CPU seconds", "memory above that of the imports"], ["---"] * 3]
    for case, each in file["results"].items():
        ours, theirs = (row["peak_mb"] - row["base_mb"] for row in (each["tfkd"], each["before"]))
        lines.append([case, f"{of_before(each):.2f}", f"{ours / theirs:.2f}"])
    text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return READING.format(**file["setting"]) + text


def device() -> str:
    """What this revision's exports take of an earlier one's time, by cell, attention and length."""
    file = content_of("device")
    cases = {case: of_before(each) for case, each in file["results"].items()}
    lengths = dict.fromkeys(case.rpartition(", ")[2] for case in cases)
    kinds = dict.fromkeys(case.rpartition(", ")[0] for case in cases)
    lines = [["cell, attention", *lengths], ["---"] * (1 + len(lengths))]
    lines += [[kind, *(f"{cases[f'{kind}, {n}']:.2f}" for n in lengths)] for kind in kinds]
    text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return DEVICE.format(**file["setting"]) + text


def page() -> str:
    """What README.md is to hold."""
    peers = "\n".join(beside_torch(benchmark) for benchmark in ("training", "decoding"))
    sections = [
        f"{PEERS}{peers}",
        TRAITS + "\n".join(traits()),
        cost_of_k(),
        FAMILIES + families(),
        search(),
        device(),
        reading(),
    ]
    return "\n".join([HEAD, *sections])


if __name__ == "__main__":
    (RESULTS / "README.md").write_text(page(), encoding="utf-8")
