"""Picture: all that is known of one picture."""

from __future__ import annotations

import streamlit as st
from opened import OpenedRun, current_run, heat_of, overlay_of
from words import verdict_word

from differnet.records import Record
from differnet.reporting.artefacts import encode_jpeg
from differnet.reporting.browsing import (
    evidence_table,
    markdown_safe,
    named_label,
    neighbours,
    regions_table,
    select_places,
)
from differnet.reporting.counts import VERDICTS
from differnet.reporting.tables import legible, records_table

# Pictures in the list, the strangest; others open from the gallery. A browser holds no more with ease.
LISTED = 2000


def main() -> None:
    """Lay out the page."""
    opened = current_run()
    record = choose_record(opened)
    st.title(markdown_safe(record.part_id or record.item_id))
    figure = "no strangeness" if record.strangeness is None else f"strangeness {record.strangeness:.2f}"
    st.markdown(f"### {verdict_word(record.verdict)} {figure}")
    with st.container(gap="xsmall"):
        for reason in record.reasons or ("No reason on record.",):
            st.text(legible(reason))
    show_pictures(opened, record)
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("Evidence")
        st.table(evidence_table(record).set_index("evidence"))
    with right:
        st.subheader("Regions")
        show_regions(record)
    with st.expander("All fields of the record"):
        fields = records_table([record]).iloc[0].astype(str).rename("value").to_frame()
        st.dataframe(fields, width="stretch", alt="Every field of this record")


def choose_record(opened: OpenedRun) -> Record:
    """Let a person choose a picture, and put the choice into the address."""
    table = opened.run.table
    listed = [table.item_id[place] for place in select_places(table)[:LISTED]]
    requested = st.query_params.get("item")
    if requested in opened.run.place_of and "item" not in st.session_state:
        st.session_state["item"] = requested
    current = st.session_state.get("item")
    if current not in opened.run.place_of:
        st.session_state.pop("item", None)
        current = listed[0]
    if current not in listed:
        listed.append(current)
    before, after = neighbours(listed, current)
    columns = st.columns([7, 2, 2], vertical_alignment="bottom")
    columns[1].button(
        "Previous",
        on_click=put_item,
        args=(before,),
        disabled=before is None,
        shortcut="Left",
        width="stretch",
    )
    columns[2].button(
        "Next", on_click=put_item, args=(after,), disabled=after is None, shortcut="Right", width="stretch"
    )
    chosen = columns[0].selectbox(
        "Picture, the strangest first",
        listed,
        key="item",
        format_func=lambda item_id: describe(opened, item_id),
    )
    st.query_params["item"] = str(chosen)
    found = opened.run.record(str(chosen))
    if found is None:
        st.error("This picture is no longer in the run. Reload the page.")
        st.stop()
    return found


def describe(opened: OpenedRun, item_id: str) -> str:
    """Name a picture in the list."""
    table, place = opened.run.table, opened.run.place_of[item_id]
    verdict = VERDICTS[table.verdict[place]].value
    return f"{legible(table.part_id[place] or item_id)}: {verdict}, {named_label(table.label[place])}"


def put_item(item_id: str) -> None:
    """Go to another picture."""
    st.session_state["item"] = item_id


def show_pictures(opened: OpenedRun, record: Record) -> None:
    """Show original, heat map and overlay side by side."""
    preview = opened.run.preview(record)
    if preview is None:
        st.info("There is no picture to show: it could not be read.")
        return
    low, high = opened.run.heat_scale
    opacity = st.slider(
        "Opacity of the heat map", 0.0, 1.0, 0.8, 0.05, key="opacity", persist_state="session"
    )
    closeup = opened.run.closeup(record)
    shown = [
        ("Picture", encode_jpeg(preview)),
        ("Heat map", heat_of(opened, record)),
        ("Overlay, regions outlined", overlay_of(opened, record, opacity)),
        ("Close-up of the hottest region", None if closeup is None else encode_jpeg(closeup)),
    ]
    present = [(words, content) for words, content in shown if content is not None]
    for column, (words, content) in zip(
        st.columns(max(3, len(present)), gap="medium"), present, strict=False
    ):
        with column:
            st.image(content, width="stretch", alt=f"{words} of {legible(record.part_id)}")
            st.caption(words)
    st.caption(
        f"Colours from {low:.1f} (dark) to {high:.1f} (bright), the same for every picture of this run. "
        "At 3 about one place in a thousand on good parts is as hot, at 4 one in ten thousand."
    )


def show_regions(record: Record) -> None:
    """Show where it is strange."""
    if not record.regions:
        st.caption("No region of this picture stands out.")
        return
    st.dataframe(
        regions_table(record),
        hide_index=True,
        width="stretch",
        alt="Regions in pixels of the original picture",
    )


main()
