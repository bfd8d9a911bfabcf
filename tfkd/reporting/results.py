"""Formats the results of `tfkd run` as a table, as sentences that say what won, and as a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tfkd.reporting.sentences import (
    LABELS_OF_TEACHER,
    RTF_SENTENCE,
    WORDLESS,
    comparison,
    label_sentences,
    labels_wer,
    opening,
    provenance_line,
    reference_sentences,
    transcribed_sentence,
)
from tfkd.reporting.tables import human_bytes, table

# What the systems of a run are, in words. A number at the end counts generations.
_WORDS = {
    "teacher": "the teacher",
    "student-truth": "the same student on the transcripts",
    "student-truth-all": "the same student on the transcripts of all audio",
}


def systems_table(
    systems: Mapping[str, Mapping[str, Any]], teacher_wer: float | None = None
) -> str:
    """Formats one row for each system: errors, sizes, speed, and the ratio to the largest one.

    Where no transcript has a word, there are no rates, only insertions.

    Args:
      systems: figures of each system, by name.
      teacher_wer: WER of a teacher that is no run of tfkd, as a share.
    """
    header = ["system", "WER %", "95 % interval", "CER %", "ins", "del", "sub", "parameters",
              "ratio", "size", "RTF"]  # fmt: skip
    largest = max(system["parameters"] for system in systems.values())
    rows = [
        [
            name,
            *_rates(s),
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
    if teacher_wer is not None:
        nothing = ["-"] * (len(header) - 2)
        shown = f"{100 * teacher_wer:.2f}" if _has_words(systems) else "-"
        rows.insert(0, [LABELS_OF_TEACHER, shown, *nothing])
    return table(header, rows)


def _has_words(systems: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a transcript of the test set has a word; without one there is no rate."""
    return any(system["words"] for system in systems.values())


def _rates(system: Mapping[str, Any]) -> list[str]:
    """WER, its interval and CER, in per cent."""
    if not system["words"]:
        return ["-"] * 3
    wer, low, high, cer = (
        f"{100 * system[name]:.2f}" for name in ("wer", "wer_low", "wer_high", "cer")
    )
    return [wer, f"{low} - {high}", cer]


def results_report(results: Mapping[str, Any]) -> str:
    """Formats the table that `tfkd run` ends with, and the sentences about it."""
    systems = results["systems"]
    first = next(iter(systems.values()))
    return "\n".join(
        [
            systems_table(systems, labels_wer(results)),
            "",
            f"{first['utterances']} utterances, {first['words']} words. {RTF_SENTENCE}",
            "",
            *verdicts(results),
        ]
    )


def verdicts(results: Mapping[str, Any]) -> Iterator[str]:
    """Yields sentences: how much audio was transcribed, what won, how good the labels were."""
    differences, labels = _differences(results), results.get("labels") or {}
    name = results.get("student", "student-seq_kd")
    rate_of = {each: system["wer"] for each, system in results["systems"].items()}
    # A teacher that is not a run of tfkd is measured by its labels of the test set.
    if (wer := labels_wer(results)) is not None:
        rate_of["teacher"] = wer
    if data := results.get("training_data"):
        yield transcribed_sentence(data)
    yield from reference_sentences(results)
    # The baselines come first: whether labels help is what everybody asks.
    has_words = _has_words(results["systems"])
    if not has_words:
        yield WORDLESS
        differences = {}
    for other in sorted(differences, key="teacher".__eq__):
        rates = rate_of[name], rate_of[other]
        yield comparison(
            f"the student on pseudo labels ({name})", _WORDS[other], rates, differences[other]
        )
    yield from label_sentences(labels, has_words)


def _differences(results: Mapping[str, Any]) -> Mapping[str, Mapping[str, float]]:
    """Returns the best student minus others; results of older versions hold only one of these."""
    if "differences" in results:
        return results["differences"]
    gain = results["seq_kd_minus_truth"]
    return {"student-truth": {"wer": gain["wer"], "low": gain["wer_low"], "high": gain["wer_high"]}}


def _wall_time(seconds: Mapping[str, float | None]) -> str:
    """Writes the minutes of stages; those that the run found finished have none."""
    minutes = {name: value / 60 for name, value in seconds.items() if value is not None}
    found = ", ".join(name for name in seconds if name not in minutes)
    without = f", without what was finished before, by a sweep for example: {found}"
    return (
        "Wall time in minutes before the evaluation: "
        + ", ".join(f"{name} {value:.1f}" for name, value in minutes.items())
        + f"; together {sum(minutes.values()):.1f}{without if found else ''}."
    )


def results_markdown(results: Mapping[str, Any], title: str, source: str) -> str:
    """Formats a page for docs/recipes: every figure of results.json that a reader compares.

    Args:
      source: path of the results as the page names it.
    """
    systems = results["systems"]
    first = next(iter(systems.values()))
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
        *opening(
            title, "run", [source], verdicts(results), systems_table(systems, labels_wer(results))
        ),
        f"Test set: {first['utterances']} utterances, {first['words']} words, "
        f"{first['audio_seconds'] / 60:.1f} minutes. Intervals: bootstrap over utterances.",
        "",
        "Exports against Keras on validation utterances (WER change in points):",
        "",
        "```",
        table(["form", "size", "same ids", "WER change"], parity),
        "```",
        "",
        _wall_time(results["stage_seconds"]),
        "",
        "; ".join([provenance_line(results), ", ".join(seeds)]) + ".",
    ]
    return "\n".join(lines) + "\n"
