"""What stands before the dashboard's pages: whose requests are answered, and what a page may ask for.

Streamlit checks the Host header of its websocket alone, so pages, pictures and uploads would be answered
under any name that someone points at this machine. Of a page from elsewhere that opens the websocket it asks
a server on the web whether that is this machine, and pages from other ports of this machine it lets in. It
sends no content security policy, so whether a page asks another machine for something would rest on nobody
having made a mistake. Here the server refuses the first three, and the browser the last.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any
from urllib.parse import urlsplit

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Served = Callable[[Scope, Receive, Send], Awaitable[None]]

# A websocket that is refused before it is accepted: policy violation (RFC 6455, section 7.4.1).
_REFUSED = 1008

_INLINE_SCRIPT = re.compile(r"<script(?![^>]*\ssrc=)[^>]*>(.*?)</script>", re.DOTALL | re.IGNORECASE)


class Guard:
    """Answer requests to this machine's own names, and tell the browser to ask nobody else.

    A piece of ASGI, without anything of Streamlit.

    Args:
        served: What answers requests that are let through.
        hosts: Names under which it may be asked, without port.
        policy: Content security policy of every answer; see `content_policy`.
    """

    def __init__(self, served: Served, hosts: Sequence[str], policy: str) -> None:
        self._served = served
        self._hosts = frozenset(host.lower() for host in hosts)
        self._headers = [
            (name.encode("ascii"), words.encode("ascii"))
            for name, words in {"content-security-policy": policy, **_HEADERS}.items()
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self._served(scope, receive, send)
        elif (refusal := self._why_not(scope)) is not None:
            await self._refuse(*refusal, scope, receive, send)
        elif scope["type"] == "websocket":
            await self._served(scope, receive, send)
        else:
            await self._served(scope, receive, self._with_headers(send))

    def _why_not(self, scope: Scope) -> tuple[int, str] | None:
        """Return status and words of a refusal, or none where a request may be answered."""
        hosts, origins = (
            [words.decode("latin-1").lower() for name, words in scope["headers"] if name.lower() == wanted]
            for wanted in (b"host", b"origin")
        )
        if len(hosts) != 1 or host_name(hosts[0]) not in self._hosts:
            names = " and ".join(sorted(self._hosts))
            # Misdirected request: this server does not speak for that name (RFC 9110, 15.5.20).
            return 421, f"This dashboard answers to {names} alone. Ask for it by that name.\n"
        if any(origin not in (f"http://{hosts[0]}", f"https://{hosts[0]}") for origin in origins):
            return 403, "This dashboard answers to its own pages alone, not to those from elsewhere.\n"
        return None

    async def _refuse(self, status: int, words: str, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": _REFUSED})
            return
        told = words.encode("utf-8")
        headers = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", str(len(told)).encode("ascii")),
            (b"connection", b"close"),
        ]
        await self._with_headers(send)({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": told})

    def _with_headers(self, send: Send) -> Send:
        async def sent(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                own = {name for name, _ in self._headers}
                others = [pair for pair in message.get("headers", ()) if pair[0].lower() not in own]
                message = {**message, "headers": [*others, *self._headers]}
            await send(message)

        return sent


_HEADERS = {
    # A picture stays a picture, whatever is in it.
    "x-content-type-options": "nosniff",
    # Addresses hold names of runs and parts. With "no-referrer" some requests would lack their Origin.
    "referrer-policy": "same-origin",
    "x-frame-options": "DENY",
    # A page elsewhere that opened this one gets no hold of its window, and none may show its pictures.
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


def host_name(header: str) -> str | None:
    """Read the name from a Host header.

    Args:
        header: As it came.

    Returns:
        In lower case, without port and closing dot; ``None`` where the header holds anything else.

    Example:
        >>> host_name("LocalHost:8501"), host_name("127.0.0.1"), host_name("localhost@example.org")
        ('localhost', '127.0.0.1', None)
    """
    if re.fullmatch(r"[A-Za-z0-9.-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?", header) is None:
        return None
    name = urlsplit(f"//{header}").hostname
    return None if name is None else name.rstrip(".")


def content_policy(page: str) -> str:
    """Write what a browser may load and ask for: this server, and what the page holds itself.

    Args:
        page: HTML that all pages start from. Scripts that stand in it are allowed by their hash, and no
            others that stand in a page.

    Returns:
        Content of the header ``Content-Security-Policy``.

    Example:
        >>> content_policy("<p>").split("; ")[:2]
        ["default-src 'self'", "script-src 'self' blob:"]
    """
    hashes = "".join(
        f" 'sha256-{base64.b64encode(hashlib.sha256(script.encode('utf-8')).digest()).decode('ascii')}'"
        for script in _INLINE_SCRIPT.findall(page)
    )
    return "; ".join(
        (
            "default-src 'self'",
            # Streamlit loads scripts of components from blobs, which only a script that runs can make.
            f"script-src 'self' blob:{hashes}",
            # It writes its style sheets as it goes.
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "media-src 'self' data: blob:",
            "font-src 'self' data:",
            "connect-src 'self'",
            "worker-src 'self' blob:",
            "object-src 'none'",
            "base-uri 'self'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )
