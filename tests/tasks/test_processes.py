"""Real processes outlive who started them, end cleanly when asked, and lose nothing when killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from differnet.records import Verdict
from differnet.store import Asked
from differnet.store.queue import Progress, Queue
from differnet.tasks import SampleWish, ScanWish, WishError, again, ask, take_up
from differnet.tasks.kinds import wish_tree
from differnet.tasks.starting import machine, trainings_at_once
from tasks.conftest import SHIFT, Shop


def small_sample(shop: Shop, **changes: Any) -> SampleWish:
    fixed: dict[str, Any] = {"train": 2, "good_test": 1, "per_defect": 0, "per_wrong": 0}
    return SampleWish(str(shop.place), **(fixed | changes))


def begun(shop: Shop, task_id: str) -> None:
    """Wait until the first pictures are judged."""
    shop.until(lambda: bool(shop.store.runs()) and Queue(shop.store, "monday").progress().done > 0)
    assert shop.tasks.get(task_id).state == "running"


def test_a_task_outlives_who_asked_for_it(shop: Shop) -> None:
    program = (
        "import sys; from differnet.store import Store; from differnet.tasks import SampleWish, ask\n"
        "store = Store.open(sys.argv[1])\n"
        "wish = SampleWish(sys.argv[2], train=24, good_test=2, per_defect=0, per_wrong=0)\n"
        "print(ask(store, wish, 'ada').task_id)"
    )
    words = [sys.executable, "-c", program, str(shop.place / "record.db"), str(shop.place)]
    asked = subprocess.run(words, check=True, capture_output=True, text=True)
    task_id = asked.stdout.strip()
    shop.until(lambda: shop.tasks.get(task_id).state != "waiting")
    # In a session of its own: no terminal takes it along.
    if (entry := shop.tasks.get(task_id)).active:
        assert os.getsid(shop.process_of(task_id)) == shop.process_of(task_id)
        assert entry.owner.startswith(f"{machine()}:")
    ended = shop.ended(task_id)
    assert ended.state == "done", ended.reason
    assert (shop.place / "data" / "flange" / "sample.json").is_file()
    log = (shop.place / "logs" / f"{task_id}.log").read_text("utf-8")
    assert f"{task_id}: Make the sample product flange, asked for by ada" in log
    assert f"{task_id}: done" in log


def test_a_killed_inspection_is_gone_on_with_and_loses_nothing(shop: Shop) -> None:
    task_id = ask(shop.store, shop.inspection(), "ada").task_id
    begun(shop, task_id)
    shop.send(task_id, signal.SIGKILL)
    shop.fall_silent(task_id)
    lost = shop.tasks.get(task_id)
    assert lost.state == "lost"
    kept = shop.store.items(Asked(run_id="monday"))
    assert 0 < len(kept) < SHIFT
    second = again(shop.store, task_id, "bo")
    assert (second.author, second.wish) == ("bo", lost.wish)
    ended = shop.ended(second.task_id)
    assert ended.state == "done", ended.reason
    assert Queue(shop.store, "monday").progress() == Progress(done=SHIFT)
    records = shop.store.items(Asked(run_id="monday"))
    assert len(records) == len({r.path for r in records}) == SHIFT
    # What had been acknowledged stands as it was.
    by_id = {r.item_id: r for r in records}
    assert [by_id[r.item_id] for r in kept] == kept
    assert all(r.verdict is not Verdict.INVALID for r in records)


def test_an_inspection_that_somebody_stops_can_be_gone_on_with(shop: Shop) -> None:
    task_id = ask(shop.store, shop.inspection(), "ada").task_id
    begun(shop, task_id)
    shop.tasks.ask_to_stop(task_id, "bo")
    ended = shop.ended(task_id)
    assert ended.state == "stopped"
    progress = Queue(shop.store, "monday").progress()
    assert 0 < progress.left < SHIFT
    # Nothing is held back from whoever goes on.
    assert progress.leased == 0
    assert ended.reason == f"somebody stopped it; {progress.left} of {SHIFT} pictures are left"
    assert shop.store.run("monday").finished_at is None
    more = ask(shop.store, shop.inspection(pictures=(), model=""), "bo")
    assert shop.ended(more.task_id).state == "done"
    assert Queue(shop.store, "monday").progress() == Progress(done=SHIFT)


def test_a_training_ends_cleanly_and_the_next_is_taken_up(shop: Shop) -> None:
    endless = ask(shop.store, shop.training(steps=100_000), "ada")
    second = ask(shop.store, shop.training(name="second"), "bo")
    light = ask(shop.store, small_sample(shop), "bo")
    # What is light does not wait; of two trainings the second does.
    assert shop.ended(light.task_id).state == "done"
    assert shop.tasks.get(second.task_id).state == "waiting"
    shop.until(lambda: bool(shop.tasks.get(endless.task_id).progress.get("losses")))
    assert take_up(shop.store) == []
    assert shop.tasks.get(second.task_id).state == "waiting"
    points = shop.tasks.get(endless.task_id).progress["losses"][0]["points"]
    assert points[0][0] > 0
    shop.send(endless.task_id, signal.SIGTERM)
    ended = shop.ended(endless.task_id)
    assert (ended.state, ended.reason) == ("stopped", "its process was asked to end")
    # By the process that ended: nobody looks.
    assert shop.ended(second.task_id).state == "done"
    assert sorted(path.name for path in (shop.place / "models").iterdir()) == ["plate", "second"]
    begun_at = shop.tasks.get(second.task_id).started_at or ""
    assert begun_at >= (ended.finished_at or "~")


def test_two_tasks_run_at_once(shop: Shop) -> None:
    first = ask(shop.store, shop.inspection(), "ada")
    begun(shop, first.task_id)
    second = ask(shop.store, small_sample(shop), "bo")
    assert shop.ended(second.task_id).state == "done"
    assert shop.ended(first.task_id).state == "done"
    assert Queue(shop.store, "monday").progress() == Progress(done=SHIFT)


def test_a_failure_is_told_with_what_to_do(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    task_id = ask(shop.store, ScanWish(str(shop.place), str(tmp_path / "empty")), "ada").task_id
    ended = shop.ended(task_id)
    assert ended.state == "failed"
    assert ended.outcome["error"]["kind"] == "LayoutError"
    assert ended.outcome["error"]["remedy"]
    log = (shop.place / "logs" / f"{task_id}.log").read_text("utf-8")
    assert "Traceback" in log


def test_an_unknown_kind_is_refused_by_the_process(shop: Shop) -> None:
    made = shop.tasks.add("antigravity", "Fly", {"workspace": str(shop.place)}, "eve", machine())
    assert take_up(shop.store) == [made.task_id]
    ended = shop.ended(made.task_id)
    assert (ended.state, ended.outcome["error"]["kind"]) == ("failed", "TaskError")


def test_a_task_whose_workspace_is_gone_gets_no_process(shop: Shop, tmp_path: Path) -> None:
    tree = wish_tree(small_sample(shop)) | {"workspace": str(tmp_path / "gone")}
    made = shop.tasks.add("sample", "Sample", tree, "ada", machine())
    hostile = shop.tasks.add("sample", "Sample", {"workspace": 7}, "ada", machine())
    assert take_up(shop.store) == []
    for task_id in (made.task_id, hostile.task_id):
        refused = shop.tasks.get(task_id)
        assert refused.state == "failed"
        assert "the absolute path of a workspace" in refused.reason
    assert not (tmp_path / "gone").exists()


def test_nothing_secret_and_no_shell_stands_in_the_list_of_processes(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[list[str], dict[str, Any]]] = []

    class Listening:
        def __init__(self, words: list[str], **options: Any) -> None:
            started.append((words, options))

        def wait(self) -> int:
            return 0

    monkeypatch.setattr(subprocess, "Popen", Listening)
    made = ask(shop.store, small_sample(shop, name="rm"), "ada")
    assert take_up(shop.store) == []
    ((words, options),) = started
    assert words == [sys.executable, "-P", "-m", "differnet.tasks", made.task_id]
    assert "shell" not in options
    assert options["start_new_session"]
    assert options["env"]["DIFFERNET_DB"] == f"sqlite:///{shop.place / 'record.db'}"


def test_a_process_that_cannot_be_started_is_told(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: Any, **options: Any) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    failed = ask(shop.store, small_sample(shop), "ada")
    assert failed.state == "failed"
    assert "Cannot allocate memory" in failed.reason


@pytest.mark.parametrize("said", ["0", "-1", "many", "65", "1.5"])
def test_a_senseless_number_of_trainings_is_refused(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFERNET_TRAININGS", said)
    with pytest.raises(WishError, match="a number from 1 to 64"):
        trainings_at_once()
    monkeypatch.setenv("DIFFERNET_TRAININGS", "2")
    assert trainings_at_once() == 2


def test_a_task_that_is_not_there_ends_its_process_with_an_error(shop: Shop) -> None:
    words = [sys.executable, "-m", "differnet.tasks", "--db", str(shop.place / "record.db"), "train-1"]
    ended = subprocess.run(words, check=False, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "task train-1 in the record" in ended.stderr
    assert "Traceback" not in ended.stderr
