"""Formats the results of `tfkd sweep` as a table, as sentences that say what won, as a page."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tfkd.reporting.sentences import (
    LABELS_OF_TEACHER,
    RTF_SENTENCE,
    WORDLESS,
    comparison,
    label_sentences,
    labels_wer,
    opening,
    p_value_text,
    provenance_line,
    reference_sentences,
    transcribed_sentence,
)
from tfkd.reporting.tables import human_bytes, table


def sweep_table(results: Mapping[str, Any]) -> str:
    """Formats one row for each student, best first; WER and minutes are means over its seeds.

    Where students were exported, the last columns are of their exports; see `sweep_sentences`.
    """
    header = ["student", "seeds", "WER %", "spread", "95 % interval", "against baseline", "p",
              "parameters", "ratio", "size", "RTF"]  # fmt: skip
    has_times = any(_minutes(row) != "-" for row in results["rows"].values())
    if has_times:
        header.insert(-1, "minutes")
    has_words, has_exports = _has_words(results), bool(_export_form(results))
    if has_exports:
        header += ["export WER %", "export size", "export RTF"]
    teacher = results["teacher"]
    ranked = sorted(results["rows"].items(), key=lambda item: item[1]["wer"])
    largest = max(
        row["parameters"] for row in (*results["rows"].values(), teacher or {"parameters": 0})
    )

    def line(name: str, row: Mapping[str, Any], *seeds_and_comparison: str) -> list[str]:
        seeds, spread, difference, p_value = seeds_and_comparison
        wer, interval = (
            f"{100 * row['wer']:.2f}",
            f"{100 * row['wer_low']:.2f} - {100 * row['wer_high']:.2f}",
        )
        if not has_words:
            wer = interval = spread = difference = p_value = "-"
        return [
            name,
            seeds,
            wer,
            spread,
            interval,
            difference,
            p_value,
            f"{row['parameters']:,}",
            f"{largest / row['parameters']:.1f}x",
            human_bytes(row["bytes"]),
            *([_minutes(row)] if has_times else []),
            f"{_rtf(row):.4f}",
            *(_of_export(row.get("export"), has_words) if has_exports else []),
        ]

    first = []
    if teacher:
        # Results of several sweeps may have several teachers.
        count = str(len(teacher.get("seeds", [teacher])))
        first = [line("teacher", teacher, count, _spread(teacher), "-", "-")]
    if (wer := labels_wer(results)) is not None:
        shown = f"{100 * wer:.2f}" if has_words else "-"
        first = [[LABELS_OF_TEACHER, "-", shown, *["-"] * (len(header) - 3)]]
    rows = [
        line(name, row, str(len(row["seeds"])), _spread(row), *_against(name, row))
        for name, row in ranked
    ]
    return table(header, [*first, *rows])


def _has_words(results: Mapping[str, Any]) -> bool:
    """Whether a transcript of the test set has a word; without one there is no rate."""
    measured = [seed for row in results["rows"].values() for seed in row["seeds"]]
    return not measured or any(each["words"] for each in measured)


def _of_export(export: Mapping[str, Any] | None, has_words: bool) -> list[str]:
    if not export:
        return ["-"] * 3
    wer = f"{100 * export['wer']:.2f}" if has_words else "-"
    return [wer, human_bytes(export["bytes"]), f"{export['rtf']:.4f}"]


def _export_form(results: Mapping[str, Any]) -> str | None:
    """The form in which a sweep exports its students; earlier versions exported none."""
    return results["config"]["sweep"].get("export")


def _minutes(row: Mapping[str, Any]) -> str:
    """Mean wall time of the trainings; that of a teacher and of earlier versions is not known."""
    times = [seed.get("training_seconds") for seed in row.get("seeds", [{}])]
    return "-" if None in times else f"{sum(times) / len(times) / 60:.1f}"


def _rtf(row: Mapping[str, Any]) -> float:
    """That of the fastest seed; results of earlier versions have the mean over the seeds."""
    return min((seed["rtf"] for seed in row.get("seeds", ())), default=row["rtf"])


def _spread(row: Mapping[str, Any]) -> str:
    deviation = row.get("wer_deviation")
    return "-" if deviation is None else f"{100 * deviation:.2f}"


def _against(name: str, row: Mapping[str, Any]) -> tuple[str, str]:
    if name == row["baseline"] or "difference" not in row:
        return "-", "-"
    difference = row["difference"]
    return f"{100 * difference['wer']:+.2f}", p_value_text(difference["p_value"])


def _rates_of_common_seeds(
    own: Mapping[str, Any], baseline: Mapping[str, Any]
) -> tuple[float, float]:
    """The mean WER of both rows over the seeds that both have, which alone are compared."""
    rows = (own, baseline)
    first, second = ({each["seed"]: each["wer"] for each in row["seeds"]} for row in rows)
    common = first.keys() & second.keys()
    return (
        statistics.fmean(first[seed] for seed in common),
        statistics.fmean(second[seed] for seed in common),
    )


def _has_other_seeds_than_its_baseline(
    row: Mapping[str, Any], rows: Mapping[str, Mapping[str, Any]]
) -> bool:
    """Whether the difference of a row leaves out seeds of the row or of its baseline."""
    if "difference" not in row:
        return False
    own, others = ({each["seed"] for each in of["seeds"]} for of in (row, rows[row["baseline"]]))
    return own != others


def sweep_sentences(results: Mapping[str, Any]) -> Iterator[str]:
    """Yields sentences: how much audio was transcribed, what won, how good the labels were."""
    rows = results["rows"]
    # Results of earlier versions know no students that learn every transcript.
    of_all = results.get("of_all_transcripts", [])
    compared = (*results["baselines"], *of_all)
    others = {name: row for name, row in rows.items() if name not in compared}
    rival = "student on labels" if _learns_truth(results) else "other student"
    yield transcribed_sentence(results["training_data"])
    yield from reference_sentences(results)
    has_words = _has_words(results)
    if not has_words:
        yield WORDLESS
    for baseline in results["baselines"] if has_words else ():
        rivals = {
            n: row
            for n, row in others.items()
            if row["baseline"] == baseline and "difference" in row
        }
        if rivals:
            name = min(rivals, key=lambda each: rivals[each]["wer"])
            rates = _rates_of_common_seeds(rivals[name], rows[baseline])
            one, other = f"the best {rival} ({name})", f"its baseline ({baseline})"
            differences = [row["difference"] for row in rivals.values()]
            p_values = [each["p_value"] for each in differences if "p_value" in each]
            yield comparison(one, other, rates, rivals[name]["difference"], p_values)
    for name in of_all if has_words else ():
        if name in rows:
            yield (
                f"The same student, told every transcript ({name}), makes "
                f"{100 * rows[name]['wer']:.2f} % word errors."
            )
    if any(_has_other_seeds_than_its_baseline(row, rows) for row in rows.values()):
        yield (
            "Where a student has other seeds than its baseline, the difference is over the seeds "
            "that both have."
        )
    yield from label_sentences(results["labels"], has_words)
    yield from _export_sentences(results)
    failed = results.get("failed", {})
    if waiting := [name for name in results["unfinished"] if name not in failed]:
        yield f"Not finished yet: {', '.join(waiting)}."
    for name, error in failed.items():
        yield f"{name} failed: {error}"


def _export_sentences(results: Mapping[str, Any]) -> Iterator[str]:
    """Yields sentences about the exports of a sweep: what they are, and which are missing."""
    form = _export_form(results)
    if not form:
        return
    rows = results["rows"]
    missing = [name for name, row in rows.items() if not row["export"]]
    is_whole = not missing and not results.get("failed")
    parity = "; each export gave what Keras gives, within the limits of the config"
    yield f"Students are exported as {form}{parity if is_whole else ''}. {RTF_SENTENCE}"
    if missing:
        yield f"No export yet, or one that differs from Keras: {', '.join(missing)}."


def sweep_report(results: Mapping[str, Any]) -> str:
    """Formats the table that `tfkd sweep` ends with, and the sentences about it."""
    return "\n".join(["", sweep_table(results), "", *sweep_sentences(results)])


def sweep_markdown(
    results: Mapping[str, Any], title: str, sources: Sequence[str], figures: Mapping[str, str]
) -> str:
    """Formats a page for docs/recipes.

    Args:
      sources: paths of the results as the page names them.
      figures: names of image files beside the page, by what they show.
    """
    some_row = next(iter(results["rows"].values()))
    first = some_row["seeds"][0]
    lines = [
        *opening(title, "sweep", sources, sweep_sentences(results), sweep_table(results)),
        f"Test set: {first['utterances']} utterances, {first['words']} words. WER is the mean over "
        "the seeds, spread its standard deviation; "
        + (
            f"interval and p-value are of the mean, by a paired bootstrap over {_drawn(results)} "
            f"against {_baselines(results)}."
            if results["baselines"]
            else f"the interval is of the mean, by a bootstrap over {_drawn(results)}."
        )
        + " RTF is wall time, of the fastest seed; other work on the machine makes it larger.",
        "",
        *(f"![{what}]({name})\n" for what, name in figures.items()),
        f"{provenance_line(results)}.",
    ]
    return "\n".join(lines) + "\n"


def _drawn(results: Mapping[str, Any]) -> str:
    """Says what the bootstrap drew."""
    has_several = any(len(row["seeds"]) > 1 for row in results["rows"].values())
    return results.get("resampled", "utterances") if has_several else "utterances"


def _baselines(results: Mapping[str, Any]) -> str:
    """Says what the rows are compared with."""
    rows, names = results["rows"], " or ".join(results["baselines"])
    pairs = [(row, rows[row["baseline"]]) for row in rows.values() if row["baseline"] in rows]
    is_of_size = all(own["parameters"] == baseline["parameters"] for own, baseline in pairs)
    said = f"the baseline of the same size ({names})" if is_of_size else f"the baseline ({names})"
    if not _learns_truth(results):
        return said
    return f"{said}, which takes as many optimizer steps as a student that learns every label"


def _learns_truth(results: Mapping[str, Any]) -> bool:
    """Whether the baselines of a sweep learn transcripts."""
    compared = results["config"]["sweep"]["baseline"]
    return compared.get("student.training.objective.kind") == "truth"
