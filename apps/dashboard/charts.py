"""Altair drawings of tables that `differnet.reporting` has counted."""

from __future__ import annotations

import altair as alt
import pandas as pd

from differnet.reporting.figures import axis_ticks

# Each at least 3:1 against white and against Streamlit's dark ground.
COLOURS = {"good": "#2e9e78", "defect": "#e0533d", "wrong input": "#8f6fd6", "unlabelled": "#8a94a0"}


BAND_COLOUR, LINE_COLOUR = "#d99a1c", "#d0850a"

# Pixels left of every row, so that the rows stand exactly below each other.
AXIS_WIDTH = 44


def strangeness_row(
    table: pd.DataFrame, group: str, upper: float, t_review: float, t_defect: float, last: bool
) -> alt.LayerChart:
    """Draw one group's histogram with both thresholds.

    Args:
        table: Columns ``label``, ``from``, ``to``, ``pictures``.
        group: Whose rows to draw.
        upper: End of the axis, the same in all rows.
        t_review: T1.
        t_defect: T2.
        last: Whether this row carries the axis for all.

    Returns:
        The chart.
    """
    scale = alt.Scale(domain=[0, upper], nice=False)
    ticks = axis_ticks(upper, 10)
    axis = alt.Axis(title="strangeness" if last else None, labels=last, ticks=last, grid=False, values=ticks)
    rows = table[table["label"] == group]
    x = alt.X("from:Q", scale=scale, axis=axis)
    y = alt.Y(
        "pictures:Q",
        title=None,
        axis=alt.Axis(tickCount=2, format="d", minExtent=AXIS_WIDTH, maxExtent=AXIS_WIDTH),
    )
    bars = (
        alt.Chart(rows)
        .mark_bar(color=COLOURS[group], binSpacing=1)
        .encode(
            x=alt.X("from:Q", scale=scale, axis=axis, bin="binned"),
            x2="to:Q",
            y=y,
            tooltip=[alt.Tooltip("from:Q", format=".2f"), alt.Tooltip("to:Q", format=".2f"), "pictures:Q"],
        )
    )
    lines = pd.DataFrame({"from": [t_review, t_defect], "word": ["T1", "T2"]})
    band = (
        alt.Chart(pd.DataFrame({"from": [t_review], "to": [t_defect]}))
        .mark_rect(color=BAND_COLOUR, opacity=0.18)
        .encode(x=x, x2="to:Q")
    )
    rules = alt.Chart(lines).mark_rule(color=LINE_COLOUR, size=2).encode(x=x, strokeDash=_dashes())
    title = alt.Title(f"{group}: {int(rows['pictures'].sum()):,}", anchor="start", fontSize=14)
    return alt.layer(band, bars, rules).properties(height=118 + (64 if last else 0), title=title)


def _dashes() -> alt.StrokeDash:
    """Draw T1 dashed and T2 solid, so that they can be told apart without words."""
    return alt.StrokeDash("word:N", scale=alt.Scale(domain=["T1", "T2"], range=[[5, 4], [1, 0]]), legend=None)
