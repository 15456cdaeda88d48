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
from enum import Enum
from functools import partial
from itertools import islice
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

BATCH = 16
"""Pictures that are claimed together, and settled together."""

_HELD_BYTES = 512 * 2**20
"""Decoded pixels that wait for the network before no further picture is begun, and likewise those in it."""

_IN_THE_NETWORK = max(64, 4 * (os.cpu_count() or 1))
"""Pictures that a judge is handed before it has judged the first of them, however many it would take."""

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
        """Judge decoded and refused pictures, in their order, drawing those of an iterator as needed."""
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
    judging = _Judging(judge)
    drawing = _Drawing(run, owner, _Ahead(pool), lambda: stop() or settling.failed())
    while not stop():
        settling.check()
        drawn = drawing.begin(judging)
        for judged in judging.judged(drawn):
            settling.add(judged)
        settling.end_batch()
        drawing.check()
        if not drawing.drawn:
            if not _patiently(run.progress, stop).left:
                return
            time.sleep(_WRITING if settling.busy() else _PATIENCE)


def _require_drive(batch: Sequence[tuple[Claim, Source]]) -> None:
    """Refuse to put everything aside where not the pictures are gone but what they lie on.

    Raises:
        JobError: Of the first pictures none is there, nor the folder of any.
    """
    if not batch:
        return
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


class _MixedUpError(RuntimeError):
    """A judge whose answers are not those to the questions: nothing that it says may be kept."""


class _Judging:
    """Judge pictures as they come; one that alone makes judging fail is put aside instead of ending the job.

    Attributes:
        works: Whether a picture was judged.
    """

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._inside: deque[tuple[Claim, Source]] = deque()
        self._held = 0
        self.works = False

    def full(self) -> bool:
        """Tell whether what is in the network has to come out before more goes in."""
        return self._held >= _HELD_BYTES or len(self._inside) >= _IN_THE_NETWORK

    def judged(self, drawn: Iterator[tuple[Claim, Source]]) -> Iterator[Judged]:
        """Yield pictures in their order as they are judged, a few behind those that are drawn."""
        try:
            for inspection in self._judge.inspect_many(self._entering(drawn)):
                yield self._leaving(inspection)
        except _MixedUpError:
            raise
        except Exception as error:
            if not self._inside:
                raise
            for inspection in self._one_by_one([source for _, source in self._inside], error):
                yield self._leaving(inspection)
        if self._inside:
            raise _MixedUpError(f"a judge that left out {len(self._inside)} pictures")

    def _entering(self, drawn: Iterator[tuple[Claim, Source]]) -> Iterator[Source]:
        for claim, source in drawn:
            self._inside.append((claim, source))
            self._held += _bytes_of(source)
            yield source

    def _leaving(self, inspection: Inspection) -> Judged:
        if not self._inside:
            raise _MixedUpError("a judge that said more than it was asked")
        claim, source = self._inside.popleft()
        if inspection.record.sha256 != source.sha256:
            raise _MixedUpError(f"a judge that was asked about {claim.path}, and spoke of another picture")
        self._held -= _bytes_of(source)
        self.works = True
        return claim, inspection, source

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


class _Drawing:
    """Draw decoded pictures for the network, and claim the next ones, until the network has to be emptied.

    That is where nothing is left to be claimed, where memory is full, where the job shall stop, and where
    something goes wrong here: what is in the network then is judged and settled first.

    Attributes:
        drawn: Pictures since `begin`.
    """

    def __init__(self, run: Queue, owner: str, ahead: _Ahead, stop: Callable[[], bool]) -> None:
        self._run = run
        self._owner = owner
        self._ahead = ahead
        self._stop = stop
        self._error: Exception | None = None
        self.drawn = 0

    def begin(self, judging: _Judging) -> Iterator[tuple[Claim, Source]]:
        """Draw until the network has to be emptied; ask `check` then whether something went wrong."""
        self.drawn = 0
        try:
            if not judging.works:
                self._claim()
                _require_drive(self._ahead.first())
            while not (judging.full() or self._stop()):
                self._claim()
                found = self._ahead.take()
                if found is None:
                    return
                self.drawn += 1
                yield found
        except Exception as error:  # not the judge's, in whose loop it would be raised
            self._error = error

    def check(self) -> None:
        """Raise what went wrong."""
        if self._error is not None:
            raise self._error

    def _claim(self) -> None:
        if self._ahead.short():
            self._ahead.add(_patiently(lambda: self._run.claim(self._owner, BATCH), self._stop))


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

    def first(self) -> list[tuple[Claim, Source]]:
        """Wait for the first batch, as far as it is begun, and leave it where it is."""
        return [(claim, future.result()) for claim, future in islice(self._begun, BATCH)]

    def take(self) -> tuple[Claim, Source] | None:
        """Return the next picture, decoded, or ``None`` where none is left."""
        if not self._begun:
            return None
        claim, future = self._begun.popleft()
        source = future.result()
        self._largest = max(self._largest, _bytes_of(source))
        self._begin()
        return claim, source

    def _begin(self) -> None:
        while self._claimed and (self._held() < _HELD_BYTES or not self._begun):
            claim = self._claimed.popleft()
            self._begun.append((claim, self._pool.decode(Path(claim.path))))

    def _held(self) -> int:
        """Return the bytes of what is decoded, and of what is being decoded, each as large as the largest."""
        return sum(_bytes_of(f.result()) if f.done() else self._largest for _, f in self._begun)


