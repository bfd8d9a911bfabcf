"""What `tfkd run` found: a table, a sentence that says what won, and a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tfkd.reporting.tables import human_bytes, table

# What the systems of a run are, in words. A number at the end counts generations.
_WORDS = {
    "teacher": "the teacher",
    "student-truth": "the same student on the transcripts",
    "student-truth-all": "the same student on the transcripts of all audio",
}
_SIGNIFICANT = 0.05


def systems_table(systems: Mapping[str, Mapping[str, Any]]) -> str:
    """One row a system: errors, sizes and speed, with the compression against the first."""
    header = ["system", "WER %", "95 % interval", "CER %", "ins", "del", "sub", "parameters",
              "ratio", "size", "RTF"]  # fmt: skip
    largest = max(system["parameters"] for system in systems.values())
    rows = [
        [
            name,
            f"{100 * s['wer']:.2f}",
            f"{100 * s['wer_low']:.2f} - {100 * s['wer_high']:.2f}",
            f"{100 * s['cer']:.2f}",
            str(s["insertions"]),
            str(s["deletions"]),
            str(s["substitutions"]),
            f"{s['parameters']:,}",
            f"{largest / s['parameters']:.1f}x",
            human_bytes(s["bytes"]),
            f"{s['rtf']:.4f}",
        ]
        for name, s in systems.items()
    ]
    return table(header, rows)


def results_report(results: Mapping[str, Any]) -> str:
    """The closing table of `tfkd run`, and in a sentence what distillation gave."""
    systems = results["systems"]
    first = next(iter(systems.values()))
    return "\n".join(
        [
            systems_table(systems),
            "",
            f"{first['utterances']} utterances, {first['words']} words. RTF: seconds of computing "
            "per second of audio, Keras and SavedModel in batches, .tflite one by one on a thread.",
            "",
            *verdicts(results),
        ]
    )


def verdicts(results: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each system that the best student on pseudo labels is compared with."""
    systems, differences = results["systems"], _differences(results)
    name = results.get("student", "student-seq_kd")
    rate = f"{100 * systems[name]['wer']:.2f} %"
    if data := results.get("training_data"):
        yield (
            f"{data['transcribed_utterances']} of {data['utterances']} utterances to learn from "
            f"have a transcript ({data['transcribed_hours']:.2f} of {data['hours']:.2f} h)."
        )
    for other, difference in differences.items():
        yield (
            f"The student on pseudo labels ({name}) makes {rate} word errors, "
            f"{_WORDS[other]} {100 * systems[other]['wer']:.2f} %: {outcome(difference)}."
        )
    yield from label_sentences(results.get("labels") or {})


def outcome(difference: Mapping[str, float]) -> str:
    """Whether the first of two systems won, by how much, and how sure that is."""
    points = 100 * difference["wer"]
    interval = f"95 % interval {100 * difference['low']:+.2f} to {100 * difference['high']:+.2f}"
    p_value = difference.get("p_value")
    sure = f"{interval}, p = {p_value:.3f}" if p_value is not None else interval
    is_clear = difference["low"] > 0 or difference["high"] < 0
    if p_value is not None:
        is_clear = p_value < _SIGNIFICANT
    if not is_clear:
        return f"no difference that this test set could show, {points:+.2f} points ({sure})"
    return f"{'better' if points < 0 else 'worse'} by {abs(points):.2f} points ({sure})"


def label_sentences(labels: Mapping[str, Mapping[str, Any] | None]) -> Iterator[str]:
    """How good the labels are of audio whose transcript was set aside, a sentence a store."""
    for name, quality in labels.items():
        if quality is not None:
            yield (
                f"The labels of {quality['utterances']} utterances whose transcript was set aside "
                f"({name}) have {100 * quality['wer']:.2f} % WER, the best of each list of "
                f"hypotheses {100 * quality['oracle_wer']:.2f} %."
            )


def _differences(results: Mapping[str, Any]) -> Mapping[str, Mapping[str, float]]:
    """The best student minus others; results of the first versions hold one of them."""
    if "differences" in results:
        return results["differences"]
    gain = results["seq_kd_minus_truth"]
    return {"student-truth": {"wer": gain["wer"], "low": gain["wer_low"], "high": gain["wer_high"]}}


def provenance_line(results: Mapping[str, Any]) -> str:
    """When, on what machine and with which packages results were made."""
    versions = ", ".join(f"{name} {number}" for name, number in results["versions"].items())
    return f"{results['date']}; {results['hardware']}; {versions}"


def results_markdown(results: Mapping[str, Any], title: str) -> str:
    """A page for docs/recipes: every figure of results.json that a reader compares."""
    systems = results["systems"]
    first = next(iter(systems.values()))
    seconds = results["stage_seconds"]
    parity = [
        [
            row["format"],
            human_bytes(row["bytes"]),
            f"{row['identical']:.1%} of {row['utterances']}",
            f"{100 * row['wer_change']:+.2f}",
        ]
        for row in results["parity"]
    ]
    roles = {role: results["config"].get(role) for role in ("teacher", "student")}
    seeds = [
        f"{role} seed {system['training']['seed']}"
        for role, system in roles.items()
        if isinstance(system, dict)
    ]
    lines = [
        f"# {title}",
        "",
        "Written by `tfkd report` from the results of a run, which lie beside this page.",
        "",
        *verdicts(results),
        "",
        "```",
        systems_table(systems),
        "```",
        "",
        f"Test set: {first['utterances']} utterances, {first['words']} words, "
        f"{first['audio_seconds'] / 60:.1f} minutes. Intervals: bootstrap over utterances.",
        "",
        "Exports against Keras on validation utterances (WER change in points):",
        "",
        "```",
        table(["form", "size", "same ids", "WER change"], parity),
        "```",
        "",
        "Wall time in minutes: "
        + ", ".join(f"{name} {value / 60:.1f}" for name, value in seconds.items())
        + f"; together {sum(seconds.values()) / 60:.1f}.",
        "",
        "; ".join([provenance_line(results), ", ".join(seeds)]) + ".",
    ]
    return "\n".join(lines) + "\n"
