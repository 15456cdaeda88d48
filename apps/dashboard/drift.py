"""Drift and health: are parts still what the model was calibrated on, and is the model itself sound?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st
from loading import examined, show_self_test
from opened import OpenedRun, current_run, place, record, show_error, workspace
from trends import figure_row, p_value_row, wealth_row

from differnet.calibration import BatchDrift
from differnet.evaluation.intervals import percent
from differnet.records import DiffernetError
from differnet.reporting.browsing import markdown_safe
from differnet.reporting.drifting import (
    PICTURES,
    TESTED_PARTS,
    WATCHED_PARTS,
    Line,
    drift_words,
    figures_table,
    line_drift,
    line_of_model,
    line_of_run,
    movements_table,
    pictures_of_run,
    watch_line,
    watch_table,
    watch_words,
)
from differnet.reporting.known_models import require_place
from differnet.reporting.tables import legible, unbroken

if TYPE_CHECKING:
    from differnet.detection.judging import DriftFigures

RUN, LATEST = "this run", "latest of all runs"
CALM, ALARM = "\N{CHECK MARK}", "\N{BLACK DIAMOND}"


def main() -> None:
    """Lay out the page."""
    opened = current_run()
    st.title("Drift and health")
    scope, number, alpha = controls()
    line = show_test(opened, scope, number, alpha)
    if line is not None:
        show_watch(opened, scope, alpha)
    show_pictures(opened, alpha)
    show_health(opened)


def controls() -> tuple[str, int, float]:
    """Let a person choose which parts are asked about, and how often an alarm may be false."""
    left, middle, right = st.columns([4, 2, 2], vertical_alignment="bottom")
    if "drift_scope" not in st.session_state and st.query_params.get("drift_scope") != LATEST:
        st.session_state["drift_scope"] = RUN
    scope = left.segmented_control(
        "Parts", [RUN, LATEST], required=True, key="drift_scope", bind="query-params"
    )
    number = middle.number_input(
        "Latest parts tested", 2, 2000, TESTED_PARTS, key="drift_parts", persist_state="session"
    )
    alpha = right.number_input(
        "False alarms, %", 0.01, 20.0, 1.0, 0.5, key="drift_alpha", persist_state="session"
    )
    return str(scope or RUN), int(number), float(alpha) / 100


def show_test(opened: OpenedRun, scope: str, number: int, alpha: float) -> Line | None:
    """Say whether the parts have drifted, as far as the record can tell; return them where it can."""
    st.subheader("Are the parts still like the calibration parts?")
    key = (*opened.key, record().changes() if scope == LATEST else 0)
    try:
        line = _line(opened, place(), key, scope)
        tested = line.latest(number)
        found = _test(tested, place(), key, scope, number, alpha)
    except DiffernetError as error:
        claim_nothing(error)
        return None
    told = drift_words(found, len(tested), line.parts)
    st.markdown(f"**{ALARM if found.alarm else CALM} {unbroken(told[0])}**")
    for sentence in told[1:]:
        st.markdown(unbroken(sentence))
    st.caption(
        unbroken(
            f"Tested by the p-values on record, which place parts among {line.parts:,} calibration parts; "
            "deviations are on a scale on which good parts are normal. Left out: "
            f"{line.left_out:,} parts known as defects or wrong inputs, {line.unjudged:,} without p-values"
            + (f", {tested.earlier:,} earlier ones." if tested.earlier else ".")
        )
    )
    show_movements(found)
    return line


def show_movements(found: BatchDrift) -> None:
    """Show what a test found of each figure."""
    with st.expander("Every figure that was compared"):
        st.dataframe(
            movements_table(found),
            hide_index=True,
            column_config={
                "moved": st.column_config.NumberColumn("moved, deviations", format="%+.2f"),
                "spread": st.column_config.NumberColumn("spread, times the usual", format="%.2f"),
                "p": st.column_config.NumberColumn("p-value", format="%.4f"),
            },
            alt="How each figure of these parts compares with the calibration parts",
        )


def show_watch(opened: OpenedRun, scope: str, alpha: float) -> None:
    """Show the line part by part, with a monitor's capital."""
    st.subheader("The line, part by part")
    key = (*opened.key, record().changes() if scope == LATEST else 0)
    try:
        words, alarm, level, table = _watch(opened, place(), key, scope, alpha)
    except DiffernetError as error:
        claim_nothing(error)
        return
    st.markdown(f"**{ALARM if alarm else CALM} {markdown_safe(words)}**")
    with st.container(gap=None):
        st.altair_chart(wealth_row(table, level), width="stretch", alt=f"Capital of the monitor. {words}")
        st.altair_chart(p_value_row(table), width="stretch", alt="p-value of each part in their order")
    st.caption(
        "A monitor bets against the parts being like the calibration parts. As long as they are, it cannot "
        f"win: the chance that its capital ever reaches {1 / alpha:,.0f} is {percent(alpha)}, however long "
        "one watches. The watch begins with the first part shown, and its promise is for one watch."
    )
    with st.expander("The charts as a table"):
        st.dataframe(
            table.assign(run=table["run"].map(legible)),
            hide_index=True,
            alt="Parts with p-value and the monitor's capital, decimal logarithm",
        )