class _Mark(Enum):
    """What stands between pictures that are to be settled."""

    BATCH = "batch"
    END = "end"


class _Settling:
    """The thread that packs what was judged, as it comes, and writes it batch by batch, in its order."""

    def __init__(self, run: Queue, owner: str, artefacts: Artefacts, told: Told | None) -> None:
        self._run = run
        self._owner = owner
        self._artefacts = artefacts
        self._told = told
        # So many at most wait, and of large ones fewer: their pixels and heat maps do.
        self._waiting: queue.Queue[tuple[Judged, int] | _Mark] = queue.Queue(BATCH)
        self._held = 0
        self._settled_one = threading.Condition()
        self._error: BaseException | None = None
        self._told_at = 0.0
        self._files: dict[str, bytes] = {}
        self._settled: list[tuple[Claim, Record]] = []
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
        self._waiting.put(_Mark.END)
        self._thread.join()
        if self._error is not None and kind is None:
            raise self._error

    def add(self, judged: Judged) -> None:
        """Hand over a picture.

        Raises:
            Exception: Whatever went wrong with one before.
        """
        size = _bytes_of(judged[2]) + (0 if judged[1].heat_map is None else judged[1].heat_map.nbytes)
        with self._settled_one:
            self._settled_one.wait_for(lambda: self._held == 0 or self._held + size <= _HELD_BYTES)
            self._held += size
        self.check()
        self._waiting.put((judged, size))

    def end_batch(self) -> None:
        """Settle what was handed over, though it be few: the next picture may be long in coming."""
        self._waiting.put(_Mark.BATCH)

    def check(self) -> None:
        """Raise whatever went wrong."""
        if self._error is not None:
            raise self._error

    def failed(self) -> bool:
        """Tell whether something went wrong; `check` says what."""
        return self._error is not None

    def busy(self) -> bool:
        """Tell whether something is still to be written."""
        return self._waiting.unfinished_tasks > 0

    def _settle_all(self) -> None:
        while (given := self._waiting.get()) is not _Mark.END:
            if isinstance(given, _Mark):
                self._unless_failed(self._settle)
                self._waiting.task_done()
                continue
            judged, size = given
            self._unless_failed(partial(self._take, judged))
            # Its pixels are gone while the next one is waited for.
            del given, judged
            with self._settled_one:
                self._held -= size
                self._settled_one.notify_all()
            self._waiting.task_done()
        self._unless_failed(self._settle)
        self._waiting.task_done()

    def _unless_failed(self, step: Callable[[], None]) -> None:
        """Take a step; after an error no more, what waits is dropped and claimed once more."""
        if self._error is not None:
            return
        try:
            step()
        except BaseException as error:  # told to the thread that hands over
            self._error = error

    def _take(self, judged: Judged) -> None:
        claim, inspection, source = judged
        record = _record_of(self._run.run_id, claim, inspection)
        pixels = source.pixels if isinstance(source, Picture) else None
        self._files |= self._artefacts.pack(record, inspection.heat_map, pixels)
        self._settled.append((claim, record))
        if len(self._settled) == BATCH:
            self._settle()

    def _settle(self) -> None:
        files, settled = self._files, self._settled
        if not settled:
            return
        self._artefacts.keep(files)
        # To be repeated without harm: what was settled is no longer this owner's.
        _patiently(lambda: self._run.settle(self._owner, settled))
        self._files, self._settled = {}, []
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
