"""How fast the record answers when it holds a million inspected parts.

    python benchmarks/record.py                 SQLite, a million items: reports/record.json
    python benchmarks/record.py --items 50000   fewer
    python benchmarks/record.py --db URL        an empty PostgreSQL database instead of a file
    python benchmarks/record.py --costs         also what every index costs

The record is filled with made-up items of 200 runs (seed 7), a tenth of them with regions. Then every
question that a page, a report or a command asks is put several times, on a warm file.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Engine, event, text

from differnet.records import Record, Verdict
from differnet.store import (
    Asked,
    CalibrationEntry,
    ModelEntry,
    RevisionEntry,
    RunEntry,
    Store,
    schema,
)
from differnet.store.connecting import writing
from differnet.store.queue import Queue, Wanted, item_id_of

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "reports"

SEED = 7
RUNS = 200
PRODUCTS = ("flange", "gear", "plate", "ring")
REVISIONS = 5
REVIEWED_SHARE = 1 / 250
_CHUNK = 10_000
_FIRST = datetime(2026, 1, 1, tzinfo=UTC)
_VERDICTS = ("PASS", "REVIEW", "DEFECT", "OOD", "INVALID")
_SHARES = (0.92, 0.04, 0.02, 0.01, 0.01)
_LABELS = ("good", "scratch", "dent", None)
_LABEL_SHARES = (0.5, 0.02, 0.02, 0.46)

REPETITIONS = 7
# A question that takes longer than this is put three times only.
_LONG = 2.0


def fill(store: Store, items: int, seed: int = SEED) -> float:
    """Fill an empty record, and return how many items a second went in, in bulk."""
    rng = np.random.default_rng(seed)
    for product in PRODUCTS:
        store.add_model(ModelEntry(f"m-{product}", product, f"models/{product}"))
        store.add_calibration(CalibrationEntry(f"m-{product}", "c", parts=400))
        for number in range(1, REVISIONS + 1):
            made = RevisionEntry(f"m-{product}", "c", number, 1.3, 2.0 + number / 100, "Ada", "fewer escapes")
            store.add_revision(made)
    each = items // RUNS
    # Half a year of shifts.
    shift = timedelta(days=182) / RUNS
    started = time.perf_counter()
    first = 1
    for number in range(RUNS):
        begun = _FIRST + number * shift
        run = _run(number, begun)
        row = {**vars(run), "facts": "{}", "started_at": _text(begun), "finished_at": _text(begun + shift)}
        with writing(store.engine).begin() as connection:
            connection.execute(schema.runs.insert().values(row))
            for start in range(0, each, _CHUNK):
                count = min(_CHUNK, each - start)
                rows = list(_items(rng, run, number, begun, shift / each, start, count, first))
                connection.execute(schema.items.insert(), rows)
                connection.execute(schema.queue.insert(), [_done(item) for item in rows])
                regions = [region for item in rows[::10] for region in _regions(item["id"], rng)]
                connection.execute(schema.regions.insert(), regions)
                first += count
    speed = (first - 1) / (time.perf_counter() - started)
    with writing(store.engine).begin() as connection:
        reviewed = rng.choice(first - 1, int(items * REVIEWED_SHARE), replace=False) + 1
        connection.execute(schema.reviews.insert(), list(_reviews(reviewed, rng)))
        facts = json.dumps({"was": "INVALID"})
        noted = {
            "made_at": _text(_FIRST),
            "actor": "Ada",
            "action": "retried",
            "subject": "r",
            "facts": facts,
        }
        connection.execute(schema.audit.insert(), [noted] * 5000)
    with store.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        if store.engine.dialect.name == "postgresql":
            connection.execute(text("SELECT setval('items_id_seq', (SELECT max(id) FROM items))"))
            connection.execute(text("VACUUM ANALYZE"))
        else:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    working = RunEntry(
        "working", "flange", "m-flange", "c", 1.3, 2.0, 1, started_at=_text(_FIRST + 182 * shift)
    )
    Queue.begin(store, working, [Wanted(f"new/{n}.png") for n in range(max(100, items // 50))])
    return speed


def _run(number: int, begun: datetime) -> RunEntry:
    product = PRODUCTS[number % len(PRODUCTS)]
    revision = number * (REVISIONS + 1) // RUNS
    return RunEntry(f"run-{number:03}", product, f"m-{product}", "c", 1.3, 2.0, revision, "line 1", "runs/x")


def _text(time_: datetime) -> str:
    return time_.isoformat(timespec="milliseconds")


def _items(
    rng: np.random.Generator,
    run: RunEntry,
    number: int,
    begun: datetime,
    step: timedelta,
    start: int,
    count: int,
    first: int,
) -> Iterator[dict[str, Any]]:
    verdicts = rng.choice(len(_VERDICTS), count, p=_SHARES)
    labels = rng.choice(len(_LABELS), count, p=_LABEL_SHARES)
    strangeness = rng.exponential(0.45, count)
    for i in range(count):
        place = start + i
        path = f"/pictures/line-1/run-{number:03}/{place:06}.png"
        verdict = _VERDICTS[verdicts[i]]
        judged = verdict != "INVALID"
        strange = float(strangeness[i]) + {"DEFECT": 2.0, "REVIEW": 1.3, "OOD": 3.0}.get(verdict, 0.0)
        yield {
            "id": first + i,
            "run_id": run.run_id,
            "item_id": item_id_of(path),
            "number": place,
            "part_id": f"part-{number}-{place // 2}",
            "view_id": "",
            "path": path,
            "sha256": hashlib.sha256(path.encode()).hexdigest(),
            "verdict": verdict,
            "reasons": json.dumps(["as probable as good parts: p = 0.31"]),
            "label": _LABELS[labels[i]],
            "product": run.product,
            "captured_at": None,
            "processed_at": _text(begun + place * step),
            **dict.fromkeys(
                (
                    *("nll_global", "nll_local", "typicality_global", "typicality_local", "p_value_ood"),
                    *("bits_per_dim_global", "bits_per_dim_local", "strangeness"),
                    *("p_value", "p_value_global", "p_value_local"),
                ),
                strange if judged else None,
            ),
            "t_review": run.t_review,
            "t_defect": run.t_defect,
            "threshold_revision": run.threshold_revision,
            "heat_map_path": f"heat_maps/{place}.npz",
            "model_id": run.model_id,
            "calibration_id": run.calibration_id,
            "backend": "torch",
            "precision": "float32",
            "device": "cpu",
            "decode_ms": 4.5,
            "inference_ms": 31.25,
            "width": 2048,
            "height": 1536,
            "bit_depth": 8,
            "quality_flags": "[]",
        }


def _done(item: dict[str, Any]) -> dict[str, Any]:
    kept = {name: item[name] for name in ("run_id", "number", "path", "label")}
    state = "quarantined" if item["verdict"] == "INVALID" else "done"
    return {**kept, "state": state, "claims": 1, "reason": ""}


def _regions(item: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    places = rng.integers(0, 1500, (2, 2)).tolist()
    fixed = {"width": 40, "height": 30, "area": 900, "peak": 5.5, "p_value": 0.01}
    return [{"item": item, "number": n, "x": x, "y": y, **fixed} for n, (x, y) in enumerate(places)]


def _reviews(items: Any, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    for item in items.tolist():
        for _ in range(int(rng.integers(1, 3))):
            judgement = ("good", "defect", "unsure")[int(rng.integers(3))]
            kind = "scratch" if judgement == "defect" else ""
            fixed = {"kind": kind, "author": "Ada", "note": "", "made_at": _text(_FIRST)}
            yield {"item": item, "judgement": judgement, **fixed}


def questions(store: Store, items: int) -> dict[str, Callable[[], Any]]:
    """Return every question that a page, a report or a command asks of the record."""
    run = "run-120"
    product = _run(120, _FIRST).product
    day = Asked(since="2026-04-20", until="2026-04-21")
    force = Asked(model_id=f"m-{product}", calibration_id="c", revision=3)
    of_run, everything = Asked(run_id=run), Asked()
    defects = (Verdict.DEFECT,)
    month = Asked(product=product, since="2026-03-21", until="2026-04-20")
    invalid = Asked(product=product, verdicts=(Verdict.INVALID,))
    queue, finished = Queue(store, "working"), Queue(store, run)
    item = store.items(of_run, limit=1)[0]
    deep = items * 9 // 10

    def step() -> int:
        claims = queue.claim("measured", 8)
        return len(queue.settle("measured", [(claim, _record(claim.path)) for claim in claims]))

    return {
        "latest runs": lambda: store.runs(),
        "latest runs of a product": lambda: store.runs(product),
        "one run": lambda: store.run(run),
        "run: first page": lambda: store.items(of_run, "kept", 50),
        "run: last page": lambda: store.items(of_run, "kept", 50, items // RUNS - 50),
        "run: strangest": lambda: store.items(of_run, "strangest", 50),
        "run: strangest, last page": lambda: store.items(of_run, "strangest", 50, items // RUNS - 50),
        "run: latest": lambda: store.items(of_run, "latest", 50),
        "run: defects, strangest": lambda: store.items(Asked(run_id=run, verdicts=defects), "strangest", 50),
        "run: all records": lambda: store.items(of_run),
        "run: counts": lambda: store.verdict_counts(of_run),
        "run: counts by label": lambda: store.counts_by_label(of_run),
        "run: flips": lambda: store.flips(of_run, 1.0, 1.8),
        "run: reviewed": lambda: store.reviewed(of_run),
        "all: latest": lambda: store.items(everything, "latest", 50),
        "all: strangest": lambda: store.items(everything, "strangest", 50),
        "all: strangest, page 2,000": lambda: store.items(everything, "strangest", 50, min(deep, 100_000)),
        "all: defects, latest": lambda: store.items(Asked(verdicts=defects), "latest", 50),
        "all: defects, strangest": lambda: store.items(Asked(verdicts=defects), "strangest", 50),
        "all: of a label, latest": lambda: store.items(Asked(label="scratch"), "latest", 50),
        "all: counts": lambda: store.verdict_counts(everything),
        "all: counts by label": lambda: store.counts_by_label(everything),
        "all: flips": lambda: store.flips(everything, 1.0, 1.8),
        "all: reviewed": lambda: store.reviewed(everything),
        "product: latest": lambda: store.items(Asked(product=product), "latest", 50),
        "product: strangest": lambda: store.items(Asked(product=product), "strangest", 50),
        "product: defects, latest": lambda: store.items(
            Asked(product=product, verdicts=defects), "latest", 50
        ),
        "product: counts": lambda: store.verdict_counts(Asked(product=product)),
        "product: counts by label": lambda: store.counts_by_label(Asked(product=product)),
        "product: flips": lambda: store.flips(Asked(product=product), 1.0, 1.8),
        "product: reviewed": lambda: store.reviewed(Asked(product=product)),
        "day: latest": lambda: store.items(day, "latest", 50),
        "day: strangest": lambda: store.items(day, "strangest", 50),
        "day: counts": lambda: store.verdict_counts(day),
        "day: counts by label": lambda: store.counts_by_label(day),
        "revision: latest": lambda: store.items(force, "latest", 50),
        "revision: strangest": lambda: store.items(force, "strangest", 50),
        "revision: counts": lambda: store.verdict_counts(force),
        "part: all": lambda: store.items(Asked(part_id=item.part_id)),
        "picture: all": lambda: store.items(Asked(sha256=item.sha256)),
        "item: reviews": lambda: store.reviews(run, item.item_id),
        "latest 20 runs: counts": lambda: store.counts_by_run(
            [entry.run_id for entry in store.runs(limit=20)]
        ),
        "all: counts by day": lambda: store.counts_by_time(everything, 10),
        "product: counts by day": lambda: store.counts_by_time(Asked(product=product), 10),
        "product: counts by hour of 30 days": lambda: store.counts_by_time(month, 13),
        "product: counts by last words": lambda: store.counts_by_judgement(Asked(product=product)),
        "product: counts by last words of 30 days": lambda: store.counts_by_judgement(month),
        "product: reasons of INVALID": lambda: store.counts_by_reasons(invalid),
        "product: times of the latest 10,000": lambda: store.times(Asked(product=product), 10_000),
        "products": lambda: store.products(),
        "run before one": lambda: store.runs(product, 1, before="2026-04-20"),
        "any change": lambda: store.changes(),
        "how many of everything": lambda: store.sizes(),
        "audit trail": lambda: store.audit(),
        "job: progress": queue.progress,
        "job: progress of one that is finished": finished.progress,
        "job: put aside": finished.quarantined,
        "job: claim and settle 8": step,
    }


def _record(path: str) -> Record:
    """Return a record of the run that is at work."""
    return Record(
        run_id="working",
        item_id=item_id_of(path),
        part_id=path,
        view_id="",
        path=path,
        sha256=hashlib.sha256(path.encode()).hexdigest(),
        verdict=Verdict.PASS,
        reasons=("as probable as good parts",),
        label="good",
        product="flange",
        strangeness=0.5,
        t_review=1.3,
        t_defect=2.0,
        threshold_revision=1,
        model_id="m-flange",
        calibration_id="c",
    )


def measure(store: Store, items: int, told: Callable[[str], None] = print) -> dict[str, dict[str, Any]]:
    """Put every question several times.

    Returns:
        Of each its median and worst time in milliseconds, and what its plan reads from end to end.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, ask in questions(store, items).items():
        with _Statements(store.engine) as statements:
            started = time.perf_counter()
            ask()
            took = time.perf_counter() - started
        times = []
        for _ in range(REPETITIONS if took < _LONG else 3):
            started = time.perf_counter()
            ask()
            times.append(1000 * (time.perf_counter() - started))
        found[name] = {
            "median_ms": round(float(np.median(times)), 2),
            "worst_ms": round(max(times), 2),
            "plan": plans(store.engine, statements.seen),
        }
        told(f"{name:40} {found[name]['median_ms']:10.1f} ms  {'; '.join(found[name]['plan'])}")
    return found


