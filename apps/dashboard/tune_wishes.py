"""Suggestions on the page that tunes thresholds: say what matters, get two thresholds."""

from __future__ import annotations

import streamlit as st
from opened import OpenedRun, show_error
from tune_bench import Bench, evidence_of, put_thresholds, sentence
from tune_curves import cost_widgets

from differnet.calibration import Suggestion
from differnet.records import DiffernetError
from differnet.tuning import Moved, Wish, changed_verdicts, move, suggest

WISHES = {
    "no more overkill than": "max_overkill",
    "no more escapes than": "max_escape",
    "the least cost": "cost_overkill",
    "what the reviewers can look at": "review_budget",
    "few good parts among the rejected": "fdr",
    "the largest F1 on labelled parts": "best_f1",
    "thresholds without labelled defects": "no_defects",
}


def show_wishes(opened: OpenedRun, bench: Bench, moved: Moved) -> None:
    """Let a person say what matters, and suggest thresholds for it."""
    left, right = st.columns([2, 3], gap="large")
    with left:
        name = st.selectbox("I wish for", list(WISHES), key="wish", persist_state="session")
        wish = wish_widgets(WISHES[str(name)])
        if bench.basis.own is not None:
            st.button(
                "Back to the calibration's own thresholds",
                on_click=put_thresholds,
                args=bench.basis.own,
                help="Moves the band; nothing is applied.",
            )
    with right:
        if not bench.basis.promised:
            st.info("Nothing can be promised of this calibration: move the band by hand.")
            return
        try:
            found = suggest(wish, evidence_of(bench, bench.name))
        except DiffernetError as error:
            show_error(error)
            return
        show_suggestion(bench, found)


def wish_widgets(rule: str) -> Wish:
    """Let a person fill in what a wish needs; shares in percent."""

    def share(words: str, key: str, usual: float, largest: float = 99.0) -> float:
        shown = st.number_input(
            f"{words}, %",
            0.001,
            largest,
            value=usual,
            format="%.3f",
            key=key,
            persist_state="session",
        )
        return float(shown) / 100

    match rule:
        case "max_overkill":
            rejected = share("Good parts rejected at most", "wish_overkill", 1.0)
            return Wish(
                max_overkill=rejected, max_review=share("Reviewed or rejected at most", "wish_review", 5.0)
            )
        case "max_escape":
            passed = share("Defects that pass at most", "wish_escape", 5.0)
            return Wish(max_escape=passed, confidence=share("With a confidence of", "wish_sure", 95.0, 99.9))
        case "cost_overkill":
            return cost_widgets()
        case "review_budget":
            return Wish(review_budget=share("Good parts reviewed at most", "wish_budget", 3.0))
        case "fdr":
            return Wish(fdr=share("Good parts among the rejected at most", "wish_fdr", 10.0))
        case "best_f1":
            split = st.toggle(
                "Choose on one half, measure on the other",
                value=True,
                key="wish_split",
                persist_state="session",
            )
            return Wish(best_f1=True, split=split or None)
        case _:
            st.caption("Near the best F1, from good parts and this run's own parts, whatever they are.")
            return Wish(no_defects=True)


def show_suggestion(bench: Bench, found: Suggestion) -> None:
    """Show suggested thresholds with what they promise, and the way to take them over."""
    after = move(bench.parts, found.review, found.defect)
    changed = sum(
        len(flip.rows) for flip in changed_verdicts(bench.parts.columns, bench.before.codes, after.codes)
    )
    heads = st.columns(3)
    heads[0].metric("T1, review from", f"{found.review:.3f}")
    heads[1].metric("T2, defect from", f"{found.defect:.3f}")
    heads[2].metric("Verdicts that change", f"{changed:,}")
    st.button("Move the band there", type="primary", on_click=take, args=(found,))
    for told in found.promises:
        st.markdown(f":material/check: {sentence(told)}")
    st.markdown("**Cannot be promised:**")
    for told in found.cannot:
        st.markdown(f"- {sentence(told)}")
    if not bench.basis.of_model:
        st.caption(f"Good parts: {bench.basis.words}, not those of a calibration.")


def take(found: Suggestion) -> None:
    """Move the band to suggested thresholds, and remember what they promise."""
    st.session_state["suggested"] = found
    st.session_state["largest"] = max(st.session_state["largest"], found.defect)
    put_thresholds(max(0.0, found.review), max(0.0, found.defect))
