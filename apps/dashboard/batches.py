"""Batches and reports: every run with how far it is, what was put aside, and what can be taken away of it."""

from __future__ import annotations

import streamlit as st
from opened import record, workspace
from words import SHAPES
from work import ask_button, home, open_gallery, show_buttons, show_task, stop_task, watched, why_not

from differnet.records import DiffernetError, Verdict
from differnet.reporting.browsing import markdown_safe
from differnet.reporting.pdf import has_weasyprint
from differnet.reporting.tables import legible
from differnet.store.tasks import TaskEntry, Tasks
from differnet.tasks import InspectWish, ReportWish
from differnet.tasks.jobs import Job, job_of, jobs_table, last_works, list_jobs, quarantine_table
from differnet.tasks.making import written_reports
from differnet.tasks.telling import progress_words, state_words, took
from differnet.tasks.wishes import PAGES, TABLES

LISTED_RUNS = 20
LISTED_TASKS = 30
SHOWN_ASIDE = 500
FORMATS = {
    "html": "report, one page",
    "pdf": "report, for paper",
    "csv": "table for spreadsheets",
    "parquet": "table for notebooks",
    "json": "records, one a line",
}


def main() -> None:
    """Lay out the page."""
    st.title("Batches and reports")
    jobs = list_jobs(record(), LISTED_RUNS)
    active = Tasks(record()).active()
    others = [task for task in active if task.kind != "inspect"]
    if others:
        watched(others, show_task)
    if jobs:
        chosen = choose_job(jobs)
        show_job(chosen)
    else:
        st.write("Nothing was inspected yet.")
        st.page_link("start.py", label="Start", icon=":material/flag:")
    show_history()


def choose_job(jobs: list[Job]) -> Job:
    """List the runs, and let a person choose one."""
    picked = st.dataframe(
        jobs_table(jobs),
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row-required",
        key="batch_chosen",
        column_config={
            "run": st.column_config.TextColumn(width=140),
            "done": st.column_config.ProgressColumn(
                "done", format="percent", min_value=0, max_value=1, width="small"
            ),
            "pictures": st.column_config.NumberColumn(format="localized"),
            **{
                verdict.value: st.column_config.NumberColumn(
                    f"{SHAPES[verdict]} {verdict.value}", format="localized"
                )
                for verdict in Verdict
            },
        },
        alt=f"The latest {len(jobs):,} runs with their state and verdicts",
    )
    rows = picked["selection"]["rows"]
    return jobs[rows[0]] if rows and rows[0] < len(jobs) else jobs[0]


def show_job(job: Job) -> None:
    """Show one run: how far it is, what to do about it, what was put aside, and its reports."""
    run_id = job.run.run_id
    st.subheader(markdown_safe(run_id), anchor=False)
    going_on = job.task is not None and job.task.active
    if going_on and job.task is not None:
        watched([job.task], show_progress)
    else:
        show_state(job)
    with st.container(horizontal=True, vertical_alignment="center"):
        open_gallery(run_id, "batch-gallery")
        if job.can_go_on:
            ask_button(f"Resume, {job.left:,} left", lambda: _resume(run_id), "batch-resume", primary=True)
        if job.can_retry:
            aside = job.progress.quarantined if job.progress is not None else 0
            ask_button(f"Try {aside:,} again", lambda: _resume(run_id, retry=True), "batch-retry")
    if job.state == "at work elsewhere":
        st.caption(
            "A process that no page started holds pictures of it; what a dead one held is free in half a "
            "minute."
        )
    show_aside(job)
    show_reports(run_id)