class _Statements:
    """Listens to what is asked of an engine."""

    def __init__(self, engine: Engine) -> None:
        self.seen: list[tuple[str, Any]] = []
        self._engine = engine

    def __enter__(self) -> _Statements:
        event.listen(self._engine, "before_cursor_execute", self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        event.remove(self._engine, "before_cursor_execute", self._hear)

    def _hear(self, _: Any, __: Any, statement: str, parameters: Any, ___: Any, many: bool) -> None:
        if statement.startswith("SELECT") and not many:
            self.seen.append((statement, parameters))


def plans(engine: Engine, statements: list[tuple[str, Any]]) -> list[str]:
    """Return which tables are read from end to end, and what is sorted, by the engine's own plans."""
    words: dict[str, None] = {}
    with engine.connect() as connection:
        for statement, parameters in statements:
            if "FROM regions" in statement:
                # Of a page's items, by its key.
                continue
            if engine.dialect.name == "sqlite":
                rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
                lines = [str(row[-1]) for row in rows]
                kept = [line for line in lines if line.startswith(("SCAN", "USE TEMP"))]
            else:
                rows = connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)
                kept = [line.split("(")[0].strip(" ->") for (line,) in rows if "Seq Scan" in line]
            words |= dict.fromkeys(kept)
    return list(words)


