"""A workspace with a record, pictures of a wavy plate, and a small model of it."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from trust.batch_checks import make_model, make_parts

from differnet.detection import Detector
from differnet.reporting import RunFacts, run_facts
from differnet.reporting.keeping import make_known
from differnet.store import Store, schema
from differnet.store.tasks import SILENCE, TaskEntry, Tasks
from differnet.tasks import InspectWish, TrainWish

PATIENCE = 240.0
# Pictures of a shift: several times what is judged before a task hears that somebody wants it to stop.
SHIFT = 960


@dataclass
class Shop:
    """Where tasks are done.

    Attributes:
        place: The workspace.
        good: Folder of good parts.
        pictures: Folder of pictures to inspect, nothing but pictures.
    """

    place: Path
    store: Store
    good: Path
    pictures: Path
    model_id: str

    @property
    def tasks(self) -> Tasks:
        return Tasks(self.store)

    def training(self, **changes: Any) -> TrainWish:
        """A training of a second or two."""
        fixed: dict[str, Any] = {
            "workspace": str(self.place),
            "data": str(self.good),
            "name": "fresh",
            "image_size": 64,
            "folds": 2,
            "steps": 10,
            "device": "cpu",
        }
        return TrainWish(**(fixed | changes))

    def inspection(self, **changes: Any) -> InspectWish:
        fixed: dict[str, Any] = {
            "workspace": str(self.place),
            "run": "monday",
            "model": self.model_id,
            "pictures": (str(self.pictures),),
            "decoders": 1,
        }
        return InspectWish(**(fixed | changes))

    def ended(self, task_id: str) -> TaskEntry:
        """Wait until a task has ended."""
        self.until(lambda: not self.tasks.get(task_id).active)
        return self.tasks.get(task_id)

    def until(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < deadline, [vars(task) for task in self.tasks.latest(5)]
            time.sleep(0.05)

    def process_of(self, task_id: str) -> int:
        """The number of the process that does a task."""
        return int(self.tasks.get(task_id).owner.partition(":")[2].partition("-")[0])

    def send(self, task_id: str, kind: signal.Signals) -> None:
        os.kill(self.process_of(task_id), kind)

    def fall_silent(self, task_id: str) -> None:
        """Let the time pass after which a task without a process is lost."""
        past = (datetime.now(UTC) - SILENCE - timedelta(seconds=1)).isoformat(timespec="milliseconds")
        with self.store.engine.begin() as connection:
            row = schema.tasks.update().where(schema.tasks.c.task_id == task_id)
            connection.execute(row.values(seen_at=past))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    # As many as need no variations beside them.
    make_parts(folder / "plate" / "train" / "good", 34, 1)
    make_parts(folder / "shift", SHIFT, 2)
    make_model(folder / "plate" / "train" / "good", folder / "model", 0)
    return folder


@pytest.fixture(scope="session")
def facts(trained: Path) -> RunFacts:
    """What is said of the model."""
    loaded = Detector.load(trained / "model", device="cpu")
    return replace(run_facts(loaded.facts(), "parts"), run_id="training")


@pytest.fixture
def shop(trained: Path, facts: RunFacts, tmp_path: Path) -> Iterator[Shop]:
    place = tmp_path / "workspace"
    (place / "models").mkdir(parents=True)
    folder = place / "models" / "plate"
    shutil.copytree(trained / "model", folder)
    store = Store.open(place / "record.db")
    make_known(store, facts, folder)
    store.place_model(facts.model_id, folder)
    opened = Shop(place, store, trained / "plate", trained / "shift", facts.model_id)
    yield opened
    for task in opened.tasks.active():
        if ":" in task.owner:
            # Left by a test that failed: of this test's own record, by its number.
            opened.send(task.task_id, signal.SIGKILL)
    store.close()