def show_progress(task: TaskEntry) -> None:
    """Show a run that is being worked on: polled, and therefore small."""
    run_id = str(task.wish.get("run", ""))
    works = last_works(record())
    try:
        job = job_of(record(), record().run(run_id), works.get(run_id))
    except DiffernetError:
        # Asked for, and not begun yet.
        show_task(task)
        return
    st.progress(job.share_done, text=markdown_safe(progress_words(task)))
    st.text(verdicts_of(job))
    st.caption(
        markdown_safe(f"{state_words(task)}, asked for by {legible(task.author)}, {took(task)} so far")
    )
    with st.container(horizontal=True, vertical_alignment="center"):
        pause = why_not()
        st.button(
            "Pause",
            key=f"pause-{task.task_id}",
            icon=":material/pause:",
            on_click=stop_task,
            args=(task.task_id,),
            disabled=pause is not None or task.stop_asked,
            help=pause or "It ends its present step, keeps it, and can be resumed.",
        )


def show_state(job: Job) -> None:
    """Show a run that nobody works on."""
    st.progress(job.share_done, text=f"{job.state}: {job.pictures - job.left:,} of {job.pictures:,} pictures")
    st.text(verdicts_of(job))
    st.caption(markdown_safe(f"{job.run.source}, as {job.run.product}, began {job.run.started_at[:16]} UTC"))
    if job.task is not None and job.task.state in ("failed", "lost"):
        show_task(job.task)


def verdicts_of(job: Job) -> str:
    """Count the verdicts of a run in one line."""
    return "   ".join(f"{SHAPES[v]} {v.value} {job.counts.get(v, 0):,}" for v in Verdict)


def show_aside(job: Job) -> None:
    """Show what a run has put aside, and why."""
    aside = job.progress.quarantined if job.progress is not None else 0
    if not aside:
        return
    with st.expander(f"{aside:,} put aside", icon=":material/report:"):
        st.dataframe(
            quarantine_table(record(), job.run.run_id, SHOWN_ASIDE),
            hide_index=True,
            row_height=62,
            column_config={"picture": st.column_config.TextColumn(width=260)},
            alt="Pictures that were put aside, and why",
        )
        if aside > SHOWN_ASIDE:
            st.caption(f"The first {SHOWN_ASIDE:,} of {aside:,}; the tables hold all.")


def show_reports(run_id: str) -> None:
    """Write reports and tables of a run, and hand them out."""
    with st.container(border=True):
        st.markdown("**Reports and tables**")
        wanted = st.pills(
            "Formats",
            [name for name in (*PAGES, *TABLES) if name != "pdf" or has_weasyprint()],
            selection_mode="multi",
            default=["html", "csv"],
            format_func=lambda name: f"{name}: {FORMATS[name]}",
            key="batch_formats",
            label_visibility="collapsed",
        )
        with st.container(horizontal=True, vertical_alignment="center"):
            ask_button(
                "Write them",
                lambda: ReportWish(str(workspace()), run_id, tuple(wanted)),
                "batch-write",
                disabled=not wanted,
            )
            for file in written_reports(record(), home(), run_id):
                st.download_button(
                    f"Download {file.name}" + ("" if file.current else ", older than the run"),
                    file.path.read_bytes,
                    file_name=file.file_name,
                    key=f"batch-{file.name}",
                    icon=":material/download:",
                    on_click="ignore",
                )
        last = next(iter(Tasks(record()).latest(1, kinds=("report",))), None)
        if last is not None and last.state in ("failed", "lost") and last.wish.get("run") == run_id:
            show_task(last)


def show_history() -> None:
    """List the long work that was asked for last."""
    tasks = Tasks(record()).latest(LISTED_TASKS)
    if not tasks:
        return
    with st.expander(f"The last {len(tasks):,} things that were asked for", icon=":material/history:"):
        for task in tasks:
            left, right = st.columns([5, 1], vertical_alignment="center")
            asked = task.made_at[:16].replace("T", " ")
            left.text(legible(f"{asked}  {task.title}: {state_words(task)}, {task.author}"))
            with right:
                show_buttons(task, "history")


def _resume(run_id: str, *, retry: bool = False) -> InspectWish:
    return InspectWish(str(workspace()), run_id, retry=retry)


main()