def costs(store: Store, names: list[str], count: int = 4000) -> dict[str, dict[str, float]]:
    """Drop each index and make it again: what it takes on the disk, and of the time of keeping items.

    Args:
        store: Filled.
        names: Of indexes of the items.
        count: Items that are kept with it, and as many without.
    """
    found: dict[str, dict[str, float]] = {}
    indexes = {str(index.name): index for index in schema.items.indexes if str(index.name) in names}
    for number, (name, index) in enumerate(indexes.items()):
        with_it = _speed(store, f"with-{number}", count)
        with writing(store.engine).begin() as connection:
            index.drop(connection)
        without = _speed(store, f"without-{number}", count)
        before = _bytes(store)
        started = time.perf_counter()
        with writing(store.engine).begin() as connection:
            index.create(connection)
        found[name] = {
            "mebibytes": round((_bytes(store) - before) / 2**20, 3),
            "made_in_s": round(time.perf_counter() - started, 2),
            "items_a_second_with": round(with_it),
            "items_a_second_without": round(without),
        }
    return found


def _speed(store: Store, run_id: str, count: int) -> float:
    store.begin_run(RunEntry(run_id, "flange", "m-flange", "c", 1.3, 2.0, 1))
    paths = [f"{run_id}/{n}.png" for n in range(count)]
    started = time.perf_counter()
    for start in range(0, count, 8):
        records = [_record(path) for path in paths[start : start + 8]]
        store.add_items([type(r)(**{**vars(r), "run_id": run_id}) for r in records])
    return count / (time.perf_counter() - started)


