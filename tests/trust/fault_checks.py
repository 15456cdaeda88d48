"""B2: what batch jobs promise when the disk, the system or the record refuses a step."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np

from differnet.cli.exits import ExitCode
from differnet.records import Record, Verdict
from differnet.reporting.artefacts import FOLDERS, Artefacts
from differnet.store import Asked, Store, check, connect, schema
from differnet.store.connecting import writing
from differnet.store.queue import Queue
from differnet.store.upgrading import form
from trust.batch_checks import compared, make_model, make_parts
from trust.faults import ERRORS, KINDS
from trust.finding import Finding

_RUN = "line"
_GOOD = 24
_NEVER = 10**9


def failing_steps(size: int, seed: int = 0, items: int = 10) -> Finding:
    """B2: whatever step of a batch job is refused, it says so, and the next one goes on to the same table.

    The program itself runs, as ``differnet batch run``, and once more after each error.

    Args:
        size: Jobs in all. Of one step or more each is made to fail, over all kinds of step and error; but
            for three in sixteen, to which the system itself refuses large files, open files, or room.
        seed: Of pictures, and of which steps.
        items: Pictures of each job.
    """
    limits = max(1, size // 16)
    injections = size - 3 * limits
    started = time.perf_counter()
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory(prefix="differnet-b2-") as name, _Program() as program:
        place = Path(name)
        make_parts(place / "good", _GOOD, seed + 1)
        make_parts(place / "pictures", items, seed + 2)
        make_model(place / "good", place / "model", seed)
        trial = _Trial(place, program)
        largest = trial.disturb_nothing()
        for kind, step, number, onwards in _chosen(trial.steps, injections, rng):
            fault = {"kind": kind, "step": step, "number": number, "onwards": onwards}
            trial.disturb(kind, faults=[fault])
        for most in np.linspace(0, largest, limits, endpoint=False, dtype=int):
            trial.disturb("size of files", limits={"file bytes": int(most)})
        for most in range(8, 8 + limits):
            trial.disturb("open files", limits={"open files": most})
        for number in range(limits):
            # Pages of 4 KiB: of the folder a few, of the record up to what it takes.
            with small_disk(place / f"disk-{number}") as disk:
                if disk is not None:
                    disk.resize(4 + number if number % 2 else max(4, int(largest / 4096 * number / limits)))
                    trial.disturb("full disk", disk=disk, record_there=number % 2 == 0)
        caught = trial.caught
    return Finding(
        id="B2",
        title="every step of a batch job refused",
        size=sum(trial.kinds.values()),
        figures={
            "steps refused": sum(trial.kinds[kind] for kind in KINDS),
            **{f"real: {kind}": trial.kinds[kind] for kind in ("size of files", "open files", "full disk")},
            "ended in a typed error": caught["typed"],
            "of these called a damaged model": caught["model blamed"],
            "went on without the step": caught["went on"],
            "ended in another error": caught["untyped"],
            "no message of three lines": caught["unsaid"],
            "records damaged": caught["damaged"],
            "records without readable files": caught["torn"],
            "half files under a final name": caught["half"],
            "drafts left behind": caught["drafts"],
            "not finished the next time": caught["not resumed"],
            "tables that differ afterwards": caught["different"],
            "examples of what went wrong": "\n".join(trial.examples[:5]),
        },
        passed=not any(caught[bad] for bad in _BAD) and caught["typed"] > 0,
        seconds=time.perf_counter() - started,
    )


# The error that cuts off reading a model's files is told as that of the model.
_CODES = (ExitCode.ERROR, ExitCode.VERIFICATION, ExitCode.TRY_AGAIN)
_BAD = ("untyped", "unsaid", "damaged", "torn", "half", "drafts", "not resumed", "different")


def _chosen(
    steps: dict[str, int], injections: int, rng: np.random.Generator
) -> Iterator[tuple[str, int, int, bool]]:
    """Choose steps of every kind in turn, without repeating one, and errors in turn."""
    waiting = {kind: list(rng.permutation(count)) for kind, count in steps.items()}
    number = 0
    while number < injections and any(waiting.values()):
        for kind in [kind for kind, left in waiting.items() if left][: injections - number]:
            # Half of them as on a disk that stays full.
            yield kind, int(waiting[kind].pop()), ERRORS[number % len(ERRORS)], bool(rng.integers(2))
            number += 1


class _Program:
    """The command line, in a process that forks for every command."""

    def __enter__(self) -> Self:
        tests = str(Path(__file__).parents[1])
        known = os.pathsep.join([tests, str(Path(tests).parent), os.environ.get("PYTHONPATH", "")])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "trust.fault_child"],
            env={**os.environ, "PYTHONPATH": known, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()

    def run(self, **asked: Any) -> dict[str, Any]:
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the program has no pipes")
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        told: dict[str, Any] = json.loads(self._process.stdout.readline())
        return told


@dataclass
class _Trial:
    """Jobs of the same pictures, each disturbed in its own way, against one that was not."""

    place: Path
    program: _Program
    steps: dict[str, int] = field(default_factory=dict)
    kinds: Counter[str] = field(default_factory=Counter)
    caught: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    wanted: list[Record] = field(default_factory=list)

    def disturb_nothing(self) -> int:
        """Run a job that nothing disturbs, count its steps, and return the size of its record."""
        job = self.place / "job"
        job.mkdir()
        faults = [{"kind": kind, "step": _NEVER, "number": 0, "below": str(job)} for kind in KINDS]
        told = self.program.run(command=self._command(job, job), faults=faults)
        if told["code"] != 0:
            raise RuntimeError(f"an undisturbed job failed: {told}")
        self.steps = dict(zip(KINDS, told["steps"], strict=True))
        if not all(self.steps.values()):
            raise RuntimeError(f"a kind of step never happened: {self.steps}")
        self.wanted = self._records(job / "record.db")
        size = (job / "record.db").stat().st_size
        shutil.rmtree(job)
        return size

    def disturb(
        self, kind: str, disk: Disk | None = None, *, record_there: bool = False, **asked: Any
    ) -> None:
        """Run a job with something that is refused, look at what it left, and run it once more."""
        job = self.place / "job"
        job.mkdir()
        home = disk.place if disk is not None else job
        record = home if record_there or disk is None else job
        folder = job if record_there or disk is None else home
        command = self._command(record, folder)
        faults = [fault | {"below": str(job)} for fault in asked.pop("faults", [])]
        told = self.program.run(command=command, faults=faults, **asked)
        self.kinds[kind] += 1
        before = Counter(self.caught)
        self._look_at_words(told)
        if disk is not None:
            # On a full disk SQLite cannot even open what is whole.
            disk.resize(16384)
        self._look_at_files(record / "record.db", folder / "run")
        self._end_claims(record / "record.db")
        again = self.program.run(command=command)
        found = self._records(record / "record.db") if again["code"] == 0 else []
        self.caught["not resumed"] += again["code"] != 0
        lost, doubled, differing, largest = compared(self.wanted, found)
        self.caught["different"] += bool(lost or doubled or differing or largest > 1e-4)
        self._look_at_files(record / "record.db", folder / "run")
        grown = {bad: self.caught[bad] - before[bad] for bad in _BAD if self.caught[bad] > before[bad]}
        if grown:
            self.examples.append(f"{kind} {faults} {asked}: {grown}; {told}; then {again}"[:1000])
        shutil.rmtree(job)

    def _command(self, record: Path, folder: Path) -> list[str]:
        return [
            *("batch", "run", str(self.place / "model"), str(self.place / "pictures"), "--name", _RUN),
            *("--out", str(folder / "run"), "--db", str(record / "record.db"), "--device", "cpu"),
        ]

    def _look_at_words(self, told: dict[str, Any]) -> None:
        if told["code"] == 0:
            self.caught["went on"] += 1
            return
        typed = told.get("error", [])[1:2] == ["DiffernetError"] and told["code"] in _CODES
        self.caught["typed" if typed else "untyped"] += 1
        self.caught["model blamed"] += told["code"] == ExitCode.VERIFICATION
        heads = [line.split(":")[0] for line in told["said"].splitlines()]
        self.caught["unsaid"] += heads.count("found") != 1 or "do this" not in heads or "Traceback" in heads

    def _look_at_files(self, record: Path, folder: Path) -> None:
        damaged, records = _checked(record)
        self.caught["damaged"] += damaged
        shown = Artefacts(folder)
        self.caught["torn"] += sum(shown.heat_map(r) is None or shown.preview(r) is None for r in records)
        for path in (path for name in FOLDERS for path in folder.glob(f"{name}/*")):
            if path.name.startswith("."):
                self.caught["drafts"] += 1
            elif path.suffix == ".npz":
                self.caught["half"] += _heat_map_at(shown, path) is None
            else:
                pixels = np.frombuffer(path.read_bytes(), np.uint8)
                self.caught["half"] += not pixels.size or cv2.imdecode(pixels, cv2.IMREAD_COLOR) is None

    def _records(self, record: Path) -> list[Record]:
        store = Store.open(record)
        try:
            progress = Queue(store, _RUN).progress()
            self.caught["not resumed"] += bool(progress.left or progress.quarantined)
            return store.items(Asked(run_id=_RUN))
        finally:
            store.close()

    def _end_claims(self, record: Path) -> None:
        """End claims that could not be given back, as if their time had passed."""
        if not _has_form(record):
            return
        engine = connect(record)
        with writing(engine).begin() as connection:
            lapsed = schema.queue.update().where(schema.queue.c.state == "leased")
            connection.execute(lapsed.values(leased_until="2000"))
        engine.dispose()


def _heat_map_at(shown: Artefacts, path: Path) -> Any:
    named = Record(_RUN, path.stem, "", "", "", "", Verdict.PASS, (), heat_map_path=f"heat_maps/{path.name}")
    return shown.heat_map(named)


def _has_form(record: Path) -> bool:
    if not record.exists():
        return False
    engine = connect(record)
    try:
        with engine.connect() as connection:
            return form(connection) is not None
    finally:
        engine.dispose()


def _checked(record: Path) -> tuple[bool, list[Record]]:
    """Tell whether a record is damaged, and return what it holds; one that was never made is sound."""
    if not _has_form(record):
        return False, []
    store = Store.open(record)
    try:
        return bool(check(store.engine)), store.items(Asked(run_id=_RUN))
    finally:
        store.close()


@dataclass
class Disk:
    """A disk of its own, in memory: `small_disk`."""

    place: Path

    def resize(self, pages: int) -> None:
        size = f"remount,size={pages * 4}k"
        subprocess.run(["mount", "-o", size, str(self.place)], check=True, capture_output=True)


@contextmanager
def small_disk(place: Path) -> Iterator[Disk | None]:
    """Mount a disk, or say that this may not be done here."""
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(words, check=False, capture_output=True).returncode:
        yield None
        return
    try:
        yield Disk(place)
    finally:
        subprocess.run(["umount", str(place)], check=True, capture_output=True)
