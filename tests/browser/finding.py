"""Where the browser is."""

from __future__ import annotations

import shutil

NAMES = ("chromium", "chromium-browser", "google-chrome")
"""Debian's name first."""


def browser_program() -> str | None:
    """Return the browser's path, or ``None`` where none is installed."""
    return next(filter(None, map(shutil.which, NAMES)), None)
