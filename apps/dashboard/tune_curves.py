"""The curves of the page that tunes thresholds, and how each kind of defect fares."""

from __future__ import annotations

import pandas as pd
import streamlit as st
from opened import OpenedRun, show_error
from tune_bench import Bench, evidence_of, gallery_link, quantiles_of, separation_of
from tune_charts import RATES, cost_chart, curve_chart, deviate_chart, quantile_chart, recall_chart

from differnet.evaluation.intervals import percent
from differnet.records import DiffernetError, Verdict
from differnet.reporting.browsing import markdown_safe
from differnet.reporting.counts import VERDICTS, Truth
from differnet.reporting.gallery_query import GalleryQuery
from differnet.reporting.tables import legible, unbroken
from differnet.tuning import (
    Curve,
    Moved,
    OperatingPoint,
    Separation,
    Wish,
    by_kind,
    cost_curve,
    deviates,
    operating_point,
)

# Kinds that are named beside the chart; the table names them all.
LISTED_KINDS = 8
CURVES = ("ROC", "Precision and recall", "Detection error", "Cost", "p-values of good parts")


def show_curves(opened: OpenedRun, bench: Bench, moved: Moved) -> None:
    """Show one of the curves over all thresholds, with the two on it, and the same as a table."""
    name = st.segmented_control(
        "Curve", CURVES, key="curve", required=True, default=CURVES[0], persist_state="session"
    )
    if name == CURVES[4]:
        show_quantiles(bench)
        return
    if not (bench.parts.count(Truth.GOOD) and bench.parts.count(Truth.DEFECT)):
        st.info("This curve takes labelled good parts and labelled defects; this run lacks one of them.")
        return
    if name == CURVES[3]:
        show_costs(bench, moved)
        return
    found = separation_of(bench, bench.name)
    evidence = evidence_of(bench, bench.name)
    marks = {
        word: operating_point(evidence.labelled_good, evidence.defects, threshold)
        for word, threshold in (("T1", moved.t_review), ("T2", moved.t_defect))
    }
    left, right = st.columns([3, 2], gap="large")
    with right:
        st.markdown(
            unbroken(
                f"AUROC **{found.auroc.auroc:.4f}** (95 % interval {found.auroc.low:.4f} to "
                f"{found.auroc.high:.4f}), average precision **{found.aupr:.4f}**, on {found.good:,} good "
                f"parts and {found.defects:,} defects."
            )
        )
        st.caption(
            "At T1 what is reviewed or rejected counts as flagged, at T2 what is rejected. The curves are of "
            "strangeness alone: what is OOD or reviewed for another reason counts by its strangeness."
        )
    with left:
        if name == CURVES[0]:
            curve, titles = found.roc, ("overkill", "defects caught")
            at = [(word, point.overkill, point.caught) for word, point in marks.items()]
        elif name == CURVES[1]:
            curve, titles = found.precision_recall, ("defects caught", "defects among the flagged")
            at = [
                (word, point.caught, point.precision)
                for word, point in marks.items()
                if point.precision is not None
            ]
        else:
            show_detection_error(found, marks, right)
            return
        points, drawn = curve_table(curve), pd.DataFrame(at, columns=["word", "x", "y"])
        guide = pd.DataFrame({"x": [0.0, 1.0], "y": [0.0, 1.0]}) if name == CURVES[0] else None
        chart = curve_chart(points, drawn, *titles, ink(), guide)
        st.vega_lite_chart(spec=chart, width="stretch", alt=f"{name}: {titles[1]} over {titles[0]}")
    with right:
        show_points(points.rename(columns={"x": titles[0], "y": titles[1]}), curve.off)


def show_detection_error(
    found: Separation, marks: dict[str, OperatingPoint], right: st.delta_generator.DeltaGenerator
) -> None:
    """Show overkill against escape on the normal law's axes."""
    curve = found.detection_error
    if not curve.x.size:
        st.info("Good parts and defects are perfectly apart: no threshold has both kinds of error.")
        return
    rates = curve_table(curve).rename(columns={"x": "overkill", "y": "escape"})
    points = rates.assign(x=deviates(curve.x), y=deviates(curve.y))
    at = [(word, *deviates(errors)) for word, point in marks.items() if (errors := point.errors) is not None]
    drawn = pd.DataFrame(at, columns=["word", "x", "y"])
    chart = deviate_chart(points, drawn, deviates([float(rate) / 100 for rate in RATES]).tolist(), ink())
    st.vega_lite_chart(spec=chart, width="stretch", alt="Detection error: escape over overkill")
    with right:
        show_points(rates, curve.off)


def ink() -> str:
    """Return the colour of words in charts, which do not take the theme's by themselves."""
    return "#f2f0eb" if st.context.theme.type == "dark" else "#2b2b29"


def curve_table(curve: Curve) -> pd.DataFrame:
    """Lay a curve out for a chart."""
    return pd.DataFrame(
        {"x": curve.x, "y": curve.y, "threshold": curve.threshold, "place": range(len(curve.x))}
    )


def show_points(points: pd.DataFrame, off: float) -> None:
    """Show the points of a curve as a table, and how many of them there are."""
    with st.expander("The curve as a table"):
        kept = points.drop(columns="place", errors="ignore")
        st.dataframe(kept, hide_index=True, height=240, alt="Points of the curve")
        if off:
            st.caption(
                f"{len(kept):,} of its points are shown, each exact. None that is left out lies further than "
                f"{percent(off)} of the axes from the line."
            )


