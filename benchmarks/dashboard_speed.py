"""How fast the dashboard answers over a run of a hundred thousand parts.

    python benchmarks/dashboard_speed.py                everything: reports/dashboard/*.json
    python benchmarks/dashboard_speed.py --only moves   how fast a threshold moves (U3)
    python benchmarks/dashboard_speed.py --parts 5000   fewer parts

The record is filled with one run of made-up parts (seed 7) by a small model of the sample product that lies
beside it, so that promises come from the model's own good parts. Pages run in this process as they do in the
server, without a browser: what is measured is the server's part. A move runs the whole page with its frame,
which is more than the part of the page that a drag runs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from streamlit.logger import set_log_level
from streamlit.testing.v1 import AppTest

from differnet.detection import DensitySettings, Detector, DetectorSettings
from differnet.images.synthetic import render_part
from differnet.records import Record, Verdict
from differnet.reporting.counts import VERDICTS, Truth
from differnet.reporting.serving import dashboard_app, dashboard_environment
from differnet.store import CalibrationEntry, ModelEntry, RunEntry, Store
from differnet.store.connecting import writing
from differnet.store.rows import insert_items
from differnet.tuning import (
    basis_of,
    by_kind,
    changed_verdicts,
    expect,
    limits,
    move,
    parts_of,
    promises,
    separation,
)

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "reports" / "dashboard"

SEED = 7
PARTS = 100_000
MOVES = 200
# Thresholds are moved over what a person would try.
LOWEST, HIGHEST = 0.2, 4.0
GOOD_PARTS, SIDE = 100, 96
RUN = "shift"
_CHUNK = 5_000
_KINDS = ("scratch", "dent", "stain", "crack", "wrong_input/blank")
_LABEL_SHARES = (0.55, 0.35, 0.02, 0.02, 0.02, 0.02, 0.02)
TABS = ("Verdicts", "What flips", "Curves", "By kind", "Suggest", "Apply and history")


@dataclass(frozen=True)
class Filled:
    """A record with one run, and the model that judged it.

    Attributes:
        place: Of the record.
        model: Folder of the model.
        parts: How many the run has.
    """

    place: Path
    model: Path
    parts: int


def build_model(folder: Path, parts: int = GOOD_PARTS) -> Path:
    """Train a small model of the sample product."""
    settings = DetectorSettings(image_size=SIDE, device="cpu", density=DensitySettings(steps=20, hidden=16))
    detector = Detector(settings).fit([render_part(seed, size=SIDE).pixels for seed in range(parts)])
    return detector.calibrate().save(folder)


def fill(place: Path, model: Path, parts: int, seed: int = SEED) -> Filled:
    """Fill an empty record with one run."""
    facts = Detector.load(model, "cpu").facts()
    ids = str(facts["model_id"]), str(facts["calibration_id"])
    pair = float(facts["t_review"]), float(facts["t_defect"])
    store = Store.open(place)
    try:
        store.add_model(ModelEntry(ids[0], "flange", str(model)))
        store.add_calibration(CalibrationEntry(*ids, parts=GOOD_PARTS))
        store.begin_run(RunEntry(RUN, "flange", *ids, *pair))
        rng = np.random.default_rng(seed)
        for start in range(0, parts, _CHUNK):
            numbers = range(start, min(parts, start + _CHUNK))
            with writing(store.engine).begin() as connection:
                insert_items(
                    connection,
                    [(r, n) for n, r in zip(numbers, _records(rng, numbers, ids, pair), strict=True)],
                )
        store.finish_run(RUN)
    finally:
        store.close()
    return Filled(place, model, parts)


def moves(filled: Filled, number: int = MOVES) -> dict[str, Any]:
    """Move the thresholds many times, on the page with each of its tabs open and by the functions alone."""
    rng = np.random.default_rng(SEED)
    pairs = np.sort(rng.uniform(LOWEST, HIGHEST, (number, 2)), axis=1).round(2).tolist()
    found: dict[str, Any] = {"moves": number, "functions": functions(filled, pairs), "page": {}}
    with opened(filled) as app:
        for tab in TABS:
            app.session_state["tune_tab"] = tab
            app.run()
            found["page"][tab] = _spread(_moved(app, pairs))
    found["worst_p95_ms"] = max(figures["p95_ms"] for figures in found["page"].values())
    return found


def functions(filled: Filled, pairs: list[list[float]]) -> dict[str, Any]:
    """Measure what `differnet.tuning` does for a move, and what it does once for a run."""
    store = Store.open(filled.place)
    try:
        run, table = store.run(RUN), store.table(RUN)
    finally:
        store.close()
    started = time.perf_counter()
    parts = parts_of(table)
    once = {"parts": 1000 * (time.perf_counter() - started)}
    started = time.perf_counter()
    pair = run.t_review, run.t_defect
    basis = basis_of(filled.model, run.model_id, run.calibration_id, parts, pair)
    once["good parts of the model"] = 1000 * (time.perf_counter() - started)
    started = time.perf_counter()
    separation(parts.strangeness_of(Truth.GOOD), parts.strangeness_of(Truth.DEFECT))
    once["curves"] = 1000 * (time.perf_counter() - started)
    before = move(parts, *pair)
    taken = []
    for review, defect in pairs:
        started = time.perf_counter()
        moved = move(parts, review, defect)
        changed_verdicts(parts.columns, before.codes, moved.codes)
        by_kind(parts, moved.codes)
        expect(basis.good, parts, review, defect)
        promises(basis, review, defect)
        limits(basis, parts, moved)
        taken.append(1000 * (time.perf_counter() - started))
    return _spread(taken) | {"once_ms": {name: round(figure, 1) for name, figure in once.items()}}


@contextmanager
def opened(filled: Filled) -> Iterator[AppTest]:
    """Open the page over a record, run once."""
    # It misses a browser, and says so at every move.
    set_log_level("ERROR")
    told = dashboard_environment(str(filled.place), filled.place.parent)
    kept = {name: os.environ.get(name) for name in told}
    os.environ.update(told)
    try:
        app = AppTest.from_file(str(dashboard_app()), default_timeout=120).run()
        yield app.switch_page("tune.py").run()
    finally:
        for name, value in kept.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _moved(app: AppTest, pairs: list[list[float]]) -> list[float]:
    taken = []
    for review, defect in pairs:
        # As the handles do: both at once, before the page runs.
        app.session_state["t_review"], app.session_state["t_defect"] = review, defect
        started = time.perf_counter()
        app.run()
        taken.append(1000 * (time.perf_counter() - started))
        shown = app.number_input(key="t_review").value, app.number_input(key="t_defect").value
        if app.exception or shown != (review, defect):
            raise RuntimeError(f"the page shows {shown} in place of T1 {review}, T2 {defect}")
    return taken


def _spread(milliseconds: list[float]) -> dict[str, float]:
    median, p95 = np.quantile(milliseconds, [0.5, 0.95])
    figures = {"median_ms": median, "p95_ms": p95, "worst_ms": max(milliseconds)}
    return {name: round(float(figure), 1) for name, figure in figures.items()}


def _records(
    rng: np.random.Generator, numbers: range, ids: tuple[str, str], pair: tuple[float, float]
) -> Iterator[Record]:
    labels = rng.choice(len(_LABEL_SHARES), len(numbers), p=_LABEL_SHARES)
    strangeness = rng.exponential(0.43, len(numbers)) + (labels > 1) * rng.exponential(2.0, len(numbers))
    for number, label, figure in zip(numbers, labels.tolist(), strangeness.tolist(), strict=True):
        digest = hashlib.sha256(str(number).encode()).hexdigest()
        verdict = VERDICTS[int(figure >= pair[0]) + int(figure >= pair[1])]
        wrong = label == len(_LABEL_SHARES) - 1
        yield Record(
            RUN,
            digest[:16],
            f"part-{number:06}",
            "",
            f"parts/{number:06}.png",
            digest,
            Verdict.OOD if wrong and verdict is Verdict.DEFECT else verdict,
            ("made up",),
            label=None if label == 1 else "good" if label == 0 else _KINDS[label - 2],
            product="flange",
            processed_at="2026-01-01T00:00:00.000+00:00",
            strangeness=figure,
            p_value=max(1 / (GOOD_PARTS + 1), 10.0**-figure),
            t_review=pair[0],
            t_defect=pair[1],
            model_id=ids[0],
            calibration_id=ids[1],
        )


MEASURED: dict[str, Callable[[Filled], dict[str, Any]]] = {"moves": moves}


def main() -> None:
    """Fill, measure, write."""
    reader = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    reader.add_argument("--only", choices=sorted(MEASURED), action="append", help="Measure nothing else.")
    reader.add_argument("--parts", type=int, default=PARTS)
    reader.add_argument("--keep", type=Path, help="Folder to keep the record in, or to find it in.")
    reader.add_argument("--out", type=Path, default=OUT)
    asked = reader.parse_args()
    with tempfile.TemporaryDirectory(prefix="differnet-dashboard-") as temporary:
        folder = asked.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        place, model = folder / "record.db", folder / "model"
        if place.is_file():
            filled = Filled(place, model, asked.parts)
        else:
            filled = fill(place, build_model(model), asked.parts)
        for name in asked.only or sorted(MEASURED):
            found = MEASURED[name](filled)
            told = {
                "parts": asked.parts,
                "seed": SEED,
                "machine": f"{platform.machine()}, {os.cpu_count()} processors",
                "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
                **found,
            }
            asked.out.mkdir(parents=True, exist_ok=True)
            (asked.out / f"{name}.json").write_text(json.dumps(told, indent=1) + "\n", "utf-8")
            print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
