"""Writes the filter report as one HTML page with inline SVG, which needs no network."""

from __future__ import annotations

import base64
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from tfkd.audio.flac import decode_flac
from tfkd.distillation.filter_report import Distribution, Example, FilterReport
from tfkd.distillation.filters import FILTERS, Filter, Judged
from tfkd.records import UtteranceRecord

# Sizes of the pictures in SVG pixels; a narrow picture keeps its text legible on a phone.
WIDTH, HISTOGRAM_HEIGHT = 400, 150
ALIGNMENT_WIDTH = 420
_BINS = 40
# float32 cannot hold every whole number above this one, so they cannot each have a bar.
_MAX_EXACT_WHOLE = 2**24
# The lowest and the highest values, this percentage of them each, go into the outermost bars.
_TAIL_PERCENT = 0.5
# Phones fail to open much larger pages.
_MAX_AUDIO_BYTES = 16_000_000
_ENVELOPE_COLUMNS = 320
_TOKEN_HEIGHT = 13
_NAME_WIDTH = 60  # room for the name of the last token
_MAX_NAMED_TOKENS = 40


@dataclass(frozen=True)
class Bar:
    """A bin of a histogram, in pixels: the refused part is drawn on top of the kept part."""

    x: float
    width: float
    kept_height: float
    refused_height: float
    title: str


@dataclass(frozen=True)
class Mark:
    """A tick or a limit at `x` pixels."""

    x: float
    label: str


@dataclass(frozen=True)
class Histogram:
    """A Distribution as the page draws it; `names` are the settings that limit its measure."""

    title: str
    names: tuple[str, ...]
    bars: tuple[Bar, ...]
    ticks: tuple[Mark, ...]
    limits: tuple[Mark, ...]
    summary: str


@dataclass(frozen=True)
class TokenMark:
    """The time that attention gives to a token, in pixels.

    Attributes:
      falls_back: whether it lies before the previous token's by more than the tolerance.
    """

    x: float
    y: float
    label: str
    falls_back: bool


@dataclass(frozen=True)
class Alignment:
    """Waveform and tokens over time, in pixels."""

    envelope: str  # the `d` attribute of an SVG path
    tokens: tuple[TokenMark, ...]
    ticks: tuple[Mark, ...]
    height: int


@dataclass(frozen=True)
class Card:
    """An example as the page shows it.

    Attributes:
      audio: FLAC in base64; None where the page has reached its largest size.
      alignment: None where the times of the tokens are unknown.
    """

    example: Example
    audio: str | None
    alignment: Alignment | None


