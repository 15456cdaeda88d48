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
from typing import Any, Protocol, Self, TypeVar

from differnet.images.decoders import Decoders, Limits, Refused
from differnet.images.headers import ImageError, Refusal
from differnet.images.reading import ReadingRule
from differnet.records import DiffernetError, Inspection, Picture, Record
from differnet.reporting.artefacts import Artefacts, heat_map_path
from differnet.store import StoreError
from differnet.store.queue import Claim, Progress, Queue, item_id_of

BATCH = 8
"""Pictures that go through the network together: most of the speed of many, little of their memory."""

_HELD_BYTES = 512 * 2**20
"""Decoded pixels that wait for the network before no further picture is begun."""

_PATIENCE, _WRITING = 0.5, 0.02
"""Seconds between two looks at a run of which others, or its own writing, hold all that is left."""

_TELLING = 1.0
"""Seconds between two counts of a run's progress."""

_AWAY = 90.0
"""Seconds for which the record may be busy or away before a job ends: a server is started anew in less."""

Found = TypeVar("Found")
Source = Picture | Refused
Judged = tuple[Claim, Inspection, Source]
Told = Callable[[Progress], None]


class JobError(DiffernetError):
    """Raised where a job cannot begin to work."""


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
    decoders: int | None = None,
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
        decoders: Processes that decode; ``None`` for as many as there are processors, four at most.
        limits: What decoding one picture may take.
        told: Called with the run's progress, at most once a second, from another thread.
        stop: Asked between steps. Pictures that are in the network then are settled, others given back.

    Returns:
        The run's progress at the end; finished unless ``left``.

    Raises:
        JobError: The folders of the first pictures are not there.
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
        with (
            _Heartbeat(run, owner),
            Decoders(rule, decoders or usual_decoders(), limits or Limits()) as pool,
            settling,
        ):
            _go_on(run, owner, judge, pool, settling, stop)
    except BaseException:
        # What went wrong is told; claims that could not be given back end by themselves.
        with contextlib.suppress(StoreError):
            run.release(owner)
        raise
    run.release(owner)
    run.finish()
    artefacts.tidy()
    progress = run.progress()
    if told is not None:
        told(progress)
    return progress


def usual_decoders() -> int:
    """Return how many processes decode where nobody says: as many as threads do without a job."""
    return min(4, os.cpu_count() or 1)


def _go_on(
    run: Queue,
    owner: str,
    judge: Judge,
    pool: Decoders,
    settling: _Settling,
    stop: Callable[[], bool],
) -> None:
    ahead, judging = _Ahead(pool), _Judging(judge)
    while not stop():
        settling.check()
        if ahead.short():
            ahead.add(_patiently(lambda: run.claim(owner, BATCH), stop))
        batch = ahead.take()
        if batch:
            if not judging.works:
                _require_drive(batch)
            settling.add(judging.judge(batch))
        elif not _patiently(run.progress, stop).left:
            return
        else:
            time.sleep(_WRITING if settling.busy() else _PATIENCE)


def _require_drive(batch: Sequence[tuple[Claim, Source]]) -> None:
    """Refuse to put everything aside where not the pictures are gone but what they lie on.

    Raises:
        JobError: Of the first pictures none is there, nor the folder of any.
    """
    for claim, source in batch:
        gone = isinstance(source, Refused) and source.error.reason is Refusal.MISSING
        if not gone or Path(claim.path).parent.exists():
            return
    raise JobError(
        expected=f"the folder {Path(batch[0][0].path).parent}",
        found="no such folder",
        remedy="Is its drive connected? Then resume the run; nothing was put aside.",
    )


def _patiently(step: Callable[[], Found], stop: Callable[[], bool] = lambda: False) -> Found:
    """Take a step of the store once more while it is busy or away, for as long as a server takes to start."""
    deadline = time.monotonic() + _AWAY
    while True:
        try:
            return step()
        except StoreError as error:
            if not error.passing or stop() or time.monotonic() > deadline:
                raise
            time.sleep(_PATIENCE)


