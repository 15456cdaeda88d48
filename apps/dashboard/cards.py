"""What the pages that show many pictures share: drawings that are kept, words, and who may review."""

from __future__ import annotations

import streamlit as st
from opened import OpenedRun, person, place, writable
from words import SHAPES

from differnet.records import Record, Verdict
from differnet.reporting.tabled_run import TabledRun, drawn_picture
from differnet.store import Judgement

JUDGEMENT_SHAPES = {
    "good": SHAPES[Verdict.PASS],
    "defect": SHAPES[Verdict.DEFECT],
    "unsure": "?",
}
# What a person can say, and the key that says it.
WORDS: tuple[tuple[Judgement, str], ...] = (("defect", "D"), ("good", "G"), ("unsure", "U"))


def drawing(
    opened: OpenedRun, record: Record, side: int, opacity: float = 0.0, *, regions: bool = False
) -> bytes | None:
    """Draw a picture once for each state of the run, size, opacity and outline."""
    table = opened.run.table
    # What people say changes no picture.
    key = (place(), table.run_id, table.inspected, record.item_id)
    return _drawing(opened.run, record, key, side, opacity, regions)


def judgement_words(judgement: str, kind: str = "") -> str:
    """Write what a person said with a shape, in plain text."""
    return f"{JUDGEMENT_SHAPES[judgement]} {judgement}" + (f", {kind}" if kind else "")


def may_not_review() -> str:
    """Say why nothing can be said of parts here; empty where it can."""
    if not writable():
        return "This dashboard only reads the record: nothing can be said of parts here."
    if not person():
        return "Type your name in the sidebar, under You: what you say is kept with it."
    return ""


def word_box(name: str, label: str, width: int, longest: int, *, disabled: bool = False) -> None:
    """Show a box for a few words, which `boxed_words` returns.

    With Enter the box lets go of the keyboard, so that letters are commands again: it is another box then.
    """
    state = st.session_state
    key = _box(name)
    st.text_input(
        label,
        state.get(name, ""),
        key=key,
        max_chars=longest,
        on_change=_keep_words,
        args=(name, key),
        placeholder=label[0].lower() + label[1:],
        label_visibility="collapsed",
        width=width,
        disabled=disabled,
    )


def boxed_words(name: str) -> str:
    """Return what is in a box, also where a button was pressed before it could be kept."""
    state = st.session_state
    typed = state.get(_box(name))
    return str(state.get(name, "") if typed is None else typed).strip()


def clear_box(name: str) -> None:
    """Empty a box."""
    if boxed_words(name):
        _change_box(name, "")


def _box(name: str) -> str:
    return f"{name} {st.session_state.get(f'{name} number', 0)}"


def _change_box(name: str, words: str) -> None:
    state = st.session_state
    state[name], state[f"{name} number"] = words, state.get(f"{name} number", 0) + 1


def _keep_words(name: str, key: str) -> None:
    # Of a box that a button has emptied meanwhile nothing is kept.
    if key == _box(name):
        _change_box(name, boxed_words(name))


@st.cache_data(max_entries=3000, show_spinner=False)
def _drawing(
    _run: TabledRun,
    _record: Record,
    key: tuple[str, str, int, str],
    side: int,
    opacity: float,
    regions: bool,
) -> bytes | None:
    # Streamlit leaves the first two arguments out of the key: the names of run and item stand for them.
    drawn: bytes | None = drawn_picture(_run, _record, side, opacity, regions=regions)
    return drawn
