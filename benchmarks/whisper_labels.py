"""A Whisper labels real speech, with word error rates, filters and filter reports, in one command.

    python benchmarks/whisper_labels.py --model FOLDER --data FOLDER --work FOLDER
    python benchmarks/whisper_labels.py --rewrite

Labels coffee orders (barista, all of `valid`) and learners of English (speechocean762, 100 of
`dev`), compares the labels with the transcripts, which Whisper does not see, before and after
filters, and writes the results, docs/recipes/whisper.md and a page of each filter report. The
second command writes docs/recipes/whisper.md anew from the results.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from tfkd.config import FilterConfig, LabelConfig, WhisperConfig, to_dict
from tfkd.corpora import read_corpus
from tfkd.data.preparation import prepare
from tfkd.distillation.filter_page import filter_page
from tfkd.distillation.filter_report import Extent, report_filters
from tfkd.distillation.filters import merge_duplicates
from tfkd.distillation.interface import Teacher
from tfkd.distillation.label_quality import label_quality
from tfkd.distillation.labelling import label
from tfkd.distillation.teachers import load_teacher
from tfkd.environment import provenance
from tfkd.malloc import share_one_heap
from tfkd.models.whisper.folder import load_whisper
from tfkd.models.whisper.model import Whisper
from tfkd.records import PSEUDO_LABELS, PseudoLabelRecord, Store, open_store
from tfkd.reporting.tables import table
from tfkd.storage.files import write_json, write_text

CONFIG = LabelConfig(
    beam_width=5,
    num_hypotheses=5,
    batch_size=8,
    whisper=WhisperConfig(language="en", numbers="words"),
)
# Whisper's own limit on compression; the others are round numbers, chosen before any result.
FILTERS = FilterConfig(
    max_repeats=4, max_compression_ratio=2.4, min_mean_log_prob=-0.5, max_disagreement=0.3
)
CORPORA = {"barista": ("barista/valid.jsonl", None), "speechocean762": ("speechocean762/dev", 100)}


def manifest(source: Path, count: int | None, out: Path) -> Path:
    """A manifest of `count` utterances of a corpus, spread over it, or of all."""
    utterances, _ = read_corpus(source, "auto")
    places = np.linspace(0, len(utterances) - 1, count or len(utterances)).round().astype(int)
    rows = [
        {"utterance_id": u.utterance_id, "audio": str(u.audio.resolve()), "text": u.text}
        for u in (utterances[place] for place in places)
    ]
    write_text(out, "".join(json.dumps(row) + "\n" for row in rows))
    return out


def labelled(teacher: Teacher, name: str, data: Path, work: Path) -> dict[str, Any]:
    """Labels a corpus; returns what came of it."""
    source, count = CORPORA[name]
    prepare(
        manifest(data / source, count, work / f"{name}.jsonl"),
        work / name,
        dataclasses.replace(teacher.preparation, too_long="reject"),
    )
    store = open_store(work / name)
    cpu, wall = time.process_time(), time.perf_counter()
    label(teacher, store, work / f"{name}-labels", CONFIG)
    seconds = time.process_time() - cpu, time.perf_counter() - wall
    labels = open_store(work / f"{name}-labels", kind=PSEUDO_LABELS)
    report = report_filters(labels, FILTERS, examples_per_reason=3)
    write_text(work / f"{name}-filters.html", filter_page(report, None))
    texts = {r.utterance_id: r.utterance.text or "" for r in store.records()}
    return {
        "quality": dataclasses.asdict(label_quality(labels, texts)),
        "distinct_texts": distinct_texts(labels),
        "before": _extent(report.before),
        "after": _extent(report.after),
        "filters": [
            {"reason": e.filter.reason, "threshold": e.threshold, "struck": e.removed_hypotheses}
            for e in report.effects
        ],
        "cpu_seconds_an_utterance": seconds[0] / len(texts),
        "wall_seconds_an_utterance": seconds[1] / len(texts),
    }


def parameters(model: Whisper) -> int:
    """Weights of a Whisper; the projection to the vocabulary is the embedding again."""
    again = int(np.prod(model.decoder.output_kernel.shape))
    return model.count_params() - again


def distinct_texts(labels: Store) -> float:
    """How many of the five hypotheses say something else, on average."""
    records: Iterable[Any] = labels.records()
    counts = [
        len(merge_duplicates(record).hypotheses)
        for record in records
        if isinstance(record, PseudoLabelRecord)
    ]
    return sum(counts) / len(counts)


def _extent(extent: Extent) -> dict[str, Any]:
    return {key: value for key, value in dataclasses.asdict(extent).items() if key != "scored"}


PAGE = """# Whisper as a teacher

