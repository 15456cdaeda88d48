"""Choosing a folder of the machine that runs the dashboard: typed, or found step by step."""

from __future__ import annotations

import os
from pathlib import Path

import streamlit as st
from opened import place, workspace

from differnet.records import DiffernetError
from differnet.reporting.serving import DATA_VARIABLE
from differnet.reporting.tables import legible
from differnet.tasks import machine, roots, subfolders
from differnet.tasks.places import existing_folder


def choose_folder(label: str, key: str, start: str = "") -> str:
    """Let a person type a folder's path, or walk to it.

    Args:
        label: Of the text box.
        key: Of the widgets; the path is kept under it.
        start: Path to begin with.

    Returns:
        The path; it may be empty, or of nothing.
    """
    if st.session_state.get(key, "") == st.session_state.get(f"{key}-begun", ""):
        # Nobody has typed anything yet, and what to begin with may just have been made.
        st.session_state[key] = st.session_state[f"{key}-begun"] = start
    with st.container(horizontal=True, vertical_alignment="bottom"):
        typed = st.text_input(label, key=key, max_chars=4096, persist_state="session")
        chosen = str(typed or "").strip()
        with st.popover("Browse", icon=":material/folder_open:"):
            walk(key, chosen)
    return chosen


def walk(key: str, chosen: str) -> None:
    """Show the folders round a path, each one step away."""
    shared = " The record may be of another machine; these folders are not." if "://" in place() else ""
    st.caption(f"Folders of {machine()}, the machine that runs this dashboard.{shared}")
    given = os.environ.get(DATA_VARIABLE, "").split(os.pathsep)
    begin = [str(root) for root in roots(workspace(), given)]
    st.selectbox(
        "Begin at",
        begin,
        index=None,
        key=f"{key}-root",
        format_func=legible,
        placeholder="a folder to begin at",
        on_change=go_to_root,
        args=(key,),
    )
    try:
        here = existing_folder(chosen, "a folder")
    except DiffernetError:
        st.text("No folder is chosen yet.")
        return
    st.text(legible(str(here)))
    st.button(
        "Up one folder",
        key=f"{key}-up",
        icon=":material/arrow_upward:",
        on_click=go_to,
        args=(key, str(here.parent)),
        disabled=here.parent == here,
    )
    inside = subfolders(here)
    if not inside:
        st.text("No folder in it that can be opened.")
        return
    st.selectbox(
        f"Open one of {len(inside):,} in it",
        inside,
        index=None,
        key=f"{key}-in-{here}",
        format_func=legible,
        placeholder="a folder to open",
        on_change=go_into,
        args=(key, str(here), f"{key}-in-{here}"),
    )


def go_to(key: str, path: str) -> None:
    """Put a path into the text box."""
    st.session_state[key] = path


def go_to_root(key: str) -> None:
    """Begin at the folder that was chosen."""
    if (root := st.session_state.get(f"{key}-root")) is not None:
        st.session_state[key] = root


def go_into(key: str, here: str, widget: str) -> None:
    """Open the folder that was chosen."""
    if (name := st.session_state.get(widget)) is not None:
        st.session_state[key] = str(Path(here) / name)