class _Judging:
    """Judge batches; a picture that alone makes judging fail is put aside instead of ending the job."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self.works = False

    def judge(self, batch: Sequence[tuple[Claim, Source]]) -> list[Judged]:
        try:
            inspections = list(self._judge.inspect_many([source for _, source in batch]))
        except Exception as error:
            inspections = self._one_by_one([source for _, source in batch], error)
        self.works = True
        return [(claim, i, s) for (claim, s), i in zip(batch, inspections, strict=True)]

    def _one_by_one(self, sources: Sequence[Source], whole: Exception) -> list[Inspection]:
        found: list[Inspection] = []
        failed = 0
        for source in sources:
            try:
                found += self._judge.inspect_many([source])
            except Exception as error:
                failed += 1
                found += self._judge.inspect_many([_unjudged(source, error)])
        # Where most fail it is the machine or the model, not the pictures.
        if 2 * failed > len(sources) and not (failed == 1 and self.works):
            raise whole
        return found


class _Ahead:
    """Claims that are being decoded while others are in the network."""

    def __init__(self, pool: Decoders) -> None:
        self._pool = pool
        self._claimed: deque[Claim] = deque()
        self._begun: deque[tuple[Claim, Future[Source]]] = deque()
        self._largest = 0

    def short(self) -> bool:
        """Tell whether the next batch is not yet being decoded."""
        return len(self._claimed) + len(self._begun) <= BATCH

    def add(self, claims: Iterable[Claim]) -> None:
        self._claimed.extend(claims)
        self._begin()

    def take(self) -> list[tuple[Claim, Source]]:
        """Return the next batch, decoded; of large pictures a smaller one."""
        taken: list[tuple[Claim, Source]] = []
        held = 0
        while self._begun and len(taken) < BATCH and held < _HELD_BYTES:
            claim, future = self._begun.popleft()
            source = future.result()
            held += _bytes_of(source)
            self._largest = max(self._largest, _bytes_of(source))
            taken.append((claim, source))
            self._begin()
        return taken

    def _begin(self) -> None:
        while self._claimed and (self._held() < _HELD_BYTES or not self._begun):
            claim = self._claimed.popleft()
            self._begun.append((claim, self._pool.decode(Path(claim.path))))

    def _held(self) -> int:
        """Return the bytes of what is decoded, and of what is being decoded, each as large as the largest."""
        return sum(_bytes_of(f.result()) if f.done() else self._largest for _, f in self._begun)


class _Settling:
    """The thread that writes what was judged, in its order."""

    def __init__(self, run: Queue, owner: str, artefacts: Artefacts, told: Told | None) -> None:
        self._run = run
        self._owner = owner
        self._artefacts = artefacts
        self._told = told
        # Two batches at most wait: their pixels do.
        self._waiting: queue.Queue[list[Judged] | None] = queue.Queue(2)
        self._error: BaseException | None = None
        self._told_at = 0.0
        self._thread = threading.Thread(target=self._settle_all, name="settling")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, Exception):
            # Somebody wants an end at once: what waits is not written, and claimed once more.
            self._error = self._error or error
        self._waiting.put(None)
        self._thread.join()
        if self._error is not None and kind is None:
            raise self._error

    def add(self, judged: list[Judged]) -> None:
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

    def _settle(self, judged: Sequence[Judged]) -> None:
        files: dict[str, bytes] = {}
        settled: list[tuple[Claim, Record]] = []
        for claim, inspection, source in judged:
            record = _record_of(self._run.run_id, claim, inspection)
            pixels = source.pixels if isinstance(source, Picture) else None
            files |= self._artefacts.pack(record, inspection.heat_map, pixels)
            settled.append((claim, record))
        self._artefacts.keep(files)
        # To be repeated without harm: what was settled is no longer this owner's.
        _patiently(lambda: self._run.settle(self._owner, settled))
        self._tell()

    def _tell(self) -> None:
        if self._told is None or time.monotonic() - self._told_at < _TELLING:
            return
        # Counting is for a person to see, and no reason to end.
        with contextlib.suppress(StoreError):
            self._told(self._run.progress())
        self._told_at = time.monotonic()


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


def _unjudged(source: Source, error: Exception) -> Source:
    """Say of a picture that it could not be judged; of a refused one that is said already."""
    if isinstance(source, Refused):
        return source
    why = ImageError(
        Refusal.UNJUDGED,
        expected="a picture that can be judged",
        found=f"one on which that fails: {type(error).__name__}: {str(error)[:200]}",
        remedy="Inspect it alone to see more, and report it: differnet inspect MODEL PICTURE --debug.",
    )
    return Refused(source.path or Path(), why, source.sha256)


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


def _bytes_of(source: Source) -> int:
    return source.pixels.nbytes if isinstance(source, Picture) else 0
