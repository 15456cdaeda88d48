"""Put thresholds in force, see who set which before, and go back."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import streamlit as st
from opened import OpenedRun, person, record, show_error, writable
from tune_bench import Bench, put_thresholds

from differnet.calibration import Revision
from differnet.records import DiffernetError
from differnet.reporting.browsing import markdown_safe
from differnet.reporting.counts import VERDICTS
from differnet.reporting.tables import legible
from differnet.tuning import Moved, Place, history_of, put_in_force, roll_back, set_by_hand


def show_changes(opened: OpenedRun, bench: Bench, moved: Moved) -> None:
    """Put the thresholds in force, see who set which before, and go back to them."""
    if (told := st.session_state.pop("applied", None)) is not None:
        st.success(told)
    left, right = st.columns(2, gap="large")
    with left:
        show_difference(bench, moved)
    with right:
        apply_form(opened, bench, moved)
    st.subheader("History")
    show_history(opened, bench)


def show_difference(bench: Bench, moved: Moved) -> None:
    """Show what would change, before anything does."""
    sides = {"in force": bench.before, "proposed": moved}
    rows = {
        "T1": [f"{side.t_review:.3f}" for side in sides.values()],
        "T2": [f"{side.t_defect:.3f}" for side in sides.values()],
        **{
            verdict.value: [f"{side.counts.of_verdict(verdict):,}" for side in sides.values()]
            for verdict in VERDICTS
        },
        "Overkill": [str(side.counts.overkill) for side in sides.values()],
        "Escape": [str(side.counts.escape) for side in sides.values()],
    }
    st.table(pd.DataFrame.from_dict(rows, orient="index", columns=list(sides)))


def hindrance(bench: Bench) -> str | None:
    """Say why nothing can be applied here, if nothing can."""
    if not writable():
        return "The record is open to read only. Start the dashboard without --read-only to apply thresholds."
    if bench.folder is None or not bench.basis.of_model:
        return (
            f"{bench.basis.problem} To apply thresholds, put the model back, or start the dashboard with "
            "--workspace and the folder that holds it."
        )
    if not person():
        return "Say who you are, in the sidebar: it is kept with the thresholds."
    return None


def apply_form(opened: OpenedRun, bench: Bench, moved: Moved) -> None:
    """Ask for a reason, and put the thresholds in force."""
    why = hindrance(bench)
    reason = st.text_input("Reason", key="reason", max_chars=500, help="It is kept with the thresholds.")
    same = (moved.t_review, moved.t_defect) == bench.active
    st.button(
        "Put in force",
        type="primary",
        key="apply",
        disabled=why is not None or same or not reason.strip(),
        on_click=apply,
        args=(opened, bench, moved),
    )
    if (failed := st.session_state.pop("refused", None)) is not None:
        show_error(failed)
    if why is not None:
        st.info(markdown_safe(why))
    elif same:
        st.caption("These thresholds are in force already.")
    elif not reason.strip():
        st.caption("A reason is needed.")
    st.caption(
        "Once applied, the next inspection and batch job of this model use them, from the command line too. "
        "The verdicts of this run stay as they were given."
    )


def apply(opened: OpenedRun, bench: Bench, moved: Moved) -> None:
    """Put the thresholds in force, or keep why they are not."""
    basis, chosen = bench.basis, st.session_state.get("suggested")
    pair = moved.t_review, moved.t_defect
    try:
        if chosen is None or (chosen.review, chosen.defect) != pair:
            chosen = set_by_hand(basis.good, basis.parts, *pair, promised=basis.promised)
        kept = put_in_force(
            record(), place_of(opened, bench), chosen, author=person(), reason=st.session_state["reason"]
        )
    except DiffernetError as error:
        refuse(error)
        return
    say_applied(kept)
    st.session_state["reason"] = ""


def refuse(error: DiffernetError) -> None:
    """Keep for the next look at the page why nothing was applied."""
    st.session_state["refused"] = error
    # Somebody else may have set thresholds: the whole page tells of them then.
    st.session_state["again"] = True


def say_applied(kept: Revision) -> None:
    """Keep for the next look at the page what was applied."""
    st.session_state["applied"] = (
        f"Revision {kept.number} is in force: T1 {kept.review:.2f}, T2 {kept.defect:.2f}."
    )
    # The whole page, not the part that moves alone, tells what is in force.
    st.session_state["again"] = True


def place_of(opened: OpenedRun, bench: Bench) -> Place:
    """Say whose thresholds are meant, and which of them this page has shown."""
    facts = opened.run.facts
    return Place(bench.folder or Path(), facts.model_id, facts.calibration_id, bench.basis.last)


def show_history(opened: OpenedRun, bench: Bench) -> None:
    """Show every threshold that was in force, and the way back."""
    if bench.folder is None:
        st.caption("Not known: the record does not say where the model lies.")
        return
    facts = opened.run.facts
    # A run keeps the digest of the thresholds that judged it: that line must still be there.
    judged_by = facts.thresholds_set.sha256 if facts.thresholds_set and bench.basis.of_model else ""
    try:
        kept = history_of(bench.folder, judged_by or None)
    except DiffernetError as error:
        show_error(error)
        return
    if not kept:
        st.caption("Nobody has set thresholds: those of the calibration are in force.")
        return
    ours = [r for r in kept if (r.model_id, r.calibration_id) == (facts.model_id, facts.calibration_id)]
    table = pd.DataFrame(
        {
            "revision": [r.number for r in kept],
            "when, UTC": [r.time[:16].replace("T", " ") for r in kept],
            "who": [legible(r.author) for r in kept],
            "T1": [r.review for r in kept],
            "T2": [r.defect for r in kept],
            "why": [legible(r.reason) for r in kept],
            "rule": [legible(r.rule) for r in kept],
            "as revision": [r.rolled_back_to for r in kept],
            "for this model": [r in ours for r in kept],
            "sha256": [r.sha256[:12] for r in kept],
            "follows": [r.previous[:12] for r in kept],
        }
    )
    figure = st.column_config.NumberColumn(format="%.3f")
    st.dataframe(
        table,
        hide_index=True,
        alt="Thresholds that were in force, the newest first",
        column_config={"T1": figure, "T2": figure},
    )
    st.caption(
        "Each line carries the sha256 of the one before; the chain was checked just now and is whole. "
        "Nothing is ever removed."
    )
    earlier = [r.number for r in ours if r != bench.basis.revision]
    if not earlier:
        return
    one, two, three = st.columns([2, 6, 2], vertical_alignment="bottom")
    number = one.selectbox("Go back to revision", earlier, key="back_to")
    why = two.text_input("Reason to go back", key="back_reason", max_chars=500)
    three.button(
        "Roll back",
        key="roll_back",
        width="stretch",
        disabled=hindrance(bench) is not None or not why.strip(),
        on_click=go_back,
        args=(opened, bench, number),
    )


def go_back(opened: OpenedRun, bench: Bench, number: int) -> None:
    """Put the thresholds of an earlier revision in force again, or keep why they are not."""
    reason = st.session_state["back_reason"]
    try:
        kept = roll_back(record(), place_of(opened, bench), number, author=person(), reason=reason)
    except DiffernetError as error:
        refuse(error)
        return
    put_thresholds(kept.review, kept.defect)
    say_applied(kept)
    st.session_state["back_reason"] = ""