def filter_page(report: FilterReport, pieces: Sequence[str] | None = None) -> str:
    """Renders the report as HTML.

    Args:
      pieces: the pieces of the teacher's tokenizer, which name the tokens in the pictures; without
        them tokens are shown as numbers.
    """
    environment = Environment(
        loader=PackageLoader("tfkd.distillation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = _number
    template = environment.get_template("filter_report.html")
    return template.render(
        report=report,
        histograms=[_histogram(each, report) for each in report.distributions],
        cards=_cards(report, pieces),
        titles={each.reason: each.measure.title for each in FILTERS},
        width=WIDTH,
        alignment_width=ALIGNMENT_WIDTH,
        histogram_height=HISTOGRAM_HEIGHT,
    )


# Histograms.


def _histogram(distribution: Distribution, report: FilterReport) -> Histogram:
    filters = [each for each in FILTERS if each.measure is distribution.measure]
    limits = {each: t for each in filters if (t := each.threshold(report.filters)) is not None}
    values = distribution.values
    names = tuple(each.setting for each in filters)
    unknown = f"; unknown for {distribution.unknown:,}" if distribution.unknown else ""
    if not len(values):
        return Histogram(
            distribution.measure.title, names, (), (), (), f"unknown for {distribution.unknown:,}"
        )
    edges = _edges(values, tuple(limits.values()))
    are_whole = _are_whole(values)

    def x_of(value: float) -> float:
        share = (min(max(value, edges[0]), edges[-1]) - edges[0]) / (edges[-1] - edges[0])
        return round(10 + share * (WIDTH - 20), 1)

    low, middle, high = np.percentile(values.astype(np.float64), (5, 50, 95))
    ticks = _ticks(edges[0], edges[-1], whole=are_whole)
    return Histogram(
        title=distribution.measure.title,
        names=names,
        bars=tuple(_bars(values, edges, x_of, _is_refused(values, filters, report))),
        ticks=tuple(Mark(x_of(value), _number(value)) for value in ticks),
        limits=tuple(
            # A limit on whole numbers is drawn between two bars, since a value at it is kept.
            Mark(x_of(t + (0.5 - each.is_minimum) * are_whole), _number(t))
            for each, t in limits.items()
        ),
        summary=f"{len(values):,} hypotheses, median {_number(middle)}, nine in ten between "
        f"{_number(low)} and {_number(high)}{unknown}",
    )


def _is_refused(values: np.ndarray, filters: Sequence[Filter], report: FilterReport) -> np.ndarray:
    refused = np.zeros(len(values), bool)
    for each in filters:
        threshold = each.threshold(report.filters)
        if threshold is not None:
            # Round the limit to float32, as the values are: a value at the limit is kept.
            limit = np.float32(threshold)
            refused |= values < limit if each.is_minimum else values > limit
    return refused


def _edges(values: np.ndarray, limits: Sequence[float]) -> np.ndarray:
    # In float32 the difference of two extreme values would overflow.
    values = values.astype(np.float64)
    if _are_whole(values) and np.ptp(values) < _BINS:
        return np.arange(values.min(), values.max() + 2) - 0.5
    low, high = np.percentile(values, (_TAIL_PERCENT, 100 - _TAIL_PERCENT))
    low, high = min(low, *limits, high), max(high, *limits, low)
    scale = max(1.0, abs(low), abs(high))
    if high - low < 1e-6 * scale:
        low, high = low - scale / 2, high + scale / 2
    return np.linspace(low, high, _BINS + 1)


def _are_whole(values: np.ndarray) -> bool:
    return np.abs(values).max() < _MAX_EXACT_WHOLE and np.array_equal(values, np.round(values))


def _bars(values: np.ndarray, edges: np.ndarray, x_of, is_refused: np.ndarray):
    # Clip in float64: an edge rounded to float32 can lie outside of the bins, and be lost.
    inside = np.clip(values.astype(np.float64), edges[0], edges[-1])
    kept, _ = np.histogram(inside[~is_refused], edges)
    refused, _ = np.histogram(inside[is_refused], edges)
    scale = (HISTOGRAM_HEIGHT - 40) / max(1, (kept + refused).max())

    def height(count: int) -> float:
        # A bar of one hypothesis among thousands must still be visible.
        return round(max(2.0, count * scale), 1) if count else 0.0

    for number, (left, right) in enumerate(itertools.pairwise(edges)):
        if kept[number] + refused[number]:
            yield Bar(
                x_of(left) + 0.5,
                round(max(1.0, x_of(right) - x_of(left) - 1), 1),
                height(kept[number]),
                height(refused[number]),
                f"{_number(left)} to {_number(right)}: {kept[number]:,} kept, "
                f"{refused[number]:,} refused",
            )


def _ticks(low: float, high: float, *, whole: bool = False) -> list[float]:
    """About five round numbers from `low` to `high`; whole ones if `whole`."""
    step = 10.0 ** math.floor(math.log10((high - low) / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= 6)
    step = max(step, 1.0) if whole else step
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _number(value: float) -> str:
    """A number with three significant digits, without trailing zeros."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 1000 else f"{rounded + 0:g}"


# Examples.


def _cards(report: FilterReport, pieces: Sequence[str] | None) -> list[Card]:
    cards, used = [], 0
    tolerance = report.filters.backward_tolerance_seconds
    for example in report.examples:
        utterance = example.record.utterance
        fits = used + len(utterance.audio) <= _MAX_AUDIO_BYTES
        used += len(utterance.audio) if fits else 0
        cards.append(
            Card(
                example,
                base64.b64encode(utterance.audio).decode() if fits else None,
                _alignment(utterance, example.judged[0], pieces, tolerance),
            )
        )
    return cards


def _alignment(
    utterance: UtteranceRecord,
    judged: Judged,
    pieces: Sequence[str] | None,
    tolerance_seconds: float,
) -> Alignment | None:
    """The best hypothesis over its waveform; None where the times of its tokens are unknown."""
    hypothesis = judged.hypothesis
    if not hypothesis.token_seconds:
        return None
    total = utterance.num_samples / utterance.sample_rate_hz
    # EOS stands for no sound, so its attention has no meaning.
    shown = hypothesis.token_seconds[: -1 if hypothesis.finish_reason == "eos" else None]
    count = max(1, len(shown))
    height = min(360, max(90, _TOKEN_HEIGHT * count + 24))
    tokens, before = [], 0.0
    for step, seconds in enumerate(shown):
        label = _token_name(hypothesis.token_ids[step], pieces)
        tokens.append(
            TokenMark(
                round(min(seconds / total, 1) * (ALIGNMENT_WIDTH - _NAME_WIDTH) + 5, 1),
                round((step + 0.5) / count * (height - 24) + 4, 1),
                label if count <= _MAX_NAMED_TOKENS else "",
                before - seconds > tolerance_seconds,
            )
        )
        before = seconds
    ticks = [
        Mark(round(value / total * (ALIGNMENT_WIDTH - _NAME_WIDTH) + 5, 1), f"{_number(value)} s")
        for value in _ticks(0, total)
    ]
    return Alignment(_envelope(utterance, height - 20), tuple(tokens), tuple(ticks), height)


def _token_name(token_id: int, pieces: Sequence[str] | None) -> str:
    if pieces is None or not 0 <= token_id < len(pieces):
        return str(token_id)
    return pieces[token_id].strip() or "\u2423"


def _envelope(utterance: UtteranceRecord, height: float) -> str:
    """Path data: the loudest sample of each column, up and down from the middle."""
    samples = decode_flac(utterance.audio)
    columns = np.array_split(np.abs(samples), min(_ENVELOPE_COLUMNS, len(samples)))
    peaks = np.array([column.max() for column in columns])
    peaks *= 0.48 * height / max(float(peaks.max()), 1e-4)
    xs = 5 + (np.arange(len(peaks)) + 0.5) / len(peaks) * (ALIGNMENT_WIDTH - _NAME_WIDTH)
    upper = [f"{x:.1f},{height / 2 - peak:.1f}" for x, peak in zip(xs, peaks, strict=True)]
    lower = [f"{x:.1f},{height / 2 + peak:.1f}" for x, peak in zip(xs, peaks, strict=True)]
    return f"M{' '.join(upper)} {' '.join(reversed(lower))}Z"
