"""Overview: how a run, or a product over some days, is doing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import streamlit as st
from opened import OpenedRun, current_run, judged, place, record
from streamlit.delta_generator import DeltaGenerator
from trends import lot_row, pareto
from words import verdict_word

from differnet.evaluation.intervals import Rate, percent
from differnet.records import Verdict
from differnet.reporting.browsing import markdown_safe
from differnet.reporting.counts import Truth
from differnet.reporting.gallery_query import GalleryQuery
from differnet.reporting.overview import (
    SPANS,
    Overview,
    RunRow,
    Signals,
    change_words,
    changes_between,
    chart_table,
    latest_runs,
    overview_of_run,
    overview_of_span,
    pareto_table,
    run_charts,
    signals_of,
    since_of,
)
from differnet.reporting.report import headline
from differnet.reporting.tables import legible, unbroken
from differnet.store import RunEntry

RUN, ANY = "this run", "all products"
REASONS_SHOWN = 5
SIGNALS_SHOWN = 5
HERE = Path(__file__).parent


def main() -> None:
    """Lay out the page."""
    opened = current_run()
    st.title("Overview")
    span, product = choose_span(opened)
    zone = zone_of_person()
    if span == RUN:
        found = overview_of_opened(opened, zone)
    else:
        now = datetime.now(zone)
        since = since_of(span, now)
        begun = None if since is None else since.isoformat()
        found = _span(place(), product, begun, judged(), str(zone), record().changes())
        told = "everything on record" if since is None else f"inspected since {since:%Y-%m-%d %H:%M}, {zone}"
        st.caption(markdown_safe(f"{product or ANY}, {told}"))
    if not found.parts:
        st.info("Nothing was inspected in this time.")
    else:
        show_verdicts(found)
        show_rates(found, opened if span == RUN else None)
        show_lots(found)
        left, right = st.columns(2, gap="large")
        with left:
            show_kinds(found)
        with right:
            show_invalid(found)
            if span == RUN:
                show_changes(opened)
    show_runs(product if span != RUN else opened.run.entry.product)


def choose_span(opened: OpenedRun) -> tuple[str, str | None]:
    """Let a person choose between the run and a span of time over all runs."""
    left, right = st.columns([5, 3], vertical_alignment="bottom")
    # No default of the widget's own: what a button sets would contradict it.
    if "span" not in st.session_state and st.query_params.get("span") not in SPANS:
        st.session_state["span"] = RUN
    span = left.segmented_control(
        "What is shown",
        [RUN, *SPANS],
        required=True,
        key="span",
        bind="query-params",
        persist_state="session",
        label_visibility="collapsed",
    )
    if span in (RUN, None):
        return RUN, None
    products = record().products()
    own = opened.run.entry.product
    chosen = right.selectbox(
        "Product",
        [*products, ANY],
        index=products.index(own) if own in products else len(products),
        format_func=legible,
        key="span_product",
        persist_state="session",
        label_visibility="collapsed",
    )
    return str(span), None if chosen == ANY else str(chosen)


def zone_of_person() -> tzinfo:
    """Return the zone that the browser is in; UTC where it does not say."""
    try:
        return ZoneInfo(st.context.timezone) if st.context.timezone else UTC
    except (ZoneInfoNotFoundError, ValueError):
        # A browser's zone that this machine has no rules of.
        return UTC


def overview_of_opened(opened: OpenedRun, zone: tzinfo) -> Overview:
    """Tell what is known of the run, once for each change of it."""
    return _run(opened, place(), *opened.key, str(zone))


def show_verdicts(found: Overview) -> None:
    """Show how many parts got each verdict."""
    st.markdown(f"**{unbroken(headline(found.counts))}**")
    for column, verdict in zip(st.columns(len(Verdict)), Verdict, strict=True):
        number = found.counts.of_verdict(verdict)
        share = unbroken(percent(number / found.parts))
        column.metric(verdict_word(verdict), f"{number:,}", share, delta_color="off", delta_arrow="off")


def show_rates(found: Overview, opened: OpenedRun | None) -> None:
    """Show the rates with their intervals, what waits for a person, and how long a part takes."""
    counts = found.counts
    columns = st.columns(5)
    rates = [
        ("First-pass yield", counts.passed, "parts judged PASS", None),
        (
            "Overkill",
            counts.overkill,
            "good parts judged DEFECT or OOD",
            GalleryQuery(truths=(Truth.GOOD,), verdicts=(Verdict.DEFECT, Verdict.OOD), judged=judged()),
        ),
        (
            "Escape",
            counts.escape,
            "known defects judged PASS",
            GalleryQuery(truths=(Truth.DEFECT,), verdicts=(Verdict.PASS,), judged=judged()),
        ),
    ]
    for column, (name, measure, meaning, query) in zip(columns, rates, strict=False):
        with column, st.container(gap="xxsmall"):
            st.metric(name, "none" if measure.share is None else unbroken(percent(measure.share)))
            st.caption(rate_words(measure, meaning))
            if opened is not None and query is not None and measure.events:
                link(f"Look at {measure.events:,}", "gallery", query)
    with columns[3], st.container(gap="xxsmall"):
        st.metric("Waiting for review", f"{found.backlog:,}")
        st.caption(
            f"of {counts.of_verdict(Verdict.REVIEW):,} parts to review nobody has said anything; "
            f"{found.reviewed:,} parts of any verdict are reviewed"
        )
        if opened is not None and found.backlog and (HERE / "review.py").is_file():
            st.page_link("review.py", label="Review them", icon=":material/rate_review:")
    with columns[4], st.container(gap="xxsmall"):
        times = found.times
        st.metric("Time a part, p95", "none" if times is None else f"{times.p95_ms:,.0f} ms")
        if times is not None:
            st.caption(
                f"median {times.median_ms:,.0f} ms to decode and judge, of "
                f"{'the latest ' if times.latest else ''}{times.parts:,} parts"
            )


def rate_words(measure: Rate, meaning: str) -> str:
    """Say a rate's counts and interval."""
    if measure.share is None:
        return f"{meaning}: none is known, so nothing can be said"
    return unbroken(
        f"{measure.events:,} of {measure.of:,} {meaning}; "
        f"95 % interval {percent(measure.low)} to {percent(measure.high)}"
    )


