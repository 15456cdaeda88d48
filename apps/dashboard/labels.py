"""Labels: everything that people said of parts, against verdicts, labels and each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import streamlit as st
from cards import WORDS, boxed_words, clear_box, judgement_words, may_not_review, word_box
from opened import OpenedRun, current_run, person, place, record, show_error, writable

from differnet.evaluation.intervals import Rate
from differnet.records import DiffernetError, Verdict
from differnet.reporting.browsing import markdown_safe
from differnet.reporting.gallery_query import GalleryQuery, Reviewed
from differnet.reporting.tables import csv_text, legible, unbroken
from differnet.reviewing import (
    Lost,
    export_beside,
    last_words,
    locate,
    unsure,
    verdict_agreement,
)
from differnet.reviewing.agreeing import (
    PeopleAgreement,
    describe_kappa,
    disagreeing,
    people_agreement,
    words_by_picture,
)
from differnet.reviewing.kinds import checked_kind, is_renaming, kind_counts, rename_kinds
from differnet.reviewing.labelling import (
    LABEL,
    NO_KIND,
    PEOPLE,
    VERDICT,
    LabelFilter,
    filter_labels,
    history_table,
    labels_table,
    said_share,
    unsaid_by_verdict,
    words_by_verdict,
)
from differnet.store import Asked, Judgement, ReviewEntry, Said
from differnet.store.run_table import JUDGEMENTS

RUN, PRODUCT = "this run", "the whole product"
SECTIONS = ("Words", "Against verdicts", "Kinds of defect", "People", "Without a word", "Export", "History")
# Pictures that a message names.
NAMED = 5


@dataclass(frozen=True)
class Scope:
    """What the page is about.

    Attributes:
        asked: Which items.
        words: A few for a person.
    """

    asked: Asked
    words: str


def main() -> None:
    """Lay out the page."""
    opened = current_run()
    title, choice = st.columns([3, 2], vertical_alignment="center")
    title.title("Labels", anchor=False)
    chosen = choice.segmented_control(
        "What the words are on",
        [RUN, PRODUCT],
        default=RUN,
        required=True,
        key="labels_scope",
        label_visibility="collapsed",
        persist_state="session",
    )
    scope = scope_of(opened, str(chosen))
    said = words_in(opened, scope)
    show_summary(opened, said)
    section = st.segmented_control(
        "Show",
        SECTIONS,
        default=SECTIONS[0],
        required=True,
        key="labels_section",
        label_visibility="collapsed",
        persist_state="session",
    )
    shown: dict[str, Callable[[], None]] = {
        "Words": lambda: show_words(said),
        "Against verdicts": lambda: show_verdicts(said),
        "Kinds of defect": lambda: show_kinds(scope, said),
        "People": lambda: show_people(scope, said),
        "Without a word": lambda: show_unsaid(opened),
        "Export": lambda: show_export(scope, said),
        "History": lambda: show_history(scope),
    }
    if (told := st.session_state.pop("labels_told", "")) != "":
        st.success(markdown_safe(told), icon=":material/check:")
    if (error := st.session_state.pop("labels_error", None)) is not None:
        show_error(error)
    shown[str(section)]()


def words_in(opened: OpenedRun, scope: Scope) -> list[Said]:
    """Return the words; those on a run are read once for each state of it."""
    table = opened.run.table
    if scope.asked.run_id is None:
        return record().said(scope.asked)
    return _said_of_run(place(), table.run_id, table.changed)


def scope_of(opened: OpenedRun, chosen: str) -> Scope:
    """Return which words are meant."""
    entry = opened.run.entry
    if chosen == PRODUCT:
        return Scope(Asked(product=entry.product), f"product {legible(entry.product)}")
    return Scope(Asked(run_id=entry.run_id), f"run {legible(entry.run_id)}")


def show_summary(opened: OpenedRun, said: list[Said]) -> None:
    """Say how much was said, and where more is said."""
    parts, *counts = said_share(opened.run.table)
    told = ", ".join(f"{n:,} {word}" for n, word in zip(counts, JUDGEMENTS, strict=True) if n)
    people = len({word.entry.author for word in said})
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(
            f"{sum(counts):,} of {parts:,} parts of this run have a word{f': {told}' if told else ''}. "
            f"{counted(len(said), 'word')} of {people:,} {'person' if people == 1 else 'people'} "
            f"{be(len(said))} shown."
        )
        st.page_link("review.py", label="Review more")
        if (Path(__file__).parent / "train.py").is_file():
            st.page_link("train.py", label="Train with what was said")


def show_words(said: list[Said]) -> None:
    """Show the last word on every part, filtered."""
    if not said:
        nothing_said()
        return
    table = labels_table(said)
    shown = filter_labels(table, filter_widgets(table))
    st.caption(
        f"{len(shown):,} of {len(table):,} parts; the last word on each. Choose rows to say more of them."
    )
    above = st.container()
    event = st.dataframe(
        shown.drop(columns=["run", "item"]).reset_index(drop=True),
        hide_index=True,
        width="stretch",
        height=420,
        key="labels_table",
        on_select="rerun",
        selection_mode="multi-row",
        column_config={"strangeness": st.column_config.NumberColumn(format="%.2f")},
        alt="The last word on every part, with verdict, label and who said it",
    )
    chosen = [row for row in event["selection"]["rows"] if row < len(shown)]
    picked = shown.iloc[chosen]
    with above:
        show_picked(picked)
    st.download_button(
        "Download this table",
        csv_text(shown),
        "labels.csv",
        "text/csv",
        key="labels_csv",
        help="For a spreadsheet. To train with, write a manifest: Export.",
    )


def filter_widgets(table: pd.DataFrame) -> LabelFilter:
    """Show the filters of the table."""
    first, second, third, fourth = st.columns([2, 3, 3, 2], vertical_alignment="bottom")
    name = first.text_input("Part, label or note holds", key="labels_name", max_chars=100)
    judgements = second.pills("Said", list(JUDGEMENTS), selection_mode="multi", key="labels_said")
    disagrees = third.pills(
        "Disagrees with", [LABEL, VERDICT, PEOPLE], selection_mode="multi", key="labels_disagrees"
    )
    with fourth.popover("More filters", width="stretch"):
        people = st.multiselect("Said by", sorted(set(table["by"])), key="labels_by")
        kinds = st.multiselect(
            "Kind of defect", sorted({kind or NO_KIND for kind in table["kind"]}), key="labels_kinds"
        )
        verdicts = st.multiselect("Verdict", [verdict.value for verdict in Verdict], key="labels_verdicts")
    return LabelFilter(
        tuple(people), tuple(judgements), tuple(kinds), tuple(verdicts), tuple(disagrees), str(name or "")
    )


def show_picked(picked: pd.DataFrame) -> None:
    """Show what can be done with the rows that are chosen."""
    reason = may_not_review()
    barred = picked.empty or bool(reason)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.caption(f"{len(picked):,} chosen.")
        for judgement, key in WORDS:
            st.button(
                judgement_words(judgement).capitalize(),
                key=f"labels_{judgement}",
                shortcut=key,
                on_click=say_of_rows,
                args=(list(zip(picked["run"], picked["item"], strict=True)), judgement),
                disabled=barred,
            )
        word_box("labels_kind", "Kind, for D", 150, 80, disabled=barred)
        if len(picked) == 1:
            query = {"run": picked.iloc[0]["run"], "item": picked.iloc[0]["item"]}
            st.page_link("picture.py", label="Open the part", query_params=query)
    if reason:
        st.caption(reason)


def say_of_rows(rows: list[tuple[str, str]], judgement: Judgement) -> None:
    """Keep one more word on the parts that are chosen."""

    def kept() -> str:
        kind = checked_kind(boxed_words("labels_kind")) if judgement == "defect" else ""
        runs: dict[str, list[str]] = {}
        for run_id, item_id in rows:
            runs.setdefault(run_id, []).append(item_id)
        for run_id, item_ids in runs.items():
            record().review_all(run_id, item_ids, ReviewEntry(judgement, person(), kind))
        clear_box("labels_kind")
        return f"You said {judgement_words(judgement, legible(kind))} of {counted(len(rows), 'part')}."

    attempt(kept)


def attempt(step: Callable[[], str]) -> None:
    """Do a step, and keep for the page what is to be told of it."""
    try:
        st.session_state["labels_told"] = step()
    except DiffernetError as error:
        st.session_state["labels_error"] = error


def counted(number: int, what: str) -> str:
    """Write a number of things."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def be(number: int) -> str:
    """Write the verb that goes with a number."""
    return "is" if number == 1 else "are"