def show_costs(bench: Bench, moved: Moved) -> None:
    """Show what a part costs on average at every threshold, for costs that a person gives."""
    left, right = st.columns([3, 2], gap="large")
    with right:
        wish = cost_widgets()
    evidence = evidence_of(bench, bench.name)
    try:
        found = cost_curve(
            evidence.good,
            evidence.defects,
            (moved.t_review, moved.t_defect),
            cost_overkill=wish.cost_overkill or 0.0,
            cost_escape=wish.cost_escape or 0.0,
            defect_share=wish.defect_share or 0.0,
            cost_review=wish.cost_review,
        )
    except DiffernetError as error:
        with left:
            show_error(error)
        return
    lines = [("least cost", found.defect), ("T1", moved.t_review), ("T2", moved.t_defect)]
    with left:
        points = curve_table(found.curve)
        st.vega_lite_chart(
            spec=cost_chart(points, pd.DataFrame(lines, columns=["word", "x"]), bench.upper, ink()),
            width="stretch",
            alt=f"Expected cost a part by threshold; least {found.least:.3g} at {found.defect:.2f}",
        )
    with right:
        now = "unknown until a look has a cost" if found.now is None else f"{found.now:.4g}"
        st.markdown(
            f"Least cost **{found.least:.4g}** a part, at T1 {found.review:.2f} and T2 {found.defect:.2f}; "
            f"at these thresholds {now}."
        )
        st.caption(f"Good parts: {bench.basis.words}. Defects: the labelled ones of this run.")
        show_points(points.drop(columns="x").rename(columns={"y": "cost a part"}), found.curve.off)


def cost_widgets() -> Wish:
    """Let a person say what errors cost."""
    one, two = st.columns(2, vertical_alignment="bottom")
    overkill = one.number_input(
        "A rejected good part costs", 0.0, value=1.0, key="cost_overkill", persist_state="session"
    )
    escape = two.number_input(
        "A defect passed costs", 0.0, value=20.0, key="cost_escape", persist_state="session"
    )
    looked = st.toggle(
        "A person looks at what is reviewed", value=True, key="cost_looked", persist_state="session"
    )
    one, two = st.columns(2, vertical_alignment="bottom")
    review = one.number_input(
        "A look costs", 0.0, value=0.2, key="cost_review", disabled=not looked, persist_state="session"
    )
    defects = two.number_input(
        "Defects on the line, %",
        0.001,
        99.0,
        value=1.0,
        format="%.3f",
        key="cost_defects",
        persist_state="session",
    )
    return Wish(
        cost_overkill=overkill,
        cost_escape=escape,
        cost_review=review if looked else None,
        defect_share=defects / 100,
    )


def show_quantiles(bench: Bench) -> None:
    """Show p-values of the run's good parts beside uniform ones."""
    found = quantiles_of(bench, bench.name)
    if found is None:
        st.info("This takes labelled good parts with a p-value; this run has none.")
        return
    left, right = st.columns([3, 2], gap="large")
    table = pd.DataFrame(
        {"uniform": found.uniform, "found": found.found, "low": found.low, "high": found.high}
    )
    summary = found.summary
    with left:
        st.vega_lite_chart(
            spec=quantile_chart(table), width="stretch", alt="p-values of good parts beside uniform ones"
        )
    with right:
        st.markdown(
            unbroken(
                f"Of {int(summary['count']):,} labelled good parts {percent(summary['share_01'])} have a "
                f"p-value of at most 1 % (95 % interval {percent(summary['low_01'])} to "
                f"{percent(summary['high_01'])}), and {percent(summary['share_05'])} one of at most 5 %. "
                f"Largest distance from uniform: {summary['ks_distance']:.3f}."
            )
        )
        st.caption(
            "On or above the dashed line the promised rates hold: there are no more small p-values than "
            "promised. Grey: where each point of uniform p-values lies 95 times in 100. p-values of one "
            "calibration share its luck, so with few calibration parts more points leave it."
        )
        show_points(table, found.off)


def show_kinds(opened: OpenedRun, bench: Bench, moved: Moved) -> None:
    """Show how each kind of defect and wrong input is judged."""
    rows = by_kind(bench.parts, moved.codes)
    if not rows:
        st.info("No part of this run is known to be a defect or a wrong input.")
        return
    table = pd.DataFrame(
        {
            "kind": [legible(row.kind) for row in rows],
            "caught": [row.caught.share for row in rows],
            "parts": [int(row.counts.sum()) for row in rows],
            **{
                verdict.value: [int(row.counts[place]) for row in rows]
                for place, verdict in enumerate(VERDICTS)
            },
            "low": [row.caught.low for row in rows],
            "high": [row.caught.high for row in rows],
        }
    )
    left, right = st.columns([3, 2], gap="large")
    with left:
        st.vega_lite_chart(
            spec=recall_chart(table.dropna(subset="caught")),
            width="stretch",
            alt="Share of each kind that does not pass, with 95 % intervals",
        )
    with right:
        passed = [row for row in rows if row.counts[0]]
        st.markdown("**Kinds that pass**" if passed else "No part of a kind that is known passes.")
        for row in passed[:LISTED_KINDS]:
            query = GalleryQuery(
                run=opened.run.entry.run_id,
                verdicts=(Verdict.PASS,),
                kinds=(row.kind,),
                judged=opened.judged,
                t_review=moved.t_review,
                t_defect=moved.t_defect,
            )
            gallery_link(f"{int(row.counts[0]):,} of {markdown_safe(row.kind)}", query)
        if len(passed) > LISTED_KINDS:
            st.caption(f"and {len(passed) - LISTED_KINDS:,} more kinds, in the table")
    shares = st.column_config.NumberColumn(format="percent")
    st.dataframe(
        table,
        hide_index=True,
        alt="Verdicts by kind",
        column_config=dict.fromkeys(("caught", "low", "high"), shares),
    )
