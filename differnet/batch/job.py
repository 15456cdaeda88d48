"""The work of one process on a run: claim, decode, judge, write, settle.

Pictures are decoded in processes of their own while those before them are in the network, and what was
judged is written while the next ones are: files first, then records and the end of the claims in one
transaction. What the store has acknowledged is on the disk with its files; what it has not is claimed once
more, by this process or by another one, and gives the same files and records again.
"""

from __future__ import annotations

import contextlib
import os
import queue
import secrets
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from differnet.images.decoders import Decoders, Limits, Refused
from differnet.images.reading import ReadingRule
from differnet.records import Inspection, Picture, Record
from differnet.reporting.artefacts import Artefacts, heat_map_path
from differnet.store import StoreError
from differnet.store.queue import Claim, Progress, Queue, item_id_of

BATCH = 8
"""Pictures that go through the network together: most of the speed of many, little of their memory."""

_HELD_BYTES = 512 * 2**20
"""Decoded pixels that wait for the network before no further picture is begun."""

_PATIENCE, _WRITING = 0.5, 0.02
"""Seconds between two looks at a run of which others, or its own writing, hold all that is left."""

Pixels = NDArray[np.uint8] | NDArray[np.uint16]
Told = Callable[[Progress], None]


class Judge(Protocol):
    """What judges pictures: a `differnet.Detector`."""

    def inspect_many(self, pictures: Iterable[Any], /) -> Iterator[Inspection]:
        """Judge decoded and refused pictures, in their order."""
        ...


