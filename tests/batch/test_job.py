"""A batch job gives what inspecting one picture after another gives, however often it is interrupted."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trust.batch_checks import compared

from batch.conftest import Line, white
from differnet.batch import JobError, model_folder, resume, work
from differnet.batch import job as job_module
from differnet.batch.job import _Ahead
from differnet.detection import Detector
from differnet.images.decoders import Decoders, Refused
from differnet.images.reading import ReadingRule
from differnet.records import DiffernetError, Inspection, Picture, Record, Verdict
from differnet.reporting import RunError
from differnet.reporting.artefacts import Artefacts
from differnet.store import Asked, Store, StoreBusyError, StoreError
from differnet.store.queue import Claim, Progress, Queue

RULE = ReadingRule()


def kept(line: Line, name: str = "monday") -> list[Record]:
    return line.store.items(Asked(run_id=name))


def done(line: Line, queue: Queue, **changes: Any) -> Progress:
    return work(queue, line.detector, RULE, line.place / queue.run_id, **changes)


def test_a_job_gives_what_inspecting_gives(line: Line) -> None:
    told: list[Progress] = []
    ended = done(line, line.begin(), told=told.append, decoders=2)
    assert ended == Progress(done=19, quarantined=1)
    assert [p.left for p in told] == sorted((p.left for p in told), reverse=True)
    assert told[-1].left == 0
    found = kept(line)
    wanted = [
        replace(i.record, run_id="monday", label="good", item_id=r.item_id, heat_map_path=r.heat_map_path)
        for i, r in zip(line.detector.inspect_many(line.pictures), found, strict=True)
    ]
    assert [r.path for r in found] == [str(path) for path in line.pictures]
    lost, doubled, differing, largest = compared(wanted, found)
    assert (lost, doubled, differing) == (0, 0, 0)
    # In batches of another size float32 sums come in another order, which bundles allow 1e-4 for as well.
    assert largest < 1e-4
    assert line.store.run("monday").finished_at is not None


def test_what_cannot_be_read_is_put_aside_with_its_reason(line: Line) -> None:
    queue = line.begin()
    done(line, queue)
    (aside,) = [r for r in kept(line) if r.verdict is Verdict.INVALID]
    assert aside.path.endswith("torn.png")
    assert len(aside.sha256) == 64
    assert queue.quarantined() == [(aside.path, aside.reasons[0])]
    assert "ends inside its IDAT chunk" in aside.reasons[0]
    assert aside.heat_map_path is None


def test_every_judged_picture_has_its_heat_map_and_preview(line: Line) -> None:
    done(line, line.begin())
    shown = Artefacts(line.folder)
    for record in kept(line):
        judged = record.verdict is not Verdict.INVALID
        assert (shown.heat_map(record) is not None) == (shown.preview(record) is not None) == judged
    whole = line.detector.inspect(line.pictures[0])
    assert whole.heat_map is not None
    heat = shown.heat_map(kept(line)[0])
    assert heat is not None
    assert np.allclose(heat, whole.heat_map, rtol=2e-3)


def test_a_job_that_is_stopped_goes_on_where_it_was(line: Line) -> None:
    line.begin(name="calm")
    done(line, Queue(line.store, "calm"))
    queue = line.begin()
    ended, steps = queue.progress(), 0
    while ended.left and steps < 10:
        asked: list[int] = []

        def stop(asked: list[int] = asked) -> bool:
            asked.append(1)
            return len(asked) > 9

        ended = done(line, queue, stop=stop)
        # A few pictures a time, and nothing that was claimed ahead is kept back from others.
        assert ended.leased == 0
        assert len(kept(line)) == ended.done + ended.quarantined
        steps += 1
    assert 2 < steps < 10
    assert compared(kept(line, "calm"), kept(line))[:3] == (0, 0, 0)
    assert [r.path for r in kept(line)] == [str(path) for path in line.pictures]


def test_several_workers_share_a_run(line: Line) -> None:
    queue = line.begin()
    failures: list[BaseException] = []

    def go() -> None:
        own = Store.open(line.place / "record.db")
        try:
            work(Queue(own, "monday"), Detector.load(line.model, device="cpu"), RULE, line.folder)
        except BaseException as error:
            failures.append(error)
        finally:
            own.close()

    workers = [threading.Thread(target=go) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert failures == []
    assert queue.progress() == Progress(done=19, quarantined=1)
    assert [r.path for r in kept(line)] == [str(path) for path in line.pictures]


class Failing:
    """A detector that fails at the ``at``-th picture."""

    def __init__(self, detector: Detector, at: int, error: Exception) -> None:
        self._detector, self._at, self._error, self._seen = detector, at, error, 0

    def inspect_many(self, pictures: Iterable[Any], /) -> Iterator[Inspection]:
        for inspection in self._detector.inspect_many(pictures):
            if self._seen == self._at:
                raise self._error
            self._seen += 1
            yield inspection


@pytest.mark.parametrize("at", [0, 9])
def test_what_goes_wrong_while_judging_is_told_and_loses_nothing(line: Line, at: int) -> None:
    queue = line.begin()
    with pytest.raises(MemoryError, match="none left"):
        work(queue, Failing(line.detector, at, MemoryError("none left")), RULE, line.folder)
    progress = queue.progress()
    assert (progress.leased, progress.done) == (0, at)
    assert done(line, queue) == Progress(done=19, quarantined=1)


class Stumbling:
    """A detector that fails on some pictures, alone or in company."""

    def __init__(self, detector: Detector, on: set[str]) -> None:
        self._detector, self._on = detector, on

    def inspect_many(self, pictures: Iterable[Any], /) -> Iterator[Inspection]:
        pictures = list(pictures)
        if any(isinstance(p, Picture) and p.path is not None and p.path.name in self._on for p in pictures):
            raise FloatingPointError("overflow in a place that nobody thought of")
        return self._detector.inspect_many(pictures)


def test_a_picture_that_cannot_be_judged_is_put_aside_and_the_others_are_not(line: Line) -> None:
    queue = line.begin()
    ended = work(queue, Stumbling(line.detector, {"000003.png", "000019.png"}), RULE, line.folder)
    assert ended == Progress(done=17, quarantined=3)
    reasons = dict(queue.quarantined())
    assert sum("overflow in a place" in reason for reason in reasons.values()) == 2
    assert {r.verdict for r in kept(line) if r.path in reasons} == {Verdict.INVALID}


def test_a_detector_that_fails_on_most_pictures_ends_the_job(line: Line) -> None:
    queue = line.begin()
    names = {path.name for path in line.pictures[:11]}
    with pytest.raises(FloatingPointError, match="overflow"):
        work(queue, Stumbling(line.detector, names), RULE, line.folder)
    assert queue.progress() == Progress(waiting=20)


def test_a_drive_that_is_not_connected_puts_nothing_aside(line: Line) -> None:
    away = line.place / "drive"
    queue = line.begin([away / f"{number}.png" for number in range(9)])
    with pytest.raises(JobError, match="drive connected"):
        done(line, queue)
    assert queue.progress() == Progress(waiting=9)
    # Where the folder is there, its pictures are what is missing.
    away.mkdir()
    (away / "3.png").write_bytes(line.pictures[0].read_bytes())
    assert done(line, queue) == Progress(done=1, quarantined=8)


def test_a_record_that_is_away_for_a_moment_is_waited_for(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = line.begin()
    away = {"claim": 2, "settle": 2, "progress": 2}

    def often_away(name: str) -> Callable[..., Any]:
        true = getattr(Queue, name)

        def step(*given: Any, **named: Any) -> Any:
            if away[name]:
                away[name] -= 1
                raise StoreBusyError(expected="an answer", found="none", remedy="Try again.")
            return true(*given, **named)

        return step

    for name in away:
        monkeypatch.setattr(Queue, name, often_away(name))
    monkeypatch.setattr("differnet.batch.job._PATIENCE", 0.01)
    assert done(line, queue) == Progress(done=19, quarantined=1)
    assert not any(away.values())


def test_pictures_are_decoded_ahead_only_as_far_as_memory_goes(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Path] = []
    monkeypatch.setattr("differnet.batch.job._HELD_BYTES", 3 * 48 * 48 * 3)
    with Decoders(RULE) as pool:
        true = pool.decode

        def decode(path: Path) -> Future[Picture | Refused]:
            begun.append(path)
            return true(path)

        monkeypatch.setattr(pool, "decode", decode)
        ahead = _Ahead(pool)
        ahead._largest = 48 * 48 * 3
        ahead.add(Claim(n, n, str(path), None, 1) for n, path in enumerate(line.pictures[:16]))
        assert len(begun) == 3
        taken = 0
        while ahead.take():
            taken += 1
            assert len(begun) <= taken + 3
    assert taken == 16


class Listing:
    """A detector that wants to have all pictures before it judges the first of them."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self.handed: list[int] = []

    def inspect_many(self, pictures: Iterable[Any], /) -> Iterator[Inspection]:
        listed = list(pictures)
        self.handed.append(len(listed))
        return self._detector.inspect_many(listed)


