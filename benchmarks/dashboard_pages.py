"""What each page of the dashboard takes on the server when the record holds 100,000 pictures of one run."""

from __future__ import annotations

import json
import logging
import os
import platform
import statistics
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import streamlit as st
from dashboard.offered import pages
from dashboard.stores import RECORDS, fill
from streamlit.testing.v1 import AppTest

from differnet.reporting.serving import dashboard_app, dashboard_environment

BAR = 1.0
"""Seconds that a page may take, at its first and at every later visit."""

_VISITS = 7
_PATIENCE = 300


def run(out: Path, items: int = 100_000) -> bool:
    """Fill a record, visit every page, and write ``pages.json``.

    Args:
        out: Folder to write to.
        items: In the record.

    Returns:
        Whether the median of every page's visits met the bar.
    """
    # Outside of a server Streamlit warns of that with every page.
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="differnet-pages-") as folder:
        place = Path(folder) / "record.db"
        fill(place, replace(RECORDS["100,000 rows"], items=items))
        found: dict[str, Any] = {
            "items": items,
            "bar_s": BAR,
            "pages": {name: _visit(place, name) for name in pages()},
            "versions": {name: version(name) for name in ("streamlit", "altair", "numpy", "sqlalchemy")},
            "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            # Of the last minute: times on a machine that does other work say little.
            "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        }
    (out / "pages.json").write_text(json.dumps(found, indent=1) + "\n")
    print(section(found))
    return all(max(page["first_s"], page["later_median_s"]) <= BAR for page in found["pages"].values())


def section(found: dict[str, Any]) -> str:
    """Write what was measured as a section of a report."""
    lines = [
        f"## Pages of the dashboard with {found['items']:,} pictures in one run",
        "",
        f"On {found['machine']} under a load of {found['load']}. Seconds on the server: the first visit "
        f"after the program has started, and {_VISITS} later ones. The bar is {found['bar_s']:g} s.",
        "",
        "| page | first, s | of it busy, s | later, median, s | later, worst, s | of it busy, median, s |",
        "|---|---:|---:|---:|---:|---:|",
        *(
            f"| {page['title']} | {page['first_s']:.2f} | {page['first_processor_s']:.2f} "
            f"| {page['later_median_s']:.2f} | {page['later_worst_s']:.2f} "
            f"| {page['later_processor_s']:.2f} |"
            for page in found["pages"].values()
        ),
    ]
    return "\n".join(lines) + "\n"


def _visit(place: Path, name: str) -> dict[str, Any]:
    os.environ.update(dashboard_environment(str(place), place.parent))
    # Modules are loaded once for all who come: not a part of what is measured.
    warm = AppTest.from_file(str(dashboard_app()), default_timeout=_PATIENCE).run()
    warm.switch_page(f"{name}.py").run()
    st.cache_resource.clear()
    st.cache_data.clear()
    app = AppTest.from_file(str(dashboard_app()), default_timeout=_PATIENCE)
    app.switch_page(f"{name}.py")
    first, first_busy = _timed(app)
    later = []
    for _ in range(_VISITS):
        app.switch_page(f"{name}.py")
        later.append(_timed(app))
    if app.exception or len(app.title) != 1:
        raise RuntimeError(f"{name} was not drawn: {[one.value for one in app.exception]}")
    return {
        "title": pages()[name],
        "first_s": round(first, 3),
        "first_processor_s": round(first_busy, 3),
        "later_median_s": round(statistics.median(taken for taken, _ in later), 3),
        "later_worst_s": round(max(taken for taken, _ in later), 3),
        "later_processor_s": round(statistics.median(busy for _, busy in later), 3),
    }


def _timed(app: AppTest) -> tuple[float, float]:
    """Return what a run took, and how long processors were busy with it: less where others are busy too."""
    started, busy = time.perf_counter(), time.process_time()
    app.run()
    return time.perf_counter() - started, time.process_time() - busy
