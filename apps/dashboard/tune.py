"""Tune thresholds: move the review band, see what it does, promises and costs, and put it in force."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import streamlit as st
from cards import drawing
from components.band import moved_to, picked_bar, review_band
from opened import OpenedRun, current_run, show_error
from tune_bench import (
    STRANGENESS,
    Bench,
    gallery_link,
    lay_out,
    note_drawn,
    put_thresholds,
    sentence,
    without_echoes,
)
from tune_changes import show_changes
from tune_curves import show_curves, show_kinds
from tune_wishes import show_wishes
from words import verdict_word

from differnet.calibration import RevisionError
from differnet.evaluation.intervals import Rate, percent
from differnet.records import Verdict
from differnet.reporting.artefacts import PREVIEW_SIDE
from differnet.reporting.browsing import histogram_table, markdown_safe
from differnet.reporting.counts import VERDICTS, Truth, one_in
from differnet.reporting.figures import OPACITY, describe_histogram
from differnet.reporting.gallery_query import GalleryQuery
from differnet.reporting.tables import legible, unbroken
from differnet.tuning import (
    Bars,
    Flip,
    Moved,
    changed_verdicts,
    difference_words,
    expect,
    limits,
    move,
    promises,
)

# Of the slider and the boxes; finer than any calibration can tell.
STEP = 0.01
THUMBNAILS = 8
TABS = ("Verdicts", "What flips", "Curves", "By kind", "Suggest", "Apply and history")


def main() -> None:
    """Lay out the page."""
    opened = current_run()
    st.title("Tune thresholds")
    try:
        bench = lay_out(opened)
    except RevisionError as error:
        show_error(error)
        st.stop()
    say_in_force(opened, bench)
    tune(opened, bench)


def say_in_force(opened: OpenedRun, bench: Bench) -> None:
    """Say which thresholds are in force, and which judged this run."""
    t_review, t_defect = bench.active
    revision, facts = bench.basis.revision, opened.run.facts
    if revision is not None:
        who = f"revision {revision.number} by {revision.author}: {revision.reason}"
    elif bench.basis.of_model:
        who = "the calibration's own"
    else:
        who = "those that judged this run"
    words = f"In force: T1 {t_review:.2f}, T2 {t_defect:.2f}, {who}."
    judged = facts.t_review, facts.t_defect
    if judged != (bench.basis.t_review, bench.basis.t_defect) and None not in judged:
        words += f" This run was judged by T1 {facts.t_review:.2f}, T2 {facts.t_defect:.2f}."
    st.caption(markdown_safe(f"{words} Moving them here changes nothing until they are applied."))


@st.fragment
def tune(opened: OpenedRun, bench: Bench) -> None:
    """Show everything that moves with the thresholds; only this runs again when they move."""
    if st.session_state.pop("again", False):
        st.rerun()
    keep_thresholds(opened, bench)
    shown, log = threshold_widgets(bench)
    # Filled last: the browser waits for it before it tells of the next move, and then knows all the others.
    place = st.container()
    moved = move(bench.parts, *st.session_state["thresholds"])
    show_tiles(bench, moved)
    say_rarity(bench, moved)
    show_promises(bench, moved)
    tabs = st.tabs(list(TABS), key="tune_tab", on_change="rerun")
    shows = (show_verdicts, show_flips, show_curves, show_kinds, show_wishes, show_changes)
    for tab, show in zip(tabs, shows, strict=True):
        if tab.open:
            with tab:
                show(opened, bench, moved)
    show_table(shown)
    with place:
        show_band(bench, moved, shown, log)
    note_drawn()


def keep_thresholds(opened: OpenedRun, bench: Bench) -> None:
    """Begin a run with the thresholds in force, and keep those that a person moved to."""
    if st.session_state.get("thresholds_of") != opened.run.entry.run_id:
        st.session_state["thresholds_of"] = opened.run.entry.run_id
        for name in ("suggested", "picked"):
            st.session_state.pop(name, None)
        put_thresholds(*bench.active)
    elif "t_review" not in st.session_state:
        # Boxes of a page that was left are forgotten.
        put_thresholds(*st.session_state["thresholds"])
    st.session_state["largest"] = max(bench.upper, st.session_state["t_defect"])


def threshold_widgets(bench: Bench) -> tuple[Bars, bool]:
    """Show what the band is drawn on, and two boxes that move the same two thresholds.

    Returns:
        The histogram that was chosen, and whether its heights are logarithms.
    """
    largest, axes = st.session_state["largest"], list(bench.shown)
    columns = st.columns([4, 3, 3, 3, 2], vertical_alignment="bottom")
    axis = STRANGENESS
    if len(axes) > 1:
        axis = columns[0].segmented_control(
            "Axis", axes, key="axis", required=True, default=STRANGENESS, persist_state="session"
        )
    log = columns[1].toggle(
        "Log heights", key="log_heights", persist_state="session", help="Shows few parts beside thousands."
    )
    columns[2].number_input(
        "T1, review from", 0.0, largest, step=STEP, key="t_review", on_change=from_boxes, args=("t_review",)
    )
    columns[3].number_input(
        "T2, defect from", 0.0, largest, step=STEP, key="t_defect", on_change=from_boxes, args=("t_defect",)
    )
    columns[4].button(
        "Reset", on_click=put_thresholds, args=bench.active, width="stretch", help="Back to those in force"
    )
    st.session_state["thresholds"] = st.session_state["t_review"], st.session_state["t_defect"]
    return bench.shown[str(axis)], log


def show_band(bench: Bench, moved: Moved, shown: Bars, log: bool) -> None:
    """Show the histogram by label with the band that is dragged."""
    if not shown.counts.any():
        st.info("No picture of this run has a strangeness: none could be judged.")
        return
    words = f"Histogram of strangeness. {describe_histogram(bench.shown[STRANGENESS].histogram, None, None)}"
    review_band(
        shown,
        (moved.t_review, moved.t_defect),
        bench.active,
        version=bench.name,
        log=log,
        words=words,
        on_move=follow_band,
        on_pick=partial(keep_picked, shown),
    )
    notes = ["Drag a threshold or the band, or focus it and use the arrow keys. Dotted: in force."]
    if shown.above:
        notes.append(f"Last bar: {shown.above:,} beyond {shown.axis.upper:.3g}.")
    if shown.absent:
        notes.append(f"{shown.absent:,} without a strangeness.")
    st.caption(" ".join(notes))
    show_picked(bench)


def show_table(shown: Bars) -> None:
    """Show the histogram as a table."""
    with st.expander("The histogram as a table"):
        table = histogram_table(shown.histogram)
        st.dataframe(table, hide_index=True, alt="Pictures by label and range of strangeness")


def follow_band() -> None:
    """Let the boxes follow what was dragged."""
    if (to := moved_to()) is not None:
        largest = st.session_state["largest"]
        put_thresholds(min(to[0], largest), min(to[1], largest))


def keep_picked(shown: Bars) -> None:
    """Remember the bar that was clicked."""
    st.session_state["picked"] = picked_bar(shown)


def show_picked(bench: Bench) -> None:
    """Show the way to the pictures of the bar that was clicked."""
    picked = st.session_state.get("picked")
    if picked is None:
        return
    end = "on" if picked.high is None else f"to {picked.high:.2f}"
    query = GalleryQuery(
        run=bench.run_id,
        truths=(picked.truth,),
        judged=bench.judged,
        least=picked.low,
        below=picked.high,
    )
    words = f"{picked.count:,} {picked.truth.words}, strangeness {picked.low:.2f} {end}"
    gallery_link(f"{words}: see them in the gallery", query)


def from_boxes(typed_in: str) -> None:
    """Keep the order of what was typed; the threshold that was not typed gives way."""
    if typed_in in without_echoes():
        return
    typed = st.session_state[typed_in]
    t_review, t_defect = st.session_state["t_review"], st.session_state["t_defect"]
    put_thresholds(
        *((typed, max(typed, t_defect)) if typed_in == "t_review" else (min(t_review, typed), typed))
    )


def show_tiles(bench: Bench, moved: Moved) -> None:
    """Show what the thresholds do, with intervals, beside those in force."""
    now, before = moved.counts, bench.before.counts
    tiles = []
    if bench.parts.count(Truth.GOOD):
        tiles.append(("Overkill", now.overkill, before.overkill, "inverse", "good parts rejected"))
    if bench.parts.count(Truth.DEFECT):
        tiles.append(("Escape", now.escape, before.escape, "inverse", "defects passed"))
    tiles.append(("Review load", now.review_load, before.review_load, "inverse", "reviewed"))
    if bench.parts.labelled:
        tiles.append(("Precision", moved.precision, bench.before.precision, "normal", "rejected rightly"))
    if bench.parts.count(Truth.DEFECT):
        tiles.append(("Recall", moved.recall, bench.before.recall, "normal", "defects caught"))
    tiles.append(("First-pass yield", now.passed, before.passed, "normal", "passed"))
    lacking = not (bench.parts.count(Truth.GOOD) and bench.parts.count(Truth.DEFECT))
    columns = st.columns(len(tiles) + 2 * lacking)
    for column, (name, rate, was, colour, meaning) in zip(columns, tiles, strict=False):
        with column:
            show_tile(name, rate, was, colour, meaning)
    if lacking:
        show_expected(columns[-2:], bench, moved)


def show_tile(name: str, rate: Rate, was: Rate, colour: str, meaning: str) -> None:
    """Show one rate, how it differs from the thresholds in force, its counts and its interval."""
    change = difference_words(rate, was)
    with st.container(gap="xxsmall"):
        st.metric(
            name,
            "none" if rate.share is None else unbroken(percent(rate.share)),
            change or "as in force",
            delta_color="off" if change is None else colour,  # type: ignore[arg-type]
            delta_arrow="off" if change is None else "auto",
        )
        st.caption(rate_words(rate, meaning))


def rate_words(rate: Rate, meaning: str) -> str:
    """Say a rate's counts and interval."""
    if rate.share is None:
        return f"{meaning}: none to judge"
    return unbroken(
        f"{rate.events:,} of {rate.of:,} {meaning}; 95 %: {percent(rate.low)} to {percent(rate.high)}"
    )


