"""Review queue: one part at a time, said with one key what it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import streamlit as st
from cards import WORDS, boxed_words, clear_box, drawing, judgement_words, may_not_review, word_box
from opened import OpenedRun, current_run, person, place, record, show_error
from words import verdict_word

from differnet.evaluation.intervals import percent
from differnet.records import DiffernetError, Record
from differnet.reporting.artefacts import PREVIEW_SIDE, encode_jpeg
from differnet.reporting.browsing import markdown_safe, named_label, neighbours
from differnet.reporting.gallery_query import GalleryQuery, asks_gallery, describe_query, read_query
from differnet.reporting.gauge import gauge
from differnet.reporting.tables import legible, unbroken
from differnet.reviewing.kinds import checked_kind, quick_kinds
from differnet.reviewing.queueing import (
    LARGEST_SAMPLE,
    USUAL_SAMPLE,
    Estimate,
    QueueOrder,
    QueueWish,
    Sample,
    Source,
    draw_sample,
    estimates,
    following,
    queue_places,
    settled,
)
from differnet.store import Asked, Judgement, ReviewEntry, RunTable, Said

# Parts that wait in sight; their pictures are drawn, and in the browser, before their turn comes.
STRIP = 6
# The picture in focus stays in sight whole, with the buttons beside it.
FOCUS_STYLE = """<style>
.st-key-focus img { max-height: 62vh; object-fit: contain; object-position: left top; }
.st-key-strip img { max-height: 11vh; object-fit: contain; object-position: left top; }
</style>"""


@dataclass
class Queue:
    """The parts of a queue, and where a person is in it.

    Attributes:
        of: Run and wish that it was made for.
        item_ids: The parts.
        here: The part in focus; ``None`` where none is left, or none was chosen yet.
        move_on: The part in focus was judged: the next one is wanted.
        mine: Parts that this person has judged here.
        shown: How many words of others were shown of the part in focus.
        told: What the person is told of the last step.
        error: That kept the last step from being done.
    """

    of: tuple[str, QueueWish]
    item_ids: list[str]
    here: str | None = None
    move_on: bool = True
    mine: set[str] = field(default_factory=set)
    shown: int = 0
    told: str = ""
    error: DiffernetError | None = None


def main() -> None:
    """Lay out the page."""
    current_run()
    st.html(FOCUS_STYLE)
    adopt_address()
    wish, hidden = wish_widgets()
    if wish is None:
        return
    if reason := may_not_review():
        st.info(reason)
    show_queue(wish, hidden)


def adopt_address() -> None:
    """Take the wish of a link; what the page wrote into the address itself is none."""
    told = {key: st.query_params.get_all(key) for key in st.query_params}
    if told.get("queue") and told != st.session_state.get("queue_address"):
        wanted = told["queue"][-1]
        if wanted in set(Source):
            st.session_state["queue_source"] = wanted
        if asks_gallery(told):
            st.session_state["queue_chosen"] = read_query(told)[0]


def wish_widgets() -> tuple[QueueWish | None, bool]:
    """Let a person choose parts and order, and whether what is known of them is hidden."""
    title, left, middle, right = st.columns([5, 5, 5, 2], vertical_alignment="center")
    title.title("Review", anchor=False)
    # Values, for the browser sends back text.
    chosen_source = left.selectbox(
        "Parts",
        [source.value for source in Source],
        key="queue_source",
        format_func=lambda source: Source(source).words,
        help="  \n".join(f"**{source.words}**: {source.meaning}" for source in Source),
        persist_state="session",
    )
    source = Source(str(chosen_source))
    if source in (Source.SAMPLE, Source.SECOND, Source.CHOSEN):
        # Not a box that is barred: its name would be too faint to read.
        middle.selectbox("Order", ["the gallery's" if source is Source.CHOSEN else "by lot"])
        order = QueueOrder(st.session_state.get("queue_order") or QueueOrder.STRANGEST)
    else:
        chosen_order = middle.selectbox(
            "Order",
            [order.value for order in QueueOrder],
            key="queue_order",
            format_func=lambda order: QueueOrder(order).words,
            help="Nearest to T1 or T2 teaches most: there a word moves a threshold.",
            persist_state="session",
        )
        order = QueueOrder(str(chosen_order))
    with right.popover("More", width="stretch"):
        hidden = st.toggle(
            "Hide verdict, heat and what others said",
            source.blind,
            # A sample begins hidden even where another queue was not.
            key=f"queue_hidden_{source.value}",
            persist_state="session",
        )
        again = st.toggle("Also parts that have a word already", key="queue_again", persist_state="session")
        passed = st.number_input(
            "Passed parts in a sample",
            *(0, LARGEST_SAMPLE, USUAL_SAMPLE),
            key="queue_passed",
            persist_state="session",
        )
        rejected = st.number_input(
            "Rejected parts in a sample",
            *(0, LARGEST_SAMPLE, USUAL_SAMPLE),
            key="queue_rejected",
            persist_state="session",
        )
        seed = st.number_input("Seed of the lot", 0, 2**31, 0, key="queue_seed", persist_state="session")
    chosen = None
    if source is Source.CHOSEN:
        chosen = st.session_state.get("queue_chosen") or st.session_state.get("gallery_query")
        chosen = chosen or GalleryQuery()
    tell_address(source, chosen)
    try:
        return (
            QueueWish(source, order, person(), int(seed), int(passed), int(rejected), bool(again), chosen),
            bool(hidden),
        )
    except DiffernetError as error:
        show_error(error)
        return None, hidden


def tell_address(source: Source, chosen: GalleryQuery | None) -> None:
    """Write the wish into the address."""
    run = st.session_state["run"]
    told = (chosen.link() if chosen is not None else {}) | {"run": [run], "queue": [source.value]}
    if {key: st.query_params.get_all(key) for key in st.query_params} != told:
        st.query_params.from_dict(told)
    st.session_state["queue_address"] = told


@st.fragment
def show_queue(wish: QueueWish, hidden: bool) -> None:
    """Show the part in focus and what is to be said of it. Runs anew, alone, with every key."""
    # As it stands now: others may have said something since.
    opened = current_run(again=True)
    queue = queue_of(opened, wish)
    second = wish.source is Source.SECOND
    mine = record().said(Asked(run_id=opened.run.entry.run_id), by=wish.person) if second else []
    done = settled(wish, opened.run.table, mine, queue.mine)
    if queue.move_on:
        queue.here, queue.move_on = following(queue.item_ids, queue.here, done), False
    show_progress(queue, wish, done)
    if not queue.item_ids:
        st.success("Nothing is left to look at here.", icon=":material/check:")
        return
    item = opened.run.record(queue.here) if queue.here is not None else None
    barred = item is None or bool(may_not_review())
    judgement_buttons(queue, barred)
    kind_buttons(opened, queue, barred)
    told = st.container()
    left, right = st.columns([3, 2], gap="large")
    with left:
        show_focus(opened, queue, item, hidden)
    with right:
        if item is not None:
            show_facts(opened, queue, item, hidden)
        if wish.source is Source.SAMPLE:
            show_estimates(opened, wish)
    with told:
        tell(queue)
    show_strip(opened, queue, done, hidden)


def queue_of(opened: OpenedRun, wish: QueueWish) -> Queue:
    """Return the queue as it was made, or make it."""
    of = opened.run.entry.run_id, wish
    queue: Queue | None = st.session_state.get("queue")
    if queue is None or queue.of != of:
        every: list[Said] = []
        if wish.source is Source.SECOND:
            every = record().said(Asked(run_id=opened.run.entry.run_id))
        places = queue_places(wish, opened.run.table, every)
        queue = Queue(of, opened.run.table.item_id[places].tolist())
        st.session_state["queue"] = queue
    return queue


def make_anew() -> None:
    """Look which parts the wish meets now."""
    st.session_state.pop("queue", None)


def show_progress(queue: Queue, wish: QueueWish, done: frozenset[str]) -> None:
    """Say how far the queue is."""
    total = len(queue.item_ids)
    ready = len(done.intersection(queue.item_ids)) if done else 0
    where = f"**Part {queue.item_ids.index(queue.here) + 1:,} of {total:,}.** " if queue.here else ""
    chosen = f" {markdown_safe(describe_query(wish.chosen))}." if wish.chosen is not None else ""
    st.progress(
        ready / total if total else 1.0,
        text=f"{where}{ready:,} of {total:,} have a word. {wish.source.meaning}{chosen}",
    )


def show_focus(opened: OpenedRun, queue: Queue, item: Record | None, hidden: bool) -> None:
    """Show the part large."""
    if item is None:
        with st.container(border=True):
            st.markdown("**Every part of this queue has been looked at.**")
            st.button("Look which parts there are now", on_click=make_anew, key="anew")
            st.page_link("labels.py", label="What was said, and how far people agree")
        return
    name = focus_name(queue, item, hidden)
    focus = st.container(key="focus", gap="xsmall")
    st.text(name)
    # Below the picture, which it therefore does not push down.
    opacity, regions = picture_widgets(hidden)
    picture = drawing(opened, item, PREVIEW_SIDE, opacity, regions=regions)
    with focus:
        if picture is None:
            st.info("There is no picture to show: it could not be read.")
        else:
            st.image(picture, width="stretch", alt=name if hidden else f"{item.verdict.value}: {name}")


def picture_widgets(hidden: bool) -> tuple[float, bool]:
    """Let a person choose how much heat is laid over the picture."""
    if hidden:
        return 0.0, False
    with st.container(horizontal=True, vertical_alignment="bottom"):
        opacity = st.slider(
            "Opacity of the heat map", 0.0, 1.0, 0.6, 0.05, key="queue_opacity", persist_state="session"
        )
        regions = st.toggle("Outline regions", True, key="queue_regions", persist_state="session")
    return float(opacity), bool(regions)


def focus_name(queue: Queue, item: Record, hidden: bool) -> str:
    """Name the part in focus; a name may tell what a hidden verdict must not."""
    if hidden:
        return f"Part {queue.item_ids.index(item.item_id) + 1:,}"
    return f"{legible(item.part_id or item.item_id)}, {named_label(item.label)}"


def show_facts(opened: OpenedRun, queue: Queue, item: Record, hidden: bool) -> None:
    """Show what is known of the part."""
    if hidden:
        st.caption("Verdict, heat and what others said are hidden: judge the part by itself.")
        show_words(opened, queue, item, hidden)
        return
    st.subheader(verdict_word(item.verdict), anchor=False)
    if drawn := gauge(item):
        st.html(str(drawn))
    else:
        st.caption("No strangeness.")
    show_words(opened, queue, item, hidden)
    with st.container(gap="xsmall"):
        for reason in item.reasons or ("No reason on record.",):
            st.text(legible(reason))
    query = {"run": opened.run.entry.run_id, "item": item.item_id}
    st.page_link("picture.py", label="All that is known", query_params=query)
    if (closeup := opened.run.closeup(item)) is not None:
        st.image(encode_jpeg(closeup), width=200, alt="Close-up of the hottest region")
        st.caption("Close-up of the hottest region")


def tell(queue: Queue) -> None:
    """Say what became of the last step."""
    if queue.error is not None:
        show_error(queue.error)
    else:
        # Always a line, so that nothing below it jumps.
        st.caption(markdown_safe(queue.told or "What you say is kept at once."))


def show_words(opened: OpenedRun, queue: Queue, item: Record, hidden: bool) -> None:
    """Show what was said of the part: of oneself always, of others unless it is hidden."""
    words = record().reviews(opened.run.entry.run_id, item.item_id)
    queue.shown = sum(word.author != person() for word in words)
    for word in words[-3:]:
        own = word.author == person()
        if own or not hidden:
            who = "You" if own else legible(word.author)
            note = f": {legible(word.note)}" if word.note else ""
            st.text(f"{who} said {judgement_words(word.judgement, legible(word.kind))}{note}")


def judgement_buttons(queue: Queue, barred: bool) -> None:
    """Show the three words, the ways back and forth and the one to take a word back, each with its key."""
    ids, here = queue.item_ids, queue.here
    before, after = neighbours(ids, here) if here is not None else (ids[-1], None)
    nothing_said = not st.session_state.setdefault("queue_said", []) or bool(may_not_review())
    columns = st.columns(6, gap="small")
    for column, (judgement, key) in zip(columns, WORDS, strict=False):
        column.button(
            judgement_words(judgement).capitalize(),
            key=f"say_{judgement}",
            shortcut=key,
            on_click=say,
            args=(queue, judgement, None),
            disabled=barred,
            width="stretch",
        )
    moves = (("Back", "back", "Left", before), ("Forth", "forth", "Right", after))
    for column, (words, name, key, item_id) in zip(columns[3:], moves, strict=False):
        column.button(
            words,
            key=name,
            shortcut=key,
            on_click=go,
            args=(queue, item_id),
            disabled=item_id is None,
            width="stretch",
        )
    columns[5].button(
        "Take back",
        key="undo",
        shortcut="Z",
        on_click=take_back,
        args=(queue,),
        disabled=nothing_said,
        width="stretch",
    )


def kind_buttons(opened: OpenedRun, queue: Queue, barred: bool) -> None:
    """Show the frequent kinds of defect, each with a digit, and boxes for another kind and a note."""
    with st.container(horizontal=True, gap="xsmall"):
        for digit, kind in enumerate(frequent_kinds(opened), 1):
            st.button(
                markdown_safe(kind),
                key=f"kind_{digit}",
                shortcut=str(digit),
                on_click=say,
                args=(queue, "defect", kind),
                disabled=barred,
                help="A defect of this kind",
            )
        word_box("queue_kind", "Another kind, for D", 190, 80, disabled=barred)
        word_box("queue_note", "Note, kept with the next word", 250, 500, disabled=barred)


def frequent_kinds(opened: OpenedRun) -> list[str]:
    """Return the kinds that have a key; they stay where they are while a person reviews."""
    key = f"queue_kinds {opened.run.entry.run_id}"
    if key not in st.session_state:
        entry = opened.run.entry
        # Older records name no product beside their items.
        said = record().said(Asked(product=entry.product)) or record().said(Asked(run_id=entry.run_id))
        st.session_state[key] = quick_kinds(said, opened.run.table.label)
    kinds: list[str] = st.session_state[key]
    return kinds


def say(queue: Queue, judgement: Judgement, kind: str | None) -> None:
    """Keep a word on the part in focus, and move on."""
    if queue.here is None or may_not_review():
        return
    run_id, item_id = queue.of[0], queue.here

    def kept() -> None:
        named = ""
        if judgement == "defect":
            named = kind if kind is not None else checked_kind(boxed_words("queue_kind"))
        others = [word for word in record().reviews(run_id, item_id) if word.author != person()]
        note = boxed_words("queue_note")
        entry = record().review(run_id, item_id, ReviewEntry(judgement, person(), named, note))
        st.session_state["queue_said"].append((run_id, item_id, entry.author, entry.made_at))
        queue.mine.add(item_id)
        queue.move_on = True
        queue.told = f"You said {judgement_words(judgement, legible(named))}. Z takes it back."
        if len(others) > queue.shown:
            last = others[-1]
            queue.told += (
                f" {legible(last.author)} said {judgement_words(last.judgement, legible(last.kind))} of it "
                "a moment before; both are kept."
            )
        clear_box("queue_kind")
        clear_box("queue_note")

    attempt(queue, kept)


def take_back(queue: Queue) -> None:
    """Take back what was said last, and go to the part again."""
    said: list[tuple[str, str, str, str]] = st.session_state["queue_said"]
    if not said:
        return
    run_id, item_id, author, said_at = said[-1]

    def done() -> None:
        record().withdraw(run_id, [item_id], author, said_at)
        said.pop()
        queue.mine.discard(item_id)
        if item_id in queue.item_ids:
            queue.here = item_id
        queue.told = "Taken back; what was said before counts again."

    attempt(queue, done)


def attempt(queue: Queue, step: Callable[[], None]) -> None:
    """Do a step, or keep why it could not be done for the page to show."""
    queue.error, queue.told = None, ""
    try:
        step()
    except DiffernetError as error:
        queue.error = error


def go(queue: Queue, item_id: str) -> None:
    """Go to another part of the queue."""
    queue.here, queue.told, queue.error = item_id, "", None


def show_strip(opened: OpenedRun, queue: Queue, done: frozenset[str], hidden: bool) -> None:
    """Show the parts that come next. Their pictures are those that will be large: no wait for them then."""
    ids, coming = queue.item_ids, list[str]()
    here = queue.here
    while len(coming) < STRIP and (after := following(ids, here, {*done, *coming, str(queue.here)})):
        coming.append(after)
        here = after
    if not coming or queue.here is None:
        return
    opacity = 0.0 if hidden else float(st.session_state.get("queue_opacity", 0.0))
    regions = not hidden and bool(st.session_state.get("queue_regions"))
    st.caption("Next")
    shown = opened.run.records(coming)
    with st.container(key="strip"):
        for column, item in zip(st.columns(STRIP), shown, strict=False):
            picture = drawing(opened, item, PREVIEW_SIDE, opacity, regions=regions)
            with column, st.container(gap="xsmall"):
                words = f"Part {ids.index(item.item_id) + 1:,}"
                if picture is not None:
                    st.image(picture, width="stretch", alt=words)
                st.markdown(f":small[{words if hidden else verdict_word(item.verdict)}]")


def show_estimates(opened: OpenedRun, wish: QueueWish) -> None:
    """Say what the sample tells of all parts so far."""
    table = opened.run.table
    sample = _sample(table, (place(), table.run_id, table.inspected), wish.seed, wish.passed, wish.rejected)
    escapes, overkill = estimates(sample, table)
    st.markdown(unbroken(estimate_words(escapes, "Escapes", "passed")))
    st.markdown(unbroken(estimate_words(overkill, "Overkill", "rejected")))


def estimate_words(told: Estimate, name: str, of: str) -> str:
    """Say an estimate with its interval and what it rests on."""
    wrong = "defects" if name == "Escapes" else "good"
    if told.wrong.share is None:
        return f"**{name}**: no word yet on {told.drawn:,} parts drawn from {told.of:,} {of}."
    low, high = told.in_all
    words = (
        f"**{name}**: {percent(told.wrong.share)} of the {of} parts are {wrong} "
        f"({told.wrong.events:,} of {told.wrong.of:,}; 95 % interval {percent(told.wrong.low)} to "
        f"{percent(told.wrong.high)}: {low:,} to {high:,} of {told.of:,})."
    )
    if told.unsure:
        words += f" {told.unsure:,} called unsure are left out."
    if told.skipped:
        words += f" {told.skipped:,} were skipped: while they are, this is no random sample."
    return words


@st.cache_resource(max_entries=8, show_spinner=False)
def _sample(_table: RunTable, key: tuple[str, str, int], seed: int, passed: int, rejected: int) -> Sample:
    return draw_sample(_table, seed, passed, rejected)


main()
