"""Long work as every page shows it: how far it is, stop, start again, what went wrong, its log."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st
from opened import person, record, show_error, workspace, writable
from training_charts import show_losses

from differnet.records import DiffernetError
from differnet.reporting.browsing import markdown_safe
from differnet.reporting.tables import legible
from differnet.store.tasks import TaskEntry, Tasks
from differnet.tasks import Workspace, again, ask, take_up
from differnet.tasks.telling import error_of, last_lines, progress_words, share_done, state_words, took
from differnet.tasks.wishes import Wish

# Seconds between two looks at work that is going on.
EVERY = 1.5

ICONS = {
    "waiting": ":material/hourglass_empty:",
    "running": ":material/progress_activity:",
    "done": ":material/check_circle:",
    "failed": ":material/error:",
    "stopped": ":material/stop_circle:",
    "lost": ":material/heart_broken:",
}


def home() -> Workspace:
    """Return the workspace, or show why there is none and end the page."""
    try:
        return Workspace.open(str(workspace()))
    except DiffernetError as error:
        show_error(error)
        st.stop()


def why_not() -> str | None:
    """Say why nothing can be asked for here; ``None`` where it can."""
    if not writable():
        return "The record is opened to be read only."
    if not person():
        return "Say in the sidebar who you are: it is kept with what you ask for."
    return None


def ask_button(
    label: str, wish: Callable[[], Wish], key: str, *, primary: bool = False, disabled: bool = False
) -> None:
    """Show a button that asks for long work; what stands in the way is shown below it."""
    hindered = why_not()
    clicked = st.button(
        label,
        key=key,
        type="primary" if primary else "secondary",
        disabled=disabled or hindered is not None,
        help=hindered,
    )
    if not clicked:
        return
    try:
        ask(record(), wish(), person())
    except DiffernetError as error:
        show_error(error)
        return
    st.rerun()


def watched(tasks: Sequence[TaskEntry], draw: Callable[[TaskEntry], None]) -> None:
    """Draw tasks, and again every second or two while one of them goes on; then the whole page once."""
    names = [task.task_id for task in tasks]
    going_on = any(task.active for task in tasks)

    def drawn() -> None:
        try:
            if going_on and writable():
                # Whoever looks starts what waits for its turn: the process before it may have been killed.
                take_up(record())
            now = [Tasks(record()).get(name) for name in names]
        except DiffernetError as error:
            # The record may be busy; the next look is a moment away.
            show_error(error)
            return
        for task in now:
            draw(task)
        if going_on and not any(task.active for task in now):
            st.rerun()

    st.fragment(drawn, run_every=EVERY if going_on else None)()


def show_task(task: TaskEntry, *, losses: bool = False, buttons: bool = True) -> None:
    """Show one task: what, how far, by whom, and what to do about it."""
    with st.container(border=True):
        st.markdown(f"{ICONS[task.state]} **{markdown_safe(task.title)}**")
        if task.state == "running":
            st.progress(share_done(task) or 0.0, text=markdown_safe(progress_words(task)))
        told = [
            state_words(task),
            f"asked for by {legible(task.author)}",
            f"{task.made_at[:16].replace('T', ' ')} UTC",
        ]
        if time := took(task):
            told.append(f"{time} so far" if task.state == "running" else f"took {time}")
        st.caption(markdown_safe(", ".join(told)))
        if (error := error_of(task)) is not None:
            show_error(error)
        elif task.reason:
            st.text(legible(task.reason))
        if losses and task.progress.get("losses"):
            show_losses(task)
        if buttons:
            with st.container(horizontal=True, vertical_alignment="center"):
                show_buttons(task)
        if losses or task.state in ("failed", "lost", "stopped"):
            show_log(task)


def show_buttons(task: TaskEntry, where: str = "task") -> None:
    """Offer to stop a task that goes on, and to start one again that was not done.

    Args:
        task: Which.
        where: Word for the place on the page: a task may be shown in several.
    """
    hindered = why_not()
    if task.active:
        st.button(
            "Stop",
            key=f"{where}-stop-{task.task_id}",
            icon=":material/stop:",
            on_click=stop_task,
            args=(task.task_id,),
            disabled=hindered is not None or task.stop_asked,
            help=hindered,
        )
    elif task.state in ("failed", "stopped", "lost"):
        st.button(
            "Start again",
            key=f"{where}-again-{task.task_id}",
            icon=":material/replay:",
            on_click=start_again,
            args=(task.task_id,),
            disabled=hindered is not None,
            help=hindered,
        )
    if (error := st.session_state.pop(f"error-{task.task_id}", None)) is not None:
        show_error(error)


def show_log(task: TaskEntry) -> None:
    """Show the end of what a task's process has written, where it lies on this machine."""
    if written := last_lines(home().log_of(task.task_id)):
        with st.expander("Log"):
            st.code(legible_lines(written), language=None, wrap_lines=True)


def legible_lines(text: str) -> str:
    """Make every line of a text safe to show."""
    return "\n".join(legible(line) for line in text.splitlines())


def stop_task(task_id: str) -> None:
    """Ask a task to end."""
    _try(task_id, lambda: Tasks(record()).ask_to_stop(task_id, person()))


def start_again(task_id: str) -> None:
    """Ask for the same once more."""
    _try(task_id, lambda: again(record(), task_id, person()))


def _try(task_id: str, step: Callable[[], object]) -> None:
    # A callback cannot show anything: the next drawing of the task does.
    try:
        step()
    except DiffernetError as error:
        st.session_state[f"error-{task_id}"] = error


def open_gallery(run_id: str, key: str) -> None:
    """Show a button that opens a run in the gallery."""
    clicked = st.button(
        "Open in the gallery", key=key, icon=":material/grid_view:", on_click=put_run, args=(run_id,)
    )
    if clicked:
        st.switch_page("gallery.py")


def put_run(run_id: str) -> None:
    """Choose a run for all pages."""
    st.session_state["run"] = run_id
