"""The run that all pages show: found, chosen, opened once, kept by its content's digest."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import streamlit as st

from differnet.records import DiffernetError, Record
from differnet.reporting.artefacts import encode_jpeg
from differnet.reporting.browsing import markdown_safe
from differnet.reporting.counts import Columns, columns_of
from differnet.reporting.figures import heat_overlay, heat_picture
from differnet.reporting.run_folder import RunFolder, list_runs, run_revision
from differnet.reporting.tables import legible

# Names the folder of runs where no ``--runs`` is given.
RUNS_VARIABLE = "DIFFERNET_RUNS"


@dataclass(frozen=True)
class OpenedRun:
    """A run with what every page needs of it.

    Attributes:
        run: The run.
        revision: Digest of its content; every cache is keyed by it.
        columns: Its figures as arrays.
        by_id: Item id to record.
    """

    run: RunFolder
    revision: str
    columns: Columns
    by_id: dict[str, Record]


def runs_folder() -> Path:
    """Read from the command line, else the environment, where the runs are."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--runs", default=os.environ.get(RUNS_VARIABLE, "runs"))
    known, _ = parser.parse_known_args()
    return Path(known.runs)


def choose_run(folder: Path) -> None:
    """Let a person choose a run in the sidebar, and put the choice into the address."""
    runs = {path.name: path for path in list_runs(folder)}
    if not runs:
        _explain_no_runs(folder)
    requested = st.query_params.get("run")
    if requested in runs and "run" not in st.session_state:
        st.session_state["run"] = requested
    if st.session_state.get("run") not in runs:
        st.session_state.pop("run", None)
    with st.sidebar:
        name = st.selectbox("Run", list(runs), key="run", format_func=legible, persist_state="session")
    st.query_params["run"] = str(name)
    st.session_state["run_path"] = str(runs[str(name)])


def current_run() -> OpenedRun:
    """Open the chosen run, or show why it cannot be opened and end the page."""
    path = Path(st.session_state["run_path"])
    try:
        opened = _open(str(path), run_revision(path))
    except DiffernetError as error:
        st.error(markdown_safe(str(error)), icon=":material/error:")
        st.stop()
    if not opened.run.records:
        st.title("Nothing inspected yet")
        st.write("This run has no pictures so far. Reload the page when the inspection has begun.")
        st.stop()
    if opened.run.facts.finished_at is None:
        st.info("This run is not finished. The figures are those of the pictures inspected so far.")
    return opened


def overlay_of(opened: OpenedRun, record: Record, opacity: float) -> bytes | None:
    """Draw a picture with its heat map, once for each revision, picture and opacity."""
    return _overlay(opened, opened.revision, record.item_id, opacity)


def heat_of(opened: OpenedRun, record: Record) -> bytes | None:
    """Draw a heat map alone."""
    heat_map = opened.run.heat_map(record)
    return None if heat_map is None else encode_jpeg(heat_picture(heat_map, opened.run.heat_scale))


def _explain_no_runs(folder: Path) -> NoReturn:
    st.title("No runs yet")
    st.write("The dashboard shows what an inspection has written. No run was found in")
    st.code(legible(str(folder.absolute())), language=None)
    st.write("Make one, then reload this page:")
    st.code("differnet inspect MODEL IMAGES --out runs/first", language="shell")
    st.stop()


@st.cache_resource(max_entries=4, show_spinner="Opening the run")
def _open(path: str, revision: str) -> OpenedRun:
    run = RunFolder.open(Path(path))
    return OpenedRun(
        run, revision, columns_of(run.records), {record.item_id: record for record in run.records}
    )


@st.cache_data(max_entries=512, show_spinner=False)
def _overlay(_opened: OpenedRun, revision: str, item_id: str, opacity: float) -> bytes | None:
    # Streamlit leaves the first argument out of the key: the revision stands for it.
    record = _opened.by_id[item_id]
    preview = _opened.run.preview(record)
    if preview is None:
        return None
    heat_map = _opened.run.heat_map(record)
    return encode_jpeg(heat_overlay(preview, heat_map, _opened.run.heat_scale, record, opacity))
