"""Jobs in threads: what they give, where they are told of, and how they end."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from differnet.detection import DensitySettings, Detector, DetectorSettings, side_by_side
from differnet.detection.side_by_side import Say
from differnet.detection.sources import processors
from differnet.images.synthetic import render_part


def test_results_come_in_order_and_are_told_of_in_the_thread_that_asked() -> None:
    told: list[tuple[int, int]] = []
    threads: set[int] = set()

    def note(step: int) -> None:
        told.append((threading.get_ident(), step))

    def job(number: int, say: Say) -> int:
        threads.add(threading.get_ident())
        for step in range(3):
            say(partial(note, 10 * number + step))
        return number * number

    found = side_by_side.side_by_side([partial(job, n) for n in range(5)], workers=2)
    assert found == [0, 1, 4, 9, 16]
    assert {thread for thread, _ in told} == {threading.get_ident()}
    assert threading.get_ident() not in threads
    for number in range(5):
        assert [step for _, step in told if step // 10 == number] == [10 * number + i for i in range(3)]


def test_each_job_has_one_thread_of_its_own() -> None:
    before = torch.get_num_threads()
    found = side_by_side.side_by_side([lambda _: torch.get_num_threads()] * 3, workers=2)
    assert found == [1, 1, 1]
    assert torch.get_num_threads() == before


def test_a_job_that_fails_ends_the_others() -> None:
    ended = threading.Event()
    others = threading.Event()

    def endless(say: Say) -> None:
        others.set()
        try:
            while True:
                say(lambda: None)
        finally:
            ended.set()

    def failing(_: Say) -> None:
        others.wait()
        raise ValueError("a job that fails")

    jobs = [endless, failing, lambda _: pytest.fail("a job that begins after the end")]
    with pytest.raises(ValueError, match="a job that fails"):
        side_by_side.side_by_side(jobs, workers=2)
    assert ended.is_set()


def test_whoever_is_told_may_call_the_work_off() -> None:
    def endless(say: Say) -> None:
        def refuse() -> None:
            raise KeyboardInterrupt

        while True:
            say(refuse)

    with pytest.raises(KeyboardInterrupt):
        side_by_side.side_by_side([endless, endless], workers=2)


@pytest.fixture(scope="module")
def parts() -> list[NDArray[np.uint8]]:
    return [render_part(seed, size=64).pixels for seed in range(34)]


def test_the_model_does_not_depend_on_the_number_of_processors(
    parts: list[NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch
) -> None:
    density = DensitySettings(steps=20, couplings=2, hidden=16)
    settings = DetectorSettings(image_size=64, folds=3, density=density, device="cpu")
    names: list[str] = []
    for number in (1, 4):
        monkeypatch.setattr(side_by_side, "processors", lambda number=number: number)
        detector = Detector(settings).fit(parts).calibrate()
        names.append(f"{detector.model_id} {detector.facts()['calibration_id']}")
    assert names[0] == names[1]


def test_a_training_is_called_off_from_its_progress(parts: list[NDArray[np.uint8]]) -> None:
    density = DensitySettings(steps=100_000, couplings=2, hidden=16)
    settings = DetectorSettings(image_size=64, folds=2, density=density, device="cpu")

    def told(stage: str, done: int, total: int) -> None:
        assert 0 <= done <= total
        if stage == "densities" and done > 50:
            raise InterruptedError("enough")

    with pytest.raises(InterruptedError, match="enough"):
        Detector(settings).fit(parts, told)


def test_lanes_give_results_in_order_each_on_one_thread() -> None:
    drawn: list[int] = []
    second = threading.Event()

    def items() -> Iterator[int]:
        for number in range(20):
            drawn.append(threading.get_ident())
            yield number

    def work(number: int) -> tuple[int, int, int]:
        if number == 1:
            second.set()
        if number == 0 and processors() > 1:
            # The first ends after one that was begun later.
            assert second.wait(60)
        return number, torch.get_num_threads(), threading.get_ident()

    before = torch.get_num_threads()
    found = list(side_by_side.in_lanes(work, items()))
    assert [number for number, _, _ in found] == list(range(20))
    assert {threads for _, threads, _ in found} == {1}
    assert set(drawn) == {threading.get_ident()}
    assert threading.get_ident() not in {thread for _, _, thread in found}
    later: list[int] = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert [torch.get_num_threads(), *later] == [before, before]


def test_whoever_stops_asking_lanes_ends_them() -> None:
    begun: list[int] = []

    def work(number: int) -> int:
        begun.append(number)
        return number

    found = side_by_side.in_lanes(work, range(1_000))
    assert [next(found), next(found)] == [0, 1]
    del found
    gc.collect()
    assert len(begun) <= processors() + 5


def test_lanes_draw_no_more_than_a_few_ahead_and_end_with_the_first_failure() -> None:
    drawn: list[int] = []

    def items() -> Iterator[int]:
        for number in range(1_000):
            drawn.append(number)
            yield number

    def work(number: int) -> int:
        if number == 30:
            raise ValueError("an item that fails")
        return number

    found: list[int] = []
    with pytest.raises(ValueError, match="an item that fails"):
        found.extend(side_by_side.in_lanes(work, items()))
    assert len(drawn) <= 30 + processors() + 3
