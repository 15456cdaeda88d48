"""Stores of both engines: SQLite in a file, and PostgreSQL where a server of it can be started."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from differnet.records import Record, Region, Verdict
from differnet.store import CalibrationEntry, ModelEntry, RunEntry, Store, connect

MODEL, CALIBRATION = "m1", "c1"


def record(number: int, run_id: str = "monday", **changes: Any) -> Record:
    """Make a record with every figure set, and two regions."""
    fixed: dict[str, Any] = {
        "run_id": run_id,
        "item_id": f"item-{number}",
        "part_id": f"part-{number // 2}",
        "view_id": "left",
        "path": f"parts/{number}.png",
        "sha256": f"{number:064x}",
        "verdict": Verdict.PASS,
        "reasons": ("as probable as good parts", 'said "so", and \u00fc'),
        "label": "good",
        "product": "flange",
        "captured_at": "2026-11-23T06:00:00",
        "processed_at": f"2026-11-23T06:{number // 60:02d}:{number % 60:02d}.000+00:00",
        "nll_global": 812.5,
        "nll_local": 44.25,
        "typicality_global": -3.5,
        "typicality_local": 0.1,
        "bits_per_dim_global": 1.5,
        "bits_per_dim_local": 1.25,
        "strangeness": number / 10,
        "p_value": 0.31,
        "p_value_global": 0.3,
        "p_value_local": 1 / 3,
        "p_value_ood": 0.62,
        "t_review": 1.0,
        "t_defect": 2.0,
        "threshold_revision": 3,
        "regions": (Region(1, 2, 3, 4, 9, 5.5, 0.01), Region(10, 20, 30, 40, 90, 4.5, 0.02)),
        "heat_map_path": f"heat_maps/item-{number}.npz",
        "model_id": MODEL,
        "calibration_id": CALIBRATION,
        "decode_ms": 4.5,
        "inference_ms": 31.25,
        "width": 640,
        "height": 480,
        "bit_depth": 8,
        "quality_flags": ("repeated",),
    }
    return Record(**(fixed | changes))


def run(run_id: str = "monday", **changes: Any) -> RunEntry:
    fixed: dict[str, Any] = {
        "run_id": run_id,
        "product": "flange",
        "model_id": MODEL,
        "calibration_id": CALIBRATION,
        "t_review": 1.0,
        "t_defect": 2.0,
        "threshold_revision": 3,
        "source": "today/",
        "folder": "runs/monday",
        "facts": {"versions": {"differnet": "0.1.0"}},
        "started_at": "2026-11-23T06:00:00.000+00:00",
    }
    return RunEntry(**(fixed | changes))


def known(store: Store) -> Store:
    """Make the model, its calibration and Monday's run known."""
    store.add_model(ModelEntry(MODEL, "flange", "model/", {"backbone": "tf_efficientnet_lite0"}))
    store.add_calibration(CalibrationEntry(MODEL, CALIBRATION, 99, "cross-fitted", {"alpha_review": 0.05}))
    store.begin_run(run())
    return store


@pytest.fixture(scope="session")
def server() -> Iterator[str | None]:
    """A PostgreSQL server of this session's own, by its URL; ``None`` where there is none to start."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs or shutil.which("runuser") is None:
        yield None
        return
    pytest.importorskip("psycopg")
    # A server refuses to run as root, and its socket's path must be short.
    place = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    place.chmod(0o777)
    user: list[str | Path] = ["runuser", "-u", "postgres", "--"]
    data = place / "data"
    try:
        subprocess.run(
            [*user, programs[-1] / "initdb", "-D", data, "-A", "trust", "--no-sync"],
            check=True,
            capture_output=True,
        )
        options = f"-k {place} -c listen_addresses='' -c fsync=off"
        log = place / "log"
        started = [*user, programs[-1] / "pg_ctl", "-D", data, "-o", options, "-l", log, "-w", "start"]
        subprocess.run(started, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        shutil.rmtree(place, ignore_errors=True)
        yield None
        return
    yield f"postgresql://postgres@/postgres?host={place}"
    subprocess.run(
        [*user, programs[-1] / "pg_ctl", "-D", data, "-m", "immediate", "stop"],
        check=False,
        capture_output=True,
    )
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where an empty store may be made."""
    if request.param == "sqlite":
        return str(tmp_path / "record.db")
    url = request.getfixturevalue("server")
    if url is None:
        pytest.skip("no PostgreSQL server can be started here: Debian has one, apt-get install postgresql")
    engine = connect(url)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    return str(url)


@pytest.fixture
def store(place: str) -> Iterator[Store]:
    """A store that knows a model, a calibration and a run."""
    opened = known(Store.open(place))
    yield opened
    opened.close()
