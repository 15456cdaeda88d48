"""The losses of a training as it goes on: a curve for each density, and the same as a table."""

from __future__ import annotations

import altair as alt
import pandas as pd
import streamlit as st

from differnet.store.tasks import TaskEntry
from differnet.tasks.telling import HELD_OUT, TRAINING, latest_losses, losses_table

# Each at least 3:1 against white and against Streamlit's dark ground.
NOW, BEFORE, UNSEEN = "#4a7fc1", "#8a94a0", "#d0850a"


def show_losses(task: TaskEntry) -> None:
    """Draw the losses of a training, and say what they are."""
    table = losses_table(task.progress)
    if table.empty:
        return
    present = str(table["member"].iloc[-1])
    densities = list(dict.fromkeys(table["density"]))
    for first in range(0, len(densities), 2):
        for column, density in zip(st.columns(2, gap="medium"), densities[first : first + 2], strict=False):
            rows = table[table["density"] == density]
            last = rows[rows["of"] == TRAINING].iloc[-1]
            column.altair_chart(
                curve(rows, density, present),
                width="stretch",
                alt=f"Loss of {density}: {last['nll']:.2f} nats a vector at step {last['step']:,}",
            )
    st.caption(
        "Negative log-likelihood, nats a vector: what training makes small. Thick and blue: the member that "
        "is trained now, or was last; thin and grey: those before it. Orange diamonds: parts that it is not "
        "trained on, without the smoothing noise that training adds, so that their course counts and not "
        "their level. A trial finds out whether a density's couplings help; else they are dropped."
    )
    with st.expander("The same as a table"):
        st.dataframe(
            latest_losses(task.progress), hide_index=True, alt="Where each training of this model stands"
        )


def curve(rows: pd.DataFrame, density: str, present: str) -> alt.LayerChart:
    """Draw one density's losses.

    Args:
        rows: Of `losses_table`, of this density.
        density: Its name.
        present: The member that is trained now.

    Returns:
        The chart.
    """
    rows = rows.assign(now=rows["member"] == present)
    x = alt.X("step:Q", title="step", axis=alt.Axis(tickCount=5, format=",d", grid=False))
    y = alt.Y("nll:Q", title="nats a vector", scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=4))
    tooltip = ["member:N", "step:Q", alt.Tooltip("nll:Q", format=".3f"), "of:N"]
    trained = (
        alt.Chart(rows[rows["of"] == TRAINING])
        .mark_line(clip=True)
        .encode(
            x=x,
            y=y,
            detail="member:N",
            color=alt.condition(alt.datum.now, alt.value(NOW), alt.value(BEFORE)),
            strokeWidth=alt.condition(alt.datum.now, alt.value(2.5), alt.value(1.2)),
            tooltip=tooltip,
        )
    )
    unseen = (
        alt.Chart(rows[(rows["of"] == HELD_OUT) & rows["now"]])
        .mark_point(shape="diamond", filled=True, size=50, color=UNSEEN, opacity=1)
        .encode(x=x, y=y, tooltip=tooltip)
    )
    title = alt.Title(density, anchor="start", fontSize=14)
    return alt.layer(trained, unseen).properties(height=230, title=title)