def _bytes(store: Store) -> int:
    with store.engine.connect() as connection:
        if store.engine.dialect.name != "sqlite":
            size = connection.exec_driver_sql("SELECT pg_database_size(current_database())")
            return int(size.scalar_one())
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        free = connection.exec_driver_sql("PRAGMA freelist_count").scalar_one()
        return int(pages - free) * int(connection.exec_driver_sql("PRAGMA page_size").scalar_one())


def section(found: dict[str, Any]) -> str:
    """Write what was measured as a section of a report."""
    worst = max(found["questions"].items(), key=lambda pair: pair[1]["median_ms"])
    load = f" under a load of {found['load']}" if found.get("load") is not None else ""
    lines = [
        f"## The record at {found['items']:,} items",
        "",
        f"{found['engine']}, {found['mebibytes']:,} MiB, {found['runs']} runs, on {found['machine']}{load}. "
        f'The slowest question is "{worst[0]}" with a median of {worst[1]["median_ms"]:,.0f} ms.',
        "",
        "| question | median, ms | worst, ms | read from end to end, or sorted |",
        "|---|---:|---:|---|",
        *(
            f"| {name} | {q['median_ms']:,.1f} | {q['worst_ms']:,.1f} | {'; '.join(q['plan'])} |"
            for name, q in found["questions"].items()
        ),
    ]
    if found.get("costs"):
        lines += ["", "| index | MiB | items a second with | without |", "|---|---:|---:|---:|"]
        lines += [
            f"| {name} | {c['mebibytes']} | {c['items_a_second_with']:,} | {c['items_a_second_without']:,} |"
            for name, c in found["costs"].items()
        ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Fill, measure, write."""
    reader = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    reader.add_argument("--items", type=int, default=1_000_000)
    reader.add_argument("--db", help="An empty database; default: a file that is removed afterwards.")
    reader.add_argument("--keep", type=Path, help="Keep the file there, or measure the one that is there.")
    reader.add_argument("--costs", action="store_true", help="Also measure what indexes cost.")
    reader.add_argument("--out", type=Path, default=OUT)
    asked = reader.parse_args()
    with tempfile.TemporaryDirectory(prefix="differnet-record-") as folder:
        place = asked.db or str(asked.keep or Path(folder) / "record.db")
        filled = asked.keep is not None and asked.keep.exists()
        store = Store.open(place)
        speed = None if filled else fill(store, asked.items)
        print(f"filled at {speed} items a second")
        found = {
            "items": asked.items,
            "runs": RUNS,
            "seed": SEED,
            "engine": _engine_name(store),
            "mebibytes": round(_bytes(store) / 2**20),
            "filled_items_a_second": None if speed is None else round(speed),
            "questions": measure(store, asked.items),
            "costs": costs(store, [str(i.name) for i in schema.items.indexes]) if asked.costs else {},
            "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            # Of the last minute, after the last question: times on a machine that does other work say little.
            "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        }
        store.close()
    asked.out.mkdir(parents=True, exist_ok=True)
    name = "record.json" if not asked.db else "record-postgresql.json"
    (asked.out / name).write_text(json.dumps(found, indent=1) + "\n")
    print(section(found))


def _engine_name(store: Store) -> str:
    if store.engine.dialect.name == "sqlite":
        return f"SQLite {sqlite3.sqlite_version}"
    with store.engine.connect() as connection:
        return f"PostgreSQL {connection.exec_driver_sql('SHOW server_version').scalar_one()}"


if __name__ == "__main__":
    main()
