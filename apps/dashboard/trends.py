"""Altair drawings of what changes over lots and over time; their tables come from `differnet.reporting`."""

from __future__ import annotations

import altair as alt
import pandas as pd

from differnet.evaluation.intervals import percent
from differnet.records import Verdict

# Each at least 3:1 against white and against Streamlit's dark ground.
VERDICT_COLOURS = {
    Verdict.PASS: "#2e9e78",
    Verdict.REVIEW: "#c07f12",
    Verdict.DEFECT: "#e0533d",
    Verdict.OOD: "#8f6fd6",
    Verdict.INVALID: "#7d8894",
}
VERDICT_MARKS = {
    Verdict.PASS: "circle",
    Verdict.REVIEW: "triangle-up",
    Verdict.DEFECT: "diamond",
    Verdict.OOD: "square",
    Verdict.INVALID: "cross",
}
LIMIT_COLOUR = "#7d8894"
LINE_COLOUR = "#3f7fc4"
# Of a decimal logarithm the figure itself, or where that is long its power of ten.
_POWER = "datum.value > 4 ? '10^' + format(datum.value, '.3~r') : format(pow(10, datum.value), ',.3~r')"
# With the title and the axes, which Streamlit fits into it.
ROW_HEIGHT, NAMES_HEIGHT = 116, 84
# Names of lots under the last row at most; the others are in the table and the tooltips.
MOST_NAMES = 16
# Wide enough for the first name under the last row, else that row would begin further right.
AXIS_WIDTH = 76