def show_lots(found: Overview) -> None:
    """Show the share of each verdict by lot, beside what a steady line would give."""
    st.subheader("Lot by lot")
    charts = run_charts(found.lots)
    if not charts:
        st.caption(found.lots.words)
        return
    signals = signals_of(found.lots, charts)
    tables = {
        verdict: chart_table(found.lots.groups, verdict, chart).assign(lot=lambda t: t["lot"].map(legible))
        for verdict, chart in charts.items()
    }
    show_signals(signals)
    with st.container(gap=None):
        for verdict, table in tables.items():
            words = [w for w in (*signals.outside, *signals.runs) if verdict.value in w]
            st.altair_chart(
                lot_row(table, verdict, last=verdict == list(tables)[-1]),
                width="stretch",
                alt=f"Share of {verdict.value} in {len(table)} lots with control limits. "
                + (legible(" ".join(words)) or "No lot stands out."),
            )
    notes = (
        found.lots.words,
        "Labelled wrong inputs belong to no lot. Grey: where a steady line would be. Ringed: outside it.",
        signals.chance,
    )
    st.caption(unbroken(" ".join(notes)))
    with st.expander("The charts as a table"):
        for verdict, table in tables.items():
            st.caption(verdict.value)
            st.dataframe(
                table.drop(columns="verdict"),
                hide_index=True,
                column_config={
                    name: st.column_config.NumberColumn(format="percent")
                    for name in ("share", "lower", "upper")
                },
                alt=f"Share of {verdict.value} by lot with control limits",
            )


def show_signals(signals: Signals) -> None:
    """Say what the charts show, the lots outside their limits first."""
    told = [*signals.outside, *signals.runs]
    with st.container(gap="xxsmall"):
        if not told:
            st.markdown(f"\N{CHECK MARK} {signals.summary}")
        for sentence in told[:SIGNALS_SHOWN]:
            st.markdown(f"\N{WHITE CIRCLE} {markdown_safe(sentence)}")
    if rest := told[SIGNALS_SHOWN:]:
        with st.expander(f"{len(rest):,} more signals"):
            for sentence in rest:
                st.text(legible(sentence))


def show_kinds(found: Overview) -> None:
    """Show which defects occur most, and how many of each passed."""
    st.subheader("Kinds of defect and wrong input")
    if not found.kinds:
        st.caption("No part is known to have a defect: there are neither labels nor reviews that say so.")
        return
    table = pareto_table(found.kinds).assign(kind=lambda t: t["kind"].map(legible))
    first = table.iloc[0]
    st.altair_chart(
        pareto(table),
        width="stretch",
        alt=f"Kinds of defect, the most frequent first: {first['kind']} with {first['parts']} parts.",
    )
    with st.expander("The chart as a table"):
        st.dataframe(
            table,
            hide_index=True,
            column_config={"cumulative": st.column_config.NumberColumn(format="percent")},
            alt="Kinds of defect with number, how many passed, and cumulative share",
        )


