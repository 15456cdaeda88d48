"""Gallery: the pictures of a run, filtered and sorted, to be looked at and reviewed many at once."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import streamlit as st
from cards import WORDS, boxed_words, clear_box, drawing, judgement_words, may_not_review, word_box
from opened import OpenedRun, current_run, person, record, show_error, want_truth
from words import verdict_word

from differnet.records import DiffernetError, Record, Verdict
from differnet.reporting.browsing import label_choices, label_name, markdown_safe, page_count, page_of
from differnet.reporting.counts import VERDICTS, Truth
from differnet.reporting.gallery_query import (
    GalleryQuery,
    Order,
    Reviewed,
    asks_gallery,
    codes_of,
    describe_query,
    find_places,
    kind_choices,
    moment,
    read_query,
)
from differnet.reporting.tables import legible
from differnet.reviewing.kinds import checked_kind
from differnet.store import Judgement, ReviewEntry
from differnet.store.run_table import JUDGEMENTS

PAGE = "gallery"
# Cards a row, rows a page, and the longest side of their pictures, drawn in well under a second.
SIZES = {"small": (8, 6, 192), "medium": (5, 4, 288), "large": (3, 3, 512)}
# Of a box for a strangeness; finer than any calibration can tell.
STEP = 0.1
# Of heat over small pictures: a part that is strange all over has to be told from another one.
HEAT = 0.6


def main() -> None:
    """Lay out the page."""
    opened = current_run()
    adopt_address(opened)
    title, views, keep = st.columns([6, 3, 2], vertical_alignment="center")
    title.title("Gallery", anchor=False)
    filter_widgets(opened)
    query = chosen_query(opened)
    if query is None:
        return
    tell_address(query)
    view_widgets(views, keep, query)
    show_cards()


def adopt_address(opened: OpenedRun) -> None:
    """Take the filters of a link; what the page wrote into the address itself is none."""
    told = {key: st.query_params.get_all(key) for key in st.query_params}
    if told == st.session_state.get("gallery_address") or not asks_gallery(told):
        return
    query, refused = read_query(told)
    st.session_state["gallery_address"] = told
    st.session_state["gallery_refused"] = refused
    put_query(query)
    if query.judged != opened.judged:
        want_truth(judged=query.judged)


def put_query(query: GalleryQuery) -> None:
    """Set every filter as a query asks."""
    state = st.session_state
    state["verdicts"], state["labels"] = list(query.verdicts), list(query.labels)
    state["was"], state["truths"] = list(query.was), [truth.words for truth in query.truths]
    state["kinds"], state["products"] = list(query.kinds), list(query.products)
    state["reviewed"], state["name"] = [word.value for word in query.reviewed], query.name
    state["least"], state["below"] = query.least, query.below
    state["since"], state["until"] = time_of(query.since), time_of(query.until)
    state["at_t1"], state["at_t2"] = query.t_review, query.t_defect
    state["flips"], state["order"] = query.flips, query.order.value
    state["page"], state["chosen"] = 1, set()


def forget_filters() -> None:
    """Show all pictures again."""
    put_query(GalleryQuery(order=Order(st.session_state.get("order") or Order.STRANGEST)))


def filter_widgets(opened: OpenedRun) -> None:
    """Show the filters; what they say is in the session, under their keys."""
    table, state = opened.run.table, st.session_state
    first, second, third = st.columns([6, 3, 2], vertical_alignment="bottom")
    first.pills(
        "Verdict",
        list(Verdict),
        selection_mode="multi",
        format_func=verdict_word,
        key="verdicts",
        persist_state="session",
    )
    second.selectbox(
        "Order",
        [order.value for order in Order],
        key="order",
        format_func=lambda order: Order(order).words,
        persist_state="session",
    )
    with third.popover("More filters", width="stretch"):
        left, right = st.columns(2)
        with left:
            st.pills(
                "Truth",
                [truth.words for truth in Truth],
                selection_mode="multi",
                key="truths",
                persist_state="session",
                help="By the label, or by people over labels: as the sidebar says.",
            )
            st.multiselect(
                "Label",
                with_unknown(label_choices(table), state.get("labels")),
                key="labels",
                placeholder="all labels",
                persist_state="session",
            )
            st.multiselect(
                "Kind of defect",
                with_unknown(kind_choices(table), state.get("kinds")),
                key="kinds",
                format_func=legible,
                placeholder="all kinds",
                persist_state="session",
            )
            st.pills(
                "Last word of a person",
                [word.value for word in Reviewed],
                selection_mode="multi",
                key="reviewed",
                persist_state="session",
            )
            st.text_input("Part's name holds", key="name", max_chars=100, persist_state="session")
            products = sorted({str(product) for product in set(table.product)})
            if len(products) > 1 or state.get("products"):
                st.multiselect(
                    "Product",
                    with_unknown(products, state.get("products")),
                    key="products",
                    format_func=legible,
                    persist_state="session",
                )
        with right:
            low, high = st.columns(2)
            number_box(low, "Strangeness from", "least")
            number_box(high, "below", "below")
            number_box(low, "Verdicts at T1", "at_t1")
            number_box(high, "and T2", "at_t2")
            st.toggle("Only what these would change", key="flips", persist_state="session")
            time_box(st, "Processed from (UTC)", "since")
            time_box(st, "Processed before (UTC)", "until")
            st.pills(
                "Recorded verdict",
                list(Verdict),
                selection_mode="multi",
                format_func=verdict_word,
                key="was",
                wrap=True,
                persist_state="session",
            )
            st.button("Forget all filters", on_click=forget_filters, key="forget")


def number_box(column: Any, label: str, key: str) -> None:
    """Show a box for a figure that may be empty."""
    column.number_input(label, value=None, step=STEP, key=key, placeholder="any", persist_state="session")


def time_box(column: Any, label: str, key: str) -> None:
    """Show a box for a time that may be empty."""
    column.datetime_input(label, None, key=key, format="YYYY-MM-DD", persist_state="session")


def with_unknown(choices: list[str], wanted: list[str] | None) -> list[str]:
    """Add to choices what a link asks for and this run does not have: it is shown, and finds nothing."""
    return [*choices, *(each for each in wanted or () if each not in choices)]


def chosen_query(opened: OpenedRun) -> GalleryQuery | None:
    """Return what the filters ask for; show why, where they make no sense."""
    state = st.session_state
    if refused := state.get("gallery_refused"):
        st.warning(f"Of this address {', '.join(refused)} could not be understood and is left out.")
    try:
        query = GalleryQuery(
            run=opened.run.entry.run_id,
            verdicts=tuple(state.get("verdicts") or ()),
            was=tuple(state.get("was") or ()),
            labels=tuple(state.get("labels") or ()),
            truths=tuple(truth for truth in Truth if truth.words in (state.get("truths") or ())),
            judged=opened.judged,
            kinds=tuple(state.get("kinds") or ()),
            products=tuple(state.get("products") or ()),
            reviewed=tuple(Reviewed(word) for word in state.get("reviewed") or ()),
            name=(state.get("name") or "").strip(),
            least=state.get("least"),
            below=state.get("below"),
            since=time_text(state.get("since")),
            until=time_text(state.get("until")),
            t_review=state.get("at_t1"),
            t_defect=state.get("at_t2"),
            flips=bool(state.get("flips")),
            order=Order(state.get("order") or Order.STRANGEST),
        )
    except DiffernetError as error:
        show_error(error)
        return None
    state["gallery_query"] = query
    return query


def time_of(words: str) -> datetime | None:
    """Turn a query's time into what a box for it holds."""
    return datetime.fromisoformat(words).astimezone(UTC).replace(tzinfo=None) if words else None


