"""The safe defaults of the running server: asked by its own names alone, and asking nobody itself."""

from __future__ import annotations

import base64
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from browser.dashboard_process import Dashboard, ask, processes_of, served
from browser.watching import Watch, choose_page, settle
from differnet.reporting.serving import dashboard_app

OpenPage = Callable[..., Page]

PATHS = ("/", "/tune", "/_stcore/health", "/_stcore/host-config", "/media/0123.jpg", "/favicon.png")
HANDSHAKE = (
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Key", base64.b64encode(bytes(16)).decode()),
    ("Sec-WebSocket-Version", "13"),
)
SECRET = "secret of the plant"


def handshake(dashboard: Dashboard, host: str, origin: str | None = None) -> int:
    more = () if origin is None else (("Origin", origin),)
    return ask(dashboard.port, "/_stcore/stream", host, (*HANDSHAKE, *more))[0]


@pytest.mark.parametrize("address", ["127.0.0.2", "::1"])
def test_it_listens_on_one_address_alone(drawn_dashboard: Dashboard, address: str) -> None:
    with socket.create_connection(("127.0.0.1", drawn_dashboard.port), timeout=5):
        pass
    # All of 127.0.0.0/8 is this machine on Linux: who listens everywhere answers there as well.
    with pytest.raises(OSError, match=r"refused|unavailable|assign|unreachable|not supported"):
        socket.create_connection((address, drawn_dashboard.port), timeout=5)


@pytest.mark.parametrize(
    "host", ["rebound.example", "rebound.example:{port}", "10.1.2.3:{port}", "localhost.rebound.example"]
)
def test_another_name_gets_no_answer(drawn_dashboard: Dashboard, host: str) -> None:
    name = host.format(port=drawn_dashboard.port)
    for path in PATHS:
        status, _, told = ask(drawn_dashboard.port, path, name)
        assert (path, status) == (path, 421)
        assert b"127.0.0.1 and localhost" in told
    assert ask(drawn_dashboard.port, "/_stcore/upload_file/a/b", name, method="PUT", content=b"x")[0] == 421
    assert handshake(drawn_dashboard, name, f"http://{name}") == 403


def test_its_own_names_get_one(drawn_dashboard: Dashboard) -> None:
    for name in (f"127.0.0.1:{drawn_dashboard.port}", f"localhost:{drawn_dashboard.port}"):
        assert ask(drawn_dashboard.port, "/", name)[0] == 200
        assert handshake(drawn_dashboard, name, f"http://{name}") == 101


def test_pages_of_others_get_no_answer(drawn_dashboard: Dashboard) -> None:
    name = f"127.0.0.1:{drawn_dashboard.port}"
    for origin in ("http://elsewhere.example", "https://share.streamlit.io", "http://127.0.0.1:1", "null"):
        assert (origin, handshake(drawn_dashboard, name, origin)) == (origin, 403)
        for path in PATHS:
            status, headers, _ = ask(drawn_dashboard.port, path, name, [("Origin", origin)])
            assert (path, status) == (path, 403)
            assert "access-control-allow-origin" not in headers
    # Streamlit asks the web for this machine's address to compare it with an origin that it is shown.
    assert drawn_dashboard.called() <= {"127.0.0.1", "localhost"}


def test_a_name_that_is_pointed_here_shows_a_browser_nothing(
    drawn_dashboard: Dashboard, launch: Callable[[str], Browser]
) -> None:
    page = launch("MAP rebound.example 127.0.0.1").new_page()
    answer = page.goto(f"http://rebound.example:{drawn_dashboard.port}/")
    assert answer is not None
    assert answer.status == 421
    assert "Ask for it by that name" in page.inner_text("body")
    answer = page.goto(f"http://localhost:{drawn_dashboard.port}/")
    settle(page)
    assert answer is not None
    assert answer.status == 200


def test_every_answer_carries_the_policy(drawn_dashboard: Dashboard) -> None:
    script = re.search(rb'src="\.(/static/js/[^"]+)"', ask(drawn_dashboard.port)[2])
    assert script is not None
    for path in (*PATHS, script[1].decode()):
        status, headers, _ = ask(drawn_dashboard.port, path)
        assert status in (200, 404)
        assert "connect-src 'self';" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "same-origin"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in headers