def show_invalid(found: Overview) -> None:
    """Show why parts could not be judged."""
    st.subheader("INVALID")
    if not found.invalid:
        st.caption("Every picture could be read and judged.")
        return
    for words, number in found.invalid[:REASONS_SHOWN]:
        st.text(f"{number:,} \N{MULTIPLICATION SIGN} {legible(words)}")
    if rest := found.invalid[REASONS_SHOWN:]:
        st.caption(f"{sum(number for _, number in rest):,} more for {len(rest):,} other reasons")


def show_changes(opened: OpenedRun) -> None:
    """Show what is otherwise than in the run before."""
    st.subheader("Since the run before")
    entry = opened.run.entry
    before = next(iter(record().runs(entry.product, 1, before=entry.started_at)), None)
    if before is None:
        st.caption("There is no earlier run of this product.")
        return
    counts = record().counts_by_run([before.run_id, entry.run_id])
    changes = changes_between(before, entry, counts[before.run_id], counts[entry.run_id])
    st.markdown(unbroken(change_words(changes)))
    st.table(
        {
            "what": [change.what for change in changes],
            "before": [markdown_safe(change.before) for change in changes],
            "now": [markdown_safe(change.now) for change in changes],
            "differs": ["yes" if change.differs else "no" for change in changes],
        },
        hide_index=True,
        alt="Facts of this run beside those of the run before",
    )
    st.button("Open the run before", on_click=open_run, args=(before.run_id,))


def show_runs(product: str | None) -> None:
    """List the latest runs; a click opens one."""
    st.subheader("Latest runs")
    several = product is None
    widths = [4, 4, *([2] if several else []), 2, 5, 2, 2, 2, 2]
    heads = ["Run", "Began (UTC)", *(["Product"] if several else []), "Pictures", "First-pass yield"]
    with st.container(gap="xxsmall"):
        for column, head in zip(st.columns(widths), [*heads, *list(Verdict)[1:]], strict=True):
            column.caption(str(head))
        for row in latest_runs(record(), product):
            show_row(row, st.columns(widths, vertical_alignment="center"), several=several)


def show_row(row: RunRow, columns: Sequence[DeltaGenerator], *, several: bool) -> None:
    """Show one run of the list."""
    entry = row.entry
    name = markdown_safe(entry.run_id)
    if entry.run_id == st.session_state.get("run"):
        columns[0].markdown(f"**{name}**")
    else:
        columns[0].button(
            name, key=f"open {entry.run_id}", type="tertiary", on_click=open_run, args=(entry.run_id,)
        )
    told = [
        when(entry),
        *([legible(entry.product)] if several else []),
        f"{row.counts.total():,}",
        str(row.passed) if row.passed.of else "no pictures yet",
        *(f"{row.counts[verdict]:,}" for verdict in list(Verdict)[1:]),
    ]
    for column, words in zip(columns[1:], told, strict=True):
        column.caption(markdown_safe(words))


def when(entry: RunEntry) -> str:
    """Say when a run began, and whether it goes on."""
    began = entry.started_at[:16].replace("T", " ")
    return began if entry.finished_at else f"{began}, goes on"


def open_run(run_id: str) -> None:
    """Show another run."""
    st.session_state["run"] = run_id
    st.session_state["span"] = RUN


def link(label: str, page: str, query: GalleryQuery) -> None:
    """Link to pictures of this run."""
    params = query.link() | {"run": [str(st.session_state["run"])]}
    st.page_link(f"{page}.py", label=label, icon=":material/grid_view:", query_params=params)


@st.cache_data(max_entries=32, show_spinner=False)
def _run(_opened: OpenedRun, place: str, run_id: str, changed: int, judged: bool, zone: str) -> Overview:
    # Streamlit leaves the run out of the key: its name and changes stand for it.
    return overview_of_run(record(), _opened.run.table, judged=judged, zone=_zone(zone))


@st.cache_data(max_entries=32, show_spinner=False)
def _span(
    place: str, product: str | None, since: str | None, judged: bool, zone: str, changes: int
) -> Overview:
    # Whatever is written of any run makes another key.
    begun = None if since is None else datetime.fromisoformat(since)
    return overview_of_span(record(), product, begun, judged=judged, zone=_zone(zone))


def _zone(name: str) -> tzinfo:
    return UTC if name == str(UTC) else ZoneInfo(name)


main()