@pytest.mark.parametrize(("name", "most"), [("_IN_THE_NETWORK", 7), ("_HELD_BYTES", 7 * 48 * 48 * 3)])
def test_no_more_pictures_are_handed_over_than_memory_holds(
    line: Line, name: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"differnet.batch.job.{name}", most)
    queue, listing = line.begin(), Listing(line.detector)
    assert work(queue, listing, RULE, line.folder) == Progress(done=19, quarantined=1)
    assert sum(listing.handed) == 20
    # A picture that cannot be read takes no memory.
    assert max(listing.handed) <= 8
    assert [r.path for r in kept(line)] == [str(path) for path in line.pictures]


class Forgetful:
    """A detector that leaves out a picture."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector

    def inspect_many(self, pictures: Iterable[Any], /) -> Iterator[Inspection]:
        return self._detector.inspect_many(p for n, p in enumerate(list(pictures)) if n != 11)


def test_no_verdict_is_given_to_another_picture(line: Line) -> None:
    queue = line.begin()
    with pytest.raises(RuntimeError, match="spoke of another picture"):
        work(queue, Forgetful(line.detector), RULE, line.folder)
    assert queue.progress() == Progress(waiting=9, done=11)
    for record in kept(line):
        assert record.sha256 == hashlib.sha256(Path(record.path).read_bytes()).hexdigest()


class Brief:
    """A detector that has nothing to say of the last pictures."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector

    def inspect_many(self, pictures: Iterable[Any], /) -> Iterator[Inspection]:
        return self._detector.inspect_many(list(pictures)[:-2])


