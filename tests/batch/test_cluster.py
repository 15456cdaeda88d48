"""A Ray cluster does the same work, and an actor that is killed costs nothing."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from types import ModuleType

import pytest
from trust.batch_checks import compared

from batch.conftest import Line
from differnet.batch import cluster, work
from differnet.images.reading import ReadingRule
from differnet.records import DiffernetError, Record
from differnet.store import Asked, Store, schema
from differnet.store.queue import Progress, Queue


@pytest.fixture(scope="module")
def ray() -> Iterator[ModuleType]:
    """A cluster of this machine alone, for all tests here."""
    module = pytest.importorskip("ray", reason="pip install 'differnet[ray]'")
    with warnings.catch_warnings():
        # Of the library's own making.
        warnings.simplefilter("ignore")
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        module.init(num_cpus=2, include_dashboard=False, configure_logging=False, log_to_driver=False)
        yield module
        module.shutdown()


def kept(line: Line, name: str = "monday") -> list[Record]:
    return line.store.items(Asked(run_id=name))


def owners(line: Line) -> set[int]:
    with line.store.engine.connect() as connection:
        found = connection.execute(schema.queue.select().where(schema.queue.c.state == "leased")).mappings()
        return {int(row["owner"].split(":")[1]) for row in found}


@pytest.mark.usefixtures("ray")
def test_two_actors_of_which_one_is_killed_keep_everything_once(line: Line) -> None:
    line.begin(name="calm")
    work(Queue(line.store, "calm"), line.detector, ReadingRule(), line.place / "calm")
    queue = line.begin()
    killed: list[int] = []

    def kill_one() -> None:
        own = Line(line.model, line.pictures, line.place, Store.open(line.place / "record.db"), line.detector)
        deadline = time.monotonic() + 300
        while not killed and time.monotonic() < deadline:
            if found := owners(own):
                killed.append(min(found))
                os.kill(killed[0], signal.SIGKILL)
            time.sleep(0.005)
        own.store.close()

    killer = threading.Thread(target=kill_one)
    killer.start()
    place = str(line.place / "record.db")
    ended = cluster.work_on_ray(queue, line.model, line.folder, place, workers=2)
    killer.join()
    assert len(killed) == 1
    assert ended == Progress(done=19, quarantined=1)
    assert compared(kept(line, "calm"), kept(line))[:3] == (0, 0, 0)
    assert line.store.run("monday").finished_at is not None


@pytest.mark.usefixtures("ray")
def test_a_cluster_stops_when_it_is_asked_and_goes_on(line: Line) -> None:
    queue, place = line.begin(), str(line.place / "record.db")
    ended = cluster.work_on_ray(queue, line.model, line.folder, place, workers=1, stop=lambda: True)
    assert ended.leased == 0
    assert cluster.work_on_ray(queue, line.model, line.folder, place, workers=1).left == 0
    assert len(kept(line)) == 20


@pytest.mark.usefixtures("ray")
def test_an_actor_inspects_by_the_fastest_runtime(line: Line) -> None:
    pytest.importorskip("openvino", reason="pip install 'differnet[openvino]'")
    pytest.importorskip("onnxscript", reason="pip install onnxscript")
    from runtime.test_exported import rewrite

    from differnet.detection.manifest import EXPORTED
    from differnet.runtime.export import export

    model = line.place / "model"
    shutil.copytree(line.model, model)
    export(line.detector, model, ["openvino"])
    # What was measured may be anything on a busy machine; the choice is made by what is said.
    rewrite(model / EXPORTED / "openvino", milliseconds={"torch": 9.0, "openvino": 3.0})
    queue = line.begin()
    ended = cluster.work_on_ray(queue, model, line.folder, str(line.place / "record.db"), workers=1)
    assert ended == Progress(done=19, quarantined=1)
    assert {record.device for record in kept(line) if record.strangeness is not None} == {"openvino"}


@pytest.mark.usefixtures("ray")
def test_what_an_actor_finds_wrong_is_told_as_it_is(line: Line) -> None:
    queue = line.begin()
    with line.store.engine.begin() as connection:
        connection.execute(schema.runs.update().values(t_review=0.125))
    with pytest.raises(DiffernetError, match=r"thresholds 0\.125"):
        cluster.work_on_ray(queue, line.model, line.folder, str(line.place / "record.db"), workers=1)


def test_without_ray_it_is_said_what_to_install(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(cluster.ClusterError, match=r"differnet\[ray\]"):
        cluster.work_on_ray(line.begin(), line.model, line.folder, "record.db", workers=1)