def nothing_said() -> None:
    """Say that nobody has said anything, and where to begin."""
    st.info("Nobody has said anything of these parts yet. Begin with those between T1 and T2: Review more.")


def show_verdicts(said: list[Said]) -> None:
    """Show words by verdict, and how often the two agree."""
    if not said:
        nothing_said()
        return
    # No st.table: it would read kinds as Markdown.
    st.dataframe(words_by_verdict(said), width="stretch", alt="The last word on every part, by verdict")
    last = {(word.run_id, word.item_id): word for word in said}
    found = verdict_agreement((word.verdict, word.entry.judgement) for word in last.values())
    rates = [
        ("Overkill", "called good, but rejected", found.overkill),
        ("Escapes", "called a defect, but passed", found.escape),
        ("Rejected and good", "of the rejected that were called good or defect", found.rejected_good),
        ("Passed and a defect", "of the passed that were called good or defect", found.passed_defect),
    ]
    st.table(pd.DataFrame([rate_row(*each) for each in rates]).set_index("rate"))
    st.caption(
        "People choose what they look at: these rates hold for parts chosen likewise, not for all that a "
        "line makes. Only a random sample, drawn on the page Review queue, tells of all parts."
    )


def rate_row(name: str, meaning: str, measured: Rate) -> dict[str, str]:
    """Write a rate with its interval."""
    share = "no such part" if measured.share is None else unbroken(str(measured))
    counted = f"{measured.events:,} of {measured.of:,}"
    return {"rate": name, "share (95 % interval)": share, "parts": counted, "meaning": meaning}