Written by `python benchmarks/whisper_labels.py --model FOLDER --data FOLDER --work FOLDER`; the
numbers are in [whisper.results.json](whisper.results.json). Whisper ({parameters:,} weights, sha256
of the folder `{identity}`) labels real speech with the exact five best of a beam of five,
temperature-free. It sees no transcript; these serve to count its errors.

```
{table}
```

"Oracle" is the hypothesis nearest to the transcript. "Texts" is how many of the five hypotheses are
left on average when those that say the same after normalisation are merged. "Kept" is the share of
utterances that the filters leave at least one hypothesis of, and the WER after filters is that of
the best hypothesis that is left. Filters: {filters}. They were chosen before any result and know no
transcript.

{struck}

CPU seconds are those of `tfkd label` on {hardware}, tracing included.
"""


def page(results: dict[str, Any]) -> str:
    """docs/recipes/whisper.md."""
    rows, struck = [], []
    for name, found in results["corpora"].items():
        quality = found["quality"]
        kept = found["after"]["utterances"] / found["before"]["utterances"]
        rows.append(
            [
                name,
                str(quality["utterances"]),
                _rate(quality["wer"], quality["wer_low"], quality["wer_high"]),
                f"{100 * quality['oracle_wer']:.1f}",
                f"{found['distinct_texts']:.1f}",
                f"{100 * kept:.0f} %",
                _rate(*found["after"]["wer"]),
                f"{found['cpu_seconds_an_utterance']:.2f}",
            ]
        )
        struck += [
            f"- {name}: `{each['reason']}` removes {each['struck']} hypotheses."
            for each in found["filters"]
            if each["struck"]
        ]
    head = ["corpus", "utterances", "WER % (95 %)", "oracle WER %", "texts", "kept",
            "WER % after filters", "CPU s an utterance"]  # fmt: skip
    filters = {k: v for k, v in results["filters"].items() if v != to_dict(FilterConfig())[k]}
    return PAGE.format(
        parameters=results["parameters"],
        identity=results["identity"][:16],
        table=table(head, rows),
        filters=", ".join(f"`{key}: {value}`" for key, value in filters.items()),
        struck="\n".join(struck),
        hardware=results["hardware"],
    )


def _rate(rate: float, low: float, high: float) -> str:
    return f"{100 * rate:.1f} ({100 * low:.1f} - {100 * high:.1f})"


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Labels both corpora; returns the content of the results."""
    options.work.mkdir(parents=True, exist_ok=True)
    teacher = load_teacher(f"whisper:{options.model}")
    return {
        **provenance(),
        "identity": teacher.identity,
        "parameters": parameters(load_whisper(options.model).model),
        "labels": to_dict(CONFIG),
        "filters": to_dict(FILTERS),
        "corpora": {n: labelled(teacher, n, options.data, options.work) for n in CORPORA},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="folder of a Whisper")
    parser.add_argument("--data", type=Path, help="folder of both corpora")
    parser.add_argument("--work", type=Path, help="folder of stores and reports")
    parser.add_argument("--out", type=Path, default=Path("docs/recipes/whisper.results.json"))
    parser.add_argument("--rewrite", action="store_true", help="write the page, measure nothing")
    options = parser.parse_args()
    if options.rewrite:
        results = json.loads(options.out.read_text())
    elif None in (options.model, options.data, options.work):
        parser.error("--model, --data and --work are needed to measure")
    else:
        share_one_heap()
        results = measured(options)
        write_json(options.out, results)
    write_text(options.out.parent / "whisper.md", page(results))
    print(page(results))


if __name__ == "__main__":
    main()