def show_expected(columns: Sequence[st.delta_generator.DeltaGenerator], bench: Bench, moved: Moved) -> None:
    """Show what the calibration expects where labels do not tell."""
    if bench.expected is None:
        columns[0].metric("Good parts rejected", "unknown")
        columns[0].caption("No rate follows from what this run's calibration rests on.")
        return
    found = expect(bench.basis.good, bench.parts, moved.t_review, moved.t_defect)
    meaning = "calibration parts at T2"
    with columns[0]:
        show_tile("Good parts rejected", found.rejected, bench.expected.rejected, "inverse", meaning)
    with columns[1], st.container(gap="xxsmall"):
        st.metric("Good among the flagged", f"about {found.good_flagged:,.0f}")
        st.caption(
            unbroken(f"of {found.flagged:,} at or above T1; at most {found.most_good_flagged:,} at 95 %")
        )


def say_rarity(bench: Bench, moved: Moved) -> None:
    """Say how rare the thresholds are by the calibration's own scale."""
    if bench.basis.variations is None:
        st.caption(
            f"By the calibration's scale {one_in(moved.t_review)} is as strange as T1, and "
            f"{one_in(moved.t_defect)} as T2."
        )


def show_promises(bench: Bench, moved: Moved) -> None:
    """Show what holds of good parts to come, and what cannot be promised."""
    held = promises(bench.basis, moved.t_review, moved.t_defect)
    cannot = limits(bench.basis, bench.parts, moved, bench.drift)
    grave = not bench.basis.promised or bench.drift is not None or not bench.basis.of_model
    icon = ":material/warning:" if grave else ":material/info:"
    with st.expander(f"What holds, and what cannot be promised ({len(cannot)})", icon=icon):
        left, right = st.columns(2, gap="large")
        with left:
            st.markdown(f"**Of good parts to come, by {bench.basis.words}:**")
            for told in held or ("Nothing.",):
                st.markdown(f"- {sentence(told)}")
        with right:
            st.markdown("**Cannot be promised:**")
            for told in cannot:
                st.markdown(f"- {sentence(told)}")