def show_kinds(scope: Scope, said: list[Said]) -> None:
    """Show the kinds of defect that people named, and give them other names."""
    counts = kind_counts(said)
    if not counts:
        st.info("Nobody has named a kind of defect here yet.")
        return
    left, right = st.columns(2, gap="large")
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    rows = [(legible(kind), number) for kind, number in ranked]
    left.dataframe(
        pd.DataFrame(rows, columns=["kind", "parts"]),
        hide_index=True,
        width="stretch",
        alt="Kinds of defect and how many parts have them",
    )
    with right, st.container(gap="small"):
        st.markdown("**Give kinds another name**")
        st.caption(
            "Several become one so. It is one more word on every part; what was said stays on record. "
            f"Done for {markdown_safe(scope.words)}."
        )
        old = st.multiselect(
            "Kinds", sorted(counts), key="kinds_old", format_func=legible, disabled=bool(may_not_review())
        )
        new = st.text_input("New name", key="kinds_new", max_chars=80, disabled=bool(may_not_review()))
        st.button(
            "Rename",
            key="kinds_rename",
            on_click=rename,
            args=(scope, tuple(old), str(new or "")),
            disabled=not old or not new or bool(may_not_review()),
        )
        if reason := may_not_review():
            st.caption(reason)


def rename(scope: Scope, old: tuple[str, ...], new: str) -> None:
    """Give kinds of defect another name."""

    def renamed() -> str:
        number = rename_kinds(record(), record().said(scope.asked), old, new, person())
        st.session_state["kinds_new"] = ""
        st.session_state["kinds_old"] = []
        have = "has" if number == 1 else "have"
        return f"{counted(number, 'part')} {have} the kind {legible(new.strip())} now."

    attempt(renamed)


def show_people(scope: Scope, said: list[Said]) -> None:
    """Show how far people agree with each other."""
    found = agreement_of(said)
    if not found.words:
        nothing_said()
        return
    agreed = [
        {"person": legible(who), "pictures": sum(counts), **dict(zip(JUDGEMENTS, counts, strict=True))}
        for who, counts in found.words.items()
    ]
    st.dataframe(
        pd.DataFrame(agreed), hide_index=True, width="stretch", alt="Who said how often good, defect, unsure"
    )
    if found.alpha is None:
        st.info(
            "No picture was judged by two people. A second look, on the page Review queue, shows one person "
            "what another has judged, without the word."
        )
        return
    st.markdown(unbroken(f"**Krippendorff's alpha** of all: {describe_kappa(found.alpha)}."))
    pairs = [
        {
            "one": legible(pair.first),
            "other": legible(pair.second),
            "pictures": pair.kappa.pictures,
            "alike": pair.kappa.same,
            "Cohen's kappa": describe_kappa(pair.kappa),
        }
        for pair in found.pairs
    ]
    st.dataframe(pd.DataFrame(pairs), hide_index=True, width="stretch", alt="Agreement of every two people")
    st.caption(
        "1 is full agreement, 0 what chance gives; good, defect and unsure are three words without an order. "
        "Intervals by 2,000 draws of the pictures, with a fixed seed."
    )
    show_divided(said)


def show_divided(said: list[Said]) -> None:
    """Show the pictures of which people say different things."""
    divided = disagreeing(said)
    st.markdown(f"**{counted(len(divided), 'picture')} of which people say different things**")
    rows = [
        {
            "part": legible(words[0].part_id or words[0].item_id),
            "verdict": words[0].verdict.value,
            "words": "; ".join(f"{legible(word.entry.author)}: {words_of(word.entry)}" for word in words),
        }
        for words in divided
    ]
    if rows:
        st.dataframe(
            pd.DataFrame(rows), hide_index=True, width="stretch", alt="Pictures of which people disagree"
        )