def show_pictures(opened: OpenedRun, alpha: float) -> None:
    """Let the model look at the pictures again, and show what changed about them."""
    st.subheader("What changed in the pictures?")
    st.caption(
        "The record keeps no light, contrast or sharpness. The model looks again at the latest "
        f"{PICTURES} pictures of this run that may show good parts: about a minute."
    )
    if st.button("Look at the pictures again"):
        st.session_state.pop("drift_pictures", None)
        try:
            st.session_state["drift_pictures"] = (opened.key, *look_again(opened))
        except DiffernetError as error:
            show_error(error)
    kept = st.session_state.get("drift_pictures")
    if kept is None or kept[0] != opened.key:
        return
    _, figures, lost = kept
    try:
        found = figures.test(alpha)
    except DiffernetError as error:
        claim_nothing(error)
        return
    told = drift_words(found, len(figures.batch), len(figures.calibration), "pictures")
    st.markdown(f"**{ALARM if found.alarm else CALM} {unbroken(told[0])}**")
    for sentence in told[1:]:
        st.markdown(unbroken(sentence))
    for words in lost[:3]:
        st.caption(markdown_safe(f"left out: {words}"))
    if len(lost) > 3:
        st.caption(f"left out: {len(lost) - 3:,} more")
    show_figures(figures, found)
    show_movements(found)


def look_again(opened: OpenedRun) -> tuple[DriftFigures, list[str]]:
    """Measure the latest pictures of the run with its model."""
    folder = require_place(record(), opened.run.entry.model_id)
    chosen = pictures_of_run(record(), opened.run.entry.run_id, (Path(), workspace()), PICTURES)
    detector = examined(folder).sound_detector
    bar = st.progress(0.0, "Looking at the pictures")

    def told(_: str, done: int, total: int) -> None:
        bar.progress(done / max(1, total), f"Looking at the pictures: {done} of {total}")

    figures = detector.drift_figures(chosen.paths, told)
    bar.empty()
    skipped = [f"{path}: {reason}" for path, reason in detector.skipped]
    return figures, [*chosen.lost, *skipped]


def show_figures(figures: DriftFigures, found: BatchDrift) -> None:
    """Show each figure, picture by picture, those that moved first."""
    moved = [each.name for each in found.moved]
    places = st.columns(2)
    for i, name in enumerate(sorted(figures.names, key=lambda each: each not in moved)):
        state = "moved" if name in moved else "usual"
        places[i % 2].altair_chart(
            figure_row(figures_table(figures, name), name, name in moved),
            width="stretch",
            alt=f"{name} of each picture beside the calibration parts: {state}",
        )
    st.caption("Grey: where 95 in 100 calibration parts lie.")
    with st.expander("The charts as a table"):
        columns = {name: figures.batch[:, i] for i, name in enumerate(figures.names)}
        shown = pd.DataFrame({"picture": [legible(each) for each in figures.pictures], **columns})
        st.dataframe(shown, hide_index=True, alt="Figures of each picture")


def show_health(opened: OpenedRun) -> None:
    """Let the model test itself, and show what each check found."""
    st.subheader("Health of the model")
    model_id = opened.run.entry.model_id
    try:
        folder = require_place(record(), model_id)
    except DiffernetError as error:
        st.info(markdown_safe(f"Model {model_id} cannot be tested: {error.found}. {error.remedy}"))
        return
    st.caption(markdown_safe(f"Model {model_id} at {folder}"))
    if st.button("Let the model test itself", key="test itself"):
        st.session_state["drift_tested"] = model_id
    if st.session_state.get("drift_tested") != model_id:
        return
    try:
        found = examined(folder)
    except DiffernetError as error:
        show_error(error)
        return
    show_self_test(found)


def claim_nothing(error: DiffernetError) -> None:
    """Say plainly that nothing can be claimed, and why."""
    words = f"Nothing can be claimed: expected {error.expected}; found {error.found}. {error.remedy}"
    st.info(markdown_safe(words))


@st.cache_resource(max_entries=8, show_spinner=False)
def _line(_opened: OpenedRun, place: str, key: tuple[str, int, bool, int], scope: str) -> Line:
    # Streamlit leaves the run out of the key: its name and changes stand for it.
    entry = _opened.run.entry
    if scope == LATEST:
        return line_of_model(record(), entry, WATCHED_PARTS)
    return line_of_run(record(), _opened.run.table, entry.model_id, entry.calibration_id)


@st.cache_data(max_entries=64, show_spinner="Testing the parts")
def _test(
    _line: Line, place: str, key: tuple[str, int, bool, int], scope: str, number: int, alpha: float
) -> BatchDrift:
    return line_drift(_line, alpha)


@st.cache_data(max_entries=16, show_spinner="Watching the line")
def _watch(
    _opened: OpenedRun, place: str, key: tuple[str, int, bool, int], scope: str, alpha: float
) -> tuple[str, bool, float, pd.DataFrame]:
    line = _line(_opened, place, key, scope).latest(WATCHED_PARTS)
    watch = watch_line(line, alpha)
    return watch_words(line, watch), watch.alarm_at is not None, watch.level_log10, watch_table(line, watch)


main()
