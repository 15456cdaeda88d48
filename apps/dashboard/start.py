"""Start: from nothing to a tuned threshold and a report, in five steps."""

from __future__ import annotations

import streamlit as st
from folders import choose_folder
from opened import place, show_error, workspace
from opened import record as opened_record
from work import ask_button, home, open_gallery, put_run, show_task, watched

from differnet.records import DiffernetError
from differnet.reporting.browsing import markdown_safe
from differnet.reporting.tables import legible
from differnet.tasks import InspectWish, ReportWish, SampleWish, ScanWish, TrainWish
from differnet.tasks.choosing import FolderSummary, model_name, run_name, summary_of
from differnet.tasks.journey import Journey, journey
from differnet.tasks.making import written_reports
from differnet.tasks.telling import promises_table, scan_table

SIGNS = {
    "done": ":material/check_circle: done",
    "next": ":material/arrow_forward: next",
    "at work": ":material/progress_activity: at work",
    "later": ":material/radio_button_unchecked: later",
}
TITLES = {
    "pictures": "1. Pictures of good parts",
    "model": "2. Train a model",
    "inspection": "3. Inspect",
    "thresholds": "4. Tune the thresholds",
    "report": "5. Report",
}


def main() -> None:
    """Lay out the page."""
    st.title("Start")
    st.write(
        "A model learns from pictures of good parts alone, and says of every further picture how improbable "
        "it is. Five steps lead from pictures to a report; each goes on while you look elsewhere."
    )
    if "://" in place():
        st.caption(
            "The record is shared, in a database. Models, runs and pictures stay on the machine that runs "
            f"this dashboard, in {markdown_safe(str(workspace()))}."
        )
    found = journey(opened_record())
    folder = pictures_step(found)
    model_step(found, folder)
    inspection_step(found, folder)
    thresholds_step(found)
    report_step(found)


def heading(found: Journey, step: str) -> None:
    """Show a step's title and how it stands."""
    left, right = st.columns([5, 1], vertical_alignment="center")
    left.subheader(TITLES[step], anchor=False)
    right.markdown(SIGNS[found.states[step]], text_alignment="right")


def task_of(found: Journey, step: str, *, losses: bool = False) -> bool:
    """Show a step's task while it goes on or where it failed; return whether it goes on."""
    task = found.tasks.get(step)
    if task is None or task.state == "done":
        return False
    watched([task], lambda now: show_task(now, losses=losses))
    return task.active


def pictures_step(found: Journey) -> str:
    """Make the sample product, or choose a folder; return the folder."""
    with st.container(border=True):
        heading(found, "pictures")
        first = found.states["pictures"] == "next"
        left, right = st.columns([2, 3], gap="large")
        with left:
            st.markdown(
                "**No pictures at hand?** A rendered flange: 120 good parts to learn from, and parts with "
                "known defects to inspect."
            )
            sample = SampleWish(str(workspace()))
            ask_button("Make the sample product", lambda: sample, "ask-sample", primary=first)
        with right:
            st.markdown("**Your own parts:** pictures of good parts, of one product from one camera.")
            folder = choose_folder("Folder", "start_folder", found.folder or "")
        going_on = task_of(found, "pictures")
        if folder and not going_on:
            show_folder(folder, found)
    return folder


def show_folder(folder: str, found: Journey) -> None:
    """Say what a folder holds, and offer to look at every picture in it."""
    summary = summary_or_error(folder)
    if summary is None:
        return
    st.markdown(f":material/folder: {markdown_safe(summary.words)}")
    for note in summary.notes:
        st.text(legible(note))
    task = found.tasks.get("pictures")
    done = task is not None and (task.kind, task.state) == ("scan", "done")
    if task is None or not done or task.wish.get("data") != folder:
        ask_button("Look at every picture", lambda: ScanWish(str(workspace()), folder), "ask-scan")
        return
    outcome = task.outcome
    left, right = st.columns(2, gap="large")
    left.dataframe(scan_table(outcome), hide_index=True, alt="Parts by split and label")
    with right:
        st.text(
            f"{outcome['readable']:,} pictures can be read, {outcome['unreadable_count']:,} files cannot."
        )
        st.text(f"{outcome['duplicates_count']:,} groups of files are copies of each other.")
        for file in outcome["unreadable"][:5]:
            st.text(legible(f"{file['path']}: {file['message']}"))
    for warning in outcome["warnings"]:
        st.warning(markdown_safe(warning), icon=":material/warning:")


