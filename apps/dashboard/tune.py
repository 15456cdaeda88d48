"""Tune: move the two thresholds and see what they would do."""

from __future__ import annotations

import streamlit as st
from charts import strangeness_row
from opened import OpenedRun, current_run

from differnet.evaluation.intervals import Rate, percent
from differnet.reporting.browsing import cross_table, histogram_table
from differnet.reporting.counts import (
    Histogram,
    Truth,
    VerdictCounts,
    histogram,
    one_in,
    starting_thresholds,
    verdict_counts,
)
from differnet.reporting.figures import describe_histogram
from differnet.reporting.report import limit_sentences, no_promise, promises
from differnet.reporting.tables import unbroken

# Of the slider and the boxes; finer than any calibration can tell.
STEP = 0.01


def main() -> None:
    """Lay out the page."""
    opened = current_run()
    st.title("Tune thresholds")
    start = starting_thresholds(opened.run.facts.t_review, opened.run.facts.t_defect)
    counted = histogram(opened.columns, *start)
    t_review, t_defect = threshold_widgets(opened, start, counted.upper)
    counts = verdict_counts(opened.columns, t_review, t_defect)
    show_rates(counts)
    show_histogram(counted, t_review, t_defect)
    left, right = st.columns(2, gap="large")
    with left:
        show_cross_table(counts)
    with right:
        show_promises(opened, counts)


def threshold_widgets(opened: OpenedRun, start: tuple[float, float], upper: float) -> tuple[float, float]:
    """Show a slider and two boxes that move the same two thresholds."""
    if st.session_state.get("thresholds_of") != opened.run.entry.run_id:
        st.session_state["thresholds_of"] = opened.run.entry.run_id
        put_thresholds(*start)
    elif "band" not in st.session_state:
        put_thresholds(*st.session_state["thresholds"])
    largest = max(upper, st.session_state["band"][1])
    columns = st.columns([6, 2, 2, 1], vertical_alignment="bottom")
    columns[0].slider(
        "Review band from T1 to T2, in strangeness", 0.0, largest, step=STEP, key="band", on_change=from_band
    )
    columns[1].number_input(
        "T1, review from", 0.0, largest, step=STEP, key="t_review", on_change=from_boxes, args=("t_review",)
    )
    columns[2].number_input(
        "T2, defect from", 0.0, largest, step=STEP, key="t_defect", on_change=from_boxes, args=("t_defect",)
    )
    columns[3].button("Reset", on_click=put_thresholds, args=start, help="Back to the run's own thresholds")
    t_review, t_defect = st.session_state["band"]
    st.session_state["thresholds"] = (t_review, t_defect)
    calibration = opened.run.facts.calibration
    rarity = (
        f"By the calibration's scale {one_in(t_review)} is as strange as T1, and {one_in(t_defect)} as T2. "
        if calibration is None or calibration.promised
        else f"No rate goes with them: {no_promise(calibration.parts)}. "
    )
    st.caption(f"{rarity}Nothing is changed in the run by moving them here.")
    return t_review, t_defect


def put_thresholds(t_review: float, t_defect: float) -> None:
    """Set slider and boxes alike."""
    st.session_state["band"] = (t_review, t_defect)
    st.session_state["t_review"], st.session_state["t_defect"] = t_review, t_defect


def from_band() -> None:
    """Let the boxes follow the slider."""
    put_thresholds(*st.session_state["band"])


def from_boxes(moved: str) -> None:
    """Let the slider follow the boxes; the threshold that was not typed gives way."""
    typed = st.session_state[moved]
    t_review, t_defect = st.session_state["t_review"], st.session_state["t_defect"]
    put_thresholds(*((typed, max(typed, t_defect)) if moved == "t_review" else (min(t_review, typed), typed)))


def show_rates(counts: VerdictCounts) -> None:
    """Show what the thresholds do, with intervals."""
    shown = [
        ("Overkill", counts.overkill, "good parts judged DEFECT or OOD"),
        ("Escape", counts.escape, "labelled defects judged PASS"),
        ("Review load", counts.review_load, "judged pictures between T1 and T2"),
        ("First-pass yield", counts.passed, "pictures judged PASS"),
    ]
    for column, (name, measure, meaning) in zip(st.columns(4), shown, strict=True):
        with column, st.container(gap="xxsmall"):
            st.metric(name, "none" if measure.share is None else unbroken(percent(measure.share)))
            st.caption(rate_words(measure, meaning))


def rate_words(measure: Rate, meaning: str) -> str:
    """Say a rate's counts and interval."""
    if measure.share is None:
        return f"{meaning}: no such label in this run"
    return unbroken(
        f"{measure.events:,} of {measure.of:,} {meaning}; "
        f"95 % interval {percent(measure.low)} to {percent(measure.high)}"
    )


def show_histogram(counted: Histogram, t_review: float, t_defect: float) -> None:
    """Show strangeness by label, one row a group, and the same as a table."""
    table = histogram_table(counted)
    groups = [group.words for group in Truth if (table["label"] == group.words).any()]
    if not groups:
        st.info("No picture of this run has a strangeness: none could be judged.")
        return
    text = describe_histogram(counted, t_review, t_defect)
    with st.container(gap=None):
        for group in groups:
            chart = strangeness_row(table, group, counted.upper, t_review, t_defect, last=group == groups[-1])
            st.altair_chart(chart, width="stretch", alt=f"Histogram of strangeness, {group}. {text}")
    notes = ["T1 dashed, T2 solid."]
    if counted.above:
        notes.append(f"{counted.above:,} lie beyond {counted.upper:.3g} and stand in the last bar.")
    if counted.absent:
        notes.append(f"{counted.absent:,} have no strangeness.")
    st.caption(" ".join(notes))
    with st.expander("The chart as a table"):
        st.dataframe(table, hide_index=True, alt="Pictures by label and range of strangeness")


def show_cross_table(counts: VerdictCounts) -> None:
    """Show label by verdict at these thresholds."""
    st.subheader("Label by verdict")
    st.table(cross_table(counts))


def show_promises(opened: OpenedRun, counts: VerdictCounts) -> None:
    """Show what may be claimed at the run's own thresholds and at these."""
    st.subheader("What may be concluded")
    for promise in promises(opened.run.facts):
        st.markdown(
            unbroken(
                f"The run's {promise.name} of {promise.threshold:.2f}: {promise.share}; "
                f"90 % interval of what its calibration gives: {promise.interval}."
            )
        )
    for sentence in limit_sentences(counts, opened.run.facts.calibration):
        st.caption(unbroken(sentence))


main()