def lot_row(table: pd.DataFrame, verdict: Verdict, last: bool) -> alt.LayerChart:
    """Draw the share of one verdict by lot, with its limits and the lots that lie outside them.

    Args:
        table: From `differnet.reporting.overview.chart_table`.
        verdict: Which.
        last: Whether this row carries the names of the lots.

    Returns:
        The chart.
    """
    colour = VERDICT_COLOURS[verdict]
    names = table["lot"].tolist()
    step = -(-len(names) // MOST_NAMES)
    axis = alt.Axis(
        title=None,
        labels=last,
        ticks=last,
        grid=False,
        values=names[::step],
        # Of a window of time its beginning.
        labelExpr="split(datum.label, ' to ')[0]",
        labelAngle=-45,
        labelLimit=110,
        labelOverlap=False,
    )
    x = alt.X("lot:N", sort=names, scale=alt.Scale(type="point", padding=0.5), axis=axis)
    most = max(float(table["share"].max()), float(table["upper"].max()))
    least = (
        0.0 if verdict is not Verdict.PASS else min(float(table["lower"].min()), float(table["share"].min()))
    )
    y_scale = alt.Scale(domain=[least, most or 1.0], nice=True)
    y_axis = alt.Axis(
        format="~%", tickCount=3, title=None, minExtent=AXIS_WIDTH, maxExtent=AXIS_WIDTH, grid=True
    )
    y = alt.Y("share:Q", scale=y_scale, axis=y_axis)
    tooltip = [
        alt.Tooltip("lot:N"),
        alt.Tooltip("parts:Q", format=","),
        alt.Tooltip("number:Q", title=verdict.value, format=","),
        alt.Tooltip("share:Q", format=".1%"),
        alt.Tooltip("lower:Q", title="lower limit", format=".1%"),
        alt.Tooltip("upper:Q", title="upper limit", format=".1%"),
        alt.Tooltip("signal:N"),
    ]
    base = alt.Chart(table)
    limits = base.mark_area(interpolate="step", color=LIMIT_COLOUR, opacity=0.16).encode(
        x=x, y=alt.Y("lower:Q", scale=y_scale, axis=y_axis), y2="upper:Q"
    )
    edges = [
        base.mark_line(interpolate="step", color=LIMIT_COLOUR, strokeDash=[4, 3], size=1).encode(
            x=x, y=alt.Y(f"{name}:Q", scale=y_scale, axis=y_axis)
        )
        for name in ("lower", "upper")
    ]
    line = base.mark_line(color=colour, size=1.5).encode(x=x, y=y)
    points = base.mark_point(
        shape=VERDICT_MARKS[verdict], filled=True, color=colour, size=45, opacity=1
    ).encode(x=x, y=y, tooltip=tooltip)
    layers = [limits, *edges, line, points]
    if (table["signal"] != "").any():
        # A layer without marks would be a picture without a name to a screen reader.
        rings = base.transform_filter("datum.signal != ''").mark_point(
            shape="circle", filled=False, color=colour, size=260, strokeWidth=2.5, opacity=1
        )
        layers.append(rings.encode(x=x, y=y, tooltip=tooltip))
    average = percent(float(table["number"].sum() / table["parts"].sum()))
    title = alt.Title(f"{verdict.value}, {average} on average", anchor="start", fontSize=14)
    height = ROW_HEIGHT + (NAMES_HEIGHT if last else 0)
    return alt.layer(*layers).properties(height=height, title=title)


def wealth_row(table: pd.DataFrame, level: float) -> alt.LayerChart:
    """Draw the capital of a monitor, part by part, and the capital at which it sounds an alarm.

    Args:
        table: From `differnet.reporting.drifting.watch_table`.
        level: Decimal logarithm of the capital of an alarm.

    Returns:
        The chart.
    """
    scale = alt.Scale(
        domain=[min(-1.0, float(table["wealth"].min())), max(level * 1.15, float(table["wealth"].max()))]
    )
    axis = alt.Axis(title=None, tickCount=5, minExtent=AXIS_WIDTH, maxExtent=AXIS_WIDTH, labelExpr=_POWER)
    y = alt.Y("wealth:Q", scale=scale, axis=axis)
    line = alt.Chart(table).mark_line(color=LINE_COLOUR, size=2).encode(x=_parts(table, last=False), y=y)
    alarm = pd.DataFrame({"wealth": [level], "words": ["alarm"]})
    rule = (
        alt.Chart(alarm)
        .mark_rule(color=VERDICT_COLOURS[Verdict.DEFECT], strokeDash=[6, 4], size=2)
        .encode(y=y)
    )
    word = (
        alt.Chart(alarm)
        .mark_text(align="left", baseline="bottom", dx=4, dy=-3, color=VERDICT_COLOURS[Verdict.DEFECT])
        .encode(y=y, x=alt.value(0), text="words:N")
    )
    title = alt.Title("Capital of the monitor, 1 at the beginning", anchor="start", fontSize=14)
    return alt.layer(line, rule, word).properties(height=220, title=title)


def p_value_row(table: pd.DataFrame) -> alt.Chart:
    """Draw the p-value of each part: where nothing has changed they fill the band evenly.

    Args:
        table: From `differnet.reporting.drifting.watch_table`.

    Returns:
        The chart.
    """
    axis = alt.Axis(title=None, values=[0, 0.25, 0.5, 0.75, 1], minExtent=AXIS_WIDTH, maxExtent=AXIS_WIDTH)
    return (
        alt.Chart(table)
        .mark_point(shape="circle", filled=True, color=LINE_COLOUR, size=20, opacity=0.95)
        .encode(
            x=_parts(table, last=True),
            y=alt.Y("p_value:Q", scale=alt.Scale(domain=[0, 1]), axis=axis),
            tooltip=[
                alt.Tooltip("part:Q", format=","),
                alt.Tooltip("time:N"),
                alt.Tooltip("run:N"),
                alt.Tooltip("p_value:Q", title="p-value", format=".3f"),
            ],
        )
        .properties(
            height=200, title=alt.Title("p-value of each part, 0 is strangest", anchor="start", fontSize=14)
        )
    )


def figure_row(table: pd.DataFrame, name: str, moved: bool) -> alt.LayerChart:
    """Draw one figure of pictures that were looked at again, beside where calibration parts lie.

    Args:
        table: From `differnet.reporting.drifting.figures_table`.
        name: Of the figure.
        moved: Whether the test found it to have moved.

    Returns:
        The chart.
    """
    colour = VERDICT_COLOURS[Verdict.DEFECT] if moved else LINE_COLOUR
    scale = alt.Scale(zero=False, nice=True)
    axis = alt.Axis(title=None, tickCount=3, minExtent=AXIS_WIDTH, maxExtent=AXIS_WIDTH, format="~g")
    base = alt.Chart(table)
    x = _parts(table, last=True)
    band = base.mark_area(color=LIMIT_COLOUR, opacity=0.18).encode(
        x=x, y=alt.Y("low:Q", scale=scale, axis=axis), y2="high:Q"
    )
    points = base.mark_point(
        shape="diamond" if moved else "circle", filled=True, color=colour, size=26, opacity=0.85
    ).encode(
        x=x,
        y=alt.Y("value:Q", scale=scale, axis=axis),
        tooltip=["picture:N", alt.Tooltip("value:Q", format=".4g")],
    )
    words = f"{name}, moved" if moved else name
    return alt.layer(band, points).properties(height=150, title=alt.Title(words, anchor="start", fontSize=14))


def _parts(table: pd.DataFrame, last: bool) -> alt.X:
    """Make the axis of parts, the same in every row."""
    scale = alt.Scale(domain=[1, max(2, int(table["part"].max()))], nice=False)
    axis = alt.Axis(
        title="part" if last else None, labels=last, ticks=last, format=",d", grid=False, tickMinStep=1
    )
    return alt.X("part:Q", scale=scale, axis=axis)


def pareto(table: pd.DataFrame) -> alt.LayerChart:
    """Draw kinds of defects by how often they occur, with the part of each that passed.

    Args:
        table: From `differnet.reporting.overview.pareto_table`.

    Returns:
        The chart.
    """
    order = table["kind"].tolist()
    most = float(table["parts"].max())
    kinds = alt.Y("kind:N", sort=order, title=None, axis=alt.Axis(labelLimit=190, minExtent=120))
    scale = alt.Scale(domain=[0, most * 1.22], nice=False)
    tooltip = [
        alt.Tooltip("kind:N"),
        alt.Tooltip("parts:Q", format=","),
        alt.Tooltip("escaped:Q", title="judged PASS", format=","),
        alt.Tooltip("cumulative:Q", title="with those before", format=".0%"),
    ]
    x = alt.X("parts:Q", title="parts", scale=scale, axis=alt.Axis(format="d", tickCount=5))
    base = alt.Chart(table)
    bars = base.mark_bar(color=VERDICT_COLOURS[Verdict.DEFECT], opacity=0.85).encode(
        y=kinds, x=x, tooltip=tooltip
    )
    escaped = base.mark_bar(color=VERDICT_COLOURS[Verdict.PASS]).encode(
        y=kinds, x=alt.X("escaped:Q", scale=scale), tooltip=tooltip
    )
    said = (
        "format(datum.parts, ',') + (datum.escaped > 0 ? ', ' + format(datum.escaped, ',') + ' passed' : '')"
    )
    words = (
        base.transform_calculate(words=said)
        .mark_text(align="left", dx=5, color=LIMIT_COLOUR, fontSize=12)
        .encode(y=kinds, x=x, text="words:N")
    )
    return alt.layer(bars, escaped, words).properties(height=26 * len(table) + 40)