def summary_or_error(folder: str) -> FolderSummary | None:
    """Return what a folder holds, or show why that cannot be said."""
    try:
        return _summary(folder)
    except DiffernetError as error:
        show_error(error)
        return None


def model_step(found: Journey, folder: str) -> None:
    """Train a model with the usual settings."""
    with st.container(border=True):
        heading(found, "model")
        if found.model is not None:
            parts = found.model.facts.get("details", {}).get("Training parts", "?")
            of = found.model.product or "a product"
            st.text(legible(f"Model of {of}, {parts} parts, in {found.model.folder}"))
        if task_of(found, "model", losses=True):
            return
        task = found.tasks.get("model")
        if task is not None and task.state == "done":
            st.table(
                promises_table(task.outcome["facts"]), hide_index=True, alt="What the thresholds promise"
            )
        summary = _known_summary(folder)
        usable = summary is not None and summary.train_good > 0 and len(summary.products) < 2
        st.write("With the usual settings it takes some minutes. The page Train offers all of them.")
        with st.container(horizontal=True, vertical_alignment="center"):
            ask_button(
                "Train with the usual settings" if found.model is None else "Train another",
                lambda: TrainWish(str(workspace()), folder, model_name(home(), folder)),
                "ask-train",
                primary=found.states["model"] == "next",
                disabled=not usable,
            )
            st.page_link("train.py", label="All settings", icon=":material/tune:")


def inspection_step(found: Journey, folder: str) -> None:
    """Inspect what the folder sets aside, with the newest model."""
    with st.container(border=True):
        heading(found, "inspection")
        if found.run is not None:
            st.text(legible(f"Run {found.run.run_id}, {found.run.source}"))
        if task_of(found, "inspection"):
            return
        st.write(
            "Parts that were set aside for it are judged; those that the model has learned from are not."
        )
        with st.container(horizontal=True, vertical_alignment="center"):
            ask_button(
                "Inspect the folder",
                lambda: InspectWish(
                    str(workspace()),
                    run_name(found.model.product if found.model is not None else ""),
                    found.model.model_id if found.model is not None else "",
                    (folder,),
                    wrong_inputs=True,
                ),
                "ask-inspect",
                primary=found.states["inspection"] == "next",
                disabled=found.model is None or _known_summary(folder) is None,
            )
            st.page_link("inspection.py", label="Other pictures", icon=":material/image_search:")
            if found.run is not None:
                open_gallery(found.run.run_id, "start-gallery")


def thresholds_step(found: Journey) -> None:
    """Lead to the page on which thresholds are tuned."""
    with st.container(border=True):
        heading(found, "thresholds")
        st.write(
            "See what other thresholds would do to overkill, escapes and review load, and put better ones in "
            "force."
        )
        run_id = "" if found.run is None else found.run.run_id
        clicked = st.button(
            "Tune",
            key="start-tune",
            type="primary" if found.states["thresholds"] == "next" else "secondary",
            disabled=found.run is None,
            on_click=put_run,
            args=(run_id,),
        )
        if clicked:
            st.switch_page("tune.py")


def report_step(found: Journey) -> None:
    """Write the report of the newest run, and hand it out."""
    with st.container(border=True):
        heading(found, "report")
        if task_of(found, "report"):
            return
        st.write("One page that says what was inspected, what was found, and what may be concluded.")
        run_id = "" if found.run is None else found.run.run_id
        with st.container(horizontal=True, vertical_alignment="center"):
            ask_button(
                "Write the report",
                lambda: ReportWish(str(workspace()), run_id, ("html", "csv")),
                "ask-report",
                primary=found.states["report"] == "next",
                disabled=found.run is None,
            )
            for file in written_reports(opened_record(), home(), run_id) if run_id else ():
                st.download_button(
                    f"Download {file.name}" + ("" if file.current else ", older than the run"),
                    file.path.read_bytes,
                    file_name=file.file_name,
                    key=f"start-{file.name}",
                    icon=":material/download:",
                    on_click="ignore",
                )
            st.page_link("batches.py", label="Other formats", icon=":material/list_alt:")


def _known_summary(folder: str) -> FolderSummary | None:
    try:
        return _summary(folder) if folder else None
    except DiffernetError:
        # Shown where the folder is chosen.
        return None


@st.cache_data(ttl=10, max_entries=32, show_spinner="Reading the folder")
def _summary(folder: str) -> FolderSummary:
    return summary_of(folder)


main()