def time_text(given: datetime | None) -> str:
    """Turn it back."""
    return (moment(given.isoformat()) or "") if given is not None else ""


def tell_address(query: GalleryQuery) -> None:
    """Write the filters into the address, which can be shared so."""
    told = query.link()
    if {key: st.query_params.get_all(key) for key in st.query_params} != told:
        if told != st.session_state.get("gallery_address"):
            # Other filters: from the first page on, and nothing is chosen any more.
            st.session_state["page"], st.session_state["chosen"] = 1, set()
            st.session_state["gallery_refused"] = ()
        st.query_params.from_dict(told)
    st.session_state["gallery_address"] = told


def view_widgets(views: Any, keep: Any, query: GalleryQuery) -> None:
    """Show filters that were kept under a name, and keep these."""
    kept = record().views(PAGE)
    views.selectbox(
        "Kept filters",
        list(kept),
        index=None,
        key="view",
        placeholder="kept filters" if kept else "no filters are kept yet",
        format_func=legible,
        on_change=open_view,
        disabled=not kept,
        label_visibility="collapsed",
    )
    with keep.popover("Keep these", width="stretch", disabled=bool(may_not_review())):
        st.caption(markdown_safe(describe_query(query)))
        st.text_input("Name", key="view_name", max_chars=60)
        st.button("Keep", on_click=keep_view, args=(query,), key="keep_view")
        if kept:
            st.selectbox("Kept filters to forget", list(kept), key="view_gone", format_func=legible)
            st.button("Forget", on_click=drop_view, key="drop_view")
    if (error := st.session_state.pop("view_error", None)) is not None:
        show_error(error)


