"""A browser, dashboards for it to look at, and the proof that it asked nobody else for anything."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from browser import finding
from browser.dashboard_process import Dashboard, served
from browser.watching import Watch, settle

# Set where tests must not pass over a browser that is not there: CI.
REQUIRED = "DIFFERNET_REQUIRE_BROWSER"
# Milliseconds that anything on a page may take before it counts as not coming.
_PATIENCE = 60_000

# Names and addresses that the dashboard's processes may call.
THIS_MACHINE = {"127.0.0.1", "localhost"}

OpenPage = Callable[..., Page]

KINDS = ["good"] * 20 + ["scratch"] * 5 + ["dent", "wrong_input/blank", "unreadable", None]


@pytest.fixture(scope="session")
def browser_program() -> str:
    """Find the browser, or skip; where `REQUIRED` is set, fail."""
    found = finding.browser_program()
    if found is None:
        words = (
            f"no browser: none of {', '.join(finding.NAMES)} is installed (Debian: apt-get install chromium)"
        )
        if os.environ.get(REQUIRED):
            pytest.fail(words)
        pytest.skip(words)
    return found


# Of a module, not of the session: while it runs, nothing else in this process may run an event loop.
@pytest.fixture(scope="module")
def launch(browser_program: str) -> Iterator[Callable[[str], Browser]]:
    """Start browsers with rules of their own for names: ``launch("MAP * ~NOTFOUND")``."""
    expect.set_options(timeout=_PATIENCE)
    with sync_playwright() as playwright:
        started: list[Browser] = []

        def launch_one(rules: str) -> Browser:
            started.append(
                playwright.chromium.launch(
                    executable_path=browser_program, args=[f"--host-resolver-rules={rules}"]
                )
            )
            return started[-1]

        yield launch_one
        for each in started:
            each.close()


@pytest.fixture(scope="module")
def browser(launch: Callable[[str], Browser]) -> Browser:
    """A browser that can reach this machine alone."""
    return launch("MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost")


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Open a dashboard in a browser session of its own; at the end nothing may have gone wrong in any."""
    opened: list[tuple[Page, Watch]] = []

    def open_one(
        dashboard: Dashboard, path: str = "/", *, scheme: str = "light", width: int = 1280, height: int = 800
    ) -> Page:
        context = browser.new_context(
            color_scheme="dark" if scheme == "dark" else "light",
            viewport={"width": width, "height": height},
            accept_downloads=True,
            reduced_motion="reduce",
        )
        context.set_default_timeout(_PATIENCE)
        watch = Watch(context, dashboard.address)
        page = context.new_page()
        opened.append((page, watch))
        page.goto(dashboard.address + path)
        settle(page)
        return page

    yield open_one
    troubles = []
    for page, watch in opened:
        if not watch.asked:
            troubles.append(f"nothing was seen of what {page.url} asked for")
        troubles += watch.troubles()
        page.context.close()
    assert troubles == []


def _fill(folder: Path) -> None:
    # Loaded by path: test folders have a conftest each.
    path = Path(__file__).resolve().parents[1] / "reporting" / "conftest.py"
    spec = importlib.util.spec_from_file_location("drawn_runs", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.fill_run(folder / "runs" / "monday", KINDS)


def _sound(dashboard: Dashboard) -> Iterator[Dashboard]:
    yield dashboard
    said = dashboard.said()
    assert "Traceback" not in said, said[-4000:]
    assert dashboard.called() <= THIS_MACHINE
    outside = [path for path in dashboard.written() if not _may_write(path, dashboard.workspace)]
    assert outside == []


def _may_write(path: Path, workspace: Path) -> bool:
    scratch = Path(tempfile.gettempdir()).resolve()
    return (
        path.is_relative_to(workspace.resolve())
        or path in (Path("/dev/null"), Path("/dev/tty"))
        # Made by Python itself; of tests' own folders nothing.
        or "__pycache__" in path.parts
        or (path.is_relative_to(scratch) and not path.relative_to(scratch).parts[0].startswith("pytest-"))
    )


@pytest.fixture(scope="session")
def drawn_dashboard(browser_program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """A dashboard over one run of drawn parts, for tests that change nothing."""
    folder = tmp_path_factory.mktemp("drawn")
    _fill(folder)
    with served(folder, folder / "runs") as dashboard:
        yield from _sound(dashboard)


@pytest.fixture
def own_dashboard(browser_program: str, tmp_path: Path) -> Iterator[Dashboard]:
    """A dashboard over drawn parts that a test may change."""
    _fill(tmp_path)
    with served(tmp_path, tmp_path / "runs") as dashboard:
        yield from _sound(dashboard)


@pytest.fixture
def empty_dashboard(browser_program: str, tmp_path: Path) -> Iterator[Dashboard]:
    """A dashboard over an empty record."""
    with served(tmp_path) as dashboard:
        yield from _sound(dashboard)