def test_no_picture_is_left_without_a_word(line: Line) -> None:
    queue = line.begin()
    with pytest.raises(RuntimeError, match="left out 2"):
        work(queue, Brief(line.detector), RULE, line.folder)
    assert queue.progress() == Progress(waiting=2, done=18)


def test_what_waits_to_be_written_is_bounded_by_its_bytes(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []
    true = Artefacts.pack

    def pack(*given: Any, **named: Any) -> dict[str, bytes]:
        held.append(settling[0]._held)
        time.sleep(0.02)
        return true(*given, **named)

    settling: list[Any] = []
    begun = job_module._Settling.__init__

    def begin(self: Any, *given: Any) -> None:
        begun(self, *given)
        settling.append(self)

    # Two pictures with their heat maps, and no third.
    one = 48 * 48 * (3 + 4)
    monkeypatch.setattr(job_module._Settling, "__init__", begin)
    monkeypatch.setattr(Artefacts, "pack", staticmethod(pack))
    monkeypatch.setattr("differnet.batch.job._HELD_BYTES", 2 * one)
    assert done(line, line.begin()) == Progress(done=19, quarantined=1)
    assert max(held) == 2 * one
    assert settling[0]._held == 0


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_one_bad_picture_costs_an_exported_model_that_picture(
    line: Line, runtime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(runtime, reason=f"pip install 'differnet[{runtime}]'")
    pytest.importorskip("onnxscript", reason="pip install onnxscript")
    from differnet.runtime.export import export
    from differnet.runtime.exported import ExportedDetector

    model = line.place / "model"
    shutil.copytree(line.model, model)
    export(line.detector, model, [runtime])
    exported = ExportedDetector.load(model, runtime)
    true, bad = exported._inputs, {line.pictures[n].name for n in (5, 11)}

    def inputs(picture: Picture) -> Any:
        if picture.path is not None and picture.path.name in bad:
            raise FloatingPointError("overflow in a place that nobody thought of")
        return true(picture)

    monkeypatch.setattr(exported, "_inputs", inputs)
    queue = line.begin()
    assert work(queue, exported, RULE, line.folder) == Progress(done=17, quarantined=3)
    assert {Path(path).name for path, reason in queue.quarantined() if "overflow" in reason} == bad
    for record in kept(line):
        assert record.sha256 == hashlib.sha256(Path(record.path).read_bytes()).hexdigest()


@pytest.mark.parametrize("after", [0, 1])
def test_a_disk_that_refuses_is_told_and_loses_nothing(
    line: Line, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = line.begin()
    true, calls = Artefacts.keep, [0]

    def refuse(self: Artefacts, files: dict[str, bytes]) -> None:
        calls[0] += 1
        if calls[0] > after:
            raise RunError(expected="to write", found="no space left", remedy="Make room.")
        true(self, files)

    monkeypatch.setattr(Artefacts, "keep", refuse)
    with pytest.raises(RunError, match="no space left"):
        done(line, queue)
    monkeypatch.undo()
    progress = queue.progress()
    assert (progress.leased, progress.done) == (0, 16 * after)
    assert done(line, queue) == Progress(done=19, quarantined=1)


def test_a_run_goes_on_under_the_thresholds_it_was_begun_with(line: Line) -> None:
    own = line.detector.thresholds
    line.detector.adopt_thresholds(0.5, 0.75, 4)
    # The file of revisions is beside the model, and knows no fourth.
    with pytest.raises(DiffernetError, match="revision 4"):
        line.begin()
    line.detector = Detector.load(line.model, device="cpu")
    queue = line.begin()
    done(line, queue, stop=lambda: bool(kept(line)))
    again = Detector.load(line.model, device="cpu")
    resumed = resume(line.store, "monday", again)
    work(resumed, again, RULE, line.folder)
    assert {(r.t_review, r.t_defect, r.threshold_revision) for r in kept(line)} == {
        (own.review, own.defect, 0)
    }
    assert model_folder(line.store.run("monday")) == line.model.resolve()
    with pytest.raises(StoreError, match="of revision 4"):
        resume(line.store, "monday", line.detector.adopt_thresholds(0.5, 0.75, 4))


def test_a_run_of_another_model_is_not_resumed(line: Line, trained: Path) -> None:
    from trust.batch_checks import make_model

    line.begin()
    make_model(trained / "good", line.place / "other", 7)
    with pytest.raises(StoreError, match="which run monday was begun with"):
        resume(line.store, "monday", Detector.load(line.place / "other", device="cpu"))


def test_what_is_put_aside_and_mended_is_judged_by_a_retry(line: Line, trained: Path) -> None:
    queue = line.begin()
    done(line, queue)
    torn = line.pictures[18]
    torn.write_bytes((trained / "pictures" / "000018.png").read_bytes())
    assert queue.retry() == 1
    assert done(line, queue) == Progress(done=20)
    (mended,) = [r for r in kept(line) if r.path == str(torn)]
    assert mended.verdict is not Verdict.INVALID
    assert Artefacts(line.folder).heat_map(mended) is not None


def test_a_file_that_is_no_part_is_a_wrong_input_here_too(line: Line) -> None:
    done(line, line.begin([white(line.place / "white.png")]))
    assert [r.verdict for r in kept(line)] == [Verdict.OOD]


@pytest.mark.skipif(os.name == "nt", reason="names that are no text are of POSIX")
def test_a_name_that_is_no_text_is_inspected_like_any(line: Line) -> None:
    odd = line.place / os.fsdecode(b"part\xff.png")
    odd.write_bytes(line.pictures[0].read_bytes())
    assert done(line, line.begin([odd])) == Progress(done=1)
    assert [r.path for r in kept(line)] == [str(odd)]
    assert Artefacts(line.folder).preview(kept(line)[0]) is not None
