"""How far a task is: told by the function that does it, written to the record by a thread of its own.

Work is never held up by the record: what is told stays in memory, and once a second the thread writes what
has changed, and hears whether the task shall end.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from differnet.store import StoreError
from differnet.store.tasks import Tasks

if TYPE_CHECKING:
    from differnet.detection.densities import TrainingLoss

_TELLING = 1.0
"""Seconds between two looks at what has changed."""

_BEAT = 5.0
"""Seconds after which the record hears that the process is there, though nothing has changed."""

_RECENT = 30.0
"""Seconds over which the pace of a stage is measured: it says what is left more truly than its whole past."""

_SETTLED = 2.0
"""Seconds of a stage before its pace is worth telling."""


class StoppedError(Exception):
    """Ends the work on a task at its next step, since somebody wants that.

    Args:
        reason: Who or what wants it.
    """


class Course:
    """The course of one task, used in a ``with`` statement; call it at every step.

    Args:
        tasks: Where it is kept.
        task_id, owner: Which task, and by whom it was taken.
        ended: Set when the process is asked to end.
        clock: Seconds.
    """

    def __init__(
        self,
        tasks: Tasks,
        task_id: str,
        owner: str,
        ended: threading.Event | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tasks, self._task_id, self._owner = tasks, task_id, owner
        self._ended = ended or threading.Event()
        self._clock = clock
        self._lock = threading.Lock()
        self._changed = False
        self._asked = False
        self._stage = ""
        self._done, self._total = 0, 0
        self._began = clock()
        self._pace: deque[tuple[float, int]] = deque()
        self._passed: list[dict[str, Any]] = []
        self._facts: dict[str, Any] = {}
        self._losses: dict[tuple[str, str, bool], dict[str, Any]] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="course", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._write()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Tell how far a stage is, and end here where somebody wants an end.

        Args:
            stage: In words; a new one ends the one before.
            done: Steps that are done.
            total: Steps in all.

        Raises:
            StoppedError: Somebody wants it to end.
        """
        self.tell(stage, done, total)
        self.check()

    def tell(self, stage: str, done: int, total: int) -> None:
        """Tell how far a stage is; from any thread."""
        now = self._clock()
        with self._lock:
            if stage != self._stage:
                if self._stage:
                    self._passed.append({"stage": self._stage, "seconds": round(now - self._began, 1)})
                self._stage, self._began = stage, now
                self._pace.clear()
            self._done, self._total, self._changed = done, total, True
            if not self._pace or now - self._pace[-1][0] >= _TELLING:
                self._pace.append((now, done))
            while len(self._pace) > 2 and now - self._pace[1][0] > _RECENT:
                self._pace.popleft()

    def named(self, stage: str) -> Callable[[int, int], None]:
        """Fix the stage, for callers that only count."""
        return lambda done, total: self(stage, done, total)

    def loss(self, loss: TrainingLoss) -> None:
        """Tell the loss of a training, and end here where somebody wants an end.

        Raises:
            StoppedError: Somebody wants it to end.
        """
        key = (loss.member, loss.density, loss.trial)
        with self._lock:
            curve = self._losses.setdefault(
                key,
                {
                    "member": loss.member,
                    "density": loss.density,
                    "trial": loss.trial,
                    "steps": loss.steps,
                    "points": [],
                },
            )
            held_out = None if loss.held_out is None else round(loss.held_out, 4)
            curve["points"].append([loss.step, round(loss.training, 4), held_out])
            self._changed = True
        self.check()

    def note(self, **facts: Any) -> None:
        """Tell what else is known while the task runs, JSON-able."""
        with self._lock:
            self._facts |= facts
            self._changed = True

    def stopping(self) -> bool:
        """Tell whether somebody wants it to end."""
        return self._asked or self._ended.is_set()

    def check(self) -> None:
        """End here where somebody wants an end.

        Raises:
            StoppedError: Somebody does.
        """
        if self.stopping():
            raise StoppedError(self.why_stopped())

    def why_stopped(self) -> str:
        """Say who or what wants it to end."""
        return "somebody stopped it" if self._asked else "its process was asked to end"

    def progress(self) -> dict[str, Any]:
        """Return how far it is, as the record keeps it.

        ``stage``, ``done`` and ``total`` of what is being done, with the ``seconds`` that it has taken and
        those that are ``left`` of it at its recent pace (``None`` while nobody can say); ``passed``, the
        stages before; ``losses``, a curve for each training, with points of step, loss of training, and loss
        of held-out parts or ``None``.
        """
        now = self._clock()
        with self._lock:
            return {
                **self._facts,
                "stage": self._stage,
                "done": self._done,
                "total": self._total,
                "seconds": round(now - self._began, 1),
                "left": self._left(now),
                "passed": list(self._passed),
                "losses": [curve | {"points": list(curve["points"])} for curve in self._losses.values()],
            }

    def _left(self, now: float) -> float | None:
        if len(self._pace) < 2 or now - self._began < _SETTLED:
            return None
        (earlier, before), (later, after) = self._pace[0], self._pace[-1]
        if after <= before:
            return None
        pace = (after - before) / (later - earlier)
        return round(max(0.0, (self._total - after) / pace - (now - later)), 1)

    def _beat(self) -> None:
        told_at = self._clock()
        while not self._over.wait(_TELLING):
            if self._changed or self._clock() - told_at >= _BEAT:
                self._write()
                told_at = self._clock()

    def _write(self) -> None:
        changed, self._changed = self._changed, False
        try:
            told = self.progress() if changed else None
            self._asked = self._tasks.tell(self._task_id, self._owner, told) or self._asked
        except StoreError:
            # It is told again with the next beat; after many without one the task counts as lost.
            self._changed = changed or self._changed
