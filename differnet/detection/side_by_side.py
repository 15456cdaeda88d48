"""Work that is done side by side in threads, and told of in the thread that asked for it.

Densities are trained on one thread each: their matrices are small, and torch leaves the interpreter alone
while it multiplies, so that several of them share the processors without sharing a product. Pictures go
through the network likewise: threads that share a picture wait for each other after every layer.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

from differnet.detection.sources import processors

Item = TypeVar("Item")
Result = TypeVar("Result")
Say = Callable[[Callable[[], None]], None]
"""Has something done by the thread that asked for the work, such as telling how far it is."""


class _CalledOffError(Exception):
    """Another job failed, or whoever asked for the work is gone."""


def side_by_side(jobs: Sequence[Callable[[Say], Result]], workers: int | None = None) -> list[Result]:
    """Do jobs side by side, each on one thread, and return what they give, in order.

    Args:
        jobs: Each is given a `Say`, and ends soon after a call of it where the work is called off.
        workers: How many at a time; by default one a processor.

    Raises:
        Exception: Of the first job that failed, or of what a job had done by this thread.
    """
    said: queue.SimpleQueue[Callable[[], None] | Future[Result]] = queue.SimpleQueue()
    called_off = threading.Event()

    def say(event: Callable[[], None]) -> None:
        if called_off.is_set():
            raise _CalledOffError
        said.put(event)

    def run(job: Callable[[Say], Result]) -> Result:
        # The number of threads is each thread's own.
        torch.set_num_threads(1)
        return job(say)

    with one_thread(), ThreadPoolExecutor(workers or processors()) as pool:
        futures: list[Future[Result]] = []
        try:
            for job in jobs:
                futures.append(pool.submit(run, job))
                futures[-1].add_done_callback(said.put)
            ended = 0
            while ended < len(futures):
                event = said.get()
                if isinstance(event, Future):
                    event.result()
                    ended += 1
                else:
                    event()
        finally:
            called_off.set()
            for future in futures:
                future.cancel()
    return [future.result() for future in futures]


def in_lanes(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Work on items side by side, each on one thread, and yield what comes of them, in order.

    Items are drawn in the thread that asks, a few ahead of the results.

    Args:
        work: Called in several threads at once.
        items: What it is called with.

    Raises:
        Exception: Whatever working on an item raised, when its turn comes.
    """
    lanes, before = processors(), torch.get_num_threads()
    waiting: deque[Future[Result]] = deque()
    try:
        with ThreadPoolExecutor(lanes, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            try:
                for item in items:
                    waiting.append(pool.submit(work, item))
                    if len(waiting) > lanes + 1:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()
    finally:
        # What one thread sets for itself is also what threads begin with that are made later.
        torch.set_num_threads(before)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute densities on one thread.

    Their matrices are small, and handing them round costs more than it saves: four times as long was
    seen on two busy cores. It also makes training repeat bit for bit on other numbers of cores.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
