"""B1 and B3: what batch jobs promise when processes are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path

import numpy as np
from sqlalchemy import Connection, func, select

from differnet.detection import DensitySettings, Detector, DetectorSettings
from differnet.images.reading import encode_png
from differnet.records import Record, Region
from differnet.reporting.artefacts import Artefacts
from differnet.store import Asked, CalibrationEntry, ModelEntry, RunEntry, Store, schema
from differnet.store.queue import Progress, Queue, Wanted
from trust.finding import Finding

SIDE = 48
_GOOD = 24
# Figures that differ between two undisturbed runs as well.
_OF_THE_HOUR = ("run_id", "processed_at", "decode_ms", "inference_ms")


def killed_batch(size: int, seed: int, kills: int | None = None, lease: float = 30.0) -> Finding:
    """B1: a batch job whose process is killed again and again leaves what an undisturbed one does.

    Args:
        size: Pictures to inspect.
        seed: Of pictures and moments.
        kills: How often the job is ended by SIGKILL, at random moments; by default once in a hundred.
        lease: Seconds that claims hold.
    """
    started = time.perf_counter()
    rng = np.random.default_rng(seed)
    kills = size // 100 if kills is None else kills
    with tempfile.TemporaryDirectory(prefix="differnet-b1-") as name:
        place = Path(name)
        make_parts(place / "good", _GOOD, seed + 1)
        make_parts(place / "pictures", size, seed + 2)
        make_model(place / "good", place / "model", seed)
        calm = _Job(place, "calm", lease)
        began = time.perf_counter()
        calm.run_to_the_end()
        undisturbed = time.perf_counter() - began
        caught = Counter[str]()
        job = _Job(place, "killed", lease)
        # Spread over the job, some of them while it starts; a part of it is left when the last has come.
        share = 0.7 * undisturbed / (kills + 1)
        for _ in range(kills):
            caught[job.run_and_kill(float(rng.uniform(0, 2 * share)))] += 1
        job.run_to_the_end()
        lost, doubled, flipped, difference = compared(calm.records(), job.records())
        torn = job.torn_files()
        progress = job.progress()
    whole = not (lost or doubled or flipped or torn or progress.left or progress.quarantined)
    return Finding(
        id="B1",
        title="batch with random kill -9",
        size=size,
        figures={
            "kills": kills,
            "kills while it started": caught["starting"],
            "kills while it worked": caught["working"],
            "kills after its end": caught["ended"],
            "lost": lost,
            "kept twice": doubled,
            "torn files": torn,
            "verdicts that differ": flipped,
            "largest relative difference of a figure": difference,
        },
        passed=whole and difference <= 1e-4,
        seconds=time.perf_counter() - started,
    )


def shared_queue(
    size: int,
    seed: int,
    workers: int = 4,
    kills: int = 20,
    lease: float = 30.0,
    place: str | None = None,
) -> Finding:
    """B3: processes that share a queue claim nothing twice at a time, and take up what dead ones held.

    Every process writes down what it claimed and when, so that a claim that another still held shows.

    Args:
        size: Pictures in the queue.
        seed: Of the moments.
        workers: Processes at work at a time.
        kills: How many of them are ended by SIGKILL, and replaced.
        lease: Seconds that claims hold.
        place: An empty record; ``None`` for a SQLite file.
    """
    started = time.perf_counter()
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory(prefix="differnet-b3-") as name:
        where = place if place is not None else str(Path(name) / "record.db")
        store = Store.open(where)
        store.add_model(ModelEntry("m", "plate"))
        store.add_calibration(CalibrationEntry("m", "c", parts=99))
        run = RunEntry("shared", "plate", "m", "c", 1.3, 2.0)
        queue = Queue.begin(store, run, [Wanted(f"{n}.png") for n in range(size)])
        log = Path(name) / "claims"
        log.mkdir()
        words = ("queue_child", where, "shared", "8", str(lease), str(log))
        crew = [_child(*words) for _ in range(workers)]
        killed = 0
        for number in range(kills):
            due = size * (number + 1) // (kills + 1)
            while queue.progress().done < due and any(child.poll() is None for child in crew):
                time.sleep(0.02)
            time.sleep(float(rng.uniform(0, 0.05)))
            victim = int(rng.integers(workers))
            killed += crew[victim].poll() is None
            crew[victim].kill()
            crew[victim].wait()
            crew[victim] = _child(*words)
        ends = [child.wait() for child in crew]
        with store.engine.connect() as connection:
            kept, different, recovered = _counted(connection)
        progress = queue.progress()
        overlapping = _claimed_while_held(log, lease)
        settlers = len({r.reasons[0].split()[-1] for r in store.items(Asked(run_id="shared"))})
        store.close()
    return Finding(
        id="B3",
        title=f"{workers} processes, one queue",
        size=size,
        figures={
            "processes killed at work": killed,
            "processes that settled something": settlers,
            "kept": kept,
            "kept twice": kept - different,
            "left": progress.left,
            "claims of dead processes taken up": recovered,
            "claimed while another held it": overlapping,
            "processes that failed": sum(end != 0 for end in ends),
        },
        passed=kept == different == size == progress.done and not any(ends) and not overlapping,
        seconds=time.perf_counter() - started,
    )


def make_parts(folder: Path, count: int, seed: int) -> None:
    """Write pictures of a wavy plate, no two alike."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    for number in range(count):
        across, down, slanted = rng.uniform(0.05, 0.3, 3)
        waves = 60 * np.sin(across * x + down * y + rng.uniform(0, 6)) + 20 * np.sin(slanted * (x - y))
        grey = np.clip(127 + waves, 0, 255).astype(np.uint8)
        (folder / f"{number:06d}.png").write_bytes(encode_png(np.repeat(grey[..., None], 3, axis=2)))


