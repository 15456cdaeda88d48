"""Small pictures of every page of the dashboard on the sample product, to be looked at one by one."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from browser.dashboard_process import Dashboard, served
from browser.finding import browser_program
from browser.watching import Watch, choose_page, corners, menu_titles, settle
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

WIDTHS = (1280, 1920)
SCHEMES = ("light", "dark")
LARGEST = 150_000
"""Bytes of a picture."""

DEMO = "DIFFERNET_DEMO"
"""Variable that names a folder that ``differnet demo`` has made; otherwise one is made for it."""

# The person whose name stands on the pages.
_PERSON = "Ada"
# Of the browser's window before it is made as high as the page; no page may be higher than the second.
_HEIGHT, _HIGHEST = 900, 7000
_QUALITIES = (70, 60, 50, 40, 30)


def run(out: Path) -> bool:
    """Picture every page that the menu offers, at two widths, light and dark.

    Args:
        out: Folder to write to; pictures of earlier times in it are removed.

    Returns:
        Whether pages were all drawn without an error and all pictures are small enough.
    """
    program = browser_program()
    if program is None:
        raise SystemExit("No browser: install chromium.")
    os.environ["LOGNAME"] = _PERSON
    troubles: list[str] = []
    pictures: dict[str, bytes] = {}
    with _demonstration() as dashboard, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program)
        for scheme in SCHEMES:
            for width in WIDTHS:
                pictures |= _pictures(browser, dashboard, scheme, width, troubles)
        browser.close()
    for old in out.glob("*.webp"):
        old.unlink()
    for name, content in pictures.items():
        (out / name).write_bytes(content)
    large = [name for name, content in pictures.items() if len(content) > LARGEST]
    kilobytes = sum(map(len, pictures.values())) / 1000
    print(f"{len(pictures)} pictures, {kilobytes:.0f} kB; too large: {large or 'none'}")
    print("\n".join(troubles))
    return not large and not troubles


@contextmanager
def _demonstration() -> Iterator[Dashboard]:
    """Serve a demonstration with a record of its own."""
    with tempfile.TemporaryDirectory(prefix="differnet-screens-") as scratch:
        folder = Path(scratch) / "demo"
        if (made := os.environ.get(DEMO)) is not None:
            shutil.copytree(made, folder, ignore=shutil.ignore_patterns("record.db*"))
        else:
            program = "import sys; from differnet.cli import main; sys.exit(main())"
            subprocess.run([sys.executable, "-c", program, "demo", "--out", str(folder)], check=True)
        with served(folder, folder / "runs") as dashboard:
            yield dashboard


def _pictures(
    browser: Browser, dashboard: Dashboard, scheme: str, width: int, troubles: list[str]
) -> dict[str, bytes]:
    context = browser.new_context(
        color_scheme="dark" if scheme == "dark" else "light",
        viewport={"width": width, "height": _HEIGHT},
        reduced_motion="reduce",
    )
    watch = Watch(context, dashboard.address)
    page = context.new_page()
    page.goto(dashboard.address)
    settle(page)
    made = {}
    for title in menu_titles(page):
        page.set_viewport_size({"width": width, "height": _HEIGHT})
        choose_page(page, title)
        _show_all(page, width)
        made[_name(title, scheme, width)] = _small(page.screenshot())
        # What lies behind a tab is pictured at one width.
        for corner in corners(page) if width == WIDTHS[0] else ():
            if corner:
                _show_all(page, width)
                made[_name(f"{title} {corner}", scheme, width)] = _small(page.screenshot())
    troubles += watch.troubles()
    context.close()
    return made


def _name(title: str, scheme: str, width: int) -> str:
    words = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    return f"{words}-{scheme}-{width}.webp"


def _show_all(page: Page, width: int) -> None:
    """Make the window as high as the page: it is the page's middle that scrolls, not the window."""
    high = _HEIGHT
    # Twice: what is drawn anew may be higher.
    for _ in range(2):
        high = page.evaluate(
            """() => Math.max(...['stMain', 'stSidebarContent'].map(
                 (name) => document.querySelector(`[data-testid="${name}"]`)?.scrollHeight ?? 0))"""
        )
        page.set_viewport_size({"width": width, "height": min(max(_HEIGHT, high), _HIGHEST)})
        settle(page)


def _small(picture: bytes) -> bytes:
    """Write a picture as WebP, as good as its size allows."""
    shown = Image.open(io.BytesIO(picture)).convert("RGB")
    content = b""
    for quality in _QUALITIES:
        written = io.BytesIO()
        shown.save(written, "WEBP", quality=quality, method=6)
        content = written.getvalue()
        if len(content) <= LARGEST:
            break
    return content