def test_the_browser_lets_a_page_ask_nobody_else(drawn_dashboard: Dashboard, browser: Browser) -> None:
    context = browser.new_context()
    watch = Watch(context, drawn_dashboard.address)
    page = context.new_page()
    page.goto(drawn_dashboard.address)
    settle(page)
    assert watch.troubles() == []
    refused = page.evaluate(
        """async () => {
          const told = [];
          document.addEventListener('securitypolicyviolation', (one) => told.push(one.effectiveDirective));
          await fetch('http://elsewhere.example/').catch(() => null);
          try { new WebSocket('ws://elsewhere.example/'); } catch (error) { }
          const picture = new Image();
          const failed = new Promise((done) => { picture.onerror = done; });
          picture.src = 'http://elsewhere.example/a.png';
          await failed;
          const script = document.createElement('script');
          script.textContent = 'window.ran = true';
          document.body.append(script);
          try { eval('window.ran = true'); } catch (error) { }
          await new Promise((done) => setTimeout(done));
          return [told, window.ran ?? false];
        }"""
    )
    assert sorted(refused[0]) == ["connect-src", "connect-src", "img-src", "script-src", "script-src-elem"]
    assert refused[1] is False
    assert any("elsewhere.example" in words for words in watch.troubles())
    context.close()


def test_a_request_to_another_machine_is_seen(drawn_dashboard: Dashboard, browser: Browser) -> None:
    context = browser.new_context()
    watch = Watch(context, drawn_dashboard.address)
    page = context.new_page()
    # A page without the policy.
    page.set_content("<img src='http://elsewhere.example/a.png'><script>throw Error('broken')</script>")
    page.wait_for_load_state("networkidle")
    troubles = "\n".join(watch.troubles())
    assert "asked http://elsewhere.example/a.png" in troubles
    assert "failed with net::ERR_NAME_NOT_RESOLVED" in troubles
    assert "script: broken" in troubles or "broken" in troubles
    context.close()


def session_of(page: Page, address: str) -> str:
    """Open a page, and read the name of its session from what the server sends."""
    names: list[str] = []

    def read(frame: bytes | str) -> None:
        if isinstance(frame, bytes):
            message = ForwardMsg.FromString(frame)
            if message.WhichOneof("type") == "new_session":
                names.append(message.new_session.initialize.session_id)

    # From its first frame on, which may be there before anybody could ask for it.
    page.on("websocket", lambda opened: opened.on("framereceived", read))
    page.goto(address)
    settle(page)
    return names[0]


def form(name: str, content: bytes) -> tuple[tuple[str, str], bytes]:
    told = f'--part\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
    return ("Content-Type", "multipart/form-data; boundary=part"), told + content + b"\r\n--part--\r\n"


HOSTILE_NAMES = (
    "../../outside.png",
    "/etc/outside.png",
    "..\\..\\outside.png",
    "<img src=x onerror=window.ran=1>.png",
    "a\x00b.png",
    "%2e%2e%2foutside.png",
    "x" * 4000 + ".png",
)


def test_uploads_need_their_token_and_keep_to_the_limit_and_to_memory(
    drawn_dashboard: Dashboard, browser: Browser, tmp_path: Path
) -> None:
    page = browser.new_page()
    place = f"/_stcore/upload_file/{session_of(page, drawn_dashboard.address)}/outside"
    token = next(cookie["value"] for cookie in page.context.cookies() if cookie["name"] == "_streamlit_xsrf")
    right = (("Cookie", f"_streamlit_xsrf={token}"), ("X-Xsrftoken", token))

    def put(headers: tuple[tuple[str, str], ...], name: str = "part.png", content: bytes = b"x") -> int:
        kind, told = form(name, content)
        return ask(drawn_dashboard.port, place, headers=(*headers, kind), method="PUT", content=told)[0]

    for wrong in ((), right[:1], right[1:], (right[0], ("X-Xsrftoken", token[:-1] + "x"))):
        assert put(wrong) == 403
    assert put(right) == 204
    long = (*right, ("Content-Length", str(65 * 2**20)))
    assert ask(drawn_dashboard.port, place, headers=long, method="PUT")[0] == 413
    assert put(right, content=bytes(65 * 2**20)) == 413
    before = drawn_dashboard.written()
    assert [put(right, name) for name in HOSTILE_NAMES] == [204] * len(HOSTILE_NAMES)
    assert not [path for path in drawn_dashboard.written() - before if "outside" in path.name]
    page.close()


