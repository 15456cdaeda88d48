"""A short version of B2, which `make soak` runs in full; and the same of what is written elsewhere."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from differnet.batch import work
from differnet.calibration import Revisions, by_overkill
from differnet.detection import Detector
from differnet.records import DiffernetError
from differnet.reporting.artefacts import DRAFT_SECONDS, FOLDERS, Artefacts
from differnet.reporting.report import write_report
from differnet.reporting.run_folder import RunFolder
from differnet.store import CalibrationEntry, ModelEntry, RunEntry, Store, backup, check, connect
from differnet.store.queue import Progress, Queue, Wanted
from trust.batch_checks import make_model, make_parts
from trust.fault_checks import Disk, failing_steps, small_disk
from trust.faults import ERRORS, FILES, Faults

NAMES: dict[str, Any] = {"author": "Ada", "reason": "start", "model_id": "m", "calibration_id": "c"}


def test_a_batch_job_says_what_was_refused_and_goes_on_the_next_time() -> None:
    found = failing_steps(6, items=2)
    assert found.passed, found
    assert found.figures["steps refused"] == 3


@dataclass(frozen=True)
class Written:
    """Something that is written: how it is begun, how it is changed, and what a reader finds of it."""

    begin: Callable[[Path], object]
    change: Callable[[Path], object]
    found: Callable[[Path], object]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("faults")
    make_parts(place / "good", 24, 1)
    for seed in (0, 1):
        make_model(place / "good", place / f"model-{seed}", seed)
    return place


@pytest.fixture(scope="module")
def detectors(home: Path) -> list[Detector]:
    return [Detector.load(home / f"model-{seed}", device="cpu") for seed in (0, 1)]


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def revisions() -> Written:
    kept = by_overkill(range(99), 0.05, 0.01)
    return Written(
        lambda place: Revisions(place / "thresholds.jsonl").append(kept, **NAMES),
        lambda place: Revisions(place / "thresholds.jsonl").append(kept, **NAMES),
        # The chain is checked by reading it.
        lambda place: (len(Revisions(place / "thresholds.jsonl").history()), sorted(content(place))),
    )


def bundle(detectors: list[Detector]) -> Written:
    return Written(
        lambda place: detectors[0].save(place / "model"),
        lambda place: detectors[1].save(place / "model"),
        content,
    )


def a_run(place: Path, detector: Detector, home: Path) -> RunFolder:
    run = RunFolder.create(place / "run", {"product": "plate"})
    append(run, detector, home, 0)
    return run


def append(run: RunFolder, detector: Detector, home: Path, number: int) -> None:
    picture = home / "good" / f"{number:06d}.png"
    run.append(detector.inspect(picture), None)


def shown(place: Path) -> object:
    run = RunFolder.open(place / "run")
    readable = [run.heat_map(record) is not None for record in run.records]
    drafts = [name for name in content(place) if ".part" in name]
    return [record.path for record in run.records], readable, drafts


def run_folder(detectors: list[Detector], home: Path) -> Written:
    return Written(
        lambda place: a_run(place, detectors[0], home),
        lambda place: append(RunFolder.open(place / "run"), detectors[0], home, 1),
        shown,
    )


def report(detectors: list[Detector], home: Path) -> Written:
    def begin(place: Path) -> None:
        (place / "out").mkdir()
        (place / "out" / "report.html").write_text("old")

    runs = home / "reported"
    run = RunFolder.open(runs / "run") if runs.exists() else a_run(runs, detectors[0], home)
    return Written(begin, lambda place: write_report(run, place / "out" / "report.html"), content)


@pytest.fixture(params=["revisions", "bundle", "run folder", "report"])
def written(request: pytest.FixtureRequest, detectors: list[Detector], home: Path) -> Written:
    kinds: dict[str, Callable[[], Written]] = {
        "revisions": revisions,
        "bundle": lambda: bundle(detectors),
        "run folder": lambda: run_folder(detectors, home),
        "report": lambda: report(detectors, home),
    }
    return kinds[request.param]()


def changed(written: Written, place: Path) -> bool:
    """Write, and tell whether that went well; any error but a typed one fails the test."""
    try:
        written.change(place)
    except DiffernetError:
        return False
    return True


def remove_hidden(place: Path) -> None:
    for path in place.rglob(".*"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


@pytest.mark.parametrize("kind", FILES)
def test_what_is_written_is_old_or_new_at_every_step_that_fails(
    written: Written, kind: str, tmp_path: Path
) -> None:
    whole = []
    for write in (written.begin, written.change):
        place = tmp_path / "whole"
        place.mkdir(exist_ok=True)
        write(place)
        whole.append(written.found(place))
    assert whole[0] != whole[1]
    for step in range(100):
        place = tmp_path / f"{kind}-{step}"
        place.mkdir()
        written.begin(place)
        with Faults(kind, step, ERRORS[step % 4], place, onwards=step % 3 == 2) as faults:
            told = not changed(written, place)
        if step % 3 == 2 or (faults.hit and not told):
            # Where every later step fails, drafts cannot be removed, nor an older model that was replaced.
            remove_hidden(place)
        assert written.found(place) in whole
        if not told:
            assert written.found(place) == whole[1]
        if not faults.hit:
            assert faults.counted == step
            return
        # The next time it is written.
        written.change(place)
        shutil.rmtree(place)
    pytest.fail("every step failed")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with small_disk(tmp_path / "disk") as found:
        if found is None:
            pytest.skip("no disk may be mounted here")
        yield found


def test_a_full_disk_refuses_a_model_and_the_older_one_stands(disk: Disk, detectors: list[Detector]) -> None:
    place = disk.place / "model"
    detectors[0].save(place)
    before = content(disk.place)
    size = sum(path.stat().st_blocks for path in place.iterdir()) // 8
    for pages in range(size + 8, 2 * size, size // 4):
        disk.resize(pages)
        with pytest.raises(DiffernetError, match="No space left"):
            detectors[1].save(place)
        assert content(disk.place) == before
    disk.resize(16384)
    detectors[1].save(place)
    assert content(disk.place) != before


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "record.db")
    store.add_model(ModelEntry("m", "plate"))
    store.add_calibration(CalibrationEntry("m", "c", parts=99))
    yield store
    store.close()


def is_whole(copy: Path) -> bool:
    engine = connect(copy)
    try:
        return check(engine) == []
    finally:
        engine.dispose()


def test_a_full_disk_refuses_a_backup_and_leaves_nothing(disk: Disk, store: Store) -> None:
    for pages in (1, 2, 10, 20, 30):
        disk.resize(pages)
        with pytest.raises(DiffernetError, match=r"full|disk I/O"):
            backup(store.engine, disk.place / "copy.db")
        assert content(disk.place) == {}
    disk.resize(16384)
    assert is_whole(backup(store.engine, disk.place / "copy.db"))


@pytest.mark.parametrize("kind", ["open", "sync", "rename"])
def test_a_backup_is_whole_or_missing_at_every_step_that_fails(
    kind: str, store: Store, tmp_path: Path
) -> None:
    for step in range(10):
        place = tmp_path / str(step)
        place.mkdir()
        with Faults(kind, step, ERRORS[step % 4], place) as faults:
            try:
                backup(store.engine, place / "copy.db")
            except DiffernetError:
                assert faults.hit
        left = sorted(content(place))
        assert left in ([], ["copy.db"])
        assert not left or is_whole(place / "copy.db")
        if not faults.hit:
            assert left == ["copy.db"]
            return
    pytest.fail("every step failed")


def test_drafts_that_a_killed_job_left_are_cleared_away_by_the_next(
    store: Store, detectors: list[Detector], home: Path, tmp_path: Path
) -> None:
    store.begin_run(RunEntry("r", "plate", "m", "c", 1.3, 2.0))
    pictures = [Wanted(str(path)) for path in sorted((home / "good").iterdir())[:3]]
    queue = Queue.begin(store, store.run("r"), pictures)
    artefacts = Artefacts(tmp_path / "run")
    artefacts.make()
    young, old, older = (tmp_path / "run" / name / ".00.npz.a1b2.part" for name in FOLDERS)
    for draft in (young, old, older):
        draft.write_bytes(b"half")
    long_ago = time.time() - DRAFT_SECONDS - 1
    os.utime(older, (long_ago, long_ago))

    def told(_: Progress) -> None:
        # A minute passes while the job is at work.
        if old.exists():
            os.utime(old, (long_ago, long_ago))

    detector = detectors[0]
    progress = work(queue, detector, detector.settings.reading, tmp_path / "run", told=told)
    assert progress == Progress(done=3)
    drafts = list((tmp_path / "run").rglob(".*.part"))
    assert drafts == [young]
    assert artefacts.tidy() == 0
    os.utime(young, (long_ago, long_ago))
    assert artefacts.tidy() == 1
