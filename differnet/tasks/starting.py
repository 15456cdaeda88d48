"""Ask for tasks, and start a process for each whose turn it is."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading

from differnet.records import DiffernetError
from differnet.reporting.serving import PLACE_VARIABLE
from differnet.store import Store
from differnet.store.tasks import TaskEntry, Tasks, may_begin
from differnet.tasks.kinds import name_of, read_wish, share, wish_tree
from differnet.tasks.places import WishError, Workspace
from differnet.tasks.wishes import Wish

TRAININGS_VARIABLE = "DIFFERNET_TRAININGS"
"""How many trainings may run at a time on this machine; 1 where it is not set."""


def machine() -> str:
    """Name this machine as tasks do."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname()) or "here"


def trainings_at_once() -> int:
    """Return how many trainings may run at a time on this machine.

    Raises:
        WishError: What the environment says is no such number.
    """
    said = os.environ.get(TRAININGS_VARIABLE) or "1"
    if not (said.isascii() and said.isdigit() and 1 <= int(said) <= 64):
        raise WishError(
            expected=f"a number from 1 to 64 in {TRAININGS_VARIABLE}",
            found=repr(said[:100]),
            remedy="Set it to how many trainings this machine bears at a time.",
        )
    return int(said)


def ask(store: Store, wish: Wish, author: str) -> TaskEntry:
    """Ask for a task, and start its process where it is its turn; otherwise it waits.

    Args:
        store: The record.
        wish: What is to be done.
        author: Who asks.

    Raises:
        StoreError: Nobody asks, or the record cannot be written.
        WishError: No process can be started.
    """
    entry = Tasks(store).add(name_of(wish), wish.title, wish_tree(wish), author, machine())
    take_up(store)
    return Tasks(store).get(entry.task_id)


def again(store: Store, task_id: str, author: str) -> TaskEntry:
    """Ask once more for what a task was asked for.

    Raises:
        StoreError: There is no such task, or nobody asks.
        WishError: It can no longer be fulfilled.
    """
    former = Tasks(store).get(task_id)
    return ask(store, read_wish(former.kind, former.wish), author)


def take_up(store: Store) -> list[str]:
    """Start a process for each waiting task whose turn it is on this machine.

    Called by who asks, by who looks, and by each process that ends; no task gets two processes.

    Returns:
        The tasks for which one was started.
    """
    tasks = Tasks(store)
    started = []
    for entry in may_begin(tasks.active(), machine(), share(trainings_at_once())):
        try:
            if start(store, entry):
                started.append(entry.task_id)
        except DiffernetError as error:
            tasks.refuse(entry.task_id, str(error))
    return started


def start(store: Store, entry: TaskEntry) -> bool:
    """Start a process for a waiting task; it goes on when this one ends.

    It has a session of its own, runs below other programs, and writes to the log of its task.

    Args:
        store: The record.
        entry: The task.

    Returns:
        Whether it was started; not where somebody else has just done so.

    Raises:
        WishError: The workspace is gone, or the system refuses.
        StoreError: The record cannot be written.
    """
    workspace = Workspace.open(str(entry.wish.get("workspace", "")))
    log = workspace.log_of(entry.task_id)
    if not Tasks(store).begin(entry.task_id):
        return False
    # The place of the record stands in no list of processes: it may hold a password.
    told = {PLACE_VARIABLE: store.engine.url.render_as_string(hide_password=False)}
    try:
        log.parent.mkdir(exist_ok=True)
        with log.open("ab") as written:
            process = subprocess.Popen(
                # -P: a file that lies where the dashboard was started is no module of this program.
                [sys.executable, "-P", "-m", "differnet.tasks", entry.task_id],
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=written,
                env=os.environ | told,
                start_new_session=True,
            )
    except OSError as error:
        raise WishError(
            expected="a process for the task, and a log of it",
            found=f"{type(error).__name__}: {error.strerror or error}",
            remedy="Look at free memory, free space, and the permissions of the workspace.",
        ) from error
    # Somebody has to hear of its end, or it stays in the system's list of processes.
    threading.Thread(target=process.wait, name="waiting", daemon=True).start()
    return True