def make_model(good: Path, folder: Path, seed: int) -> None:
    """Train a small detector, quickly: what is tested is what becomes of its verdicts."""
    density = DensitySettings(steps=10, couplings=0, hidden=8)
    settings = DetectorSettings(image_size=64, folds=2, device="cpu", density=density, seed=seed)
    Detector(settings).fit(sorted(good.iterdir())).calibrate().save(folder)


def compared(wanted: list[Record], found: list[Record]) -> tuple[int, int, int, float]:
    """Compare two runs of the same pictures.

    Returns:
        Pictures that are missing, pictures that stand more than once, records that differ in anything but
        their figures, and the largest relative difference of a figure.
    """
    theirs = Counter(record.path for record in found)
    lost = sum(theirs[record.path] == 0 for record in wanted)
    doubled = sum(count - 1 for count in theirs.values())
    by_path = {record.path: record for record in found}
    differing, largest = 0, 0.0
    for one in wanted:
        other = by_path.get(one.path)
        if other is None:
            continue
        same, difference = _alike(one, other)
        differing += not same
        largest = max(largest, difference)
    return lost, doubled, differing, largest


def _alike(one: Record | Region, other: Record | Region) -> tuple[bool, float]:
    same, largest = True, 0.0
    for field in fields(one):
        if field.name in _OF_THE_HOUR:
            continue
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, float) and isinstance(b, float):
            largest = max(largest, abs(a - b) / max(1.0, abs(a)))
        elif field.name == "regions":
            same &= len(a) == len(b)
            for ours, theirs in zip(a, b, strict=False):
                alike, difference = _alike(ours, theirs)
                same, largest = same and alike, max(largest, difference)
        elif field.name == "reasons":
            # They tell figures, rounded.
            same &= len(a) == len(b)
        else:
            same &= a == b
    return same, largest


@dataclass
class _Job:
    """A batch job as somebody would start it again after every crash."""

    place: Path
    name: str
    lease: float

    def run_to_the_end(self) -> None:
        child = self._start()
        if child.wait() != 0:
            raise RuntimeError(f"the job ended with exit code {child.returncode}")

    def run_and_kill(self, delay: float) -> str:
        """Start the job, kill it ``delay`` seconds after it began to work, and say what it was doing."""
        child = self._start()
        # Every eighth is killed while it starts.
        if delay * 1000 % 8 < 1:
            time.sleep(delay)
            phase = "starting"
        else:
            phase = "working" if _wait_until(lambda: self._claimed_by(child.pid), child) else "ended"
            time.sleep(delay)
        if child.poll() is not None:
            phase = "ended"
        child.send_signal(signal.SIGKILL)
        child.wait()
        return phase

    def records(self) -> list[Record]:
        store = self._store()
        try:
            return store.items(Asked(run_id=self.name))
        finally:
            store.close()

    def progress(self) -> Progress:
        store = self._store()
        try:
            return Queue(store, self.name).progress()
        finally:
            store.close()

    def torn_files(self) -> int:
        """Count records whose heat map or preview is missing or damaged."""
        shown = Artefacts(self.place / self.name)
        return sum(shown.heat_map(r) is None or shown.preview(r) is None for r in self.records())

    def _store(self) -> Store:
        return Store.open(self.place / f"{self.name}.db")

    def _start(self) -> subprocess.Popen[bytes]:
        place = self.place
        return _child(
            *("batch_child", str(place / f"{self.name}.db"), self.name),
            *(str(place / "model"), str(place / "pictures"), str(place / self.name), str(self.lease)),
        )

    def _claimed_by(self, pid: int) -> bool:
        if not (self.place / f"{self.name}.db").exists():
            return False
        store = self._store()
        try:
            with store.engine.connect() as connection:
                mine = schema.queue.c.owner.like(f"%:{pid}:%")
                return connection.execute(select(schema.queue.c.id).where(mine).limit(1)).first() is not None
        finally:
            store.close()


def _wait_until(done: Callable[[], bool], child: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and child.poll() is None:
        if done():
            return True
        time.sleep(0.05)
    return False


def _child(module: str, *words: str) -> subprocess.Popen[bytes]:
    tests = str(Path(__file__).parents[1])
    known = os.pathsep.join([tests, str(Path(tests).parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": known, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-m", f"trust.{module}", *words], env=environment)


def _claimed_while_held(log: Path, lease: float) -> int:
    """Count claims that were made although an earlier one of the same picture had not ended.

    A claim is made between the asking for it and the hearing of it, and holds for the lease from then on.
    """
    claimed: dict[str, list[tuple[float, float]]] = {}
    for file in log.iterdir():
        for line in file.read_text("utf-8").splitlines():
            words = line.split()
            # The last line of a process that was killed may be cut short.
            if len(words) == 3:
                claimed.setdefault(words[0], []).append((float(words[1]), float(words[2])))
    overlapping = 0
    for times in claimed.values():
        times.sort()
        for (asked, _), (_, heard) in pairwise(times):
            overlapping += heard < asked + lease
    return overlapping


def _counted(connection: Connection) -> tuple[int, int, int]:
    items, queue = schema.items.c, schema.queue.c
    kept, different = connection.execute(
        select(func.count(), func.count(items.path.distinct())).where(items.run_id == "shared")
    ).one()
    recovered = connection.execute(select(func.count()).where(queue.claims > 1)).scalar_one()
    return int(kept), int(different), int(recovered)
