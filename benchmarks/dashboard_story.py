"""The story of `tests/browser/journey.py` in full, with the usual settings: as a newcomer walks."""

from __future__ import annotations

import json
import os
import platform
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from browser.dashboard_process import served
from browser.finding import browser_program
from browser.journey import from_nothing_to_a_report
from browser.watching import Watch
from playwright.sync_api import expect, sync_playwright

# Seconds that one step may take: the training with the usual settings takes minutes.
_PATIENCE = 1800


def run(out: Path) -> bool:
    """Walk from nothing to a report with the usual settings, and write ``story.json``.

    Args:
        out: Folder to write to.

    Returns:
        Whether every step led to the next, with the loss and the time left in sight, and nothing went wrong.
    """
    program = browser_program()
    if program is None:
        raise SystemExit("No browser: install chromium.")
    expect.set_options(timeout=60_000)
    with tempfile.TemporaryDirectory(prefix="differnet-story-") as scratch:
        workspace = Path(scratch) / "workspace"
        workspace.mkdir()
        with served(workspace) as dashboard, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=program)
            context = browser.new_context(viewport={"width": 1280, "height": 800}, accept_downloads=True)
            context.set_default_timeout(60_000)
            watch = Watch(context, dashboard.address)
            page = context.new_page()
            page.goto(dashboard.address)
            walked = from_nothing_to_a_report(page, Path(scratch), _PATIENCE)
            troubles = watch.troubles()
            called = sorted(dashboard.called())
            browser.close()
        size = walked.report.stat().st_size
    found: dict[str, Any] = {
        "seconds": {name: round(taken, 1) for name, taken in walked.seconds.items()},
        "loss_was_shown": walked.losses_seen,
        "time_left_was_shown": walked.left_seen,
        "report_bytes": size,
        "browser_troubles": troubles,
        "server_called": called,
        "versions": {name: version(name) for name in ("streamlit", "playwright", "torch")},
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
    }
    (out / "story.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))
    return walked.losses_seen and walked.left_seen and not troubles