def work(
    run: Queue,
    judge: Judge,
    rule: ReadingRule,
    folder: Path,
    *,
    decoders: int = 1,
    limits: Limits | None = None,
    told: Told | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Progress:
    """Work on a run until nothing is left of it, or until it shall stop.

    Several processes may do so at once. Where others hold all that is left, it waits for them, and takes over
    what a dead one has left behind.

    Args:
        run: The run's queue.
        judge: With the model and thresholds that the run was begun with.
        rule: How pictures are read.
        folder: Of the run, for heat maps and previews.
        decoders: Processes that decode.
        limits: What decoding one picture may take.
        told: Called with the run's progress after every few pictures, from another thread.
        stop: Asked between steps. Pictures that are in the network then are settled, others given back.

    Returns:
        The run's progress at the end; finished unless ``left``.

    Raises:
        RunError: The disk refused a file.
        DecoderError: The system started no process to decode in.
        StoreError: The store refused a transaction. What was acknowledged stands, in both cases.
    """
    owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
    artefacts = Artefacts(folder)
    artefacts.make()
    artefacts.tidy()
    settling = _Settling(run, owner, artefacts, told)
    try:
        with _Heartbeat(run, owner), Decoders(rule, decoders, limits or Limits()) as pool, settling:
            _go_on(run, owner, judge, pool, settling, stop)
    except BaseException:
        # What went wrong is told; claims that could not be given back end by themselves.
        with contextlib.suppress(StoreError):
            run.release(owner)
        raise
    run.release(owner)
    run.finish()
    artefacts.tidy()
    return run.progress()


def _go_on(
    run: Queue,
    owner: str,
    judge: Judge,
    pool: Decoders,
    settling: _Settling,
    stop: Callable[[], bool],
) -> None:
    ahead = _Ahead(pool)
    while not stop():
        settling.check()
        if ahead.short():
            ahead.add(run.claim(owner, BATCH))
        batch = ahead.take()
        if batch:
            sources = [source for _, source in batch]
            inspections = list(judge.inspect_many(sources))
            settling.add([(claim, i, s) for (claim, s), i in zip(batch, inspections, strict=True)])
        elif not run.progress().left:
            return
        else:
            time.sleep(_WRITING if settling.busy() else _PATIENCE)


class _Ahead:
    """Claims that are being decoded while others are in the network."""

    def __init__(self, pool: Decoders) -> None:
        self._pool = pool
        self._claimed: deque[Claim] = deque()
        self._begun: deque[tuple[Claim, Future[Picture | Refused]]] = deque()

    def short(self) -> bool:
        """Tell whether the next batch is not yet being decoded."""
        return len(self._claimed) + len(self._begun) <= BATCH

    def add(self, claims: Iterable[Claim]) -> None:
        self._claimed.extend(claims)
        self._begin()

    def take(self) -> list[tuple[Claim, Picture | Refused]]:
        """Return the next batch, decoded; of large pictures a smaller one."""
        taken: list[tuple[Claim, Picture | Refused]] = []
        held = 0
        while self._begun and len(taken) < BATCH and held < _HELD_BYTES:
            claim, future = self._begun.popleft()
            source = future.result()
            held += _bytes_of(source)
            taken.append((claim, source))
            self._begin()
        return taken

    def _begin(self) -> None:
        held = sum(_bytes_of(f.result()) for _, f in self._begun if f.done())
        while self._claimed and (held < _HELD_BYTES or not self._begun):
            claim = self._claimed.popleft()
            self._begun.append((claim, self._pool.decode(Path(claim.path))))


class _Settling:
    """The thread that writes what was judged, in its order."""

    def __init__(self, run: Queue, owner: str, artefacts: Artefacts, told: Told | None) -> None:
        self._run = run
        self._owner = owner
        self._artefacts = artefacts
        self._told = told
        # Two batches at most wait: their pixels do.
        self._waiting: queue.Queue[list[tuple[Claim, Inspection, Picture | Refused]] | None] = queue.Queue(2)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._settle_all, name="settling")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._waiting.put(None)
        self._thread.join()
        if self._error is not None and kind is None:
            raise self._error

    def add(self, judged: list[tuple[Claim, Inspection, Picture | Refused]]) -> None:
        """Hand over a batch.

        Raises:
            Exception: Whatever went wrong with one before.
        """
        self.check()
        self._waiting.put(judged)

    def check(self) -> None:
        """Raise whatever went wrong."""
        if self._error is not None:
            raise self._error

    def busy(self) -> bool:
        """Tell whether something is still to be written."""
        return self._waiting.unfinished_tasks > 0

    def _settle_all(self) -> None:
        while (judged := self._waiting.get()) is not None:
            try:
                # After an error nothing more is written; what waits is dropped and claimed once more.
                if self._error is None:
                    self._settle(judged)
            except BaseException as error:  # told to the thread that hands over
                self._error = error
            finally:
                self._waiting.task_done()

    def _settle(self, judged: Sequence[tuple[Claim, Inspection, Picture | Refused]]) -> None:
        files: dict[str, bytes] = {}
        settled: list[tuple[Claim, Record]] = []
        for claim, inspection, source in judged:
            record = _record_of(self._run.run_id, claim, inspection)
            pixels = source.pixels if isinstance(source, Picture) else None
            files |= self._artefacts.pack(record, inspection.heat_map, pixels)
            settled.append((claim, record))
        self._artefacts.keep(files)
        self._run.settle(self._owner, settled)
        if self._told is not None:
            self._told(self._run.progress())


class _Heartbeat:
    """The thread that holds on to claims while pictures are judged."""

    def __init__(self, run: Queue, owner: str) -> None:
        self._run = run
        self._owner = owner
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._over.wait(self._run.lease.total_seconds() / 3):
            try:
                self._run.renew(self._owner)
            except StoreError:
                # Two more beats before a claim ends, and nothing is kept of what is settled too late.
                continue


def _record_of(run_id: str, claim: Claim, inspection: Inspection) -> Record:
    item_id = item_id_of(claim.path)
    shown = None if inspection.heat_map is None else heat_map_path(item_id)
    return replace(
        inspection.record,
        run_id=run_id,
        item_id=item_id,
        path=claim.path,
        label=claim.label,
        heat_map_path=shown,
    )


def _bytes_of(source: Picture | Refused) -> int:
    return source.pixels.nbytes if isinstance(source, Picture) else 0