def show_verdicts(opened: OpenedRun, bench: Bench, moved: Moved) -> None:
    """Show label by verdict; each number leads to its pictures."""
    widths = [2, *([2] * len(VERDICTS)), 1]
    heads = st.columns(widths, vertical_alignment="bottom")
    for head, verdict in zip(heads[1:], VERDICTS, strict=False):
        head.markdown(f"**{verdict_word(verdict)}**")
    heads[-1].markdown("**all**")
    for truth in Truth:
        counts = moved.counts.table[truth]
        if not counts.any():
            continue
        cells = st.columns(widths, vertical_alignment="center")
        cells[0].markdown(f"**{truth.words}**")
        for cell, verdict, count in zip(cells[1:], VERDICTS, counts.tolist(), strict=False):
            with cell:
                show_cell(opened, bench, moved, truth, verdict, count)
        cells[-1].text(f"{int(counts.sum()):,}")
    st.caption(
        "Each number opens its pictures in the gallery, judged by these thresholds. OOD and INVALID stay "
        "what they are, whatever the thresholds."
    )


def show_cell(
    opened: OpenedRun, bench: Bench, moved: Moved, truth: Truth, verdict: Verdict, count: int
) -> None:
    """Show one number of the table."""
    query = GalleryQuery(
        run=opened.run.entry.run_id,
        verdicts=(verdict,),
        truths=(truth,),
        judged=opened.judged,
        t_review=moved.t_review,
        t_defect=moved.t_defect,
    )
    words = f"{truth.words} judged {verdict.value}: open in the gallery"
    st.page_link("gallery.py", label=f"{count:,}", query_params=query.link(), help=words, disabled=not count)


