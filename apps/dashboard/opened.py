"""What all pages share: the record, who acts, the chosen run, opened once for each change of it."""

from __future__ import annotations

import getpass
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NoReturn

import streamlit as st

from differnet.records import DiffernetError
from differnet.reporting.browsing import markdown_safe
from differnet.reporting.counts import Columns, columns_of_table
from differnet.reporting.serving import PLACE_VARIABLE, READ_ONLY_VARIABLE, WORKSPACE_VARIABLE
from differnet.reporting.tabled_run import TabledRun
from differnet.reporting.tables import legible
from differnet.store import RunEntry, Store

# Runs in the list, the latest; others open by their address.
LISTED_RUNS = 200
# Kept in memory; one of 100,000 pictures takes some 60 MB.
OPENED_RUNS = 4
LABELS, PEOPLE = "labels", "people over labels"


@dataclass(frozen=True)
class OpenedRun:
    """The chosen run as every page sees it, as it stood when the page was asked for.

    Attributes:
        run: The run.
        judged: Whether the last word of a person counts as the truth in place of the label.
    """

    run: TabledRun
    judged: bool

    @property
    def key(self) -> tuple[str, int, bool]:
        """Name what pages show, for caches to be keyed by."""
        return self.run.entry.run_id, self.run.table.changed, self.judged

    @cached_property
    def columns(self) -> Columns:
        """The figures that thresholds act on."""
        return columns_of_table(self.run.table, judged=self.judged)


def place() -> str:
    """Return where the record is."""
    return os.environ.get(PLACE_VARIABLE) or "record.db"


def workspace() -> Path:
    """Return the folder for models, runs, uploads and whatever else pages make."""
    return Path(os.environ.get(WORKSPACE_VARIABLE) or ".").resolve()


def record() -> Store:
    """Return the record; one connection pool for all who look at it."""
    return _record(place(), bool(os.environ.get(READ_ONLY_VARIABLE)))


def writable() -> bool:
    """Tell whether pages may change the record."""
    return not record().read_only


def require_record() -> None:
    """Open the record, or show why it cannot be opened and end the page."""
    try:
        record()
    except DiffernetError as error:
        st.title("The record cannot be opened")
        show_error(error)
        st.stop()


def has_runs() -> bool:
    """Tell whether the record holds any run."""
    return bool(record().runs(limit=1))


def show_error(error: DiffernetError) -> None:
    """Show what was expected, what was found and what to do."""
    told = (("Expected", error.expected), ("Found", error.found), ("Do this", error.remedy))
    # Two blanks before the end of a line make it one in Markdown.
    words = "  \n".join(f"**{name}:** {markdown_safe(words)}" for name, words in told if words)
    st.error(words, icon=":material/error:")


def choose_run() -> None:
    """Let a person choose a run in the sidebar, and put the choice into the address."""
    runs = {entry.run_id: entry for entry in record().runs(limit=LISTED_RUNS)}
    requested = st.query_params.get("run")
    # Of a link or an address; what the page wrote there itself is no wish.
    if requested is not None and requested != st.session_state.get("run_told"):
        st.session_state["run"] = requested
    if (wanted := st.session_state.pop("truth_wanted", None)) is not None:
        st.session_state["truth"] = wanted
    if (chosen := st.session_state.get("run")) is not None and chosen not in runs:
        if (entry := _find(chosen)) is None:
            st.session_state.pop("run", None)
        else:
            runs[chosen] = entry
    if not runs:
        return
    with st.sidebar:
        name = st.selectbox(
            "Run",
            list(runs),
            key="run",
            format_func=lambda run_id: describe(runs[run_id]),
            persist_state="session",
        )
        st.selectbox(
            "What counts as the truth",
            [LABELS, PEOPLE],
            key="truth",
            persist_state="session",
            help="Labels come with the pictures. Over them, what a person said last of a part can count.",
        )
    st.query_params["run"] = st.session_state["run_told"] = str(name)


def want_truth(*, judged: bool) -> None:
    """Let a link choose what counts as the truth: the page runs anew with it."""
    st.session_state["truth_wanted"] = PEOPLE if judged else LABELS
    st.rerun()


def choose_person() -> None:
    """Let a person say who they are; it is kept with reviews and thresholds."""
    if "person" not in st.session_state:
        st.session_state["person"] = _logged_in()
    with st.sidebar:
        st.text_input(
            "You", key="person", max_chars=80, persist_state="session", help="Kept with what you decide."
        )
        if not writable():
            st.caption("Read only: nothing can be changed from here.")


def person() -> str:
    """Return who acts; empty where nobody has said so."""
    return str(st.session_state.get("person") or "").strip()


def current_run(*, again: bool = False) -> OpenedRun:
    """Open the chosen run, or show why it cannot be opened and end the page.

    Args:
        again: For a part of a page that runs anew alone; the page has told already what is to be told.
    """
    run_id = st.session_state.get("run")
    if run_id is None:
        _explain_no_runs()
    try:
        run = _open(place(), str(run_id), record().changed(str(run_id)))
    except DiffernetError as error:
        st.title("This run cannot be shown")
        show_error(error)
        st.stop()
    if not len(run):
        st.title("Nothing inspected yet")
        st.write("This run has no pictures so far. Reload the page when the inspection has begun.")
        st.stop()
    if run.facts.finished_at is None and not again:
        st.info("This run is not finished. The figures are those of the pictures inspected so far.")
    return OpenedRun(run, judged=judged())


def judged() -> bool:
    """Tell whether the last word of a person counts as the truth in place of the label."""
    return st.session_state.get("truth") == PEOPLE


def describe(entry: RunEntry) -> str:
    """Name a run in a list."""
    return legible(f"{entry.run_id}, {entry.product}, {entry.started_at[:16].replace('T', ' ')}")


def _explain_no_runs() -> NoReturn:
    st.title("No runs yet")
    st.write("The dashboard shows what was inspected, and the record holds no run so far.")
    st.write("Make a model and inspect pictures on the page Start, or type, and reload this page:")
    st.code("differnet batch run MODEL IMAGES", language="shell")
    st.stop()


def _find(run_id: str) -> RunEntry | None:
    try:
        return record().run(run_id)
    except DiffernetError:
        # Of an address that somebody typed, or of a run that is gone.
        return None


def _logged_in() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        # A container's user often has no name.
        return ""


@st.cache_resource(max_entries=4, show_spinner=False)
def _record(place: str, read_only: bool) -> Store:
    return Store.open(place, read_only=read_only)


@st.cache_resource(max_entries=OPENED_RUNS, show_spinner="Opening the run")
def _open(place: str, run_id: str, changed: int) -> TabledRun:
    # Place and changes make the key; the run is as it stands now, which is at least as new.
    last = _last_opened(place)
    run = TabledRun(record(), run_id, last.pop(run_id, None))
    last[run_id] = run
    while len(last) > OPENED_RUNS:
        last.pop(next(iter(last)), None)
    return run


@st.cache_resource(max_entries=1, show_spinner=False)
def _last_opened(place: str) -> dict[str, TabledRun]:
    """Keep runs as they were opened last: where people said something since, only that is read."""
    return {}