def test_nothing_else_is_served(drawn_dashboard: Dashboard) -> None:
    call = b'{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}'
    for path in ("/_stcore/agent/interact", "/_stcore/agent/mcp"):
        kind = ("Content-Type", "application/json")
        status, _, told = ask(drawn_dashboard.port, path, headers=[kind], method="POST", content=call)
        assert status in (400, 403)
        assert b'"result"' not in told, path
    for path in (
        "/../app.py",
        "/..%2fapp.py",
        "/static/..%2f..%2f..%2fetc%2fpasswd",
        "/component/x/../../app.py",
    ):
        _, _, told = ask(drawn_dashboard.port, path)
        assert b"differnet" not in told
        assert b"root:" not in told


@pytest.fixture
def planted_dashboard(browser_program: str, tmp_path: Path) -> Iterator[Dashboard]:
    """A copy of the dashboard that has a page with a fault, and a file where static files would be."""
    pages = tmp_path / "pages"
    shutil.copytree(dashboard_app().parent, pages, ignore=shutil.ignore_patterns("__pycache__"))
    (pages / "static").mkdir()
    (pages / "static" / "plan.txt").write_text(SECRET)
    (pages / "gallery.py").write_text(f'raise RuntimeError("{SECRET}")\n')
    planted = (
        "from pathlib import Path; import differnet.reporting.serving as serving\n"
        f"serving.dashboard_app = lambda: Path({str(pages / 'app.py')!r})"
    )
    with served(tmp_path, first=planted) as dashboard:
        yield dashboard


def test_a_fault_tells_no_details_and_files_are_neither_served_nor_watched(
    planted_dashboard: Dashboard, browser: Browser
) -> None:
    pages = planted_dashboard.workspace / "pages"
    page = browser.new_page()
    page.goto(planted_dashboard.address)
    settle(page)
    tuning = pages / "tune.py"
    tuning.write_text(tuning.read_text() + "\n")
    _, _, told = ask(planted_dashboard.port, "/app/static/plan.txt")
    assert SECRET.encode() not in told
    with pytest.raises(AssertionError, match="shows an exception"):
        choose_page(page, "Gallery")
    shown = page.inner_text("body")
    assert "error" in shown.lower()
    for word in (SECRET, "RuntimeError", "Traceback", "gallery.py"):
        assert word not in shown
    assert page.get_by_test_id("stException").get_by_role("link").count() == 0
    # The person who runs it finds the cause in what it says.
    assert SECRET in planted_dashboard.said()
    choose_page(page, "Tune thresholds")
    # The notice that a page's file has changed, which a watcher would have brought by now.
    assert page.get_by_text("changed on disk").count() == page.get_by_text("Source file").count() == 0
    page.close()


def test_it_calls_nobody_and_ends_with_all_that_it_started(browser_program: str, tmp_path: Path) -> None:
    with served(tmp_path) as dashboard:
        assert len(processes_of(dashboard.marked)) >= 2
        assert dashboard.called() <= {"127.0.0.1", "localhost"}
    assert processes_of(dashboard.marked) == []
    with pytest.raises(OSError, match=r"refused|reset"):
        ask(dashboard.port)


def test_what_it_calls_and_writes_is_seen(tmp_path: Path) -> None:
    child = (
        "import socket, time\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(('127.9.9.9', 9))\n"
        "open('mark', 'w').close(); time.sleep(600)"
    )
    planted = (
        f"import subprocess; subprocess.Popen([sys.executable, '-c', {child!r}], start_new_session=True)"
    )
    with served(tmp_path, first=f"import sys, time\n{planted}\ntime.sleep(1)") as dashboard:
        assert len(processes_of(dashboard.marked)) >= 3
        assert "127.9.9.9" in dashboard.called()
        assert tmp_path / "mark" in dashboard.written()
    assert processes_of(dashboard.marked) == []
