"""Vega-Lite drawings of the curves that `differnet.tuning` has made.

Written out rather than built: while a threshold is dragged they are drawn many times a second, and a library
that builds and checks them takes longer than everything else on the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

Spec = dict[str, Any]

# Each at least 3:1 against white and against Streamlit's dark ground. Words take one that suits the ground.
CURVE_COLOUR, NOW_COLOUR, GUIDE_COLOUR = "#3f7fd6", "#c9761c", "#8a94a0"
HEIGHT = 340
# Rates that are written on the normal deviate's axes, in percent.
RATES = ("0.01", "0.1", "0.5", "1", "2", "5", "10", "20", "40", "60", "80", "90", "95", "99")

_LINE = {"type": "line", "color": CURVE_COLOUR, "strokeWidth": 2, "clip": True}
_GUIDE = {"type": "line", "color": GUIDE_COLOUR, "strokeDash": [4, 4], "strokeWidth": 1, "clip": True}
# Wide and unseen, so that the pointer need not hit the line.
_UNSEEN = {"type": "point", "opacity": 0, "size": 200, "clip": True}
_IN_ORDER = {"field": "place", "type": "quantitative"}


def curve_chart(
    points: pd.DataFrame,
    marks: pd.DataFrame,
    x: str,
    y: str,
    ink: str,
    guide: pd.DataFrame | None = None,
) -> Spec:
    """Draw a curve of two shares with the two thresholds on it.

    Args:
        points: Of the curve; columns ``x``, ``y``, ``threshold``, ``place``.
        marks: Where the thresholds are on it; columns ``x``, ``y``, ``word``.
        x: What the horizontal axis shows.
        y: What the vertical axis shows.
        ink: Colour of words.
        guide: Line for comparison, if any; columns ``x``, ``y``.

    Returns:
        The chart.
    """
    scale, axis = {"domain": [0, 1], "nice": False}, {"format": ".0%"}
    across = _axis("x", x, scale, axis)
    up = _axis("y", y, scale, axis)
    told = [_told("x", ".2%", x), _told("y", ".2%", y), _told("threshold", ".3f")]
    layers = [
        *([_layer("guide", _GUIDE, x=across, y=up)] if guide is not None else []),
        _layer("points", _LINE, x=across, y=up, order=_IN_ORDER),
        _layer("points", _UNSEEN, x=across, y=up, tooltip=told),
        *_marks(across, up, ink),
    ]
    drawn = {"points": points, "marks": marks} | ({} if guide is None else {"guide": guide})
    return {"height": HEIGHT, "layer": layers, "datasets": drawn}


def deviate_chart(points: pd.DataFrame, marks: pd.DataFrame, ticks: Sequence[float], ink: str) -> Spec:
    """Draw a detection error trade-off, overkill and escape both on axes of the normal law.

    Args:
        points: Of the curve; columns ``x``, ``y`` (deviates), ``overkill``, ``escape``, ``threshold`` and
            ``place``.
        marks: Where the thresholds are on it; columns ``x``, ``y``, ``word``.
        ticks: Deviates of `RATES`.
        ink: Colour of words.

    Returns:
        The chart.
    """
    words = " : ".join(
        f"abs(datum.value - ({tick})) < 1e-6 ? '{rate} %'" for tick, rate in zip(ticks, RATES, strict=True)
    )
    both = pd.concat([points[["x", "y"]], marks[["x", "y"]]])
    axes = {}
    for name, title in (("x", "overkill"), ("y", "escape")):
        # One point alone still needs a width.
        low, high = float(both[name].min()) - 0.3, float(both[name].max()) + 0.3
        shown = [tick for tick in ticks if low <= tick <= high]
        axis = {"values": shown, "labelExpr": f"{words} : ''", "labelOverlap": True}
        axes[name] = _axis(name, title, {"domain": [low, high], "nice": False}, axis)
    told = [_told("overkill", ".2%"), _told("escape", ".2%"), _told("threshold", ".3f")]
    layers = [
        _layer("points", _LINE, **axes, order=_IN_ORDER),
        _layer("points", _UNSEEN, **axes, tooltip=told),
        *_marks(axes["x"], axes["y"], ink),
    ]
    return {"height": HEIGHT, "layer": layers, "datasets": {"points": points, "marks": marks}}


def quantile_chart(points: pd.DataFrame) -> Spec:
    """Draw p-values of good parts beside uniform ones, both on logarithmic axes, with their intervals.

    Args:
        points: Columns ``uniform``, ``found``, ``low``, ``high``.

    Returns:
        The chart.
    """
    least = float(points[["uniform", "found"]].min().min())
    scale = {"type": "log", "domain": [least, 1], "nice": False}
    axis = {"format": ".2~g", "tickCount": 6}
    across = _axis("uniform", "uniform p-value", scale, axis)
    up = _axis("found", "p-value of good parts", scale, axis)
    low = up | {"field": "low"}
    told = [_told(name, ".3g") for name in ("uniform", "found", "low", "high")]
    area = {"type": "area", "color": GUIDE_COLOUR, "opacity": 0.25, "clip": True}
    layers = [
        _layer("points", area, x=across, y=low, y2={"field": "high"}),
        _layer("diagonal", _GUIDE, x=across, y=up),
        _layer("points", _LINE | {"interpolate": "step-after"}, x=across, y=up),
        _layer("points", _UNSEEN, x=across, y=up, tooltip=told),
    ]
    drawn = {
        "points": points.assign(low=points["low"].clip(lower=least)),
        "diagonal": pd.DataFrame({"uniform": [least, 1.0], "found": [least, 1.0]}),
    }
    return {"height": HEIGHT, "layer": layers, "datasets": drawn}


def cost_chart(points: pd.DataFrame, lines: pd.DataFrame, upper: float, ink: str) -> Spec:
    """Draw the expected cost a part by threshold, with the thresholds and the least cost.

    Args:
        points: Columns ``x``, ``y``, ``threshold``, ``place``.
        lines: Vertical lines; columns ``x``, ``word``.
        upper: End of the horizontal axis; stranger parts change little there.
        ink: Colour of words.

    Returns:
        The chart.
    """
    # Costs span decades, and what differs lies near the least of them.
    scale: Spec = {"type": "log"} if float(points["y"].min()) > 0 else {"zero": True}
    title = "threshold from which parts are rejected, strangeness"
    across = _axis("x", title, {"domain": [0, upper], "nice": False}, {})
    up = _axis("y", "expected cost a part", scale, {"format": ".3~g"})
    told = [_told("threshold", ".3f"), _told("y", ".4g", "cost a part")]
    dash = {
        "field": "word",
        "type": "nominal",
        "scale": {"domain": ["T1", "T2", "least cost"], "range": [[5, 4], [1, 0], [1, 3]]},
        "legend": None,
    }
    words = [
        _layer(
            "lines",
            {
                "type": "text",
                "align": "left",
                "dx": 5,
                "baseline": "top",
                "color": ink,
                "fontSize": 13,
            },
            x=across,
            # One below the other, since the lines often stand close together.
            y={"value": 2 + 17 * place},
            text={"field": "word", "type": "nominal"},
        )
        | {"transform": [{"filter": {"field": "word", "equal": word}}]}
        for place, word in enumerate(lines["word"])
    ]
    layers = [
        _layer("points", _LINE, x=across, y=up, order=_IN_ORDER),
        _layer("points", _UNSEEN, x=across, y=up, tooltip=told),
        _layer("lines", {"type": "rule", "color": NOW_COLOUR, "size": 2}, x=across, strokeDash=dash),
        *words,
    ]
    return {"height": HEIGHT, "layer": layers, "datasets": {"points": points, "lines": lines}}


def recall_chart(rows: pd.DataFrame) -> Spec:
    """Draw the share of each kind that does not pass, with its interval.

    Args:
        rows: Columns ``kind``, ``caught``, ``low``, ``high``, ``parts``; one row a kind, in order.

    Returns:
        The chart.
    """
    scale, axis = {"domain": [0, 1]}, {"format": ".0%"}
    up = {"field": "kind", "type": "nominal", "title": None, "sort": None, "axis": {"labelLimit": 220}}
    across = _axis("caught", "does not pass", scale, axis)
    told = [
        {"field": "kind", "type": "nominal"},
        *(_told(name, ".1%") for name in ("caught", "low", "high")),
        _told("parts", ",d"),
    ]
    span = {"type": "rule", "color": GUIDE_COLOUR, "size": 3}
    dot = {"type": "point", "color": CURVE_COLOUR, "filled": True, "size": 90, "opacity": 1}
    layers = [
        _layer("rows", span, x=across | {"field": "low"}, x2={"field": "high"}, y=up),
        _layer("rows", dot, x=across, y=up, tooltip=told),
    ]
    return {"height": 26 * len(rows) + 20, "layer": layers, "datasets": {"rows": rows}}


def _layer(name: str, mark: Spec, **encoding: Any) -> Spec:
    return {"data": {"name": name}, "mark": mark, "encoding": encoding}


def _axis(name: str, title: str, scale: Spec, axis: Spec) -> Spec:
    return {"field": name, "type": "quantitative", "title": title, "scale": scale, "axis": axis}


def _told(name: str, figure: str, title: str | None = None) -> Spec:
    return {"field": name, "type": "quantitative", "title": title or name, "format": figure}


def _marks(across: Spec, up: Spec, ink: str) -> list[Spec]:
    """Draw T1 as a triangle and T2 as a diamond, as the handles of the band are, with their names."""
    shape = {
        "field": "word",
        "type": "nominal",
        "scale": {"domain": ["T1", "T2"], "range": ["triangle-up", "diamond"]},
        "legend": None,
    }
    point = {"type": "point", "color": NOW_COLOUR, "filled": True, "size": 160, "opacity": 1}
    text = {"type": "text", "color": ink, "align": "left", "dx": 12, "dy": 14, "fontSize": 13}
    return [
        _layer("marks", point, x=across, y=up, shape=shape),
        _layer("marks", text, x=across, y=up, text={"field": "word", "type": "nominal"}),
    ]