def words_of(entry: ReviewEntry) -> str:
    """Write what was said."""
    return judgement_words(entry.judgement, legible(entry.kind))


def agreement_of(said: list[Said]) -> PeopleAgreement:
    """Measure agreement once for each state of the words, for its intervals take a moment."""
    state = tuple((word.run_id, word.item_id, word.entry.author, word.entry.made_at) for word in said)
    return _agreement(said, (place(), hash(state), len(state)))


def show_unsaid(opened: OpenedRun) -> None:
    """Show of what in this run nobody has said anything."""
    table = unsaid_by_verdict(opened.run.table)
    st.table(table)
    silent = GalleryQuery(run=opened.run.entry.run_id, reviewed=(Reviewed.NONE,))
    with st.container(horizontal=True):
        st.page_link("gallery.py", label="Show them", query_params=silent.link())
        st.page_link(
            "review.py", label="Review them one by one", query_params={**silent.link(), "queue": "chosen"}
        )
    st.caption("Of this run, by label and verdict.")


def show_export(scope: Scope, said: list[Said]) -> None:
    """Write what was said as a manifest that training and calibration read."""
    if not said:
        nothing_said()
        return
    st.caption(
        "A manifest names every picture with its last word, so that train, calibrate and evaluate read it. "
        f"It is written beside the pictures of {markdown_safe(scope.words)}; nothing is overwritten. "
        "Pictures are found by their content; what is unsure, gone or changed is left out."
    )
    if not writable():
        st.info("This dashboard only reads the record: it writes nothing.")
        return
    left, right = st.columns(2, vertical_alignment="bottom")
    name = left.text_input("Name of the file", "reviewed.csv", key="export_name", max_chars=100)
    hold_out = right.toggle(
        "Hold out",
        key="export_hold_out",
        help="Mark defects and every fourth good part, by the order of their sha256, as test parts.",
    )
    st.button(
        "Write the manifest",
        key="export_write",
        on_click=write_manifest,
        args=(scope, str(name or ""), bool(hold_out)),
    )
    if (written := st.session_state.get("export_written")) is not None:
        show_written(*written)


def write_manifest(scope: Scope, name: str, hold_out: bool) -> None:
    """Find the pictures and write the manifest."""
    st.session_state.pop("export_written", None)

    def written() -> str:
        words = last_words(record(), scope.asked)
        decided = [word for word in words if word.entry.judgement != "unsure"]
        found, lost = locate(record(), decided, Path())
        file, exported = export_beside(found, name, hold_out=hold_out)
        st.session_state["export_written"] = file, lost, unsure(words)
        return (
            f"{counted(exported.good, 'good part')} and {counted(exported.defects, 'defect')} are written"
            + (
                f"; {exported.aside:,} good parts and every defect are marked as test parts."
                if hold_out
                else "."
            )
        )

    attempt(written)


def show_written(file: Path, lost: list[Lost], doubted: int) -> None:
    """Show the manifest that was written, and what is not in it."""
    st.code(str(file), language=None)
    if file.is_file():
        st.download_button("Download it", file.read_bytes(), file.name, key="export_download")
    if doubted:
        st.caption(f"{counted(doubted, 'part')} that nobody could tell {be(doubted)} left out.")
    if lost:
        st.warning(f"{counted(len(lost), 'picture')} {be(len(lost))} left out:")
        for one in lost[:NAMED]:
            st.text(f"{legible(one.path)}: {one.reason}")


def show_history(scope: Scope) -> None:
    """Show every word, the latest first, also what was taken back."""
    every = record().said(scope.asked, withdrawn=True)
    if not every:
        nothing_said()
        return
    st.dataframe(
        history_table(every),
        hide_index=True,
        width="stretch",
        height=480,
        alt="Every word with its time, and when it was taken back",
    )
    renamed = sum(is_renaming(word.entry) for word in every)
    taken = sum(bool(word.withdrawn_at) for word in every)
    st.caption(
        f"{len(every):,} words on {len(words_by_picture(every)):,} pictures; {taken:,} taken back, "
        f"{renamed:,} that only rename a kind. Nothing is ever removed."
    )


@st.cache_resource(max_entries=4, show_spinner=False)
def _said_of_run(place: str, run_id: str, changed: int) -> list[Said]:
    return record().said(Asked(run_id=run_id))


@st.cache_resource(max_entries=8, show_spinner="Measuring agreement")
def _agreement(_said: list[Said], key: tuple[str, int, int]) -> PeopleAgreement:
    return people_agreement(_said)


main()
