"""Gallery: the pictures of a run, filtered and sorted, with their heat maps."""

from __future__ import annotations

import streamlit as st
from opened import OpenedRun, current_run, overlay_of
from words import verdict_word

from differnet.records import Record, Verdict
from differnet.reporting.browsing import ORDERS, label_choices, label_name, page_count, page_of, select_places
from differnet.reporting.figures import OPACITY
from differnet.reporting.tables import legible

COLUMNS = 4
# Pictures a page: six rows, drawn in well under a second.
PAGE_SIZE = 24


def main() -> None:
    """Lay out the page."""
    opened = current_run()
    st.title("Gallery")
    chosen, overlaid = filter_widgets(opened)
    if not chosen:
        st.info("No picture matches these filters.")
        return
    pages = page_count(len(chosen), PAGE_SIZE)
    page = 1
    if pages > 1:
        page = int(st.number_input(f"Page, of {pages:,}", 1, pages, 1, key="page", width=160))
    st.caption(f"{len(chosen):,} of {len(opened.run):,} pictures")
    table = opened.run.table
    shown = opened.run.records([table.item_id[place] for place in page_of(chosen, page, PAGE_SIZE)])
    for first in range(0, len(shown), COLUMNS):
        for column, record in zip(
            st.columns(COLUMNS, gap="medium"), shown[first : first + COLUMNS], strict=False
        ):
            with column, st.container(gap="xsmall"):
                show_card(opened, record, OPACITY if overlaid else 0.0)


def filter_widgets(opened: OpenedRun) -> tuple[list[int], bool]:
    """Show the filters, and apply them."""
    table = opened.run.table
    left, middle, right = st.columns([5, 3, 2], vertical_alignment="bottom")
    verdicts = left.pills(
        "Verdict",
        list(Verdict),
        selection_mode="multi",
        format_func=verdict_word,
        key="verdicts",
        persist_state="session",
    )
    labels = middle.multiselect(
        "Label",
        label_choices(table),
        key="labels",
        placeholder="all labels",
    )
    order = right.selectbox("Order", list(ORDERS), key="order", persist_state="session")
    overlaid = st.toggle("Heat maps over the pictures", value=True, key="overlaid", persist_state="session")
    return select_places(table, verdicts, labels, str(order)).tolist(), overlaid


def show_card(opened: OpenedRun, record: Record, opacity: float) -> None:
    """Show one picture with its verdict, and the way to all that is known of it."""
    name = legible(record.part_id or record.item_id)
    if (picture := overlay_of(opened, record, opacity)) is not None:
        st.image(picture, width="stretch", alt=f"{record.verdict.value}: {name}")
    else:
        st.info("No picture: it could not be read.")
    figure = "no strangeness" if record.strangeness is None else f"strangeness {record.strangeness:.2f}"
    st.markdown(f"**{verdict_word(record.verdict)}** {figure}")
    st.text(f"{name}, {label_name(record)}")
    query = {"run": st.session_state["run"], "item": record.item_id}
    st.page_link("picture.py", label="Open", icon=":material/open_in_full:", query_params=query)


main()
