"""Formats the results of `tfkd run` as a table, as sentences that say what won, and as a page."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tfkd.distillation.label_quality import TEST_LABELS
from tfkd.metrics import COMPARISON_SAMPLES, least_p_value
from tfkd.reporting.tables import human_bytes, table

# What the systems of a run are, in words. A number at the end counts generations.
_WORDS = {
    "teacher": "the teacher",
    "student-truth": "the same student on the transcripts",
    "student-truth-all": "the same student on the transcripts of all audio",
}
# Names the row of a teacher that is no run of tfkd, a Whisper for example.
LABELS_OF_TEACHER = "teacher (its labels)"
# Said in place of comparisons.
WORDLESS = "No transcript of the test set has a word, so there are no rates, only insertions."
_SIGNIFICANT = 0.05
# Resamples from which this version and earlier ones compute p-values.
_SAMPLES = (COMPARISON_SAMPLES, 1000)
# A WER beyond which a system says next to nothing of what was said.
_HARDLY_ANY_WORD = 0.9


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


def labels_wer(results: Mapping[str, Any]) -> float | None:
    """WER of the teacher's labels of the test set, which stand for a teacher that is no run."""
    on_test = (results.get("labels") or {}).get(TEST_LABELS)
    return on_test and on_test["wer"]


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
            f"{first['utterances']} utterances, {first['words']} words. RTF: seconds of computing "
            "per second of audio, Keras and SavedModel in batches, .tflite one by one on a thread.",
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


def transcribed_sentence(data: Mapping[str, Any]) -> str:
    """Writes a sentence that says how much of the audio has transcripts."""
    return (
        f"{data['transcribed_utterances']} of {data['utterances']} utterances to learn from have a "
        f"transcript ({data['transcribed_hours']:.2f} of {data['hours']:.2f} h)."
    )


def reference_sentences(results: Mapping[str, Any]) -> Iterator[str]:
    """Yields a sentence if errors are not counted against what people wrote down."""
    # Results of older versions do not say: their test sets had to have transcripts.
    if not results.get("is_test_transcribed", True):
        yield (
            "Nobody has transcribed the test set: an error is what differs from the teacher's best "
            f"hypothesis ({TEST_LABELS}), which has errors of its own."
        )


def comparison(
    one: str, other: str, rates: tuple[float, float], difference: Mapping[str, float]
) -> str:
    """Writes a sentence: which of two systems won, by how much, and how sure that is.

    Args:
      rates: WER of both, as shares.
      difference: WER of the first minus the second with its interval, as `metrics.Difference`.
    """
    points = f"{100 * difference['wer']:+.2f} points"
    interval = f"95 % interval {100 * difference['low']:+.2f} to {100 * difference['high']:+.2f}"
    p_value = difference.get("p_value")
    is_clear = difference["low"] > 0 or difference["high"] < 0
    if p_value is not None:
        is_clear = p_value < _SIGNIFICANT
        shown = p_value_text(p_value)
        interval += f", p {shown}" if shown.startswith("<") else f", p = {shown}"
    if min(rates) > _HARDLY_ANY_WORD:
        start = f"Neither {one} nor {other} has learned to listen (docs/guide/training.md)"
    elif not is_clear:
        start = f"This test set cannot tell {one} from {other}"
    elif difference["wer"] < 0:
        start = f"{_capital(one)} beats {other}"
    else:
        start = f"{_capital(one)} does worse than {other}"
    percents = " against ".join(f"{100 * rate:.2f}" for rate in rates)
    return f"{start}: {percents} % word errors ({points}, {interval})."


def p_value_text(p_value: float) -> str:
    """Writes a p-value; the least one of a bootstrap is only an upper limit.

    >>> p_value_text(2 / 10_001), p_value_text(6 / 10_001), p_value_text(0.0126)
    ('< 0.0002', '0.0006', '0.013')
    """
    digits = 4 if p_value < 0.001 else 3
    is_limit = any(math.isclose(p_value, least_p_value(samples)) for samples in _SAMPLES)
    return f"{'< ' if is_limit else ''}{p_value:.{digits}f}"


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def label_sentences(
    labels: Mapping[str, Mapping[str, Any] | None], has_words: bool = True
) -> Iterator[str]:
    """Yields a sentence for each store: its label errors by transcripts that the teacher lacked.

    Args:
      has_words: whether a transcript of the test set has a word.
    """
    for name, quality in labels.items():
        is_test = name == TEST_LABELS
        if quality is not None and (has_words or not is_test):
            which = "of the test set" if is_test else "whose transcript was set aside"
            yield (
                f"The labels of {quality['utterances']} utterances {which} ({name}) have "
                f"{100 * quality['wer']:.2f} % WER, the best of each list of hypotheses "
                f"{100 * quality['oracle_wer']:.2f} %."
            )


def _differences(results: Mapping[str, Any]) -> Mapping[str, Mapping[str, float]]:
    """Returns the best student minus others; results of older versions hold only one of these."""
    if "differences" in results:
        return results["differences"]
    gain = results["seq_kd_minus_truth"]
    return {"student-truth": {"wer": gain["wer"], "low": gain["wer_low"], "high": gain["wer_high"]}}


def provenance_line(results: Mapping[str, Any]) -> str:
    """Writes when, on which machine and with which packages results were made."""
    versions = ", ".join(f"{name} {number}" for name, number in results["versions"].items())
    return f"{results['date']}; {results['hardware']}; {versions}"


def path_from(folder: str | Path, file: str | Path) -> str:
    """Writes the path of a file as seen from a folder, or its name if the two share only the root.

    >>> path_from("pages", "work/results.json"), path_from("/home/me", "/data/results.json")
    ('../work/results.json', 'results.json')
    """
    start, end = os.path.abspath(folder), os.path.abspath(file)
    # A way through the root would hold the absolute path of this machine.
    is_through_root = os.path.commonpath([start, end]) == os.path.sep
    return os.path.basename(end) if is_through_root else os.path.relpath(end, start)


def heading(title: str) -> str:
    r"""Writes the first heading of a page; its title shows as it is given.

    >>> print(heading("Digits <b>"))
    # Digits \<b\>
    """
    return "# " + re.sub(r"[\\`*_~\[\]<>&|#]", r"\\\g<0>", title)


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
        heading(title),
        "",
        f"Written by `tfkd report` from the results of a run, `{source}`.",
        "",
        *(f"- {sentence}" for sentence in verdicts(results)),
        "",
        "```",
        systems_table(systems, labels_wer(results)),
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
        _wall_time(results["stage_seconds"]),
        "",
        "; ".join([provenance_line(results), ", ".join(seeds)]) + ".",
    ]
    return "\n".join(lines) + "\n"
