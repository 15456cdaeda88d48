"""Tasks: who works on one, what becomes of it when nobody does any more, and whose turn it is."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from differnet.store import Store, StoreError, schema
from differnet.store.tasks import SILENCE, TaskEntry, Tasks, may_begin

MACHINE = "line3"
HEAVY = {"train": (("train", "retrain"), 1), "retrain": (("train", "retrain"), 1)}


@pytest.fixture
def tasks(store: Store) -> Tasks:
    return Tasks(store)


def asked(tasks: Tasks, kind: str = "train", machine: str = MACHINE) -> str:
    return tasks.add(kind, f"{kind} flange", {"data": "/parts"}, "ada", machine).task_id


def owner(number: int = 1) -> str:
    return f"{MACHINE}:{number}"


def taken(tasks: Tasks, task_id: str, number: int = 1) -> TaskEntry | None:
    return tasks.take(task_id, owner(number), ("train", "retrain"), 1)


def set_back(store: Store, task_id: str, **columns: Any) -> None:
    """Change what the record says of a task, as time would."""
    with store.engine.begin() as connection:
        row = schema.tasks.update().where(schema.tasks.c.task_id == task_id)
        connection.execute(row.values(columns))


def long_ago(since: timedelta = SILENCE) -> str:
    return (datetime.now(UTC) - since - timedelta(seconds=1)).isoformat(timespec="milliseconds")


def test_a_task_is_asked_for_taken_told_of_and_done(tasks: Tasks) -> None:
    wish = {"data": "/parts/\udcff", "size": 256, "keep": True, "mask": None}
    made = tasks.add("train", "Train \udcff\0flange", wish, " ada ", MACHINE)
    assert (made.state, made.author, made.machine, made.owner) == ("waiting", "ada", MACHINE, MACHINE)
    assert made.wish == wish
    assert made.title == "Train \\udcff\\0flange"
    assert made.task_id.startswith("train-2")
    running = tasks.take(made.task_id, owner())
    assert running is not None
    assert (running.state, running.owner, running.machine) == ("running", owner(), MACHINE)
    assert running.started_at is not None
    assert not tasks.tell(made.task_id, owner(), {"stage": "features", "done": 3, "total": 9})
    assert not tasks.tell(made.task_id, owner())
    assert tasks.get(made.task_id).progress == {"stage": "features", "done": 3, "total": 9}
    assert tasks.finish(made.task_id, owner(), {"model": "/models/flange"})
    done = tasks.get(made.task_id)
    assert (done.state, done.active, done.outcome) == ("done", False, {"model": "/models/flange"})
    assert done.finished_at is not None
    # The last word on how far it was stays.
    assert done.progress["done"] == 3


def test_a_task_is_taken_once(tasks: Tasks) -> None:
    task_id = asked(tasks)
    barrier = threading.Barrier(4)
    found: list[TaskEntry | None] = []

    def take(number: int) -> None:
        barrier.wait()
        found.append(Tasks(tasks.store).take(task_id, owner(number)))

    threads = [threading.Thread(target=take, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [entry for entry in found if entry is not None]
    assert len(found) == 4
    assert len(winners) == 1
    assert tasks.get(task_id).owner == winners[0].owner


def test_only_its_owner_tells_and_ends_a_task(tasks: Tasks) -> None:
    task_id = asked(tasks)
    taken(tasks, task_id)
    assert tasks.tell(task_id, owner(2), {"stage": "forged"})
    assert not tasks.finish(task_id, owner(2), {})
    assert not tasks.fail(task_id, owner(2), "forged")
    assert tasks.get(task_id).progress == {}
    assert tasks.fail(task_id, owner(), "the folder \udcff is gone", {"error": {"kind": "LayoutError"}})
    failed = tasks.get(task_id)
    assert (failed.state, failed.reason) == ("failed", "the folder \\udcff is gone")
    assert failed.outcome == {"error": {"kind": "LayoutError"}}
    # What has ended stays as it ended.
    assert tasks.tell(task_id, owner())
    assert not tasks.finish(task_id, owner(), {})
    assert tasks.get(task_id).state == "failed"


def test_a_task_whose_process_is_silent_is_lost_and_no_longer_counts(tasks: Tasks) -> None:
    task_id, next_one = asked(tasks), asked(tasks)
    taken(tasks, task_id)
    assert taken(tasks, next_one, 2) is None
    set_back(tasks.store, task_id, seen_at=long_ago())
    assert tasks.get(task_id).state == "lost"
    assert not tasks.get(task_id).active
    assert [task.task_id for task in tasks.active()] == [next_one]
    # Its place is free.
    assert taken(tasks, next_one, 2) is not None
    # A machine that was asleep goes on.
    assert not tasks.tell(task_id, owner())
    assert tasks.get(task_id).state == "running"


def test_a_lost_task_that_somebody_stops_has_failed(tasks: Tasks) -> None:
    task_id = asked(tasks)
    taken(tasks, task_id)
    set_back(tasks.store, task_id, seen_at=long_ago())
    ended = tasks.ask_to_stop(task_id, "bo")
    assert (ended.state, ended.reason) == ("failed", "its process ended without a word")
    # Who comes back hears that it is over.
    assert tasks.tell(task_id, owner())


def test_a_running_task_hears_that_it_shall_stop(tasks: Tasks) -> None:
    task_id = asked(tasks)
    taken(tasks, task_id)
    assert tasks.ask_to_stop(task_id, "bo").state == "running"
    assert tasks.get(task_id).stop_asked
    assert tasks.tell(task_id, owner(), {"stage": "densities"})
    assert tasks.stop(task_id, owner(), "stopped by bo", {"left": 4})
    ended = tasks.get(task_id)
    assert (ended.state, ended.reason, ended.outcome) == ("stopped", "stopped by bo", {"left": 4})
    said = tasks.store.audit()[0]
    assert (said["actor"], said["action"], said["subject"]) == ("bo", "stopped", task_id)


def test_a_waiting_task_is_stopped_at_once_and_never_taken(tasks: Tasks) -> None:
    task_id = asked(tasks)
    ended = tasks.ask_to_stop(task_id, "bo")
    assert (ended.state, ended.reason) == ("stopped", "bo stopped it before it began")
    assert taken(tasks, task_id) is None
    assert not tasks.begin(task_id)
    assert tasks.ask_to_stop(task_id, "bo").state == "stopped"


def test_heavy_tasks_wait_for_each_other_in_order(tasks: Tasks) -> None:
    first, second, third = asked(tasks), asked(tasks, "retrain"), asked(tasks)
    light = asked(tasks, "report")
    assert taken(tasks, second) is None
    assert [task.task_id for task in may_begin(tasks.active(), MACHINE, HEAVY)] == [first, light]
    assert taken(tasks, first, 1) is not None
    assert taken(tasks, second, 2) is None
    assert tasks.take(light, owner(9)) is not None
    assert may_begin(tasks.active(), MACHINE, HEAVY) == []
    tasks.finish(first, owner(1), {})
    assert taken(tasks, third, 3) is None
    assert [task.task_id for task in may_begin(tasks.active(), MACHINE, HEAVY)] == [second]
    assert taken(tasks, second, 2) is not None
    tasks.ask_to_stop(third, "bo")
    assert may_begin(tasks.active(), MACHINE, HEAVY) == []


def test_two_may_run_where_that_many_are_allowed(tasks: Tasks) -> None:
    first, second, third = (asked(tasks) for _ in range(3))
    assert tasks.take(second, owner(2), ("train",), 2) is not None
    # One runs and none waits in front of it.
    assert tasks.take(third, owner(3), ("train",), 2) is None
    assert tasks.take(first, owner(1), ("train",), 2) is not None


def test_another_machine_has_turns_of_its_own(tasks: Tasks) -> None:
    here, there = asked(tasks), asked(tasks, machine="line4")
    assert taken(tasks, here) is not None
    # Its paths are of the other machine.
    assert taken(tasks, there) is None
    assert [task.task_id for task in may_begin(tasks.active(), "line4", HEAVY)] == [there]
    assert tasks.take(there, "line4:1", ("train",), 1) is not None


def test_the_right_to_start_a_process_is_given_once_in_a_while(tasks: Tasks) -> None:
    task_id = asked(tasks)
    assert tasks.begin(task_id)
    assert not tasks.begin(task_id)
    set_back(tasks.store, task_id, seen_at=long_ago(timedelta(seconds=30)))
    assert tasks.begin(task_id)
    assert taken(tasks, task_id) is not None
    assert not tasks.begin(task_id)


def test_processes_that_never_begin_are_not_started_for_ever(tasks: Tasks) -> None:
    task_id = asked(tasks)
    for _ in range(3):
        assert tasks.begin(task_id)
        set_back(tasks.store, task_id, seen_at=long_ago())
    assert not tasks.begin(task_id)
    failed = tasks.get(task_id)
    assert failed.state == "failed"
    assert failed.reason == "3 processes were started for it, and none of them began to work"


def test_one_that_only_waited_for_its_turn_may_be_started_again_at_once(tasks: Tasks) -> None:
    first, second = asked(tasks), asked(tasks)
    taken(tasks, first)
    for _ in range(5):
        assert tasks.begin(second)
        assert taken(tasks, second, 2) is None
    assert tasks.get(second).state == "waiting"


def test_the_latest_come_first(tasks: Tasks) -> None:
    made = [asked(tasks, kind) for kind in ("sample", "train", "report", "train")]
    times = ["2026-11-23T06:00:00.000+00:00", "2026-11-23T07:00:00.000+00:00"]
    for task_id, time in zip(made, [times[1], times[0], times[1], times[1]], strict=True):
        set_back(tasks.store, task_id, made_at=time)
    assert tasks.latest()[-1].task_id == made[1]
    assert [task.kind for task in tasks.latest(kinds=("train",))] == ["train", "train"]
    assert len(tasks.latest(2)) == 2
    assert tasks.active()[0].task_id == made[1]


@pytest.mark.parametrize(
    ("kind", "author", "machine"),
    [
        ("train", " ", MACHINE),
        ("", "ada", MACHINE),
        ("../train", "ada", MACHINE),
        ("Train", "ada", MACHINE),
        ("train", "ada", ""),
        ("train", "ada", "line3:1"),
    ],
)
def test_a_task_of_nobody_or_of_no_kind_is_refused(
    tasks: Tasks, kind: str, author: str, machine: str
) -> None:
    with pytest.raises(StoreError, match="expected"):
        tasks.add(kind, "title", {}, author, machine)
    with tasks.store.engine.connect() as connection:
        assert connection.execute(select(schema.tasks)).first() is None


def test_a_task_that_is_not_there_is_a_typed_error(tasks: Tasks) -> None:
    for call in (
        tasks.get,
        lambda name: tasks.take(name, owner()),
        lambda name: tasks.ask_to_stop(name, "b"),
    ):
        with pytest.raises(StoreError, match="in the record"):
            call("train-1")
    assert not tasks.begin("train-1")
    assert tasks.tell("train-1", owner())
    with pytest.raises(StoreError, match="who stops it"):
        tasks.ask_to_stop("train-1", "")
