"""Altair drawings of the curves that `differnet.tuning` has made."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import pandas as pd

# 4.5:1 and more against white and against Streamlit's dark ground.
CURVE_COLOUR, NOW_COLOUR, GUIDE_COLOUR = "#3f7fd6", "#c9761c", "#8a94a0"
HEIGHT = 340
# Rates that are written on the normal deviate's axes, in percent.
RATES = ("0.01", "0.1", "0.5", "1", "2", "5", "10", "20", "40", "60", "80", "90", "95", "99")


def curve_chart(
    points: pd.DataFrame,
    marks: pd.DataFrame,
    x: str,
    y: str,
    *,
    shares: bool = True,
    from_zero: bool = True,
    guide: pd.DataFrame | None = None,
) -> alt.LayerChart:
    """Draw a curve with the two thresholds on it.

    Args:
        points: Of the curve; columns ``x``, ``y``, ``threshold``, in its order.
        marks: Where the thresholds are on it; columns ``x``, ``y``, ``word``.
        x: What the horizontal axis shows.
        y: What the vertical axis shows.
        shares: Whether both axes are of shares, from 0 to 100 %.
        from_zero: Whether the vertical axis begins at zero.
        guide: Line for comparison, if any; columns ``x``, ``y``.

    Returns:
        The chart.
    """
    domain = [0, 1] if shares else alt.Undefined
    axis = alt.Axis(format=".0%") if shares else alt.Axis()
    across = alt.X("x:Q", title=x, scale=alt.Scale(domain=domain, nice=not shares), axis=axis)
    up = alt.Y("y:Q", title=y, scale=alt.Scale(domain=domain, zero=from_zero, nice=not shares), axis=axis)
    figure = ".2%" if shares else ".4g"
    told = [
        alt.Tooltip("x:Q", title=x, format=figure),
        alt.Tooltip("y:Q", title=y, format=figure),
        alt.Tooltip("threshold:Q", title="threshold", format=".3f"),
    ]
    layers: list[alt.Chart] = []
    if guide is not None:
        layers.append(
            alt.Chart(guide)
            .mark_line(color=GUIDE_COLOUR, strokeDash=[4, 4], strokeWidth=1)
            .encode(x=across, y=up)
        )
    line = alt.Chart(points).mark_line(color=CURVE_COLOUR, strokeWidth=2)
    layers.append(line.encode(x=across, y=up, order=alt.Order("place:Q")))
    # Wide and unseen, so that the pointer need not hit the line.
    unseen = alt.Chart(points).mark_point(opacity=0, size=200)
    layers.append(unseen.encode(x=across, y=up, tooltip=told))
    return alt.layer(*layers, *_marks(marks, across, up)).properties(height=HEIGHT)


def deviate_chart(points: pd.DataFrame, marks: pd.DataFrame, ticks: Sequence[float]) -> alt.LayerChart:
    """Draw a detection error trade-off, overkill and escape both on axes of the normal law.

    Args:
        points: Of the curve; columns ``x``, ``y`` (deviates), ``overkill``, ``escape``, ``threshold``.
        marks: Where the thresholds are on it; columns ``x``, ``y``, ``word``.
        ticks: Deviates of `RATES`.

    Returns:
        The chart.
    """
    words = " : ".join(
        f"abs(datum.value - ({tick})) < 1e-6 ? '{rate} %'" for tick, rate in zip(ticks, RATES, strict=True)
    )
    both = pd.concat([points[["x", "y"]], marks[["x", "y"]]])
    axes = []
    for name, title in (("x", "overkill"), ("y", "escape")):
        low, high = float(both[name].min()), float(both[name].max())
        shown = [tick for tick in ticks if low - 0.3 <= tick <= high + 0.3]
        axis = alt.Axis(values=shown, labelExpr=f"{words} : ''", labelOverlap=True)
        # One point alone still needs a width.
        scale = alt.Scale(domain=[low - 0.3, high + 0.3], nice=False)
        kind = alt.X if name == "x" else alt.Y
        axes.append(kind(f"{name}:Q", title=title, scale=scale, axis=axis))
    told = [
        alt.Tooltip("overkill:Q", format=".2%"),
        alt.Tooltip("escape:Q", format=".2%"),
        alt.Tooltip("threshold:Q", format=".3f"),
    ]
    line = alt.Chart(points).mark_line(color=CURVE_COLOUR, strokeWidth=2)
    unseen = alt.Chart(points).mark_point(opacity=0, size=200)
    return alt.layer(
        line.encode(x=axes[0], y=axes[1], order=alt.Order("place:Q")),
        unseen.encode(x=axes[0], y=axes[1], tooltip=told),
        *_marks(marks, *axes),
    ).properties(height=HEIGHT)


def quantile_chart(points: pd.DataFrame) -> alt.LayerChart:
    """Draw p-values of good parts beside uniform ones, both on logarithmic axes, with their intervals.

    Args:
        points: Columns ``uniform``, ``found``, ``low``, ``high``.

    Returns:
        The chart.
    """
    least = float(points[["uniform", "found"]].min().min())
    scale = alt.Scale(type="log", domain=[least, 1], nice=False)
    axis = alt.Axis(format=".2~g", tickCount=6)
    across = alt.X("uniform:Q", title="uniform p-value", scale=scale, axis=axis)
    up = alt.Y("found:Q", title="p-value of good parts", scale=scale, axis=axis)
    told = [alt.Tooltip(name, format=".3g") for name in ("uniform:Q", "found:Q", "low:Q", "high:Q")]
    clipped = points.assign(low=points["low"].clip(lower=least))
    diagonal = pd.DataFrame({"uniform": [least, 1.0], "found": [least, 1.0]})
    return alt.layer(
        alt.Chart(clipped)
        .mark_area(color=GUIDE_COLOUR, opacity=0.25)
        .encode(x=across, y=alt.Y("low:Q", scale=scale), y2="high:Q"),
        alt.Chart(diagonal)
        .mark_line(color=GUIDE_COLOUR, strokeDash=[4, 4], strokeWidth=1)
        .encode(x=across, y=up),
        alt.Chart(points)
        .mark_line(color=CURVE_COLOUR, strokeWidth=2, interpolate="step-after")
        .encode(x=across, y=up),
        alt.Chart(points).mark_point(opacity=0, size=200).encode(x=across, y=up, tooltip=told),
    ).properties(height=HEIGHT)


def cost_chart(points: pd.DataFrame, lines: pd.DataFrame, upper: float) -> alt.LayerChart:
    """Draw the expected cost a part by threshold, with the thresholds and the least cost.

    Args:
        points: Columns ``x``, ``y``, ``threshold``.
        lines: Vertical lines; columns ``x``, ``word``.
        upper: End of the horizontal axis; stranger parts change little there.

    Returns:
        The chart.
    """
    # Costs span decades, and what differs lies near the least of them.
    scale = alt.Scale(type="log") if float(points["y"].min()) > 0 else alt.Scale(zero=True)
    across = alt.X(
        "x:Q",
        title="threshold from which parts are rejected, strangeness",
        scale=alt.Scale(domain=[0, upper], nice=False, clamp=False),
    )
    up = alt.Y("y:Q", title="expected cost a part", scale=scale, axis=alt.Axis(format=".3~g"))
    told = [
        alt.Tooltip("threshold:Q", title="threshold", format=".3f"),
        alt.Tooltip("y:Q", title="cost a part", format=".4g"),
    ]
    dash = alt.StrokeDash(
        "word:N",
        scale=alt.Scale(domain=["T1", "T2", "least cost"], range=[[5, 4], [1, 0], [1, 3]]),
        legend=None,
    )
    line = alt.Chart(points).mark_line(color=CURVE_COLOUR, strokeWidth=2, clip=True)
    unseen = alt.Chart(points).mark_point(opacity=0, size=200, clip=True)
    rules = alt.Chart(lines).mark_rule(color=NOW_COLOUR, size=2)
    words = [
        # One below the other, since the lines often stand close together.
        alt.Chart(lines.iloc[[place]])
        .mark_text(align="left", dx=5, baseline="top", color=NOW_COLOUR, fontSize=13)
        .encode(x=across, y=alt.value(2 + 17 * place), text="word:N")
        for place in range(len(lines))
    ]
    return alt.layer(
        line.encode(x=across, y=up, order=alt.Order("place:Q")),
        unseen.encode(x=across, y=up, tooltip=told),
        rules.encode(x=across, strokeDash=dash),
        *words,
    ).properties(height=HEIGHT)


def recall_chart(rows: pd.DataFrame) -> alt.LayerChart:
    """Draw the share of each kind that does not pass, with its interval.

    Args:
        rows: Columns ``kind``, ``caught``, ``low``, ``high``, ``parts``; one row a kind, in order.

    Returns:
        The chart.
    """
    up = alt.Y("kind:N", title=None, sort=None, axis=alt.Axis(labelLimit=220))
    across = alt.X(
        "caught:Q", title="does not pass", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format=".0%")
    )
    told = [
        "kind:N",
        alt.Tooltip("caught:Q", format=".1%"),
        alt.Tooltip("low:Q", format=".1%"),
        alt.Tooltip("high:Q", format=".1%"),
        "parts:Q",
    ]
    spans = alt.Chart(rows).mark_rule(color=GUIDE_COLOUR, size=3)
    dots = alt.Chart(rows).mark_point(color=CURVE_COLOUR, filled=True, size=90, opacity=1)
    return alt.layer(
        spans.encode(x=alt.X("low:Q", scale=alt.Scale(domain=[0, 1])), x2="high:Q", y=up),
        dots.encode(x=across, y=up, tooltip=told),
    ).properties(height=26 * len(rows) + 20)


def _marks(marks: pd.DataFrame, across: alt.X, up: alt.Y) -> list[alt.Chart]:
    """Draw T1 as a triangle and T2 as a diamond, as the handles of the band are, with their names."""
    shape = alt.Shape(
        "word:N", scale=alt.Scale(domain=["T1", "T2"], range=["triangle-up", "diamond"]), legend=None
    )
    drawn = alt.Chart(marks).mark_point(color=NOW_COLOUR, filled=True, size=160, opacity=1)
    named = alt.Chart(marks).mark_text(color=NOW_COLOUR, align="left", dx=12, dy=14, fontSize=13)
    return [
        drawn.encode(x=across, y=up, shape=shape),
        named.encode(x=across, y=up, text="word:N"),
    ]
