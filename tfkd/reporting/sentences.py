"""Sentences and headings that the pages of runs and of sweeps share."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfkd.distillation.label_quality import TEST_LABELS
from tfkd.metrics import COMPARISON_SAMPLES, corrected_for_many, least_p_value

# Names the row of a teacher that is no run of tfkd, a Whisper for example.
LABELS_OF_TEACHER = "teacher (its labels)"
# Said in place of comparisons.
WORDLESS = "No transcript of the test set has a word, so there are no rates, only insertions."
# Explains a column of the tables.
RTF_SENTENCE = (
    "RTF: seconds of computing per second of audio, Keras and SavedModel in batches, .tflite one "
    "by one on a thread."
)
_SIGNIFICANT = 0.05
# Resamples from which this version and earlier ones compute p-values.
_SAMPLES = (COMPARISON_SAMPLES, 1000)
# A WER beyond which a system says next to nothing of what was said.
_HARDLY_ANY_WORD = 0.9


def opening(
    title: str, origin: str, sources: Sequence[str], sentences: Iterable[str], shown: str
) -> list[str]:
    """Lists the first lines of a page: title, source, sentences and a table.

    Args:
      origin: what the results are of.
      sources: paths of the results as the page names them.
      shown: the table.
    """
    return [
        heading(title),
        "",
        f"Written by `tfkd report` from the results of {_some(origin, len(sources))}, "
        + ", ".join(f"`{source}`" for source in sources)
        + ".",
        "",
        *(f"- {sentence}" for sentence in sentences),
        "",
        "```",
        shown,
        "```",
        "",
    ]


def _some(origin: str, count: int) -> str:
    return f"a {origin}" if count == 1 else f"{count} {origin}s"


def heading(title: str) -> str:
    r"""Writes the first heading of a page; its title shows as it is given.

    >>> print(heading("Digits <b>"))
    # Digits \<b\>
    """
    return "# " + re.sub(r"[\\`*_~\[\]<>&|#]", r"\\\g<0>", title)


def labels_wer(results: Mapping[str, Any]) -> float | None:
    """WER of the teacher's labels of the test set, which stand for a teacher that is no run."""
    on_test = (results.get("labels") or {}).get(TEST_LABELS)
    return on_test and on_test["wer"]


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
    one: str,
    other: str,
    rates: tuple[float, float],
    difference: Mapping[str, float],
    p_values: Sequence[float] = (),
) -> str:
    """Writes a sentence: which of two systems won, by how much, and how sure that is.

    Args:
      rates: WER of both, as shares.
      difference: WER of the first minus the second with its interval, as `metrics.Difference`.
      p_values: of all comparisons of which this one was chosen, if there are others.
    """
    points = f"{100 * difference['wer']:+.2f} points"
    interval = f"95 % interval {100 * difference['low']:+.2f} to {100 * difference['high']:+.2f}"
    p_value = difference.get("p_value")
    is_clear = difference["low"] > 0 or difference["high"] < 0
    if p_value is not None:
        shown = p_value_text(p_value)
        interval += f", p {shown}" if shown.startswith("<") else f", p = {shown}"
        if len(p_values) > 1:
            p_value = corrected_for_many(p_values)[list(p_values).index(p_value)]
            interval += f", corrected for {len(p_values)} comparisons {p_value_text(p_value)}"
        is_clear = p_value < _SIGNIFICANT
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
            # Results of earlier versions compared with hidden transcripts alone.
            are_hidden = quality.get("are_transcripts_hidden", True)
            known = "that have a transcript, which the teacher may have learned"
            which = "whose transcript was set aside" if are_hidden else known
            which = "of the test set" if is_test else which
            yield (
                f"The labels of {quality['utterances']} utterances {which} ({name}) have "
                f"{100 * quality['wer']:.2f} % WER, the best of each list of hypotheses "
                f"{100 * quality['oracle_wer']:.2f} %."
            )


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
