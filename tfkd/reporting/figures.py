"""Figures of a sweep as SVG and PNG, drawn with matplotlib (`pip install 'tfkd[report]'`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfkd.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
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
    """WER over bytes: each student with its interval, the teacher, and the best for each size."""
    figure, axes = _canvas("size of the weights file, MB", "word error rate, %")
    teacher = {"teacher": results["teacher"]} if results["teacher"] else {}
    rows = {**results["rows"], **teacher}
    for name, row in rows.items():
        wer, low, high = (100 * row[key] for key in ("wer", "wer_low", "wer_high"))
        is_teacher, is_baseline = name == "teacher", name in results["baselines"]
        colour = "black" if is_teacher else "tab:red" if is_baseline else "tab:blue"
        megabytes = row["bytes"] / 1e6
        axes.errorbar(megabytes, wer, [[max(0, wer - low)], [max(0, high - wer)]], fmt="o",
                      color=colour, capsize=3)  # fmt: skip
        label = f"{name} (baseline)" if is_baseline else name
        axes.annotate(label, (megabytes, wer), (6, 4), textcoords="offset points", fontsize=8)
    front = _front([(row["bytes"] / 1e6, 100 * row["wer"]) for row in rows.values()])
    axes.step(*zip(*front), where="post", color="0.6", linewidth=1, zorder=0)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.margins(x=0.25)
    return figure


def _front(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points than which none is both smaller and better, from small to large."""
    front: list[tuple[float, float]] = []
    for size, wer in sorted(points):
        if not front or wer < front[-1][1]:
            front.append((size, wer))
    return front


def curves(results: Mapping[str, Any]) -> Figure:
    """Validation WER of every student over the share of its epochs, the first seed of each."""
    figure, axes = _canvas("epoch", "validation word error rate, %")
    for name, row in results["rows"].items():
        curve = [100 * value for value in row["seeds"][0]["validation_curve"]]
        style = "--" if name in results["baselines"] else "-"
        axes.plot(range(1, len(curve) + 1), curve, style, label=name, linewidth=1.2)
    axes.set_yscale("log")
    axes.set_xscale("log")
    axes.legend(fontsize=8, frameon=False)
    return figure


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