def open_view() -> None:
    """Set the filters that were kept under a name; they are of whatever run is chosen."""
    kept = record().views(PAGE).get(str(st.session_state.get("view")))
    if kept is not None:
        put_query(read_query({key: value for key, value in kept.items() if key not in ("run", "judged")})[0])


def keep_view(query: GalleryQuery) -> None:
    """Keep the filters under the name that was typed."""
    try:
        record().keep_view(PAGE, str(st.session_state.get("view_name") or ""), query.link(), person())
        st.session_state["view_name"] = ""
    except DiffernetError as error:
        st.session_state["view_error"] = error


def drop_view() -> None:
    """Forget filters that were kept under a name."""
    try:
        record().drop_view(PAGE, str(st.session_state.get("view_gone")))
    except DiffernetError as error:
        st.session_state["view_error"] = error


@st.fragment
def show_cards() -> None:
    """Show a page of cards. Runs anew, alone, when cards are chosen, reviewed or turned over."""
    # As it stands now: what was just said may take pictures out of sight.
    opened = current_run(again=True)
    query: GalleryQuery = st.session_state["gallery_query"]
    table = opened.run.table
    places = find_places(query, table, opened.columns)
    st.caption(f"{len(places):,} of {len(table):,} pictures: {markdown_safe(describe_query(query))}")
    columns, rows, side = SIZES[st.session_state.get("size") or "medium"]
    page, opacity = look_widgets(page_count(len(places), columns * rows))
    on_page = [table.item_id[place] for place in page_of(places.tolist(), page, columns * rows)]
    if not on_page:
        st.info("No picture matches these filters.")
        return
    action_buttons(opened, on_page)
    codes = codes_of(query, table, opened.columns)
    shown = opened.run.records(on_page)
    for first in range(0, len(shown), columns):
        row = shown[first : first + columns]
        for column, item in zip(st.columns(columns, gap="small"), row, strict=False):
            with column, st.container(gap="xxsmall"):
                show_card(opened, item, side, opacity, VERDICTS[codes[opened.run.place_of[item.item_id]]])
    if len(shown) > columns * 2:
        st.caption(f"Page {page:,}. Arrow keys turn over.")


def look_widgets(pages: int) -> tuple[int, float]:
    """Show how cards look, and the ways through the pages; return the page and the opacity of heat maps."""
    page = min(max(1, int(st.session_state.get("page") or 1)), pages)
    st.session_state["page"] = page
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        st.segmented_control(
            "Size of cards",
            list(SIZES),
            default="medium",
            required=True,
            key="size",
            label_visibility="collapsed",
            persist_state="session",
        )
        heat = st.toggle("Heat maps", value=True, key="overlaid", persist_state="session")
        with st.container(
            horizontal=True, horizontal_alignment="right", gap="small", vertical_alignment="center"
        ):
            st.button(
                "Before",
                key="page_before",
                shortcut="Left",
                on_click=turn,
                args=(page - 1,),
                disabled=page < 2,
            )
            st.number_input(
                f"Page, of {pages:,}",
                1,
                pages,
                key="page",
                width=110,
                label_visibility="collapsed",
                disabled=pages < 2,
            )
            st.text(f"of {pages:,}", width="content")
            st.button(
                "After",
                key="page_after",
                shortcut="Right",
                on_click=turn,
                args=(page + 1,),
                disabled=page >= pages,
            )
    return page, HEAT if heat else 0.0