def show_flips(opened: OpenedRun, bench: Bench, moved: Moved) -> None:
    """Show which pictures get another verdict than by the thresholds in force."""
    found = changed_verdicts(bench.parts.columns, bench.before.codes, moved.codes)
    if not found:
        st.info("No verdict changes: these thresholds judge this run as those in force do.")
        return
    flips = {f"{flip.before.value} to {flip.after.value}": flip for flip in found}
    if st.session_state.get("flip") not in flips:
        st.session_state["flip"] = next(iter(flips))
    name = st.segmented_control(
        "From the verdict in force to the one proposed",
        list(flips),
        key="flip",
        required=True,
        format_func=lambda pair: f"{pair}: {len(flips[pair].rows):,}",
    )
    flip = flips[str(name)]
    kinds = ", ".join(f"{int(flip.of[truth]):,} {truth.words}" for truth in Truth if flip.of[truth])
    st.caption(f"{len(flip.rows):,} pictures go from {flip.before.value} to {flip.after.value}: {kinds}.")
    show_thumbnails(opened, flip)
    facts = opened.run.facts
    if (facts.t_review, facts.t_defect) == bench.active:
        query = GalleryQuery(
            run=opened.run.entry.run_id,
            was=(flip.before,),
            verdicts=(flip.after,),
            judged=opened.judged,
            t_review=moved.t_review,
            t_defect=moved.t_defect,
            flips=True,
        )
        gallery_link(f"All {len(flip.rows):,} in the gallery", query)


def show_thumbnails(opened: OpenedRun, flip: Flip) -> None:
    """Show the strangest of the pictures that flip."""
    table = opened.run.table
    shown = opened.run.records([table.item_id[row] for row in flip.rows[:THUMBNAILS].tolist()])
    for column, item in zip(st.columns(THUMBNAILS, gap="small"), shown, strict=False):
        with column, st.container(gap="xxsmall"):
            name = legible(item.part_id or item.item_id)
            if (picture := drawing(opened, item, PREVIEW_SIDE, OPACITY, regions=True)) is not None:
                st.image(picture, width="stretch", alt=f"{flip.after.value}: {name}")
            else:
                st.caption("No picture")
            figure = "" if item.strangeness is None else f"{item.strangeness:.2f}"
            query = {"run": opened.run.entry.run_id, "item": item.item_id}
            st.page_link("picture.py", label=f"{figure} {markdown_safe(name)}", query_params=query)


main()
