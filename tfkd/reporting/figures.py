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
_CURVES = "Validation WER while the students learn"


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
    figure, axes = _canvas("size of the weights file, MB", "word error rate, %")
    teacher = {"teacher": results["teacher"]} if results["teacher"] else {}
    rows = {**results["rows"], **teacher}
    for name, row in rows.items():
        wer, low, high = (100 * row[key] for key in ("wer", "wer_low", "wer_high"))
        axes.errorbar(row["bytes"] / 1e6, wer, [[max(0, wer - low)], [max(0, high - wer)]],
                      fmt="o", color=_colour(name, results), capsize=3, linewidth=1)  # fmt: skip
    front = _front([(row["bytes"] / 1e6, 100 * row["wer"]) for row in rows.values()])
    axes.step(*zip(*front), where="post", color="0.6", linewidth=1, zorder=0)
    highest = 100 * max(row["wer_high"] for row in rows.values())
    axes.set_ylim(0, 1.1 * highest)
    for name, height in _label_heights(rows, gap=0.045 * highest).items():
        row, colour = rows[name], _colour(name, results)
        label = f"{name} (baseline)" if name in results["baselines"] else name
        megabytes = row["bytes"] / 1e6
        axes.text(1.08 * megabytes, height, label, fontsize=8, color=colour, va="center")
    axes.set_xscale("log")
    _write_out(axes.xaxis)
    axes.margins(x=0.3)
    return figure


def _colour(name: str, results: Mapping[str, Any]) -> str:
    if name == "teacher":
        return "black"
    return "tab:red" if name in results["baselines"] else "tab:blue"


def _label_heights(rows: Mapping[str, Mapping[str, Any]], gap: float) -> dict[str, float]:
    """Returns heights of labels, in % WER, so that those of students of one size do not overlap."""
    heights: dict[str, float] = {}
    last: dict[int, float] = {}
    for name, row in sorted(rows.items(), key=lambda item: item[1]["wer"]):
        size = row["bytes"]
        heights[name] = last[size] = max(100 * row["wer"], last.get(size, -gap) + gap)
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
    figure, axes = _canvas("share of the planned optimizer steps, %", "validation WER, %")
    for name, row in results["rows"].items():
        seed = row["seeds"][0]
        curve = [100 * value for value in seed["validation_curve"]]
        shares = [100 * (epoch + 1) / seed["planned_epochs"] for epoch in range(len(curve))]
        style = "--" if name in results["baselines"] else "-"
        axes.plot(shares, curve, style, label=name, linewidth=1.2)
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
