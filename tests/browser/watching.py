"""What a browser was asked to fetch, and what went wrong in it, while a test looked at pages."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Request, Response, WebError, WebSocket

# Streamlit looks for its own server below the address of the page before it looks at the root.
_PROBE = re.compile(r"/[^/]+/_stcore/(health|host-config)$")
# Of a request that the page itself gave up: a picture of the page that was left, say.
_GIVEN_UP = "net::ERR_ABORTED"


class Watch:
    """Notes of everything that pages of a browser ask for, from the beginning.

    Args:
        context: The browser's session.
        origin: Server that may be asked, such as ``http://127.0.0.1:8501``.

    Attributes:
        asked: How often which server was asked.
    """

    def __init__(self, context: BrowserContext, origin: str) -> None:
        self._origin = urlsplit(origin).netloc
        self._troubles: list[str] = []
        self.asked: Counter[str] = Counter()
        context.on("request", self._request)
        context.on("requestfailed", self._failed)
        context.on("response", self._response)
        context.on("console", self._console)
        context.on("weberror", self._error)
        context.on("page", lambda page: page.on("websocket", self._websocket))

    def troubles(self) -> list[str]:
        """Return requests to others, failed requests, and errors of the pages."""
        return list(self._troubles)

    def _request(self, request: Request) -> None:
        self._note_asked(request.url)

    def _websocket(self, websocket: WebSocket) -> None:
        self._note_asked(websocket.url)

    def _note_asked(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme in ("data", "blob", "about"):
            # Held by the page itself.
            return
        self.asked[parts.netloc] += 1
        if parts.netloc != self._origin:
            self._troubles.append(f"asked {url[:200]}")

    def _failed(self, request: Request) -> None:
        if request.failure != _GIVEN_UP:
            self._troubles.append(f"failed with {request.failure}: {request.url[:200]}")

    def _response(self, response: Response) -> None:
        if response.status >= 400 and not _PROBE.search(urlsplit(response.url).path):
            self._troubles.append(f"answered with {response.status}: {response.url[:200]}")

    def _console(self, message: ConsoleMessage) -> None:
        where = str(message.location.get("url", ""))
        if message.type == "error" and not _PROBE.search(urlsplit(where).path):
            self._troubles.append(f"console: {message.text[:400]}")

    def _error(self, error: WebError) -> None:
        self._troubles.append(f"script: {error.error}")


# Idle: connected, no script running or asked for, nothing left of the run before, pictures there.
_IDLE = """
([quiet, mark]) => {
  const app = document.querySelector('[data-testid="stApp"]');
  const idle = app
    && app.dataset.testScriptState === 'notRunning'
    && app.dataset.testConnectionState === 'CONNECTED'
    && !document.querySelector('[data-testid="stSkeleton"], [data-testid="stSpinner"], [data-stale="true"]')
    && [...document.images].every((picture) => picture.complete);
  const now = performance.now();
  if (!idle || window.idleMark !== mark) {
    window.idleMark = mark;
    window.idleSince = now;
    return false;
  }
  return now - window.idleSince >= quiet;
}
"""
# Milliseconds that it must stay idle: more than Streamlit waits before it acts on a slider that moves.
_QUIET = 250

_marks = iter(range(1 << 62))


def settle(page: Page, timeout: float = 60.0) -> None:
    """Wait until a page of the dashboard has answered and drawn what it was asked for.

    Args:
        page: The browser's page.
        timeout: Seconds.

    Raises:
        AssertionError: The page tells of an error of the program.
    """
    page.wait_for_function(_IDLE, arg=[_QUIET, next(_marks)], timeout=timeout * 1000)
    exceptions = page.get_by_test_id("stException")
    if exceptions.count():
        raise AssertionError(f"{page.url} shows an exception: {exceptions.first.inner_text()}")


def menu_titles(page: Page) -> list[str]:
    """Return the titles of the pages that the menu offers."""
    return page.locator('[class*="st-key-menu-"] a').all_inner_texts()


def choose_page(page: Page, title: str) -> None:
    """Go to a page by the menu, and wait until it is drawn."""
    page.locator('[class*="st-key-menu-"]').get_by_role("link", name=title, exact=True).click()
    settle(page)


def corners(page: Page) -> Iterator[str]:
    """Open what is folded on a page, then one tab after another.

    Args:
        page: Of the dashboard, as it stands after `choose_page`.

    Yields:
        ``""`` with the first tabs open, then the name of each further tab when it is drawn.
    """
    main = page.get_by_test_id("stMain")
    folded = main.locator("details:not([open]) > summary:visible")
    # One that opens may bring another; one that does not open is left.
    for _ in range(folded.count() + 5):
        if not folded.count():
            break
        folded.first.click()
        settle(page)
    yield ""
    closed = 'button[role="tab"][aria-selected="false"], [role="tab"][aria-selected="false"]'
    for title in main.locator(closed).all_inner_texts():
        main.get_by_role("tab", name=title, exact=True).first.click()
        settle(page)
        yield title
