"""How far a task is: what is left of it, the loss of its trainings, and that it hears of an end."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from differnet.detection.densities import TrainingLoss
from differnet.store import Store, StoreBusyError
from differnet.store.tasks import Tasks
from differnet.tasks.course import Course, StoppedError
from tasks.conftest import Shop

OWNER = "here:1"


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def task_id(shop: Shop) -> str:
    made = shop.tasks.add("train", "Train", {}, "ada", "here").task_id
    assert shop.tasks.take(made, OWNER) is not None
    return made


def told(course: Course, *names: str) -> list[Any]:
    progress = course.progress()
    return [progress[name] for name in names]


def test_what_is_left_follows_the_recent_pace(shop: Shop, task_id: str) -> None:
    clock = Clock()
    course = Course(shop.tasks, task_id, OWNER, clock=clock)
    course("features", 0, 100)
    assert told(course, "stage", "done", "total", "left") == ["features", 0, 100, None]
    for done in range(1, 11):
        clock.now += 2
        course("features", done, 100)
    # Ten in twenty seconds: ninety take three minutes.
    assert told(course, "seconds", "left") == [20.0, 180.0]
    clock.now += 1
    assert told(course, "left") == [179.0]
    # Four times as fast from here: after half a minute nothing else counts.
    for done in range(10, 91):
        clock.now += 0.5
        course("features", done, 100)
    assert told(course, "left") == [pytest.approx(5.0, abs=0.6)]
    course("densities", 0, 10)
    assert told(course, "stage", "left", "passed") == [
        "densities",
        None,
        [{"stage": "features", "seconds": 61.5}],
    ]


def test_a_stage_that_stands_still_tells_no_time(shop: Shop, task_id: str) -> None:
    clock = Clock()
    course = Course(shop.tasks, task_id, OWNER, clock=clock)
    for _ in range(20):
        course("inspecting", 5, 10)
        clock.now += 2
    assert told(course, "left") == [None]
    course("inspecting", 0, 0)
    assert told(course, "total", "left") == [0, None]


def test_losses_make_a_curve_for_each_training(shop: Shop, task_id: str) -> None:
    course = Course(shop.tasks, task_id, OWNER)
    for member in ("without fold 1 of 2", "all parts"):
        for step in (20, 40):
            course.loss(TrainingLoss("fine patches", member, False, step, 40, 80.123456 - step, None))
    course.loss(TrainingLoss("whole part", "all parts", True, 5, 10, 3.0, 3.25))
    curves = course.progress()["losses"]
    assert [(c["member"], c["density"], c["trial"], c["steps"]) for c in curves] == [
        ("without fold 1 of 2", "fine patches", False, 40),
        ("all parts", "fine patches", False, 40),
        ("all parts", "whole part", True, 10),
    ]
    assert curves[0]["points"] == [[20, 60.1235, None], [40, 40.1235, None]]
    assert curves[2]["points"] == [[5, 3.0, 3.25]]


def test_the_record_hears_within_a_second_or_two_and_at_the_end(shop: Shop, task_id: str) -> None:
    with Course(shop.tasks, task_id, OWNER) as course:
        course("features", 3, 9)
        shop.until(lambda: shop.tasks.get(task_id).progress.get("done") == 3)
        course.note(run="monday")
        course("features", 9, 9)
    progress = shop.tasks.get(task_id).progress
    assert (progress["done"], progress["run"]) == (9, "monday")


def test_work_ends_at_its_next_step_when_somebody_asks(shop: Shop, task_id: str) -> None:
    with Course(shop.tasks, task_id, OWNER) as course:
        course("features", 1, 9)
        shop.tasks.ask_to_stop(task_id, "bo")
        shop.until(course.stopping)
        with pytest.raises(StoppedError, match="somebody stopped it"):
            course("features", 2, 9)
        # Of what only tells nothing is ended.
        course.tell("features", 3, 9)
        with pytest.raises(StoppedError):
            course.loss(TrainingLoss("whole part", "all parts", False, 1, 2, 3.0))


def test_work_ends_when_its_process_is_asked_to(shop: Shop, task_id: str) -> None:
    ended = threading.Event()
    course = Course(shop.tasks, task_id, OWNER, ended)
    course("features", 1, 9)
    ended.set()
    with pytest.raises(StoppedError, match="its process was asked to end"):
        course("features", 2, 9)


def test_a_task_that_is_no_longer_its_own_ends(shop: Shop, task_id: str) -> None:
    shop.tasks.fail(task_id, OWNER, "given up")
    with Course(shop.tasks, task_id, OWNER) as course:
        shop.until(course.stopping)


def test_a_record_that_is_away_holds_up_no_work(
    shop: Shop, task_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*given: Any) -> bool:
        raise StoreBusyError(expected="an answer", found="none", remedy="Wait.")

    with Course(shop.tasks, task_id, OWNER) as course:
        with monkeypatch.context() as patch:
            patch.setattr(Tasks, "tell", away)
            course("features", 4, 9)
            time.sleep(1.5)
            course("features", 5, 9)
        # What could not be told is told when it is back, without a further step.
        shop.until(lambda: shop.tasks.get(task_id).progress.get("done") == 5)
    assert not course.stopping()


def test_a_process_that_says_nothing_new_is_heard_all_the_same(shop: Shop, task_id: str) -> None:
    with Course(shop.tasks, task_id, OWNER) as course:
        course("features", 1, 9)
        time.sleep(1.5)
        first = shop.tasks.get(task_id).seen_at
        shop.until(lambda: shop.tasks.get(task_id).seen_at != first)
    assert shop.tasks.get(task_id).state == "running"


def test_a_store_that_reads_alone_ends_no_work(shop: Shop, task_id: str) -> None:
    readable = Store.open(shop.place / "record.db", read_only=True)
    with Course(Tasks(readable), task_id, OWNER) as course:
        course("features", 1, 9)
    readable.close()
    assert shop.tasks.get(task_id).progress == {}