def action_buttons(opened: OpenedRun, on_page: list[str]) -> None:
    """Show what is chosen, and what is said of all of it at once."""
    chosen: set[str] = st.session_state.setdefault("chosen", set())
    reason = may_not_review()
    barred = not chosen or bool(reason)
    with st.container(horizontal=True, gap="xsmall", vertical_alignment="center"):
        st.button("All here", key="choose_all", shortcut="A", on_click=choose, args=(on_page,))
        st.button("None", key="choose_none", shortcut="N", on_click=choose, args=((),), disabled=not chosen)
        for judgement, key in WORDS:
            st.button(
                judgement_words(judgement).capitalize(),
                key=f"all_{judgement}",
                shortcut=key,
                on_click=say_of_all,
                args=(opened.run.entry.run_id, judgement),
                disabled=barred,
            )
        word_box("all_kind", "Kind, for D", 130, 80, disabled=barred)
        st.button(
            "Take back",
            key="all_back",
            shortcut="Z",
            on_click=take_back,
            disabled=not st.session_state.get("gallery_said") or bool(reason),
        )
        st.page_link(
            "review.py",
            label="One by one",
            help="Review all pictures that these filters leave, one after the other",
            query_params={**st.session_state["gallery_query"].link(), "queue": "chosen"},
        )
    told = reason or st.session_state.pop("gallery_told", "")
    st.caption(f"{len(chosen):,} chosen. {markdown_safe(told)}")
    if (error := st.session_state.pop("gallery_error", None)) is not None:
        show_error(error)


def turn(page: int) -> None:
    """Go to another page."""
    st.session_state["page"] = page


def choose(item_ids: list[str] | tuple[str, ...]) -> None:
    """Choose cards beside those that are chosen, or none."""
    chosen: set[str] = st.session_state.setdefault("chosen", set())
    if not item_ids:
        chosen.clear()
    chosen.update(item_ids)


def toggle(item_id: str) -> None:
    """Choose a card, or no longer."""
    chosen: set[str] = st.session_state.setdefault("chosen", set())
    chosen.symmetric_difference_update({item_id})


def say_of_all(run_id: str, judgement: Judgement) -> None:
    """Keep one word on all chosen cards, or on none of them."""
    state = st.session_state
    chosen: set[str] = state["chosen"]
    try:
        kind = checked_kind(boxed_words("all_kind")) if judgement == "defect" else ""
        entry = record().review_all(run_id, sorted(chosen), ReviewEntry(judgement, person(), kind))
    except DiffernetError as error:
        state["gallery_error"] = error
        return
    state.setdefault("gallery_said", []).append((run_id, sorted(chosen), entry.author, entry.made_at))
    state["gallery_told"] = f"You said {judgement_words(judgement, legible(kind))} of {len(chosen):,} cards."
    clear_box("all_kind")
    chosen.clear()


def take_back() -> None:
    """Take back what was said last of chosen cards, and choose them again."""
    state = st.session_state
    run_id, item_ids, author, said_at = state["gallery_said"][-1]
    try:
        record().withdraw(run_id, item_ids, author, said_at)
    except DiffernetError as error:
        state["gallery_error"] = error
        return
    state["gallery_said"].pop()
    state["chosen"] = set(item_ids)
    state["gallery_told"] = "Taken back; what was said before counts again."


def show_card(opened: OpenedRun, item: Record, side: int, opacity: float, verdict: Verdict) -> None:
    """Show one picture with its verdict, what was said of it, and the way to all that is known of it."""
    place = opened.run.place_of[item.item_id]
    table = opened.run.table
    name = legible(item.part_id or item.item_id)
    picture = drawing(opened, item, side, opacity, regions=opacity > 0)
    if picture is not None:
        st.image(picture, width="stretch", alt=f"{verdict.value}: {name}")
    else:
        st.info("No picture: it could not be read.")
    st.checkbox(
        markdown_safe(name),
        value=item.item_id in st.session_state["chosen"],
        # Chosen elsewhere it is another box: a box keeps its own mind otherwise.
        key=f"card {item.item_id} {item.item_id in st.session_state['chosen']}",
        on_change=toggle,
        args=(item.item_id,),
    )
    st.markdown(f":small[{verdict_words(item, verdict)}]")
    words = [label_name(item)]
    if table.judgement[place] >= 0:
        said = judgement_words(JUDGEMENTS[table.judgement[place]], legible(table.kind[place]))
        words.append(f"called {said}")
    st.caption(markdown_safe("; ".join(words)))
    query = {"run": st.session_state["run"], "item": item.item_id}
    st.page_link("picture.py", label="Open", icon=":material/open_in_full:", query_params=query)


def verdict_words(item: Record, verdict: Verdict) -> str:
    """Write a card's verdict and strangeness, and the recorded verdict where thresholds change it."""
    figure = f"{item.strangeness:.2f}" if item.strangeness is not None else "no strangeness"
    words = f"**{verdict_word(verdict)}** {figure}"
    return words if verdict is item.verdict else f"{words}, was {verdict_word(item.verdict)}"


main()
