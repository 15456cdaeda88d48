"""Who may ask the dashboard, and what its pages may ask for."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest

from differnet.reporting.guarding import Guard, Receive, Scope, Send, content_policy, host_name

Message = MutableMapping[str, Any]


def ask(kind: str, *hosts: bytes, origins: tuple[bytes, ...] = ()) -> tuple[list[Message], bool]:
    """Send one request through a guard; return what it answered and whether what it guards was asked."""
    reached: list[bool] = []
    sent: list[Message] = []

    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        reached.append(True)
        own = [(b"X-Frame-Options", b"ALLOWALL"), (b"content-type", b"text/html")]
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": own})
            await send({"type": "http.response.body", "body": b"page"})

    async def receive() -> Message:
        return {"type": f"{kind}.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    guard = Guard(served, ("localhost", "127.0.0.1"), content_policy("<script>go()</script>"))
    names = [(b"host", host) for host in hosts] + [(b"origin", origin) for origin in origins]
    scope = {"type": kind, "headers": names}
    asyncio.run(guard(scope, receive, send))
    return sent, bool(reached)


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize("host", [b"localhost", b"LOCALHOST:8501", b"127.0.0.1:9", b"localhost."])
def test_its_own_names_are_answered(kind: str, host: bytes) -> None:
    assert ask(kind, host)[1]


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize(
    "hosts",
    [
        (b"evil.example",),
        (b"localhost.evil.example",),
        (b"evil.example:8501",),
        (b"localhost@evil.example",),
        (b"localhost/evil",),
        (b"evil.example#localhost",),
        (b"evil.example\\@localhost",),
        (b"[::1]:8501",),
        (b"10.0.0.1",),
        (b"",),
        (b"\xff",),
        (),
        (b"localhost", b"evil.example"),
    ],
)
def test_every_other_name_is_refused(kind: str, hosts: tuple[bytes, ...]) -> None:
    sent, reached = ask(kind, *hosts)
    assert not reached
    if kind == "websocket":
        assert sent == [{"type": "websocket.close", "code": 1008}]
    else:
        assert sent[0]["status"] == 421
        assert b"localhost" in sent[1]["body"]
        assert b"evil" not in sent[1]["body"]


@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_only_pages_of_its_own_address_are_answered(kind: str) -> None:
    host = b"localhost:8501"
    for own in (b"http://localhost:8501", b"HTTP://LocalHost:8501", b"https://localhost:8501"):
        assert ask(kind, host, origins=(own,))[1]
    for other in (
        *(b"http://evil.example", b"http://localhost", b"http://localhost:8502", b"http://127.0.0.1:8501"),
        *(b"null", b"", b"file://", b"http://localhost:8501.evil.example", b"http://localhost:8501/evil"),
    ):
        for origins in ((other,), (b"http://localhost:8501", other)):
            sent, reached = ask(kind, host, origins=origins)
            assert not reached
            assert sent[0].get("status", 403) == 403


def test_every_answer_carries_the_policy_once() -> None:
    for host in (b"localhost", b"evil.example"):
        names = [name for name, _ in ask("http", host)[0][0]["headers"]]
        for name in (
            *(b"content-security-policy", b"x-content-type-options", b"referrer-policy", b"x-frame-options"),
            *(b"cross-origin-opener-policy", b"cross-origin-resource-policy"),
        ):
            assert [each.lower() for each in names].count(name) == 1
    headers = dict(ask("http", b"localhost")[0][0]["headers"])
    assert headers[b"x-frame-options"] == b"DENY"
    assert headers[b"content-type"] == b"text/html"


def test_what_begins_and_ends_with_the_server_is_let_through() -> None:
    assert ask("lifespan")[1]


def test_the_policy_names_no_machine_and_allows_scripts_of_the_page_alone() -> None:
    policy = content_policy('<script src="a.js"></script><script>go()</script><SCRIPT type=module>x</SCRIPT>')
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == rules["connect-src"] == "'self'"
    # echo -n 'go()' | openssl dgst -sha256 -binary | base64
    assert "'sha256-5KYv+PUboo5h+0+YAtGRPbwv5d/QxzHslP4YGnUaxRw='" in rules["script-src"]
    assert rules["script-src"].count("sha256-") == 2
    assert "unsafe" not in rules["script-src"]
    assert "http" not in policy
    assert "*" not in policy
    assert rules["object-src"] == rules["frame-ancestors"] == rules["form-action"] == "'none'"


@pytest.mark.parametrize("header", ["", "a b", "localhost:port", "x:1:2", "user:pass@localhost", "a?b", "é"])
def test_a_header_that_is_no_host_has_no_name(header: str) -> None:
    assert host_name(header) is None
