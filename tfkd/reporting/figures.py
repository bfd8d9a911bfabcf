"""Draws the figures of a sweep as SVG and PNG with matplotlib (`pip install 'tfkd[report]'`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfkd.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

_FORMATS = ("svg", "png")
_PARETO = "Word errors against size"
_SPEED = "Word errors against speed of the exports"
_CURVES = "Validation WER while the students learn"
# Labels of systems whose costs differ by less than this factor would overlap.
_LABEL_WIDTH = 1.5


def save_figures(results: Mapping[str, Any], page: Path) -> dict[str, str]:
    """Draws a sweep's figures beside a page.

    Returns:
      The name of the SVG of each, by what it shows; a PNG of the same name lies beside it.
    Raises:
      ConfigError: if matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise ConfigError(
            "figures need matplotlib", remedy="pip install '.[report]' in tfkd's folder"
        ) from error
    # Equal results give equal files.
    matplotlib.rcParams["svg.hashsalt"] = "tfkd"
    drawn = {_PARETO: ("pareto", pareto(results)), _CURVES: ("curves", curves(results))}
    if any(row.get("export") for row in results["rows"].values()):
        drawn[_SPEED] = ("speed", speed(results))
    names = {}
    for what, (name, figure) in drawn.items():
        for form in _FORMATS:
            metadata = {"Date": None} if form == "svg" else None
            path = page.with_name(f"{page.stem}.{name}.{form}")
            figure.savefig(path, dpi=150, metadata=metadata, bbox_inches="tight")
        names[what] = f"{page.stem}.{name}.svg"
    return names


def pareto(results: Mapping[str, Any]) -> Figure:
    """Draws WER over size: each student with its interval, the teacher, and the best by size."""
    teacher = {"teacher": results["teacher"]} if results["teacher"] else {}
    systems = {**results["rows"], **teacher}
    sizes = {name: row["bytes"] / 1e6 for name, row in systems.items()}
    return _errors_against("size of the weights file, MB", sizes, systems, results)


def speed(results: Mapping[str, Any]) -> Figure:
    """Draws WER over real-time factor: each export with its interval, and the best by speed."""
    rows = results["rows"].items()
    exports = {name: row["export"] for name, row in rows if row.get("export")}
    factors = {name: export["rtf"] for name, export in exports.items()}
    label = "real-time factor of the export: seconds of computing per second of audio"
    return _errors_against(label, factors, exports, results)


def _errors_against(
    x_label: str,
    costs: Mapping[str, float],
    systems: Mapping[str, Mapping[str, Any]],
    results: Mapping[str, Any],
) -> Figure:
    """Draws WER over a cost of each system, and a line through those that no other one beats."""
    figure, axes = _canvas(x_label, "word error rate, %")
    for name, row in systems.items():
        wer, low, high = (100 * row[key] for key in ("wer", "wer_low", "wer_high"))
        axes.errorbar(costs[name], wer, [[max(0, wer - low)], [max(0, high - wer)]],
                      fmt="o", color=_colour(name, results), capsize=3, linewidth=1)  # fmt: skip
    rates = {name: 100 * row["wer"] for name, row in systems.items()}
    front = _front([(costs[name], rate) for name, rate in rates.items()])
    axes.step(*zip(*front, strict=True), where="post", color="0.6", linewidth=1, zorder=0)
    highest = 100 * max(row["wer_high"] for row in systems.values())
    gap = 0.045 * highest
    heights = _label_heights(costs, rates, gap)
    # Labels outside of the axes would not be drawn.
    axes.set_ylim(0, max(1.1 * highest, *(height + gap for height in heights.values())) or 1)
    for name, height in heights.items():
        label = f"{name} (baseline)" if name in results["baselines"] else name
        colour = _colour(name, results)
        axes.annotate(
            label, (costs[name], height), xytext=(8, 0), textcoords="offset points",
            fontsize=8, color=colour, va="center",
        )  # fmt: skip
    axes.set_xscale("log")
    _write_out(axes.xaxis)
    axes.margins(x=0.3)
    return figure


def _colour(name: str, results: Mapping[str, Any]) -> str:
    if name == "teacher":
        return "black"
    if name in results.get("of_all_transcripts", ()):
        return "tab:green"
    return "tab:red" if name in results["baselines"] else "tab:blue"


def _label_heights(
    costs: Mapping[str, float], rates: Mapping[str, float], gap: float
) -> dict[str, float]:
    """Returns heights of labels, in % WER, so that those of about one cost do not overlap."""
    heights: dict[str, float] = {}
    for name in sorted(rates, key=rates.__getitem__):
        beside = [
            height
            for other, height in heights.items()
            if 1 / _LABEL_WIDTH < costs[other] / costs[name] < _LABEL_WIDTH
        ]
        heights[name] = max([rates[name], *(height + gap for height in beside)])
    return heights


def _front(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Returns the Pareto front: the points than which none is both smaller and better, by size."""
    front: list[tuple[float, float]] = []
    for size, wer in sorted(points):
        if not front or wer < front[-1][1]:
            front.append((size, wer))
    return front


def curves(results: Mapping[str, Any]) -> Figure:
    """Draws the validation WER of every student over its training, for the first seed of each.

    All students take the same number of optimizer steps, but in epochs of different lengths.
    """
    seeds = {name: row["seeds"][0] for name, row in results["rows"].items()}
    rates = {100 * rate for seed in seeds.values() for rate in seed["validation_curve"]}
    # A logarithmic axis has no place for zero, which is drawn below all others.
    zero = min((rate for rate in rates if rate), default=1.0) / 2
    label = f"validation WER, % ({zero:.2g}: no error)" if 0 in rates else "validation WER, %"
    figure, axes = _canvas("share of the planned optimizer steps, %", label)
    for name, seed in seeds.items():
        curve = [100 * rate or zero for rate in seed["validation_curve"]]
        shares = [100 * (epoch + 1) / seed["planned_epochs"] for epoch in range(len(curve))]
        style = "--" if name in results["baselines"] else "-"
        marker = "o" if len(curve) == 1 else ""
        axes.plot(shares, curve, style, label=name, linewidth=1.2, marker=marker)
    axes.set_yscale("log")
    _write_out(axes.yaxis)
    axes.legend(fontsize=8, frameon=False)
    return figure


def _write_out(axis: Axis) -> None:
    """Writes the numbers of a logarithmic axis as 0.5, 1, 2, 5 ..."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _canvas(x_label: str, y_label: str) -> tuple[Figure, Axes]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    return figure, axes
